//! The guard of an init that is not PID 1: a small parent that ends what the init leaves behind.
//!
//! ```text
//! whoever started us ── guard (the process that was started) ── init ── workers ── ...
//! ```
//!
//! If PID 1 dies the kernel kills everybody else. Of any other process the kernel kills at most the children
//! (parent-death signal); theirs live on. So the process that was started forks: the child goes on as the init,
//! the parent is a subreaper that does nothing but hand signals on and wait. However the init ends, SIGKILL
//! included, its orphans come to the guard, which kills them, generation after generation, and ends with the
//! init's exit code. The other way round, the init reads as ended a pipe that only the guard holds, and ends
//! its tree itself. They are in different process groups, so that one `kill` of a group does not take both:
//! only who kills each of them on purpose leaves orphans behind.
//!
//! Of those the workers and sidecars themselves die even so: the kernel kills them for their parent's death. That this
//! cannot be had for what they start is the kernel's rule, since a child does not inherit the wish, and nothing else
//! fits: a third process would only make it three to be killed; a PID namespace needs rights that the user of a laptop
//! or a container may not have, and shows workers other process ids than everybody else sees; a control group kills
//! nobody by itself; and to trace every descendant (`PTRACE_O_EXITKILL`) would slow down each fork and shut out the
//! debuggers and profilers of the user, which trace too. A container's own end has no such gap.
//!
//! The fork happens before there is any thread, so the guard is ordinary code. It must not panic.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::descriptor;
use crate::pid::Pid;
use crate::reap::{ExitReason, Reaped, reap_any};
use crate::signal::{self, MaskGuard, Signal};
use crate::tree;

/// How long SIGKILL is repeated: what is alive after that sits in an uninterruptible system call.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Between two rounds of SIGKILL, if no child ends meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long the last words may wait for room in stderr.
const SAY_LIMIT: u16 = 200;

/// Name of the guard in `ps`, at most 15 bytes.
const NAME: &std::ffi::CStr = c"tractorun-guard";

/// Splits this process: returns in a child, whose parent, the guard, never returns and ends with the child's exit
/// code. The descriptor reads as ended when the guard is gone; it is non-blocking and close-on-exec.
///
/// All signals stay blocked in the child, so that none of those handed on is lost before it can take them: it
/// opens its mask itself ([`signal::unblock_all_in_this_thread`]).
///
/// Call it while the process has one thread.
pub fn split() -> io::Result<OwnedFd> {
    let (reader, writer) = descriptor::pipe()?;
    let reader = descriptor::above_standard(reader)?;
    let writer = descriptor::above_standard(writer)?;
    // Before the fork: there is no moment in which an orphan could pass the guard by.
    tree::become_subreaper()?;
    let mask = MaskGuard::block_all();
    // SAFETY: there is one thread (the caller's promise), so nothing is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            std::mem::forget(mask);
            drop(writer);
            // SAFETY: setpgid takes numbers only. It fails for nobody who was just forked.
            unsafe { libc::setpgid(0, 0) };
            Ok(reader)
        }
        number => {
            drop(reader);
            // SAFETY: prctl reads the name, a C string that lives for ever.
            unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
            let code = match Pid::from_raw(number) {
                Some(init) => guard(init),
                None => 70,
            };
            drop(writer);
            // SAFETY: _exit does not return. Nothing of the child's is to be run or flushed here.
            unsafe { libc::_exit(i32::from(code)) }
        }
    }
}

/// The guard's life; returns the exit code.
fn guard(init: Pid) -> u8 {
    let reason = hand_on_until_end(init);
    let killed = end_everybody();
    match reason {
        ExitReason::Code(code) => code,
        ExitReason::Signal(signal) => {
            say(&format!(
                "tractorun-init: error: killed by {signal}; ended {killed} processes that it left\n"
            ));
            128_u8.saturating_add(u8::try_from(signal.number()).unwrap_or(127))
        }
    }
}

/// Hands every signal on to the init until it has ended.
fn hand_on_until_end(init: Pid) -> ExitReason {
    loop {
        // Looking comes before waiting: it may have ended before the first wait.
        loop {
            match reap_any() {
                Ok(Reaped::Child(pid, reason)) if pid == init => return reason,
                Ok(Reaped::Child(..)) => {}
                Ok(Reaped::NoneEnded) => break,
                // Nobody else reaps here, so this cannot be; without an init there is nothing to wait for.
                Ok(Reaped::NoChildren) | Err(_) => return ExitReason::Code(70),
            }
        }
        if let Some(signal) = signal::wait_for_any(None)
            && signal != Signal::CHLD
        {
            // One that is gone by now has a SIGCHLD on its way to us.
            let _ = signal::send(init, signal);
        }
    }
}

/// Kills and reaps descendants until there are none; returns how many were reaped.
fn end_everybody() -> u32 {
    let deadline = Instant::now() + KILL_LIMIT;
    let mut reaped = 0;
    loop {
        match reap_any() {
            Ok(Reaped::Child(..)) => {
                reaped += 1;
                continue;
            }
            Ok(Reaped::NoneEnded) if Instant::now() < deadline => {}
            Ok(Reaped::NoneEnded | Reaped::NoChildren) | Err(_) => return reaped,
        }
        if tree::kill_descendants().is_err() {
            // Without `/proc` nobody can be found.
            return reaped;
        }
        signal::wait_for_any(Some(KILL_AGAIN));
    }
}

/// Writes a line to stderr, unless whoever should read it does not.
fn say(line: &str) {
    let stderr = io::stderr();
    let mut descriptors = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let room = poll(&mut descriptors, PollTimeout::from(SAY_LIMIT));
    if matches!(room, Ok(1)) && descriptors[0].revents() == Some(PollFlags::POLLOUT) {
        // A pipe that has room takes a short line whole, so this does not block.
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    use super::*;

    const INSIDE: &str = "TRACTORUN_SYS_TEST_GUARD";

    /// In the process that `outside` started: the script.
    fn inside() -> Option<String> {
        std::env::var(INSIDE).ok()
    }

    /// Runs this very test in a process of its own, which it may split: the harness's other thread there is idle
    /// and holds no lock.
    fn outside(test: &str, script: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("guard::tests::{test}"), "--nocapture", "--test-threads=1"])
            .env(INSIDE, script)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    /// The init of these tests: runs a shell that knows its pid as `$INIT`, then does what the test wants.
    fn shell(script: &str) -> std::process::Child {
        Command::new("/bin/sh")
            .args(["-c", script])
            .env("INIT", std::process::id().to_string())
            .spawn()
            .unwrap()
    }

    /// Leaves without the harness, which would write its report from here.
    fn leave(code: i32) -> ! {
        // SAFETY: _exit does not return.
        unsafe { libc::_exit(code) }
    }

    #[test]
    fn what_a_killed_init_leaves_is_ended_by_the_guard() {
        if let Some(script) = inside() {
            let _line = split().unwrap();
            tree::become_subreaper().unwrap();
            shell(&script).wait().unwrap();
            unreachable!("it kills us before it ends");
        }
        // Two generations in a session of their own, deaf; all hold stdout. Then the init is killed.
        let script = "setsid sh -c 'trap \"\" TERM HUP INT; setsid sleep 1000 & setsid sleep 1000 & \
                      kill -9 $INIT; wait' & wait";
        let output = outside("what_a_killed_init_leaves_is_ended_by_the_guard", script).output().unwrap();
        // That output() returned is the proof: the pipe's end is everybody's end.
        assert_eq!(output.status.code(), Some(137));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("tractorun-init: error: killed by SIGKILL; ended "), "{stderr}");
    }

    #[test]
    fn the_init_sees_the_end_of_its_guard() {
        if inside().is_some() {
            let line = split().unwrap();
            let guard = std::os::unix::process::parent_id();
            // It is open as long as the guard lives.
            let mut byte = [0];
            assert_eq!(
                File::from(line.try_clone().unwrap()).read(&mut byte).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            signal::send(Pid::from_raw(i32::try_from(guard).unwrap()).unwrap(), Signal::KILL).unwrap();
            let mut descriptors = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::NONE).unwrap();
            assert_eq!(File::from(line).read(&mut byte).unwrap(), 0);
            println!("noticed");
            leave(0);
        }
        let output = outside("the_init_sees_the_end_of_its_guard", "").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("noticed"), "{output:?}");
        assert_eq!(output.status.code(), None);
    }

    /// That signals are handed on is tested with `tractorun-init`: here the harness's other thread takes them.
    #[test]
    fn codes_come_through_and_groups_differ() {
        if inside().is_some() {
            let guard_pid = std::process::id();
            let line = split().unwrap();
            assert!(line.as_raw_fd() > 2);
            // SAFETY: getpgrp takes and gives numbers only.
            let group = unsafe { libc::getpgrp() };
            assert_eq!(group, i32::try_from(std::process::id()).unwrap());
            assert_ne!(std::process::id(), guard_pid);
            leave(43);
        }
        let status = outside("codes_come_through_and_groups_differ", "").status().unwrap();
        assert_eq!(status.code(), Some(43));
    }
}
