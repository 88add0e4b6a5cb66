//! The leader: whose failure decides, and when everybody may leave.
//!
//! ```text
//!   Running --all Finished--> Released(0)
//!      |                         ^
//!      | first Failed or Lost    |
//!      v                         |
//!   Stopping --(published and all Stopped or Lost), or timer--> Released(code)
//! ```
//!
//! The cluster kills all jobs as soon as the first one ends, so nobody is released before the failure is
//! written down.

use std::collections::BTreeSet;
use std::time::Duration;

use tractorun_contract::exit::InitExit;
use tractorun_contract::failure::{Cause, Failure};

use super::Identity;
use crate::control::{HubCommand, LeaderMessage, NodeMessage, Recipients, StopManner};

#[cfg(test)]
mod tests;

/// How much longer than its grace period a node may take to stop: it repeats SIGKILL for four seconds.
pub const STOP_MARGIN: Duration = Duration::from_secs(5);

/// What happened to the leader.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaderEvent {
    /// A node said something.
    Told {
        /// Who.
        node_rank: u32,
        /// What.
        message: NodeMessage,
    },
    /// A node is gone.
    Lost {
        /// Who.
        node_rank: u32,
        /// How that was noticed.
        reason: String,
    },
    /// The failure record is written, or could not be.
    FailurePublished,
    /// The timer ran out.
    TimerFired,
}

/// What the driver is to do for the leader.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few are made, and each is done at once")]
pub enum LeaderAction {
    /// Give this to the hub.
    Command(HubCommand),
    /// Start the leader's one timer.
    StartTimer {
        /// When it fires, from now.
        after: Duration,
    },
}

/// State of the leader.
#[derive(Debug)]
pub struct Leader {
    nodes: Vec<Identity>,
    grace_period: Duration,
    begun_at: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody failed so far.
    Running { finished: BTreeSet<u32> },
    /// Somebody did; all nodes stop.
    Stopping { exit_code: u8, record: Record, stopped: BTreeSet<u32> },
    /// Everybody may leave.
    Released,
}

/// The failure record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Writing,
    Written,
}

// === impl Leader ===

impl Leader {
    /// The leader of these nodes, by rank, whose workers start now.
    pub fn new(nodes: Vec<Identity>, grace_period: Duration, now: Duration) -> Self {
        Self { nodes, grace_period, begun_at: now, state: State::Running { finished: BTreeSet::new() } }
    }

    /// Takes what happened and pushes what is to be done.
    pub fn step(&mut self, now: Duration, event: LeaderEvent, actions: &mut Vec<LeaderAction>) {
        match event {
            LeaderEvent::Told {
                message: NodeMessage::Heartbeat | NodeMessage::WorkersGone { .. }, ..
            } => {}
            LeaderEvent::Told { node_rank, message: NodeMessage::Finished { .. } } => {
                if let State::Running { finished } = &mut self.state {
                    finished.insert(node_rank);
                    if finished.len() == self.nodes.len() {
                        self.release(0, actions);
                    }
                }
            }
            LeaderEvent::Told { message: NodeMessage::Failed(failure), .. } => {
                self.decide(failure, BTreeSet::new(), actions);
            }
            LeaderEvent::Told { node_rank, message: NodeMessage::Stopped } => {
                self.on_gone(node_rank, actions);
            }
            LeaderEvent::Lost { node_rank, reason } => {
                if let (State::Running { .. }, Some(node)) = (&self.state, self.node(node_rank)) {
                    let elapsed = now.saturating_sub(self.begun_at);
                    let verdict =
                        node.failure(Cause::NodeLost { reason }, InitExit::LostNode.code(), elapsed);
                    self.decide(verdict, BTreeSet::from([node_rank]), actions);
                } else {
                    self.on_gone(node_rank, actions);
                }
            }
            LeaderEvent::FailurePublished => {
                if let State::Stopping { record, .. } = &mut self.state {
                    *record = Record::Written;
                    self.release_if_all_gone(actions);
                }
            }
            LeaderEvent::TimerFired => {
                if let State::Stopping { exit_code, .. } = self.state {
                    self.release(exit_code, actions);
                }
            }
        }
    }

    fn node(&self, rank: u32) -> Option<&Identity> {
        self.nodes.iter().find(|node| node.node_rank == rank)
    }

    /// The first failure is the verdict; later ones only follow from it.
    fn decide(&mut self, verdict: Failure, gone: BTreeSet<u32>, actions: &mut Vec<LeaderAction>) {
        if !matches!(self.state, State::Running { .. }) {
            return;
        }
        self.state = State::Stopping { exit_code: verdict.exit_code, record: Record::Writing, stopped: gone };
        let message = LeaderMessage::Stop { verdict: verdict.clone(), manner: StopManner::Orderly };
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
        actions.push(LeaderAction::Command(HubCommand::PublishFailure(verdict)));
        actions.push(LeaderAction::StartTimer { after: self.grace_period + STOP_MARGIN });
    }

    /// A node's tree is dead, or the node is lost and nothing more can be known of it.
    fn on_gone(&mut self, node_rank: u32, actions: &mut Vec<LeaderAction>) {
        if let State::Stopping { stopped, .. } = &mut self.state {
            stopped.insert(node_rank);
            self.release_if_all_gone(actions);
        }
    }

    fn release_if_all_gone(&mut self, actions: &mut Vec<LeaderAction>) {
        if let State::Stopping { exit_code, record: Record::Written, stopped } = &self.state
            && stopped.len() == self.nodes.len()
        {
            self.release(*exit_code, actions);
        }
    }

    fn release(&mut self, exit_code: u8, actions: &mut Vec<LeaderAction>) {
        self.state = State::Released;
        let message = LeaderMessage::Release { exit_code };
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
    }
}
