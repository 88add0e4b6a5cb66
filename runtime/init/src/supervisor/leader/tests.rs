//! The leader's races.

use super::*;

const GRACE: Duration = Duration::from_secs(10);

struct Harness {
    leader: Leader,
    now: Duration,
}

impl Harness {
    fn new(node_count: u32) -> Self {
        let now = Duration::from_secs(5);
        Self { leader: Leader::new((0..node_count).map(identity).collect(), GRACE, now), now }
    }

    fn step(&mut self, event: LeaderEvent) -> Vec<LeaderAction> {
        self.now += Duration::from_secs(1);
        let mut actions = Vec::new();
        self.leader.step(self.now, event, &mut actions);
        actions
    }
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

fn release(exit_code: u8) -> Vec<LeaderAction> {
    vec![to_all(LeaderMessage::Release { exit_code })]
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
        assert_eq!(leader.step(told(node, NodeMessage::Stopped)), []);
    }
    assert_eq!(leader.step(LeaderEvent::FailurePublished), release(7));
    assert_eq!(leader.step(LeaderEvent::TimerFired), []);
}

#[test]
fn written_before_they_are_stopped() {
    let mut leader = Harness::new(2);
    leader.step(failed(1, 7));
    assert_eq!(leader.step(LeaderEvent::FailurePublished), []);
    assert_eq!(leader.step(told(1, NodeMessage::Stopped)), []);
    assert_eq!(leader.step(told(1, NodeMessage::Stopped)), []);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped)), release(7));
}

#[test]
fn a_lost_node_is_a_verdict_and_not_waited_for() {
    let mut leader = Harness::new(2);
    let cause = Cause::NodeLost { reason: "reset".into() };
    let verdict = identity(1).failure(cause, 203, Duration::from_secs(1));
    assert_eq!(leader.step(lost(1)), decided(&verdict));
    leader.step(LeaderEvent::FailurePublished);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped)), release(203));
}

#[test]
fn a_node_lost_while_stopping_counts_as_stopped() {
    let mut leader = Harness::new(2);
    leader.step(failed(0, 7));
    leader.step(LeaderEvent::FailurePublished);
    assert_eq!(leader.step(told(0, NodeMessage::Stopped)), []);
    assert_eq!(leader.step(lost(1)), release(7));
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
    assert_eq!(leader.step(told(0, NodeMessage::Stopped)), []);
    assert_eq!(leader.step(told(1, NodeMessage::Stopped)), release(7));
}

#[test]
fn after_the_deadline_nobody_is_waited_for() {
    let mut leader = Harness::new(2);
    leader.step(failed(0, 7));
    assert_eq!(leader.step(LeaderEvent::TimerFired), release(7));
    assert_eq!(leader.step(LeaderEvent::FailurePublished), []);
}
