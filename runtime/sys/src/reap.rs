//! Reaping: how children ended.

use std::io;

use crate::pid::Pid;
use crate::signal::Signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It exited with this code.
    Code(u8),
    /// It was killed by this signal.
    Signal(Signal),
}

/// What one look for ended children found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// This child had ended and is now gone.
    Child(Pid, ExitReason),
    /// There are children, none of them has ended.
    NoneEnded,
    /// There are no children. For PID 1 and for a subreaper ([`crate::tree::become_subreaper`]) this is the
    /// kernel's word that no descendant is left, since every orphan would have become a child.
    NoChildren,
}

/// Looks for one ended child, whichever it is, without waiting.
pub fn reap_any() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; -1 means any child.
    let result = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match result {
        0 => Ok(Reaped::NoneEnded),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoChildren),
            error => Err(error),
        },
        number => match Pid::from_raw(number) {
            Some(pid) => Ok(Reaped::Child(pid, decode(status))),
            None => Ok(Reaped::NoneEnded),
        },
    }
}

/// Waits until one particular child has ended. Blocks the thread.
pub fn wait_pid(pid: Pid) -> io::Result<ExitReason> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call; `pid` is positive, so one process is meant.
        if unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL) } != -1 {
            return Ok(decode(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reads a wait status. Without `WUNTRACED` and `WCONTINUED` it is always of a process that has ended.
fn decode(status: i32) -> ExitReason {
    if libc::WIFSIGNALED(status)
        && let Some(signal) = Signal::from_number(libc::WTERMSIG(status))
    {
        return ExitReason::Signal(signal);
    }
    // An exit code has eight bits; the mask says so to the reader.
    ExitReason::Code(u8::try_from(libc::WEXITSTATUS(status) & 0xff).unwrap_or(u8::MAX))
}
