//! Processes beside the workers: what the end of each leads to, and when it is started again.
//!
//! They never keep a node from ending: whether the node's work is done is for the workers to say.

use std::time::Duration;

use tractorun_contract::exit::{ExitReason, SIDECAR_LEFT};
use tractorun_contract::failure::{Cause, SidecarEnd};
use tractorun_contract::job_spec::RestartPolicy;
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::{Pid, Signal};

use super::{Culprit, Node, State};
use crate::control::NodeMessage;
use crate::supervisor::{Action, Announcement, Member, Timer, Traces};

/// Before the first restart; doubled with each one that follows.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Between two restarts at most.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// A sidecar that was up for so long is well: its next restart waits as short as the first one.
const WELL_AFTER: Duration = Duration::from_mins(1);

/// One sidecar.
#[derive(Debug)]
pub struct Sidecar {
    id: SidecarId,
    policy: RestartPolicy,
    pub(super) status: Status,
    /// Before the next restart.
    delay: Duration,
    restarts: u32,
    last_end: Option<ExitReason>,
    last_lines: Vec<String>,
}

/// Where a sidecar is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its turn to start has not come.
    NotStarted,
    /// It runs.
    Running {
        /// Its process.
        pid: Pid,
        /// Since when, from init's start.
        since: Duration,
    },
    /// It ended and will be started again.
    BackingOff,
    /// It ended for good.
    Ended,
}

/// How a sidecar came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Its process ended.
    Exited(ExitReason),
    /// There was no process.
    NotStarted { reason: String, exit_code: u8 },
}

// === impl Sidecar ===

impl Sidecar {
    pub(super) fn new(id: SidecarId, policy: RestartPolicy) -> Self {
        Self {
            id,
            policy,
            status: Status::NotStarted,
            delay: FIRST_DELAY,
            restarts: 0,
            last_end: None,
            last_lines: Vec::new(),
        }
    }

    /// Which it is.
    pub fn id(&self) -> SidecarId {
        self.id
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Times that it was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How its process ended last.
    pub fn last_end(&self) -> Option<ExitReason> {
        self.last_end
    }

    /// The last lines of its stderr when it ended last, oldest first.
    pub fn last_lines(&self) -> &[String] {
        &self.last_lines
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<Pid> {
        match self.status {
            Status::Running { pid, .. } => Some(pid),
            Status::NotStarted | Status::BackingOff | Status::Ended => None,
        }
    }

    /// Whether its policy has it started again after this.
    fn restarts_after(&self, end: &End) -> bool {
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => *end != End::Exited(ExitReason::Code(0)),
            RestartPolicy::Never | RestartPolicy::Fail => false,
        }
    }

    /// The pause before the next start.
    fn next_delay(&mut self, uptime: Duration) -> Duration {
        if uptime >= WELL_AFTER {
            self.delay = FIRST_DELAY;
        }
        let delay = self.delay;
        self.delay = (2 * delay).min(MAX_DELAY);
        delay
    }
}

// === impl End ===

impl End {
    fn cause(self, sidecar: SidecarId) -> (Cause, u8) {
        match self {
            Self::Exited(ExitReason::Code(0)) => (Cause::SidecarExited { sidecar, code: 0 }, SIDECAR_LEFT),
            Self::Exited(ExitReason::Code(code)) => (Cause::SidecarExited { sidecar, code }, code),
            Self::Exited(reason @ ExitReason::Signal(number)) => {
                let signal = Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name);
                (Cause::SidecarKilled { sidecar, signal }, reason.code())
            }
            Self::NotStarted { reason, exit_code } => {
                (Cause::SidecarNotStarted { sidecar, reason }, exit_code)
            }
        }
    }
}

// === impl Node ===

impl Node {
    /// The sidecars, in their order.
    pub fn sidecars(&self) -> &[Sidecar] {
        &self.sidecars
    }

    pub(super) fn on_sidecar_spawned(
        &mut self,
        now: Duration,
        index: usize,
        pid: Pid,
        actions: &mut Vec<Action>,
    ) {
        let before = std::mem::replace(&mut self.sidecars[index].status, Status::Running { pid, since: now });
        match (&self.state, before) {
            (State::Running, Status::NotStarted) => self.start_next(actions),
            _ if self.sidecars_live() => self.sidecars[index].restarts += 1,
            // The decision to stop fell while this one was being started, so it missed the SIGTERM.
            _ => self.kill(actions),
        }
    }

    pub(super) fn on_sidecar_not_started(
        &mut self,
        now: Duration,
        index: usize,
        reason: String,
        exit_code: u8,
        actions: &mut Vec<Action>,
    ) {
        let is_first = self.sidecars[index].status == Status::NotStarted;
        let end = End::NotStarted { reason, exit_code };
        self.on_sidecar_end(now, index, end, Duration::ZERO, Traces::default(), actions);
        if is_first && matches!(self.state, State::Running) {
            self.start_next(actions);
        }
    }

    /// A sidecar's process ended; `since` is when it was started.
    pub(super) fn on_sidecar_exited(
        &mut self,
        now: Duration,
        index: usize,
        since: Duration,
        reason: ExitReason,
        traces: Traces,
        actions: &mut Vec<Action>,
    ) {
        self.sidecars[index].last_end = Some(reason);
        self.sidecars[index].last_lines.clone_from(&traces.stderr_tail);
        let uptime = now.saturating_sub(since);
        self.on_sidecar_end(now, index, End::Exited(reason), uptime, traces, actions);
    }

    fn on_sidecar_end(
        &mut self,
        now: Duration,
        index: usize,
        end: End,
        uptime: Duration,
        traces: Traces,
        actions: &mut Vec<Action>,
    ) {
        self.sidecars[index].status = Status::Ended;
        if !self.sidecars_live() {
            return self.on_sidecar_stopped(index, actions);
        }
        let sidecar = &mut self.sidecars[index];
        if sidecar.policy == RestartPolicy::Fail {
            let (cause, exit_code) = end.cause(sidecar.id);
            return self.fail(now, Culprit::Node, cause, exit_code, traces, actions);
        }
        let restart_after = if sidecar.restarts_after(&end) {
            sidecar.status = Status::BackingOff;
            Some(sidecar.next_delay(uptime))
        } else {
            None
        };
        let (id, restarts) = (sidecar.id, sidecar.restarts);
        actions.push(Action::Announce(match &end {
            End::Exited(reason) => Announcement::SidecarExited {
                sidecar: index,
                reason: *reason,
                last_lines: traces.stderr_tail.clone(),
                restart_after,
            },
            End::NotStarted { .. } => Announcement::SidecarNotStarted { sidecar: index, restart_after },
        }));
        if end != End::Exited(ExitReason::Code(0)) {
            let (cause, exit_code) = end.cause(id);
            if let Some(failure) = self.own_failure(now, Culprit::Node, cause, exit_code, traces) {
                let after = restart_after.map(|after| after.as_secs_f64());
                let end = SidecarEnd::new(failure, restarts, after);
                actions.push(Action::Tell(NodeMessage::SidecarEnded(end)));
            }
        }
        if let Some(after) = restart_after {
            actions.push(Action::StartTimer { timer: Timer::Restart { sidecar: index }, after });
        }
    }

    pub(super) fn on_restart_timer(&mut self, index: usize, actions: &mut Vec<Action>) {
        if self.sidecars_live() && self.sidecars[index].status == Status::BackingOff {
            actions.push(Action::Spawn(Member::Sidecar(index)));
        }
    }
}
