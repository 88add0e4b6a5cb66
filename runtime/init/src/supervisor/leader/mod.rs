//! The leader: whose failure decides, whether it is answered by another attempt (`restarts`), and when everybody may
//! leave.
//!
//! ```text
//!           +----------- timer: Begin ------------ BackingOff
//!           v                                          ^
//!        Running --a worker failed, and it may--> Ending the attempt --all WorkersGone--+
//!         |  |     be answered by a restart            |
//!         |  | first Failed or Lost that is final      | final, or timer
//!         |  v                                         v
//!         | Stopping <---------------------------------+
//!         |  | published and all Stopped or Lost, or timer
//!         v  v
//!       Released
//! ```
//!
//! What a node says of an attempt counts only in that attempt: of a failure that was answered by a restart nothing is
//! left to arrive late.
//!
//! The cluster kills all jobs as soon as the first one ends, so nobody is released before the failure is
//! written down.

use std::collections::BTreeSet;
use std::time::Duration;

use tractorun_contract::exit::InitExit;
use tractorun_contract::failure::{Cause, Failure, Fates, MAX_ATTEMPT_RECORDS, NotRestarted};

use self::fates::Reports;
use self::restarts::{Answer, Budget};
use self::sidecars::BadEnds;
use super::Identity;
use crate::control::{HubCommand, LeaderMessage, NodeMessage, Recipients, StopManner};

mod fates;
mod restarts;
mod sidecars;
#[cfg(test)]
mod tests;

pub use self::restarts::Restarts;
pub(super) use self::restarts::may_be_restarted;

/// How much longer than its grace period a node may take to stop: it repeats SIGKILL for four seconds.
pub const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The completed failure record may take this long to be written. The hub gives up before.
const COMPLETE_LIMIT: Duration = Duration::from_secs(3);

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
pub enum LeaderAction {
    /// Give this to the hub.
    Command(HubCommand),
    /// Start the leader's one timer.
    StartTimer {
        /// When it fires, from now.
        after: Duration,
    },
}

/// What the leader goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// From SIGTERM to SIGKILL on every node.
    pub grace_period: Duration,
    /// Whether failures are answered by other attempts.
    pub restarts: Restarts,
    /// How long workers may save what they have when a node is preempted.
    pub preemption_timeout: Duration,
    /// Workers of each node: the ranks go node by node.
    pub workers_per_node: u32,
}

/// State of the leader.
#[derive(Debug)]
pub struct Leader {
    nodes: Vec<Identity>,
    rules: Rules,
    budget: Budget,
    attempt: u32,
    /// When the attempt began.
    begun_at: Duration,
    /// What attempts failed of that were followed by another one; the last of very many.
    failed: Vec<Failure>,
    sidecars: BadEnds,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody failed so far in this attempt.
    Running { finished: BTreeSet<u32> },
    /// Somebody did; the workers of all nodes stop, and start again when all are gone.
    EndingAttempt { failure: Failure, gone: BTreeSet<u32> },
    /// They are; the next attempt waits for its time.
    BackingOff,
    /// Somebody failed for good; all nodes stop.
    Stopping { verdict: Failure, record: Record, reports: Reports },
    /// Everybody may leave.
    Released,
}

/// The failure record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    /// The first one, which says who failed.
    Writing,
    /// It is there; what became of the others is to come.
    Written,
    /// The second one, which says that too.
    Completing,
}

// === impl Leader ===

impl Leader {
    /// The leader of these nodes, by rank, whose workers start now.
    pub fn new(nodes: Vec<Identity>, rules: Rules, now: Duration) -> Self {
        let budget = Budget::new(rules.restarts.clone());
        let state = State::Running { finished: BTreeSet::new() };
        Self {
            nodes,
            rules,
            budget,
            attempt: 0,
            begun_at: now,
            failed: Vec::new(),
            sidecars: BadEnds::default(),
            state,
        }
    }

    /// Takes what happened and pushes what is to be done.
    pub fn step(&mut self, now: Duration, event: LeaderEvent, actions: &mut Vec<LeaderAction>) {
        match event {
            LeaderEvent::Told { message: NodeMessage::Heartbeat, .. } => {}
            LeaderEvent::Told { node_rank, message: NodeMessage::Finished { attempt } } => {
                if let State::Running { finished } = &mut self.state
                    && attempt == self.attempt
                {
                    finished.insert(node_rank);
                    if finished.len() == self.nodes.len() {
                        self.release(0, Fates::default(), actions);
                    }
                }
            }
            LeaderEvent::Told { message: NodeMessage::Failed(failure), .. } => {
                self.on_failed(now, failure, actions);
            }
            LeaderEvent::Told { node_rank, message: NodeMessage::WorkersGone { attempt } } => {
                if attempt == self.attempt {
                    self.on_workers_gone(now, node_rank, actions);
                }
            }
            LeaderEvent::Told { message: NodeMessage::SidecarEnded(end), .. } => {
                let ends = self.sidecars.note(end);
                if !matches!(self.state, State::Released) {
                    actions.push(LeaderAction::Command(HubCommand::PublishSidecars(ends)));
                }
            }
            LeaderEvent::Told { node_rank, message: NodeMessage::Stopped { fates } } => {
                if let State::Stopping { reports, .. } = &mut self.state {
                    reports.told(node_rank, fates);
                    self.complete_if_all_gone(actions);
                }
            }
            LeaderEvent::Lost { node_rank, reason } => self.on_lost(now, node_rank, reason, actions),
            LeaderEvent::FailurePublished => match &mut self.state {
                State::Stopping { record: record @ Record::Writing, .. } => {
                    *record = Record::Written;
                    self.complete_if_all_gone(actions);
                }
                State::Stopping { record: Record::Completing, .. } => self.release_with_verdict(actions),
                _ => {}
            },
            LeaderEvent::TimerFired => self.on_timer(now, actions),
        }
    }

    fn node(&self, rank: u32) -> Option<&Identity> {
        self.nodes.iter().find(|node| node.node_rank == rank)
    }

    /// Something failed. Of an attempt the first failure counts, as the others may follow from it; what no attempt
    /// could answer ends the run whenever it comes.
    fn on_failed(&mut self, now: Duration, mut failure: Failure, actions: &mut Vec<LeaderAction>) {
        match &self.state {
            State::Running { .. } if failure.attempt == self.attempt => {}
            State::Running { .. } | State::EndingAttempt { .. } | State::BackingOff => {
                if may_be_restarted(&failure.cause) {
                    return;
                }
            }
            State::Stopping { .. } | State::Released => return,
        }
        match self.budget.answer(now, &failure) {
            Answer::Restart => self.end_attempt(failure, actions),
            Answer::End(not_restarted) => {
                failure.not_restarted = not_restarted;
                self.decide(failure, BTreeSet::new(), actions);
            }
        }
    }

    fn on_lost(&mut self, now: Duration, node_rank: u32, reason: String, actions: &mut Vec<LeaderAction>) {
        match (&self.state, self.node(node_rank)) {
            (State::Running { .. } | State::EndingAttempt { .. } | State::BackingOff, Some(node)) => {
                let elapsed = now.saturating_sub(self.begun_at);
                let failure = node.failure(Cause::NodeLost { reason }, InitExit::LostNode.code(), elapsed);
                let verdict = Failure { attempt: self.attempt, ..failure };
                self.decide(verdict, BTreeSet::from([node_rank]), actions);
            }
            _ => {
                if let State::Stopping { reports, .. } = &mut self.state {
                    reports.lost(node_rank);
                    self.complete_if_all_gone(actions);
                }
            }
        }
    }

    fn on_timer(&mut self, now: Duration, actions: &mut Vec<LeaderAction>) {
        match &self.state {
            State::Running { .. } | State::Released => {}
            State::BackingOff => self.begin_attempt(now, actions),
            State::EndingAttempt { failure, .. } => {
                let not_restarted = Some(NotRestarted::StillRunning);
                let verdict = Failure { not_restarted, ..failure.clone() };
                self.decide(verdict, BTreeSet::new(), actions);
            }
            State::Stopping { record: Record::Completing, .. } => self.release_with_verdict(actions),
            // Who has said nothing by now is not waited for.
            State::Stopping { record: Record::Writing | Record::Written, .. } => self.complete(actions),
        }
    }

    /// The attempt failed, and another one follows.
    fn end_attempt(&mut self, failure: Failure, actions: &mut Vec<LeaderAction>) {
        if self.failed.len() >= MAX_ATTEMPT_RECORDS {
            self.failed.remove(0);
        }
        self.failed.push(failure.clone());
        let message = LeaderMessage::StopAttempt(without_tail(&failure));
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
        actions.push(LeaderAction::Command(HubCommand::PublishAttempts(self.failed.clone())));
        actions.push(LeaderAction::StartTimer { after: self.rules.grace_period + STOP_MARGIN });
        self.state = State::EndingAttempt { failure, gone: BTreeSet::new() };
    }

    fn on_workers_gone(&mut self, now: Duration, node_rank: u32, actions: &mut Vec<LeaderAction>) {
        let State::EndingAttempt { gone, .. } = &mut self.state else { return };
        gone.insert(node_rank);
        if gone.len() < self.nodes.len() {
            return;
        }
        let backoff = self.budget.backoff();
        if backoff.is_zero() {
            self.begin_attempt(now, actions);
        } else {
            self.state = State::BackingOff;
            actions.push(LeaderAction::StartTimer { after: backoff });
        }
    }

    fn begin_attempt(&mut self, now: Duration, actions: &mut Vec<LeaderAction>) {
        self.attempt += 1;
        self.begun_at = now;
        self.state = State::Running { finished: BTreeSet::new() };
        let message = LeaderMessage::Begin { attempt: self.attempt };
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
    }

    /// This ends the run; what comes later only follows from it.
    fn decide(&mut self, verdict: Failure, gone: BTreeSet<u32>, actions: &mut Vec<LeaderAction>) {
        let mut reports = Reports::default();
        for node_rank in gone {
            reports.lost(node_rank);
        }
        let (manner, saving) = match verdict.cause {
            Cause::Preempted { .. } => {
                let remaining = self.rules.preemption_timeout;
                // More than an age of the world would be needed to saturate it.
                let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
                (StopManner::Preempted { remaining_ms }, remaining)
            }
            _ => (StopManner::Orderly, Duration::ZERO),
        };
        let message = LeaderMessage::Stop { verdict: without_tail(&verdict), manner };
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
        actions.push(LeaderAction::Command(HubCommand::PublishFailure(verdict.clone())));
        self.state = State::Stopping { verdict, record: Record::Writing, reports };
        actions.push(LeaderAction::StartTimer { after: saving + self.rules.grace_period + STOP_MARGIN });
    }

    /// The record is completed when every node has told what became of its workers, or is lost.
    fn complete_if_all_gone(&mut self, actions: &mut Vec<LeaderAction>) {
        if let State::Stopping { record: Record::Written, reports, .. } = &self.state
            && reports.settled() == self.nodes.len()
        {
            self.complete(actions);
        }
    }

    /// Writes the record once more, with what became of the others; the answer releases all.
    fn complete(&mut self, actions: &mut Vec<LeaderAction>) {
        let State::Stopping { verdict, record, reports } = &mut self.state else { return };
        // Far fewer than can be counted: the job spec was checked for it.
        let node_count = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        verdict.others = reports.others(verdict, node_count, self.rules.workers_per_node);
        *record = Record::Completing;
        actions.push(LeaderAction::Command(HubCommand::PublishFailure(verdict.clone())));
        actions.push(LeaderAction::StartTimer { after: COMPLETE_LIMIT });
    }

    fn release_with_verdict(&mut self, actions: &mut Vec<LeaderAction>) {
        if let State::Stopping { verdict, .. } = &self.state {
            let (exit_code, others) = (verdict.exit_code, verdict.others.clone());
            self.release(exit_code, others, actions);
        }
    }

    fn release(&mut self, exit_code: u8, others: Fates, actions: &mut Vec<LeaderAction>) {
        self.state = State::Released;
        let message = LeaderMessage::Release { exit_code, others };
        actions.push(LeaderAction::Command(HubCommand::Send { to: Recipients::All, message }));
    }
}

/// What the nodes need to know of a failure: the lines are for the record, and would go to thousands of them.
fn without_tail(failure: &Failure) -> Failure {
    Failure { stderr_tail: Vec::new(), ..failure.clone() }
}
