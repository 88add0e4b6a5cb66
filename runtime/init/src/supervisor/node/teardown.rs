//! Ending the tree: the workers and whatever they left, then the sidecars in reverse, with one grace period for
//! all; then SIGKILL until nobody is left.
//!
//! A sidecar may serve the workers (a proxy, a checkpoint's upload), so it lives until they are gone. What cannot
//! wait for ever is the sidecars' own end: when a fifth of the grace period is left they are asked to stop even so,
//! or one worker that ignores SIGTERM would have them killed without a word.

use std::time::Duration;

use tractorun_sys::{Pid, Signal};

use super::sidecars::Sidecar;
use super::{Node, Outcome, State, Worker};
use crate::supervisor::{Action, Announcement, Timer};

/// Between two rounds of SIGKILL: a killed process needs some milliseconds to be gone.
pub(super) const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long SIGKILL is repeated. Only processes in an uninterruptible system call outlive it, and waiting
/// longer would make the leader wait in vain: it gives every node five seconds more than its grace period.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(4);

/// How far the end of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teardown {
    /// SIGTERM was sent to all but the sidecars.
    Workers,
    /// This sidecar is being stopped; those after it are gone, those before it have not been told.
    Sidecar(usize),
    /// Everybody has been sent SIGTERM.
    Everybody,
    /// SIGKILL was sent.
    Killing,
}

// === impl Node ===

impl Node {
    pub(super) fn begin_stopping(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        let grace_period = self.setup.grace_period;
        let spared = self.sidecar_pids();
        let has_sidecars = !spared.is_empty();
        let teardown = if has_sidecars { Teardown::Workers } else { Teardown::Everybody };
        self.state = State::Stopping { teardown, outcome };
        actions.push(Action::SignalTree { signal: Signal::TERM, spared });
        actions.push(Action::StartTimer { timer: Timer::Grace, after: grace_period });
        if has_sidecars {
            actions.push(Action::StartTimer { timer: Timer::LastCall, after: grace_period * 4 / 5 });
        }
        self.look_for_others(actions);
        // Often nobody is left, and then no SIGCHLD will come to say so.
        actions.push(Action::LookAtTree);
    }

    /// Once no worker runs, the sidecars' turn comes as soon as what the workers left behind is gone too.
    pub(super) fn look_for_others(&self, actions: &mut Vec<Action>) {
        if let State::Stopping { teardown: Teardown::Workers, .. } = &self.state
            && !self.workers.iter().any(|worker| matches!(worker, Worker::Running { .. }))
        {
            actions.push(Action::LookForOthers { spared: self.sidecar_pids() });
        }
    }

    /// Only sidecars are left.
    pub(super) fn on_others_gone(&mut self, actions: &mut Vec<Action>) {
        if let State::Stopping { teardown: Teardown::Workers, .. } = &self.state {
            self.stop_last_sidecar(actions);
        }
    }

    /// A sidecar ended while the tree is being ended.
    pub(super) fn on_sidecar_stopped(&mut self, index: usize, actions: &mut Vec<Action>) {
        if let State::Stopping { teardown: Teardown::Sidecar(current), .. } = &self.state
            && *current == index
        {
            self.stop_last_sidecar(actions);
        }
    }

    /// Asks the last sidecar that runs to stop.
    fn stop_last_sidecar(&mut self, actions: &mut Vec<Action>) {
        let last =
            self.sidecars.iter().enumerate().rev().find_map(|(index, sidecar)| Some((index, sidecar.pid()?)));
        let State::Stopping { teardown, .. } = &mut self.state else { return };
        match last {
            Some((index, pid)) => {
                *teardown = Teardown::Sidecar(index);
                actions.push(Action::SignalBranch { root: pid, signal: Signal::TERM });
            }
            None => *teardown = Teardown::Everybody,
        }
    }

    /// The grace period is nearly over: sidecars whose turn has not come are asked now.
    pub(super) fn on_last_call(&mut self, actions: &mut Vec<Action>) {
        let State::Stopping { teardown, .. } = &mut self.state else { return };
        let untold = match *teardown {
            Teardown::Workers => self.sidecars.len(),
            Teardown::Sidecar(current) => current,
            Teardown::Everybody | Teardown::Killing => return,
        };
        *teardown = Teardown::Everybody;
        let pids = self.sidecars[..untold].iter().rev().filter_map(Sidecar::pid);
        actions.extend(pids.map(|root| Action::SignalBranch { root, signal: Signal::TERM }));
    }

    /// No more grace.
    pub(super) fn kill(&mut self, actions: &mut Vec<Action>) {
        let (State::Stopping { outcome, .. } | State::Waiting { outcome }) = &self.state else { return };
        if matches!(self.state, State::Stopping { teardown: Teardown::Killing, .. }) {
            return;
        }
        let outcome = outcome.clone();
        self.state = State::Stopping { teardown: Teardown::Killing, outcome };
        actions.push(Action::StartTimer { timer: Timer::GiveUp, after: KILL_LIMIT });
        kill_round(actions);
    }

    pub(super) fn on_teardown_timer(&mut self, timer: Timer, actions: &mut Vec<Action>) {
        let State::Stopping { teardown, .. } = self.state else { return };
        match (timer, teardown) {
            (Timer::LastCall, _) => self.on_last_call(actions),
            (Timer::Grace, _) => self.kill(actions),
            (Timer::KillAgain, Teardown::Killing) => kill_round(actions),
            (Timer::GiveUp, Teardown::Killing) => {
                actions.push(Action::Announce(Announcement::GaveUp));
                self.on_tree_empty(actions);
            }
            // Left over from a state that is past, or not about the tree.
            (Timer::KillAgain | Timer::GiveUp | Timer::Release | Timer::Restart { .. }, _) => {}
        }
    }

    fn sidecar_pids(&self) -> Vec<Pid> {
        self.sidecars.iter().filter_map(Sidecar::pid).collect()
    }
}

/// One round of SIGKILL.
fn kill_round(actions: &mut Vec<Action>) {
    actions.push(Action::KillTree);
    actions.push(Action::StartTimer { timer: Timer::KillAgain, after: KILL_AGAIN });
    actions.push(Action::LookAtTree);
}
