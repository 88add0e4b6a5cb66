//! Exit codes: the only place that knows their numbers.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | every worker of every node ended with 0 |
//! | 1-125 | the first failed worker's own exit code, on every node |
//! | 1-125 | likewise a sidecar's with the policy `fail` that ended first; 1 if it exited with 0 |
//! | 126, 127 | the command could not be executed, was not found (as shells say it) |
//! | 128 + n | the first failed worker (or such a sidecar) was killed by signal n; or init was stopped by it |
//! | 64 | bad configuration: job spec, environment, bind |
//! | 70 | a fault of our own |
//! | 201 | the rendezvous timed out |
//! | 202 | a pre-flight check failed |
//! | 203 | a node was lost: its control channel is gone |
//! | 204 | a worker hangs |
//! | 205 | the node was preempted |
//! | 206 | logs could not be drained |
//!
//! 201-206 lie above 128 + 64, the highest number of a signal, so that they cannot be mistaken for one. A
//! worker may of course exit with any of these numbers itself; the failure record tells them apart.

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitReason {
    /// It exited with this code.
    Code(u8),
    /// It was killed by the signal of this number.
    Signal(i32),
}

/// Why `tractorun-init` itself ends a run that no worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InitExit {
    /// Job spec, environment or a bind cannot be used.
    BadConfig,
    /// A fault of our own, or of the machine under us.
    Internal,
    /// Not all nodes joined in time.
    RendezvousTimedOut,
    /// A check before the rendezvous failed.
    PreflightFailed,
    /// A node's control channel is gone.
    LostNode,
    /// A worker makes no progress.
    Hang,
    /// The cluster took the node away.
    Preempted,
    /// Logs could not be delivered in time.
    LogDrainFailed,
}

impl ExitReason {
    /// The code a supervisor exits with on behalf of that process: its own, or 128 + n for signal n.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(u8::try_from(number).unwrap_or(127)),
        }
    }

    /// Whether the process did what it should.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl InitExit {
    /// The reserved exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::BadConfig => 64,
            Self::Internal => 70,
            Self::RendezvousTimedOut => 201,
            Self::PreflightFailed => 202,
            Self::LostNode => 203,
            Self::Hang => 204,
            Self::Preempted => 205,
            Self::LogDrainFailed => 206,
        }
    }
}

/// Code of a run that fails because a sidecar exited with 0 that should never have ended: something went wrong
/// though nobody says so, and 0 would make it a success.
pub const SIDECAR_LEFT: u8 = 1;

/// The command was found but could not be executed, as shells say it.
pub const NOT_EXECUTABLE: u8 = 126;

/// The command was not found, as shells say it.
pub const NOT_FOUND: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_become_128_plus_n() {
        assert_eq!(ExitReason::Signal(9).code(), 137);
        assert_eq!(ExitReason::Signal(64).code(), 192);
        assert_eq!(ExitReason::Code(7).code(), 7);
        assert!(!ExitReason::Signal(9).is_success());
    }
}
