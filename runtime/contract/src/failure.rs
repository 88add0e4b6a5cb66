//! The failure record: who failed first and how, as it is written to `incarnations/<n>/@failure`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sidecar::SidecarId;

pub use fates::{Fate, FateGroup, Fates, RecordedExit};
pub use oom::{OomEvidence, OutOfMemory};
pub use sidecar_end::{MAX_SIDECAR_RECORDS, SIDECAR_LINES, SIDECARS_ATTRIBUTE, SidecarEnd};

mod fates;
mod oom;
mod sidecar_end;

/// Name of the attribute of an incarnation that holds the [`Failure`].
pub const FAILURE_ATTRIBUTE: &str = "failure";

/// Name of the attribute of an incarnation that holds a list of [`Failure`]s: of the attempts that were answered by
/// a restart in place, oldest first; of very many the last [`MAX_ATTEMPT_RECORDS`]. The failure that decided the run
/// is not among them.
pub const ATTEMPTS_ATTRIBUTE: &str = "attempts";

/// What stands in [`Cause::Stopped`] for a signal, where nobody sent one: the leader was asked by the attribute
/// [`STOP_REQUESTED`](crate::cypress::incarnation::STOP_REQUESTED). The exit code is that of SIGTERM.
pub const STOP_REQUEST: &str = "`tractorun stop`";

/// Records in [`ATTEMPTS_ATTRIBUTE`] at most: each holds some lines of output, and an attribute is no log.
pub const MAX_ATTEMPT_RECORDS: usize = 32;

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
    /// Why no further attempt followed, where the job asked for restarts in place and this failure could have been
    /// answered by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_restarted: Option<NotRestarted>,
    /// The kernel's word that the node ran out of memory, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<Box<OutOfMemory>>,
    /// What became of all other workers; empty until it is known. The record is written twice: at once, so that
    /// there is one whatever happens, and once more when all nodes have stopped.
    #[serde(default, skip_serializing_if = "Fates::is_empty")]
    pub others: Fates,
}

/// Why a failure was not answered by a restart in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRestarted {
    /// The job's restarts were used.
    Exhausted {
        /// Restarts that counted: all, or those within the window.
        used: u32,
        /// Restarts that the job allows.
        max: u32,
    },
    /// The job says that this exit code is never retried.
    NeverCode,
    /// The workers of the attempt could not be brought to an end on every node.
    StillRunning,
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
        /// Which.
        sidecar: SidecarId,
        /// Its exit code.
        code: u8,
    },
    /// A sidecar that should never end was killed by a signal.
    SidecarKilled {
        /// Which.
        sidecar: SidecarId,
        /// Name of the signal, such as `SIGKILL`.
        signal: String,
    },
    /// A sidecar that should never end could not be started.
    SidecarNotStarted {
        /// Which.
        sidecar: SidecarId,
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
        /// Name of the signal, such as `SIGTERM`, or [`STOP_REQUEST`].
        signal: String,
    },
    /// The cluster takes the node away, and said so.
    Preempted {
        /// Name of the signal it said so with, such as `SIGTERM`.
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
            (None, Some(sidecar)) => write!(f, "{sidecar} on ")?,
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
            Cause::Preempted { signal } => write!(f, "was preempted ({signal})"),
            Cause::StartUpFailed { reason } => write!(f, "could not begin: {reason}"),
        }?;
        let was_killed = match &self.cause {
            Cause::WorkerKilled { signal } => signal == "SIGKILL",
            Cause::NodeLost { .. } => true,
            _ => false,
        };
        if let (true, Some(oom)) = (was_killed, &self.oom) {
            write!(f, ": {oom}")?;
        }
        if self.elapsed_seconds > 0.0 {
            write!(f, " after {:.1} s", self.elapsed_seconds)?;
        }
        if self.attempt > 0 {
            write!(f, " in attempt {}", self.attempt)?;
        }
        if let (false, Some(oom)) = (was_killed, &self.oom) {
            // It may have failed because of it: such as a training process whose data loader is gone.
            write!(f, "; a process of this node was killed: {oom}")?;
        }
        match self.not_restarted {
            Some(not_restarted) => write!(f, "; {not_restarted}"),
            None => Ok(()),
        }
    }
}

// === impl NotRestarted ===

impl fmt::Display for NotRestarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { used, max } => write!(f, "{used} of {max} restarts are used"),
            Self::NeverCode => f.write_str("this exit code is never retried"),
            Self::StillRunning => f.write_str("not restarted, since workers outlived SIGKILL"),
        }
    }
}

// === impl Cause ===

impl Cause {
    /// Which sidecar, where a sidecar failed.
    pub fn sidecar(&self) -> Option<SidecarId> {
        match self {
            Self::SidecarExited { sidecar, .. }
            | Self::SidecarKilled { sidecar, .. }
            | Self::SidecarNotStarted { sidecar, .. } => Some(*sidecar),
            Self::WorkerExited { .. }
            | Self::WorkerKilled { .. }
            | Self::WorkerNotStarted { .. }
            | Self::NodeLost { .. }
            | Self::Stopped { .. }
            | Self::Preempted { .. }
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
            not_restarted: None,
            oom: None,
            others: Fates::default(),
        }
    }

    #[test]
    fn reads_as_a_sentence() {
        assert_eq!(
            failure(Cause::WorkerExited { code: 7 }).to_string(),
            "rank 3 on node 1 (gpu-7) exited with code 7 after 12.3 s"
        );
        let mut sidecar = failure(Cause::SidecarExited { sidecar: SidecarId::Index(1), code: 0 });
        sidecar.rank = None;
        assert_eq!(sidecar.to_string(), "sidecar 1 on node 1 (gpu-7) exited with code 0 after 12.3 s");
        sidecar.cause = Cause::SidecarExited { sidecar: SidecarId::Tensorproxy, code: 3 };
        assert_eq!(sidecar.to_string(), "tensorproxy on node 1 (gpu-7) exited with code 3 after 12.3 s");
        let json = serde_json::to_value(&sidecar).unwrap();
        assert_eq!(json["sidecar"], "tensorproxy");
        assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), sidecar);
        let mut lost = failure(Cause::NodeLost { reason: "no heartbeat for 30 s".into() });
        lost.rank = None;
        lost.elapsed_seconds = 0.0;
        assert_eq!(lost.to_string(), "node 1 (gpu-7) is lost: no heartbeat for 30 s");
    }

    #[test]
    fn a_later_attempt_says_which_and_why_none_followed() {
        let mut failure = failure(Cause::WorkerExited { code: 7 });
        failure.attempt = 3;
        failure.elapsed_seconds = 0.0;
        let text = |not_restarted| Failure { not_restarted, ..failure.clone() }.to_string();
        let who = "rank 3 on node 1 (gpu-7) exited with code 7 in attempt 3";
        assert_eq!(text(None), who);
        let exhausted = NotRestarted::Exhausted { used: 3, max: 3 };
        assert_eq!(text(Some(exhausted)), format!("{who}; 3 of 3 restarts are used"));
        assert_eq!(text(Some(NotRestarted::NeverCode)), format!("{who}; this exit code is never retried"));
    }

    #[test]
    fn says_that_memory_ran_out() {
        let limit_bytes = Some(8 << 30);
        let oom = Box::new(OutOfMemory { kills: 1, evidence: OomEvidence::MemoryEvents, limit_bytes });
        let mut killed = failure(Cause::WorkerKilled { signal: "SIGKILL".into() });
        killed.oom = Some(oom.clone());
        assert_eq!(
            killed.to_string(),
            "rank 3 on node 1 (gpu-7) was killed by SIGKILL: out of memory (limit 8.0 GiB) after 12.3 s"
        );
        let mut exited = failure(Cause::WorkerExited { code: 1 });
        exited.oom = Some(oom);
        assert_eq!(
            exited.to_string(),
            "rank 3 on node 1 (gpu-7) exited with code 1 after 12.3 s; a process of this node was killed: \
             out of memory (limit 8.0 GiB)"
        );
    }

    /// A record as the first release wrote it: old inits and new launchers work together.
    #[test]
    fn records_without_the_newer_fields_are_read() {
        let record = serde_json::json!({
            "cause": "worker_exited", "code": 7, "rank": 3, "node_rank": 1, "host": "gpu-7", "job_id": "1-2-3-4",
            "attempt": 0, "exit_code": 7, "elapsed_seconds": 12.34, "stderr_tail": ["boom"],
        });
        let read: Failure = serde_json::from_value(record.clone()).unwrap();
        assert_eq!(read, failure(Cause::WorkerExited { code: 7 }));
        // And the other way round: what is not known is not written.
        assert_eq!(serde_json::to_value(read).unwrap(), record);
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
