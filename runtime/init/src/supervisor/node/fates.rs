//! How the workers of the attempt ended, for the verdict.
//!
//! What counts is whether a worker had ended before anybody told it to stop. That is known by time: the driver says when
//! it reaped whom, and of children that ended together it reaps all before it tells of the first.

use std::time::Duration;

use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Fate, Fates, RecordedExit};
use tractorun_sys::Signal;

/// The ends of one node's workers.
#[derive(Debug)]
pub(super) struct Ends {
    /// When the workers were told to stop, if they were.
    told_at: Option<Duration>,
    by_worker: Vec<End>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It runs, or was never started.
    None,
    /// It was reaped.
    Exited { reason: ExitReason, at: Duration },
    /// Its program could not be started.
    NotStarted,
}

/// How far a worker without an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unended {
    /// It was never started.
    NotStarted,
    /// It has outlived even SIGKILL.
    Running,
}

// === impl Ends ===

impl Ends {
    /// Of so many workers, none of which has ended.
    pub(super) fn new(workers: usize) -> Self {
        Self { told_at: None, by_worker: vec![End::None; workers] }
    }

    /// The workers are told to stop; the first time counts.
    pub(super) fn told(&mut self, now: Duration) {
        self.told_at.get_or_insert(now);
    }

    /// A worker's process was reaped.
    pub(super) fn exited(&mut self, worker: usize, reason: ExitReason, at: Duration) {
        self.by_worker[worker] = End::Exited { reason, at };
    }

    /// A worker's program could not be started.
    pub(super) fn not_started(&mut self, worker: usize) {
        self.by_worker[worker] = End::NotStarted;
    }

    /// What became of the workers, `ranks` by their index; `unended` says how far one without an end has come.
    pub(super) fn fates(&self, ranks: &[u32], unended: impl Fn(usize) -> Unended) -> Fates {
        let mut fates = Fates::default();
        for (worker, (end, rank)) in self.by_worker.iter().zip(ranks).enumerate() {
            let (fate, exit) = match end {
                End::Exited { reason, at } => (self.fate(*reason, *at), Some(recorded(*reason))),
                End::NotStarted => (Fate::NotStarted, None),
                End::None => match unended(worker) {
                    Unended::NotStarted => (Fate::NotStarted, None),
                    Unended::Running => (Fate::Unknown, None),
                },
            };
            fates.add(*rank, fate, exit);
        }
        fates
    }

    fn fate(&self, reason: ExitReason, at: Duration) -> Fate {
        match self.told_at {
            Some(told_at) if at > told_at => Fate::Victim,
            _ if reason.is_success() => Fate::Finished,
            _ => Fate::Failed,
        }
    }
}

fn recorded(reason: ExitReason) -> RecordedExit {
    let signal = match reason {
        ExitReason::Code(_) => None,
        ExitReason::Signal(number) => {
            Some(Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name))
        }
    };
    RecordedExit { exit_code: reason.code(), signal }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_counts_is_who_ended_before_being_told() {
        let mut ends = Ends::new(6);
        ends.exited(0, ExitReason::Code(0), SECOND);
        // These two together, so that the second ended before anybody could tell it.
        ends.exited(1, ExitReason::Code(7), 3 * SECOND);
        ends.told(3 * SECOND);
        ends.exited(2, ExitReason::Signal(6), 3 * SECOND);
        ends.told(4 * SECOND);
        ends.exited(3, ExitReason::Code(0), 4 * SECOND);
        ends.exited(4, ExitReason::Signal(15), 4 * SECOND);
        let fates = ends.fates(&[10, 11, 12, 13, 14, 15], |_| Unended::Running);
        let mut expected = Fates::default();
        let exit =
            |exit_code, signal: Option<&str>| RecordedExit { exit_code, signal: signal.map(str::to_owned) };
        expected.add(10, Fate::Finished, exit(0, None));
        expected.add(11, Fate::Failed, exit(7, None));
        expected.add(12, Fate::Failed, exit(134, Some("SIGABRT")));
        expected.add(13, Fate::Victim, exit(0, None));
        expected.add(14, Fate::Victim, exit(143, Some("SIGTERM")));
        expected.add(15, Fate::Unknown, None);
        assert_eq!(fates, expected);
    }

    #[test]
    fn who_was_not_started_has_no_exit() {
        let mut ends = Ends::new(2);
        ends.not_started(0);
        ends.told(SECOND);
        assert_eq!(ends.fates(&[0, 1], |_| Unended::NotStarted).to_string(), "2 not started");
    }
}
