//! What travels on the control channel, and the channel ends that the driver holds.
//!
//! The messages are plain data; who sends what when is the driver's business. Heartbeats travel on the same
//! wire but are sent, answered and missed inside the tasks of this module, and are never delivered.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tractorun_contract::failure::{Failure, Fates, SidecarEnd};

/// What a node tells the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeMessage {
    /// The node is alive. Sent by the link itself.
    Heartbeat,
    /// Something on the node failed first, in the attempt that the failure names; the node is already stopping
    /// its own workers.
    Failed(Failure),
    /// All workers of the node exited with 0 in this attempt.
    Finished {
        /// Which.
        attempt: u32,
    },
    /// Nobody that the workers of this attempt were or left behind is alive any more; the sidecars still run.
    /// Said after a `StopAttempt`, or a failure of the node's own that a restart may answer.
    WorkersGone {
        /// Which.
        attempt: u32,
    },
    /// A sidecar ended otherwise than with 0, and that does not fail the run.
    SidecarEnded(SidecarEnd),
    /// Nobody of the node's tree is alive any more, after a `Stop` or a failure of its own that is final.
    Stopped {
        /// What became of its workers in the last attempt.
        fates: Fates,
    },
}

/// What the leader tells a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderMessage {
    /// The leader is alive. Sent by the hub itself.
    Heartbeat,
    /// Stop the workers of the attempt that this failure ended, and leave the sidecars alone: unless something
    /// final happens meanwhile, `Begin` follows once all nodes have said `WorkersGone`.
    StopAttempt(Failure),
    /// Start the workers of this attempt.
    Begin {
        /// Its number, one more than that of the last one.
        attempt: u32,
    },
    /// Stop everything: this failure decided the run.
    Stop {
        /// What the run failed of.
        verdict: Failure,
        /// How.
        manner: StopManner,
    },
    /// Leave now, with this code.
    Release {
        /// Code that every node exits with.
        exit_code: u8,
        /// What became of the workers other than the one that failed first, as far as it is known; of nobody where
        /// nothing failed.
        others: Fates,
    },
}

/// How the run is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopManner {
    /// SIGTERM, and the grace period.
    Orderly,
    /// The cluster takes a node away: the workers get the user's signal and may save what they have.
    Preempted {
        /// Until everybody still alive gets SIGKILL, in milliseconds from now. A span and not a moment, since the
        /// clocks of two machines differ.
        remaining_ms: u64,
    },
}

/// A node's end of the control channel. Dropping it closes the channel.
#[derive(Debug)]
pub struct Link {
    /// To the leader.
    pub outbox: mpsc::UnboundedSender<NodeMessage>,
    /// From the leader.
    pub inbox: mpsc::UnboundedReceiver<LinkEvent>,
}

/// What the link reports to its node.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// The leader said something; never a heartbeat.
    Message(LeaderMessage),
    /// The leader is not reachable any more. Nothing follows it.
    Lost {
        /// How that was noticed, on one line.
        reason: String,
    },
}

/// The leader's end of all control channels, its own included.
#[derive(Debug)]
pub struct Hub {
    /// What the nodes said and what became of them.
    pub events: mpsc::UnboundedReceiver<HubEvent>,
    /// What the hub is to do.
    pub commands: mpsc::UnboundedSender<HubCommand>,
}

/// What the hub reports to the leader.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent {
    /// A node said something; never a heartbeat.
    Message {
        /// Who.
        node_rank: u32,
        /// What.
        message: NodeMessage,
    },
    /// A node is gone, or (rank 0) the leadership is. Nothing follows from that node.
    Lost {
        /// Who.
        node_rank: u32,
        /// How that was noticed, on one line.
        reason: String,
    },
    /// Answer to [`HubCommand::PublishFailure`]: the record is written, or could not be in time.
    FailurePublished,
}

/// What the leader wants from the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum HubCommand {
    /// Tell nodes something.
    Send {
        /// Whom.
        to: Recipients,
        /// What.
        message: LeaderMessage,
    },
    /// Write the failure record of the incarnation; answered by [`HubEvent::FailurePublished`].
    PublishFailure(Failure),
    /// Write the list of the attempts that failed so far and were answered by a restart; not answered, since
    /// nobody waits for it. A later list replaces an earlier one.
    PublishAttempts(Vec<Failure>),
    /// The same for the sidecars that ended badly.
    PublishSidecars(Vec<SidecarEnd>),
}

/// Whom a [`HubCommand::Send`] goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipients {
    /// Every node that is not lost, the leader's own included.
    All,
    /// The node of this rank.
    One(u32),
}
