//! Preemption, on one node: who is asked with what, how long they have, and what counts as a failure.

use tractorun_contract::failure::Fates;

use super::testing::{self, GRACE, identity, numbered, pid};
use super::*;
use crate::control::StopManner;

const TIMEOUT: Duration = Duration::from_secs(40);
const SIGTERM: Event = Event::SignalReceived(Signal::TERM);

/// A node with two workers, 100 and 101, and the sidecar 200.
struct Harness {
    node: Node,
    now: Duration,
}

impl Harness {
    fn new() -> Self {
        let setup = Setup {
            mode: Mode::Job { own: identity(), leader: identity() },
            ranks: vec![0, 1],
            sidecars: numbered(&[RestartPolicy::Always]),
            grace_period: GRACE,
            attempts: Attempts::Several,
            preemption: Some(Preemption { signal: Signal::USR1, timeout: TIMEOUT }),
        };
        let mut harness = Self { node: Node::new(setup), now: Duration::ZERO };
        harness.step(Event::Begun);
        harness.step(Event::Spawned { member: Member::Sidecar(0), pid: pid(200) });
        harness.step(Event::Spawned { member: Member::Worker(0), pid: pid(100) });
        harness.step(Event::Spawned { member: Member::Worker(1), pid: pid(101) });
        harness
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        testing::step(&mut self.node, self.now, event)
    }

    fn exited(&mut self, number: i32, code: u8) -> Vec<Action> {
        self.step(testing::exited(number, code, self.now))
    }
}

fn preempted() -> Failure {
    identity().failure(Cause::Preempted { signal: "SIGTERM".into() }, 205, Duration::ZERO)
}

fn told(remaining: Duration) -> Event {
    let remaining_ms = u64::try_from(remaining.as_millis()).unwrap();
    let manner = StopManner::Preempted { remaining_ms };
    Event::Told(LeaderMessage::Stop { verdict: preempted(), manner })
}

fn saving(remaining: Duration) -> Vec<Action> {
    let ask = |number, signal| Action::Signal { pid: pid(number), target: Target::Group, signal };
    vec![
        Action::Announce(Announcement::Saving { verdict: preempted(), signal: Signal::USR1, remaining }),
        Action::PublishDeadline { after: remaining },
        ask(100, Signal::USR1),
        ask(100, Signal::CONT),
        ask(101, Signal::USR1),
        ask(101, Signal::CONT),
        Action::StartTimer { timer: Timer::Grace, after: remaining },
        Action::StartTimer {
            timer: Timer::LastCall,
            after: remaining.saturating_sub(GRACE.min(remaining) / 5),
        },
    ]
}

fn grace_of(actions: &[Action]) -> Option<Duration> {
    actions.iter().find_map(|action| match action {
        Action::StartTimer { timer: Timer::Grace, after } => Some(*after),
        _ => None,
    })
}

#[test]
fn the_node_that_is_taken_away_tells_the_leader_and_asks_its_workers() {
    let mut node = Harness::new();
    let actions = node.step(SIGTERM);
    assert_eq!(actions[0], Action::Tell(NodeMessage::Failed(preempted())));
    assert_eq!(actions[1..], saving(TIMEOUT));
    // The leader's word changes nothing: the first deadline holds.
    assert_eq!(node.step(told(TIMEOUT)), []);
}

#[test]
fn a_worker_that_ends_after_that_has_not_failed_and_the_last_one_ends_the_node() {
    let mut node = Harness::new();
    assert_eq!(node.step(told(TIMEOUT)), saving(TIMEOUT));
    assert_eq!(node.exited(100, 3), []);
    let actions = node.exited(101, 1);
    assert!(!actions.iter().any(|action| matches!(action, Action::Tell(_))), "{actions:?}");
    let rest = Action::SignalTree { signal: Signal::TERM, spared: vec![pid(200)] };
    assert_eq!((&actions[0], grace_of(&actions)), (&rest, Some(GRACE)));
    let branch = Action::SignalBranch { root: pid(200), signal: Signal::TERM };
    assert_eq!(node.step(Event::OthersGone), [branch]);
    node.exited(200, 0);
    assert!(matches!(node.step(Event::TreeEmpty)[0], Action::Tell(NodeMessage::Stopped { .. })));
    let released =
        node.step(Event::Told(LeaderMessage::Release { exit_code: 205, others: Fates::default() }));
    assert_eq!(released, [Action::Exit(Conclusion { code: 205, verdict: Some(preempted()) })]);
}

#[test]
fn what_is_left_of_the_time_bounds_the_rest() {
    let mut node = Harness::new();
    node.step(told(TIMEOUT));
    node.now = TIMEOUT.saturating_sub(Duration::from_secs(4));
    node.exited(100, 0);
    assert_eq!(grace_of(&node.exited(101, 0)), Some(Duration::from_secs(4)));
}

#[test]
fn when_the_time_is_over_everybody_is_killed_and_sidecars_are_asked_before() {
    let mut node = Harness::new();
    node.step(SIGTERM);
    let branch = Action::SignalBranch { root: pid(200), signal: Signal::TERM };
    assert_eq!(node.step(Event::TimerFired(Timer::LastCall)), [branch]);
    let killed = node.step(Event::TimerFired(Timer::Grace));
    assert!(killed.contains(&Action::KillTree), "{killed:?}");
}

#[test]
fn a_second_sigterm_kills_and_a_first_one_after_the_leaders_word_does_not() {
    let mut node = Harness::new();
    node.step(SIGTERM);
    assert!(node.step(SIGTERM).contains(&Action::KillTree));

    let mut node = Harness::new();
    node.step(told(TIMEOUT));
    assert_eq!(node.step(SIGTERM), []);
    assert!(node.step(SIGTERM).contains(&Action::KillTree));
}

#[test]
fn a_failure_that_was_first_decides() {
    let mut node = Harness::new();
    node.step(SIGTERM);
    let verdict = identity().failure(Cause::WorkerExited { code: 9 }, 9, Duration::ZERO);
    let stop = LeaderMessage::Stop { verdict: verdict.clone(), manner: StopManner::Orderly };
    let actions = node.step(Event::Told(stop));
    assert_eq!(actions[0], Action::Announce(Announcement::Stopping(verdict)));
    assert_eq!(grace_of(&actions), Some(GRACE));
}

#[test]
fn sigint_is_a_stop_and_so_is_sigterm_where_it_announces_nothing() {
    let mut node = Harness::new();
    let actions = node.step(Event::SignalReceived(Signal::INT));
    let is_stopped = |actions: &[Action]| {
        matches!(&actions[0], Action::Tell(NodeMessage::Failed(Failure { cause: Cause::Stopped { .. }, .. })))
    };
    assert!(is_stopped(&actions), "{actions:?}");

    let mut node = Harness::new();
    node.node.setup.preemption = None;
    let actions = node.step(SIGTERM);
    assert!(is_stopped(&actions), "{actions:?}");
}

#[test]
fn a_node_without_workers_left_is_taken_away_without_a_wait() {
    let mut node = Harness::new();
    node.exited(100, 0);
    node.exited(101, 0);
    node.step(Event::OthersGone);
    let actions = node.step(SIGTERM);
    assert_eq!(actions[0], Action::Tell(NodeMessage::Failed(preempted())));
    assert_eq!(grace_of(&actions), Some(GRACE));
    assert!(!actions.iter().any(|action| matches!(action, Action::PublishDeadline { .. })), "{actions:?}");
}
