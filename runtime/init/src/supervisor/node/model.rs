//! Random runs of a node in a small model of the world around it: processes that may ignore SIGTERM and leave
//! orphans, sidecars of every policy, a leader that says anything at any time, attempts of any number, timers that
//! fire in order. `supervisor::job_model` puts several of these worlds and a real leader together.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tractorun_contract::failure::Fates;

use super::testing::numbered;
use super::*;
use crate::control::StopManner;

/// Something the world does by itself.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervisor) enum Happening {
    /// The nth living process ends.
    Exit(usize, u8),
    /// The nth living process has a child, which outlives it.
    Orphan {
        nth: usize,
        stubborn: bool,
    },
    /// SIGCHLD: the driver reaps.
    Reap,
    /// The next timer fires.
    Timer,
    Signal(Signal),
    Lifeline,
    GuardLost,
    Stop(u8, StopManner),
    /// For the node's own attempt plus this.
    StopAttempt(u32),
    Begin(u32),
    Release(u8),
    LinkLost,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    /// The sidecar that it descends from, or is.
    branch: Option<Pid>,
    stubborn: bool,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Living,
    Ended(ExitReason),
    Reaped,
}

/// What the node has asked for so far of the end of its tree.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stopping {
    No,
    /// The workers, then (unless another attempt follows) the sidecars one by one.
    InOrder,
    /// The last call has come, or SIGKILL.
    All,
}

pub(in crate::supervisor) struct World {
    pub(in crate::supervisor) node: Node,
    pub(in crate::supervisor) now: Duration,
    pub(in crate::supervisor) timers: BTreeMap<Timer, Duration>,
    processes: Vec<Process>,
    /// Per worker: whether its start fails and whether it ignores SIGTERM.
    workers: Vec<(bool, bool)>,
    /// The same per sidecar.
    sidecars: Vec<(bool, bool)>,
    spawned: Vec<(u32, usize)>,
    stopping: Stopping,
    /// Times that the tree was sent SIGTERM.
    ends: u32,
    /// Whether it was a sidecar's turn to be stopped: from then on there is no way back.
    sidecars_told: bool,
    deadlines: u32,
    pub(in crate::supervisor) told: Vec<NodeMessage>,
    released_with_0: bool,
    pub(in crate::supervisor) gave_up: bool,
    pub(in crate::supervisor) conclusion: Option<Conclusion>,
}

impl World {
    pub(in crate::supervisor) fn new(
        mode: Mode,
        rules: (Attempts, Option<Preemption>),
        workers: Vec<(bool, bool)>,
        sidecars: Vec<SidecarCase>,
    ) -> Self {
        let node_rank = match &mode {
            Mode::Job { own, .. } => own.node_rank,
            Mode::Plain { .. } => 0,
        };
        let first = node_rank * u32::try_from(workers.len()).unwrap();
        let ranks = (first..).take(workers.len()).collect();
        let policies: Vec<_> = sidecars.iter().map(|sidecar| sidecar.0).collect();
        let (attempts, preemption) = rules;
        let grace_period = Duration::from_secs(10);
        let setup = Setup { mode, ranks, sidecars: numbered(&policies), grace_period, attempts, preemption };
        let node = Node::new(setup);
        let mut world = Self {
            node,
            now: Duration::ZERO,
            timers: BTreeMap::new(),
            processes: Vec::new(),
            workers,
            sidecars: sidecars.into_iter().map(|(_, fails, stubborn)| (fails, stubborn)).collect(),
            spawned: Vec::new(),
            stopping: Stopping::No,
            ends: 0,
            sidecars_told: false,
            deadlines: 0,
            told: Vec::new(),
            released_with_0: false,
            gave_up: false,
            conclusion: None,
        };
        world.feed(Event::Begun);
        world
    }

    /// Gives the node an event and does what it wants, as the driver would.
    pub(in crate::supervisor) fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.node.step(self.now, event, &mut actions);
        for action in actions {
            assert_eq!(self.conclusion, None, "{action:?} after the exit");
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(member) => self.spawn(member),
            Action::Signal { pid, signal, .. } => self.assert_not_reaped(pid, signal),
            Action::SignalTree { signal, spared } => {
                self.ends += 1;
                let several = u32::from(self.node.setup.attempts == Attempts::Several);
                assert!(self.ends <= self.node.attempt + 1 + several, "SIGTERM is for once");
                if self.stopping == Stopping::No {
                    self.stopping = Stopping::InOrder;
                }
                self.send(signal, |process| process.branch.is_none_or(|branch| !spared.contains(&branch)));
            }
            Action::SignalBranch { root, signal } => {
                self.assert_not_reaped(root, signal);
                self.sidecars_told = true;
                if self.stopping == Stopping::InOrder {
                    self.assert_turn_of(root);
                }
                self.send(signal, |process| process.branch == Some(root));
            }
            Action::LookForOthers { spared } => {
                let is_other =
                    |process: &Process| process.branch.is_none_or(|branch| !spared.contains(&branch));
                if !self.processes.iter().any(|process| process.life == Life::Living && is_other(process)) {
                    self.feed(Event::OthersGone);
                }
            }
            Action::KillTree => {
                self.stopping = Stopping::All;
                for process in &mut self.processes {
                    if process.life == Life::Living {
                        process.life = Life::Ended(ExitReason::Signal(9));
                    }
                }
            }
            Action::KillOthers { spared } => {
                for process in &mut self.processes {
                    if process.life == Life::Living
                        && process.branch.is_none_or(|branch| !spared.contains(&branch))
                    {
                        process.life = Life::Ended(ExitReason::Signal(9));
                    }
                }
            }
            Action::PublishDeadline { .. } => {
                self.deadlines += 1;
                assert_eq!(self.deadlines, 1, "one deadline");
            }
            Action::LookAtTree => self.reap(),
            Action::StartTimer { timer, after } => {
                self.timers.insert(timer, self.now + after);
            }
            Action::Tell(message) => self.told.push(message),
            Action::Announce(Announcement::Restarting { attempt }) => self.assert_fresh(attempt),
            Action::Announce(announcement) => self.gave_up |= announcement == Announcement::GaveUp,
            Action::Exit(conclusion) => {
                let reaped = self.processes.iter().all(|process| process.life == Life::Reaped);
                assert!(reaped || self.gave_up, "exit with processes left: {:?}", self.processes);
                self.conclusion = Some(conclusion);
            }
        }
    }

    fn spawn(&mut self, member: Member) {
        let may_start = match (member, self.node.setup.attempts) {
            (Member::Worker(_), _) | (_, Attempts::One) => self.stopping == Stopping::No,
            (Member::Sidecar(_), Attempts::Several) => !self.sidecars_told,
        };
        assert!(may_start, "{member:?} is started while the node stops");
        let (fails, stubborn) = match member {
            Member::Worker(worker) => {
                let once = (self.node.attempt(), worker);
                assert!(!self.spawned.contains(&once), "worker {worker} is started twice");
                self.spawned.push(once);
                self.workers[worker]
            }
            Member::Sidecar(sidecar) => {
                assert_eq!(self.node.sidecars()[sidecar].pid(), None, "sidecar {sidecar} would run twice");
                self.sidecars[sidecar]
            }
        };
        if fails {
            return self.feed(Event::SpawnFailed { member, reason: "x".into(), exit_code: 127 });
        }
        let pid = self.bear(stubborn, None);
        if let Member::Sidecar(_) = member {
            self.processes.last_mut().unwrap().branch = Some(pid);
        }
        self.feed(Event::Spawned { member, pid });
    }

    /// An attempt begins: nobody of an earlier one is alive, and nobody was told to go that stays.
    fn assert_fresh(&mut self, attempt: u32) {
        assert_eq!(self.node.attempt(), attempt);
        assert!(!self.sidecars_told, "sidecars were stopped");
        assert_eq!(self.living_workers(), 0, "{:?}", self.processes);
        self.stopping = Stopping::No;
    }

    /// Workers and what they left behind.
    pub(in crate::supervisor) fn living_workers(&self) -> usize {
        let is_worker = |process: &&Process| process.branch.is_none() && process.life == Life::Living;
        self.processes.iter().filter(is_worker).count()
    }

    fn send(&mut self, signal: Signal, is_meant: impl Fn(&Process) -> bool) {
        for process in self.processes.iter_mut().filter(|process| is_meant(process)) {
            if process.life == Life::Living && !process.stubborn {
                process.life = Life::Ended(ExitReason::Signal(signal.number()));
            }
        }
    }

    fn assert_not_reaped(&self, pid: Pid, signal: Signal) {
        let process = self.processes.iter().find(|process| process.pid == pid).unwrap();
        assert_ne!(process.life, Life::Reaped, "{signal} to a pid that may be another's by now");
    }

    /// A sidecar is told to stop: the workers, all they left behind, and the sidecars after it are gone.
    fn assert_turn_of(&self, root: Pid) {
        let later: Vec<Pid> = self
            .node
            .sidecars()
            .iter()
            .filter_map(Sidecar::pid)
            .skip_while(|pid| *pid != root)
            .skip(1)
            .collect();
        assert_eq!(later, [], "sidecars after {root} run");
        let living = self.processes.iter().filter(|process| process.life == Life::Living);
        let others: Vec<_> = living.filter(|process| process.branch.is_none()).collect();
        assert!(others.is_empty(), "{root} is stopped before {others:?}");
    }

    fn bear(&mut self, stubborn: bool, branch: Option<Pid>) -> Pid {
        let pid = Pid::from_raw(100 + i32::try_from(self.processes.len()).unwrap()).unwrap();
        self.processes.push(Process { pid, branch, stubborn, life: Life::Living });
        pid
    }

    /// Reaps who ended; says so if nobody is left.
    fn reap(&mut self) {
        for index in 0..self.processes.len() {
            if let Life::Ended(reason) = self.processes[index].life {
                self.processes[index].life = Life::Reaped;
                let pid = self.processes[index].pid;
                self.feed(Event::ChildExited { pid, reason, reaped_at: self.now, traces: Traces::default() });
            }
        }
        if self.processes.iter().all(|process| process.life == Life::Reaped) {
            self.feed(Event::TreeEmpty);
        }
    }

    fn fire_next_timer(&mut self) {
        self.fire_next_of(|_| true);
    }

    /// The next timer fires that is not this one.
    pub(in crate::supervisor) fn fire_next_timer_but(&mut self, kept: Timer) {
        self.fire_next_of(|timer| timer != kept);
    }

    fn fire_next_of(&mut self, may_fire: impl Fn(Timer) -> bool) {
        let timers = self.timers.iter().filter(|(timer, _)| may_fire(**timer));
        if let Some((&timer, &at)) = timers.min_by_key(|(_, at)| **at) {
            self.timers.remove(&timer);
            self.now = self.now.max(at);
            if timer == Timer::LastCall {
                self.stopping = Stopping::All;
            }
            self.feed(Event::TimerFired(timer));
        }
    }

    fn living(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|index| self.processes[*index].life == Life::Living).collect()
    }

    pub(in crate::supervisor) fn happen(&mut self, happening: Happening) {
        self.now += Duration::from_millis(7);
        match happening {
            Happening::Exit(nth, code) => {
                let living = self.living();
                if !living.is_empty() {
                    let index = living[nth % living.len()];
                    self.processes[index].life = Life::Ended(ExitReason::Code(code));
                }
            }
            Happening::Orphan { nth, stubborn } => {
                let living = self.living();
                if !living.is_empty() {
                    let branch = self.processes[living[nth % living.len()]].branch;
                    self.bear(stubborn, branch);
                }
            }
            Happening::Reap => self.reap(),
            Happening::Timer => self.fire_next_timer(),
            Happening::Signal(signal) => self.feed(Event::SignalReceived(signal)),
            Happening::Lifeline => self.feed(Event::LifelineEnded),
            Happening::GuardLost => self.feed(Event::GuardLost),
            Happening::Stop(code, manner) => {
                self.feed(Event::Told(LeaderMessage::Stop { verdict: verdict(code), manner }));
            }
            Happening::StopAttempt(ahead) => {
                let failure = Failure { attempt: self.node.attempt() + ahead, ..verdict(1) };
                self.feed(Event::Told(LeaderMessage::StopAttempt(failure)));
            }
            Happening::Begin(ahead) => {
                let attempt = self.node.attempt() + ahead;
                self.feed(Event::Told(LeaderMessage::Begin { attempt }));
            }
            Happening::Release(code) => {
                self.released_with_0 |= code == 0;
                self.feed(Event::Told(LeaderMessage::Release { exit_code: code, others: Fates::default() }));
            }
            Happening::LinkLost => self.feed(Event::LinkLost { reason: "gone".into() }),
        }
    }
}

/// A sidecar: its policy, whether its start fails and whether it ignores SIGTERM.
pub(in crate::supervisor) type SidecarCase = (RestartPolicy, bool, bool);

fn verdict(code: u8) -> Failure {
    identity(0).failure(Cause::WorkerExited { code }, code, Duration::ZERO)
}

/// What a job may allow.
pub(in crate::supervisor) fn rules() -> impl Strategy<Value = (Attempts, Option<Preemption>)> {
    let attempts = prop_oneof![Just(Attempts::One), Just(Attempts::Several)];
    let preemption = Preemption { signal: Signal::USR1, timeout: Duration::from_secs(30) };
    (attempts, prop::option::of(Just(preemption)))
}

pub(in crate::supervisor) fn sidecars() -> impl Strategy<Value = Vec<SidecarCase>> {
    let policy = prop::sample::select(RestartPolicy::ALL.map(|(_, policy)| policy).to_vec());
    proptest::collection::vec((policy, prop::bool::weighted(0.1), prop::bool::weighted(0.3)), 0..4)
}

pub(in crate::supervisor) fn identity(node_rank: u32) -> Identity {
    Identity { node_rank, host: "host".into(), job_id: "job".into() }
}

fn job() -> Mode {
    Mode::Job { own: identity(1), leader: identity(0) }
}

fn happenings(is_job: bool) -> impl Strategy<Value = Vec<Happening>> {
    let signals = prop_oneof![Just(Signal::TERM), Just(Signal::INT), Just(Signal::USR1)];
    let common = prop_oneof![
        4 => (any::<usize>(), prop_oneof![4 => Just(0_u8), 1 => any::<u8>()])
            .prop_map(|(nth, code)| Happening::Exit(nth, code)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(nth, stubborn)| Happening::Orphan { nth, stubborn }),
        4 => Just(Happening::Reap),
        2 => Just(Happening::Timer),
        1 => signals.prop_map(Happening::Signal),
    ];
    let manner = prop_oneof![Just(StopManner::Orderly), Just(StopManner::Preempted { remaining_ms: 5_000 })];
    let from_outside = prop_oneof![
        1 => Just(Happening::Lifeline),
        1 => Just(Happening::GuardLost),
        1 => (1..=255_u8, manner).prop_map(|(code, manner)| Happening::Stop(code, manner)),
        4 => (0..2_u32).prop_map(Happening::StopAttempt),
        8 => (0..3_u32).prop_map(Happening::Begin),
        1 => any::<u8>().prop_map(Happening::Release),
        1 => Just(Happening::LinkLost),
    ];
    let any = if is_job { prop_oneof![5 => common, 1 => from_outside].boxed() } else { common.boxed() };
    proptest::collection::vec(any, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happened: after a SIGTERM, with processes that obey SIGKILL and timers that fire, the node ends,
    /// once, with nobody left behind, and with 0 only if the leader said so.
    #[test]
    fn every_run_of_a_job_ends_in_order(
        workers in proptest::collection::vec((prop::bool::weighted(0.05), any::<bool>()), 1..4),
        sidecars in sidecars(),
        rules in rules(),
        happenings in happenings(true),
    ) {
        let mut world = World::new(job(), rules, workers, sidecars);
        for happening in happenings {
            world.happen(happening);
        }
        world.happen(Happening::Signal(Signal::TERM));
        for _ in 0..30 {
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        let conclusion = world.conclusion.expect("the node must end");
        prop_assert!(conclusion.code != 0 || world.released_with_0, "{conclusion:?}");
        prop_assert!(!world.gave_up, "processes that obey SIGKILL are never given up");
    }

    /// Sidecars never keep a node from ending: if nothing but their lives happens until all workers have ended with
    /// 0, and none of them fails the job, the leader hears of the success, and its release ends the node.
    #[test]
    fn sidecars_keep_no_node_from_ending(
        worker_count in 1..4_usize,
        rules in rules(),
        sidecars in sidecars(),
        ends in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..20),
    ) {
        let fails_job = sidecars.iter().any(|sidecar| sidecar.0 == RestartPolicy::Fail);
        let mut world = World::new(job(), rules, vec![(false, true); worker_count], sidecars);
        for (nth, code) in ends {
            let alive: Vec<usize> = world.living().into_iter().filter(|index| world.processes[*index].branch.is_some()).collect();
            if !alive.is_empty() {
                world.processes[alive[nth % alive.len()]].life = Life::Ended(ExitReason::Code(code));
            }
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        for process in world.processes.iter_mut().filter(|process| process.branch.is_none()) {
            if process.life == Life::Living {
                process.life = Life::Ended(ExitReason::Code(0));
            }
        }
        for _ in 0..20 {
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        if !fails_job {
            world.told.retain(|message| !matches!(message, NodeMessage::SidecarEnded(_)));
            prop_assert_eq!(&world.told, &[NodeMessage::Finished { attempt: 0 }]);
        }
        world.happen(Happening::Release(0));
        for _ in 0..20 {
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        prop_assert!(world.conclusion.is_some());
    }

    /// What a node says is in order: of each attempt one end, of no attempt after a later one, `Stopped` after
    /// everything.
    #[test]
    fn the_leader_hears_things_in_order(
        workers in proptest::collection::vec((prop::bool::weighted(0.05), any::<bool>()), 1..4),
        sidecars in sidecars(),
        rules in rules(),
        happenings in happenings(true),
    ) {
        let mut world = World::new(job(), rules, workers, sidecars);
        for happening in happenings {
            world.happen(happening);
        }
        let told = &world.told;
        let mut attempt = 0;
        let (mut finished, mut failed, mut gone, mut stopped, mut final_failures) = (false, false, false, false, 0);
        for message in told {
            prop_assert!(!stopped || matches!(message, NodeMessage::Stopped { .. }), "{:?}", told);
            let of = match message {
                NodeMessage::Finished { attempt } | NodeMessage::WorkersGone { attempt } => *attempt,
                NodeMessage::Failed(failure) => failure.attempt,
                NodeMessage::SidecarEnded(end) => end.end.attempt,
                NodeMessage::Heartbeat | NodeMessage::Stopped { .. } => attempt,
            };
            prop_assert!(of >= attempt, "{:?}", told);
            if of > attempt {
                (attempt, finished, failed, gone) = (of, false, false, false);
            }
            let was = match message {
                NodeMessage::Finished { .. } => std::mem::replace(&mut finished, true) || failed || gone,
                NodeMessage::WorkersGone { .. } => std::mem::replace(&mut gone, true),
                NodeMessage::Failed(Failure { cause: Cause::WorkerExited { .. } | Cause::WorkerKilled { .. } | Cause::WorkerNotStarted { .. }, .. }) => std::mem::replace(&mut failed, true) || finished || gone,
                NodeMessage::Failed(_) => {
                    final_failures += 1;
                    final_failures > 1
                }
                NodeMessage::Stopped { .. } => {
                    stopped = true;
                    false
                }
                NodeMessage::SidecarEnded(_) => false,
                NodeMessage::Heartbeat => true,
            };
            prop_assert!(!was, "{:?}", told);
        }
        if world.node.setup.attempts == Attempts::One {
            prop_assert!(attempt == 0 && !gone, "{:?}", told);
        }
    }

    /// A plain init ends exactly when its program does, with the program's code.
    #[test]
    fn every_plain_run_ends_with_its_program(stubborn: bool, happenings in happenings(false), code: u8) {
        let mut world = World::new(Mode::Plain { target: Target::Process }, (Attempts::One, None), vec![(false, stubborn)], Vec::new());
        for happening in happenings {
            world.happen(happening);
        }
        let program = &mut world.processes[0];
        let expected = match program.life {
            Life::Living => {
                program.life = Life::Ended(ExitReason::Code(code));
                Some(code)
            }
            Life::Ended(reason) => Some(reason.code()),
            Life::Reaped => None,
        };
        for _ in 0..20 {
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        let conclusion = world.conclusion.expect("the init must end");
        prop_assert!(expected.is_none_or(|code| code == conclusion.code));
        prop_assert_eq!(conclusion.verdict, None);
    }
}
