//! Process ids as a type of their own.

use std::fmt;

/// Id of one process (never a group, never "all"), so that a mistaken number cannot become `kill(-1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

/// Whether this process is the first of its PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// PID 1: orphans come to it by themselves, and its end ends everybody.
    Init,
    /// Some other process.
    Ordinary,
}

// === impl Pid ===

impl Pid {
    /// The process of this number; `None` for what is not a process id.
    pub fn from_raw(number: i32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The calling process.
    pub fn current() -> Self {
        // SAFETY: getpid takes nothing, touches nothing and cannot fail.
        Self(unsafe { libc::getpid() })
    }

    /// The number.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Role ===

impl Role {
    /// Of the calling process.
    pub fn current() -> Self {
        if Pid::current().0 == 1 { Self::Init } else { Self::Ordinary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_kill_takes_for_more_than_one_process_are_no_pids() {
        assert_eq!(Pid::from_raw(0), None);
        assert_eq!(Pid::from_raw(-1), None);
        assert_eq!(Pid::from_raw(7).map(Pid::as_raw), Some(7));
        assert_eq!(i32::try_from(std::process::id()).unwrap(), Pid::current().as_raw());
    }
}
