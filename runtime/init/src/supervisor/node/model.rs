//! Random runs of a node in a small model of the world around it: processes that may ignore SIGTERM and leave
//! orphans, a leader that says anything at any time, timers that fire in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something the world does by itself.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// The nth living process ends.
    Exit(usize, u8),
    /// An orphan is born, as long as somebody lives.
    Orphan {
        stubborn: bool,
    },
    /// SIGCHLD: the driver reaps.
    Reap,
    /// The next timer fires.
    Timer,
    Signal(Signal),
    Lifeline,
    GuardLost,
    Stop(u8),
    Release(u8),
    LinkLost,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    stubborn: bool,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Living,
    Ended(ExitReason),
    Reaped,
}

struct World {
    node: Node,
    now: Duration,
    timers: BTreeMap<Timer, Duration>,
    processes: Vec<Process>,
    /// Per worker: whether its start fails and whether it ignores SIGTERM.
    workers: Vec<(bool, bool)>,
    spawned: Vec<usize>,
    told: Vec<NodeMessage>,
    released_with_0: bool,
    gave_up: bool,
    conclusion: Option<Conclusion>,
}

impl World {
    fn new(mode: Mode, workers: Vec<(bool, bool)>) -> Self {
        let ranks = (0..).take(workers.len()).collect();
        let node = Node::new(Setup { mode, ranks, grace_period: Duration::from_secs(10) });
        let mut world = Self {
            node,
            now: Duration::ZERO,
            timers: BTreeMap::new(),
            processes: Vec::new(),
            workers,
            spawned: Vec::new(),
            told: Vec::new(),
            released_with_0: false,
            gave_up: false,
            conclusion: None,
        };
        world.feed(Event::Begun);
        world
    }

    /// Gives the node an event and does what it wants, as the driver would.
    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.node.step(self.now, event, &mut actions);
        for action in actions {
            assert_eq!(self.conclusion, None, "{action:?} after the exit");
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker } => {
                assert!(!self.spawned.contains(&worker), "worker {worker} is started twice");
                self.spawned.push(worker);
                let (fails, stubborn) = self.workers[worker];
                if fails {
                    self.feed(Event::SpawnFailed { worker, reason: "x".into(), exit_code: 127 });
                } else {
                    let pid = self.bear(stubborn);
                    self.feed(Event::Spawned { worker, pid });
                }
            }
            Action::Signal { pid, signal, .. } => {
                let process = self.processes.iter().find(|process| process.pid == pid).unwrap();
                assert_ne!(process.life, Life::Reaped, "{signal} to a pid that may be another's by now");
            }
            Action::SignalTree(signal) => {
                for process in &mut self.processes {
                    if process.life == Life::Living && !process.stubborn {
                        process.life = Life::Ended(ExitReason::Signal(signal.number()));
                    }
                }
            }
            Action::KillTree => {
                for process in &mut self.processes {
                    if process.life == Life::Living {
                        process.life = Life::Ended(ExitReason::Signal(9));
                    }
                }
            }
            Action::LookAtTree => self.reap(),
            Action::StartTimer { timer, after } => {
                self.timers.insert(timer, self.now + after);
            }
            Action::Tell(message) => self.told.push(message),
            Action::Announce(announcement) => self.gave_up |= announcement == Announcement::GaveUp,
            Action::Exit(conclusion) => {
                let reaped = self.processes.iter().all(|process| process.life == Life::Reaped);
                assert!(reaped || self.gave_up, "exit with processes left: {:?}", self.processes);
                self.conclusion = Some(conclusion);
            }
        }
    }

    fn bear(&mut self, stubborn: bool) -> Pid {
        let pid = Pid::from_raw(100 + i32::try_from(self.processes.len()).unwrap()).unwrap();
        self.processes.push(Process { pid, stubborn, life: Life::Living });
        pid
    }

    /// Reaps who ended; says so if nobody is left.
    fn reap(&mut self) {
        for index in 0..self.processes.len() {
            if let Life::Ended(reason) = self.processes[index].life {
                self.processes[index].life = Life::Reaped;
                let pid = self.processes[index].pid;
                self.feed(Event::ChildExited { pid, reason, stderr_tail: Vec::new() });
            }
        }
        if self.processes.iter().all(|process| process.life == Life::Reaped) {
            self.feed(Event::TreeEmpty);
        }
    }

    fn fire_next_timer(&mut self) {
        if let Some((&timer, &at)) = self.timers.iter().min_by_key(|(_, at)| **at) {
            self.timers.remove(&timer);
            self.now = self.now.max(at);
            self.feed(Event::TimerFired(timer));
        }
    }

    fn living(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|index| self.processes[*index].life == Life::Living).collect()
    }

    fn happen(&mut self, happening: Happening) {
        self.now += Duration::from_millis(7);
        match happening {
            Happening::Exit(nth, code) => {
                let living = self.living();
                if !living.is_empty() {
                    let index = living[nth % living.len()];
                    self.processes[index].life = Life::Ended(ExitReason::Code(code));
                }
            }
            Happening::Orphan { stubborn } => {
                if !self.living().is_empty() {
                    self.bear(stubborn);
                }
            }
            Happening::Reap => self.reap(),
            Happening::Timer => self.fire_next_timer(),
            Happening::Signal(signal) => self.feed(Event::SignalReceived(signal)),
            Happening::Lifeline => self.feed(Event::LifelineEnded),
            Happening::GuardLost => self.feed(Event::GuardLost),
            Happening::Stop(code) => {
                let cause = Cause::WorkerExited { code };
                let verdict = identity(0).failure(cause, code, Duration::ZERO);
                self.feed(Event::Told(LeaderMessage::Stop(verdict)));
            }
            Happening::Release(code) => {
                self.released_with_0 |= code == 0;
                self.feed(Event::Told(LeaderMessage::Release { exit_code: code }));
            }
            Happening::LinkLost => self.feed(Event::LinkLost { reason: "gone".into() }),
        }
    }
}

fn identity(node_rank: u32) -> Identity {
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
        1 => any::<bool>().prop_map(|stubborn| Happening::Orphan { stubborn }),
        4 => Just(Happening::Reap),
        2 => Just(Happening::Timer),
        1 => signals.prop_map(Happening::Signal),
    ];
    let from_outside = prop_oneof![
        Just(Happening::Lifeline),
        Just(Happening::GuardLost),
        (1..=255_u8).prop_map(Happening::Stop),
        any::<u8>().prop_map(Happening::Release),
        Just(Happening::LinkLost),
    ];
    let any = if is_job { prop_oneof![8 => common, 1 => from_outside].boxed() } else { common.boxed() };
    proptest::collection::vec(any, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happened: after a SIGTERM, with processes that obey SIGKILL and timers that fire, the node ends,
    /// once, with nobody left behind, and with 0 only if the leader said so.
    #[test]
    fn every_run_of_a_job_ends_in_order(
        workers in proptest::collection::vec((prop::bool::weighted(0.05), any::<bool>()), 1..4),
        happenings in happenings(true),
    ) {
        let mut world = World::new(job(), workers);
        for happening in happenings {
            world.happen(happening);
        }
        world.happen(Happening::Signal(Signal::TERM));
        for _ in 0..20 {
            world.happen(Happening::Reap);
            world.happen(Happening::Timer);
        }
        let conclusion = world.conclusion.expect("the node must end");
        prop_assert!(conclusion.code != 0 || world.released_with_0, "{conclusion:?}");
        prop_assert!(!world.gave_up, "processes that obey SIGKILL are never given up");
    }

    /// A node says `Failed` before `Stopped`, and `Finished` at most once and never after either.
    #[test]
    fn the_leader_hears_things_in_order(
        workers in proptest::collection::vec((prop::bool::weighted(0.05), any::<bool>()), 1..4),
        happenings in happenings(true),
    ) {
        let mut world = World::new(job(), workers);
        for happening in happenings {
            world.happen(happening);
        }
        let position = |wanted: fn(&NodeMessage) -> bool| world.told.iter().position(wanted);
        let finished = world.told.iter().filter(|message| **message == NodeMessage::Finished).count();
        let failed = world.told.iter().filter(|message| matches!(message, NodeMessage::Failed(_))).count();
        prop_assert!(finished <= 1 && failed <= 1, "{:?}", world.told);
        if let (Some(finished), Some(other)) =
            (position(|m| *m == NodeMessage::Finished), position(|m| *m != NodeMessage::Finished)) {
            prop_assert!(finished < other, "{:?}", world.told);
        }
        if let (Some(failed), Some(stopped)) =
            (position(|m| matches!(m, NodeMessage::Failed(_))), position(|m| *m == NodeMessage::Stopped)) {
            prop_assert!(failed < stopped, "{:?}", world.told);
        }
    }

    /// A plain init ends exactly when its program does, with the program's code.
    #[test]
    fn every_plain_run_ends_with_its_program(stubborn: bool, happenings in happenings(false), code: u8) {
        let mut world = World::new(Mode::Plain { target: Target::Process }, vec![(false, stubborn)]);
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
