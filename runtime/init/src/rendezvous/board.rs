//! The notice board, as rendezvous needs it: what may be read and written, not how.
//!
//! [`super::cypress`] is the real one; tests use one in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tractorun_contract::topology::Topology;

use crate::control::hub::{BoxFuture, Record};
use crate::control::wire::JoinKey;

/// What every node may do.
pub(crate) trait NoticeBoard: Clone + Send + Sync + 'static {
    /// What the leader may do.
    type Desk: Desk;

    /// Takes the leadership, waiting at most that long for an earlier leader to end; none if it did not.
    fn take_lead(
        &self,
        patience: Duration,
    ) -> impl Future<Output = Result<Option<Self::Desk>, BoardError>> + Send;

    /// Number of the newest incarnation; none before the first.
    fn newest(&self) -> impl Future<Output = Result<Option<u32>, BoardError>> + Send;

    /// The notice of an incarnation; none while it is not up.
    fn read(&self, incarnation: u32) -> impl Future<Output = Result<Option<Notice>, BoardError>> + Send;

    /// What the cluster knows of the jobs of an operation; at most so many are told.
    fn jobs(&self, operation_id: &str, limit: u32) -> impl Future<Output = Result<Jobs, BoardError>> + Send;
}

/// What only the leader may do. Everything is refused once the leadership is lost.
pub(crate) trait Desk: Send + Sync + 'static {
    /// Makes that number the newest incarnation and puts its notice up.
    fn open(&self, incarnation: u32, notice: &Notice) -> impl Future<Output = Result<(), BoardError>> + Send;

    /// Writes who is where, once; `metrics` is where each node serves its metrics, by rank.
    fn publish_topology(
        &self,
        incarnation: u32,
        topology: &Topology,
        metrics: &[Option<String>],
    ) -> impl Future<Output = Result<(), BoardError>> + Send;

    /// Writes what failed.
    fn publish(self: Arc<Self>, incarnation: u32, record: Record) -> BoxFuture<Result<(), BoardError>>;

    /// Resolves when somebody outside has asked for the end of the incarnation.
    fn stop_requested(self: Arc<Self>, incarnation: u32) -> BoxFuture<()>;

    /// Resolves when the leadership is lost, with the reason.
    fn lost(&self) -> BoxFuture<String>;

    /// Gives the leadership back.
    fn end(self: Arc<Self>) -> BoxFuture<()>;
}

/// What the cluster says of an operation's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Jobs {
    /// The newest job of each cookie, which is the rank of its node.
    pub(crate) by_cookie: BTreeMap<u32, JobSight>,
    /// Whether there are no others.
    pub(crate) complete: bool,
}

/// What the cluster says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobSight {
    /// Its state, such as `running`.
    pub(crate) state: String,
    /// Where it runs, if it does.
    pub(crate) address: Option<String>,
}

/// What the leader publishes about an incarnation.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The operation it belongs to: no other may join.
    pub(crate) operation_id: String,
    /// Where the leader listens; none where nobody else is to come.
    pub(crate) control: Option<ControlEndpoint>,
}

/// Where the leader listens.
#[derive(Debug, Clone)]
pub(crate) struct ControlEndpoint {
    /// Its host name and its addresses, in the order they are to be tried.
    pub(crate) addresses: Vec<String>,
    pub(crate) port: u16,
    pub(crate) join_key: JoinKey,
}

/// Why the board cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoardError {
    /// The cluster does not take our token.
    #[error("{0}")]
    Credentials(String),
    /// The cluster said no; it would again.
    #[error("{0}")]
    Refused(String),
    /// The cluster did not answer; it may later.
    #[error("{0}")]
    Unreachable(String),
    /// The leadership is gone.
    #[error("leadership is lost: {0}")]
    FenceLost(String),
    /// The board holds something else than was expected.
    #[error("{0}")]
    Strange(String),
}
