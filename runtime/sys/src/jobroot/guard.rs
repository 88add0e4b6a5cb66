//! The guard: what runs between clone and the end of the job.
//!
//! It is a fork of a program with many threads, so it makes system calls and nothing else: no allocation, no
//! lock, no panic. It talks to the caller through one pipe, eight bytes at a time.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

use super::plan::Plan;
use super::{Interruption, Isolation, JobStep, Output, Receivers, read_all, root};
use crate::signal::Signal;

/// What the caller sends to the guard to have the job interrupted.
pub(super) const INTERRUPT: Signal = Signal::USR1;

/// What the guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// All is ready; it waits for the word to start the program.
    Ready,
    /// The program runs.
    Started,
    /// This step failed with this errno; the guard ends.
    Failed(JobStep, i32),
    /// The program ended with this wait status; the guard ends.
    Ended(i32),
}

/// The caller's descriptors that the guard keeps.
pub(super) struct Descriptors {
    pub(super) status: libc::c_int,
    pub(super) go: libc::c_int,
    pub(super) stderr: libc::c_int,
    pub(super) statistics: libc::c_int,
    pub(super) stdout: Output,
}

/// A step and its errno.
pub(super) type Failure = (JobStep, i32);

/// The guard's own descriptors, behind the standard three.
const STATUS: libc::c_int = 3;
const GO: libc::c_int = 4;
/// The program's third output.
const STATISTICS: libc::c_int = 5;
const FIRST_UNUSED: libc::c_int = 6;

// === impl Message ===

impl Message {
    fn to_bytes(self) -> [u8; 8] {
        let (kind, step, value) = match self {
            Message::Ready => (1, 0, 0),
            Message::Started => (2, 0, 0),
            Message::Failed(step, errno) => (3, step as u8, errno),
            Message::Ended(status) => (4, 0, status),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [kind, step, 0, 0, a, b, c, d]
    }

    /// The next message; `None` when the guard is gone.
    pub(super) fn read(source: &mut File) -> io::Result<Option<Self>> {
        let mut bytes = [0; 8];
        if !read_all(source, &mut bytes)? {
            return Ok(None);
        }
        let [kind, step, _, _, a, b, c, d] = bytes;
        let value = i32::from_ne_bytes([a, b, c, d]);
        Ok(match kind {
            1 => Some(Message::Ready),
            2 => Some(Message::Started),
            3 => Some(Message::Failed(JobStep::from_number(step), value)),
            4 => Some(Message::Ended(value)),
            _ => None,
        })
    }
}

/// The whole life of the guard.
pub(super) fn run(plan: &Plan, descriptors: &Descriptors) -> ! {
    // The status pipe has its place only after this; a failure before it goes through the caller's number.
    if let Err(failure) = place_descriptors(descriptors) {
        say(descriptors.status, Message::Failed(failure.0, failure.1));
        leave();
    }
    match start(plan) {
        Ok(program) => {
            say(STATUS, Message::Started);
            supervise(program, plan)
        }
        Err((step, errno)) => {
            say(STATUS, Message::Failed(step, errno));
            leave()
        }
    }
}

/// Moves what is kept to fixed numbers and closes everything else: the guard must hold no end of another job's
/// pipes, nor a socket of the caller's.
fn place_descriptors(descriptors: &Descriptors) -> Result<(), Failure> {
    let failed = || (JobStep::Descriptors, errno());
    // SAFETY: system calls on numbers; the name is a C string that lives for ever. Nothing in the guard owns a
    // descriptor as a Rust value, so closing all of them takes none away from anybody.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        // First out of the way of the final numbers, then to them.
        let mut parked =
            [null, descriptors.stderr, descriptors.statistics, descriptors.status, descriptors.go];
        for descriptor in &mut parked {
            *descriptor = libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, 16);
            if *descriptor < 0 {
                return Err(failed());
            }
        }
        let [null, stderr, statistics, status, go] = parked;
        let stdout = match descriptors.stdout {
            Output::Discarded => null,
            Output::ToStderr => stderr,
        };
        for (from, to, flags) in [
            (null, 0, 0),
            (stdout, 1, 0),
            (stderr, 2, 0),
            (status, STATUS, libc::O_CLOEXEC),
            (go, GO, libc::O_CLOEXEC),
            (statistics, STATISTICS, 0),
        ] {
            if libc::dup3(from, to, flags) < 0 {
                return Err(failed());
            }
        }
        close_from(FIRST_UNUSED);
    }
    Ok(())
}

/// Closes every descriptor from this number on.
fn close_from(first: libc::c_int) {
    // SAFETY: see [`place_descriptors`]; getrlimit fills `limit` when it returns 0.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) == 0 {
            return;
        }
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        let last = if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) == 0 {
            libc::c_int::try_from(limit.assume_init().rlim_cur).unwrap_or(libc::c_int::MAX)
        } else {
            1024
        };
        for descriptor in first..last.min(1 << 20) {
            libc::close(descriptor);
        }
    }
}

/// Makes namespaces, mounts and the program.
fn start(plan: &Plan) -> Result<libc::pid_t, Failure> {
    // SAFETY: system calls without memory, and one on a string that lives for ever.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"job-guard".as_ptr());
        // New sessions for guard and program: the caller's terminal does not reach them, and `kill 0` in the job
        // does not reach the guard.
        if libc::setsid() < 0 {
            return Err((JobStep::Session, errno()));
        }
        libc::umask(0);
    }
    root::enter(plan)?;
    let (death_signal, subreaper) = match plan.isolation {
        Isolation::PrivateRoot(_) | Isolation::PrivateProcesses(_) => (libc::SIGKILL, false),
        Isolation::Session => (libc::SIGTERM, true),
    };
    // SAFETY: system calls without memory; setrlimit reads a value that lives over the call.
    unsafe {
        // After the user namespace: a change of credentials clears it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, death_signal) < 0
            || (subreaper && libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) < 0)
        {
            return Err((JobStep::Session, errno()));
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::umask(0o022);
    }
    say(STATUS, Message::Ready);
    let mut word = 0_u8;
    // SAFETY: one byte of our own. No byte means that the caller is gone, or gone before the death signal was set.
    if unsafe { libc::read(GO, (&raw mut word).cast(), 1) } != 1 {
        leave();
    }
    fork_program(plan)
}

/// Starts the program and waits until it is executed.
fn fork_program(plan: &Plan) -> Result<libc::pid_t, Failure> {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` is filled; clone without CLONE_VM and with a null stack is a fork. glibc's own fork would
    // take locks that another thread of the caller may have held when the guard was cloned.
    let program = unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err((JobStep::Fork, errno()));
        }
        libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), 0_usize, 0_usize, 0_usize, 0_usize)
    };
    let [reader, writer] = pipe;
    match program {
        0 => {
            let (step, errno) = exec(plan);
            say(writer, Message::Failed(step, errno));
            leave()
        }
        number if number < 0 => Err((JobStep::Fork, errno())),
        number => {
            let mut bytes = [0_u8; 8];
            // SAFETY: our own descriptors and eight bytes of our own.
            let got = unsafe {
                libc::close(writer);
                let got = libc::read(reader, bytes.as_mut_ptr().cast(), bytes.len());
                libc::close(reader);
                got
            };
            match bytes {
                [_, step, _, _, a, b, c, d] if got == 8 => {
                    Err((JobStep::from_number(step), i32::from_ne_bytes([a, b, c, d])))
                }
                _ => Ok(libc::pid_t::try_from(number).unwrap_or(-1)),
            }
        }
    }
}

/// The last steps of the program's process; returns only if one fails.
fn exec(plan: &Plan) -> Failure {
    // SAFETY: system calls; every pointer is to a C string or a null-ended array of them in the plan, which the
    // process has its own copy of.
    unsafe {
        if libc::setsid() < 0 {
            return (JobStep::Session, errno());
        }
        if libc::chdir(plan.working_directory.as_ptr()) < 0 {
            return (JobStep::Sandbox, errno());
        }
        // Rust ignores SIGPIPE, and an ignored signal stays ignored over exec.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
    }
    (JobStep::Exec, errno())
}

/// Reaps until the program ends or the caller asks for the end.
fn supervise(program: libc::pid_t, plan: &Plan) -> ! {
    let isolation = plan.isolation;
    let mut wanted = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is filled by sigemptyset before it is used. All signals are blocked since the clone.
    unsafe {
        libc::sigemptyset(wanted.as_mut_ptr());
        libc::sigaddset(wanted.as_mut_ptr(), libc::SIGCHLD);
        libc::sigaddset(wanted.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(wanted.as_mut_ptr(), INTERRUPT.number());
    }
    loop {
        // Looking comes before waiting: the program may have ended before the first wait.
        let mut status = 0;
        // SAFETY: `status` is our own.
        let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        if child == program {
            // Told only when all are dead: who reads it relies on that. A PID namespace is ended by the kernel
            // when the guard leaves, and the caller waits for the guard.
            end_everybody(isolation);
            say(STATUS, Message::Ended(status));
            leave();
        }
        if child > 0 {
            continue;
        }
        // SAFETY: the set was filled above.
        match unsafe { libc::sigwaitinfo(wanted.as_ptr(), std::ptr::null_mut()) } {
            libc::SIGTERM => {
                end_everybody(isolation);
                leave();
            }
            // The program has not been reaped, so its number is still its own.
            number if number == INTERRUPT.number() => interrupt(program, plan),
            _ => {}
        }
    }
}

/// Sends the job's own signal. That nobody gets it is no error.
fn interrupt(program: libc::pid_t, plan: &Plan) {
    let Some(Interruption { signal, receivers }) = plan.interruption else { return };
    let to = match (receivers, plan.isolation) {
        (Receivers::Program, _) => program,
        // The program has a session of its own, so its number is that of its process group.
        (Receivers::Everybody, Isolation::Session) => -program,
        // As PID 1: everybody else in the namespace, at once.
        (Receivers::Everybody, Isolation::PrivateRoot(_) | Isolation::PrivateProcesses(_)) => -1,
    };
    // SAFETY: numbers only.
    unsafe { libc::kill(to, signal.number()) };
}

/// Without a PID namespace: kills children until there is none. Whoever loses its parent becomes a child of the
/// guard, a subreaper, so the next round finds it.
fn end_everybody(isolation: Isolation) {
    if isolation != Isolation::Session {
        return;
    }
    loop {
        kill_children();
        let mut status = 0;
        // SAFETY: `status` is our own.
        let child = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if child < 0 && errno() == libc::ECHILD {
            return;
        }
    }
}

/// SIGKILL to each child that the kernel lists for this thread, the only one.
fn kill_children() {
    // SAFETY: the path lives for ever; the buffer is our own; `kill` gets positive numbers of own children, which
    // cannot be anybody else's before they are reaped here.
    unsafe {
        let list = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if list < 0 {
            return;
        }
        let mut buffer = [0_u8; 4096];
        let mut pid: libc::pid_t = 0;
        loop {
            let got = libc::read(list, buffer.as_mut_ptr().cast(), buffer.len());
            let Ok(got) = usize::try_from(got) else { break };
            if got == 0 {
                break;
            }
            for byte in buffer.iter().take(got) {
                if byte.is_ascii_digit() {
                    pid = pid.wrapping_mul(10).wrapping_add(libc::pid_t::from(*byte - b'0'));
                } else if pid > 0 {
                    libc::kill(pid, libc::SIGKILL);
                    pid = 0;
                }
            }
        }
        if pid > 0 {
            libc::kill(pid, libc::SIGKILL);
        }
        libc::close(list);
    }
}

/// Writes a message. That nobody reads it any more changes nothing: SIGPIPE is blocked, and the guard goes on.
fn say(descriptor: libc::c_int, message: Message) {
    let bytes = message.to_bytes();
    // SAFETY: eight bytes that live over the call; a pipe takes them whole.
    unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
}

/// Ends this process without running anything of the caller's.
fn leave() -> ! {
    // SAFETY: never returns and runs no exit handler.
    unsafe { libc::_exit(0) }
}

/// The number of the last system call's error.
pub(super) fn errno() -> i32 {
    // SAFETY: the address of this thread's own errno.
    unsafe { *libc::__errno_location() }
}
