//! Ending the tree: the workers and whatever they left, then the sidecars in reverse, with one grace period for
//! all; then SIGKILL until nobody is left.
//!
//! A sidecar may serve the workers (a proxy, a checkpoint's upload), so it lives until they are gone. What cannot
//! wait for ever is the sidecars' own end: when a fifth of the grace period is left they are asked to stop even so,
//! or one worker that ignores SIGTERM would have them killed without a word.
//!
//! At the end of an attempt that another may follow the sidecars are left out of all this.

use std::time::Duration;

use tractorun_sys::{Pid, Signal};

use super::sidecars::Sidecar;
use super::{Ended, Node, Outcome, State, Worker};
use crate::supervisor::{Action, Announcement, Conclusion, Timer};

/// Between two rounds of SIGKILL: a killed process needs some milliseconds to be gone.
pub(super) const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long SIGKILL is repeated. Only processes in an uninterruptible system call outlive it, and waiting
/// longer would make the leader wait in vain: it gives every node five seconds more than its grace period.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(4);

/// What workers leave behind that all ended with 0 (the upload of a last checkpoint) has the whole grace period as after
/// any other end: it is the user's word for how long an end may take, and killing it sooner would lose what the worker
/// counted on. Who was not meant to go on holds up the end of the node by not heeding SIGTERM; so if anybody still lives
/// after this time, a person is told who.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How far the end of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teardown {
    /// SIGTERM was sent to all but the sidecars.
    Workers,
    /// This sidecar is being stopped; those after it are gone, those before it have not been told.
    Sidecar(usize),
    /// Everybody has been sent SIGTERM.
    Everybody,
    /// SIGKILL was sent to all but the sidecars.
    KillingWorkers,
    /// SIGKILL was sent.
    Killing,
}

// === impl Node ===

impl Node {
    pub(super) fn begin_stopping(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.begin_stopping_within(self.setup.grace_period, outcome, actions);
    }

    pub(super) fn begin_stopping_within(
        &mut self,
        grace_period: Duration,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        self.ends.told(self.now);
        let spared = self.sidecar_pids();
        let has_succeeded = matches!(outcome, Outcome::Succeeded | Outcome::Attempt(Ended::Succeeded));
        let keeps_sidecars = matches!(outcome, Outcome::Attempt(_));
        let teardown =
            if keeps_sidecars || !spared.is_empty() { Teardown::Workers } else { Teardown::Everybody };
        self.state = State::Stopping { teardown, outcome };
        actions.push(Action::SignalTree { signal: Signal::TERM, spared });
        self.start_grace(grace_period, actions);
        if has_succeeded && grace_period > LINGER {
            actions.push(Action::StartTimer { timer: Timer::Linger, after: LINGER });
        }
        self.look_for_others(actions);
        // Often nobody is left, and then no SIGCHLD will come to say so.
        actions.push(Action::LookAtTree);
    }

    /// While the workers of an attempt are being stopped it turns out that none follows: it is the sidecars' turn
    /// too, with a whole grace period for what is still to be done.
    pub(super) fn make_final(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        let State::Stopping { outcome: known, .. } = &mut self.state else { return };
        *known = outcome;
        self.start_grace(self.setup.grace_period, actions);
        self.look_for_others(actions);
        actions.push(Action::LookAtTree);
    }

    fn start_grace(&self, grace_period: Duration, actions: &mut Vec<Action>) {
        actions.push(Action::StartTimer { timer: Timer::Grace, after: grace_period });
        if let State::Stopping { teardown: Teardown::Workers | Teardown::KillingWorkers, outcome } =
            &self.state
            && !matches!(outcome, Outcome::Attempt(_))
        {
            actions.push(Action::StartTimer { timer: Timer::LastCall, after: grace_period * 4 / 5 });
        }
    }

    /// Once no worker runs, the sidecars' turn (or the end of the attempt) comes as soon as what the workers left
    /// behind is gone too. Where no sidecar runs the kernel says so by itself, and better.
    pub(super) fn look_for_others(&self, actions: &mut Vec<Action>) {
        let spared = self.sidecar_pids();
        if let State::Stopping { teardown: Teardown::Workers | Teardown::KillingWorkers, .. } = &self.state
            && !self.workers.iter().any(|worker| matches!(worker, Worker::Running { .. }))
            && !spared.is_empty()
        {
            actions.push(Action::LookForOthers { spared });
        }
    }

    /// Only sidecars are left.
    pub(super) fn on_others_gone(&mut self, actions: &mut Vec<Action>) {
        let State::Stopping { teardown: Teardown::Workers | Teardown::KillingWorkers, outcome } = &self.state
        else {
            return;
        };
        match outcome {
            Outcome::Attempt(ended) => self.settle(ended.clone(), actions),
            Outcome::Succeeded | Outcome::Failed(_) | Outcome::Leaving(_) => self.stop_last_sidecar(actions),
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
    fn on_last_call(&mut self, actions: &mut Vec<Action>) {
        let State::Stopping { teardown, .. } = &mut self.state else { return };
        let untold = match *teardown {
            Teardown::Workers | Teardown::KillingWorkers => self.sidecars.len(),
            Teardown::Sidecar(current) => current,
            Teardown::Everybody | Teardown::Killing => return,
        };
        *teardown = Teardown::Everybody;
        let pids = self.sidecars[..untold].iter().rev().filter_map(Sidecar::pid);
        actions.extend(pids.map(|root| Action::SignalBranch { root, signal: Signal::TERM }));
    }

    /// No more grace.
    pub(super) fn kill(&mut self, actions: &mut Vec<Action>) {
        let outcome = match &self.state {
            State::Stopping { teardown: Teardown::Killing, .. }
            | State::Stopping { teardown: Teardown::KillingWorkers, outcome: Outcome::Attempt(_) }
            | State::Running
            | State::Done => return,
            State::Saving { verdict, .. } => Outcome::Failed(verdict.clone()),
            State::Idle { ended } => Outcome::Attempt(ended.clone()),
            State::Stopping { outcome, .. } | State::Waiting { outcome } => outcome.clone(),
        };
        let teardown = match outcome {
            Outcome::Attempt(_) => Teardown::KillingWorkers,
            Outcome::Succeeded | Outcome::Failed(_) | Outcome::Leaving(_) => Teardown::Killing,
        };
        self.state = State::Stopping { teardown, outcome };
        actions.push(Action::StartTimer { timer: Timer::GiveUp, after: KILL_LIMIT });
        self.kill_round(actions);
    }

    pub(super) fn on_teardown_timer(&mut self, timer: Timer, actions: &mut Vec<Action>) {
        let teardown = match &self.state {
            State::Stopping { teardown, .. } => *teardown,
            State::Saving { .. } if timer == Timer::Grace => {
                self.announce_kill(actions);
                return self.kill(actions);
            }
            State::Saving { .. } if timer == Timer::LastCall => {
                return self.on_last_call_while_saving(actions);
            }
            State::Running
            | State::Saving { .. }
            | State::Idle { .. }
            | State::Waiting { .. }
            | State::Done => return,
        };
        match (timer, teardown) {
            (Timer::LastCall, _) => self.on_last_call(actions),
            (Timer::Grace, _) => {
                self.announce_kill(actions);
                self.kill(actions);
            }
            (Timer::Linger, Teardown::Workers | Teardown::Everybody) => self.on_linger(actions),
            (Timer::KillAgain, Teardown::Killing | Teardown::KillingWorkers) => self.kill_round(actions),
            (Timer::GiveUp, Teardown::Killing) => {
                actions.push(Action::Announce(Announcement::GaveUp));
                self.on_tree_empty(actions);
            }
            // Nothing is said to the leader: without this node's word there is no other attempt.
            (Timer::GiveUp, Teardown::KillingWorkers) => {
                actions.push(Action::Announce(Announcement::GaveUp));
            }
            // Left over from a state that is past, or not about the tree.
            (
                Timer::Linger | Timer::KillAgain | Timer::GiveUp | Timer::Release | Timer::Restart { .. },
                _,
            ) => {}
        }
    }

    /// The workers are done, and a second later something of theirs is not.
    fn on_linger(&self, actions: &mut Vec<Action>) {
        let State::Stopping { outcome, .. } = &self.state else { return };
        match outcome {
            // Released already, as a success.
            Outcome::Leaving(Conclusion { code: 0, .. })
            | Outcome::Succeeded
            | Outcome::Attempt(Ended::Succeeded) => {
                let remaining = self.setup.grace_period.saturating_sub(LINGER);
                let sidecars = self.sidecar_pids();
                actions.push(Action::Announce(Announcement::Lingering { sidecars, remaining }));
            }
            Outcome::Leaving(_) | Outcome::Failed(_) | Outcome::Attempt(Ended::Failed(_)) => {}
        }
    }

    /// Says who is killed, unless that is being done already.
    fn announce_kill(&self, actions: &mut Vec<Action>) {
        let spared = match &self.state {
            State::Stopping { teardown: Teardown::Killing, .. }
            | State::Stopping { teardown: Teardown::KillingWorkers, outcome: Outcome::Attempt(_) } => return,
            State::Stopping { outcome: Outcome::Attempt(_), .. } => self.sidecar_pids(),
            _ => Vec::new(),
        };
        actions.push(Action::Announce(Announcement::Killing { spared }));
    }

    /// One round of SIGKILL.
    fn kill_round(&self, actions: &mut Vec<Action>) {
        let spared = self.sidecar_pids();
        actions.push(match &self.state {
            State::Stopping { teardown: Teardown::KillingWorkers, .. } if !spared.is_empty() => {
                Action::KillOthers { spared }
            }
            _ => Action::KillTree,
        });
        actions.push(Action::StartTimer { timer: Timer::KillAgain, after: KILL_AGAIN });
        self.look_for_others(actions);
        actions.push(Action::LookAtTree);
    }

    fn sidecar_pids(&self) -> Vec<Pid> {
        self.sidecars.iter().filter_map(Sidecar::pid).collect()
    }
}
