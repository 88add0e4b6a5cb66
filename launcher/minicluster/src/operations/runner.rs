//! One job from its sandbox to its end, on a thread of its own.
//!
//! The thread makes the sandbox, has the job started, reads its stderr, and waits for the end of everybody in
//! it. Others reach it through [`JobControl`] only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::pipe2;
use tractorun_sys::jobroot::{Interruption, Isolation, Job, JobEnd, Killer, Output, Receivers};
use tractorun_sys::{ExitReason, Pid};

use super::container::{self, Container, ContainerJob, ContainerOutputs, Engine};
use super::environment::{self, JobIdentity};
use super::errors;
use super::memory::{Counted, MemoryWatch};
use super::output::{Collected, Stream, collect_all};
use super::ports;
use super::slots::{SandboxFile, Slot, Slots};
use super::spawner::{Outputs, Spawner, Start, bash};
use super::spec::OperationSpec;
use super::statistics::{Statistics, Written};
use super::stderr::Stderr;
use super::task_spec::{Stdout, TaskSpec, is_below};
use crate::error::YtError;

/// How often a container is looked at that has not come as far as the job, in milliseconds.
const CONTAINER_POLL_MS: u8 = 5;

/// Everything that a job needs.
pub(super) struct JobPlan {
    pub(super) identity: JobIdentity,
    pub(super) spec: Arc<OperationSpec>,
    pub(super) task: usize,
    pub(super) files: Arc<Vec<SandboxFile>>,
    pub(super) node_address: String,
    pub(super) default_memory_limit: Option<u64>,
    pub(super) isolation: Isolation,
    /// Runs the tasks that have an image; nobody does with jobs of kind `process`.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) slots: Arc<Slots>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) stderr: Arc<Stderr>,
    pub(super) control: Arc<JobControl>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Completed,
    /// It ended with the task's `restart_exit_code` after it had been asked to end.
    Interrupted,
    Failed(YtError),
    Aborted,
}

/// Where a job runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) slot_index: usize,
    pub(super) sandbox: PathBuf,
    pub(super) ports: Vec<u16>,
}

/// The way to a job from other threads.
#[derive(Debug, Default)]
pub(super) struct JobControl {
    state: Mutex<ControlState>,
    interrupted: AtomicBool,
}

#[derive(Debug, Default)]
enum ControlState {
    #[default]
    NotStarted,
    Running(Killer),
    Aborted,
}

// === impl JobControl ===

impl JobControl {
    /// SIGKILL to the whole job, also to one that has not started yet.
    pub(super) fn abort(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let ControlState::Running(killer) = &*state {
            killer.kill();
        }
        *state = ControlState::Aborted;
    }

    /// Sends the task's signal to a job that runs.
    pub(super) fn interrupt(&self) {
        if let ControlState::Running(killer) = &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            // Before the signal: the job may end because of it at once.
            self.interrupted.store(true, Ordering::SeqCst);
            killer.interrupt();
        }
    }

    fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn is_aborted(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), ControlState::Aborted)
    }

    /// From here on an abort reaches the job's processes; one that came before reaches them now.
    fn started(&self, killer: Killer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            ControlState::Aborted => killer.kill(),
            _ => *state = ControlState::Running(killer),
        }
    }
}

/// Runs a job to its end. `on_running` is called when its command runs.
pub(super) fn run(plan: JobPlan, on_running: impl FnOnce(Place)) -> (Outcome, Statistics) {
    let control = plan.control.clone();
    let mut written = Written::default();
    let most_names = plan.spec.tasks[plan.task].max_statistics;
    let outcome = match try_run(plan, &mut written, on_running) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(errors::not_prepared(error)),
    };
    // An abort decides, even if the job was about to end by itself.
    let outcome = if control.is_aborted() { Outcome::Aborted } else { outcome };
    match (written.read(most_names), outcome) {
        (Ok(statistics), outcome) => (outcome, statistics),
        (Err(error), Outcome::Completed) => {
            (Outcome::Failed(errors::user_job_failed(error)), Statistics::new())
        }
        // What one that was killed has written may be cut anywhere.
        (Err(_), outcome) => (outcome, Statistics::new()),
    }
}

fn try_run(plan: JobPlan, written: &mut Written, on_running: impl FnOnce(Place)) -> Result<Outcome, YtError> {
    let task = &plan.spec.tasks[plan.task];
    let failed = |what: &str, error: &dyn std::fmt::Display| YtError::generic(format!("{what}: {error}"));
    if plan.control.is_aborted() {
        return Ok(Outcome::Aborted);
    }
    let slot = plan.slots.take().map_err(|error| failed("Cannot make the job's sandbox", &error))?;
    let mut later = fill_sandbox(&slot, task, &plan.files)?;
    let (lease, holders) = ports::reserve(task.port_count)
        .map_err(|error| failed("Cannot find free ports for the job", &error))?;
    let image = plan.engine.clone().zip(task.docker_image.as_deref());
    let mut place = place(&slot, plan.isolation, &lease);
    if image.is_some() {
        place.sandbox = PathBuf::from(container::SANDBOX);
    }
    let environment = environment::variables(
        &plan.identity,
        &plan.spec,
        task,
        &lease.ports,
        &place.sandbox,
        &plan.node_address,
    )?;
    let stdout = match task.stdout {
        Stdout::Discarded => Output::Discarded,
        Stdout::ToStderr => Output::ToStderr,
    };
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("Cannot make a pipe for the job", &errno));
    let (stderr_reader, stderr) = pipe()?;
    let mut container = None;
    let (mut command, statistics_reader) = if let Some((engine, image)) = image {
        let in_container = |error| failed("Cannot make the job's container", &error);
        let in_memory = std::mem::take(&mut later);
        let job = ContainerJob {
            job: plan.identity.job,
            command: &task.command,
            environment: &environment,
            interruption: task.interruption,
            in_memory: &in_memory,
        };
        let (made, reader) = Container::new(engine, &slot, &job).map_err(in_container)?;
        let made = container.insert(made);
        let outputs = ContainerOutputs { stdout, stderr };
        let command = made.command(image, &slot, &task.tmpfs, outputs).map_err(in_container)?;
        (command, reader)
    } else {
        let (reader, statistics) = pipe()?;
        let outputs = Outputs { stdout, stderr, statistics };
        let mut command = bash(&slot, &task.command, environment, outputs, plan.isolation);
        command.tmpfs.clone_from(&task.tmpfs);
        (command, reader)
    };
    // The engine's process passes signals on, and gets them alone.
    command.interruption = task.interruption.map(|interruption| match container {
        Some(_) => Interruption { receivers: Receivers::Program, ..interruption },
        None => interruption,
    });
    let started = Instant::now();
    let before = move |sandbox: &Path| {
        later.iter().try_for_each(|file| put(file, sandbox))?;
        drop(holders);
        Ok(())
    };
    let start = Start { command, before: Box::new(before) };
    let job = plan.spawner.start(start).map_err(|error| failed("Cannot start the job", &error))?;
    // While this thread lives, so does the job; the spawner must not live on because of it.
    drop(plan.spawner);
    plan.control.started(job.killer());

    let deadline = task.job_time_limit.and_then(|limit| started.checked_add(limit));
    let mut streams = [
        Stream::new(stderr_reader, |bytes| plan.stderr.append(bytes)),
        Stream::new(statistics_reader, |bytes| written.append(bytes)),
    ];
    let in_container = container.as_ref().and_then(|container| wait_for_start(container, &job, deadline));
    let memory = task.memory_limit.or(plan.default_memory_limit).map(|limit| {
        let volumes = task.tmpfs.iter().map(|tmpfs| place.sandbox.join(&tmpfs.path));
        let counted = in_container.map_or(Counted::All, Counted::InContainer);
        MemoryWatch::new(&job, limit, counted, volumes)
    });
    on_running(place);
    let collected = collect_all(&job, &mut streams, deadline, memory);
    if collected.is_err() {
        // Nobody looks after it any more.
        job.killer().kill();
    }
    let end = job.wait().map_err(|error| failed("Cannot wait for the job", &error))?;
    let collected = collected.map_err(|error| failed("Cannot read the job's outputs", &error))?;
    let has_started = container.as_ref().is_none_or(Container::has_started);
    // Before the folder that it shows.
    drop(container);
    drop((slot, lease));
    if let (JobEnd::Ended(_), false) = (end, has_started) {
        let said = String::from_utf8_lossy(&plan.stderr.read()).trim().to_owned();
        return Ok(Outcome::Failed(errors::not_prepared(failed("Cannot start the job's container", &said))));
    }
    Ok(outcome(task, plan.default_memory_limit, &plan.control, collected, end))
}

/// Until its own bash runs a container is the engine's: nobody could tell the job to end, and nothing of it counts as
/// memory. Gives its first process, if it came that far.
fn wait_for_start(container: &Container, job: &Job, deadline: Option<Instant>) -> Option<Pid> {
    while !container.has_started() {
        let mut ended = [PollFd::new(job.ended(), PollFlags::POLLIN)];
        let is_over = poll(&mut ended, CONTAINER_POLL_MS).is_ok_and(|count| count > 0);
        if is_over || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
    }
    container.first_process().and_then(Pid::from_raw)
}

/// Puts the files into the sandbox, except those that belong into memory, which is not mounted yet: gives them back.
fn fill_sandbox(slot: &Slot, task: &TaskSpec, files: &[SandboxFile]) -> Result<Vec<SandboxFile>, YtError> {
    for tmpfs in &task.tmpfs {
        fs::create_dir_all(slot.sandbox().join(&tmpfs.path)).map_err(|error| {
            YtError::generic(format!("Cannot make the folder of a tmpfs volume: {error}"))
        })?;
    }
    let in_memory = |file: &SandboxFile| task.tmpfs.iter().any(|tmpfs| is_below(&file.name, &tmpfs.path));
    let (later, now): (Vec<_>, Vec<_>) = files.iter().cloned().partition(in_memory);
    for file in &now {
        put(file, &slot.sandbox()).map_err(|error| YtError::generic(error.to_string()))?;
    }
    Ok(later)
}

fn put(file: &SandboxFile, sandbox: &Path) -> io::Result<()> {
    let what = |error| format!("Cannot put file {:?} into the sandbox: {error}", file.name.display());
    file.add_to(sandbox).map_err(|error| io::Error::new(error.kind(), what(error)))
}

/// What the end of a job means.
fn outcome(
    task: &TaskSpec,
    default_memory_limit: Option<u64>,
    control: &JobControl,
    collected: Collected,
    end: JobEnd,
) -> Outcome {
    match collected {
        Collected::Ended => {}
        Collected::TimeIsUp => {
            let limit = task.job_time_limit.unwrap_or_default();
            return Outcome::Failed(errors::job_time_limit_exceeded(limit));
        }
        Collected::OutOfMemory(usage) => {
            return Outcome::Failed(match task.memory_limit {
                Some(limit) => errors::memory_limit_exceeded(usage, limit),
                None => {
                    errors::default_memory_limit_exceeded(usage, default_memory_limit.unwrap_or_default())
                }
            });
        }
    }
    match end {
        JobEnd::Ended(ExitReason::Code(0)) => Outcome::Completed,
        JobEnd::Ended(ExitReason::Code(code))
            if task.restart_exit_code == Some(code) && control.was_interrupted() =>
        {
            Outcome::Interrupted
        }
        JobEnd::Ended(ExitReason::Code(code)) => Outcome::Failed(errors::exit_code(code)),
        JobEnd::Ended(ExitReason::Signal(signal)) => Outcome::Failed(errors::signal(signal.number())),
        JobEnd::Killed => Outcome::Aborted,
    }
}

fn place(slot: &Slot, isolation: Isolation, lease: &ports::Lease) -> Place {
    Place {
        slot_index: slot.index(),
        sandbox: isolation.sandbox_path(&slot.sandbox()),
        ports: lease.ports.clone(),
    }
}
