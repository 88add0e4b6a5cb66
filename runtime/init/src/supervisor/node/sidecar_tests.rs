//! Sidecars: every policy with every end in every phase, and the order of start and stop.

use tractorun_contract::failure::{Fates, SidecarEnd};

use super::teardown::LINGER;
use super::testing::{self, GRACE, identity, numbered, pid};
use super::*;

/// Node 0 with one worker of pid 100; the sidecars have the pids 200, 201, ... and, started again, 300 and up.
struct Harness {
    node: Node,
    now: Duration,
}

impl Harness {
    fn new(policies: &[RestartPolicy]) -> Self {
        let mode = Mode::Job { own: identity(), leader: identity() };
        let setup = Setup {
            mode,
            ranks: vec![0],
            sidecars: numbered(policies),
            grace_period: GRACE,
            attempts: Attempts::One,
            preemption: None,
        };
        Self { node: Node::new(setup), now: Duration::ZERO }
    }

    fn started(policies: &[RestartPolicy]) -> Self {
        let mut harness = Self::new(policies);
        harness.step(Event::Begun);
        for index in 0..policies.len() {
            harness.spawned(Member::Sidecar(index), 200 + i32::try_from(index).unwrap());
        }
        harness.spawned(Member::Worker(0), 100);
        harness
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        testing::step(&mut self.node, self.now, event)
    }

    fn spawned(&mut self, member: Member, number: i32) -> Vec<Action> {
        self.step(Event::Spawned { member, pid: pid(number) })
    }

    fn exited(&mut self, number: i32, reason: ExitReason) -> Vec<Action> {
        self.step(Event::ChildExited {
            pid: pid(number),
            reason,
            reaped_at: Duration::ZERO,
            traces: Traces { stderr_tail: vec!["last".into()], oom: None },
        })
    }

    /// The pause before the restart of sidecar 0 that this leads to, if any.
    fn delay(actions: &[Action]) -> Option<Duration> {
        actions.iter().find_map(|action| match action {
            Action::StartTimer { timer: Timer::Restart { sidecar: 0 }, after } => Some(*after),
            _ => None,
        })
    }
}

const CODE_0: ExitReason = ExitReason::Code(0);
const CODE_3: ExitReason = ExitReason::Code(3);
const SIGKILL: ExitReason = ExitReason::Signal(9);
const RESTART: Event = Event::TimerFired(Timer::Restart { sidecar: 0 });
const LAST_CALL: Event = Event::TimerFired(Timer::LastCall);

fn not_started() -> Event {
    Event::SpawnFailed { member: Member::Sidecar(0), reason: "`x`: not found".into(), exit_code: 127 }
}

fn term(root: i32) -> Action {
    Action::SignalBranch { root: pid(root), signal: Signal::TERM }
}

fn stopping_but(spared: &[i32], look: &[Action]) -> Vec<Action> {
    let spared = spared.iter().copied().map(pid).collect();
    let mut actions = vec![
        Action::SignalTree { signal: Signal::TERM, spared },
        Action::StartTimer { timer: Timer::Grace, after: GRACE },
        Action::StartTimer { timer: Timer::LastCall, after: Duration::from_secs(8) },
    ];
    actions.extend_from_slice(look);
    actions.push(Action::LookAtTree);
    actions
}

fn look_for_others(spared: &[i32]) -> Action {
    Action::LookForOthers { spared: spared.iter().copied().map(pid).collect() }
}

#[test]
fn they_start_in_order_before_the_workers() {
    let mut harness = Harness::new(&[RestartPolicy::Always, RestartPolicy::Fail]);
    assert_eq!(harness.step(Event::Begun), [Action::Spawn(Member::Sidecar(0))]);
    assert_eq!(harness.spawned(Member::Sidecar(0), 200), [Action::Spawn(Member::Sidecar(1))]);
    assert_eq!(harness.spawned(Member::Sidecar(1), 201), [Action::Spawn(Member::Worker(0))]);
    assert_eq!(harness.spawned(Member::Worker(0), 100), [Action::Announce(Announcement::WorkersStarted)]);
}

/// What an end while the workers run leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Restart,
    Nothing,
    Failure(u8),
}

#[test]
fn every_policy_with_every_end() {
    use Expected::{Failure, Nothing, Restart};
    use RestartPolicy::{Always, Fail, Never, OnFailure};
    for (policy, by_0, by_3, by_kill, not_there) in [
        (Always, Restart, Restart, Restart, Restart),
        (OnFailure, Nothing, Restart, Restart, Restart),
        (Never, Nothing, Nothing, Nothing, Nothing),
        // A success that nobody asked for must not make the run one.
        (Fail, Failure(1), Failure(3), Failure(137), Failure(127)),
    ] {
        for (end, expected) in
            [(Some(CODE_0), by_0), (Some(CODE_3), by_3), (Some(SIGKILL), by_kill), (None, not_there)]
        {
            let mut harness = Harness::new(&[policy]);
            harness.step(Event::Begun);
            let actions = if let Some(reason) = end {
                harness.spawned(Member::Sidecar(0), 200);
                harness.spawned(Member::Worker(0), 100);
                harness.exited(200, reason)
            } else {
                let actions = harness.step(not_started());
                // The others start all the same, unless the node fails.
                let goes_on = actions.last() == Some(&Action::Spawn(Member::Worker(0)));
                assert_eq!(goes_on, !matches!(expected, Failure(_)), "{policy:?}: {actions:?}");
                actions
            };
            let case = format!("{policy:?} {end:?}: {actions:?}");
            let told = actions.iter().find_map(|action| match action {
                Action::Tell(NodeMessage::Failed(failure)) => Some(failure.clone()),
                _ => None,
            });
            let bad_end = actions.iter().find_map(|action| match action {
                Action::Tell(NodeMessage::SidecarEnded(end)) => Some(end),
                _ => None,
            });
            let is_bad = end != Some(CODE_0) && told.is_none();
            assert_eq!(bad_end.is_some(), is_bad, "{case}");
            if let Some(SidecarEnd { end: failure, restarts: 0, restart_after_seconds }) = bad_end {
                assert_eq!(
                    (failure.rank, failure.cause.sidecar()),
                    (None, Some(SidecarId::Index(0))),
                    "{case}"
                );
                assert_eq!(failure.stderr_tail.is_empty(), end.is_none(), "{case}");
                let after = Harness::delay(&actions).map(|after| after.as_secs_f64());
                assert_eq!(*restart_after_seconds, after, "{case}");
            }
            let actual = match (&told, Harness::delay(&actions)) {
                (Some(failure), _) => Failure(failure.exit_code),
                (None, Some(after)) => {
                    assert_eq!(after, Duration::from_millis(100), "{case}");
                    Restart
                }
                (None, None) => Nothing,
            };
            assert_eq!(actual, expected, "{case}");
            if let Some(failure) = told {
                assert_eq!(
                    (failure.rank, failure.cause.sidecar()),
                    (None, Some(SidecarId::Index(0))),
                    "{case}"
                );
                let has_tail = !failure.stderr_tail.is_empty();
                assert_eq!(has_tail, end.is_some(), "{case}");
            }
            let after_pause = harness.step(RESTART);
            match expected {
                Restart => assert_eq!(after_pause, [Action::Spawn(Member::Sidecar(0))], "{case}"),
                Nothing | Failure(_) => assert_eq!(after_pause, [], "{case}"),
            }
        }
    }
}

#[test]
fn a_sidecar_that_fails_is_named_with_what_it_did() {
    for (reason, cause) in [
        (CODE_0, Cause::SidecarExited { sidecar: SidecarId::Index(1), code: 0 }),
        (CODE_3, Cause::SidecarExited { sidecar: SidecarId::Index(1), code: 3 }),
        (SIGKILL, Cause::SidecarKilled { sidecar: SidecarId::Index(1), signal: "SIGKILL".into() }),
    ] {
        let mut harness = Harness::started(&[RestartPolicy::Never, RestartPolicy::Fail]);
        let actions = harness.exited(201, reason);
        let Action::Tell(NodeMessage::Failed(failure)) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!((&failure.cause, failure.stderr_tail.as_slice()), (&cause, &["last".to_owned()][..]));
        // The workers go first, and the other sidecar last.
        assert_eq!(actions[2..], stopping_but(&[200], &[]));
    }
}

#[test]
fn the_pause_doubles_up_to_a_limit_and_is_forgiven_after_a_minute() {
    let mut harness = Harness::started(&[RestartPolicy::Always]);
    let mut number = 200;
    let mut delays = Vec::new();
    for uptime in [0, 1, 59, 0, 0, 0, 0, 0, 0, 0, 0, 60, 0] {
        harness.now += Duration::from_secs(uptime);
        delays.push(Harness::delay(&harness.exited(number, CODE_0)).unwrap().as_millis());
        assert_eq!(harness.step(RESTART), [Action::Spawn(Member::Sidecar(0))]);
        number += 100;
        assert_eq!(harness.spawned(Member::Sidecar(0), number), []);
    }
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 100, 200]);
    let sidecar = &harness.node.sidecars()[0];
    assert_eq!((sidecar.restarts(), sidecar.last_end()), (13, Some(CODE_0)));
    assert_eq!(sidecar.last_lines(), ["last"]);
    assert!(matches!(sidecar.status(), Status::Running { .. }));
}

#[test]
fn one_that_cannot_be_started_is_tried_again() {
    let mut harness = Harness::new(&[RestartPolicy::OnFailure]);
    harness.step(Event::Begun);
    for millis in [100, 200, 400] {
        let actions = harness.step(not_started());
        assert_eq!(Harness::delay(&actions), Some(Duration::from_millis(millis)));
        assert_eq!(harness.step(RESTART), [Action::Spawn(Member::Sidecar(0))]);
    }
    assert_eq!(harness.spawned(Member::Sidecar(0), 200), []);
}

#[test]
fn they_do_not_keep_a_node_from_ending_and_stop_in_reverse() {
    let policies = [RestartPolicy::Always, RestartPolicy::Never, RestartPolicy::Fail];
    let mut harness = Harness::started(&policies);
    let mut expected = vec![Action::Tell(NodeMessage::Finished { attempt: 0 })];
    let linger = Action::StartTimer { timer: Timer::Linger, after: LINGER };
    expected.extend(stopping_but(&[200, 201, 202], &[linger, look_for_others(&[200, 201, 202])]));
    assert_eq!(harness.exited(100, CODE_0), expected);
    // An orphan of a worker keeps them, and after a while a person is told.
    let sidecars = [200, 201, 202].map(pid).to_vec();
    let lingering = Announcement::Lingering { sidecars, remaining: GRACE.checked_sub(LINGER).unwrap() };
    assert_eq!(harness.step(Event::TimerFired(Timer::Linger)), [Action::Announce(lingering)]);
    assert_eq!(harness.exited(4711, SIGKILL), [look_for_others(&[200, 201, 202])]);
    assert_eq!(harness.step(Event::OthersGone), [term(202)]);
    assert_eq!(harness.step(Event::TimerFired(Timer::Linger)), []);
    // One that ends out of turn is not waited for, and none starts again or fails any more.
    assert_eq!(harness.exited(201, CODE_3), []);
    assert_eq!(harness.exited(202, ExitReason::Signal(15)), [term(200)]);
    assert_eq!(harness.exited(200, CODE_0), []);
    assert_eq!(harness.step(RESTART), []);
    assert_eq!(harness.step(Event::TreeEmpty), []);
    let release = Event::Told(LeaderMessage::Release { exit_code: 0, others: Fates::default() });
    assert_eq!(harness.step(release), [Action::Exit(Conclusion { code: 0, verdict: None })]);
}

#[test]
fn a_failed_worker_takes_the_others_first() {
    let mut harness = Harness::started(&[RestartPolicy::Always]);
    let actions = harness.exited(100, CODE_3);
    assert_eq!(actions[2..], stopping_but(&[200], &[look_for_others(&[200])]));

    // SIGTERM: the worker still runs, so nobody is looked for before it has ended.
    let mut harness = Harness::started(&[RestartPolicy::Always]);
    let actions = harness.step(Event::SignalReceived(Signal::TERM));
    assert_eq!(actions[2..], stopping_but(&[200], &[]));
    assert_eq!(harness.exited(4711, CODE_0), []);
    assert_eq!(harness.exited(100, ExitReason::Signal(15)), [look_for_others(&[200])]);
}

#[test]
fn the_last_call_reaches_everybody_whose_turn_has_not_come() {
    let policies = [RestartPolicy::Always, RestartPolicy::Always, RestartPolicy::Always];
    // A worker that does not end.
    let mut harness = Harness::started(&policies);
    harness.step(Event::SignalReceived(Signal::TERM));
    assert_eq!(harness.step(LAST_CALL), [term(202), term(201), term(200)]);
    assert_eq!(harness.step(LAST_CALL), []);
    assert_eq!(harness.exited(202, CODE_0), []);
    assert!(harness.step(Event::TimerFired(Timer::Grace)).contains(&Action::KillTree));
    assert_eq!(harness.step(LAST_CALL), []);

    // A sidecar that does not end.
    let mut harness = Harness::started(&policies);
    harness.exited(100, CODE_0);
    harness.step(Event::OthersGone);
    assert_eq!(harness.step(LAST_CALL), [term(201), term(200)]);
    assert_eq!(harness.exited(202, CODE_0), []);
}

#[test]
fn nobody_starts_again_once_stopping_has_begun() {
    let mut harness = Harness::started(&[RestartPolicy::Always]);
    harness.exited(200, CODE_3);
    // Nobody is left to spare: it goes as without sidecars.
    let actions = harness.step(Event::SignalReceived(Signal::TERM));
    assert!(actions.contains(&Action::SignalTree { signal: Signal::TERM, spared: Vec::new() }));
    assert_eq!(harness.step(RESTART), []);
    // One whose answer comes too late has missed the SIGTERM.
    let late = harness.spawned(Member::Sidecar(0), 300);
    assert!(late.contains(&Action::KillTree), "{late:?}");
}

#[test]
fn signals_for_the_workers_do_not_reach_them() {
    let mut harness = Harness::started(&[RestartPolicy::Always]);
    let signal = Signal::USR1;
    let expected = Action::Signal { pid: pid(100), target: Target::Group, signal };
    assert_eq!(harness.step(Event::SignalReceived(signal)), [expected]);
}
