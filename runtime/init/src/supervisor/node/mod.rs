//! One node: its workers, its sidecars (`sidecars`) and what it owes its leader. See the parent module for the
//! states, `teardown` for how the tree is ended.

use std::time::Duration;

use tractorun_contract::exit::{ExitReason, InitExit};
use tractorun_contract::failure::{Cause, Failure, Fates, STOP_REQUEST};
use tractorun_contract::job_spec::RestartPolicy;
use tractorun_sys::{Pid, Signal};

use self::teardown::Teardown;
use super::{Action, Announcement, Conclusion, Event, Identity, Member, Target, Timer};
use crate::control::{LeaderMessage, NodeMessage};

pub use self::sidecars::{Sidecar, Status};

#[cfg(test)]
mod model;
#[cfg(test)]
mod sidecar_tests;
mod sidecars;
mod teardown;
#[cfg(test)]
mod tests;

/// How much longer than its grace period a stopped node waits to be released. The leader needs the grace period
/// of the slowest node and [`super::leader::STOP_MARGIN`]; a leader that says nothing at all is noticed by its
/// heartbeats, so this is the last resort.
const RELEASE_MARGIN: Duration = Duration::from_secs(15);

/// What a node is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Job or plain init.
    pub mode: Mode,
    /// Global ranks of the workers, by local rank; one of them in plain-init mode, its rank without meaning.
    pub ranks: Vec<u32>,
    /// Policies of the sidecars, in the order they are started; none in plain-init mode.
    pub sidecars: Vec<RestartPolicy>,
    /// From SIGTERM to SIGKILL.
    pub grace_period: Duration,
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
    /// When the first process was to be started.
    begun_at: Option<Duration>,
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
    /// The tree is being ended.
    Stopping { teardown: Teardown, outcome: Outcome },
    /// The tree is dead; the leader decides when to leave.
    Waiting { outcome: Outcome },
    /// `Exit` was pushed.
    Done,
}

/// What follows when the tree is dead.
#[derive(Debug, Clone)]
enum Outcome {
    /// All workers exited with 0 and the leader knows; wait for the others.
    Succeeded,
    /// Somebody failed: say `Stopped`, wait to be released.
    Failed(Failure),
    /// Exit at once.
    Leaving(Conclusion),
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
        let sidecars = setup.sidecars.iter().map(|policy| Sidecar::new(*policy)).collect();
        Self { setup, workers, sidecars, state: State::Running, begun_at: None, stop_signals: 0 }
    }

    /// Takes what happened and pushes what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Done) {
            return;
        }
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
                let cause = Cause::WorkerNotStarted { reason };
                self.fail(now, Culprit::Worker(worker), cause, exit_code, Vec::new(), actions);
            }
            Event::SpawnFailed { member: Member::Sidecar(sidecar), reason, exit_code } => {
                self.on_sidecar_not_started(now, sidecar, reason, exit_code, actions);
            }
            Event::ChildExited { pid, reason, stderr_tail } => {
                self.on_child_exited(now, pid, reason, stderr_tail, actions);
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
            // The leader does not ask for restarts yet.
            Event::Told(
                LeaderMessage::Heartbeat | LeaderMessage::StopAttempt(_) | LeaderMessage::Begin { .. },
            ) => {}
            Event::Told(LeaderMessage::Stop { verdict, manner: _ }) => self.on_verdict(verdict, actions),
            Event::Told(LeaderMessage::Release { exit_code }) => self.on_release(exit_code, actions),
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
            State::Stopping { .. } | State::Waiting { .. } => self.kill(actions),
            State::Done => {}
        }
    }

    fn on_child_exited(
        &mut self,
        now: Duration,
        pid: Pid,
        reason: ExitReason,
        stderr_tail: Vec<String>,
        actions: &mut Vec<Action>,
    ) {
        let index = match self.member_of(pid) {
            Some(Member::Worker(index)) => index,
            Some(Member::Sidecar(index)) => {
                if let Status::Running { since, .. } = self.sidecars[index].status {
                    self.on_sidecar_exited(now, index, since, reason, stderr_tail, actions);
                }
                return;
            }
            // An orphan: that it was reaped is all there is to it, unless the sidecars wait for it.
            None => return self.look_for_others(actions),
        };
        self.workers[index] = Worker::Ended;
        if !matches!(self.state, State::Running) {
            return self.look_for_others(actions);
        }
        if let Mode::Plain { .. } = self.setup.mode {
            let conclusion = Conclusion { code: reason.code(), verdict: None };
            return self.begin_stopping(Outcome::Leaving(conclusion), actions);
        }
        match reason {
            ExitReason::Code(0) if self.workers.iter().all(|worker| *worker == Worker::Ended) => {
                actions.push(Action::Tell(NodeMessage::Finished { attempt: 0 }));
                // What the workers left behind is of no use to anybody.
                self.begin_stopping(Outcome::Succeeded, actions);
            }
            ExitReason::Code(0) => {}
            ExitReason::Code(code) => {
                self.fail(
                    now,
                    Culprit::Worker(index),
                    Cause::WorkerExited { code },
                    reason.code(),
                    stderr_tail,
                    actions,
                );
            }
            ExitReason::Signal(number) => {
                let signal = Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name);
                self.fail(
                    now,
                    Culprit::Worker(index),
                    Cause::WorkerKilled { signal },
                    reason.code(),
                    stderr_tail,
                    actions,
                );
            }
        }
    }

    fn on_tree_empty(&mut self, actions: &mut Vec<Action>) {
        let State::Stopping { outcome, .. } = &self.state else { return };
        match outcome.clone() {
            Outcome::Leaving(conclusion) => self.exit(conclusion, actions),
            Outcome::Succeeded => self.state = State::Waiting { outcome: Outcome::Succeeded },
            Outcome::Failed(failure) => self.wait_for_release(failure, actions),
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
                let urgency = if self.stop_signals > 1 { Urgency::Now } else { Urgency::Orderly };
                self.stop(now, signal, signal.name(), urgency, actions);
            }
        }
    }

    /// Somebody outside wants the run to end: by this signal, or as if by it.
    fn stop(
        &mut self,
        now: Duration,
        signal: Signal,
        by: String,
        urgency: Urgency,
        actions: &mut Vec<Action>,
    ) {
        match &self.state {
            State::Running
            | State::Stopping { outcome: Outcome::Succeeded, .. }
            | State::Waiting { outcome: Outcome::Succeeded } => {
                let code = ExitReason::Signal(signal.number()).code();
                self.fail(now, Culprit::Node, Cause::Stopped { signal: by }, code, Vec::new(), actions);
            }
            State::Stopping { .. } if urgency == Urgency::Now => self.kill(actions),
            State::Waiting { outcome: Outcome::Failed(failure) } if urgency == Urgency::Now => {
                let conclusion = Conclusion::of(failure.clone());
                self.exit(conclusion, actions);
            }
            State::Stopping { .. } | State::Waiting { .. } | State::Done => {}
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
            (Timer::Grace | Timer::LastCall | Timer::KillAgain | Timer::GiveUp, _) => {
                self.on_teardown_timer(timer, actions);
            }
        }
    }

    /// The leader decided the run.
    fn on_verdict(&mut self, verdict: Failure, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Running => {
                actions.push(Action::Announce(Announcement::Stopping(verdict.clone())));
                self.begin_stopping(Outcome::Failed(verdict), actions);
            }
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => {}
            State::Stopping { outcome, .. } => *outcome = Outcome::Failed(verdict),
            State::Waiting { outcome: Outcome::Failed(known) } => *known = verdict,
            State::Waiting { .. } => self.wait_for_release(verdict, actions),
        }
    }

    fn on_release(&mut self, code: u8, actions: &mut Vec<Action>) {
        let verdict = match &self.state {
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => return,
            State::Stopping { outcome: Outcome::Failed(failure), .. }
            | State::Waiting { outcome: Outcome::Failed(failure) } => Some(failure.clone()),
            State::Running | State::Stopping { .. } | State::Waiting { .. } => None,
        };
        self.leave(Conclusion { code, verdict }, actions);
    }

    fn on_link_lost(&mut self, now: Duration, reason: String, actions: &mut Vec<Action>) {
        let failure = match &self.state {
            State::Stopping { outcome: Outcome::Leaving(_), .. } | State::Done => return,
            State::Stopping { outcome: Outcome::Failed(failure), .. }
            | State::Waiting { outcome: Outcome::Failed(failure) } => failure.clone(),
            State::Running | State::Stopping { .. } | State::Waiting { .. } => {
                // Only jobs have links, and their setup names the leader.
                let Mode::Job { leader, .. } = &self.setup.mode else { return };
                let code = InitExit::LostNode.code();
                leader.failure(Cause::NodeLost { reason }, code, self.elapsed(now))
            }
        };
        if matches!(self.state, State::Running) {
            actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
        }
        self.leave(Conclusion::of(failure), actions);
    }

    /// SIGKILL was meant for this process: the tree goes at once and the leader is told nothing.
    fn on_guard_lost(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let code = ExitReason::Signal(Signal::KILL.number()).code();
        let verdict = match &self.setup.mode {
            Mode::Job { own, .. } => {
                let cause = Cause::Stopped { signal: Signal::KILL.name() };
                Some(own.failure(cause, code, self.elapsed(now)))
            }
            Mode::Plain { .. } => None,
        };
        let conclusion = Conclusion { code, verdict };
        match &mut self.state {
            // Without a SIGTERM before: that was not what was meant.
            State::Running => {
                let outcome = Outcome::Leaving(conclusion);
                self.state = State::Stopping { teardown: Teardown::Everybody, outcome };
            }
            State::Stopping { outcome, .. } => *outcome = Outcome::Leaving(conclusion),
            State::Waiting { .. } => return self.exit(conclusion, actions),
            State::Done => {}
        }
        self.kill(actions);
    }

    /// Something on this node failed: the leader is told, the tree is ended.
    fn fail(
        &mut self,
        now: Duration,
        culprit: Culprit,
        cause: Cause,
        exit_code: u8,
        stderr_tail: Vec<String>,
        actions: &mut Vec<Action>,
    ) {
        let own = match &self.setup.mode {
            Mode::Job { own, .. } => own,
            Mode::Plain { .. } => {
                let conclusion = Conclusion { code: exit_code, verdict: None };
                return self.begin_stopping(Outcome::Leaving(conclusion), actions);
            }
        };
        // What did not start has no time to have run for.
        let started = !matches!(cause, Cause::WorkerNotStarted { .. } | Cause::SidecarNotStarted { .. });
        let elapsed = if started { self.elapsed(now) } else { Duration::ZERO };
        let mut failure = own.failure(cause, exit_code, elapsed);
        failure.rank = match culprit {
            Culprit::Worker(index) => Some(self.setup.ranks[index]),
            Culprit::Node => None,
        };
        failure.stderr_tail = stderr_tail;
        actions.push(Action::Tell(NodeMessage::Failed(failure.clone())));
        actions.push(Action::Announce(Announcement::Stopping(failure.clone())));
        match &mut self.state {
            State::Running => self.begin_stopping(Outcome::Failed(failure), actions),
            State::Stopping { outcome, .. } => *outcome = Outcome::Failed(failure),
            State::Waiting { .. } => self.wait_for_release(failure, actions),
            State::Done => {}
        }
    }

    /// Leaves as soon as nobody of the tree is alive.
    fn leave(&mut self, conclusion: Conclusion, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Running => self.begin_stopping(Outcome::Leaving(conclusion), actions),
            State::Stopping { outcome, .. } => *outcome = Outcome::Leaving(conclusion),
            State::Waiting { .. } => self.exit(conclusion, actions),
            State::Done => {}
        }
    }

    fn wait_for_release(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        self.state = State::Waiting { outcome: Outcome::Failed(failure) };
        actions.push(Action::Tell(NodeMessage::Stopped));
        let after = self.setup.grace_period + RELEASE_MARGIN;
        actions.push(Action::StartTimer { timer: Timer::Release, after });
    }

    fn exit(&mut self, conclusion: Conclusion, actions: &mut Vec<Action>) {
        self.state = State::Done;
        actions.push(Action::Exit(conclusion));
    }

    fn elapsed(&self, now: Duration) -> Duration {
        self.begun_at.map_or(Duration::ZERO, |begun_at| now.saturating_sub(begun_at))
    }
}

// === impl Conclusion ===

impl Conclusion {
    /// The end that a failure leads to.
    fn of(failure: Failure) -> Self {
        Self { code: failure.exit_code, verdict: Some(failure) }
    }
}

// === impl Identity ===

impl Identity {
    /// A failure of this node, not (yet) of one of its workers.
    pub(super) fn failure(&self, cause: Cause, exit_code: u8, elapsed: Duration) -> Failure {
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
