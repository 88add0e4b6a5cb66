//! Process trees: who descends from this process, and ending all of them.

use std::io;

use crate::pid::Pid;
use crate::signal::Signal;

/// One living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id; 0 where the parent is outside the namespace.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
}

/// Makes orphaned descendants children of the calling process (`PR_SET_CHILD_SUBREAPER`). PID 1 is one by
/// nature.
pub fn become_subreaper() -> io::Result<()> {
    todo!()
}

/// Every living descendant of a process (zombies are not living), by `/proc`. A snapshot: who forks meanwhile
/// is seen by the next one.
pub fn descendants(of: Pid) -> io::Result<Vec<Process>> {
    let _ = of;
    todo!()
}

/// Sends a signal to every living descendant of the calling process; returns how many got it.
pub fn signal_descendants(signal: Signal) -> io::Result<usize> {
    let _ = signal;
    todo!()
}

/// Sends SIGKILL to every living descendant of the calling process, in such a way that forking does not help
/// them. Returns how many got it. Repeat, reaping between, until [`crate::reap::reap_any`] says
/// `NoChildren`.
pub fn kill_descendants() -> io::Result<usize> {
    todo!()
}
