//! One node: its workers and what it owes its leader. See the parent module for the states.

use std::time::Duration;

use tractorun_contract::exit::{ExitReason, InitExit};
use tractorun_contract::failure::{Cause, Failure};
use tractorun_sys::{Pid, Signal};

use super::{Action, Announcement, Conclusion, Event, Identity, Target, Timer};
use crate::control::{LeaderMessage, NodeMessage};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Between two rounds of SIGKILL: a killed process needs some milliseconds to be gone.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long SIGKILL is repeated. Only processes in an uninterruptible system call outlive it, and waiting
/// longer would make the leader wait in vain: it gives every node five seconds more than its grace period.
const KILL_LIMIT: Duration = Duration::from_secs(4);

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
    state: State,
    /// When the first worker was to be started.
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

/// How far the end of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teardown {
    /// SIGTERM was sent.
    Terminating,
    /// SIGKILL was sent.
    Killing,
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
        Self { setup, workers, state: State::Running, begun_at: None, stop_signals: 0 }
    }

    /// Takes what happened and pushes what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Done) {
            return;
        }
        match event {
            Event::Begun => {
                self.begun_at = Some(now);
                actions.push(Action::Spawn { worker: 0 });
            }
            Event::Spawned { worker, pid } => self.on_spawned(worker, pid, actions),
            Event::SpawnFailed { worker, reason, exit_code } => {
                self.workers[worker] = Worker::Ended;
                self.fail(
                    now,
                    Some(worker),
                    Cause::WorkerNotStarted { reason },
                    exit_code,
                    Vec::new(),
                    actions,
                );
            }
            Event::ChildExited { pid, reason, stderr_tail } => {
                self.on_child_exited(now, pid, reason, stderr_tail, actions);
            }
            Event::TreeEmpty => self.on_tree_empty(actions),
            Event::SignalReceived(signal) => self.on_signal(now, signal, actions),
            Event::LifelineEnded => self.stop(now, Signal::TERM, Urgency::Orderly, actions),
            Event::GuardLost => self.on_guard_lost(now, actions),
            Event::TimerFired(timer) => self.on_timer(timer, actions),
            Event::Told(LeaderMessage::Heartbeat) => {}
            Event::Told(LeaderMessage::Stop(verdict)) => self.on_verdict(verdict, actions),
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

    fn on_spawned(&mut self, worker: usize, pid: Pid, actions: &mut Vec<Action>) {
        self.workers[worker] = Worker::Running { pid };
        match &mut self.state {
            State::Running => match self.workers.iter().position(|worker| *worker == Worker::NotStarted) {
                Some(next) => actions.push(Action::Spawn { worker: next }),
                None => actions.push(Action::Announce(Announcement::WorkersStarted)),
            },
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
        let Some(index) = self.workers.iter().position(|worker| *worker == Worker::Running { pid }) else {
            return; // an orphan: that it was reaped is all there is to it
        };
        self.workers[index] = Worker::Ended;
        if !matches!(self.state, State::Running) {
            return;
        }
        if let Mode::Plain { .. } = self.setup.mode {
            let conclusion = Conclusion { code: reason.code(), verdict: None };
            return self.begin_stopping(Outcome::Leaving(conclusion), actions);
        }
        match reason {
            ExitReason::Code(0) if self.workers.iter().all(|worker| *worker == Worker::Ended) => {
                actions.push(Action::Tell(NodeMessage::Finished));
                // What the workers left behind is of no use to anybody.
                self.begin_stopping(Outcome::Succeeded, actions);
            }
            ExitReason::Code(0) => {}
            ExitReason::Code(code) => {
                self.fail(
                    now,
                    Some(index),
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
                    Some(index),
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
                self.stop(now, signal, urgency, actions);
            }
        }
    }

    /// Somebody outside wants the run to end.
    fn stop(&mut self, now: Duration, signal: Signal, urgency: Urgency, actions: &mut Vec<Action>) {
        match &self.state {
            State::Running
            | State::Stopping { outcome: Outcome::Succeeded, .. }
            | State::Waiting { outcome: Outcome::Succeeded } => {
                let code = ExitReason::Signal(signal.number()).code();
                self.fail(now, None, Cause::Stopped { signal: signal.name() }, code, Vec::new(), actions);
            }
            State::Stopping { teardown: Teardown::Terminating, .. } if urgency == Urgency::Now => {
                self.kill(actions);
            }
            State::Waiting { outcome: Outcome::Failed(failure) } if urgency == Urgency::Now => {
                let conclusion = Conclusion::of(failure.clone());
                self.exit(conclusion, actions);
            }
            State::Stopping { .. } | State::Waiting { .. } | State::Done => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, actions: &mut Vec<Action>) {
        match (timer, &self.state) {
            (Timer::Grace, State::Stopping { teardown: Teardown::Terminating, .. }) => self.kill(actions),
            (Timer::KillAgain, State::Stopping { teardown: Teardown::Killing, .. }) => {
                kill_round(actions);
            }
            (Timer::GiveUp, State::Stopping { teardown: Teardown::Killing, .. }) => {
                actions.push(Action::Announce(Announcement::GaveUp));
                self.on_tree_empty(actions);
            }
            (Timer::Release, State::Waiting { outcome: Outcome::Failed(failure) }) => {
                let conclusion = Conclusion::of(failure.clone());
                self.exit(conclusion, actions);
            }
            // Left over from a state that is past.
            (Timer::Grace | Timer::KillAgain | Timer::GiveUp | Timer::Release, _) => {}
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
                self.state = State::Stopping { teardown: Teardown::Terminating, outcome };
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
        worker: Option<usize>,
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
        let started = !matches!(cause, Cause::WorkerNotStarted { .. });
        let elapsed = if started { self.elapsed(now) } else { Duration::ZERO };
        let mut failure = own.failure(cause, exit_code, elapsed);
        failure.rank = worker.map(|index| self.setup.ranks[index]);
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

    fn begin_stopping(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.state = State::Stopping { teardown: Teardown::Terminating, outcome };
        actions.push(Action::SignalTree(Signal::TERM));
        actions.push(Action::StartTimer { timer: Timer::Grace, after: self.setup.grace_period });
        // Often nobody is left, and then no SIGCHLD will come to say so.
        actions.push(Action::LookAtTree);
    }

    /// No more grace.
    fn kill(&mut self, actions: &mut Vec<Action>) {
        let (State::Stopping { teardown: Teardown::Terminating, outcome } | State::Waiting { outcome }) =
            &self.state
        else {
            return;
        };
        let outcome = outcome.clone();
        self.state = State::Stopping { teardown: Teardown::Killing, outcome };
        actions.push(Action::StartTimer { timer: Timer::GiveUp, after: KILL_LIMIT });
        kill_round(actions);
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

/// One round of SIGKILL.
fn kill_round(actions: &mut Vec<Action>) {
    actions.push(Action::KillTree);
    actions.push(Action::StartTimer { timer: Timer::KillAgain, after: KILL_AGAIN });
    actions.push(Action::LookAtTree);
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
        }
    }
}
