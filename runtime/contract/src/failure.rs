//! The failure record: who failed first and how, as it is written to `incarnations/<n>/@failure`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of the attribute of an incarnation that holds the [`Failure`].
pub const FAILURE_ATTRIBUTE: &str = "failure";

/// The first failure of an incarnation, decided by the leader by order of receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened.
    #[serde(flatten)]
    pub cause: Cause,
    /// Global rank of the worker, where a worker failed.
    pub rank: Option<u32>,
    /// Rank of the node it happened on.
    pub node_rank: u32,
    /// Name of that node's host.
    pub host: String,
    /// YT job id of that node.
    pub job_id: String,
    /// Attempt it happened in.
    pub attempt: u32,
    /// Code that every node exits with because of it.
    pub exit_code: u8,
    /// Seconds from the start of the workers to the failure; 0 before they were started.
    pub elapsed_seconds: f64,
    /// The last lines that worker or sidecar wrote to its stderr, oldest first.
    #[serde(default)]
    pub stderr_tail: Vec<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A worker exited with a code other than 0.
    WorkerExited {
        /// Its exit code.
        code: u8,
    },
    /// A worker was killed by a signal.
    WorkerKilled {
        /// Name of the signal, such as `SIGKILL`.
        signal: String,
    },
    /// A worker could not be started.
    WorkerNotStarted {
        /// Command and reason, on one line.
        reason: String,
    },
    /// A sidecar that should never end exited, with whatever code.
    SidecarExited {
        /// Its index.
        sidecar: u32,
        /// Its exit code.
        code: u8,
    },
    /// A sidecar that should never end was killed by a signal.
    SidecarKilled {
        /// Its index.
        sidecar: u32,
        /// Name of the signal, such as `SIGKILL`.
        signal: String,
    },
    /// A sidecar that should never end could not be started.
    SidecarNotStarted {
        /// Its index.
        sidecar: u32,
        /// Command and reason, on one line.
        reason: String,
    },
    /// A node's control channel is gone.
    NodeLost {
        /// How that was noticed, on one line.
        reason: String,
    },
    /// Init was told to stop from outside.
    Stopped {
        /// Name of the signal, such as `SIGTERM`.
        signal: String,
    },
    /// The node could not begin: a phase before the workers failed.
    StartUpFailed {
        /// The phase's error, on one line.
        reason: String,
    },
}

impl fmt::Display for Failure {
    /// One line: who, where, what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rank, self.cause.sidecar()) {
            (Some(rank), _) => write!(f, "rank {rank} on ")?,
            (None, Some(sidecar)) => write!(f, "sidecar {sidecar} on ")?,
            (None, None) => {}
        }
        write!(f, "node {} ({}) ", self.node_rank, self.host)?;
        match &self.cause {
            Cause::WorkerExited { code } | Cause::SidecarExited { code, .. } => {
                write!(f, "exited with code {code}")
            }
            Cause::WorkerKilled { signal } | Cause::SidecarKilled { signal, .. } => {
                write!(f, "was killed by {signal}")
            }
            Cause::WorkerNotStarted { reason } | Cause::SidecarNotStarted { reason, .. } => {
                write!(f, "could not be started: {reason}")
            }
            Cause::NodeLost { reason } => write!(f, "is lost: {reason}"),
            Cause::Stopped { signal } => write!(f, "was stopped by {signal}"),
            Cause::StartUpFailed { reason } => write!(f, "could not begin: {reason}"),
        }?;
        if self.elapsed_seconds > 0.0 { write!(f, " after {:.1} s", self.elapsed_seconds) } else { Ok(()) }
    }
}

// === impl Cause ===

impl Cause {
    /// Index of the sidecar, where a sidecar failed.
    pub fn sidecar(&self) -> Option<u32> {
        match self {
            Self::SidecarExited { sidecar, .. }
            | Self::SidecarKilled { sidecar, .. }
            | Self::SidecarNotStarted { sidecar, .. } => Some(*sidecar),
            Self::WorkerExited { .. }
            | Self::WorkerKilled { .. }
            | Self::WorkerNotStarted { .. }
            | Self::NodeLost { .. }
            | Self::Stopped { .. }
            | Self::StartUpFailed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: Cause) -> Failure {
        Failure {
            cause,
            rank: Some(3),
            node_rank: 1,
            host: "gpu-7".into(),
            job_id: "1-2-3-4".into(),
            attempt: 0,
            exit_code: 7,
            elapsed_seconds: 12.34,
            stderr_tail: vec!["boom".into()],
        }
    }

    #[test]
    fn reads_as_a_sentence() {
        assert_eq!(
            failure(Cause::WorkerExited { code: 7 }).to_string(),
            "rank 3 on node 1 (gpu-7) exited with code 7 after 12.3 s"
        );
        let mut sidecar = failure(Cause::SidecarExited { sidecar: 1, code: 0 });
        sidecar.rank = None;
        assert_eq!(sidecar.to_string(), "sidecar 1 on node 1 (gpu-7) exited with code 0 after 12.3 s");
        let mut lost = failure(Cause::NodeLost { reason: "no heartbeat for 30 s".into() });
        lost.rank = None;
        lost.elapsed_seconds = 0.0;
        assert_eq!(lost.to_string(), "node 1 (gpu-7) is lost: no heartbeat for 30 s");
    }

    #[test]
    fn json_round_trip() {
        let failure = failure(Cause::WorkerKilled { signal: "SIGKILL".into() });
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["cause"], "worker_killed");
        assert_eq!(json["signal"], "SIGKILL");
        assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), failure);
    }
}
