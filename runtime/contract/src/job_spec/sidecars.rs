//! Processes beside the workers: the user's, and the tensorproxy.

use serde::{Deserialize, Serialize};

/// A process beside the workers of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its command, at least one element; the first is looked up in its `PATH`.
    pub command: Vec<String>,
    /// What its end leads to.
    pub restart_policy: RestartPolicy,
}

/// What the end of a sidecar leads to. That it cannot be started counts as an end with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again.
    Always,
    /// It is started again unless it exited with 0.
    OnFailure,
    /// Nothing.
    Never,
    /// The operation fails, even if it exited with 0.
    Fail,
}

/// The tensorproxy of every node: a program of the cluster that workers read and write tensors through. Init writes
/// its configuration, runs it beside the sidecars, and tells the workers where it listens
/// ([`crate::env::worker::TS_GRPC_ADDRESS`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensorproxy {
    /// Name of the program in the sandbox.
    pub file: String,
    /// What its end leads to.
    pub restart_policy: RestartPolicy,
}

// === impl RestartPolicy ===

impl RestartPolicy {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("always", Self::Always),
        ("on_failure", Self::OnFailure),
        ("never", Self::Never),
        ("fail", Self::Fail),
    ];
}
