//! Whole jobs in one model: a real leader and real nodes over several attempts, each node in its own small world (see
//! [`super::node::model`]), with messages that take as long as they like, deaths, preemptions, stops, cut links and
//! nodes that vanish, in any order.
//!
//! What holds whatever happens: every process of a node is reaped before the node ends, and once (each world sees to
//! that); the first failure that the leader hears of is the verdict; no worker of an attempt is alive anywhere when the
//! next one begins; all nodes that nobody has cut off or hurried end with one code; and every run ends.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tractorun_contract::failure::{Cause, Failure, Fates, NotRestarted};
use tractorun_sys::Signal;

use super::leader::may_be_restarted;
use super::node::model::{Happening as InNode, SidecarCase, World, identity, sidecars};
use super::{
    Attempts, Conclusion, Event, Leader, LeaderAction, LeaderEvent, Mode, Preemption, Restarts, Rules, Timer,
};
use crate::control::{HubCommand, LeaderMessage, NodeMessage, Recipients};

const GRACE: Duration = Duration::from_secs(10);

/// Rounds in which everything that still can happen does, until all must have ended.
const ROUNDS: usize = 400;

/// Something that happens by itself. Of several that it can happen to, a number picks one.
#[derive(Debug, Clone, Copy)]
enum Happening {
    In(usize, InNode),
    /// Of the timers of a node the next one fires.
    Timer(usize),
    /// The leader's timer fires: when it is its turn, or even before that of slow nodes.
    LeaderTimer(Pace),
    /// The leader hears the next word of a node.
    ToLeader(usize),
    /// A node hears the next word of the leader.
    ToNode(usize),
    /// A failure record is written.
    Published,
    /// Somebody asks for the end of the run, as `tractorun stop` does.
    StopRequested,
    /// The connection of a node breaks; words that are under way are lost.
    Cut(usize),
    /// A node is gone with all its processes.
    Vanish(usize),
}

/// Whether the nodes keep up with the leader's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Even,
    SlowNodes,
}

/// From a node to the leader.
#[derive(Debug, Clone)]
enum Up {
    Word(Box<NodeMessage>),
    /// Nothing follows.
    Lost,
}

/// From the leader to a node.
#[derive(Debug, Clone)]
enum Down {
    Word(Box<LeaderMessage>),
    /// Nothing follows.
    Lost,
}

struct Place {
    world: World,
    /// What it has said so far that is under way or was heard.
    said: usize,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    /// The leader takes words from it and has some for it.
    connected: bool,
    /// Its processes and itself are no more.
    vanished: bool,
    /// It may end with a code of its own: cut off, killed, or told twice to stop.
    on_its_own: bool,
    stop_signals: u32,
}

struct Job {
    places: Vec<Place>,
    leader: Leader,
    leader_timer: Option<Duration>,
    attempts: Attempts,
    /// Records that are being written.
    publishing: usize,
    /// Failures in the order in which the leader heard of them, with the attempt that it was in.
    heard: Vec<(u32, Failure)>,
    verdict: Option<Failure>,
    released: Option<u8>,
    /// The attempt that the leader has begun last, and the last one that any node has.
    leading: u32,
    begun: u32,
    now: Duration,
}

/// A worker: whether its start fails, and whether it ignores SIGTERM.
type Workers = Vec<(bool, bool)>;

#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<(Workers, Vec<SidecarCase>)>,
    max_restarts: u32,
    preemption: Option<Preemption>,
}

impl Job {
    fn new(case: Case) -> Self {
        let Case { nodes, max_restarts, preemption } = case;
        let attempts = if max_restarts > 0 { Attempts::Several } else { Attempts::One };
        let restarts =
            Restarts { max: max_restarts, window: None, backoff: Duration::from_secs(1), never: vec![3] };
        let rules = Rules {
            grace_period: GRACE,
            restarts,
            preemption_timeout: preemption.map_or(GRACE, |preemption| preemption.timeout),
            workers_per_node: u32::try_from(nodes[0].0.len()).unwrap(),
        };
        let identities = (0..).take(nodes.len()).map(identity).collect();
        let place = |(rank, (workers, sidecars)): (u32, (Workers, Vec<SidecarCase>))| Place {
            world: World::new(
                Mode::Job { own: identity(rank), leader: identity(0) },
                (attempts, preemption),
                workers,
                sidecars,
            ),
            said: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            connected: true,
            vanished: false,
            on_its_own: false,
            stop_signals: 0,
        };
        let mut job = Self {
            leader: Leader::new(identities, rules, Duration::ZERO),
            places: (0..).zip(nodes).map(place).collect(),
            leader_timer: None,
            attempts,
            publishing: 0,
            heard: Vec::new(),
            verdict: None,
            released: None,
            leading: 0,
            begun: 0,
            now: Duration::ZERO,
        };
        (0..job.places.len()).for_each(|index| job.after(index));
        job
    }

    /// Does something to a node that is there, and takes note of what that leads to.
    fn at(&mut self, index: usize, act: impl FnOnce(&mut World)) {
        let place = &mut self.places[index];
        if place.vanished || place.world.conclusion.is_some() {
            return;
        }
        place.world.now = place.world.now.max(self.now);
        act(&mut place.world);
        self.now = self.now.max(place.world.now);
        self.after(index);
    }

    /// Sends what a node has said, and lets the others notice if it has ended.
    fn after(&mut self, index: usize) {
        let place = &mut self.places[index];
        for message in &place.world.told[place.said..] {
            if place.connected {
                place.up.push_back(Up::Word(Box::new(message.clone())));
            }
        }
        place.said = place.world.told.len();
        let attempt = place.world.node.attempt();
        if place.world.conclusion.is_some() && place.connected {
            place.connected = false;
            place.up.push_back(Up::Lost);
            if index == 0 {
                self.leader_ends();
            }
        }
        if attempt > self.begun {
            self.begun = attempt;
            for (other, place) in self.places.iter().enumerate() {
                let old = place.world.node.attempt() < attempt && !place.vanished;
                let living = place.world.living_workers();
                assert!(
                    !old || living == 0,
                    "attempt {attempt} begins at node {index} with {living} workers at {other}"
                );
            }
        }
    }

    /// The leader's process is no more: what it has sent arrives, and then nothing.
    fn leader_ends(&mut self) {
        for place in &mut self.places[1..] {
            place.connected = false;
            place.down.push_back(Down::Lost);
        }
        self.leader_timer = None;
        self.publishing = 0;
    }

    fn leads(&self) -> bool {
        !self.places[0].vanished && self.places[0].world.conclusion.is_none()
    }

    fn feed_leader(&mut self, event: LeaderEvent) {
        if !self.leads() {
            return;
        }
        let failure = match &event {
            LeaderEvent::Told { message: NodeMessage::Failed(failure), .. } => Some(failure.clone()),
            _ => None,
        };
        if let (Some(failure), None) = (failure, &self.verdict) {
            self.heard.push((self.leading, failure));
        }
        let lost = match &event {
            LeaderEvent::Lost { node_rank, .. } => Some(*node_rank),
            _ => None,
        };
        let mut actions = Vec::new();
        self.leader.step(self.now, event, &mut actions);
        for action in actions {
            match action {
                LeaderAction::StartTimer { after } => self.leader_timer = Some(self.now + after),
                LeaderAction::Command(HubCommand::Send { to, message }) => self.send(to, &message),
                LeaderAction::Command(HubCommand::PublishFailure(failure)) => {
                    self.publishing += 1;
                    self.on_record(failure, lost);
                }
                LeaderAction::Command(HubCommand::PublishAttempts(_) | HubCommand::PublishSidecars(_)) => {}
            }
        }
    }

    fn send(&mut self, to: Recipients, message: &LeaderMessage) {
        assert_eq!(self.released, None, "{message:?} after the release");
        match message {
            LeaderMessage::Release { exit_code, .. } => {
                self.released = Some(*exit_code);
                assert_eq!(*exit_code, self.verdict.as_ref().map_or(0, |verdict| verdict.exit_code));
            }
            LeaderMessage::Begin { attempt } => self.leading = *attempt,
            _ => {}
        }
        for (rank, place) in (0..).zip(&mut self.places) {
            if place.connected && (to == Recipients::All || to == Recipients::One(rank)) {
                place.down.push_back(Down::Word(Box::new(message.clone())));
            }
        }
    }

    /// The leader has decided, or completes its record.
    fn on_record(&mut self, record: Failure, lost: Option<u32>) {
        let verdict = Failure { others: Fates::default(), ..record };
        if let Some(known) = &self.verdict {
            assert_eq!(*known, verdict, "two verdicts");
            return;
        }
        let is_lost = matches!(verdict.cause, Cause::NodeLost { .. });
        let heard_before = if is_lost {
            assert_eq!(Some(verdict.node_rank), lost);
            self.heard.len()
        } else {
            let bare = Failure { not_restarted: None, ..verdict.clone() };
            let nth = self.heard.iter().position(|(_, failure)| *failure == bare);
            let nth = nth.unwrap_or_else(|| panic!("nobody has said {verdict}"));
            // Only what ends the wait for workers that do not go is decided later than it was heard.
            let is_news = nth + 1 == self.heard.len();
            assert!(is_news || verdict.not_restarted == Some(NotRestarted::StillRunning), "{verdict}");
            nth
        };
        // Before it, the leader has heard of nothing that would have been the verdict.
        for (attempt, failure) in &self.heard[..heard_before] {
            let decides = match (self.attempts, may_be_restarted(&failure.cause)) {
                (Attempts::One, _) | (_, false) => true,
                // What comes first in an attempt is answered, and all others in it follow from that.
                (Attempts::Several, true) => {
                    (*attempt, failure.attempt) == (verdict.attempt, verdict.attempt)
                        && may_be_restarted(&verdict.cause)
                }
            };
            assert!(!decides, "{verdict} is the verdict, and {failure} was heard before it");
        }
        self.verdict = Some(verdict);
    }

    fn pick(&self, nth: usize) -> usize {
        nth % self.places.len()
    }

    fn happen(&mut self, happening: Happening) {
        self.now += Duration::from_millis(3);
        match happening {
            Happening::In(nth, happening) => {
                let index = self.pick(nth);
                let place = &mut self.places[index];
                match happening {
                    InNode::Signal(Signal::TERM | Signal::INT) | InNode::Lifeline => {
                        place.stop_signals += 1;
                        place.on_its_own |= place.stop_signals > 1;
                    }
                    InNode::GuardLost => place.on_its_own = true,
                    _ => {}
                }
                self.at(index, |world| world.happen(happening));
            }
            // The leader is there: whoever has a link does not give it up.
            Happening::Timer(nth) => {
                self.at(self.pick(nth), |world| world.fire_next_timer_but(Timer::Release));
            }
            Happening::LeaderTimer(pace) => {
                let of_nodes = self.places.iter().flat_map(|place| place.world.timers.values());
                let next = of_nodes.min().copied().unwrap_or(Duration::MAX);
                let is_due = |at: &Duration| pace == Pace::SlowNodes || *at <= next;
                if let Some(at) = self.leader_timer.take_if(|at| is_due(at)) {
                    self.now = self.now.max(at);
                    self.feed_leader(LeaderEvent::TimerFired);
                }
            }
            Happening::ToLeader(nth) => {
                let index = self.pick(nth);
                let node_rank = u32::try_from(index).unwrap();
                match self.places[index].up.pop_front() {
                    Some(Up::Word(message)) => {
                        self.feed_leader(LeaderEvent::Told { node_rank, message: *message });
                    }
                    // The leader's own node ends with it.
                    Some(Up::Lost) if index > 0 => {
                        self.feed_leader(LeaderEvent::Lost { node_rank, reason: "gone".into() });
                    }
                    Some(Up::Lost) | None => {}
                }
            }
            Happening::ToNode(nth) => {
                let index = self.pick(nth);
                match self.places[index].down.pop_front() {
                    Some(Down::Word(message)) => self.at(index, |world| world.feed(Event::Told(*message))),
                    Some(Down::Lost) => {
                        self.places[index].on_its_own |= self.released.is_none();
                        self.at(index, |world| world.feed(Event::LinkLost { reason: "gone".into() }));
                    }
                    None => {}
                }
            }
            Happening::Published => {
                if self.publishing > 0 {
                    self.publishing -= 1;
                    self.feed_leader(LeaderEvent::FailurePublished);
                }
            }
            Happening::StopRequested => self.at(0, |world| world.feed(Event::StopRequested)),
            Happening::Cut(nth) => {
                let index = self.pick(nth);
                self.cut(index);
            }
            Happening::Vanish(nth) => {
                let index = self.pick(nth);
                self.cut(index);
                self.places[index].vanished = true;
                if index == 0 {
                    self.leader_ends();
                }
            }
        }
    }

    /// Node 0 has its leader in its own process.
    fn cut(&mut self, index: usize) {
        let place = &mut self.places[index];
        if index == 0 || !place.connected {
            return;
        }
        place.connected = false;
        place.on_its_own = true;
        place.up.clear();
        place.down.clear();
        place.up.push_back(Up::Lost);
        place.down.push_back(Down::Lost);
    }

    /// Whatever still can happen does, and workers that are still at work succeed.
    fn settle(&mut self) {
        for round in 0..ROUNDS {
            if self.all_ended() {
                return;
            }
            for index in 0..self.places.len() {
                self.happen(Happening::ToLeader(index));
                self.happen(Happening::ToNode(index));
                self.happen(Happening::In(index, InNode::Exit(0, 0)));
                self.happen(Happening::In(index, InNode::Reap));
                self.happen(Happening::Timer(index));
            }
            self.happen(Happening::Published);
            // Its times are longer than those of nodes.
            if round % 10 == 9 {
                self.happen(Happening::LeaderTimer(Pace::SlowNodes));
            }
        }
    }

    fn all_ended(&self) -> bool {
        self.places.iter().all(|place| place.vanished || place.world.conclusion.is_some())
    }

    /// What holds of every job at its end.
    fn assert_ended_in_order(&self) {
        for (rank, place) in self.places.iter().enumerate().filter(|(_, place)| !place.vanished) {
            let Some(Conclusion { code, .. }) = &place.world.conclusion else {
                panic!("node {rank} never ends: {:?}", place.world.node)
            };
            assert!(!place.world.gave_up, "processes that obey SIGKILL are never given up");
            if !place.on_its_own {
                assert_eq!(Some(*code), self.released, "the code of node {rank}");
            }
        }
    }
}

fn workers(count: usize) -> impl Strategy<Value = Workers> {
    proptest::collection::vec((prop::bool::weighted(0.03), any::<bool>()), count)
}

fn case() -> impl Strategy<Value = Case> {
    let preemption = Preemption { signal: Signal::USR1, timeout: Duration::from_secs(30) };
    (1..4_usize, 1..3_usize).prop_flat_map(move |(nodes, count)| {
        let sidecars = prop_oneof![4 => Just(Vec::new()), 1 => sidecars()];
        let nodes = proptest::collection::vec((workers(count), sidecars), nodes);
        (nodes, 0..6_u32, prop::option::of(Just(preemption)))
            .prop_map(|(nodes, max_restarts, preemption)| Case { nodes, max_restarts, preemption })
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let nth = any::<usize>;
    let code = prop_oneof![10 => Just(0_u8), 10 => Just(7_u8), 1 => Just(3_u8)];
    let in_node = prop_oneof![
        6 => (nth(), code).prop_map(|(nth, code)| InNode::Exit(nth, code)),
        1 => (nth(), any::<bool>()).prop_map(|(nth, stubborn)| InNode::Orphan { nth, stubborn }),
        8 => Just(InNode::Reap),
    ];
    let from_outside = prop_oneof![
        3 => Just(InNode::Signal(Signal::TERM)),
        1 => Just(InNode::Signal(Signal::INT)),
        1 => Just(InNode::Signal(Signal::USR1)),
        1 => Just(InNode::Lifeline),
        1 => Just(InNode::GuardLost),
    ];
    // What ends a job is rare, so that there is more than one attempt now and then.
    prop_oneof![
        300 => (nth(), in_node).prop_map(|(nth, happening)| Happening::In(nth, happening)),
        2 => (nth(), from_outside).prop_map(|(nth, happening)| Happening::In(nth, happening)),
        100 => nth().prop_map(Happening::Timer),
        40 => Just(Happening::LeaderTimer(Pace::Even)),
        2 => Just(Happening::LeaderTimer(Pace::SlowNodes)),
        200 => nth().prop_map(Happening::ToLeader),
        200 => nth().prop_map(Happening::ToNode),
        50 => Just(Happening::Published),
        1 => Just(Happening::StopRequested),
        1 => nth().prop_map(Happening::Cut),
        1 => nth().prop_map(Happening::Vanish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn every_job_ends_in_order_whatever_happens(
        case in case(),
        happenings in prop::collection::vec(happening(), 0..400),
    ) {
        let mut job = Job::new(case);
        for happening in happenings {
            job.happen(happening);
        }
        job.settle();
        job.assert_ended_in_order();
    }
}
