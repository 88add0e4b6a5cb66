//! One node: its workers, its sidecars (`sidecars`) and what it owes its leader. See the parent module for the
//! states; `ending` decides why and how a run ends, `attempts` what a restart in place is, `preemption` what happens
//! before a preempted node stops, `teardown` how the tree is ended.

use std::time::Duration;

use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Cause, Failure, STOP_REQUEST};
use tractorun_contract::job_spec::RestartPolicy;
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::{Pid, Signal};

use self::fates::Ends;
use self::teardown::Teardown;
use super::{Action, Announcement, Conclusion, Event, Identity, Member, Target, Timer, Traces};
use crate::control::{LeaderMessage, NodeMessage};

pub use self::sidecars::{Sidecar, Status};

#[cfg(test)]
mod attempt_tests;
mod attempts;
mod ending;
mod fates;
#[cfg(test)]
pub(super) mod model;
mod preemption;
#[cfg(test)]
mod preemption_tests;
#[cfg(test)]
mod sidecar_tests;
mod sidecars;
mod teardown;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// What a node is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Job or plain init.
    pub mode: Mode,
    /// Global ranks of the workers, by local rank; one of them in plain-init mode, its rank without meaning.
    pub ranks: Vec<u32>,
    /// The sidecars and their policies, in the order they are started; none in plain-init mode.
    pub sidecars: Vec<(SidecarId, RestartPolicy)>,
    /// From SIGTERM to SIGKILL.
    pub grace_period: Duration,
    /// Whether a failed worker may be answered by a restart in place.
    pub attempts: Attempts,
    /// What SIGTERM means, if not a stop.
    pub preemption: Option<Preemption>,
}

/// Whether a run may have more than one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// The first failure ends it.
    One,
    /// The leader may answer a failure by a restart: sidecars live until it has decided that the run is over.
    Several,
}

/// What a preemption is to the workers of every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// What every worker's group gets.
    pub signal: Signal,
    /// From that to SIGKILL.
    pub timeout: Duration,
}

/// What a run is part of.
#[derive(Debug, Clone)]
pub enum Mode {
    /// One node of a job.
    Job {
        /// This node.
        own: Identity,
        /// Node 0.
        leader: Identity,
    },
    /// The init of a container with one program.
    Plain {
        /// Whom signals are handed to.
        target: Target,
    },
}

/// State of one node.
#[derive(Debug)]
pub struct Node {
    setup: Setup,
    workers: Vec<Worker>,
    sidecars: Vec<Sidecar>,
    state: State,
    /// Which start of the workers this is, from 0.
    attempt: u32,
    /// When the first process of the attempt was to be started.
    begun_at: Option<Duration>,
    /// How the workers of the attempt ended.
    ends: Ends,
    /// When the event came that is being dealt with.
    now: Duration,
    /// SIGTERMs and SIGINTs so far: the second one means "now".
    stop_signals: u32,
}

/// One worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    NotStarted,
    Running { pid: Pid },
    Ended,
}

#[derive(Debug)]
enum State {
    /// Workers run, or are being started one after the other.
    Running,
    /// The cluster takes a node of the job away: the workers were asked to save what they have, and the sidecars
    /// serve them until they have.
    Saving { verdict: Failure, deadline: Duration },
    /// The tree, or all of it but the sidecars, is being ended.
    Stopping { teardown: Teardown, outcome: Outcome },
    /// Nobody but the sidecars is alive; the leader decides whether another attempt follows.
    Idle { ended: Ended },
    /// The tree is dead; the leader decides when to leave.
    Waiting { outcome: Outcome },
    /// `Exit` was pushed.
    Done,
}

/// What follows when the tree is dead.
#[derive(Debug, Clone)]
enum Outcome {
    /// The attempt is over and the run perhaps is not: the sidecars live on.
    Attempt(Ended),
    /// All workers exited with 0 and the leader knows; wait for the others.
    Succeeded,
    /// Somebody failed: say `Stopped`, wait to be released.
    Failed(Failure),
    /// Exit at once.
    Leaving(Conclusion),
}

/// How an attempt ended on this node, as far as the leader has not decided what follows.
#[derive(Debug, Clone)]
enum Ended {
    /// All workers exited with 0 and the leader knows.
    Succeeded,
    /// A worker failed, here or elsewhere.
    Failed(Failure),
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culprit {
    /// The worker of this index.
    Worker(usize),
    /// The node as a whole, or what the cause names.
    Node,
}

/// Whether a stop was asked for by a person who may ask again, or noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Orderly,
    Now,
}

// === impl Node ===

impl Node {
    /// A node whose workers are not started yet.
    pub fn new(setup: Setup) -> Self {
        let workers = vec![Worker::NotStarted; setup.ranks.len()];
        let sidecars = setup.sidecars.iter().map(|(id, policy)| Sidecar::new(*id, *policy)).collect();
        let ends = Ends::new(workers.len());
        Self {
            setup,
            workers,
            sidecars,
            state: State::Running,
            attempt: 0,
            begun_at: None,
            ends,
            now: Duration::ZERO,
            stop_signals: 0,
        }
    }

    /// Takes what happened and pushes what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Done) {
            return;
        }
        self.now = now;
        match event {
            Event::Begun => {
                self.begun_at = Some(now);
                self.start_next(actions);
            }
            Event::Spawned { member: Member::Worker(worker), pid } => self.on_spawned(worker, pid, actions),
            Event::Spawned { member: Member::Sidecar(sidecar), pid } => {
                self.on_sidecar_spawned(now, sidecar, pid, actions);
            }
            Event::SpawnFailed { member: Member::Worker(worker), reason, exit_code } => {
                self.workers[worker] = Worker::Ended;
                self.ends.not_started(worker);
                let cause = Cause::WorkerNotStarted { reason };
                self.on_worker_failed(now, worker, cause, exit_code, Traces::default(), actions);
            }
            Event::SpawnFailed { member: Member::Sidecar(sidecar), reason, exit_code } => {
                self.on_sidecar_not_started(now, sidecar, reason, exit_code, actions);
            }
            Event::ChildExited { pid, reason, reaped_at, traces } => {
                if let Some(Member::Worker(worker)) = self.member_of(pid) {
                    self.ends.exited(worker, reason, reaped_at);
                }
                self.on_child_exited(now, pid, reason, traces, actions);
            }
            Event::TreeEmpty => self.on_tree_empty(actions),
            Event::OthersGone => self.on_others_gone(actions),
            Event::SignalReceived(signal) => self.on_signal(now, signal, actions),
            Event::LifelineEnded => {
                self.stop(now, Signal::TERM, Signal::TERM.name(), Urgency::Orderly, actions);
            }
            Event::StopRequested => {
                self.stop(now, Signal::TERM, STOP_REQUEST.to_owned(), Urgency::Orderly, actions);
            }
            Event::GuardLost => self.on_guard_lost(now, actions),
            Event::TimerFired(timer) => self.on_timer(timer, actions),
            Event::Told(LeaderMessage::Heartbeat) => {}
            Event::Told(LeaderMessage::StopAttempt(failure)) => self.on_stop_attempt(failure, actions),
            Event::Told(LeaderMessage::Begin { attempt }) => self.on_begin(now, attempt, actions),
            Event::Told(LeaderMessage::Stop { verdict, manner }) => {
                self.on_verdict(now, verdict, manner, actions);
            }
            Event::Told(LeaderMessage::Release { exit_code, others }) => {
                self.on_release(exit_code, others, actions);
            }
            Event::LinkLost { reason } => self.on_link_lost(now, reason, actions),
        }
    }

    /// The workers that run, with their index.
    pub fn running(&self) -> impl Iterator<Item = (usize, Pid)> {
        self.workers.iter().enumerate().filter_map(|(index, worker)| match worker {
            Worker::Running { pid } => Some((index, *pid)),
            Worker::NotStarted | Worker::Ended => None,
        })
    }

    /// Which start of the workers this is, from 0.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Who runs as this process.
    pub fn member_of(&self, pid: Pid) -> Option<Member> {
        let worker = self.workers.iter().position(|worker| *worker == Worker::Running { pid });
        let sidecar = || self.sidecars.iter().position(|sidecar| sidecar.pid() == Some(pid));
        worker.map(Member::Worker).or_else(|| sidecar().map(Member::Sidecar))
    }

    /// Starts who is next: the sidecars in their order, then the workers.
    fn start_next(&self, actions: &mut Vec<Action>) {
        let sidecar = self.sidecars.iter().position(|sidecar| sidecar.status == Status::NotStarted);
        let worker = || self.workers.iter().position(|worker| *worker == Worker::NotStarted);
        match sidecar.map(Member::Sidecar).or_else(|| worker().map(Member::Worker)) {
            Some(next) => actions.push(Action::Spawn(next)),
            None => actions.push(Action::Announce(Announcement::WorkersStarted)),
        }
    }

    fn on_spawned(&mut self, worker: usize, pid: Pid, actions: &mut Vec<Action>) {
        self.workers[worker] = Worker::Running { pid };
        match &self.state {
            State::Running => self.start_next(actions),
            // The decision to stop fell while this one was being started, so it missed the SIGTERM.
            State::Saving { .. } | State::Stopping { .. } | State::Idle { .. } | State::Waiting { .. } => {
                self.kill(actions);
            }
            State::Done => {}
        }
    }

    fn on_child_exited(
        &mut self,
        now: Duration,
        pid: Pid,
        reason: ExitReason,
        traces: Traces,
        actions: &mut Vec<Action>,
    ) {
        let index = match self.member_of(pid) {
            Some(Member::Worker(index)) => index,
            Some(Member::Sidecar(index)) => {
                if let Status::Running { since, .. } = self.sidecars[index].status {
                    self.on_sidecar_exited(now, index, since, reason, traces, actions);
                }
                return;
            }
            // An orphan: that it was reaped is all there is to it, unless the sidecars wait for it.
            None => return self.look_for_others(actions),
        };
        self.workers[index] = Worker::Ended;
        match &self.state {
            State::Running => {}
            State::Saving { .. } => return self.stop_if_saved(now, actions),
            State::Stopping { .. } | State::Idle { .. } | State::Waiting { .. } | State::Done => {
                return self.look_for_others(actions);
            }
        }
        if let Mode::Plain { .. } = self.setup.mode {
            let conclusion = Conclusion { code: reason.code(), verdict: None };
            return self.begin_stopping(Outcome::Leaving(conclusion), actions);
        }
        match reason {
            ExitReason::Code(0) if self.workers.iter().all(|worker| *worker == Worker::Ended) => {
                actions.push(Action::Tell(NodeMessage::Finished { attempt: self.attempt }));
                // What the workers left behind is of no use to anybody.
                self.begin_stopping(
                    match self.setup.attempts {
                        Attempts::One => Outcome::Succeeded,
                        Attempts::Several => Outcome::Attempt(Ended::Succeeded),
                    },
                    actions,
                );
            }
            ExitReason::Code(0) => {}
            ExitReason::Code(code) => {
                let cause = Cause::WorkerExited { code };
                self.on_worker_failed(now, index, cause, reason.code(), traces, actions);
            }
            ExitReason::Signal(number) => {
                let signal = Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name);
                let cause = Cause::WorkerKilled { signal };
                self.on_worker_failed(now, index, cause, reason.code(), traces, actions);
            }
        }
    }

    fn on_signal(&mut self, now: Duration, signal: Signal, actions: &mut Vec<Action>) {
        let is_stop = signal == Signal::TERM || signal == Signal::INT;
        let target = match self.setup.mode {
            Mode::Plain { target } => target,
            Mode::Job { .. } => Target::Group,
        };
        let is_plain = matches!(self.setup.mode, Mode::Plain { .. });
        match (is_stop, is_plain, &self.state) {
            // A plain init hands on everything, as long as there is somebody to hand it to.
            (_, true, State::Running) | (false, _, _) => {
                actions.extend(self.running().map(|(_, pid)| Action::Signal { pid, target, signal }));
            }
            (true, true, _) => self.kill(actions),
            (true, false, _) => {
                self.stop_signals += 1;
                if let (Signal::TERM, Some(preemption)) = (signal, self.setup.preemption)
                    && self.may_be_preempted()
                {
                    return self.on_preempted(now, signal, preemption, actions);
                }
                let urgency = if self.stop_signals > 1 { Urgency::Now } else { Urgency::Orderly };
                self.stop(now, signal, signal.name(), urgency, actions);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, actions: &mut Vec<Action>) {
        match (timer, &self.state) {
            (Timer::Restart { sidecar }, _) => self.on_restart_timer(sidecar, actions),
            (Timer::Release, State::Waiting { outcome: Outcome::Failed(failure) }) => {
                let conclusion = Conclusion::of(failure.clone());
                self.exit(conclusion, actions);
            }
            // Left over from a state that is past.
            (Timer::Release, _) => {}
            (Timer::Grace | Timer::Linger | Timer::LastCall | Timer::KillAgain | Timer::GiveUp, _) => {
                self.on_teardown_timer(timer, actions);
            }
        }
    }

    fn elapsed(&self, now: Duration) -> Duration {
        self.begun_at.map_or(Duration::ZERO, |begun_at| now.saturating_sub(begun_at))
    }
}
