//! What is known of the sidecars: plain data, changed by what the driver tells.
//!
//! What they are called is the only label, so there are as many series as the job has sidecars. What they write is not here:
//! it may be anything, and whoever reaches the port reads this. It is in init's log, in the list of sidecars that ended
//! badly (`tractorun status` shows it), and in the failure record if one of them decided the run.

use std::collections::BTreeMap;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use serde_json::{Value, json};
use tractorun_contract::exit::ExitReason;
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::Pid;

use super::exporter::{add, raise};
use super::snapshot::ExitKind;
use super::status::show_exit;
use crate::supervisor::Announcement;

/// All sidecars, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sidecars(Vec<Sidecar>);

#[derive(Debug, Clone, PartialEq)]
struct Sidecar {
    id: SidecarId,
    state: State,
    starts: u64,
    exits: BTreeMap<ExitKind, u64>,
    last_exit: Option<ExitReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NotStarted,
    Running(Pid),
    /// It ended and will be started again.
    BackingOff,
    Ended,
}

// === impl Sidecars ===

impl Sidecars {
    /// These, none of them started.
    pub(super) fn new(ids: &[SidecarId]) -> Self {
        let sidecar = |id: &SidecarId| Sidecar {
            id: *id,
            state: State::NotStarted,
            starts: 0,
            exits: BTreeMap::new(),
            last_exit: None,
        };
        Self(ids.iter().map(sidecar).collect())
    }

    pub(super) fn started(&mut self, index: usize, pid: Pid) {
        if let Some(sidecar) = self.0.get_mut(index) {
            sidecar.state = State::Running(pid);
            sidecar.starts += 1;
        }
    }

    pub(super) fn not_started(&mut self, index: usize) {
        if let Some(sidecar) = self.0.get_mut(index) {
            sidecar.end(ExitKind::NotStarted);
        }
    }

    /// A process ended; whether it was a sidecar's.
    pub(super) fn exited(&mut self, pid: Pid, reason: ExitReason) -> bool {
        let running = State::Running(pid);
        let Some(sidecar) = self.0.iter_mut().find(|sidecar| sidecar.state == running) else { return false };
        sidecar.last_exit = Some(reason);
        sidecar.end(ExitKind::of(reason));
        true
    }

    pub(super) fn announced(&mut self, announcement: &Announcement) {
        if let Announcement::SidecarExited { sidecar, restart_after: Some(_), .. }
        | Announcement::SidecarNotStarted { sidecar, restart_after: Some(_) } = announcement
            && let Some(sidecar) = self.0.get_mut(*sidecar)
        {
            sidecar.state = State::BackingOff;
        }
    }

    pub(super) fn show(&self) -> Value {
        let show = |sidecar: &Sidecar| {
            json!({
                "sidecar": sidecar.id,
                "state": sidecar.state.name(),
                "restarts": sidecar.restarts(),
                "last_exit": sidecar.last_exit.map(show_exit),
            })
        };
        self.0.iter().map(show).collect()
    }
}

// === impl Sidecar ===

impl Sidecar {
    fn end(&mut self, kind: ExitKind) {
        self.state = State::Ended;
        *self.exits.entry(kind).or_default() += 1;
    }

    fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Running(_) => "running",
            Self::BackingOff => "backing_off",
            Self::Ended => "ended",
        }
    }
}

/// The metrics of the sidecars.
pub(super) struct SidecarMetrics {
    running: IntGaugeVec,
    restarts_total: IntCounterVec,
    exits_total: IntCounterVec,
}

// === impl SidecarMetrics ===

impl SidecarMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("tractorun_sidecar_{name}"), help);
        Ok(Self {
            running: add(
                registry,
                IntGaugeVec::new(
                    opts("running", "1 while the sidecar runs, 0 while it does not."),
                    &["sidecar"],
                )?,
            )?,
            restarts_total: add(
                registry,
                IntCounterVec::new(
                    opts("restarts_total", "Times that the sidecar was started again."),
                    &["sidecar"],
                )?,
            )?,
            exits_total: add(
                registry,
                IntCounterVec::new(
                    opts("exits_total", "Ends of the sidecar, by how."),
                    &["sidecar", "kind"],
                )?,
            )?,
        })
    }

    pub(super) fn fill(&self, sidecars: &Sidecars) {
        for sidecar in &sidecars.0 {
            let label = sidecar.id.label();
            let running = matches!(sidecar.state, State::Running(_));
            self.running.with_label_values(&[&label]).set(i64::from(running));
            raise(&self.restarts_total.with_label_values(&[&label]), sidecar.restarts());
            for kind in ExitKind::ALL {
                let exits = sidecar.exits.get(&kind).copied().unwrap_or(0);
                raise(&self.exits_total.with_label_values(&[label.as_str(), kind.name()]), exits);
            }
        }
    }
}
