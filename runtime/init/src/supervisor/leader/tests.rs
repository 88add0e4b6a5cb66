//! The leader's races.

use proptest::prelude::*;

use tractorun_contract::failure::{Fate, Fates, MAX_SIDECAR_RECORDS, SidecarEnd};
use tractorun_contract::sidecar::SidecarId;

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const SAVING: Duration = Duration::from_secs(40);

struct Harness {
    leader: Leader,
    now: Duration,
}

impl Harness {
    fn new(node_count: u32) -> Self {
        let now = Duration::from_secs(5);
        Self {
            leader: Leader::new((0..node_count).map(identity).collect(), rules(Restarts::default()), now),
            now,
        }
    }

    fn step(&mut self, event: LeaderEvent) -> Vec<LeaderAction> {
        self.now += Duration::from_secs(1);
        let mut actions = Vec::new();
        self.leader.step(self.now, event, &mut actions);
        actions
    }
}

fn rules(restarts: Restarts) -> Rules {
    Rules { grace_period: GRACE, restarts, preemption_timeout: SAVING, workers_per_node: 2 }
}

fn identity(node_rank: u32) -> Identity {
    Identity { node_rank, host: format!("host-{node_rank}"), job_id: format!("job-{node_rank}") }
}

fn failure(node_rank: u32, code: u8) -> Failure {
    identity(node_rank).failure(Cause::WorkerExited { code }, code, Duration::ZERO)
}

fn told(node_rank: u32, message: NodeMessage) -> LeaderEvent {
    LeaderEvent::Told { node_rank, message }
}

fn failed(node_rank: u32, code: u8) -> LeaderEvent {
    told(node_rank, NodeMessage::Failed(failure(node_rank, code)))
}

fn lost(node_rank: u32) -> LeaderEvent {
    LeaderEvent::Lost { node_rank, reason: "reset".into() }
}

fn to_all(message: LeaderMessage) -> LeaderAction {
    LeaderAction::Command(HubCommand::Send { to: Recipients::All, message })
}

fn release_after(exit_code: u8, others: Fates) -> Vec<LeaderAction> {
    vec![to_all(LeaderMessage::Release { exit_code, others })]
}

fn release(exit_code: u8) -> Vec<LeaderAction> {
    release_after(exit_code, Fates::default())
}

/// The event completes the record, and once that is written all are released with what it says of the others; gives that.
#[track_caller]
fn completes(leader: &mut Harness, event: LeaderEvent, exit_code: u8) -> Fates {
    let actions = leader.step(event);
    let [LeaderAction::Command(HubCommand::PublishFailure(record)), timer] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(*timer, LeaderAction::StartTimer { after: COMPLETE_LIMIT });
    let released = release_after(exit_code, record.others.clone());
    assert_eq!(leader.step(LeaderEvent::FailurePublished), released);
    record.others.clone()
}

/// All workers of a node ended that way.
fn fates(node_rank: u32, fate: Fate) -> Fates {
    let mut fates = Fates::default();
    (2 * node_rank..2 * node_rank + 2).for_each(|rank| fates.add(rank, fate, None));
    fates
}

fn decided(verdict: &Failure) -> Vec<LeaderAction> {
    vec![
        to_all(LeaderMessage::Stop { verdict: verdict.clone(), manner: StopManner::Orderly }),
        LeaderAction::Command(HubCommand::PublishFailure(verdict.clone())),
        LeaderAction::StartTimer { after: GRACE + STOP_MARGIN },
    ]
}

#[test]
fn all_finished_is_released_with_0() {
    let mut leader = Harness::new(2);
    assert_eq!(leader.step(told(1, NodeMessage::Finished { attempt: 0 })), []);
    // Saying it twice does not count twice.
    assert_eq!(leader.step(told(1, NodeMessage::Finished { attempt: 0 })), []);
    assert_eq!(leader.step(told(0, NodeMessage::Finished { attempt: 0 })), release(0));
    // Too late to matter.
    assert_eq!(leader.step(lost(1)), []);
    assert_eq!(leader.step(failed(0, 7)), []);
}

#[test]
fn the_first_failure_decides_and_all_are_released_when_it_is_written_and_they_are_stopped() {
    let mut leader = Harness::new(3);
    assert_eq!(leader.step(failed(1, 7)), decided(&failure(1, 7)));
    assert_eq!(leader.step(failed(2, 8)), []);
    for node in [0, 1, 2] {
        assert_eq!(leader.step(told(node, NodeMessage::Stopped { fates: Fates::default() })), []);
    }
    completes(&mut leader, LeaderEvent::FailurePublished, 7);
    assert_eq!(leader.step(LeaderEvent::TimerFired), []);
}

#[test]
fn written_before_they_are_stopped() {
    let mut leader = Harness::new(2);
    leader.step(failed(1, 7));
    assert_eq!(leader.step(LeaderEvent::FailurePublished), []);
    assert_eq!(leader.step(told(1, NodeMessage::Stopped { fates: Fates::default() })), []);
    assert_eq!(leader.step(told(1, NodeMessage::Stopped { fates: Fates::default() })), []);
    completes(&mut leader, told(0, NodeMessage::Stopped { fates: Fates::default() }), 7);
}

#[test]
fn a_lost_node_is_a_verdict_and_not_waited_for() {
    let mut leader = Harness::new(2);
    let cause = Cause::NodeLost { reason: "reset".into() };
    let verdict = identity(1).failure(cause, 203, Duration::from_secs(1));
    assert_eq!(leader.step(lost(1)), decided(&verdict));
    leader.step(LeaderEvent::FailurePublished);
    completes(&mut leader, told(0, NodeMessage::Stopped { fates: Fates::default() }), 203);
}

#[test]
fn a_node_lost_while_stopping_counts_as_stopped() {
    let mut leader = Harness::new(2);
    leader.step(failed(0, 7));
    leader.step(LeaderEvent::FailurePublished);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped { fates: Fates::default() })), []);
    completes(&mut leader, lost(1), 7);
}

#[test]
fn a_node_that_finished_and_is_lost_before_all_did_is_a_failure() {
    let mut leader = Harness::new(2);
    leader.step(told(1, NodeMessage::Finished { attempt: 0 }));
    assert_eq!(leader.step(lost(1)).len(), 3);
    assert_eq!(leader.step(told(0, NodeMessage::Finished { attempt: 0 })), []);
}

#[test]
fn a_finished_node_must_still_say_that_it_is_stopped() {
    let mut leader = Harness::new(2);
    leader.step(told(1, NodeMessage::Finished { attempt: 0 }));
    leader.step(failed(0, 7));
    leader.step(LeaderEvent::FailurePublished);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped { fates: Fates::default() })), []);
    completes(&mut leader, told(1, NodeMessage::Stopped { fates: Fates::default() }), 7);
}

#[test]
fn after_the_deadline_nobody_is_waited_for() {
    let mut leader = Harness::new(2);
    leader.step(failed(0, 7));
    completes(&mut leader, LeaderEvent::TimerFired, 7);
    assert_eq!(leader.step(LeaderEvent::FailurePublished), []);
}

#[test]
fn the_completed_record_says_what_became_of_everybody_else() {
    let mut leader = Harness::new(5);
    let verdict = Failure { rank: Some(3), stderr_tail: vec!["boom".into()], ..failure(1, 7) };
    leader.step(told(3, NodeMessage::Finished { attempt: 0 }));
    let actions = leader.step(told(1, NodeMessage::Failed(verdict.clone())));
    // The lines are for the record, not for every node.
    let stop = Failure { stderr_tail: Vec::new(), ..verdict.clone() };
    assert_eq!(actions[0], to_all(LeaderMessage::Stop { verdict: stop, manner: StopManner::Orderly }));
    assert_eq!(actions[1], LeaderAction::Command(HubCommand::PublishFailure(verdict)));
    leader.step(LeaderEvent::FailurePublished);
    let mut of_first = fates(1, Fate::Failed);
    of_first.remove(2);
    of_first.add(2, Fate::Victim, None);
    leader.step(told(1, NodeMessage::Stopped { fates: of_first }));
    leader.step(told(0, NodeMessage::Stopped { fates: fates(0, Fate::Victim) }));
    leader.step(told(3, NodeMessage::Stopped { fates: fates(3, Fate::Finished) }));
    leader.step(lost(2));
    // Lost after it has said everything.
    leader.step(lost(3));
    let others = completes(&mut leader, LeaderEvent::TimerFired, 7);
    assert_eq!(others.to_string(), "3 stopped, 2 finished, 2 lost (node 2), 2 unknown (node 4)");
    assert!(others.groups().iter().all(|group| !group.ranks.contains(3)), "the first is none of the others");
}

#[test]
fn a_record_that_cannot_be_completed_keeps_nobody() {
    let mut leader = Harness::new(1);
    leader.step(failed(0, 7));
    leader.step(LeaderEvent::FailurePublished);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped { fates: Fates::default() })).len(), 2);
    assert_eq!(leader.step(LeaderEvent::TimerFired), release(7));
}

fn restarts(max: u32) -> Restarts {
    Restarts { max, window: None, backoff: Duration::from_secs(1), never: vec![3] }
}

fn with_restarts(node_count: u32, restarts: Restarts) -> Harness {
    let now = Duration::from_secs(5);
    let nodes = (0..node_count).map(identity).collect();
    Harness { leader: Leader::new(nodes, rules(restarts), now), now }
}

fn failed_in(attempt: u32, node_rank: u32, code: u8) -> LeaderEvent {
    told(node_rank, NodeMessage::Failed(Failure { attempt, ..failure(node_rank, code) }))
}

fn gone(node_rank: u32, attempt: u32) -> LeaderEvent {
    told(node_rank, NodeMessage::WorkersGone { attempt })
}

fn attempt_ended(failures: &[Failure]) -> Vec<LeaderAction> {
    vec![
        to_all(LeaderMessage::StopAttempt(failures.last().unwrap().clone())),
        LeaderAction::Command(HubCommand::PublishAttempts(failures.to_vec())),
        LeaderAction::StartTimer { after: GRACE + STOP_MARGIN },
    ]
}

fn begin(attempt: u32) -> Vec<LeaderAction> {
    vec![to_all(LeaderMessage::Begin { attempt })]
}

/// From a failure to the next attempt.
fn restart(leader: &mut Harness, attempt: u32, code: u8) {
    leader.step(failed_in(attempt, 0, code));
    leader.step(gone(0, attempt));
    leader.step(gone(1, attempt));
    assert_eq!(leader.step(LeaderEvent::TimerFired), begin(attempt + 1));
}

#[test]
fn a_failure_is_answered_by_an_attempt_once_all_workers_are_gone_and_the_pause_is_over() {
    let mut leader = with_restarts(2, restarts(1));
    leader.step(told(0, NodeMessage::Finished { attempt: 0 }));
    assert_eq!(leader.step(failed_in(0, 1, 7)), attempt_ended(&[failure(1, 7)]));
    // The sibling's, which follows from it.
    assert_eq!(leader.step(failed_in(0, 0, 8)), []);
    assert_eq!(leader.step(gone(1, 0)), []);
    assert_eq!(leader.step(gone(1, 0)), []);
    let pause = LeaderAction::StartTimer { after: Duration::from_secs(1) };
    assert_eq!(leader.step(gone(0, 0)), [pause]);
    assert_eq!(leader.step(LeaderEvent::TimerFired), begin(1));
    // What is left of the first attempt counts no more.
    assert_eq!(leader.step(failed_in(0, 0, 9)), []);
    assert_eq!(leader.step(gone(0, 0)), []);
    assert_eq!(leader.step(told(0, NodeMessage::Finished { attempt: 0 })), []);
    assert_eq!(leader.step(told(1, NodeMessage::Finished { attempt: 1 })), []);
    assert_eq!(leader.step(told(0, NodeMessage::Finished { attempt: 1 })), release(0));
}

#[test]
fn without_a_pause_the_next_attempt_begins_at_once() {
    let mut leader = with_restarts(1, Restarts { backoff: Duration::ZERO, ..restarts(1) });
    leader.step(failed_in(0, 0, 7));
    assert_eq!(leader.step(gone(0, 0)), begin(1));
}

#[test]
fn a_used_budget_and_codes_that_are_never_retried_end_the_run_and_say_so() {
    let mut leader = with_restarts(2, restarts(2));
    restart(&mut leader, 0, 7);
    restart(&mut leader, 1, 8);
    let last = Failure { attempt: 2, ..failure(1, 9) };
    let why = NotRestarted::Exhausted { used: 2, max: 2 };
    let verdict = Failure { not_restarted: Some(why), ..last };
    assert_eq!(leader.step(failed_in(2, 1, 9)), decided(&verdict));

    let mut leader = with_restarts(2, restarts(2));
    let verdict = Failure { not_restarted: Some(NotRestarted::NeverCode), ..failure(1, 3) };
    assert_eq!(leader.step(failed_in(0, 1, 3)), decided(&verdict));
}

#[test]
fn what_no_attempt_could_answer_ends_the_run_whenever_it_comes() {
    let stopped = || {
        let cause = Cause::Stopped { signal: "SIGTERM".into() };
        identity(1).failure(cause, 143, Duration::ZERO)
    };
    let sidecar = || {
        identity(1).failure(Cause::SidecarExited { sidecar: SidecarId::Index(0), code: 0 }, 1, Duration::ZERO)
    };
    for verdict in [stopped(), sidecar()] {
        for phase in 0..3 {
            let mut leader = with_restarts(2, restarts(5));
            if phase > 0 {
                leader.step(failed_in(0, 0, 7));
            }
            if phase > 1 {
                leader.step(gone(0, 0));
                leader.step(gone(1, 0));
            }
            let actions = leader.step(told(1, NodeMessage::Failed(verdict.clone())));
            assert_eq!(actions, decided(&verdict), "phase {phase}");
            // A timer that runs ends the waiting, not the pause.
            assert_eq!(leader.step(gone(0, 0)), []);
            completes(&mut leader, LeaderEvent::TimerFired, verdict.exit_code);
        }
    }
}

#[test]
fn a_node_lost_between_two_attempts_is_the_verdict() {
    for all_gone in [false, true] {
        let mut leader = with_restarts(2, restarts(5));
        leader.step(failed_in(0, 0, 7));
        leader.step(gone(0, 0));
        if all_gone {
            leader.step(gone(1, 0));
        }
        let actions = leader.step(lost(1));
        let message = match &actions[0] {
            LeaderAction::Command(HubCommand::Send {
                message: LeaderMessage::Stop { verdict, .. }, ..
            }) => verdict,
            other => panic!("{other:?}"),
        };
        assert_eq!((&message.cause, message.node_rank), (&Cause::NodeLost { reason: "reset".into() }, 1));
        leader.step(LeaderEvent::FailurePublished);
        completes(&mut leader, told(0, NodeMessage::Stopped { fates: Fates::default() }), 203);
    }
}

#[test]
fn workers_that_cannot_be_ended_are_followed_by_no_attempt() {
    let mut leader = with_restarts(2, restarts(5));
    leader.step(failed_in(0, 0, 7));
    leader.step(gone(0, 0));
    let verdict = Failure { not_restarted: Some(NotRestarted::StillRunning), ..failure(0, 7) };
    assert_eq!(leader.step(LeaderEvent::TimerFired), decided(&verdict));
}

#[test]
fn a_preempted_node_gives_everybody_time_to_save() {
    let mut leader = with_restarts(2, restarts(5));
    let cause = Cause::Preempted { signal: "SIGTERM".into() };
    let verdict = identity(1).failure(cause, 205, Duration::ZERO);
    let manner = StopManner::Preempted { remaining_ms: 40_000 };
    assert_eq!(
        leader.step(told(1, NodeMessage::Failed(verdict.clone()))),
        [
            to_all(LeaderMessage::Stop { verdict: verdict.clone(), manner }),
            LeaderAction::Command(HubCommand::PublishFailure(verdict)),
            LeaderAction::StartTimer { after: SAVING + GRACE + STOP_MARGIN },
        ]
    );
    // How workers end after that is nobody's failure.
    assert_eq!(leader.step(failed_in(0, 0, 1)), []);
}

#[test]
fn the_list_of_failed_attempts_has_an_end() {
    let mut leader = with_restarts(1, Restarts { backoff: Duration::ZERO, ..restarts(1_000) });
    for attempt in 0..100 {
        let actions = leader.step(failed_in(attempt, 0, 7));
        let published = actions.iter().find_map(|action| match action {
            LeaderAction::Command(HubCommand::PublishAttempts(list)) => Some(list),
            _ => None,
        });
        let published = published.unwrap();
        assert_eq!(published.len(), (attempt as usize + 1).min(MAX_ATTEMPT_RECORDS));
        assert_eq!(published.last().unwrap().attempt, attempt);
        leader.step(gone(0, attempt));
    }
}

fn bad_end(node_rank: u32, sidecar: u32, restarts: u32) -> SidecarEnd {
    let cause = Cause::SidecarExited { sidecar: SidecarId::Index(sidecar), code: 3 };
    SidecarEnd::new(identity(node_rank).failure(cause, 3, Duration::ZERO), restarts, None)
}

#[test]
fn the_list_of_sidecars_has_the_last_bad_end_of_each_and_an_end() {
    let mut leader = Harness::new(2);
    let mut tell = |end: SidecarEnd| match leader.step(told(0, NodeMessage::SidecarEnded(end))).as_slice() {
        [LeaderAction::Command(HubCommand::PublishSidecars(ends))] => ends.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(tell(bad_end(0, 1, 0)), [bad_end(0, 1, 0)]);
    tell(bad_end(1, 1, 0));
    assert_eq!(tell(bad_end(0, 1, 5)), [bad_end(1, 1, 0), bad_end(0, 1, 5)]);
    for sidecar in 0..1_000 {
        let list = tell(bad_end(1, sidecar, 0));
        assert!(list.len() <= MAX_SIDECAR_RECORDS && list.last() == Some(&bad_end(1, sidecar, 0)));
    }
    leader.step(told(0, NodeMessage::Finished { attempt: 0 }));
    leader.step(told(1, NodeMessage::Finished { attempt: 0 }));
    assert_eq!(leader.step(told(0, NodeMessage::SidecarEnded(bad_end(0, 0, 0)))), []);
}

proptest! {
    /// At any time, no more than `max` restarts lie within the window, and none is refused while fewer do.
    #[test]
    fn restarts_count_within_the_window_only(
        max in 1..5_u32,
        window_s in 1..50_u64,
        pauses_s in proptest::collection::vec(0..20_u64, 1..60),
    ) {
        let window = Duration::from_secs(window_s);
        let mut budget = Budget::new(Restarts { window: Some(window), ..restarts(max) });
        let mut now = Duration::from_secs(5);
        let mut granted: Vec<Duration> = Vec::new();
        for pause in pauses_s {
            now += Duration::from_secs(pause);
            let within = granted.iter().filter(|at| now.saturating_sub(**at) < window).count();
            let expected = if within < max as usize {
                granted.push(now);
                Answer::Restart
            } else {
                Answer::End(Some(NotRestarted::Exhausted { used: max, max }))
            };
            prop_assert_eq!(budget.answer(now, &failure(0, 7)), expected);
        }
    }
}
