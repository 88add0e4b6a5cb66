//! What an operation and its jobs are, and how they change. Plain data and plain functions: nothing here starts
//! a thread, touches a process or waits.
//!
//! ```text
//! starting → waiting_for_agent → initializing → preparing → pending → materializing → running
//!     from each of them:  → completing → completed
//!                         → failing    → failed          (the last three are final)
//!                         → aborting   → aborted
//! ```
//! `completing`, `failing` and `aborting` last until no job is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use ytsaurus_yson::YsonValue;

use super::clock::Moment;
use super::environment::POOL_TREE;
use super::errors;
use super::runner::{JobControl, Outcome, Place};
use super::slots::SandboxFile;
use super::spec::{OnJobRestart, OperationSpec};
use super::stderr::Stderr;
use crate::error::YtError;
use crate::guid::Guid;
use crate::value::YsonMap;

/// The state of an operation, as YT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationState {
    Starting,
    WaitingForAgent,
    Initializing,
    Preparing,
    Pending,
    Materializing,
    Running,
    Completing,
    Failing,
    Aborting,
    Completed,
    Failed,
    Aborted,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Failed,
    Aborted,
}

/// Whether jobs may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheduling {
    Active,
    Suspended,
}

/// The state of a job, as YT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    Waiting,
    Running,
    Aborting,
    Completed,
    Failed,
    Aborted,
}

/// Why a job is aborted, as YT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AbortReason {
    UserRequest,
    OperationFinished,
    /// Somebody outside of this server killed it.
    NodeOffline,
}

/// One run of one cookie of a task.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Guid,
    pub(super) task: usize,
    pub(super) cookie: u32,
    pub(super) state: JobState,
    pub(super) started: Moment,
    pub(super) finished: Option<Moment>,
    pub(super) error: Option<YtError>,
    pub(super) abort_reason: Option<AbortReason>,
    pub(super) place: Option<Place>,
    pub(super) stderr: Arc<Stderr>,
    pub(super) stderr_kept: StderrKept,
    pub(super) control: Arc<JobControl>,
}

/// Whether the stderr of a job can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StderrKept {
    Yes,
    /// The operation has kept as many as its spec allows.
    No,
}

/// One place of a task that a job fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Needs a job.
    Free,
    /// Has this one.
    Taken(Guid),
    /// Its job has completed.
    Done,
}

/// What a user may change while an operation runs.
#[derive(Debug, Clone)]
pub(super) struct RuntimeParameters {
    /// Options by tree of pools: `pool`, `weight`, ...
    pub(super) trees: BTreeMap<String, YsonMap>,
    pub(super) acl: Option<YsonValue>,
    pub(super) annotations: YsonMap,
    pub(super) options_per_job_shell: Option<YsonValue>,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) id: Guid,
    pub(super) user: String,
    pub(super) spec: Arc<OperationSpec>,
    pub(super) transaction: Option<Guid>,
    pub(super) state: OperationState,
    pub(super) scheduling: Scheduling,
    pub(super) events: Vec<(Moment, OperationState)>,
    pub(super) started: Moment,
    pub(super) finished: Option<Moment>,
    /// Of an operation that ends or has ended otherwise than completed.
    pub(super) error: Option<YtError>,
    pub(super) runtime: RuntimeParameters,
    pub(super) jobs: Vec<Job>,
    /// By task, then by cookie.
    pub(super) cookies: Vec<Vec<Cookie>>,
    /// By task; known when the operation has been prepared.
    pub(super) files: Vec<Arc<Vec<SandboxFile>>>,
    /// Becomes true when the operation is over.
    pub(super) over: watch::Sender<bool>,
}

/// Jobs of an operation (or of one of its tasks) by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) total: usize,
    pub(super) pending: usize,
    pub(super) running: usize,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) aborted: usize,
}

// === impl OperationState ===

impl OperationState {
    /// YT's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            OperationState::Starting => "starting",
            OperationState::WaitingForAgent => "waiting_for_agent",
            OperationState::Initializing => "initializing",
            OperationState::Preparing => "preparing",
            OperationState::Pending => "pending",
            OperationState::Materializing => "materializing",
            OperationState::Running => "running",
            OperationState::Completing => "completing",
            OperationState::Failing => "failing",
            OperationState::Aborting => "aborting",
            OperationState::Completed => "completed",
            OperationState::Failed => "failed",
            OperationState::Aborted => "aborted",
        }
    }

    /// Whether nothing changes any more.
    pub(super) fn is_final(self) -> bool {
        matches!(self, OperationState::Completed | OperationState::Failed | OperationState::Aborted)
    }

    /// Whether the end is decided.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, OperationState::Completing | OperationState::Failing | OperationState::Aborting)
            || self.is_final()
    }
}

// === impl JobState ===

impl JobState {
    /// YT's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            JobState::Waiting => "waiting",
            JobState::Running => "running",
            JobState::Aborting => "aborting",
            JobState::Completed => "completed",
            JobState::Failed => "failed",
            JobState::Aborted => "aborted",
        }
    }

    pub(super) fn is_final(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Aborted)
    }
}

// === impl AbortReason ===

impl AbortReason {
    /// YT's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            AbortReason::UserRequest => "user_request",
            AbortReason::OperationFinished => "operation_finished",
            AbortReason::NodeOffline => "node_offline",
        }
    }
}

// === impl Job ===

impl Job {
    /// SIGKILL to all of it.
    pub(super) fn abort(&mut self, reason: AbortReason) {
        if !self.state.is_final() {
            // The first reason is the one that holds.
            self.abort_reason.get_or_insert(reason);
            self.state = JobState::Aborting;
            self.control.abort();
        }
    }
}

// === impl RuntimeParameters ===

impl RuntimeParameters {
    /// What the spec says; the pool is the user's own by default.
    pub(super) fn new(spec: &OperationSpec, user: &str) -> Self {
        let pool = spec.pool.clone().unwrap_or_else(|| user.to_owned());
        let mut options = YsonMap::from([(b"pool".to_vec(), crate::value::string(pool))]);
        options.extend(spec.weight.clone().map(|weight| (b"weight".to_vec(), weight)));
        let names =
            if spec.pool_trees.is_empty() { vec![POOL_TREE.to_owned()] } else { spec.pool_trees.clone() };
        RuntimeParameters {
            trees: names.into_iter().map(|name| (name, options.clone())).collect(),
            acl: spec.acl.clone(),
            annotations: spec.annotations.clone(),
            options_per_job_shell: None,
        }
    }
}

// === impl Operation ===

impl Operation {
    pub(super) fn new(id: Guid, user: &str, spec: OperationSpec, transaction: Option<Guid>) -> Self {
        let now = Moment::now();
        Operation {
            id,
            user: user.to_owned(),
            transaction,
            state: OperationState::Starting,
            scheduling: Scheduling::Active,
            events: vec![(now, OperationState::Starting)],
            started: now,
            finished: None,
            error: None,
            runtime: RuntimeParameters::new(&spec, user),
            jobs: Vec::new(),
            cookies: spec.tasks.iter().map(|task| vec![Cookie::Free; task.job_count as usize]).collect(),
            files: Vec::new(),
            over: watch::Sender::new(false),
            spec: Arc::new(spec),
        }
    }

    /// Goes to a state and remembers when.
    pub(super) fn enter(&mut self, state: OperationState) {
        self.state = state;
        self.events.push((Moment::now(), state));
    }

    /// Decides the end, once: kills what runs, and is over when nothing does.
    pub(super) fn end(&mut self, end: End, error: Option<YtError>) {
        if self.state.is_ending() {
            return;
        }
        self.error = error;
        self.enter(match end {
            End::Completed => OperationState::Completing,
            End::Failed => OperationState::Failing,
            End::Aborted => OperationState::Aborting,
        });
        for job in &mut self.jobs {
            job.abort(AbortReason::OperationFinished);
        }
        self.finish_if_nobody_is_left();
    }

    fn finish_if_nobody_is_left(&mut self) {
        let last = match self.state {
            OperationState::Completing => OperationState::Completed,
            OperationState::Failing => OperationState::Failed,
            OperationState::Aborting => OperationState::Aborted,
            _ => return,
        };
        if self.jobs.iter().all(|job| job.state.is_final()) {
            self.enter(last);
            self.finished = Some(Moment::now());
            // The artifacts' bytes may go with their last user.
            self.files.clear();
            self.over.send_replace(true);
        }
    }

    /// Takes a cookie that needs a job, if jobs may start.
    pub(super) fn next_free_cookie(&self) -> Option<(usize, u32)> {
        if self.state != OperationState::Running || self.scheduling == Scheduling::Suspended {
            return None;
        }
        self.cookies.iter().enumerate().find_map(|(task, cookies)| {
            let cookie = cookies.iter().position(|cookie| *cookie == Cookie::Free)?;
            Some((task, u32::try_from(cookie).unwrap_or(u32::MAX)))
        })
    }

    /// A job has ended and nobody of it is alive. Decides what becomes of its cookie and of the operation.
    pub(super) fn job_ended(&mut self, id: Guid, outcome: Outcome) {
        let kept =
            self.jobs.iter().filter(|job| job.state.is_final() && job.stderr_kept == StderrKept::Yes).count();
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id && !job.state.is_final()) else {
            return;
        };
        job.finished = Some(Moment::now());
        if kept as u64 >= self.spec.max_stderr_count {
            job.stderr_kept = StderrKept::No;
            job.stderr.forget();
        }
        let (state, cookie, error) = match outcome {
            Outcome::Completed => (JobState::Completed, Cookie::Done, None),
            Outcome::Failed(error) => (JobState::Failed, Cookie::Free, Some(error)),
            Outcome::Aborted => {
                let reason = *job.abort_reason.get_or_insert(AbortReason::NodeOffline);
                (JobState::Aborted, Cookie::Free, Some(errors::job_aborted(reason.name())))
            }
        };
        job.state = state;
        job.error.clone_from(&error);
        let (task, number) = (job.task, job.cookie);
        self.cookies[task][number as usize] = cookie;

        let failed = self.counters(None).failed as u64;
        let limit = self.spec.max_failed_job_count;
        let restart = self.spec.tasks[task].on_job_restart;
        match (state, error) {
            (JobState::Failed | JobState::Aborted, Some(error)) if restart == OnJobRestart::Fail => {
                self.end(End::Failed, Some(errors::failed_on_job_restart(state.name(), id, error)));
            }
            (JobState::Failed, Some(error)) if failed >= limit => {
                self.end(End::Failed, Some(errors::max_failed_jobs(limit, id, error)));
            }
            (JobState::Completed, _)
                if self.cookies.iter().flatten().all(|cookie| *cookie == Cookie::Done) =>
            {
                self.end(End::Completed, None);
            }
            _ => {}
        }
        self.finish_if_nobody_is_left();
    }

    /// Counts jobs, of one task or of all.
    pub(super) fn counters(&self, task: Option<usize>) -> Counters {
        let mut counters = Counters {
            total: task
                .map_or_else(|| self.spec.total_jobs(), |task| self.spec.tasks[task].job_count as usize),
            ..Counters::default()
        };
        for job in self.jobs.iter().filter(|job| task.is_none_or(|task| job.task == task)) {
            match job.state {
                JobState::Waiting | JobState::Running | JobState::Aborting => counters.running += 1,
                JobState::Completed => counters.completed += 1,
                JobState::Failed => counters.failed += 1,
                JobState::Aborted => counters.aborted += 1,
            }
        }
        let done_or_running = counters.completed + counters.running;
        counters.pending =
            if self.state.is_ending() { 0 } else { counters.total.saturating_sub(done_or_running) };
        counters
    }
}
