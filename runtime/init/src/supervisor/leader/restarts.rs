//! Whether a failure is answered by another attempt: the budget of restarts in place.

use std::collections::VecDeque;
use std::time::Duration;

use tractorun_contract::failure::{Cause, Failure, NotRestarted};

/// What the job allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many, at most; 0 for none.
    pub max: u32,
    /// Only those of the last so long count; without it all of the run.
    pub window: Option<Duration>,
    /// From the end of the last worker to the next attempt.
    pub backoff: Duration,
    /// Exit codes of failures that are never answered by one.
    pub never: Vec<u8>,
}

/// What is left of it.
#[derive(Debug)]
pub(super) struct Budget {
    restarts: Restarts,
    /// When restarts were granted that may still count, oldest first.
    granted: VecDeque<Duration>,
}

/// What a failure is answered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Restart,
    /// The end of the run, and why it could not be a restart, where one was to be thought of.
    End(Option<NotRestarted>),
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(restarts: Restarts) -> Self {
        Self { restarts, granted: VecDeque::new() }
    }

    pub(super) fn backoff(&self) -> Duration {
        self.restarts.backoff
    }

    /// Answers a failure, and takes a restart out of the budget if it is that.
    pub(super) fn answer(&mut self, now: Duration, failure: &Failure) -> Answer {
        let Restarts { max, window, backoff: _, never } = &self.restarts;
        if *max == 0 || !may_be_restarted(&failure.cause) {
            return Answer::End(None);
        }
        if never.contains(&failure.exit_code) {
            return Answer::End(Some(NotRestarted::NeverCode));
        }
        if let Some(window) = window {
            self.granted.retain(|granted| now.saturating_sub(*granted) < *window);
        }
        // Not more than `max`, which is of this type.
        let used = u32::try_from(self.granted.len()).unwrap_or(u32::MAX);
        if used >= *max {
            return Answer::End(Some(NotRestarted::Exhausted { used, max: *max }));
        }
        self.granted.push_back(now);
        Answer::Restart
    }
}

/// Whether starting the workers again could help, and is what the user wants: a sidecar with the policy `fail` is to
/// fail the run, a stop from outside is an order, and a lost node has no workers to start.
pub(in crate::supervisor) fn may_be_restarted(cause: &Cause) -> bool {
    match cause {
        Cause::WorkerExited { .. } | Cause::WorkerKilled { .. } | Cause::WorkerNotStarted { .. } => true,
        Cause::SidecarExited { .. }
        | Cause::SidecarKilled { .. }
        | Cause::SidecarNotStarted { .. }
        | Cause::NodeLost { .. }
        | Cause::Stopped { .. }
        | Cause::Preempted { .. }
        | Cause::StartUpFailed { .. } => false,
    }
}
