//! The driver: the one loop that waits, and that does what the supervisor core decides.
//!
//! Owns everything that touches the world: signals, the one reaper, timers, the ends of the control channel, the
//! pump, the spawning. Decides nothing: every event goes to [`Node::step`] or [`Leader::step`], every action
//! comes from there. Nothing else in this process calls `waitpid`.

mod announce;
mod clock;
mod drain;
mod job;
mod lifeline;
mod names;
mod plain;
mod signals;
mod timers;

use std::io;
use std::time::Duration;

use tracing::{debug, error, info, warn};
use tractorun_contract::exit::ExitReason as ContractExit;
use tractorun_contract::failure::OutOfMemory;
use tractorun_sys::reap::{Reaped, reap_any};
use tractorun_sys::spawn::{Command, spawn};
use tractorun_sys::{ExitReason, Pid, Signal, signal, tree};

use self::drain::Draining;
use self::signals::Signals;
use self::timers::Timers;
use crate::control::{Hub, HubEvent, Link, LinkEvent, NodeMessage};
use crate::logs::Outcome;
use crate::metrics::{Monitor, Questions};
use crate::oom::OomWatch;
use crate::output::Pump;
use crate::rendezvous::StopRequest;
use crate::supervisor::{
    Action, Conclusion, Event, Leader, LeaderAction, LeaderEvent, Member, Node, Sidecar, Target, Timer,
    Traces,
};

pub use clock::Clock;
pub use job::{Lines, run_job};
pub use lifeline::{GuardLine, Lifeline};
pub use plain::{PlainCommand, run_plain};

/// Everything a running node consists of.
struct Driver {
    clock: Clock,
    node: Node,
    starter: Box<dyn Starter>,
    pump: Pump,
    signals: Signals,
    lifeline: Lifeline,
    guard: GuardLine,
    timers: Timers<AnyTimer>,
    link: Option<Link>,
    leadership: Option<Leadership>,
    stop_requested: Option<StopRequest>,
    /// Asked for by [`Action::LookForOthers`]: done once per round of reaping, since it reads all of `/proc`.
    others_but: Option<Vec<Pid>>,
    /// Of the attempt that runs.
    oom: OomWatch,
    /// Whether we have killed any of the attempt.
    killer: Killer,
    reaping: Reaping,
    conclusion: Option<Conclusion>,
    monitor: Monitor,
    questions: Questions,
    draining: Draining,
}

/// What node 0 has besides.
struct Leadership {
    leader: Leader,
    hub: Hub,
}

/// How a worker or sidecar is started.
trait Starter {
    /// The command of this member, its streams open.
    fn command(&mut self, member: Member, attempt: u32, pump: &mut Pump) -> io::Result<Command>;

    /// Tells the workers when they will be killed, from now.
    fn publish_deadline(&mut self, after: Duration) -> io::Result<()>;
}

/// Whether [`Driver::reap`] is at work further up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaping {
    No,
    Once,
    /// It is, and somebody wants another look.
    Again,
}

/// Who may have sent a SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killer {
    /// This init: it has begun to kill what is left.
    Us,
    /// Not this init.
    Others,
}

/// Who is left when all that ended are reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Some,
    Nobody,
}

/// Timers of the node and of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnyTimer {
    Node(Timer),
    Leader,
}

/// What the loop waits for.
enum Input {
    Signals(io::Result<Vec<Signal>>),
    Timer(AnyTimer),
    Link(Option<LinkEvent>),
    Hub(Option<HubEvent>),
    StopRequested,
    Lifeline,
    GuardLost,
    Answered,
    Drained(Option<Outcome>),
    Pumped,
}

// === impl Driver ===

impl Driver {
    /// Runs the node to its end; `stop` is a signal that came just before its beginning.
    async fn run(&mut self, stop: Option<Signal>) -> Conclusion {
        self.feed(Event::Begun);
        if let Some(signal) = stop {
            self.feed(Event::SignalReceived(signal));
        }
        loop {
            if let Some(conclusion) = self.conclusion.take() {
                return conclusion;
            }
            // In this order, since what is first in the list wins when several are ready: children that ended
            // are causes, messages from others may be effects of the same, output only follows.
            let input = tokio::select! {
                biased;
                signals = self.signals.next() => Input::Signals(signals),
                timer = self.timers.next() => Input::Timer(timer),
                event = next_of(self.link.as_mut().map(|link| &mut link.inbox)) => Input::Link(event),
                event = next_of(self.leadership.as_mut().map(|own| &mut own.hub.events)) => Input::Hub(event),
                () = requested(&mut self.stop_requested) => Input::StopRequested,
                () = self.lifeline.end() => Input::Lifeline,
                () = self.guard.end() => Input::GuardLost,
                // Before the output, which may never end.
                () = self.questions.answer() => Input::Answered,
                outcome = self.draining.done() => Input::Drained(outcome),
                () = self.pump.pump() => Input::Pumped,
            };
            self.take(input);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Signals(Ok(signals)) => {
                for signal in signals {
                    if signal == Signal::CHLD {
                        self.reap();
                    } else {
                        self.feed(Event::SignalReceived(signal));
                    }
                }
            }
            // The self-pipe cannot break while its writing end lives in the same process.
            Input::Signals(Err(error)) => error!("cannot read signals: {error}"),
            Input::Timer(AnyTimer::Node(timer)) => self.feed(Event::TimerFired(timer)),
            Input::Timer(AnyTimer::Leader) => self.feed_leader(LeaderEvent::TimerFired),
            Input::Link(Some(LinkEvent::Message(message))) => self.feed(Event::Told(message)),
            Input::Link(Some(LinkEvent::Lost { reason })) => self.on_link_lost(reason),
            Input::Link(None) => self.on_link_lost("the control channel's task is gone".to_owned()),
            Input::Hub(Some(HubEvent::Message { node_rank, message })) => {
                self.feed_leader(LeaderEvent::Told { node_rank, message });
            }
            Input::Hub(Some(HubEvent::Lost { node_rank, reason })) => {
                self.feed_leader(LeaderEvent::Lost { node_rank, reason });
            }
            Input::Hub(Some(HubEvent::FailurePublished)) => self.feed_leader(LeaderEvent::FailurePublished),
            // The node's own link tells the same.
            Input::Hub(None) => self.leadership = None,
            Input::StopRequested => {
                self.stop_requested = None;
                info!("asked to stop the run");
                self.feed(Event::StopRequested);
            }
            Input::Lifeline => self.feed(Event::LifelineEnded),
            Input::GuardLost => self.feed(Event::GuardLost),
            Input::Drained(outcome) => {
                if let Some(message) = self.draining.on_done(outcome) {
                    self.tell(message);
                }
            }
            Input::Answered | Input::Pumped => {}
        }
    }

    fn on_link_lost(&mut self, reason: String) {
        self.link = None;
        self.feed(Event::LinkLost { reason });
    }

    /// Gives the node an event and does what it wants.
    fn feed(&mut self, event: Event) {
        if self.conclusion.is_some() {
            return;
        }
        debug!(?event);
        self.monitor.note_event(&event);
        let mut actions = Vec::new();
        self.node.step(self.clock.now(), event, &mut actions);
        for action in actions {
            debug!(?action);
            self.monitor.note_action(&action);
            self.perform(action);
        }
    }

    fn feed_leader(&mut self, event: LeaderEvent) {
        let Some(leadership) = &mut self.leadership else { return };
        debug!(?event, "leader");
        let mut actions = Vec::new();
        leadership.leader.step(self.clock.now(), event, &mut actions);
        for action in actions {
            debug!(?action, "leader");
            match action {
                LeaderAction::StartTimer { after } => self.timers.start(AnyTimer::Leader, after),
                // If the hub is gone so is our own link, which ends the node.
                LeaderAction::Command(command) => drop(leadership.hub.commands.send(command)),
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(member) => {
                let answer = self.spawn(member);
                self.feed(answer);
            }
            Action::Signal { pid, target, signal } => {
                let result = match target {
                    Target::Process => signal::send(pid, signal),
                    Target::Group => signal::send_group(pid, signal),
                };
                if let Err(error) = result {
                    debug!("cannot send {signal} to {pid}: {error}");
                }
            }
            Action::SignalTree { signal, spared } => {
                self.signal_tree(signal, &spared);
                // Who is stopped could do nothing about it, grace or not.
                self.signal_tree(Signal::CONT, &spared);
            }
            Action::SignalBranch { root, signal } => {
                tree::signal_branch(root, signal);
                tree::signal_branch(root, Signal::CONT);
            }
            Action::KillTree => {
                self.killer = Killer::Us;
                if let Err(error) = tree::kill_descendants() {
                    debug!("cannot see the process tree: {error}");
                    self.signal_groups(Signal::KILL);
                }
            }
            Action::KillOthers { spared } => {
                self.killer = Killer::Us;
                tree::kill_others(&spared);
            }
            Action::PublishDeadline { after } => {
                if let Err(error) = self.starter.publish_deadline(after) {
                    warn!("cannot tell the workers how long they have: {error}");
                }
            }
            Action::LookAtTree => self.reap(),
            Action::LookForOthers { spared } => self.others_but = Some(spared),
            Action::StartTimer { timer, after } => {
                let after = if timer == Timer::Release { after + self.draining.limit() } else { after };
                self.timers.start(AnyTimer::Node(timer), after);
            }
            // The cluster kills all jobs once one has failed, so lines must be in their tables before the leader
            // hears that it may let everybody go.
            Action::Tell(ref message @ NodeMessage::Stopped { .. })
                if self.draining.hold(message.clone()) =>
            {
                self.pump.finish();
                self.draining.begin();
            }
            Action::Tell(message) => self.tell(message),
            Action::Announce(announcement) => self.announce(&announcement),
            Action::Exit(conclusion) => self.conclusion = Some(conclusion),
        }
    }

    fn tell(&self, message: NodeMessage) {
        if let Some(link) = &self.link {
            // If nobody takes it the link is lost, which comes as an event.
            let _ = link.outbox.send(message);
        }
    }

    fn spawn(&mut self, member: Member) -> Event {
        if member == Member::Worker(0) && self.node.attempt() > 0 {
            // What an earlier attempt lost is not this one's.
            self.oom = OomWatch::start();
            self.killer = Killer::Others;
        }
        let command = match self.starter.command(member, self.node.attempt(), &mut self.pump) {
            Ok(command) => command,
            Err(error) => {
                let reason = format!("cannot prepare its start: {error}");
                return Event::SpawnFailed { member, reason, exit_code: 126 };
            }
        };
        match spawn(&command) {
            Ok(pid) => Event::Spawned { member, pid },
            Err(error) => {
                say_error(&error.to_string());
                if let Some(hint) = error.hint() {
                    say_error(&format!("hint: {hint}"));
                }
                Event::SpawnFailed { member, reason: error.reason(), exit_code: error.exit_code() }
            }
        }
    }

    /// The one reaper: takes every child that has ended.
    fn reap(&mut self) {
        if self.reaping != Reaping::No {
            // What is being told has led here; whoever tells looks again when it is done.
            self.reaping = Reaping::Again;
            return;
        }
        loop {
            self.reaping = Reaping::Once;
            // All before the first is told of: what that leads to cannot have ended the others.
            let (ended, rest) = self.take_ended();
            let has_news = !ended.is_empty();
            for event in ended {
                self.feed(event);
            }
            if has_news {
                continue;
            }
            match rest {
                Ok(Rest::Some) => self.look_for_others(),
                Ok(Rest::Nobody) => {
                    self.others_but = None;
                    self.feed(Event::TreeEmpty);
                }
                Err(error) => error!("cannot reap: {error}"),
            }
            if self.reaping == Reaping::Once {
                self.reaping = Reaping::No;
                return;
            }
        }
    }

    /// Reaps all that have ended; says whether anybody is left.
    fn take_ended(&mut self) -> (Vec<Event>, io::Result<Rest>) {
        let mut ended = Vec::new();
        loop {
            let (pid, reason) = match reap_any() {
                Ok(Reaped::Child(pid, reason)) => (pid, reason),
                Ok(Reaped::NoneEnded) => return (ended, Ok(Rest::Some)),
                Ok(Reaped::NoChildren) => return (ended, Ok(Rest::Nobody)),
                Err(error) => return (ended, Err(error)),
            };
            let reaped_at = self.clock.now();
            let oom = self.why_out_of_memory(reaped_at, reason);
            let traces = match self.node.member_of(pid) {
                Some(member) => Traces { stderr_tail: self.pump.drain(member), oom },
                None => Traces::default(),
            };
            ended.push(Event::ChildExited { pid, reason: to_contract(reason), reaped_at, traces });
        }
    }

    /// Whether a process that was reaped just now ended for want of memory. Orphans are asked about too: a kill that
    /// one of them ended by is none of a worker's.
    fn why_out_of_memory(&mut self, now: Duration, end: ExitReason) -> Option<OutOfMemory> {
        // Among the many that we may have to kill nobody is looked for.
        if end == ExitReason::Code(0) || self.killer == Killer::Us {
            return None;
        }
        self.oom.look(now);
        self.oom.explain(now, end)
    }

    fn look_for_others(&mut self) {
        // Twice: of who forks and ends while `/proc` is read neither half may be seen, but then the second look sees
        // the child.
        if let Some(spared) = self.others_but.take()
            && tree::others(&spared).is_empty()
            && tree::others(&spared).is_empty()
        {
            self.feed(Event::OthersGone);
        }
    }

    fn signal_tree(&self, signal: Signal, spared: &[Pid]) {
        if !spared.is_empty() {
            tree::signal_others(spared, signal);
        } else if let Err(error) = tree::signal_descendants(signal) {
            debug!("cannot signal the process tree: {error}");
            self.signal_groups(signal);
        }
    }

    fn signal_groups(&self, signal: Signal) {
        let workers = self.node.running().map(|(_, pid)| pid);
        let sidecars = self.node.sidecars().iter().filter_map(Sidecar::pid);
        for pid in workers.chain(sidecars) {
            // Who is gone by now is no matter.
            let _ = signal::send_group(pid, signal);
        }
    }
}

/// The next of a channel that may not be there.
async fn next_of<T>(channel: Option<&mut tokio::sync::mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}

/// Never, where nobody can ask.
async fn requested(request: &mut Option<StopRequest>) {
    match request {
        Some(StopRequest(request)) => request.await,
        None => std::future::pending().await,
    }
}

/// The kernel's word in the contract's terms.
fn to_contract(reason: ExitReason) -> ContractExit {
    match reason {
        ExitReason::Code(code) => ContractExit::Code(code),
        ExitReason::Signal(signal) => ContractExit::Signal(signal.number()),
    }
}

/// Logs an error that may have several lines, such as one with a hint, line by line.
pub(crate) fn say_error(text: &str) {
    for line in text.lines() {
        error!("{line}");
    }
}
