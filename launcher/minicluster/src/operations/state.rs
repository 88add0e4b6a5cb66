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
use super::gang::Gang;
use super::keep::Keep;
use super::runner::{JobControl, Place};
use super::slots::SandboxFile;
use super::spec::OperationSpec;
use super::statistics::Statistics;
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
pub enum AbortReason {
    /// `abort_job`, or a suspension that aborts.
    UserRequest,
    /// Its operation has ended.
    OperationFinished,
    /// The node is gone. Also: somebody outside of this server killed the job.
    NodeOffline,
    /// Another operation needs its place.
    Preemption,
    /// It was asked to end by itself and did not in time.
    InterruptionTimeout,
    /// A new incarnation of its gang has begun.
    OperationIncarnationChanged,
    /// Its account has no room left.
    AccountLimitExceeded,
    /// The node could not make its root file system, such as from an image that it cannot get.
    RootVolumePreparationFailed,
}

/// Why a job was asked to end by itself, as YT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InterruptionReason {
    Preemption,
    UserRequest,
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
    pub(super) interruption: Option<InterruptionReason>,
    pub(super) work: Work,
    pub(super) when_killed: WhenKilled,
    /// Of a job of a gang.
    pub(super) incarnation: Option<Guid>,
    /// Of a job of a gang that is not in reserve.
    pub(super) rank: Option<u32>,
    pub(super) place: Option<Place>,
    pub(super) statistics: Statistics,
    pub(super) stderr: Arc<Stderr>,
    pub(super) stderr_kept: StderrKept,
    pub(super) control: Arc<JobControl>,
}

/// Whether a job has done what there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Unfinished,
    Done,
}

/// What a job is when it has been killed without a reason for an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenKilled {
    Aborted,
    /// It was abandoned: nobody needs the rest of its work.
    Completed,
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
    /// As the spec has it, or as it was patched later.
    pub(super) max_failed_job_count: u64,
    pub(super) jobs: Vec<Job>,
    /// By task, then by cookie.
    pub(super) cookies: Vec<Vec<Cookie>>,
    pub(super) gang: Option<Gang>,
    /// By task; known when the operation has been prepared.
    pub(super) files: Vec<Arc<Vec<SandboxFile>>>,
    /// Told when the operation is over.
    pub(super) keep: Keep,
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
    pub fn name(self) -> &'static str {
        match self {
            AbortReason::UserRequest => "user_request",
            AbortReason::OperationFinished => "operation_finished",
            AbortReason::NodeOffline => "node_offline",
            AbortReason::Preemption => "preemption",
            AbortReason::InterruptionTimeout => "interruption_timeout",
            AbortReason::OperationIncarnationChanged => "operation_incarnation_changed",
            AbortReason::AccountLimitExceeded => "account_limit_exceeded",
            AbortReason::RootVolumePreparationFailed => "root_volume_preparation_failed",
        }
    }

    /// The reason with this name of YT's.
    pub fn from_name(name: &str) -> Option<Self> {
        use AbortReason::{
            AccountLimitExceeded, InterruptionTimeout, NodeOffline, OperationFinished,
            OperationIncarnationChanged, Preemption, RootVolumePreparationFailed, UserRequest,
        };
        let all = [
            UserRequest,
            OperationFinished,
            NodeOffline,
            Preemption,
            InterruptionTimeout,
            OperationIncarnationChanged,
            AccountLimitExceeded,
            RootVolumePreparationFailed,
        ];
        all.into_iter().find(|reason| reason.name() == name)
    }
}

// === impl InterruptionReason ===

impl InterruptionReason {
    /// YT's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            InterruptionReason::Preemption => "preemption",
            InterruptionReason::UserRequest => "user_request",
        }
    }

    /// What becomes of a job that does not end in time.
    pub(super) fn abort_reason(self) -> AbortReason {
        match self {
            InterruptionReason::Preemption => AbortReason::Preemption,
            InterruptionReason::UserRequest => AbortReason::InterruptionTimeout,
        }
    }
}

// === impl Job ===

impl Job {
    /// SIGKILL to all of it; then it has completed, unless it is aborted before that is so.
    pub(super) fn abandon(&mut self) {
        if !self.state.is_final() {
            self.when_killed = WhenKilled::Completed;
            self.control.abort();
        }
    }

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
            max_failed_job_count: spec.max_failed_job_count,
            jobs: Vec::new(),
            cookies: spec.tasks.iter().map(|task| vec![Cookie::Free; task.job_count as usize]).collect(),
            files: Vec::new(),
            gang: Gang::new(&spec),
            keep: Keep::default(),
            over: watch::Sender::new(false),
            spec: Arc::new(spec),
        }
    }

    /// Goes to a state and remembers when.
    pub(super) fn enter(&mut self, state: OperationState) {
        self.state = state;
        self.events.push((Moment::now(), state));
    }
}
