//! Faults on demand, and counters: what a test does to the cluster, and what it sees of its clients.
//!
//! A fault is a matcher and an effect, so that what fails is a plan and not luck. The plan lives here; requests are
//! held against it in `http`, and `control` lets it be changed from outside the process. With no fault planned a
//! request costs one look at an empty plan.

mod control;
mod counters;
mod plan;
pub(crate) mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use control::serve;
pub use counters::Count;
use counters::Counters;
use plan::Plan;
pub use plan::{Effect, Fault, FaultId, GivenError, HeldLock, Matcher, PlannedFault, ResetPoint, Times};
pub(crate) use plan::{Seen, Stage};

use ytsaurus_yson::YsonValue;

use crate::commands::change_unasked;
use crate::commands::registry::{ApiVersion, Command};
use crate::error::YtError;
use crate::guid::Guid;
use crate::server::Server;
use crate::value::{self, YsonMap};

/// How long a lock is held that nobody gave a time for: as long as a transaction can.
const LONGEST_HOLD: Duration = Duration::from_hours(1);

/// What the server keeps for this module.
#[derive(Debug)]
pub(crate) struct FaultState {
    plan: Mutex<Plan>,
    /// Whether the plan may have anything in it.
    planned: AtomicBool,
    pub(crate) counters: Counters,
    away: watch::Sender<Option<Instant>>,
}

impl Default for FaultState {
    fn default() -> Self {
        FaultState {
            plan: Mutex::default(),
            planned: AtomicBool::new(false),
            counters: Counters::default(),
            away: watch::Sender::new(None),
        }
    }
}

impl FaultState {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to a request.
    pub(crate) fn strike(&self, stage: Stage, seen: &Seen<'_>) -> Vec<Effect> {
        if self.is_quiet() { Vec::new() } else { self.plan().strike(stage, seen) }
    }

    /// Whether nothing is planned at all.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.planned.load(Ordering::Relaxed)
    }

    /// Until when the proxy is away; changes are seen by the listener.
    pub(crate) fn away(&self) -> watch::Receiver<Option<Instant>> {
        self.away.subscribe()
    }

    /// Lets the proxy be away from now on.
    pub(crate) fn go_away(&self, time: Duration) {
        self.away.send_replace(Some(Instant::now() + time));
    }
}

/// The faults of a running server, from Rust.
#[derive(Debug, Clone)]
pub struct Faults {
    server: Arc<Server>,
}

impl Faults {
    pub(crate) fn new(server: Arc<Server>) -> Faults {
        Faults { server }
    }

    fn state(&self) -> &FaultState {
        &self.server.faults
    }

    /// Plans a fault. It counts requests from now on.
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut plan = self.state().plan();
        let id = plan.add(fault);
        self.state().planned.store(true, Ordering::Relaxed);
        id
    }

    /// What is planned, with what became of it. Spent faults stay until they are removed.
    pub fn planned(&self) -> Vec<PlannedFault> {
        self.state().plan().all()
    }

    /// Takes a fault back.
    pub fn remove(&self, id: FaultId) -> Option<PlannedFault> {
        let mut plan = self.state().plan();
        let removed = plan.remove(id);
        self.state().planned.store(!plan.is_empty(), Ordering::Relaxed);
        removed
    }

    /// Takes all faults back.
    pub fn clear(&self) {
        let mut plan = self.state().plan();
        plan.clear();
        self.state().planned.store(false, Ordering::Relaxed);
    }

    /// Requests and bytes by command and by caller, since the start or the last reset.
    pub fn counters(&self) -> Vec<Count> {
        self.state().counters.all()
    }

    /// Starts counting anew.
    pub fn reset_counters(&self) {
        self.state().counters.reset();
    }

    /// Resets all connections and refuses new ones for a time.
    pub fn proxy_away(&self, time: Duration) {
        self.state().go_away(time);
    }

    /// Lets a transaction expire now, with all that depends on it.
    pub fn expire_transaction(&self, id: Guid) -> Result<(), YtError> {
        self.server.expire_transaction(id)
    }

    /// Lets another transaction take a lock on a node. The lock is held until [`Faults::release_lock`], or for this
    /// time, or for an hour.
    pub fn hold_lock(&self, path: &str, mode: HeldLock, time: Option<Duration>) -> Result<Guid, YtError> {
        self.server.hold_lock(path, mode, time)
    }

    /// Ends the transaction that holds a lock. One that is gone is no error.
    pub fn release_lock(&self, transaction: Guid) -> Result<(), YtError> {
        self.server.end_transaction(transaction)
    }
}

impl Faults {
    /// Preempts a job: it is interrupted if its task has a signal for that, and aborted after this time, or at once
    /// if it has none; it runs again. Needs a tokio runtime.
    pub fn preempt_job(&self, job_id: &str, time: Duration) -> Result<(), YtError> {
        self.server.operations()?.preempt(job_id, time)
    }

    /// Loses the node with all its jobs, which run again. Answers with the jobs.
    pub fn lose_node(&self) -> Result<Vec<Guid>, YtError> {
        Ok(self.server.operations()?.lose_node())
    }
}

impl Server {
    pub(crate) fn expire_transaction(&self, id: Guid) -> Result<(), YtError> {
        self.with_cypress(|cypress| cypress.check_transaction(Some(id)))?;
        self.end_transaction(id)
    }

    fn end_transaction(&self, id: Guid) -> Result<(), YtError> {
        let parameters = parameters([("transaction_id", value::string(id.to_string()))]);
        change_unasked(self, Command::AbortTransaction, parameters).map(drop)
    }

    pub(crate) fn hold_lock(
        &self,
        path: &str,
        mode: HeldLock,
        time: Option<Duration>,
    ) -> Result<Guid, YtError> {
        let mode = match mode {
            HeldLock::Exclusive => "exclusive",
            HeldLock::Shared => "shared",
            HeldLock::Snapshot => "snapshot",
        };
        let timeout_ms = time.unwrap_or(LONGEST_HOLD).as_millis();
        let title = value::map([("title", value::string("lock held by a planned fault"))]);
        let timeout = value::int64(i64::try_from(timeout_ms).unwrap_or(i64::MAX));
        let started = change_unasked(
            self,
            Command::StartTransaction,
            parameters([("timeout", timeout), ("attributes", title)]),
        )?;
        let id = started.document(ApiVersion::V3).as_ref().and_then(YsonValue::as_str).map(str::parse);
        let Some(Ok(id)) = id else {
            return Err(YtError::generic("A transaction without an id was started"));
        };
        let wanted = [
            ("path", value::string(path)),
            ("mode", value::string(mode)),
            ("transaction_id", value::string(Guid::to_string(&id))),
        ];
        match change_unasked(self, Command::Lock, parameters(wanted)) {
            Ok(_) => Ok(id),
            Err(error) => {
                self.end_transaction(id)?;
                Err(error)
            }
        }
    }
}

fn parameters<const N: usize>(entries: [(&str, YsonValue); N]) -> YsonMap {
    entries.into_iter().map(|(name, value)| (name.into(), value)).collect()
}
