//! Starting a program: one function with a fixed order.
//!
//! What the parent does: prepares every string, path and descriptor; blocks all signals; opens a close-on-exec
//! error pipe; forks; restores its mask; reads the pipe. End of file means that the program runs; anything
//! else is the step that failed and its errno. So "could not exec" is never mistaken for "exited 127".
//!
//! What the child does ([`child`]), in this order, with system calls only: default dispositions, namespaces and
//! mounts, session or group, parent-death signal, standard streams, all other descriptors close-on-exec,
//! working directory, empty signal mask, exec.

mod child;
mod namespace;
mod prepare;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::pid::Pid;
use crate::signal::Signal;

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
    /// Where it starts (seen from its own namespaces); the caller's directory if `None`.
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
    /// Namespaces of its own.
    pub namespaces: Option<Namespaces>,
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

/// New PID and mount namespaces with a fresh `/proc`, and, for a caller that is not root, a user namespace that
/// maps only its own ids. The program is PID 1 in them: when it ends, the kernel kills all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// What `/` is.
    pub root: Root,
    /// What is mounted where, in order.
    pub binds: Vec<BindMount>,
}

/// The root directory of a program with namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Root {
    /// The caller's; targets of bind mounts must exist.
    #[default]
    Shared,
    /// A new one in memory that shows the entries of the caller's `/`, so that targets of bind mounts at new
    /// places (`/slot/sandbox`) are created without touching the caller's.
    Copied {
        /// An existing folder to build it on; the caller sees no change in it.
        scratch: PathBuf,
    },
}

/// A folder or file that appears at a second place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Absolute path of the caller's.
    pub source: PathBuf,
    /// Absolute path that the program sees.
    pub target: PathBuf,
}

/// A started program.
#[derive(Debug)]
pub struct Child {
    /// Its process id in the caller's namespace. Whoever spawns must reap it (see [`crate::reap`]).
    pub pid: Pid,
    /// Becomes readable when it ends; `None` where the kernel has no pidfds.
    pub pidfd: Option<OwnedFd>,
}

/// What the spawn was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making arguments, descriptors and plans ready.
    Prepare,
    /// The fork.
    Fork,
    /// Writing the id maps of the user namespace.
    UserNamespace,
    /// Making the new mount namespace private.
    PrivateMounts,
    /// Building the copied root.
    Root,
    /// A bind mount.
    BindMount,
    /// Mounting `/proc`.
    MountProc,
    /// Setting session or group.
    Session,
    /// Setting the parent-death signal.
    ParentDeathSignal,
    /// Setting the standard descriptors.
    Stdio,
    /// Changing to the working directory.
    WorkingDirectory,
    /// Executing the program.
    Exec,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}`: {}", .program.display(), self.describe())]
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
    /// A program with an empty environment, null streams, a session of its own and no namespaces.
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
            namespaces: None,
        }
    }
}

/// Starts a program and returns when it runs.
///
/// If it cannot be started nothing is left of the attempt: the child is reaped here, the one exception to the
/// rule that somebody else reaps.
pub fn spawn(command: &Command) -> Result<Child, SpawnError> {
    let _ = command;
    todo!()
}

// === impl SpawnError ===

impl SpawnError {
    /// The step and its cause in words.
    fn describe(&self) -> String {
        let _ = (&self.working_directory, &self.searched);
        format!("{:?}: {}", self.step, self.source)
    }

    /// The code that shells give such a command: 127 if it was not found, 126 if it could not be executed.
    pub fn exit_code(&self) -> u8 {
        126
    }

    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Finds a program as [`spawn`] would: with a `/` in its name as it is, else in the folders of `path`.
pub fn find_program(program: &OsStr, path: &OsStr, working_directory: &Path) -> Option<PathBuf> {
    let _ = (program, path, working_directory);
    todo!()
}
