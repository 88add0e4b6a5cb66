//! Operations over restarts. What is kept of one: how it was started, and when it is over how it and its jobs ended,
//! with what is left of their stderr. Its processes end with the server, so one that was not over is aborted when the
//! next server starts.

use std::sync::Arc;

use super::clock::Moment;
use super::runner::JobControl;
use super::spec::OperationSpec;
use super::state::{
    AbortReason, Cookie, InterruptionReason, Job, JobState, Operation, OperationState, StderrKept,
    WhenKilled, Work,
};
use super::statistics::{Statistics, Summary};
use super::stderr::Stderr;
use super::{Artifacts, Operations, errors};
use crate::error::YtError;
use crate::guid::Guid;
use crate::storage::codec::{Item, persist_enum, persist_struct};
use crate::value::{self, YsonMap};

/// What outlives the server.
#[derive(Debug, Clone)]
pub struct KeptOperation {
    user: String,
    /// The request, without secrets: nothing of it runs again.
    parameters: YsonMap,
    started: Moment,
    end: Option<KeptEnd>,
}

#[derive(Debug, Clone)]
struct KeptEnd {
    state: OperationState,
    finished: Moment,
    error: Option<YtError>,
    jobs: Vec<KeptJob>,
}

#[derive(Debug, Clone)]
struct KeptJob {
    id: Guid,
    task: usize,
    cookie: u32,
    state: JobState,
    started: Moment,
    finished: Option<Moment>,
    error: Option<YtError>,
    abort_reason: Option<AbortReason>,
    interruption: Option<InterruptionReason>,
    work: Work,
    incarnation: Option<Guid>,
    rank: Option<u32>,
    statistics: Statistics,
    stderr: Option<Vec<u8>>,
}

persist_struct!(KeptOperation { user, parameters, started, end });
persist_struct!(KeptEnd { state, finished, error, jobs });
persist_struct!(KeptJob {
    id,
    task,
    cookie,
    state,
    started,
    finished,
    error,
    abort_reason,
    interruption,
    work,
    incarnation,
    rank,
    statistics,
    stderr,
});
persist_enum!(AbortReason {
    0 => UserRequest,
    1 => OperationFinished,
    2 => NodeOffline,
    3 => Preemption,
    4 => InterruptionTimeout,
    5 => OperationIncarnationChanged,
    6 => AccountLimitExceeded,
    7 => RootVolumePreparationFailed,
});
persist_enum!(InterruptionReason { 0 => Preemption, 1 => UserRequest });
persist_enum!(Work { 0 => Unfinished, 1 => Done });
persist_struct!(Summary { count, min, max, sum });
persist_enum!(JobState {
    0 => Waiting,
    1 => Running,
    2 => Aborting,
    3 => Completed,
    4 => Failed,
    5 => Aborted,
});
persist_enum!(OperationState {
    0 => Starting,
    1 => WaitingForAgent,
    2 => Initializing,
    3 => Preparing,
    4 => Pending,
    5 => Materializing,
    6 => Running,
    7 => Completing,
    8 => Failing,
    9 => Aborting,
    10 => Completed,
    11 => Failed,
    12 => Aborted,
});
persist_struct!(Moment { wall_us });
impl Item for KeptJob {}

/// Where an operation says that it is over.
#[derive(Clone, Default)]
pub(super) struct Keep(Option<(Arc<dyn Artifacts>, YsonMap)>);

impl std::fmt::Debug for Keep {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keep")
    }
}

impl Keep {
    /// Keeps operations that were started with this request.
    pub(super) fn new(artifacts: &Arc<dyn Artifacts>, parameters: &YsonMap) -> Keep {
        let mut parameters = parameters.clone();
        if let Some(spec) = parameters.get_mut(b"spec".as_slice())
            && let ytsaurus_yson::YsonNode::Map(spec) = &mut spec.node
        {
            spec.remove(b"secure_vault".as_slice());
        }
        Keep(Some((Arc::clone(artifacts), parameters)))
    }

    /// Keeps an operation as it is now.
    pub(super) fn keep(&self, operation: &Operation) {
        let Some((artifacts, parameters)) = &self.0 else { return };
        let end = operation.finished.map(|finished| KeptEnd {
            state: operation.state,
            finished,
            error: operation.error.clone(),
            jobs: operation.jobs.iter().map(KeptJob::of).collect(),
        });
        let (user, parameters) = (operation.user.clone(), parameters.clone());
        artifacts.keep(operation.id, KeptOperation { user, parameters, started: operation.started, end });
    }
}

impl KeptJob {
    fn of(job: &Job) -> KeptJob {
        KeptJob {
            id: job.id,
            task: job.task,
            cookie: job.cookie,
            state: job.state,
            started: job.started,
            finished: job.finished,
            error: job.error.clone(),
            abort_reason: job.abort_reason,
            interruption: job.interruption,
            work: job.work,
            incarnation: job.incarnation,
            rank: job.rank,
            statistics: job.statistics.clone(),
            stderr: (job.stderr_kept == StderrKept::Yes).then(|| job.stderr.read().to_vec()),
        }
    }

    fn restore(self) -> Job {
        let stderr = Stderr::new(usize::MAX);
        stderr.append(self.stderr.as_deref().unwrap_or_default());
        Job {
            id: self.id,
            task: self.task,
            cookie: self.cookie,
            state: self.state,
            started: self.started,
            finished: self.finished,
            error: self.error,
            abort_reason: self.abort_reason,
            interruption: self.interruption,
            work: self.work,
            incarnation: self.incarnation,
            rank: self.rank,
            statistics: self.statistics,
            // It has ended: nobody kills it any more.
            when_killed: WhenKilled::Aborted,
            place: None,
            stderr: Arc::new(stderr),
            stderr_kept: if self.stderr.is_some() { StderrKept::Yes } else { StderrKept::No },
            control: Arc::new(JobControl::default()),
        }
    }
}

impl Operations {
    /// Takes in the operations of earlier servers. Those that were not over are aborted.
    pub(crate) fn restore(&self, kept: impl IntoIterator<Item = (Guid, KeptOperation)>) {
        let mut state = self.lock();
        for (id, kept) in kept {
            let operation = match self.restore_one(id, kept) {
                Ok(operation) => operation,
                Err(error) => {
                    tracing::warn!(operation = %id, %error, "an operation of an earlier server is not understood");
                    continue;
                }
            };
            let (operation, mutation) = operation;
            state.mutations.extend(mutation.map(|mutation| (mutation, id)));
            state.operations.insert(id, operation);
        }
    }

    fn restore_one(&self, id: Guid, kept: KeptOperation) -> Result<(Operation, Option<String>), YtError> {
        let KeptOperation { user, parameters, started, end } = kept;
        let empty = YsonMap::new();
        let spec = value::required(&parameters, "spec")?;
        let spec = OperationSpec::parse(value::as_map(spec).unwrap_or(&empty))?;
        let mutation = value::optional_str(&parameters, "mutation_id")?.map(str::to_owned);
        let transaction = value::optional_str(&parameters, "transaction_id")?.and_then(|id| id.parse().ok());
        let mut operation = Operation::new(id, &user, spec, transaction);
        operation.started = started;
        operation.events = vec![(started, OperationState::Starting)];
        operation.keep = Keep::new(&self.artifacts, &parameters);
        match end {
            None => operation.end(super::state::End::Aborted, Some(errors::lost_with_server())),
            Some(KeptEnd { state, finished, error, jobs }) => {
                operation.state = state;
                operation.events.push((finished, state));
                operation.finished = Some(finished);
                operation.error = error;
                operation.over.send_replace(true);
                operation.jobs = jobs.into_iter().map(KeptJob::restore).collect();
                operation.jobs.retain(|job| job.task < operation.spec.tasks.len());
                for job in &operation.jobs {
                    let cookies = &mut operation.cookies[job.task];
                    if let Some(cookie) = cookies.get_mut(job.cookie as usize) {
                        let done = job.state == JobState::Completed;
                        *cookie = if done { Cookie::Done } else { Cookie::Free };
                    }
                }
            }
        }
        Ok((operation, mutation))
    }
}
