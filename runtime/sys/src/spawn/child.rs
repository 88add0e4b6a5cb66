//! The child's side, between fork and exec: nothing but system calls.
//!
//! After a fork of a program with threads, any lock (the allocator's above all) may be held for ever by a thread
//! that does not exist here. So nothing below allocates, formats, locks or panics; all strings come from
//! [`Plan`].

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::prepare::Plan;
use super::{Session, Step};

/// What a failed child writes into the error pipe: the step's number and the errno, 4 bytes each.
pub(super) const REPORT_LENGTH: usize = 8;

/// A failure: where and which errno.
type Outcome = Result<(), (Step, i32)>;

/// Becomes the program, or reports why not and ends.
///
/// # Safety
///
/// Only in a child that was just forked, with all signals blocked.
pub(super) unsafe fn run(plan: &Plan, error_pipe: RawFd) -> ! {
    let Err((step, errno)) = become_program(plan) else { leave() };
    let mut report = [0; REPORT_LENGTH];
    report[..4].copy_from_slice(&(step as u32).to_ne_bytes());
    report[4..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: the buffer is valid for its length; 8 bytes enter a pipe whole.
    unsafe { libc::write(error_pipe, report.as_ptr().cast(), REPORT_LENGTH) };
    leave()
}

/// Ends the child without running anything of the parent's (no `atexit`, no flushing of its buffers).
fn leave() -> ! {
    // SAFETY: _exit does not return and touches nothing.
    unsafe { libc::_exit(127) }
}

/// The steps in their order; returns only if one fails.
fn become_program(plan: &Plan) -> Outcome {
    // Before the mask is emptied: a handler of the parent's must never run here.
    default_dispositions();
    enter_session(plan.session)?;
    if let Some(signal) = plan.parent_death_signal {
        // SAFETY: prctl with PR_SET_PDEATHSIG and getppid take and give numbers only.
        let (result, parent) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal), libc::getppid()) };
        check(Step::ParentDeathSignal, result)?;
        // The parent may have died before that.
        if parent != plan.parent.as_raw() {
            leave();
        }
    }
    for (target, source) in (0..).zip(plan.streams) {
        let result = match source {
            // SAFETY: dup2 takes numbers only.
            Some(source) => unsafe { libc::dup2(source, target) },
            None => clear_close_on_exec(target),
        };
        check(Step::Stdio, result)?;
    }
    close_on_exec_from(3);
    if let Some(limit) = plan.descriptor_limit
        && limit.apply().is_err()
    {
        return Err((Step::Limit, errno()));
    }
    if let Some(cpus) = &plan.cpus {
        let (bytes, mask) = (size_of_val(cpus.words()), cpus.words().as_ptr());
        // SAFETY: the kernel reads `bytes` bytes of a mask that the plan owns; 0 is this process.
        let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, mask) };
        check(Step::Affinity, if result == -1 { -1 } else { 0 })?;
    }
    if let Some(directory) = &plan.working_directory {
        // SAFETY: a C string that the plan owns.
        check(Step::WorkingDirectory, unsafe { libc::chdir(directory.as_ptr()) })?;
    }
    unblock_all();
    Err((Step::Exec, exec(plan)))
}

/// Leaves the parent's session or group as asked.
fn enter_session(session: Session) -> Outcome {
    match session {
        Session::Keep => Ok(()),
        // SAFETY: setsid takes and gives numbers only.
        Session::New => check(Step::Session, unsafe { libc::setsid() }),
        // SAFETY: these three take and give numbers only.
        Session::ForegroundGroup => unsafe {
            check(Step::Session, libc::setpgid(0, 0))?;
            // Without a terminal there is no foreground: not an error. SIGTTOU is blocked, so this works from
            // the background.
            libc::tcsetpgrp(0, libc::getpgrp());
            Ok(())
        },
    }
}

/// Sets every signal to its default. By the system call, since the C library refuses to touch the two signals
/// that it uses itself, which whoever started us may have left ignored.
fn default_dispositions() {
    /// The kernel's `struct sigaction`: handler, flags, restorer (where there is one), mask; at most this long.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Length of the kernel's signal set.
    const SET_LENGTH: usize = 8;
    let null = std::ptr::null::<u64>();
    for number in 1..=64 {
        // SAFETY: all zeros mean SIG_DFL without flags; the kernel only reads it. SIGKILL and SIGSTOP answer
        // with an error, which is fine.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), null, SET_LENGTH) };
    }
}

/// Empties the signal mask.
fn unblock_all() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set that pthread_sigmask reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Lets an inherited standard descriptor live through exec; a closed one stays closed.
fn clear_close_on_exec(fd: RawFd) -> i32 {
    // SAFETY: fcntl with F_SETFD takes numbers only.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        -1 if errno() == libc::EBADF => 0,
        result => result,
    }
}

/// Marks everything from `first` on close-on-exec: closing now would close the error pipe.
fn close_on_exec_from(first: RawFd) {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range takes numbers only.
    if unsafe { libc::syscall(libc::SYS_close_range, first.unsigned_abs(), u32::MAX, flags) } == 0 {
        return;
    }
    // A kernel before 5.11 or a sandbox that does not know the call. Our own descriptors are close-on-exec
    // anyway; this catches those that our parent left open.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let last = limit.rlim_cur.clamp(256, 65_536);
    let mut fd = first;
    while u64::from(fd.unsigned_abs()) < last {
        // SAFETY: fcntl with F_SETFD takes numbers only; an unused descriptor is an error that changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        fd += 1;
    }
}

/// Tries each candidate as `execvp` does; returns the errno that tells most.
fn exec(plan: &Plan) -> i32 {
    let mut most_telling = libc::ENOENT;
    for candidate in &plan.candidates {
        // SAFETY: all three are valid C strings and null-terminated arrays that live until exec replaces us.
        unsafe { libc::execve(candidate.as_ptr(), plan.arguments.as_ptr(), plan.environment.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            // A file of that name that may not be executed: a later one may.
            libc::EACCES => most_telling = libc::EACCES,
            libc::ENOEXEC => {
                exec_by_shell(plan, candidate);
                return libc::ENOEXEC;
            }
            other => return other,
        }
    }
    most_telling
}

/// Runs a script without `#!` line by `/bin/sh`.
fn exec_by_shell(plan: &Plan, script: &CStr) {
    let arguments = &plan.shell_arguments;
    arguments.replace(1, script);
    // SAFETY: as in `exec`; the first argument is the shell's path.
    unsafe { libc::execve(*arguments.as_ptr(), arguments.as_ptr(), plan.environment.as_ptr()) };
}

/// -1 becomes the step's failure.
fn check(step: Step, result: i32) -> Outcome {
    if result == -1 { Err((step, errno())) } else { Ok(()) }
}

/// The errno of the last call that failed.
fn errno() -> i32 {
    // SAFETY: the location is this thread's own, always valid.
    unsafe { *libc::__errno_location() }
}
