//! Starting a program: one function with a fixed order.
//!
//! What the parent does: prepares every string, path and descriptor; blocks all signals; opens a close-on-exec
//! error pipe; forks; restores its mask; reads the pipe. End of file means that the program runs; anything
//! else is the step that failed and its errno. So "could not exec" is never mistaken for "exited 127".
//!
//! What the child does (`child.rs`), in this order, with system calls only: default dispositions, session or
//! group, parent-death signal, standard streams, all other descriptors close-on-exec, limit of descriptors, CPUs,
//! working directory, empty signal mask, exec.

mod child;
mod prepare;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::prepare::Plan;
use crate::cpu::CpuSet;
use crate::pid::Pid;
use crate::signal::{self, MaskGuard, Signal};
use crate::{descriptor, reap};

/// A program to start. Everything is explicit: nothing is taken from the caller's own state but what
/// `Inherit` and `Keep` say.
#[derive(Debug)]
pub struct Command {
    /// The program: a path if it has a `/` in it, else looked up in the `PATH` of `environment`.
    pub program: OsString,
    /// Arguments without the program's name.
    pub args: Vec<OsString>,
    /// The whole environment of the program.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; the caller's directory if `None`.
    pub working_directory: Option<PathBuf>,
    /// Descriptor 0.
    pub stdin: Stdio,
    /// Descriptor 1.
    pub stdout: Stdio,
    /// Descriptor 2.
    pub stderr: Stdio,
    /// Session and process group.
    pub session: Session,
    /// Signal the program gets when the *thread* that spawned it ends (a rule of the kernel): spawn from a
    /// thread that lives as long as the child may, never from a pool.
    pub parent_death_signal: Option<Signal>,
    /// How many descriptors it may have open, if not as many as the caller.
    pub descriptor_limit: Option<descriptor::Limit>,
    /// The CPUs it may run on, if not all of the caller's.
    pub cpus: Option<CpuSet>,
}

/// Where one of the three standard descriptors leads.
#[derive(Debug)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// What the caller has under the same number.
    Inherit,
    /// This open file; the caller's own copy stays open until the [`Command`] is dropped.
    Fd(OwnedFd),
}

/// Session and process group of the new program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The caller's.
    Keep,
    /// A session and a group of its own: no controlling terminal.
    New,
    /// A group of its own in the caller's session; where the session has a terminal, its foreground group.
    ForegroundGroup,
}

/// What the spawn was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making arguments, descriptors and plans ready.
    Prepare,
    /// The fork.
    Fork,
    /// Setting session or group.
    Session,
    /// Setting the parent-death signal.
    ParentDeathSignal,
    /// Setting the standard descriptors.
    Stdio,
    /// Setting the limit of descriptors.
    Limit,
    /// Binding it to its CPUs.
    Affinity,
    /// Changing to the working directory.
    WorkingDirectory,
    /// Executing the program.
    Exec,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {}", self.reason())]
pub struct SpawnError {
    /// The program as it was asked for.
    pub program: OsString,
    /// What failed.
    pub step: Step,
    /// How.
    pub source: io::Error,
    /// The working directory it was to start in.
    working_directory: Option<PathBuf>,
    /// The `PATH` it was looked for in, if it was.
    searched: Option<OsString>,
}

// === impl Command ===

impl Command {
    /// A program with an empty environment, null streams, a session of its own.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            session: Session::New,
            parent_death_signal: None,
            descriptor_limit: None,
            cpus: None,
        }
    }
}

/// Starts a program and returns when it runs. Whoever spawns must see to it that it is reaped ([`crate::reap`]).
///
/// If it cannot be started nothing is left of the attempt: the child is reaped here, the one exception to the
/// rule that somebody else reaps.
pub fn spawn(command: &Command) -> Result<Pid, SpawnError> {
    let fail = |step, source| SpawnError::new(command, step, source);
    let plan = Plan::new(command).map_err(|error| fail(Step::Prepare, error))?;
    let (reader, writer) = descriptor::blocking_pipe().map_err(|error| fail(Step::Prepare, error))?;
    let writer = descriptor::above_standard(writer).map_err(|error| fail(Step::Prepare, error))?;

    let mask = MaskGuard::block_all();
    // SAFETY: the child, below, makes system calls only.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(fail(Step::Fork, io::Error::last_os_error())),
        // SAFETY: this is the child of a fork, and all signals are blocked.
        0 => unsafe { child::run(&plan, writer.as_raw_fd()) },
        number => Pid::from_raw(number),
    };
    drop(mask);
    drop(writer);
    let Some(pid) = pid else { return Err(fail(Step::Fork, io::Error::other("fork gave no pid"))) };

    match read_report(reader) {
        Ok(None) => Ok(pid),
        Ok(Some((step, error))) => {
            // It has nothing left to do but to exit.
            let _ = reap::wait_pid(pid);
            Err(fail(step, error))
        }
        Err(error) => {
            // Nothing is known of the child: better no program than a doubtful one.
            let _ = signal::send(pid, Signal::KILL);
            let _ = reap::wait_pid(pid);
            Err(fail(Step::Prepare, error))
        }
    }
}

/// Reads the error pipe to its end: nothing if the program runs, else step and errno.
fn read_report(reader: OwnedFd) -> io::Result<Option<(Step, io::Error)>> {
    let mut report = Vec::with_capacity(child::REPORT_LENGTH);
    File::from(reader).read_to_end(&mut report)?;
    let Some((step, errno)) = report.split_first_chunk::<4>() else { return Ok(None) };
    let step = Step::ALL.get(u32::from_ne_bytes(*step) as usize).copied().unwrap_or(Step::Exec);
    let errno = errno.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    Ok(Some((step, io::Error::from_raw_os_error(errno))))
}

// === impl Step ===

impl Step {
    /// All steps by number.
    const ALL: [Self; 9] = [
        Self::Prepare,
        Self::Fork,
        Self::Session,
        Self::ParentDeathSignal,
        Self::Stdio,
        Self::Limit,
        Self::Affinity,
        Self::WorkingDirectory,
        Self::Exec,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Fork => "fork",
            Self::Session => "start a session",
            Self::ParentDeathSignal => "set the parent-death signal",
            Self::Stdio => "set the standard streams",
            Self::Limit => "set the limit of descriptors",
            Self::Affinity => "bind it to its CPUs",
            Self::WorkingDirectory => "change to the working directory",
            Self::Exec => "exec",
        })
    }
}

// === impl SpawnError ===

impl SpawnError {
    fn new(command: &Command, step: Step, source: io::Error) -> Self {
        let by_name = !command.program.as_bytes().contains(&b'/');
        Self {
            program: command.program.clone(),
            step,
            source,
            working_directory: command.working_directory.clone(),
            searched: by_name.then(|| prepare::search_path(command)),
        }
    }

    /// Which program and why, without "cannot start".
    pub fn reason(&self) -> String {
        format!("`{}`: {}", self.program.display(), self.describe())
    }

    /// The step and its cause in words.
    fn describe(&self) -> String {
        let cause = match self.source.raw_os_error() {
            // Without Rust's "(os error 2)", which tells a reader nothing.
            Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
            None => self.source.to_string(),
        };
        match (self.step, self.source.raw_os_error(), &self.searched) {
            (Step::Exec, Some(libc::ENOENT), Some(path)) => {
                format!("command not found in PATH: {}", path.display())
            }
            (Step::Exec, Some(libc::ENOENT), None) if self.script_exists() => {
                "the interpreter that its first line names is not there".to_owned()
            }
            (Step::WorkingDirectory, _, _) => {
                let directory = self.working_directory.as_deref().unwrap_or(Path::new("."));
                format!("working directory `{}`: {cause}", directory.display())
            }
            (step, _, _) => format!("{step}: {cause}"),
        }
    }

    /// Whether the file is there although the kernel did not find "it".
    fn script_exists(&self) -> bool {
        self.working_directory.as_deref().unwrap_or(Path::new(".")).join(&self.program).exists()
    }

    /// The code that shells give such a command: 127 if it was not found, 126 if it could not be executed.
    pub fn exit_code(&self) -> u8 {
        match (self.step, self.source.raw_os_error()) {
            (Step::Exec, Some(libc::ENOENT | libc::ENOTDIR)) => 127,
            _ => 126,
        }
    }

    /// What to do about it, where there is something to say. Without the word `hint`.
    pub fn hint(&self) -> Option<String> {
        match (self.step, self.source.raw_os_error(), &self.searched) {
            (Step::Exec, Some(libc::ENOENT), Some(_)) => {
                Some("install it in the image, bind it, or give its path with a `/` in it".to_owned())
            }
            (Step::Exec, Some(libc::ENOENT), None)
                if !self.script_exists() && Path::new(&self.program).is_relative() =>
            {
                let directory = self.working_directory.as_deref().unwrap_or(Path::new("."));
                Some(format!("relative paths start in `{}`", directory.display()))
            }
            (Step::Exec, Some(libc::EACCES), _) => {
                Some(format!("make it executable: chmod +x {}", self.program.display()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
