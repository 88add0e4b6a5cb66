//! The one thread that starts jobs.
//!
//! The kernel ends a job when the thread that started it ends, so that thread must live as long as the server
//! does and end with it, whatever becomes of the server otherwise. It starts one job at a time; a start takes a
//! few milliseconds.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tractorun_sys::ExitReason;
use tractorun_sys::jobroot::{self, Isolation, Job, JobCommand, JobEnd, JobError, Output, UserNamespace};

use super::OperationsError;
use super::slots::{Slot, Slots};

/// Makes the sandbox ready.
pub(super) type BeforeStart = Box<dyn FnOnce(&Path) -> io::Result<()> + Send>;

/// A job to start, and what to do just before its command runs.
pub(super) struct Start {
    pub(super) command: JobCommand,
    /// Gets the sandbox as the job will see it.
    pub(super) before: BeforeStart,
}

/// Starts jobs. Dropping it ends every job that is left.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<(Start, mpsc::Sender<Result<Job, JobError>>)>,
}

/// Why a start gave no job.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Job(#[from] JobError),
    #[error("the server is ending")]
    Ending,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<(Start, mpsc::Sender<Result<Job, JobError>>)>();
        thread::Builder::new().name("job-spawner".to_owned()).spawn(move || {
            while let Ok((start, answer)) = inbox.recv() {
                // Nobody waits for the answer if its thread has panicked; dropping the job's handle changes nothing.
                let _ = answer.send(jobroot::start(start.command, start.before));
            }
        })?;
        Ok(Spawner { requests })
    }

    /// Starts a job and returns when its command runs.
    pub(super) fn start(&self, start: Start) -> Result<Job, StartError> {
        let (answer, result) = mpsc::channel();
        self.requests.send((start, answer)).map_err(|_| StartError::Ending)?;
        result.recv().map_err(|_| StartError::Ending)?.map_err(StartError::Job)
    }

    /// The best isolation that works on this machine, found by trying. Says once what jobs will be like.
    pub(super) fn best_isolation(&self, slots: &Arc<Slots>) -> Result<Isolation, OperationsError> {
        let mut reasons = Vec::new();
        for isolation in Isolation::candidates() {
            match self.try_isolation(isolation, slots) {
                Ok(()) => {
                    announce(isolation, &reasons);
                    return Ok(isolation);
                }
                // Often the same for several kinds.
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        Err(OperationsError::Spawn(reasons.pop().unwrap_or_default()))
    }

    fn try_isolation(&self, isolation: Isolation, slots: &Arc<Slots>) -> Result<(), String> {
        let slot = slots.take().map_err(|error| error.to_string())?;
        let (_reader, stderr) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| errno.to_string())?;
        let (_reader, statistics) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| errno.to_string())?;
        let outputs = Outputs { stdout: Output::Discarded, stderr, statistics };
        let command = bash(&slot, "exit 0", Vec::new(), outputs, isolation);
        let job =
            self.start(Start { command, before: Box::new(|_| Ok(())) }).map_err(|error| error.to_string())?;
        match job.wait() {
            Ok(JobEnd::Ended(ExitReason::Code(0))) => Ok(()),
            Ok(other) => Err(format!("a trial job ended with {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Where the outputs of a job lead.
pub(super) struct Outputs {
    pub(super) stdout: Output,
    pub(super) stderr: OwnedFd,
    /// Descriptor 5.
    pub(super) statistics: OwnedFd,
}

/// A command as a job runs it.
pub(super) fn bash(
    slot: &Slot,
    command: &str,
    environment: Vec<(OsString, OsString)>,
    outputs: Outputs,
    isolation: Isolation,
) -> JobCommand {
    JobCommand {
        program: Path::new("/bin/bash").to_owned(),
        // `:;` in front keeps bash from replacing itself by the command.
        arguments: ["/bin/bash".into(), "-c".into(), format!(":; {command}").into()].into(),
        environment,
        slot: slot.path().to_owned(),
        sandbox: slot.sandbox(),
        scratch: slot.scratch(),
        stdout: outputs.stdout,
        stderr: outputs.stderr,
        statistics: outputs.statistics,
        interruption: None,
        tmpfs: Vec::new(),
        isolation,
    }
}

fn announce(isolation: Isolation, reasons: &[String]) {
    let user = |user| match user {
        UserNamespace::Callers => "",
        UserNamespace::Own => ", in user namespaces",
    };
    let how = match isolation {
        Isolation::PrivateRoot(namespace) => {
            format!("with private processes and root folders{}", user(namespace))
        }
        Isolation::PrivateProcesses(namespace) => {
            format!("with private processes{}, but with the root folder of this machine", user(namespace))
        }
        Isolation::Session => "as plain processes in sessions of their own".to_owned(),
    };
    tracing::info!("memory limits of jobs are kept by looking at their processes, not by control groups");
    match isolation {
        Isolation::PrivateRoot(_) => tracing::info!("jobs run {how}"),
        Isolation::PrivateProcesses(_) | Isolation::Session => {
            tracing::warn!("jobs run {how}, because more is not allowed here: {}", reasons.join("; "));
        }
    }
}
