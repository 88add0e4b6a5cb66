//! All nodes of a job and their leader in one model: workers die at random moments, are reaped in any order, and
//! messages take as long as they like. The verdict is always one that really failed first.
//!
//! What that means: the leader decides by order of receipt, so between two nodes the message that came first counts.
//! But the verdict died by itself and not because it was told to stop, nobody of its node was reaped failing before
//! it, and when it died the leader had not decided.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Failure, Fate, Fates};
use tractorun_sys::Pid;

use super::{
    Action, Attempts, Conclusion, Event, Identity, Leader, LeaderAction, LeaderEvent, Member, Mode, Node,
    Restarts, Rules, Setup, Traces,
};
use crate::control::{HubCommand, LeaderMessage, NodeMessage, Recipients};

/// Workers on each node.
const WORKERS: u32 = 2;

const GRACE: Duration = Duration::from_secs(10);

fn identity(node_rank: u32) -> Identity {
    Identity { node_rank, host: format!("host-{node_rank}"), job_id: format!("job-{node_rank}") }
}

fn node_of_job(node_rank: u32) -> Node {
    Node::new(Setup {
        mode: Mode::Job { own: identity(node_rank), leader: identity(0) },
        ranks: (node_rank * WORKERS..(node_rank + 1) * WORKERS).collect(),
        sidecars: Vec::new(),
        grace_period: GRACE,
        attempts: Attempts::One,
        preemption: None,
    })
}

fn leader_of_job(node_count: u32) -> Leader {
    let rules = Rules {
        grace_period: GRACE,
        restarts: Restarts::default(),
        preemption_timeout: GRACE,
        workers_per_node: WORKERS,
    };
    Leader::new((0..node_count).map(identity).collect(), rules, Duration::ZERO)
}

/// What may happen next; each number picks one of those that it can happen to.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A worker dies by itself.
    Death(usize, u8),
    /// A node takes note of one of its dead.
    Reap(usize, usize),
    /// The leader hears the next word of a node.
    ToLeader(usize),
    /// A node hears the next word of the leader.
    ToNode(usize),
    /// The record is written.
    Published,
}

fn happening() -> impl Strategy<Value = Happening> {
    let any = any::<usize>;
    prop_oneof![
        2 => (any(), prop_oneof![Just(9_u8), 100_u8..120]).prop_map(|(nth, how)| Happening::Death(nth, how)),
        3 => (any(), any()).prop_map(|(node, nth)| Happening::Reap(node, nth)),
        3 => any().prop_map(Happening::ToLeader),
        3 => any().prop_map(Happening::ToNode),
        1 => Just(Happening::Published),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Living,
    /// Dead by itself, and whether the leader had decided by then.
    Died(ExitReason, Leading),
    /// Dead because it was told to stop: it fails then too, with a code of its own.
    Stopped(ExitReason),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leading {
    Undecided,
    Decided,
}

struct Place {
    node: Node,
    /// Workers that are not reaped yet, by process.
    processes: BTreeMap<Pid, (u32, Life)>,
    /// The first worker that was reaped failing, and how it died.
    first_reaped: Option<(u32, Life)>,
    to_leader: VecDeque<NodeMessage>,
    from_leader: VecDeque<LeaderMessage>,
    /// It asked for a look at its tree.
    look: bool,
    conclusion: Option<Conclusion>,
}

struct World {
    places: Vec<Place>,
    leader: Leader,
    verdict: Option<Failure>,
    /// What the completed record says of all but the first.
    others: Option<Fates>,
    /// How everybody who was reaped died, by rank.
    reaped: BTreeMap<u32, Life>,
    publishing: bool,
    next_pid: i32,
    now: Duration,
}

impl World {
    fn new(node_count: u32) -> Self {
        let place = |node_rank| Place {
            node: node_of_job(node_rank),
            processes: BTreeMap::new(),
            first_reaped: None,
            to_leader: VecDeque::new(),
            from_leader: VecDeque::new(),
            look: false,
            conclusion: None,
        };
        let places = (0..node_count).map(place).collect();
        let mut world = Self {
            places,
            leader: leader_of_job(node_count),
            verdict: None,
            others: None,
            reaped: BTreeMap::new(),
            publishing: false,
            next_pid: 100,
            now: Duration::ZERO,
        };
        for index in 0..world.places.len() {
            world.feed(index, Event::Begun);
        }
        world
    }

    fn feed(&mut self, index: usize, event: Event) {
        let mut actions = Vec::new();
        self.now += Duration::from_millis(1);
        self.places[index].node.step(self.now, event, &mut actions);
        for action in actions {
            let place = &mut self.places[index];
            assert_eq!(place.conclusion, None, "{action:?} after the exit");
            match action {
                Action::Spawn(Member::Worker(worker)) => {
                    let pid = Pid::from_raw(self.next_pid).unwrap();
                    self.next_pid += 1;
                    let rank = u32::try_from(index).unwrap() * WORKERS + u32::try_from(worker).unwrap();
                    place.processes.insert(pid, (rank, Life::Living));
                    self.feed(index, Event::Spawned { member: Member::Worker(worker), pid });
                }
                Action::SignalTree { .. } | Action::KillTree => {
                    for (rank, life) in place.processes.values_mut() {
                        if *life == Life::Living {
                            let code = 40 + u8::try_from(*rank).unwrap();
                            *life = Life::Stopped(ExitReason::Code(code));
                        }
                    }
                }
                Action::LookAtTree => place.look = true,
                Action::Tell(message) => place.to_leader.push_back(message),
                Action::Exit(conclusion) => place.conclusion = Some(conclusion),
                _ => {}
            }
        }
    }

    fn feed_leader(&mut self, event: LeaderEvent) {
        let mut actions = Vec::new();
        self.now += Duration::from_millis(1);
        self.leader.step(self.now, event, &mut actions);
        for action in actions {
            match action {
                LeaderAction::Command(HubCommand::Send { to, message }) => {
                    for (rank, place) in (0..).zip(&mut self.places) {
                        if to == Recipients::All || to == Recipients::One(rank) {
                            place.from_leader.push_back(message.clone());
                        }
                    }
                }
                LeaderAction::Command(HubCommand::PublishFailure(failure)) => {
                    self.publishing = true;
                    let others = failure.others.clone();
                    let failure = Failure { others: Fates::default(), ..failure };
                    if let Some(verdict) = &self.verdict {
                        assert_eq!(*verdict, failure, "two verdicts");
                        assert_eq!(self.others.replace(others), None, "the record is completed twice");
                    } else {
                        assert!(others.is_empty());
                        self.assert_failed_first(&failure);
                        self.verdict = Some(failure);
                    }
                }
                _ => {}
            }
        }
    }

    fn assert_failed_first(&self, verdict: &Failure) {
        let place = &self.places[verdict.node_rank as usize];
        let (rank, life) = place.first_reaped.expect("its node has reaped somebody");
        assert_eq!(verdict.rank, Some(rank), "another one of its node was reaped first");
        let Life::Died(reason, leading) = life else { panic!("{verdict} was told to stop: {life:?}") };
        assert_eq!(leading, Leading::Undecided);
        assert_eq!(verdict.exit_code, reason.code());
    }

    /// Whether something happened.
    fn happen(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Death(nth, how) => {
                let leading = if self.verdict.is_some() { Leading::Decided } else { Leading::Undecided };
                let mut living: Vec<&mut Life> = self
                    .places
                    .iter_mut()
                    .flat_map(|place| place.processes.values_mut())
                    .filter_map(|(_, life)| (*life == Life::Living).then_some(life))
                    .collect();
                let count = living.len();
                let Some(life) = nth.checked_rem(count).and_then(|nth| living.get_mut(nth)) else {
                    return false;
                };
                let reason = if how == 9 { ExitReason::Signal(9) } else { ExitReason::Code(how) };
                **life = Life::Died(reason, leading);
                true
            }
            Happening::Reap(node, nth) => self.reap(node % self.places.len(), nth),
            Happening::ToLeader(node) => {
                let index = node % self.places.len();
                let Some(message) = self.places[index].to_leader.pop_front() else { return false };
                let node_rank = u32::try_from(index).unwrap();
                self.feed_leader(LeaderEvent::Told { node_rank, message });
                true
            }
            Happening::ToNode(node) => {
                let index = node % self.places.len();
                let Some(message) = self.places[index].from_leader.pop_front() else { return false };
                self.feed(index, Event::Told(message));
                true
            }
            Happening::Published => {
                let publishing = std::mem::take(&mut self.publishing);
                if publishing {
                    self.feed_leader(LeaderEvent::FailurePublished);
                }
                publishing
            }
        }
    }

    fn reap(&mut self, index: usize, nth: usize) -> bool {
        let place = &mut self.places[index];
        let dead: Vec<Pid> = place
            .processes
            .iter()
            .filter_map(|(pid, (_, life))| (*life != Life::Living).then_some(*pid))
            .collect();
        let Some(pid) = nth.checked_rem(dead.len()).and_then(|nth| dead.get(nth)) else {
            let empty = place.processes.is_empty() && std::mem::take(&mut place.look);
            if empty && place.conclusion.is_none() {
                self.feed(index, Event::TreeEmpty);
            }
            return empty;
        };
        let Some((rank, life)) = place.processes.remove(pid) else { return false };
        let reason = match life {
            Life::Died(reason, _) | Life::Stopped(reason) => reason,
            Life::Living => return false,
        };
        self.reaped.insert(rank, life);
        place.first_reaped.get_or_insert((rank, life));
        place.look |= place.processes.is_empty();
        self.now += Duration::from_millis(1);
        let (pid, reaped_at) = (*pid, self.now);
        self.feed(index, Event::ChildExited { pid, reason, reaped_at, traces: Traces::default() });
        true
    }

    /// Everybody but the first is named once; nobody who was told to stop is said to have failed.
    fn assert_others(&self, verdict: &Failure) {
        let others = self.others.as_ref().expect("the record was completed");
        let mut named = BTreeMap::new();
        for group in others.groups() {
            for rank in group.ranks.iter() {
                assert_eq!(named.insert(rank, group.fate), None, "{rank} is named twice");
            }
        }
        let all = 0..u32::try_from(self.places.len()).unwrap() * WORKERS;
        let expected: Vec<u32> = all.filter(|rank| Some(*rank) != verdict.rank).collect();
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), expected);
        for (rank, fate) in named {
            match (self.reaped[&rank], fate) {
                // One that died by itself may have been reaped late.
                (Life::Died(..), Fate::Failed | Fate::Victim) | (Life::Stopped(_), Fate::Victim) => {}
                (life, fate) => panic!("{rank} is called {fate:?}: {life:?}"),
            }
        }
    }

    /// Lets everything happen that still can but deaths.
    fn settle(&mut self) {
        loop {
            let mut busy = self.happen(Happening::Published);
            for index in 0..self.places.len() {
                busy |= self.happen(Happening::Reap(index, 0));
                busy |= self.happen(Happening::ToLeader(index));
                busy |= self.happen(Happening::ToNode(index));
            }
            if !busy {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000)
    ))]

    #[test]
    fn the_verdict_is_one_that_really_failed_first(
        node_count in 1_u32..6,
        first in (any::<usize>(), 100_u8..120),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(node_count);
        prop_assert!(world.happen(Happening::Death(first.0, first.1)));
        for happening in happenings {
            world.happen(happening);
        }
        world.settle();
        let verdict = world.verdict.clone().expect("somebody has failed");
        world.assert_others(&verdict);
        // What every node says at its end.
        let complete = Failure { others: world.others.clone().unwrap(), ..verdict.clone() };
        for place in &world.places {
            let conclusion = place.conclusion.as_ref().expect("every node ends");
            prop_assert_eq!(conclusion.code, verdict.exit_code);
            prop_assert_eq!(conclusion.verdict.as_ref(), Some(&complete));
        }
    }
}
