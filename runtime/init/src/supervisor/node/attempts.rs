//! Restarts in place: the end of one attempt and the beginning of the next. The sidecars live through both.
//!
//! What makes it safe is the order: a node says `WorkersGone` once nobody of the attempt is alive, the leader says
//! `Begin` once all nodes have said so, and only that starts a worker again.

use std::time::Duration;

use tractorun_contract::failure::Failure;

use super::fates::Ends;
use super::{Attempts, Ended, Node, Outcome, State, Worker};
use crate::control::NodeMessage;
use crate::supervisor::{Action, Announcement};

// === impl Node ===

impl Node {
    /// Whether sidecars are kept by their policies: they are until the run is over.
    pub(super) fn sidecars_live(&self) -> bool {
        match &self.state {
            State::Running | State::Idle { .. } | State::Stopping { outcome: Outcome::Attempt(_), .. } => {
                true
            }
            State::Saving { .. } | State::Stopping { .. } | State::Waiting { .. } | State::Done => false,
        }
    }

    /// The leader wants the workers of an attempt stopped, for another attempt.
    pub(super) fn on_stop_attempt(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        if self.setup.attempts == Attempts::One || failure.attempt != self.attempt {
            return;
        }
        match &mut self.state {
            State::Running => {
                actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
                self.begin_stopping(Outcome::Attempt(Ended::Failed(failure)), actions);
            }
            State::Idle { ended: ended @ Ended::Succeeded } => {
                *ended = Ended::Failed(failure);
                actions.push(Action::Tell(NodeMessage::WorkersGone { attempt: self.attempt }));
            }
            State::Stopping { outcome: Outcome::Attempt(ended), .. } | State::Idle { ended } => {
                *ended = Ended::Failed(failure);
            }
            // The run is over, as the leader learns or knows by now.
            State::Saving { .. } | State::Stopping { .. } | State::Waiting { .. } | State::Done => {}
        }
    }

    /// Nobody but the sidecars is alive.
    pub(super) fn settle(&mut self, ended: Ended, actions: &mut Vec<Action>) {
        if let Ended::Failed(_) = ended {
            actions.push(Action::Tell(NodeMessage::WorkersGone { attempt: self.attempt }));
        }
        self.state = State::Idle { ended };
    }

    /// Nobody of the last attempt is alive on any node.
    pub(super) fn on_begin(&mut self, now: Duration, attempt: u32, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Idle { ended: Ended::Failed(_) }) || attempt != self.attempt + 1 {
            return;
        }
        self.attempt = attempt;
        self.begun_at = Some(now);
        self.workers.fill(Worker::NotStarted);
        self.ends = Ends::new(self.workers.len());
        self.state = State::Running;
        actions.push(Action::Announce(Announcement::Restarting { attempt }));
        self.start_next(actions);
    }
}
