//! Starting a job: a program whose whole tree is known and can be ended, with a root directory of its own.
//!
//! Between the caller and the program stands a small guard, a fork of the caller that never executes anything:
//!
//! ```text
//! caller ── clone ── guard (PID 1 of the job's namespace) ── clone ── program
//! ```
//!
//! The guard makes the namespaces and mounts, starts the program, reaps orphans, and when the program ends it
//! tells the caller how and ends itself. With a PID namespace the kernel then kills everybody else; without
//! one the guard is a subreaper and kills what is left, generation after generation, until it has no child.
//! The program is not PID 1 itself because the kernel does not let a PID 1 die of a signal that it sends to
//! itself, so that `kill -9 $$` in a job would do nothing.
//!
//! Three kinds of isolation, see [`Isolation`]. Which one works is for the caller to try: a failed start says
//! which step failed and leaves nothing behind.
//!
//! What must hold: [`start`] is called from a thread that lives as long as the job may, because the guard asks
//! the kernel to kill it when the thread that made it ends. Everything between clone and exec is system calls
//! on memory prepared before; nothing there allocates, locks or panics.

mod guard;
mod plan;
mod root;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::pid::Pid;
use crate::reap::ExitReason;
use crate::signal::Signal;
use plan::Plan;

/// How much of the machine a job shares with everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Processes and root directory are the job's own. `/` shows the machine's files; what the job writes there
    /// stays in memory and ends with it. Shared are `/tmp`, `/dev`, `/sys` and other mounted file systems.
    PrivateRoot(UserNamespace),
    /// Processes and `/proc` are the job's own, files are the machine's.
    PrivateProcesses(UserNamespace),
    /// A session of its own; its tree is found by parenthood.
    Session,
}

/// Whose user ids count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// The caller's: needs the right to mount.
    Callers,
    /// A new one in which only the caller's own ids exist: an ordinary user may, where the machine allows it.
    Own,
}

/// Where descriptor 1 of a job leads. Descriptor 0 is always `/dev/null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// `/dev/null`.
    Discarded,
    /// The same as descriptor 2.
    ToStderr,
}

/// How a job is asked to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// The signal.
    pub signal: Signal,
    /// Who gets it.
    pub receivers: Receivers,
}

/// Who gets the signal of an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receivers {
    /// The program alone.
    Program,
    /// Everybody in the job. Without a PID namespace: everybody in the program's process group.
    Everybody,
}

/// A file system in memory for a job alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// An existing folder, relative to the sandbox; `.` is the sandbox itself.
    pub path: PathBuf,
    /// How much fits into it.
    pub bytes: u64,
}

/// A job to start.
#[derive(Debug)]
pub struct JobCommand {
    /// Absolute path of the program and its arguments, the first of which is its own name.
    pub program: PathBuf,
    /// Arguments, `argv[0]` included.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Folder of the job alone, an absolute path. With a private root it is bound at `/slot`.
    pub slot: PathBuf,
    /// Folder in `slot` that the program starts in.
    pub sandbox: PathBuf,
    /// An existing empty folder outside of the sandbox to build the private root on; the machine sees it empty.
    pub scratch: PathBuf,
    /// Descriptor 1.
    pub stdout: Output,
    /// Descriptor 2. It reads as ended when nobody of the job is left.
    pub stderr: OwnedFd,
    /// Descriptor 5. It reads as ended when nobody of the job is left.
    pub statistics: OwnedFd,
    /// What [`Killer::interrupt`] does; nothing if `None`.
    pub interruption: Option<Interruption>,
    /// Mounted in the sandbox. Without private mounts their folders stay what they are.
    pub tmpfs: Vec<Tmpfs>,
    /// How the job is set apart.
    pub isolation: Isolation,
}

/// A running job.
#[derive(Debug)]
pub struct Job {
    guard: Pid,
    pidfd: Arc<OwnedFd>,
    status: File,
    isolation: Isolation,
}

/// How a job ended. When this is known, nobody of its tree is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// The program ended by itself or by a signal of somebody else.
    Ended(ExitReason),
    /// [`Killer::kill`] was faster, or the guard itself was killed.
    Killed,
}

/// Ends a job from another thread, at any time, also after its end.
#[derive(Debug, Clone)]
pub struct Killer {
    pidfd: Arc<OwnedFd>,
    isolation: Isolation,
}

/// What was being done when a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum JobStep {
    /// Making strings and descriptors ready.
    Prepare = 1,
    /// Making the guard, with its namespaces.
    Namespaces,
    /// Writing the id maps of the user namespace.
    UserNamespace,
    /// Making the mount namespace private.
    PrivateMounts,
    /// Mounting memory for the private root.
    Scratch,
    /// Showing the machine's files in the private root.
    Root,
    /// Binding the job's folder at `/slot`.
    Slot,
    /// Mounting memory in the sandbox.
    Tmpfs,
    /// Mounting `/proc`.
    Proc,
    /// Changing to the private root.
    Pivot,
    /// Setting descriptors.
    Descriptors,
    /// Session, subreaper, parent-death signal.
    Session,
    /// Changing to the sandbox.
    Sandbox,
    /// What the caller does before the start.
    BeforeStart,
    /// Making the program's process.
    Fork,
    /// Executing the program.
    Exec,
}

/// Why a job could not be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[error("cannot {}: {source}", .step.doing())]
pub struct JobError {
    /// What failed.
    pub step: JobStep,
    /// How.
    pub source: io::Error,
}

/// Starts a job and returns when its program runs.
///
/// `before_start` is called when all is ready and only the program's start is missing: the place to let go of
/// ports that were held for it, and to put files into the job's memory. It gets a path that leads to the sandbox
/// with its mounts, through the guard.
pub fn start(
    command: JobCommand,
    before_start: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<Job, JobError> {
    let at = |step| move |source: io::Error| JobError { step, source };
    let plan = Plan::new(&command).map_err(at(JobStep::Prepare))?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| at(JobStep::Prepare)(errno.into()));
    let (status_reader, status_writer) = pipe()?;
    let (go_reader, go_writer) = pipe()?;
    let descriptors = guard::Descriptors {
        status: status_writer.as_raw_fd(),
        go: go_reader.as_raw_fd(),
        stderr: command.stderr.as_raw_fd(),
        statistics: command.statistics.as_raw_fd(),
        stdout: command.stdout,
    };

    let (guard, pidfd) = clone_guard(&plan, &descriptors).map_err(at(JobStep::Namespaces))?;
    // The guard's copies are the only ones now: its end is the end of these pipes.
    drop((status_writer, go_reader, command.stderr, command.statistics));
    let mut job = Job {
        guard,
        pidfd: Arc::new(pidfd),
        status: File::from(status_reader),
        isolation: command.isolation,
    };
    let sandbox = job
        .root()
        .join(command.isolation.sandbox_path(&command.sandbox).strip_prefix("/").unwrap_or(Path::new("")));
    let started = job.finish_start(File::from(go_writer), || before_start(&sandbox));
    if let Err(error) = started {
        job.killer_for_failed_start();
        return Err(error);
    }
    Ok(job)
}

/// Makes the guard, which runs [`guard::run`] and nothing else.
fn clone_guard(plan: &Plan, descriptors: &guard::Descriptors) -> io::Result<(Pid, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let flags = plan.clone_flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    let signals = BlockedSignals::new();
    // SAFETY: without CLONE_VM and with a null stack, clone is a fork: the child has a copy of everything, and
    // `pidfd` is written in the parent before it returns. Of the last two arguments, whose order differs
    // between machines, none is used with these flags.
    let result = unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0_usize, &raw mut pidfd, 0_usize, 0_usize)
    };
    if result == 0 {
        guard::run(plan, descriptors);
    }
    let error = io::Error::last_os_error();
    drop(signals);
    let pid = i32::try_from(result).ok().and_then(Pid::from_raw).ok_or(error)?;
    if pidfd < 0 {
        // Not with a kernel that knows the flag, and an older one has refused it or ignored it.
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: the kernel has just opened this descriptor for us alone.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// All signals blocked in this thread, so that no handler of the caller's runs in the guard.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset fills `all`; pthread_sigmask with valid pointers then fills `before` and cannot fail.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` is what the kernel gave; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

// === impl Job ===

impl Job {
    /// Becomes readable when the job and everybody in it has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The process whose descendants are the job.
    pub fn guard(&self) -> Pid {
        self.guard
    }

    /// The job's root directory, with its mounts, as a path for others. It leads nowhere when the job has ended.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.guard))
    }

    /// A handle to end it with.
    pub fn killer(&self) -> Killer {
        Killer { pidfd: self.pidfd.clone(), isolation: self.isolation }
    }

    /// Waits for the end of everybody in it.
    pub fn wait(mut self) -> io::Result<JobEnd> {
        let message = guard::Message::read(&mut self.status);
        crate::reap::wait_pid(self.guard)?;
        Ok(match message? {
            Some(guard::Message::Ended(status)) => JobEnd::Ended(decode(status)),
            _ => JobEnd::Killed,
        })
    }

    fn finish_start(
        &mut self,
        mut go: File,
        before_start: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), JobError> {
        self.expect(guard::Message::Ready)?;
        before_start().map_err(|source| JobError { step: JobStep::BeforeStart, source })?;
        let lost = |source| JobError { step: JobStep::Prepare, source };
        go.write_all(&[1]).map_err(lost)?;
        self.expect(guard::Message::Started)
    }

    fn expect(&mut self, wanted: guard::Message) -> Result<(), JobError> {
        let lost = |source| JobError { step: JobStep::Prepare, source };
        match guard::Message::read(&mut self.status).map_err(lost)? {
            Some(message) if message == wanted => Ok(()),
            Some(guard::Message::Failed(step, errno)) => {
                Err(JobError { step, source: io::Error::from_raw_os_error(errno) })
            }
            _ => Err(lost(io::Error::new(io::ErrorKind::UnexpectedEof, "its guard was killed"))),
        }
    }

    fn killer_for_failed_start(self) {
        send(&self.pidfd, Signal::KILL);
        // Its failure is already on its way to the caller; a second one would hide it.
        let _ = crate::reap::wait_pid(self.guard);
    }
}

// === impl Killer ===

impl Killer {
    /// Has the guard send the signal of the job's [`Interruption`], if it has one.
    pub fn interrupt(&self) {
        send(&self.pidfd, guard::INTERRUPT);
    }

    /// SIGKILL to everybody in the job. Without a PID namespace the guard does it.
    pub fn kill(&self) {
        let signal = match self.isolation {
            Isolation::PrivateRoot(_) | Isolation::PrivateProcesses(_) => Signal::KILL,
            Isolation::Session => Signal::TERM,
        };
        send(&self.pidfd, signal);
    }
}

/// Sends a signal; that the process is already gone is no error.
fn send(pidfd: &OwnedFd, signal: Signal) {
    // SAFETY: `pidfd` is open, the information is null (as for `kill`), no flags.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.number(), 0_usize, 0_u32);
    }
}

/// Reads a wait status of a process that has ended.
fn decode(status: i32) -> ExitReason {
    match Signal::from_number(libc::WTERMSIG(status)) {
        Some(signal) if libc::WIFSIGNALED(status) => ExitReason::Signal(signal),
        _ => ExitReason::Code(u8::try_from(libc::WEXITSTATUS(status) & 0xff).unwrap_or(u8::MAX)),
    }
}

// === impl Isolation ===

impl Isolation {
    /// All kinds worth trying for this user, the best first.
    pub fn candidates() -> Vec<Isolation> {
        // SAFETY: geteuid takes nothing, touches nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let mut kinds = Vec::new();
        for make in [Isolation::PrivateRoot, Isolation::PrivateProcesses] {
            if root {
                kinds.push(make(UserNamespace::Callers));
            }
            kinds.push(make(UserNamespace::Own));
        }
        kinds.push(Isolation::Session);
        kinds
    }

    /// The sandbox as the job sees it.
    pub fn sandbox_path(self, sandbox: &Path) -> PathBuf {
        match self {
            Isolation::PrivateRoot(_) => {
                let name = sandbox.file_name().unwrap_or_default();
                Path::new(plan::SLOT).join(name)
            }
            Isolation::PrivateProcesses(_) | Isolation::Session => sandbox.to_owned(),
        }
    }
}

// === impl JobStep ===

impl JobStep {
    fn from_number(number: u8) -> Self {
        use JobStep::{
            BeforeStart, Descriptors, Exec, Fork, Namespaces, Pivot, Prepare, PrivateMounts, Proc, Root,
            Sandbox, Scratch, Session, Slot, Tmpfs, UserNamespace,
        };
        let all = [
            Prepare,
            Namespaces,
            UserNamespace,
            PrivateMounts,
            Scratch,
            Root,
            Slot,
            Tmpfs,
            Proc,
            Pivot,
            Descriptors,
            Session,
            Sandbox,
            BeforeStart,
            Fork,
            Exec,
        ];
        all.into_iter().find(|step| *step as u8 == number).unwrap_or(Prepare)
    }

    fn doing(self) -> &'static str {
        match self {
            JobStep::Prepare => "prepare the job's start",
            JobStep::Namespaces => "make the job's namespaces",
            JobStep::UserNamespace => "map the job's user",
            JobStep::PrivateMounts => "make the job's mounts private",
            JobStep::Scratch => "mount memory for the job's root",
            JobStep::Root => "build the job's root",
            JobStep::Slot => "bind the job's folder at `/slot`",
            JobStep::Tmpfs => "mount memory in the job's sandbox",
            JobStep::Proc => "mount the job's `/proc`",
            JobStep::Pivot => "change to the job's root",
            JobStep::Descriptors => "set the job's descriptors",
            JobStep::Session => "make the job's session",
            JobStep::Sandbox => "change to the job's sandbox",
            JobStep::BeforeStart => "make the job's sandbox ready",
            JobStep::Fork => "fork the job's command",
            JobStep::Exec => "execute the job's command",
        }
    }
}

/// Reads exactly `buffer.len()` bytes; `false` at the end of the stream.
fn read_all(source: &mut File, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
