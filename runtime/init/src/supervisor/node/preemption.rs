//! Preemption: the cluster takes one node away, and every worker of every node gets the user's signal and the same time
//! to save what it has.
//!
//! How a worker ends after that is no failure. When the last one has ended, or the time is over, the node stops as
//! after any other verdict; sidecars whose turn has not come by then are asked a little before the end.

use std::time::Duration;

use tractorun_contract::exit::InitExit;
use tractorun_contract::failure::{Cause, Failure};
use tractorun_sys::Signal;

use super::{Culprit, Node, Outcome, Preemption, Sidecar, State};
use crate::control::NodeMessage;
use crate::supervisor::{Action, Announcement, Target, Timer, Traces};

// === impl Node ===

impl Node {
    /// The cluster announces that it takes this node away.
    pub(super) fn on_preempted(
        &mut self,
        now: Duration,
        signal: Signal,
        preemption: Preemption,
        actions: &mut Vec<Action>,
    ) {
        let cause = Cause::Preempted { signal: signal.name() };
        let code = InitExit::Preempted.code();
        let Some(failure) = self.own_failure(now, Culprit::Node, cause, code, Traces::default()) else {
            return;
        };
        actions.push(Action::Tell(NodeMessage::Failed(failure.clone())));
        if matches!(self.state, State::Running) {
            self.begin_saving(now, failure, preemption.timeout, actions);
        } else {
            actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
            self.end_with(failure, actions);
        }
    }

    /// Whether a preemption would still change anything.
    pub(super) fn may_be_preempted(&self) -> bool {
        match &self.state {
            State::Running
            | State::Idle { .. }
            | State::Stopping { outcome: Outcome::Attempt(_) | Outcome::Succeeded, .. }
            | State::Waiting { outcome: Outcome::Succeeded } => true,
            State::Saving { .. } | State::Stopping { .. } | State::Waiting { .. } | State::Done => false,
        }
    }

    /// Asks the workers to save what they have.
    pub(super) fn begin_saving(
        &mut self,
        now: Duration,
        verdict: Failure,
        remaining: Duration,
        actions: &mut Vec<Action>,
    ) {
        let signal = self.setup.preemption.map_or(Signal::TERM, |preemption| preemption.signal);
        actions.push(Action::Announce(Announcement::Saving { verdict: verdict.clone(), signal, remaining }));
        self.ends.told(now);
        self.state = State::Saving { verdict, deadline: now + remaining };
        // Before the signal: who gets it may look at once.
        actions.push(Action::PublishDeadline { after: remaining });
        for (_, pid) in self.running() {
            // Who is stopped could do nothing about it.
            actions.extend([signal, Signal::CONT].map(|signal| Action::Signal {
                pid,
                target: Target::Group,
                signal,
            }));
        }
        actions.push(Action::StartTimer { timer: Timer::Grace, after: remaining });
        let for_sidecars = self.setup.grace_period.min(remaining) / 5;
        actions.push(Action::StartTimer {
            timer: Timer::LastCall,
            after: remaining.saturating_sub(for_sidecars),
        });
    }

    /// A worker ended after it was asked to save.
    pub(super) fn stop_if_saved(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let State::Saving { verdict, deadline } = &self.state else { return };
        if self.running().next().is_none() {
            let grace_period = self.setup.grace_period.min(deadline.saturating_sub(now));
            let outcome = Outcome::Failed(verdict.clone());
            self.begin_stopping_within(grace_period, outcome, actions);
        }
    }

    /// The time to save is nearly over: the sidecars are asked to stop.
    pub(super) fn on_last_call_while_saving(&self, actions: &mut Vec<Action>) {
        let pids = self.sidecars.iter().rev().filter_map(Sidecar::pid);
        actions.extend(pids.map(|root| Action::SignalBranch { root, signal: Signal::TERM }));
    }
}
