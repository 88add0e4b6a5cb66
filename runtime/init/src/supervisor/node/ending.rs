//! Why a run ends on this node, and what the node says of it: failures of its own, what the leader decides, signals,
//! and links and guards that are lost.

use std::time::Duration;

use tractorun_contract::exit::{ExitReason, InitExit};
use tractorun_contract::failure::{Cause, Failure, Fates};
use tractorun_sys::Signal;

use super::fates::Unended;
use super::teardown::Teardown;
use super::{Attempts, Culprit, Ended, Mode, Node, Outcome, State, Urgency, Worker};
use crate::control::{NodeMessage, StopManner};
use crate::supervisor::{Action, Announcement, Conclusion, Identity, Timer, Traces};

/// How much longer than its grace period a stopped node waits to be released. The leader needs the grace period
/// of the slowest node and [`crate::supervisor::leader::STOP_MARGIN`]; a leader that says nothing at all is noticed by its
/// heartbeats, so this is the last resort.
pub(super) const RELEASE_MARGIN: Duration = Duration::from_secs(15);

// === impl Node ===

impl Node {
    pub(super) fn on_tree_empty(&mut self, actions: &mut Vec<Action>) {
        let State::Stopping { outcome, .. } = &self.state else { return };
        match outcome.clone() {
            Outcome::Attempt(ended) => self.settle(ended, actions),
            Outcome::Leaving(conclusion) => self.exit(conclusion, actions),
            Outcome::Succeeded => self.state = State::Waiting { outcome: Outcome::Succeeded },
            Outcome::Failed(failure) => self.wait_for_release(failure, actions),
        }
    }

    /// Somebody outside wants the run to end: by this signal, or as if by it.
    pub(super) fn stop(
        &mut self,
        now: Duration,
        signal: Signal,
        by: String,
        urgency: Urgency,
        actions: &mut Vec<Action>,
    ) {
        match &self.state {
            State::Running
            | State::Stopping { outcome: Outcome::Succeeded | Outcome::Attempt(_), .. }
            | State::Idle { .. }
            | State::Waiting { outcome: Outcome::Succeeded } => {
                let code = ExitReason::Signal(signal.number()).code();
                self.fail(
                    now,
                    Culprit::Node,
                    Cause::Stopped { signal: by },
                    code,
                    Traces::default(),
                    actions,
                );
            }
            State::Saving { .. } | State::Stopping { .. } if urgency == Urgency::Now => self.kill(actions),
            State::Waiting { outcome: Outcome::Failed(failure) } if urgency == Urgency::Now => {
                let conclusion = Conclusion::of(failure.clone());
                self.exit(conclusion, actions);
            }
            State::Saving { .. } | State::Stopping { .. } | State::Waiting { .. } | State::Done => {}
        }
    }

    /// The leader decided the run.
    pub(super) fn on_verdict(
        &mut self,
        now: Duration,
        verdict: Failure,
        manner: StopManner,
        actions: &mut Vec<Action>,
    ) {
        match (&mut self.state, manner) {
            (State::Running, StopManner::Preempted { remaining_ms }) => {
                return self.begin_saving(now, verdict, Duration::from_millis(remaining_ms), actions);
            }
            // This node is the one that is taken away, or the leader says it twice: the first deadline holds.
            (State::Saving { verdict: known, .. }, StopManner::Preempted { .. }) => {
                *known = verdict;
                return;
            }
            (_, StopManner::Orderly | StopManner::Preempted { .. }) => {}
        }
        match &mut self.state {
            State::Running | State::Saving { .. } => {
                actions.push(Action::Announce(Announcement::Stopping(verdict.clone())));
                self.begin_stopping(Outcome::Failed(verdict), actions);
            }
            State::Idle { .. } => self.begin_stopping(Outcome::Failed(verdict), actions),
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => {}
            State::Stopping { outcome: Outcome::Attempt(_), .. } => {
                self.make_final(Outcome::Failed(verdict), actions);
            }
            State::Stopping { outcome, .. } => *outcome = Outcome::Failed(verdict),
            State::Waiting { outcome: Outcome::Failed(known) } => *known = verdict,
            State::Waiting { .. } => self.wait_for_release(verdict, actions),
        }
    }

    pub(super) fn on_release(&mut self, code: u8, others: Fates, actions: &mut Vec<Action>) {
        let verdict = match &self.state {
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => return,
            State::Saving { verdict: failure, .. }
            | State::Stopping {
                outcome: Outcome::Failed(failure) | Outcome::Attempt(Ended::Failed(failure)),
                ..
            }
            | State::Idle { ended: Ended::Failed(failure) }
            | State::Waiting { outcome: Outcome::Failed(failure) } => {
                Some(Failure { others, ..failure.clone() })
            }
            State::Running | State::Stopping { .. } | State::Idle { .. } | State::Waiting { .. } => None,
        };
        self.leave(Conclusion { code, verdict }, actions);
    }

    pub(super) fn on_link_lost(&mut self, now: Duration, reason: String, actions: &mut Vec<Action>) {
        let failure = match &self.state {
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => return,
            State::Saving { verdict: failure, .. }
            | State::Stopping { outcome: Outcome::Failed(failure), .. }
            | State::Waiting { outcome: Outcome::Failed(failure) } => failure.clone(),
            // A failure that might have been answered by a restart decided nothing.
            State::Running | State::Stopping { .. } | State::Idle { .. } | State::Waiting { .. } => {
                // Only jobs have links, and their setup names the leader.
                let Mode::Job { leader, .. } = &self.setup.mode else { return };
                let code = InitExit::LostNode.code();
                let failure = leader.failure(Cause::NodeLost { reason }, code, self.elapsed(now));
                Failure { attempt: self.attempt, ..failure }
            }
        };
        if matches!(self.state, State::Running | State::Idle { .. }) {
            actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
        }
        self.leave(Conclusion::of(failure), actions);
    }

    /// SIGKILL was meant for this process: the tree goes at once and the leader is told nothing.
    pub(super) fn on_guard_lost(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let code = ExitReason::Signal(Signal::KILL.number()).code();
        let verdict = match &self.setup.mode {
            Mode::Job { own, .. } => {
                let cause = Cause::Stopped { signal: Signal::KILL.name() };
                let failure = own.failure(cause, code, self.elapsed(now));
                Some(Failure { attempt: self.attempt, ..failure })
            }
            Mode::Plain { .. } => None,
        };
        let conclusion = Conclusion { code, verdict };
        match &mut self.state {
            // Without a SIGTERM before: that was not what was meant.
            State::Running | State::Saving { .. } | State::Idle { .. } => {
                let outcome = Outcome::Leaving(conclusion);
                self.state = State::Stopping { teardown: Teardown::Everybody, outcome };
            }
            State::Stopping { outcome, .. } => *outcome = Outcome::Leaving(conclusion),
            State::Waiting { .. } => return self.exit(conclusion, actions),
            State::Done => {}
        }
        self.kill(actions);
    }

    /// A worker failed: the leader is told, and decides whether another attempt follows, where that may be.
    pub(super) fn on_worker_failed(
        &mut self,
        now: Duration,
        worker: usize,
        cause: Cause,
        exit_code: u8,
        traces: Traces,
        actions: &mut Vec<Action>,
    ) {
        if self.setup.attempts == Attempts::One {
            return self.fail(now, Culprit::Worker(worker), cause, exit_code, traces, actions);
        }
        if let Some(failure) = self.own_failure(now, Culprit::Worker(worker), cause, exit_code, traces) {
            report(&failure, actions);
            self.begin_stopping(Outcome::Attempt(Ended::Failed(failure)), actions);
        }
    }

    /// Something on this node failed that ends the run: the leader is told, the tree is ended.
    pub(super) fn fail(
        &mut self,
        now: Duration,
        culprit: Culprit,
        cause: Cause,
        exit_code: u8,
        traces: Traces,
        actions: &mut Vec<Action>,
    ) {
        if let Some(failure) = self.own_failure(now, culprit, cause, exit_code, traces) {
            report(&failure, actions);
            self.end_with(failure, actions);
        } else {
            let conclusion = Conclusion { code: exit_code, verdict: None };
            self.begin_stopping(Outcome::Leaving(conclusion), actions);
        }
    }

    /// The record of a failure on this node; none where there is nobody to give it to.
    pub(super) fn own_failure(
        &self,
        now: Duration,
        culprit: Culprit,
        cause: Cause,
        exit_code: u8,
        traces: Traces,
    ) -> Option<Failure> {
        let Mode::Job { own, .. } = &self.setup.mode else { return None };
        // What did not start has no time to have run for.
        let started = !matches!(cause, Cause::WorkerNotStarted { .. } | Cause::SidecarNotStarted { .. });
        let elapsed = if started { self.elapsed(now) } else { Duration::ZERO };
        let rank = match culprit {
            Culprit::Worker(index) => Some(self.setup.ranks[index]),
            Culprit::Node => None,
        };
        let failure = own.failure(cause, exit_code, elapsed);
        let Traces { stderr_tail, oom } = traces;
        let oom = oom.map(Box::new);
        Some(Failure { rank, attempt: self.attempt, stderr_tail, oom, ..failure })
    }

    /// The run is over because of this.
    pub(super) fn end_with(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Running | State::Saving { .. } | State::Idle { .. } => {
                self.begin_stopping(Outcome::Failed(failure), actions);
            }
            State::Stopping { outcome: Outcome::Attempt(_), .. } => {
                self.make_final(Outcome::Failed(failure), actions);
            }
            State::Stopping { outcome, .. } => *outcome = Outcome::Failed(failure),
            State::Waiting { .. } => self.wait_for_release(failure, actions),
            State::Done => {}
        }
    }

    /// Leaves as soon as nobody of the tree is alive.
    fn leave(&mut self, conclusion: Conclusion, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Running | State::Saving { .. } | State::Idle { .. } => {
                self.begin_stopping(Outcome::Leaving(conclusion), actions);
            }
            State::Stopping { outcome: Outcome::Attempt(_), .. } => {
                self.make_final(Outcome::Leaving(conclusion), actions);
            }
            State::Stopping { outcome, .. } => *outcome = Outcome::Leaving(conclusion),
            State::Waiting { .. } => self.exit(conclusion, actions),
            State::Done => {}
        }
    }

    fn wait_for_release(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        self.state = State::Waiting { outcome: Outcome::Failed(failure) };
        actions.push(Action::Tell(NodeMessage::Stopped { fates: self.fates() }));
        let after = self.setup.grace_period + RELEASE_MARGIN;
        actions.push(Action::StartTimer { timer: Timer::Release, after });
    }

    /// What became of the workers of the attempt.
    fn fates(&self) -> Fates {
        self.ends.fates(&self.setup.ranks, |worker| match self.workers[worker] {
            Worker::NotStarted => Unended::NotStarted,
            Worker::Running { .. } | Worker::Ended => Unended::Running,
        })
    }

    pub(super) fn exit(&mut self, conclusion: Conclusion, actions: &mut Vec<Action>) {
        self.state = State::Done;
        actions.push(Action::Exit(conclusion));
    }
}

/// Tells the leader and a person.
fn report(failure: &Failure, actions: &mut Vec<Action>) {
    actions.push(Action::Tell(NodeMessage::Failed(failure.clone())));
    actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
}

// === impl Conclusion ===

impl Conclusion {
    /// The end that a failure leads to.
    pub(super) fn of(failure: Failure) -> Self {
        Self { code: failure.exit_code, verdict: Some(failure) }
    }
}

// === impl Identity ===

impl Identity {
    /// A failure of this node, not (yet) of one of its workers.
    pub(in crate::supervisor) fn failure(&self, cause: Cause, exit_code: u8, elapsed: Duration) -> Failure {
        Failure {
            cause,
            rank: None,
            node_rank: self.node_rank,
            host: self.host.clone(),
            job_id: self.job_id.clone(),
            attempt: 0,
            exit_code,
            elapsed_seconds: elapsed.as_secs_f64(),
            stderr_tail: Vec::new(),
            not_restarted: None,
            oom: None,
            others: Fates::default(),
        }
    }
}
