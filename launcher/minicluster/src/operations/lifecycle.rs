//! How operations and jobs come to life: starting, preparing, starting jobs, taking in their ends.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use super::environment::{GangIdentity, JobIdentity};
use super::keep::Keep;
use super::runner::{self, JobControl, JobPlan, Outcome, Place};
use super::slots::SandboxFile;
use super::spec::OperationSpec;
use super::state::{Cookie, End, Job, JobState, Operation, OperationState, StderrKept, WhenKilled, Work};
use super::statistics::Statistics;
use super::stderr::Stderr;
use super::task_spec::{TaskSpec, is_inside};
use super::view_operation::OPERATION_TYPE;
use super::{Door, JOB_TYPE_CODE, OPERATION_TYPE_CODE, Operations, State, clock::Moment, errors};
use crate::error::{YtError, code};
use crate::guid::Guid;
use crate::value::{self, YsonMap};

impl Operations {
    /// `start_operation`: checks the spec and answers with the id of the new operation. Needs a tokio runtime.
    pub fn start(&self, parameters: &YsonMap, user: &str) -> Result<Guid, YtError> {
        let kind = value::required_str(parameters, "operation_type")?;
        if kind != OPERATION_TYPE {
            return Err(YtError::generic(format!(
                "Operation type {kind:?} is not supported by this server: only vanilla is"
            )));
        }
        let mutation = value::optional_str(parameters, "mutation_id")?;
        let repeated = value::flag(parameters, "retry", false)?;
        let transaction = self.transaction(parameters)?;
        let spec = value::required(parameters, "spec")?;
        let spec = value::as_map(spec)
            .ok_or_else(|| YtError::generic("Error parsing operation spec: a map is expected"))?;
        let spec = OperationSpec::parse(spec)?;

        let mut state = self.lock();
        if let Some(known) = mutation.and_then(|mutation| state.mutations.get(mutation)) {
            return if repeated {
                Ok(*known)
            } else {
                Err(YtError::generic("Duplicate request is not marked as \"retry\""))
            };
        }
        state.check_alias(&spec)?;
        if state.door == Door::Closed {
            return Err(errors::aborted_with_server());
        }
        let id = self.artifacts.new_guid(OPERATION_TYPE_CODE);
        let time_limit = spec.time_limit;
        let mut operation = Operation::new(id, user, spec, transaction);
        operation.keep = Keep::new(&self.artifacts, parameters);
        // Between the check above and this line the transaction may have ended, and told of its end.
        if let Some(gone) = transaction.filter(|id| !self.artifacts.transaction_is_alive(*id)) {
            operation.end(End::Aborted, Some(errors::aborted_with_transaction(gone)));
        }
        operation.keep.keep(&operation);
        let over = operation.over.subscribe();
        state.operations.insert(id, operation);
        state.mutations.extend(mutation.map(|mutation| (mutation.to_owned(), id)));
        drop(state);
        tracing::info!(operation = %id, user, "operation started");

        self.spawn_preparation(id);
        if let Some(limit) = time_limit {
            let this = self.this.clone();
            tokio::spawn(async move {
                if tokio::time::timeout(limit, super::wait_until_over(over)).await.is_err()
                    && let Some(this) = this.upgrade()
                {
                    this.end(id, End::Failed, errors::time_limit_exceeded(limit));
                }
            });
        }
        Ok(id)
    }

    /// The transaction of a request; `0-0-0-0` is none.
    fn transaction(&self, parameters: &YsonMap) -> Result<Option<Guid>, YtError> {
        let Some(text) = value::optional_str(parameters, "transaction_id")? else { return Ok(None) };
        let id = text.parse::<Guid>().map_err(|error| YtError::generic(error.to_string()))?;
        if id.is_null() {
            return Ok(None);
        }
        if !self.artifacts.transaction_is_alive(id) {
            return Err(YtError::new(code::NO_SUCH_TRANSACTION, format!("No such transaction {id}")));
        }
        Ok(Some(id))
    }

    fn end(&self, id: Guid, end: End, error: YtError) {
        if let Some(operation) = self.lock().operations.get_mut(&id) {
            operation.end(end, Some(error));
        }
    }

    fn spawn_preparation(&self, id: Guid) {
        let count = ThreadCount::new(&self.threads);
        let this = self.this.clone();
        let body = move || {
            // Counted until its end, so that a shutdown waits for it.
            let _count = count;
            if let Some(this) = this.upgrade() {
                this.prepare(id);
            }
        };
        if let Err(error) = thread::Builder::new().name("operation".to_owned()).spawn(body) {
            self.end(id, End::Failed, errors::failed_to_prepare(YtError::generic(error.to_string())));
        }
    }

    /// Takes an operation from `starting` to `running`, as far as nobody ends it before.
    fn prepare(&self, id: Guid) {
        for state in
            [OperationState::WaitingForAgent, OperationState::Initializing, OperationState::Preparing]
        {
            self.advance(id, state, |_| {});
        }
        let Some((spec, transaction, user)) = self
            .lock()
            .operations
            .get(&id)
            .map(|operation| (operation.spec.clone(), operation.transaction, operation.user.clone()))
        else {
            return;
        };
        let files = spec
            .tasks
            .iter()
            .map(|task| {
                self.check_image(task)?;
                self.open_files(task, transaction, &user)
            })
            .collect::<Result<Vec<_>, _>>();
        let files = match files {
            Ok(files) => files,
            Err(error) => return self.end(id, End::Failed, errors::failed_to_prepare(error)),
        };
        self.advance(id, OperationState::Pending, |operation| operation.files = files);
        self.advance(id, OperationState::Materializing, |_| {});
        self.advance(id, OperationState::Running, |operation| self.start_jobs(operation));
    }

    fn advance(&self, id: Guid, next: OperationState, and: impl FnOnce(&mut Operation)) {
        if let Some(operation) =
            self.lock().operations.get_mut(&id).filter(|operation| !operation.state.is_ending())
        {
            operation.enter(next);
            and(operation);
        }
    }

    fn check_image(&self, task: &TaskSpec) -> Result<(), YtError> {
        let Some((engine, image)) = self.engine.as_ref().zip(task.docker_image.as_ref()) else {
            return Ok(());
        };
        engine.check(image)
    }

    fn open_files(
        &self,
        task: &TaskSpec,
        transaction: Option<Guid>,
        user: &str,
    ) -> Result<Arc<Vec<SandboxFile>>, YtError> {
        let mut names = BTreeSet::new();
        let mut files = Vec::new();
        for file in &task.files {
            let mut artifact = self.artifacts.open(&file.path, transaction, user)?;
            if let Some(executable) = file.executable {
                artifact.executable = executable;
            }
            let name = PathBuf::from(file.file_name.as_ref().unwrap_or(&artifact.file_name));
            if !is_inside(&name) {
                return Err(YtError::generic(format!(
                    "File {} has no name that a sandbox can use: `{}`",
                    file.path,
                    name.display()
                )));
            }
            if !names.insert(name.clone()) {
                return Err(YtError::generic(format!(
                    "Two files of task {:?} have the name `{}`",
                    task.name,
                    name.display()
                )));
            }
            files.push(SandboxFile { name, artifact, access: task.file_access });
        }
        Ok(Arc::new(files))
    }

    /// Gives a job to every cookie that needs one.
    pub(super) fn start_jobs(&self, operation: &mut Operation) {
        while let Some((task, cookie)) = operation.next_free_cookie() {
            let id = self.artifacts.new_guid(JOB_TYPE_CODE);
            let plan = self.add_job(operation, id, task, cookie);
            if let Err(error) = self.spawn_job(plan) {
                operation.job_ended(
                    id,
                    Outcome::Failed(errors::not_prepared(YtError::generic(error.to_string()))),
                );
            }
        }
    }

    fn add_job(&self, operation: &mut Operation, id: Guid, task: usize, cookie: u32) -> JobPlan {
        let stderr = Arc::new(Stderr::new(operation.spec.tasks[task].max_stderr_bytes));
        let control = Arc::new(JobControl::default());
        let (incarnation, rank) = operation.take_rank(task, cookie);
        let gang = operation.gang.as_ref().map(|gang| GangIdentity {
            incarnation: gang.incarnation,
            rank,
            size: gang.size(),
            task_size: gang.task_size(task),
        });
        let identity = JobIdentity {
            gang,
            operation: operation.id,
            job: id,
            cookie,
            index: operation.jobs.len() as u64,
            task_index: operation.jobs.iter().filter(|job| job.task == task).count() as u64,
        };
        operation.cookies[task][cookie as usize] = Cookie::Taken(id);
        operation.jobs.push(Job {
            id,
            task,
            cookie,
            state: JobState::Waiting,
            started: Moment::now(),
            finished: None,
            error: None,
            abort_reason: None,
            interruption: None,
            work: Work::Unfinished,
            when_killed: WhenKilled::Aborted,
            incarnation,
            rank,
            place: None,
            statistics: Statistics::new(),
            stderr: stderr.clone(),
            stderr_kept: StderrKept::Yes,
            control: control.clone(),
        });
        JobPlan {
            identity,
            spec: operation.spec.clone(),
            task,
            files: operation.files[task].clone(),
            node_address: self.node_address.clone(),
            default_memory_limit: self.default_memory_limit,
            isolation: self.isolation,
            engine: self.engine.clone(),
            slots: self.slots.clone(),
            spawner: self.spawner.clone(),
            stderr,
            control,
        }
    }

    fn spawn_job(&self, plan: JobPlan) -> std::io::Result<()> {
        let count = ThreadCount::new(&self.threads);
        let this = self.this.clone();
        let JobIdentity { operation, job, .. } = plan.identity;
        let body = move || {
            let _count = count;
            let (outcome, statistics) = runner::run(plan, |place| {
                if let Some(this) = this.upgrade() {
                    this.job_is_running(operation, job, place);
                }
            });
            if let Some(this) = this.upgrade() {
                this.job_has_ended(operation, job, outcome, statistics);
            }
        };
        thread::Builder::new().name("job".to_owned()).spawn(body).map(drop)
    }

    fn job_is_running(&self, operation: Guid, id: Guid, place: Place) {
        let mut state = self.lock();
        let jobs = state.operations.get_mut(&operation).into_iter().flat_map(|operation| &mut operation.jobs);
        if let Some(job) = jobs.into_iter().find(|job| job.id == id) {
            job.place = Some(place);
            if job.state == JobState::Waiting {
                job.state = JobState::Running;
            }
        }
    }

    fn job_has_ended(&self, operation: Guid, id: Guid, outcome: Outcome, statistics: Statistics) {
        let mut state = self.lock();
        if let Some(operation) = state.operations.get_mut(&operation) {
            tracing::debug!(operation = %operation.id, job = %id, ?outcome, "job ended");
            if let Some(job) = operation.jobs.iter_mut().find(|job| job.id == id) {
                job.statistics = statistics;
            }
            operation.job_ended(id, outcome);
            self.start_jobs(operation);
        }
    }
}

impl State {
    /// At most one running operation may have an alias.
    fn check_alias(&self, spec: &OperationSpec) -> Result<(), YtError> {
        let Some(alias) = &spec.alias else { return Ok(()) };
        let mut running = self.operations.values().filter(|operation| !operation.state.is_final());
        match running.find(|operation| operation.spec.alias.as_ref() == Some(alias)) {
            None => Ok(()),
            Some(other) => Err(YtError::generic(format!(
                "Operation alias {alias:?} is already used by operation {}",
                other.id
            ))),
        }
    }
}

/// One thread more, for as long as this value lives.
struct ThreadCount(Arc<watch::Sender<usize>>);

impl ThreadCount {
    fn new(threads: &Arc<watch::Sender<usize>>) -> Self {
        threads.send_modify(|count| *count += 1);
        ThreadCount(threads.clone())
    }
}

impl Drop for ThreadCount {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
