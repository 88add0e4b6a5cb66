//! What the tests of one node share.

use super::*;

/// Long enough to be told from every other time.
pub(super) const GRACE: Duration = Duration::from_secs(10);

pub(super) fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

/// Node 0, which is the leader too.
pub(super) fn identity() -> Identity {
    Identity { node_rank: 0, host: "h".into(), job_id: "j".into() }
}

/// The user's sidecars with these policies.
pub(in crate::supervisor) fn numbered(policies: &[RestartPolicy]) -> Vec<(SidecarId, RestartPolicy)> {
    (0..).map(SidecarId::Index).zip(policies.iter().copied()).collect()
}

/// Takes an event to the node and gives what is to be done.
pub(super) fn step(node: &mut Node, now: Duration, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    node.step(now, event, &mut actions);
    actions
}

/// A child was reaped that ended with this code and told nothing.
pub(super) fn exited(number: i32, code: u8, now: Duration) -> Event {
    Event::ChildExited {
        pid: pid(number),
        reason: ExitReason::Code(code),
        reaped_at: now,
        traces: Traces::default(),
    }
}
