//! One job from its sandbox to its end, on a thread of its own.
//!
//! The thread makes the sandbox, has the job started, reads its stderr, and waits for the end of everybody in
//! it. Others reach it through [`JobControl`] only.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use tractorun_sys::ExitReason;
use tractorun_sys::jobroot::{Isolation, Job, JobEnd, Killer, Output};

use super::environment::{self, JobIdentity};
use super::errors;
use super::ports;
use super::slots::{SandboxFile, Slot, Slots};
use super::spawner::{Spawner, Start, bash};
use super::spec::{OperationSpec, Stdout};
use super::stderr::Stderr;
use crate::error::YtError;

/// Longest single wait: the kernel counts milliseconds in 31 bits.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Everything that a job needs.
pub(super) struct JobPlan {
    pub(super) identity: JobIdentity,
    pub(super) spec: Arc<OperationSpec>,
    pub(super) task: usize,
    pub(super) files: Arc<Vec<SandboxFile>>,
    pub(super) node_address: String,
    pub(super) isolation: Isolation,
    pub(super) slots: Arc<Slots>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) stderr: Arc<Stderr>,
    pub(super) control: Arc<JobControl>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Completed,
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
pub(super) fn run(plan: JobPlan, on_running: impl FnOnce(Place)) -> Outcome {
    let control = plan.control.clone();
    let outcome = match try_run(plan, on_running) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(errors::not_prepared(error)),
    };
    // An abort decides, even if the job was about to end by itself.
    if control.is_aborted() { Outcome::Aborted } else { outcome }
}

fn try_run(plan: JobPlan, on_running: impl FnOnce(Place)) -> Result<Outcome, YtError> {
    let task = &plan.spec.tasks[plan.task];
    let failed = |what: &str, error: &dyn std::fmt::Display| YtError::generic(format!("{what}: {error}"));
    if plan.control.is_aborted() {
        return Ok(Outcome::Aborted);
    }
    let slot = plan.slots.take().map_err(|error| failed("Cannot make the job's sandbox", &error))?;
    for file in plan.files.iter() {
        let what = format!("Cannot put file {:?} into the sandbox", file.name.display());
        slot.add(file).map_err(|error| failed(&what, &error))?;
    }
    let (lease, holders) = ports::reserve(task.port_count)
        .map_err(|error| failed("Cannot find free ports for the job", &error))?;
    let place = place(&slot, plan.isolation, &lease);
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
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)
        .map_err(|errno| failed("Cannot make the pipe of the job's stderr", &errno))?;
    let command = bash(&slot, &task.command, environment, stdout, writer, plan.isolation);
    let started = Instant::now();
    let start = Start { command, before: Box::new(move || drop(holders)) };
    let job = plan.spawner.start(start).map_err(|error| failed("Cannot start the job", &error))?;
    // While this thread lives, so does the job; the spawner must not live on because of it.
    drop(plan.spawner);
    plan.control.started(job.killer());
    on_running(place);

    let deadline = task.job_time_limit.and_then(|limit| started.checked_add(limit));
    let collected = collect_all(&job, File::from(reader), &plan.stderr, deadline);
    if collected.is_err() {
        // Nobody looks after it any more.
        job.killer().kill();
    }
    let end = job.wait().map_err(|error| failed("Cannot wait for the job", &error))?;
    let late =
        collected.map_err(|error| failed("Cannot read the job's stderr", &error))? == Collected::TimeIsUp;
    drop((slot, lease));
    Ok(match end {
        _ if late => {
            Outcome::Failed(errors::job_time_limit_exceeded(task.job_time_limit.unwrap_or_default()))
        }
        JobEnd::Ended(ExitReason::Code(0)) => Outcome::Completed,
        JobEnd::Ended(ExitReason::Code(code)) => Outcome::Failed(errors::exit_code(code)),
        JobEnd::Ended(ExitReason::Signal(signal)) => Outcome::Failed(errors::signal(signal.number())),
        JobEnd::Killed => Outcome::Aborted,
    })
}

fn place(slot: &Slot, isolation: Isolation, lease: &ports::Lease) -> Place {
    Place {
        slot_index: slot.index(),
        sandbox: isolation.sandbox_path(&slot.sandbox()),
        ports: lease.ports.clone(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collected {
    /// The job has ended and all that it wrote is read.
    Ended,
    /// It has not.
    TimeIsUp,
}

/// Reads the job's stderr until the job has ended. One that is still there at the deadline is killed.
fn collect_all(
    job: &Job,
    mut reader: File,
    stderr: &Stderr,
    deadline: Option<Instant>,
) -> std::io::Result<Collected> {
    let collected = collect(job, &mut reader, stderr, deadline)?;
    if collected == Collected::TimeIsUp {
        job.killer().kill();
        collect(job, &mut reader, stderr, None)?;
    }
    Ok(collected)
}

/// Reads the job's stderr until the job has ended or the deadline has come.
fn collect(
    job: &Job,
    reader: &mut File,
    stderr: &Stderr,
    deadline: Option<Instant>,
) -> std::io::Result<Collected> {
    fcntl(&*reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut stream = Stream::Open;
    loop {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => return Ok(Collected::TimeIsUp),
            // Rounded up, so that the last millisecond is not spent in a busy loop.
            Some(left) => PollTimeout::try_from(left.min(LONGEST_WAIT) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::MAX),
        };
        // A stream that has ended is always readable, so it must not be polled again.
        let of_stream = if stream == Stream::Open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut watched =
            [PollFd::new(job.ended(), PollFlags::POLLIN), PollFd::new(reader.as_fd(), of_stream)];
        let watched = if stream == Stream::Open { &mut watched[..] } else { &mut watched[..1] };
        match poll(watched, timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        // Asked before reading: what is read after the end of the job is all there is.
        let ended = watched[0].any().unwrap_or(false);
        if stream == Stream::Open {
            stream = read_available(reader, stderr)?;
        }
        if ended {
            return Ok(Collected::Ended);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Open,
    Ended,
}

fn read_available(reader: &mut File, stderr: &Stderr) -> std::io::Result<Stream> {
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Stream::Ended),
            Ok(count) => stderr.append(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Stream::Open),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
