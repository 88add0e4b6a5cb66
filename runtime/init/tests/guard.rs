//! SIGKILL to an init that is not PID 1, seen from outside: to its guard, to itself, to the group.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Deaf processes in sessions of their own, one of them an orphan; all hold stdout. The program itself is the
/// parent of none of them. It writes the pid of its own parent, the init.
const TREE: &str = "(setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000 & wait' &); \
                    (setsid sh -c 'trap \"\" TERM HUP INT; setsid sleep 1000 & wait' &); \
                    echo $PPID; exec sleep 1000";

struct Tree {
    guard: Child,
    init: Pid,
    stdout: BufReader<ChildStdout>,
}

impl Tree {
    fn start() -> Self {
        Self::of(TREE)
    }

    fn of(script: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tractorun-init"));
        command
            .env_remove("TRACTORUN_JOB_SPEC")
            .env_remove("TRACTORUN_LOG_LEVEL")
            .args(["--", "sh", "-c", script])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut guard = command.spawn().unwrap();
        let mut stdout = BufReader::new(guard.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Self { guard, init: Pid::from_raw(line.trim().parse().unwrap()), stdout }
    }

    fn guard(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.guard.id()).unwrap())
    }

    /// The end of the pipe is everybody's end, and a hang if somebody stays.
    fn wait_until_gone(mut self) -> std::process::Output {
        self.stdout.read_to_string(&mut String::new()).unwrap();
        self.guard.wait_with_output().unwrap()
    }
}

#[test]
fn a_killed_init_leaves_nobody() {
    let tree = Tree::start();
    assert_ne!(tree.init, tree.guard());
    kill(tree.init, Signal::SIGKILL).unwrap();
    let output = tree.wait_until_gone();
    assert_eq!(output.status.code(), Some(137));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("tractorun-init: error: killed by SIGKILL; ended "), "{stderr}");
}

#[test]
fn a_killed_guard_leaves_nobody() {
    let tree = Tree::start();
    kill(tree.guard(), Signal::SIGKILL).unwrap();
    assert_eq!(tree.wait_until_gone().status.signal(), Some(9));
}

#[test]
fn a_killed_group_leaves_nobody() {
    let tree = Tree::start();
    // The group that whoever started it sees.
    kill(Pid::from_raw(-tree.guard().as_raw()), Signal::SIGKILL).unwrap();
    assert_eq!(tree.wait_until_gone().status.signal(), Some(9));
}

/// What the program has started could live on then, but not the program.
#[test]
fn who_kills_both_kills_the_program_too() {
    let tree = Tree::of("echo $PPID; exec sleep 1000");
    let (guard, init) = (tree.guard(), tree.init);
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        kill(guard, signal).unwrap();
        kill(init, signal).unwrap();
    }
    assert_eq!(tree.wait_until_gone().status.signal(), Some(9));
}

#[test]
fn a_stopped_guard_is_no_shield() {
    let tree = Tree::start();
    kill(tree.guard(), Signal::SIGSTOP).unwrap();
    kill(tree.init, Signal::SIGKILL).unwrap();
    kill(tree.guard(), Signal::SIGCONT).unwrap();
    assert_eq!(tree.wait_until_gone().status.code(), Some(137));
}

#[test]
fn no_signal_is_too_early() {
    // Sent as soon as the process is its own: it is blocked until somebody takes it. Only the time before `main`
    // is not ours, and there the default kills, which is an end as well.
    for _ in 0..20 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tractorun-init"));
        command.env_remove("TRACTORUN_JOB_SPEC").args(["--", "sleep", "1000"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.code() == Some(143) || status.signal() == Some(15), "{status}");
    }
}
