//! The races of one node, each as a table of events and what follows.

use tractorun_contract::failure::{Fate, Fates, OomEvidence, OutOfMemory};

use super::ending::RELEASE_MARGIN;
use super::teardown::{KILL_AGAIN, KILL_LIMIT, LINGER};
use super::*;
use crate::control::StopManner;

const GRACE: Duration = Duration::from_secs(10);

fn identity(node_rank: u32) -> Identity {
    Identity { node_rank, host: format!("host-{node_rank}"), job_id: format!("job-{node_rank}") }
}

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

/// Node 1 of a job, with two workers of the ranks 2 and 3 and the pids 100 and 101.
struct Harness {
    node: Node,
    now: Duration,
    /// What the node has said of its workers.
    fates: Fates,
}

impl Harness {
    fn job() -> Self {
        let mode = Mode::Job { own: identity(1), leader: identity(0) };
        Self::with(Setup {
            mode,
            ranks: vec![2, 3],
            sidecars: Vec::new(),
            grace_period: GRACE,
            attempts: Attempts::One,
            preemption: None,
        })
    }

    fn plain(target: Target) -> Self {
        Self::with(Setup {
            mode: Mode::Plain { target },
            ranks: vec![0],
            sidecars: Vec::new(),
            grace_period: GRACE,
            attempts: Attempts::One,
            preemption: None,
        })
    }

    fn with(setup: Setup) -> Self {
        Self { node: Node::new(setup), now: Duration::from_secs(5), fates: Fates::default() }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.now += Duration::from_secs(1);
        let mut actions = Vec::new();
        self.node.step(self.now, event, &mut actions);
        // What is said of the workers is tested on its own.
        for action in &mut actions {
            if let Action::Tell(NodeMessage::Stopped { fates }) = action {
                self.fates = std::mem::take(fates);
            }
        }
        actions
    }

    /// Starts all workers.
    fn started(mut self) -> Self {
        let mut actions = self.step(Event::Begun);
        while let Some(Action::Spawn(Member::Worker(worker))) = actions.pop() {
            let number = 100 + i32::try_from(worker).unwrap();
            actions = self.step(Event::Spawned { member: Member::Worker(worker), pid: pid(number) });
        }
        self
    }

    /// Takes several events; what the last one leads to.
    fn after(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        events.into_iter().map(|event| self.step(event)).last().unwrap_or_default()
    }
}

fn exited(number: i32, code: u8) -> Event {
    Event::ChildExited {
        pid: pid(number),
        reason: ExitReason::Code(code),
        reaped_at: Duration::ZERO,
        traces: Traces { stderr_tail: vec!["boom".into()], oom: None },
    }
}

fn own_failure(cause: Cause, rank: Option<u32>, exit_code: u8, elapsed_seconds: f64) -> Failure {
    let stderr_tail = if matches!(cause, Cause::WorkerExited { .. } | Cause::WorkerKilled { .. }) {
        vec!["boom".into()]
    } else {
        Vec::new()
    };
    Failure { rank, elapsed_seconds, stderr_tail, ..identity(1).failure(cause, exit_code, Duration::ZERO) }
}

/// What another node's worker did.
fn verdict() -> Failure {
    Failure { rank: Some(0), ..identity(0).failure(Cause::WorkerExited { code: 9 }, 9, Duration::ZERO) }
}

fn stop_actions() -> Vec<Action> {
    vec![
        Action::SignalTree { signal: Signal::TERM, spared: Vec::new() },
        Action::StartTimer { timer: Timer::Grace, after: GRACE },
        Action::LookAtTree,
    ]
}

fn kill_actions() -> Vec<Action> {
    vec![
        Action::StartTimer { timer: Timer::GiveUp, after: KILL_LIMIT },
        Action::KillTree,
        Action::StartTimer { timer: Timer::KillAgain, after: KILL_AGAIN },
        Action::LookAtTree,
    ]
}

/// The same when the grace period is over: somebody should know whom it meets.
fn announced_kill() -> Vec<Action> {
    let mut actions = vec![Action::Announce(Announcement::Killing { spared: Vec::new() })];
    actions.extend(kill_actions());
    actions
}

fn stopped_actions() -> Vec<Action> {
    vec![
        Action::Tell(NodeMessage::Stopped { fates: Fates::default() }),
        Action::StartTimer { timer: Timer::Release, after: GRACE + RELEASE_MARGIN },
    ]
}

/// The actions of a failure that happens in `Running`.
fn failing(failure: &Failure) -> Vec<Action> {
    let mut actions = vec![
        Action::Tell(NodeMessage::Failed(failure.clone())),
        Action::Announce(Announcement::Stopping(failure.clone())),
    ];
    actions.extend(stop_actions());
    actions
}

fn exit(code: u8, verdict: Option<Failure>) -> Vec<Action> {
    vec![Action::Exit(Conclusion { code, verdict })]
}

const SIGTERM: Event = Event::SignalReceived(Signal::TERM);
fn release(exit_code: u8) -> Event {
    Event::Told(LeaderMessage::Release { exit_code, others: Fates::default() })
}

fn stop() -> Event {
    Event::Told(LeaderMessage::Stop { verdict: verdict(), manner: StopManner::Orderly })
}

fn lost() -> Event {
    Event::LinkLost { reason: "no heartbeat".into() }
}

fn leader_lost(elapsed_seconds: f64) -> Failure {
    let cause = Cause::NodeLost { reason: "no heartbeat".into() };
    Failure { elapsed_seconds, ..identity(0).failure(cause, 203, Duration::ZERO) }
}

#[test]
fn workers_start_one_after_the_other_and_are_announced() {
    let mut harness = Harness::job();
    assert_eq!(harness.step(Event::Begun), [Action::Spawn(Member::Worker(0))]);
    assert_eq!(
        harness.step(Event::Spawned { member: Member::Worker(0), pid: pid(100) }),
        [Action::Spawn(Member::Worker(1))]
    );
    assert_eq!(
        harness.step(Event::Spawned { member: Member::Worker(1), pid: pid(101) }),
        [Action::Announce(Announcement::WorkersStarted)]
    );
}

#[test]
fn success_is_finished_then_swept_then_released() {
    let mut harness = Harness::job().started();
    assert_eq!(harness.step(exited(101, 0)), []);
    let mut expected = vec![Action::Tell(NodeMessage::Finished { attempt: 0 })];
    expected.extend(stop_actions());
    expected.insert(expected.len() - 1, Action::StartTimer { timer: Timer::Linger, after: LINGER });
    assert_eq!(harness.step(exited(100, 0)), expected);
    assert_eq!(harness.step(Event::TreeEmpty), []);
    // Nobody is left to be told of.
    assert_eq!(harness.step(Event::TimerFired(Timer::Linger)), []);
    assert_eq!(harness.step(release(0)), exit(0, None));
}

#[test]
fn a_release_before_the_sweep_is_done_waits_for_it() {
    let mut harness = Harness::job().started();
    harness.after([exited(101, 0), exited(100, 0)]);
    assert_eq!(harness.step(release(0)), []);
    let remaining = GRACE.checked_sub(LINGER).unwrap();
    let lingering = Announcement::Lingering { sidecars: Vec::new(), remaining };
    assert_eq!(harness.step(Event::TimerFired(Timer::Linger)), [Action::Announce(lingering)]);
    assert_eq!(harness.step(Event::TimerFired(Timer::Grace)), announced_kill());
    assert_eq!(harness.step(Event::TreeEmpty), exit(0, None));
}

#[test]
fn the_release_says_what_became_of_the_others() {
    let mut harness = Harness::job().started();
    harness.after([stop(), exited(100, 0), exited(101, 0), Event::TreeEmpty]);
    let mut others = Fates::default();
    others.add(7, Fate::Finished, None);
    let released = harness.step(Event::Told(LeaderMessage::Release { exit_code: 9, others: others.clone() }));
    assert_eq!(released, exit(9, Some(Failure { others, ..verdict() })));
}

#[test]
fn a_failed_worker_stops_the_node_and_its_code_is_kept() {
    let mut harness = Harness::job().started();
    let failure = own_failure(Cause::WorkerExited { code: 7 }, Some(3), 7, 3.0);
    assert_eq!(harness.step(exited(101, 7)), failing(&failure));
    // The sibling dies of our SIGTERM: that is no second failure.
    let sibling = ExitReason::Signal(15);
    assert_eq!(
        harness.step(Event::ChildExited {
            pid: pid(100),
            reason: sibling,
            reaped_at: Duration::ZERO,
            traces: Traces::default()
        }),
        []
    );
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
    // The leader confirms, or names somebody who failed before.
    assert_eq!(harness.step(stop()), []);
    assert_eq!(harness.step(release(9)), exit(9, Some(verdict())));
}

#[test]
fn a_killed_worker_is_named_by_its_signal() {
    let mut harness = Harness::job().started();
    let failure = own_failure(Cause::WorkerKilled { signal: "SIGKILL".into() }, Some(2), 137, 3.0);
    let event = Event::ChildExited {
        pid: pid(100),
        reason: ExitReason::Signal(9),
        reaped_at: Duration::ZERO,
        traces: Traces { stderr_tail: vec!["boom".into()], oom: None },
    };
    assert_eq!(harness.step(event), failing(&failure));
}

#[test]
fn a_worker_that_cannot_be_started_stops_those_before_it() {
    let mut harness = Harness::job();
    harness.after([Event::Begun, Event::Spawned { member: Member::Worker(0), pid: pid(100) }]);
    let reason = "`x`: command not found".to_owned();
    let failure = own_failure(Cause::WorkerNotStarted { reason: reason.clone() }, Some(3), 127, 0.0);
    assert_eq!(
        harness.step(Event::SpawnFailed { member: Member::Worker(1), reason, exit_code: 127 }),
        failing(&failure)
    );
}

#[test]
fn a_worker_may_fail_before_the_next_one_is_started() {
    let mut harness = Harness::job();
    harness.after([
        Event::Begun,
        Event::Spawned { member: Member::Worker(0), pid: pid(100) },
        exited(100, 1),
    ]);
    // The late one missed the SIGTERM.
    assert_eq!(harness.step(Event::Spawned { member: Member::Worker(1), pid: pid(101) }), kill_actions());
    // And one whose answer comes when all seems over.
    let mut harness = Harness::job();
    harness.after([
        Event::Begun,
        Event::Spawned { member: Member::Worker(0), pid: pid(100) },
        exited(100, 1),
        Event::TreeEmpty,
    ]);
    assert_eq!(harness.step(Event::Spawned { member: Member::Worker(1), pid: pid(101) }), kill_actions());
}

#[test]
fn stop_before_and_during_the_start() {
    let mut harness = Harness::job();
    harness.step(Event::Begun);
    let mut expected = vec![Action::Announce(Announcement::Stopping(verdict()))];
    expected.extend(stop_actions());
    assert_eq!(harness.step(stop()), expected);
    assert_eq!(
        harness
            .step(Event::SpawnFailed { member: Member::Worker(0), reason: "x".into(), exit_code: 127 })
            .len(),
        2
    );
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
}

#[test]
fn the_leaders_verdict_beats_what_happens_here_later() {
    let mut harness = Harness::job().started();
    harness.step(stop());
    assert_eq!(harness.step(exited(100, 7)), []);
    assert_eq!(harness.after([Event::TreeEmpty, release(9)]), exit(9, Some(verdict())));
}

#[test]
fn grace_then_kill_until_nobody_is_left() {
    let mut harness = Harness::job().started();
    harness.step(stop());
    assert_eq!(harness.step(Event::TimerFired(Timer::Grace)), announced_kill());
    assert_eq!(harness.step(Event::TimerFired(Timer::KillAgain)), kill_actions()[1..]);
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
    // Timers that are still under way do nothing.
    assert_eq!(harness.after([Event::TimerFired(Timer::KillAgain), Event::TimerFired(Timer::GiveUp)]), []);
}

#[test]
fn what_outlives_sigkill_is_given_up() {
    let mut harness = Harness::job().started();
    harness.after([stop(), Event::TimerFired(Timer::Grace)]);
    let mut expected = vec![Action::Announce(Announcement::GaveUp)];
    expected.extend(stopped_actions());
    assert_eq!(harness.step(Event::TimerFired(Timer::GiveUp)), expected);
}

#[test]
fn sigterm_stops_in_order_and_the_second_one_at_once() {
    let mut harness = Harness::job().started();
    let failure = own_failure(Cause::Stopped { signal: "SIGTERM".into() }, None, 143, 3.0);
    assert_eq!(harness.step(SIGTERM), failing(&failure));
    assert_eq!(harness.step(SIGTERM), kill_actions());
    assert_eq!(harness.step(SIGTERM), []);
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
    // Nothing is left to wait for but the leader's word; whoever insists does not get to wait for it.
    assert_eq!(harness.step(SIGTERM), exit(143, Some(failure)));
}

#[test]
fn sigint_is_130() {
    let mut harness = Harness::job().started();
    let failure = own_failure(Cause::Stopped { signal: "SIGINT".into() }, None, 130, 3.0);
    assert_eq!(harness.step(Event::SignalReceived(Signal::INT)), failing(&failure));
}

#[test]
fn a_request_to_stop_is_orderly_and_names_itself() {
    let mut harness = Harness::job().started();
    let cause = Cause::Stopped { signal: "`tractorun stop`".into() };
    assert_eq!(harness.step(Event::StopRequested), failing(&own_failure(cause, None, 143, 3.0)));
    // A signal behind it is the first one.
    assert_eq!(harness.step(SIGTERM), []);
    assert_eq!(harness.step(SIGTERM), kill_actions());
}

#[test]
fn the_lifelines_end_is_not_a_second_request() {
    let mut harness = Harness::job().started();
    harness.step(SIGTERM);
    assert_eq!(harness.step(Event::LifelineEnded), []);
    let mut harness = Harness::job().started();
    harness.step(Event::LifelineEnded);
    assert_eq!(harness.step(SIGTERM), []);
    assert_eq!(harness.step(SIGTERM), kill_actions());
}

#[test]
fn sigterm_after_success_still_stops_the_job() {
    let failure = |seconds| own_failure(Cause::Stopped { signal: "SIGTERM".into() }, None, 143, seconds);
    let told = |failure: &Failure| failing(failure)[..2].to_vec();
    // While it is swept.
    let mut harness = Harness::job().started();
    harness.after([exited(100, 0), exited(101, 0)]);
    assert_eq!(harness.step(SIGTERM), told(&failure(5.0)));
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
    // While it waits for the others.
    let mut harness = Harness::job().started();
    harness.after([exited(100, 0), exited(101, 0), Event::TreeEmpty]);
    let mut expected = told(&failure(6.0));
    expected.extend(stopped_actions());
    assert_eq!(harness.step(SIGTERM), expected);
}

#[test]
fn another_nodes_failure_after_own_success() {
    let mut harness = Harness::job().started();
    harness.after([exited(100, 0), exited(101, 0), Event::TreeEmpty]);
    assert_eq!(harness.step(stop()), stopped_actions());
    assert_eq!(harness.step(release(9)), exit(9, Some(verdict())));

    let mut harness = Harness::job().started();
    harness.after([exited(100, 0), exited(101, 0), stop()]);
    assert_eq!(harness.step(Event::TreeEmpty), stopped_actions());
}

#[test]
fn the_link_lost_in_each_state() {
    // Running: the tree is ended first.
    let mut harness = Harness::job().started();
    let mut expected = vec![Action::Announce(Announcement::Stopping(leader_lost(3.0)))];
    expected.extend(stop_actions());
    assert_eq!(harness.step(lost()), expected);
    assert_eq!(harness.step(Event::TreeEmpty), exit(203, Some(leader_lost(3.0))));

    // Stopping and waiting after success: nobody knows of the others any more.
    let mut harness = Harness::job().started();
    assert_eq!(harness.after([exited(100, 0), exited(101, 0), lost()]), []);
    assert_eq!(harness.step(Event::TreeEmpty), exit(203, Some(leader_lost(5.0))));
    let mut harness = Harness::job().started();
    let actions = harness.after([exited(100, 0), exited(101, 0), Event::TreeEmpty, lost()]);
    assert_eq!(actions, exit(203, Some(leader_lost(6.0))));

    // With a verdict, or a failure of its own that could not become one.
    let mut harness = Harness::job().started();
    assert_eq!(harness.after([stop(), lost()]), []);
    assert_eq!(harness.step(Event::TreeEmpty), exit(9, Some(verdict())));
    let mut harness = Harness::job().started();
    let own = own_failure(Cause::WorkerExited { code: 7 }, Some(2), 7, 3.0);
    assert_eq!(harness.after([exited(100, 7), Event::TreeEmpty, lost()]), exit(7, Some(own)));
}

#[test]
fn released_while_workers_run_or_are_stopped() {
    let mut harness = Harness::job().started();
    assert_eq!(harness.step(release(9)), stop_actions());
    assert_eq!(harness.step(Event::TreeEmpty), exit(9, None));

    let mut harness = Harness::job().started();
    assert_eq!(harness.after([stop(), release(9)]), []);
    assert_eq!(harness.step(Event::TreeEmpty), exit(9, Some(verdict())));
}

#[test]
fn a_leader_that_never_releases_is_left() {
    let mut harness = Harness::job().started();
    let actions = harness.after([stop(), Event::TreeEmpty, Event::TimerFired(Timer::Release)]);
    assert_eq!(actions, exit(9, Some(verdict())));
}

#[test]
fn nothing_follows_the_exit() {
    let mut harness = Harness::job().started();
    harness.after([lost(), Event::TreeEmpty]);
    for event in [stop(), SIGTERM, lost(), release(9), exited(100, 7), Event::TreeEmpty] {
        assert_eq!(harness.step(event), []);
    }
}

#[test]
fn other_signals_go_to_the_groups_that_run() {
    let mut harness = Harness::job().started();
    let to = |number, signal| Action::Signal { pid: pid(number), target: Target::Group, signal };
    let hup = Signal::HUP;
    assert_eq!(harness.step(Event::SignalReceived(hup)), [to(100, hup), to(101, hup)]);
    harness.step(exited(100, 0));
    assert_eq!(harness.step(Event::SignalReceived(hup)), [to(101, hup)]);
}

#[test]
fn an_orphan_is_nobodys_failure() {
    assert_eq!(Harness::job().started().step(exited(4711, 1)), []);
    assert_eq!(Harness::plain(Target::Process).started().step(exited(4711, 1)), []);
}

#[test]
fn a_plain_init_hands_on_sigterm_and_ends_with_its_program() {
    for target in [Target::Process, Target::Group] {
        let mut harness = Harness::plain(target).started();
        for _ in 0..3 {
            let expected = [Action::Signal { pid: pid(100), target, signal: Signal::TERM }];
            assert_eq!(harness.step(SIGTERM), expected);
        }
        assert_eq!(harness.step(exited(100, 42)), stop_actions());
        // The program is gone: now it means the init.
        assert_eq!(harness.step(SIGTERM), kill_actions());
        assert_eq!(harness.step(SIGTERM), []);
        assert_eq!(harness.step(Event::TreeEmpty), exit(42, None));
    }
}

#[test]
fn a_plain_init_whose_program_cannot_be_started() {
    let mut harness = Harness::plain(Target::Process);
    harness.step(Event::Begun);
    let event = Event::SpawnFailed { member: Member::Worker(0), reason: "x".into(), exit_code: 127 };
    assert_eq!(harness.step(event), stop_actions());
    assert_eq!(harness.step(Event::TreeEmpty), exit(127, None));
}

#[test]
fn a_lost_guard_is_the_nodes_own_sigkill() {
    let mut node = Harness::job().started();
    let actions = node.step(Event::GuardLost);
    assert!(actions.contains(&Action::KillTree));
    assert!(!actions.iter().any(|action| matches!(action, Action::Tell(_))), "{actions:?}");
    let cause = Cause::Stopped { signal: "SIGKILL".into() };
    let failure = own_failure(cause, None, 137, 3.0);
    let conclusion = Conclusion { code: 137, verdict: Some(failure) };
    assert_eq!(node.step(Event::TreeEmpty), [Action::Exit(conclusion)]);

    // Nobody waits for grace or for a release.
    let mut node = Harness::job().started();
    node.step(Event::SignalReceived(Signal::TERM));
    assert!(node.step(Event::GuardLost).contains(&Action::KillTree));
    let mut node = Harness::job().started();
    node.after([Event::SignalReceived(Signal::TERM), Event::TreeEmpty]);
    assert!(matches!(node.step(Event::GuardLost)[..], [Action::Exit(Conclusion { code: 137, .. })]));

    let mut node = Harness::plain(Target::Process).started();
    assert!(node.step(Event::GuardLost).contains(&Action::KillTree));
    assert_eq!(node.step(Event::TreeEmpty), [Action::Exit(Conclusion { code: 137, verdict: None })]);
}

#[test]
fn the_record_says_that_memory_ran_out() {
    let mut harness = Harness::job().started();
    let oom = OutOfMemory { kills: 1, evidence: OomEvidence::MemoryEvents, limit_bytes: None };
    let traces = Traces { stderr_tail: Vec::new(), oom: Some(oom.clone()) };
    let reason = ExitReason::Signal(9);
    let event = Event::ChildExited { pid: pid(100), reason, reaped_at: harness.now, traces };
    let told = harness.step(event).into_iter().find_map(|action| match action {
        Action::Tell(NodeMessage::Failed(failure)) => Some(failure),
        _ => None,
    });
    assert_eq!(told.unwrap().oom.as_deref(), Some(&oom));
}

/// Both workers end; the second one `apart` from the first, which is told of a second after it was reaped.
fn fates_of(second: ExitReason, apart: Duration) -> String {
    let mut harness = Harness::job().started();
    let reaped_at = harness.now;
    let mut end = |number, reason, reaped_at| {
        harness.step(Event::ChildExited { pid: pid(number), reason, reaped_at, traces: Traces::default() })
    };
    end(100, ExitReason::Code(7), reaped_at);
    end(101, second, reaped_at + apart);
    harness.step(Event::TreeEmpty);
    harness.fates.to_string()
}

#[test]
fn who_ended_before_being_told_is_no_victim() {
    let at_once = Duration::ZERO;
    assert_eq!(fates_of(ExitReason::Signal(6), at_once), "2 failed too (ranks 2-3)");
    assert_eq!(fates_of(ExitReason::Code(0), at_once), "1 finished, 1 failed too (rank 2)");
    let later = Duration::from_mins(1);
    assert_eq!(fates_of(ExitReason::Signal(15), later), "1 stopped, 1 failed too (rank 2)");
    assert_eq!(fates_of(ExitReason::Code(0), later), "1 stopped, 1 failed too (rank 2)");
}

#[test]
fn a_worker_that_cannot_be_started_leaves_the_next_one_not_started() {
    let mut harness = Harness::job();
    harness.step(Event::Begun);
    harness.step(Event::SpawnFailed { member: Member::Worker(0), reason: "gone".into(), exit_code: 127 });
    harness.step(Event::TreeEmpty);
    assert_eq!(harness.fates.to_string(), "2 not started");
}
