//! Signals: names and numbers, sending, dispositions.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::pid::Pid;

/// One signal, standard or real-time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// The standard signals of Linux by number.
const NAMES: [(i32, &str); 31] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSYS, "SIGSYS"),
];

/// The kernel's highest signal number.
const LAST: i32 = 64;

/// The kernel's first real-time signal. glibc keeps 32 and 33 to itself, so that a program's own begin at 34.
const FIRST_REAL_TIME: i32 = 32;

// === impl Signal ===

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt, Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Kill: cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// The user's first.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// The user's second.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// Write to a pipe that nobody reads.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// The request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// A child changed state.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Continue after a stop.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Stop: cannot be caught.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Background process reads its terminal.
    pub const TTIN: Self = Self(libc::SIGTTIN);
    /// Background process writes to its terminal.
    pub const TTOU: Self = Self(libc::SIGTTOU);
    /// The terminal's size changed.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// The signal of this number, if the kernel has it.
    pub fn from_number(number: i32) -> Option<Self> {
        (1..=LAST).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// `SIGTERM`, `SIGRTMIN+3`: as `kill -l` names it (real-time signals counted from 34, as glibc does).
    pub fn name(self) -> String {
        if let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == self.0) {
            return (*name).to_owned();
        }
        match self.0 {
            34 => "SIGRTMIN".to_owned(),
            LAST => "SIGRTMAX".to_owned(),
            number => format!("SIGRTMIN{:+}", number - 34),
        }
    }

    /// Every signal that an init can take and hand on: all but those that cannot be caught (SIGKILL, SIGSTOP),
    /// those that tell of a fault of this process's own (SIGSEGV, SIGBUS, SIGILL, SIGFPE), the two that glibc
    /// uses itself, SIGCHLD, which is about init's own children, and the two that a background process gets
    /// for using its terminal.
    pub fn forwardable() -> impl Iterator<Item = Self> {
        const NEVER: [i32; 11] = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGCHLD,
            libc::SIGTTIN,
            libc::SIGTTOU,
            FIRST_REAL_TIME,
            FIRST_REAL_TIME + 1,
        ];
        (1..=LAST).filter(|number| !NEVER.contains(number)).map(Self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Sends a signal to one process. A process that is already gone is an error (`ESRCH`).
pub fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    raw_kill(pid.as_raw(), signal)
}

/// Sends a signal to every process of the group that this process leads (or led).
pub fn send_group(leader: Pid, signal: Signal) -> io::Result<()> {
    raw_kill(-leader.as_raw(), signal)
}

/// Sends a signal to every process that the caller may signal, except itself. As PID 1 that is its whole
/// namespace, all at once: no process can escape by forking, since the kernel lets no fork finish meanwhile.
/// Anywhere else it is everything of this user, so it is refused there (`EPERM`).
pub fn send_all_as_init(signal: Signal) -> io::Result<()> {
    if crate::pid::Role::current() != crate::pid::Role::Init {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    raw_kill(-1, signal)
}

/// Makes this process ignore a signal. Programs it spawns start with the default again.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN is a disposition that runs no code of ours; the number is checked by the kernel.
    let previous = unsafe { libc::signal(signal.0, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks every signal in the calling thread for as long as it lives: a helper thread that must not be chosen
/// by the kernel to run handlers, and whose own SIGPIPE must reach nobody.
pub fn block_all_in_this_thread() {
    // Forgotten, so that the mask stays.
    std::mem::forget(MaskGuard::block_all());
}

/// Lets every signal through in the calling thread, whatever mask the process was started with.
pub fn unblock_all_in_this_thread() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set that pthread_sigmask reads; a null old-set is allowed.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Takes one signal that is blocked in the calling thread, waiting for at most `limit`; `None` if none came.
/// Those that are pending already count.
pub fn wait_for_any(limit: Option<Duration>) -> Option<Signal> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initializes the set; both calls read it, the second one reads the time too, and a null
    // information is allowed.
    let number = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match limit {
            None => libc::sigwaitinfo(all.as_ptr(), std::ptr::null_mut()),
            Some(limit) => {
                let time = libc::timespec {
                    tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
                    tv_nsec: libc::c_long::from(limit.subsec_nanos()),
                };
                libc::sigtimedwait(all.as_ptr(), std::ptr::null_mut(), &raw const time)
            }
        }
    };
    Signal::from_number(number)
}

/// All signals blocked in this thread until dropped.
pub(crate) struct MaskGuard {
    previous: libc::sigset_t,
}

// === impl MaskGuard ===

impl MaskGuard {
    /// Blocks every signal in the calling thread.
    pub(crate) fn block_all() -> Self {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut previous = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initializes `all`, pthread_sigmask reads it and initializes `previous`; with a
        // valid `how` and valid pointers neither can fail.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), previous.as_mut_ptr());
            Self { previous: previous.assume_init() }
        }
    }
}

impl Drop for MaskGuard {
    fn drop(&mut self) {
        // SAFETY: `previous` was initialized by pthread_sigmask; a null old-set is allowed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.previous, std::ptr::null_mut());
        }
    }
}

/// `kill(2)` with the meanings of negative numbers that the callers above intend.
fn raw_kill(target: i32, signal: Signal) -> io::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    if unsafe { libc::kill(target, signal.0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kill_l() {
        let name = |number| Signal::from_number(number).map(Signal::name);
        assert_eq!(name(15).as_deref(), Some("SIGTERM"));
        assert_eq!(name(34).as_deref(), Some("SIGRTMIN"));
        assert_eq!(name(37).as_deref(), Some("SIGRTMIN+3"));
        assert_eq!(name(64).as_deref(), Some("SIGRTMAX"));
        assert_eq!(name(0), None);
        assert_eq!(name(65), None);
    }

    #[test]
    fn forwardable_leaves_out_what_cannot_be_handed_on() {
        let all: Vec<i32> = Signal::forwardable().map(Signal::number).collect();
        for number in [1, 2, 3, 5, 6, 10, 12, 13, 15, 18, 28, 31, 34, 64] {
            assert!(all.contains(&number), "{number}");
        }
        for number in [4, 7, 8, 9, 11, 17, 19, 21, 22, 32, 33] {
            assert!(!all.contains(&number), "{number}");
        }
    }

    #[test]
    fn a_signal_to_nobody_is_an_error() {
        // The highest pid the kernel ever gives is 2^22.
        let nobody = Pid::from_raw(i32::MAX).unwrap();
        assert_eq!(send(nobody, Signal::CONT).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(send_group(nobody, Signal::CONT).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_thread_can_shut_itself_off_from_signals_and_open_again() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line =
                status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
            u64::from_str_radix(&line, 16).unwrap()
        };
        block_all_in_this_thread();
        let term = 1 << (libc::SIGTERM - 1);
        assert_ne!(blocked() & term, 0);
        unblock_all_in_this_thread();
        assert_eq!(blocked(), 0);
    }

    #[test]
    fn only_an_init_may_signal_everybody() {
        if crate::pid::Role::current() == crate::pid::Role::Init {
            return; // the tests themselves run as PID 1
        }
        assert_eq!(send_all_as_init(Signal::CONT).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
