//! Restarts in place, on one node: when its workers start again, when they never do, and what the sidecars see of it.

use super::teardown::{KILL_AGAIN, KILL_LIMIT};
use super::testing::{self, GRACE, identity, numbered, pid};
use super::*;
use crate::control::StopManner;

const SPARED: i32 = 200;

/// A node with the worker 100 (in later attempts 101, ...), and the sidecar 200 if it has one.
struct Harness {
    node: Node,
    now: Duration,
}

impl Harness {
    fn new(sidecars: &[RestartPolicy]) -> Self {
        let setup = Setup {
            mode: Mode::Job { own: identity(), leader: identity() },
            ranks: vec![3],
            sidecars: numbered(sidecars),
            grace_period: GRACE,
            attempts: Attempts::Several,
            preemption: None,
        };
        let mut harness = Self { node: Node::new(setup), now: Duration::ZERO };
        harness.step(Event::Begun);
        if !sidecars.is_empty() {
            harness.step(Event::Spawned { member: Member::Sidecar(0), pid: pid(SPARED) });
        }
        harness.step(Event::Spawned { member: Member::Worker(0), pid: pid(100) });
        harness
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        testing::step(&mut self.node, self.now, event)
    }

    fn exited(&mut self, number: i32, code: u8) -> Vec<Action> {
        self.step(testing::exited(number, code, self.now))
    }
}

fn failure(attempt: u32, code: u8) -> Failure {
    let failure = identity().failure(Cause::WorkerExited { code }, code, Duration::ZERO);
    Failure { rank: Some(3), attempt, ..failure }
}

fn stop_attempt(attempt: u32) -> Event {
    Event::Told(LeaderMessage::StopAttempt(failure(attempt, 7)))
}

fn begin(attempt: u32) -> Event {
    Event::Told(LeaderMessage::Begin { attempt })
}

fn stop() -> Event {
    Event::Told(LeaderMessage::Stop { verdict: failure(0, 9), manner: StopManner::Orderly })
}

fn gone(attempt: u32) -> Action {
    Action::Tell(NodeMessage::WorkersGone { attempt })
}

fn asked(spared: &[i32]) -> Action {
    Action::SignalTree { signal: Signal::TERM, spared: spared.iter().map(|number| pid(*number)).collect() }
}

#[test]
fn a_failed_attempt_is_told_ended_and_followed_by_the_next() {
    let mut node = Harness::new(&[]);
    assert_eq!(
        node.exited(100, 7),
        [
            Action::Tell(NodeMessage::Failed(failure(0, 7))),
            Action::Announce(Announcement::Stopping(failure(0, 7))),
            asked(&[]),
            Action::StartTimer { timer: Timer::Grace, after: GRACE },
            Action::LookAtTree,
        ]
    );
    // It comes too early: somebody of the attempt may be alive.
    assert_eq!(node.step(begin(1)), []);
    assert_eq!(node.step(stop_attempt(0)), []);
    assert_eq!(node.step(Event::TreeEmpty), [gone(0)]);
    // Only the next one.
    assert_eq!(node.step(begin(0)), []);
    assert_eq!(node.step(begin(2)), []);
    node.now = Duration::from_mins(1);
    let restarting = Action::Announce(Announcement::Restarting { attempt: 1 });
    assert_eq!(node.step(begin(1)), [restarting, Action::Spawn(Member::Worker(0))]);
    let running = node.step(Event::Spawned { member: Member::Worker(0), pid: pid(101) });
    assert_eq!(running, [Action::Announce(Announcement::WorkersStarted)]);
    // What is left of the last attempt is not about this one.
    for event in [begin(1), stop_attempt(0), Event::TimerFired(Timer::Grace), Event::TreeEmpty] {
        assert_eq!(node.step(event.clone()), [], "{event:?}");
    }
    // The time counts from the start of the attempt.
    node.now = Duration::from_secs(62);
    let failed = Failure { elapsed_seconds: 2.0, ..failure(1, 8) };
    assert_eq!(node.exited(101, 8)[0], Action::Tell(NodeMessage::Failed(failed)));
}

#[test]
fn a_node_that_finished_takes_part_again() {
    let mut node = Harness::new(&[]);
    assert_eq!(node.exited(100, 0)[0], Action::Tell(NodeMessage::Finished { attempt: 0 }));
    assert_eq!(node.step(Event::TreeEmpty), []);
    assert_eq!(node.step(begin(1)), [], "nothing failed");
    assert_eq!(node.step(stop_attempt(0)), [gone(0)]);
    assert_eq!(node.step(stop_attempt(0)), [], "said once");
    assert_eq!(node.step(begin(1)).last(), Some(&Action::Spawn(Member::Worker(0))));
}

#[test]
fn sidecars_are_spared_until_the_run_is_over() {
    let mut node = Harness::new(&[RestartPolicy::Always]);
    let actions = node.step(stop_attempt(0));
    assert!(actions.contains(&asked(&[SPARED])), "{actions:?}");
    let is_last_call = |action: &Action| matches!(action, Action::StartTimer { timer: Timer::LastCall, .. });
    assert!(!actions.iter().any(is_last_call), "{actions:?}");
    let look = Action::LookForOthers { spared: vec![pid(SPARED)] };
    assert_eq!(node.exited(100, 143), [look]);
    assert_eq!(node.step(Event::OthersGone), [gone(0)]);
    // One that ends now is started again by its policy.
    let ended = node.exited(SPARED, 1);
    let pause =
        Action::StartTimer { timer: Timer::Restart { sidecar: 0 }, after: Duration::from_millis(100) };
    assert_eq!(ended.last(), Some(&pause));
    let timer = Event::TimerFired(Timer::Restart { sidecar: 0 });
    assert_eq!(node.step(timer), [Action::Spawn(Member::Sidecar(0))]);
    assert_eq!(node.step(Event::Spawned { member: Member::Sidecar(0), pid: pid(201) }), []);
    // Then the run is over, and it is its turn.
    let actions = node.step(stop());
    assert!(actions.contains(&asked(&[201])), "{actions:?}");
    let branch = Action::SignalBranch { root: pid(201), signal: Signal::TERM };
    assert_eq!(node.step(Event::OthersGone), [branch]);
    node.exited(201, 0);
    assert!(matches!(node.step(Event::TreeEmpty)[0], Action::Tell(NodeMessage::Stopped { .. })));
}

#[test]
fn workers_that_do_not_go_are_killed_and_the_sidecars_are_not() {
    let mut node = Harness::new(&[RestartPolicy::Always]);
    node.step(stop_attempt(0));
    let spared = vec![pid(SPARED)];
    let round = [
        Action::KillOthers { spared: spared.clone() },
        Action::StartTimer { timer: Timer::KillAgain, after: KILL_AGAIN },
        Action::LookAtTree,
    ];
    let killed = node.step(Event::TimerFired(Timer::Grace));
    assert_eq!(killed[0], Action::Announce(Announcement::Killing { spared: spared.clone() }));
    assert_eq!(killed[1], Action::StartTimer { timer: Timer::GiveUp, after: KILL_LIMIT });
    assert_eq!(killed[2..], round);
    assert_eq!(node.step(Event::TimerFired(Timer::KillAgain)), round);
    // Without this node's word no attempt follows.
    assert_eq!(node.step(Event::TimerFired(Timer::GiveUp)), [Action::Announce(Announcement::GaveUp)]);
    assert_eq!(node.step(begin(1)), []);
    // If the kernel lets go of them after all, so much the better.
    assert_eq!(node.exited(100, 137), [Action::LookForOthers { spared }]);
    assert_eq!(node.step(Event::OthersGone), [gone(0)]);
}

#[test]
fn the_end_of_the_run_while_an_attempt_ends_is_the_sidecars_turn_too() {
    for killing in [false, true] {
        let mut node = Harness::new(&[RestartPolicy::Always]);
        node.exited(100, 7);
        if killing {
            node.step(Event::TimerFired(Timer::Grace));
        }
        let actions = node.step(stop());
        assert_eq!(
            actions,
            [
                Action::StartTimer { timer: Timer::Grace, after: GRACE },
                Action::StartTimer { timer: Timer::LastCall, after: GRACE * 4 / 5 },
                Action::LookForOthers { spared: vec![pid(SPARED)] },
                Action::LookAtTree,
            ],
            "killing {killing}"
        );
        let branch = Action::SignalBranch { root: pid(SPARED), signal: Signal::TERM };
        assert_eq!(node.step(Event::OthersGone), [branch]);
        assert_eq!(node.step(begin(1)), []);
        node.exited(SPARED, 0);
        assert!(matches!(node.step(Event::TreeEmpty)[0], Action::Tell(NodeMessage::Stopped { .. })));
    }
}

#[test]
fn between_two_attempts_a_stop_is_a_stop() {
    let mut node = Harness::new(&[]);
    node.step(stop_attempt(0));
    node.exited(100, 143);
    node.step(Event::TreeEmpty);
    let failed = node.step(Event::SignalReceived(Signal::TERM));
    let cause = Cause::Stopped { signal: "SIGTERM".into() };
    assert_eq!(failed[0], Action::Tell(NodeMessage::Failed(identity().failure(cause, 143, Duration::ZERO))));
    assert!(matches!(node.step(Event::TreeEmpty)[0], Action::Tell(NodeMessage::Stopped { .. })));
    assert_eq!(node.step(begin(1)), []);
}

#[test]
fn a_sidecar_that_must_not_end_ends_the_run_between_two_attempts_too() {
    let mut node = Harness::new(&[RestartPolicy::Fail]);
    node.step(stop_attempt(0));
    node.exited(100, 143);
    node.step(Event::OthersGone);
    let cause = Cause::SidecarExited { sidecar: SidecarId::Index(0), code: 4 };
    let told = Action::Tell(NodeMessage::Failed(identity().failure(cause, 4, Duration::ZERO)));
    assert_eq!(node.exited(SPARED, 4)[0], told);
    assert_eq!(node.step(begin(1)), []);
}

#[test]
fn a_leader_that_is_lost_between_two_attempts_ends_the_run() {
    let mut node = Harness::new(&[]);
    node.step(stop_attempt(0));
    node.exited(100, 143);
    node.step(Event::TreeEmpty);
    node.step(Event::LinkLost { reason: "reset".into() });
    let end = node.step(Event::TreeEmpty);
    assert!(matches!(&end[..], [Action::Exit(Conclusion { code: 203, .. })]), "{end:?}");
}
