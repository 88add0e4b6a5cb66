//! How the nodes of one incarnation find each other.
//!
//! ```text
//! node 0:  lock --> next incarnation --> listen, notice --> gather ------> topology --> Membership with a Hub
//! others:  poll the notice board  -->  dial  -->  joined --> ready ------> topology --> Membership
//!                  ^------- refused, lost, unreachable --------'
//! ```
//!
//! A node joins at once, while it still unpacks, and says on the control channel how far it is: so the leader knows
//! what it waits for, and a node that cannot begin is the verdict of all. All may start when all are ready.
//!
//! Cypress is the notice board only: a constant number of requests per node (`board`). All else goes over
//! the control channel. Who is there and how they call rank 0 is decided by plain functions
//! (`gathering`); how the missing are named is in `missing`. Both sides give up at the rendezvous deadline, and say who is missing or what was tried.

pub(crate) mod address;
pub(crate) mod board;
pub(crate) mod cypress;
mod description;
mod dial;
mod follower;
mod gathering;
mod last_word;
mod leader;
mod missing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::debug;
use tractorun_contract::exit::InitExit;
use tractorun_contract::failure::Failure;
use tractorun_contract::job_spec::Mesh;
use tractorun_contract::topology::Topology;

use crate::control::hub::BoxFuture;
use crate::control::progress::Progress;
use crate::control::{Hub, Link, Pulses};
use board::{BoardError, NoticeBoard};

/// What rendezvous gives the driver on every node.
#[derive(Debug)]
pub struct Membership {
    /// Number of the incarnation.
    pub incarnation: u32,
    /// Who is where.
    pub topology: Topology,
    /// Where the nodes serve their metrics; known to node 0 only.
    pub metrics_targets: Vec<MetricsTarget>,
    /// This node's end of the control channel.
    pub link: Link,
    /// The leader's end of all control channels; on node 0 only.
    pub hub: Option<Hub>,
    /// Resolves when somebody outside asks for the end of the run; on node 0 only.
    pub stop_requested: Option<StopRequest>,
    /// What must be ended in order before the process exits. Dropping it cuts the connections.
    pub closer: Closer,
}

/// The wait for somebody outside who asks for the end of the run.
pub struct StopRequest(pub(crate) BoxFuture<()>);

impl fmt::Debug for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopRequest")
    }
}

/// Where a node serves its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsTarget {
    /// Rank of the node.
    pub node_rank: u32,
    /// `host:port`.
    pub address: String,
}

/// Ends the control channel and, on the leader, the incarnation's transaction.
#[derive(Debug, Default)]
#[must_use = "dropping it cuts the connections"]
pub struct Closer {
    close: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What a node must know to take part.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) mesh: Mesh,
    pub(crate) node_rank: u32,
    pub(crate) operation_id: String,
    pub(crate) job_id: String,
    /// The node's ports: one for each worker, the last one for the control channel.
    pub(crate) ports: Vec<u16>,
    /// Port that this node serves metrics on, if it does.
    pub(crate) metrics_port: Option<u16>,
    /// How far this node is: the leader is told.
    pub(crate) progress: watch::Receiver<Progress>,
    /// Where it is noted when others were heard of.
    pub(crate) pulses: Pulses,
    /// Host name of this node.
    pub(crate) host: String,
    /// Host to be reached by instead of all that would be found.
    pub(crate) advertise_host: Option<String>,
    /// A connection without a sign of life for this long is lost.
    pub(crate) heartbeat: Duration,
    /// How long the rendezvous may take in all, for the text of its error.
    pub(crate) patience: Duration,
    /// When it is over.
    pub(crate) deadline: Instant,
}

/// Why a node could not join the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RendezvousError {
    #[error(
        "rendezvous timed out after {} s: {what}\nhint: look at the other jobs of the operation: {hint}",
        patience.as_secs_f64()
    )]
    TimedOut { patience: Duration, what: String, hint: &'static str },
    #[error("rendezvous failed: the leader refused this node: {reason}")]
    Refused { reason: String },
    #[error("rendezvous failed: {0}")]
    NodeFailed(Box<Failure>),
    #[error("rendezvous failed: leadership is lost: {reason}")]
    LeadershipLost { reason: String },
    #[error("rendezvous failed: {0}")]
    Board(#[from] BoardError),
    #[error("rendezvous failed: cannot listen on control port {port}: {source}")]
    Listen { port: u16, source: std::io::Error },
}

/// Meets the other nodes. Cancel it by dropping the future.
pub(crate) async fn join<B: NoticeBoard>(
    board: &B,
    settings: &Settings,
) -> Result<Membership, RendezvousError> {
    if settings.node_rank == 0 {
        leader::lead(board, settings).await
    } else {
        follower::follow(board, settings).await
    }
}

// === impl Closer ===

impl Closer {
    /// Delivers what was already sent, closes the connections and ends the transaction; gives up after
    /// `limit`. Drop or keep the [`Link`] and [`Hub`] as you like: what is in their channels is still sent.
    pub async fn close(self, limit: Duration) {
        let Self { close, mut tasks } = self;
        // Tasks that ended already do not listen.
        let _ = close.send(true);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            debug!("control channel is not closed after {} s", limit.as_secs_f64());
        }
    }
}

// === impl RendezvousError ===

impl RendezvousError {
    /// Code that init exits with because of it.
    pub(crate) fn exit_code(&self) -> u8 {
        let exit = match self {
            // One code for all.
            Self::NodeFailed(failure) => return failure.exit_code,
            Self::TimedOut { .. } | Self::Refused { .. } => InitExit::RendezvousTimedOut,
            Self::LeadershipLost { .. } | Self::Board(BoardError::FenceLost(_)) => InitExit::LostNode,
            Self::Board(BoardError::Credentials(_)) => InitExit::BadConfig,
            Self::Board(BoardError::Refused(_) | BoardError::Unreachable(_) | BoardError::Strange(_))
            | Self::Listen { .. } => InitExit::Internal,
        };
        exit.code()
    }
}
