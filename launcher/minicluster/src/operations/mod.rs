//! Vanilla operations and their jobs: everything behind the commands of the "operations and jobs" section of
//! the API.
//!
//! [`Operations`] owns every operation, every job and every process of a job; nobody else starts or ends one.
//! It is called by the command layer with a request's parameter map and answers with the v4 value, unwrapped.
//! What it needs of the rest of the server (files, transactions, ids) it asks of [`Artifacts`]. It never looks
//! into Cypress itself and knows nothing of HTTP.
//!
//! ```text
//! commands ── Operations ── state (what is, under one lock)
//!                 │            views (how it is shown)
//!                 ├── one thread per job: runner (sandbox, ports, environment, stderr, end)
//!                 └── one thread: spawner (all jobs start from it)
//! ```
//!
//! A job is `/bin/bash -c ":; <command>"`, with a clean environment, in its sandbox folder. Where the machine
//! allows it, processes and root directory are the job's own: it sees `/slot/sandbox`, and what it writes
//! elsewhere is gone with it. Shared with the machine are the network, the user, `/tmp` (users and tests exchange
//! files through it), `/dev`, `/sys` and file systems mounted in folders. Where the machine allows less, a log
//! line at start says so; how a job ends is the same everywhere: nobody of it is left.
//!
//! `memory_limit` is enforced where a task gives one, by looking at the job's processes; tmpfs volumes are real where
//! mounting is allowed and plain folders elsewhere. The network is the machine's: a job needs a way to the proxy,
//! to the other jobs and to the ports it was given, and a private network has none without rights and tools that
//! a laptop does not offer.
//!
//! Not enforced: CPU, GPU and disk limits, access control lists, pools, and the image unless jobs are of
//! kind `container` (see `container`). They are kept and shown.

mod clock;
mod container;
mod decisions;
mod environment;
mod errors;
mod fields;
mod gang;
mod interruption;
mod keep;
mod lifecycle;
mod memory;
mod output;
mod parameters;
mod patch;
mod ports;
mod runner;
mod slots;
mod spawner;
mod spec;
mod state;
mod statistics;
mod stderr;
mod task_spec;
mod view_job;
mod view_operation;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::watch;
use tractorun_sys::jobroot::Isolation;
use ytsaurus_yson::YsonValue;

use crate::error::YtError;
use crate::guid::Guid;
use crate::storage::Content;
use crate::value::{self, YsonMap};

use container::Engine;
pub use keep::KeptOperation;
use patch::SpecPatch;
use slots::Slots;
use spawner::Spawner;
use state::{End, Operation, Scheduling, StderrKept};

pub use state::AbortReason;

/// The object type of an operation's id.
pub const OPERATION_TYPE_CODE: u16 = 1000;
/// The object type of a job's id.
pub const JOB_TYPE_CODE: u16 = 900;

/// What operations need of the rest of the server.
pub trait Artifacts: Send + Sync {
    /// The content and the name of a file node, seen from a transaction. The path may be `#id`; links are followed.
    fn open(&self, path: &str, transaction: Option<Guid>, user: &str) -> Result<Artifact, YtError>;
    /// Whether this transaction may still be used.
    fn transaction_is_alive(&self, id: Guid) -> bool;
    /// A fresh id of an object of this type.
    fn new_guid(&self, object_type: u16) -> Guid;
    /// An operation has started or is over: whoever keeps it over a restart keeps it before this returns.
    fn keep(&self, id: Guid, operation: KeptOperation);
}

/// A file as a job gets it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The bytes.
    pub content: Content,
    /// The node's own `@executable`; an attribute of the path in `file_paths` wins over it.
    pub executable: bool,
    /// The node's `@file_name`, else the last component of its path.
    pub file_name: String,
}

/// Where and as whom jobs run.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// The folder for the jobs' folders; made if missing. One server at a time may use it.
    pub slots: PathBuf,
    /// The address that `list_jobs` shows as the node of every job, such as `localhost:9012`.
    pub node_address: String,
    /// How jobs are run.
    pub job_kind: JobKind,
    /// Bytes of memory that a job of a task without a `memory_limit` may use; without any, as many as there are.
    pub default_memory_limit: Option<u64>,
}

/// What a cluster gives a task that asks for no `memory_limit`: 512 MiB.
pub const DEFAULT_MEMORY_LIMIT: u64 = 512 << 20;

/// How jobs are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobKind {
    /// As processes of this machine; images are ignored.
    #[default]
    Process,
    /// Jobs of tasks with a `docker_image` in a container of that image, all others as processes.
    Container,
}

/// Why operations cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The folder for jobs cannot be used.
    #[error("cannot use the folder for jobs `{path}`: {source}")]
    Slots {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Jobs were to run in containers.
    #[error("cannot run jobs in containers: {0}\nhint: install podman or docker, or run jobs as processes")]
    Engine(String),
    /// No process could be started, in any way.
    #[error("cannot start a process for a job: {0}")]
    Spawn(String),
}

/// All operations of this server.
pub struct Operations {
    this: Weak<Operations>,
    node_address: String,
    default_memory_limit: Option<u64>,
    artifacts: Arc<dyn Artifacts>,
    slots: Arc<Slots>,
    spawner: Arc<Spawner>,
    isolation: Isolation,
    engine: Option<Arc<Engine>>,
    /// How many threads of jobs and preparations there are.
    threads: Arc<watch::Sender<usize>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: BTreeMap<Guid, Operation>,
    /// Operations by the mutation id of the request that started them.
    mutations: HashMap<String, Guid>,
    door: Door,
}

/// Whether operations may start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    Closed,
}

// === impl Operations: making and ending ===

impl Operations {
    /// Makes the folder for jobs, and tries once how well jobs can be isolated on this machine.
    pub fn new(
        config: OperationsConfig,
        artifacts: Arc<dyn Artifacts>,
    ) -> Result<Arc<Self>, OperationsError> {
        let engine = match config.job_kind {
            JobKind::Process => None,
            JobKind::Container => Some(Engine::find().map_err(OperationsError::Engine)?),
        };
        let slots = Slots::new(&config.slots)
            .map_err(|source| OperationsError::Slots { path: config.slots.clone(), source })?;
        let spawner = Spawner::new().map_err(|error| OperationsError::Spawn(error.to_string()))?;
        let isolation = spawner.best_isolation(&slots)?;
        Ok(Self::with_isolation(isolation, engine, config, artifacts, slots, spawner))
    }

    fn with_isolation(
        isolation: Isolation,
        engine: Option<Arc<Engine>>,
        config: OperationsConfig,
        artifacts: Arc<dyn Artifacts>,
        slots: Arc<Slots>,
        spawner: Spawner,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Operations {
            this: this.clone(),
            node_address: config.node_address,
            default_memory_limit: config.default_memory_limit,
            artifacts,
            slots,
            spawner: Arc::new(spawner),
            isolation,
            engine,
            threads: Arc::new(watch::Sender::new(0)),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one command must not take all operations with it; every change is made by small steps that
        // leave an operation as it was or changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction was committed or is gone: aborts the operations that were started in it.
    pub fn transaction_ended(&self, id: Guid) {
        for operation in
            self.lock().operations.values_mut().filter(|operation| operation.transaction == Some(id))
        {
            operation.end(End::Aborted, Some(errors::aborted_with_transaction(id)));
        }
    }

    /// Kills every job's whole tree and returns when no process is left. Nothing starts afterwards.
    pub async fn shutdown(&self) {
        self.close();
        let mut threads = self.threads.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = threads.wait_for(|count| *count == 0).await;
    }

    fn close(&self) {
        let mut state = self.lock();
        state.door = Door::Closed;
        for operation in state.operations.values_mut() {
            operation.end(End::Aborted, Some(errors::aborted_with_server()));
        }
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Operations").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

// === impl Operations: commands that look ===

impl Operations {
    /// `get_operation`: a bare map.
    pub fn get_operation(&self, parameters: &YsonMap) -> Result<YsonValue, YtError> {
        let attributes = value::optional_strings(parameters, "attributes")?;
        if parameters.contains_key(b"operation_alias".as_slice())
            && !value::flag(parameters, "include_runtime", false)?
        {
            return Err(YtError::generic(
                "Operation alias cannot be resolved without using runtime information: set include_runtime",
            ));
        }
        let state = self.lock();
        Ok(view_operation::get(state.find(parameters)?, attributes.as_deref()))
    }

    /// `list_operations`: a bare map.
    pub fn list_operations(&self, parameters: &YsonMap) -> Result<YsonValue, YtError> {
        view_operation::list(self.lock().operations.values(), parameters)
    }

    /// `list_operation_events`: a bare list.
    pub fn list_operation_events(&self, parameters: &YsonMap) -> Result<YsonValue, YtError> {
        Ok(view_operation::events(self.lock().find(parameters)?))
    }

    /// `list_jobs`: a bare map.
    pub fn list_jobs(&self, parameters: &YsonMap) -> Result<YsonValue, YtError> {
        view_job::list(self.lock().find(parameters)?, &self.node_address, parameters)
    }

    /// `get_job`: a bare map.
    pub fn get_job(&self, parameters: &YsonMap) -> Result<YsonValue, YtError> {
        let attributes = value::optional_strings(parameters, "attributes")?;
        let state = self.lock();
        let (operation, job) = state.find_job(parameters)?;
        Ok(view_job::get(operation, job, &self.node_address, attributes.as_deref()))
    }

    /// `get_job_stderr`, while the job runs and after it, with `offset` and `limit`.
    pub fn job_stderr(&self, parameters: &YsonMap) -> Result<Bytes, YtError> {
        let number = |name: &str| -> Result<Option<usize>, YtError> {
            let Some(number) = value::optional_i64(parameters, name)? else { return Ok(None) };
            let negative =
                || YtError::generic(format!("Error reading parameter /{name}: {number} is negative"));
            usize::try_from(number).map(Some).map_err(|_| negative())
        };
        let (offset, limit) = (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
        let stderr = {
            let state = self.lock();
            let (_, job) = state.find_job(parameters)?;
            if job.stderr_kept == StderrKept::No {
                return Err(errors::no_stderr(job.id));
            }
            job.stderr.clone()
        };
        let all = stderr.read();
        let start = offset.min(all.len());
        let end = start.saturating_add(limit).min(all.len());
        Ok(all.slice(start..end))
    }
}

// === impl Operations: commands that change ===

impl Operations {
    /// `abort_operation`: returns when no process of the operation is left.
    pub async fn abort(&self, parameters: &YsonMap, user: &str) -> Result<(), YtError> {
        let message = value::optional_str(parameters, "abort_message")?;
        let over = {
            let mut state = self.lock();
            let operation = state.find_running(parameters)?;
            tracing::info!(operation = %operation.id, user, "operation aborted by user request");
            operation.end(End::Aborted, Some(errors::aborted_by_user(message)));
            operation.over.subscribe()
        };
        wait_until_over(over).await;
        Ok(())
    }

    /// `complete_operation`: returns when no process of the operation is left.
    pub async fn complete(&self, parameters: &YsonMap) -> Result<(), YtError> {
        let over = {
            let mut state = self.lock();
            let operation = state.find_running(parameters)?;
            operation.end(End::Completed, None);
            operation.over.subscribe()
        };
        wait_until_over(over).await;
        Ok(())
    }

    /// `suspend_operation`.
    pub fn suspend(&self, parameters: &YsonMap) -> Result<(), YtError> {
        let abort_jobs = value::flag(parameters, "abort_running_jobs", false)?;
        let mut state = self.lock();
        let operation = state.find_running(parameters)?;
        operation.scheduling = Scheduling::Suspended;
        if abort_jobs {
            for job in &mut operation.jobs {
                job.abort(AbortReason::UserRequest);
            }
        }
        Ok(())
    }

    /// `resume_operation`.
    pub fn resume(&self, parameters: &YsonMap) -> Result<(), YtError> {
        let mut state = self.lock();
        let operation = state.find_running(parameters)?;
        if operation.scheduling == Scheduling::Active {
            return Err(errors::invalid_state(operation.state.name()));
        }
        operation.scheduling = Scheduling::Active;
        self.start_jobs(operation);
        Ok(())
    }

    /// `update_operation_parameters`.
    pub fn update_parameters(&self, parameters: &YsonMap) -> Result<(), YtError> {
        let change = value::optional_map(parameters, "parameters")?;
        parameters::apply(&mut self.lock().find_running(parameters)?.runtime, &change)
    }

    /// `patch_operation_spec`.
    pub fn patch_spec(&self, parameters: &YsonMap) -> Result<(), YtError> {
        let patch = SpecPatch::read(parameters)?;
        self.lock().find_running(parameters)?.patch(&patch);
        Ok(())
    }
}

async fn wait_until_over(mut over: watch::Receiver<bool>) {
    // If the operation itself is dropped, the server is gone, and all jobs with it.
    let _ = over.wait_for(|over| *over).await;
}

// === impl State ===

impl State {
    /// The operation that a request names, by id or by alias.
    fn find_id(&self, parameters: &YsonMap) -> Result<(Option<Guid>, String), YtError> {
        if let Some(alias) = value::optional_str(parameters, "operation_alias")? {
            let with_alias =
                self.operations.values().filter(|operation| operation.spec.alias.as_deref() == Some(alias));
            let newest = with_alias.max_by_key(|operation| operation.started);
            return Ok((newest.map(|operation| operation.id), alias.to_owned()));
        }
        let text = value::required_str(parameters, "operation_id")?;
        let id = text.parse::<Guid>().map_err(|error| YtError::generic(error.to_string()))?;
        Ok((Some(id), text.to_owned()))
    }

    fn find(&self, parameters: &YsonMap) -> Result<&Operation, YtError> {
        let (id, name) = self.find_id(parameters)?;
        id.and_then(|id| self.operations.get(&id)).ok_or_else(|| errors::no_such_operation(&name))
    }

    /// For commands that change it: one that has ended is gone for them.
    fn find_running(&mut self, parameters: &YsonMap) -> Result<&mut Operation, YtError> {
        let (id, name) = self.find_id(parameters)?;
        id.and_then(|id| self.operations.get_mut(&id))
            .filter(|operation| !operation.state.is_final())
            .ok_or_else(|| errors::no_such_running_operation(&name))
    }

    fn find_job(&self, parameters: &YsonMap) -> Result<(&Operation, &state::Job), YtError> {
        let operation = self.find(parameters)?;
        let id = value::required_str(parameters, "job_id")?;
        let job = operation.jobs.iter().find(|job| job.id.to_string() == id);
        Ok((operation, job.ok_or_else(|| errors::no_such_job(id, operation.id))?))
    }
}

#[cfg(test)]
mod tests;
