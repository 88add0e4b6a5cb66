//! Job mode before any worker runs, seen from outside: stops and errors without a cluster.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

/// A job whose cluster takes connections and never says anything.
struct MuteJob {
    sandbox: tempfile::TempDir,
    _cluster: TcpListener,
}

impl MuteJob {
    fn new() -> Self {
        Self::with(1, "")
    }

    /// One of so many nodes, with more in its job spec.
    fn with(node_count: u32, more: &str) -> Self {
        let cluster = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = tempfile::tempdir().unwrap();
        let spec = format!(
            r#"{{"version": "1.0", "cluster": {{"proxy": "http://{}"}}, "yt_path": "//tmp/x",
                 "mesh": {{"node_count": {node_count}, "process_per_node": 1, "gpu_per_process": 0}}, "command": ["true"]{more}}}"#,
            cluster.local_addr().unwrap()
        );
        std::fs::write(sandbox.path().join("job-spec.json"), spec).unwrap();
        mkfifo(&sandbox.path().join("fifo"), Mode::S_IRWXU).unwrap();
        Self { sandbox, _cluster: cluster }
    }

    fn command(&self) -> Command {
        command(self.sandbox.path())
    }
}

/// Init in a job's environment.
fn command(sandbox: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractorun-init"));
    command.env_clear().current_dir(sandbox).stdin(Stdio::null()).stderr(Stdio::piped());
    for (name, value) in [
        ("PATH", "/usr/bin:/bin"),
        ("TRACTORUN_JOB_SPEC", "job-spec.json"),
        ("YT_OPERATION_ID", "1-2-3-4"),
        ("YT_JOB_ID", "5-6-7-8"),
        ("YT_JOB_COOKIE", "0"),
        ("YT_PORT_0", "1"),
        ("YT_PORT_1", "2"),
        ("TRACTORUN_ADVERTISE_HOST", "127.0.0.1"),
    ] {
        command.env(name, value);
    }
    command
}

/// Starts it; it has taken its signals when it says that it has started.
fn started(mut command: Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("tractorun-init: started, version "), "{line}");
    (child, stderr)
}

fn last_line(stderr: BufReader<ChildStderr>) -> String {
    stderr.lines().map(Result::unwrap).last().unwrap()
}

/// What a node is at when it is asked to stop.
const PHASES: [(&str, &str, &str); 4] = [
    ("taking the lead", "0", ""),
    ("waiting for a leader", "1", ""),
    // An archive that nobody ever writes.
    ("unpacking", "1", r#","binds": [{"archive": "fifo", "destination": "code"}]"#),
    ("fetching secrets", "1", r#","env": [{"name": "KEY", "cypress_path": "//tmp/key"}]"#),
];

/// A cluster that interrupts a job takes it away; elsewhere whoever asks means a stop.
#[test]
fn a_signal_stops_in_order_in_every_phase() {
    const TAKEN: &str = r#","preemption": {"signal": "SIGTERM", "timeout_ms": 10000}"#;
    for (phase, cookie, more) in PHASES {
        for (signal, place, what, code) in [
            (Signal::SIGTERM, "", "stopped by SIGTERM", 143),
            (Signal::SIGINT, "", "stopped by SIGINT", 130),
            (Signal::SIGTERM, TAKEN, "preempted (SIGTERM)", 205),
            (Signal::SIGINT, TAKEN, "stopped by SIGINT", 130),
        ] {
            let job = MuteJob::with(2, &format!("{more}{place}"));
            let mut command = job.command();
            command.env("YT_JOB_COOKIE", cookie);
            let (mut child, mut stderr) = started(command);
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            // The configuration is read and everything has begun.
            assert!(line.contains(&format!("node {cookie} of 2, 1 workers each")), "{phase}: {line}");
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(code), "{phase}, {signal}");
            let expected =
                format!("tractorun-init: error: {what} before the workers were started; exit code {code}");
            assert_eq!(last_line(stderr), expected, "{phase}");
        }
    }
}

/// Not even the configuration is read.
#[test]
fn a_signal_at_the_very_beginning_is_not_lost() {
    let job = MuteJob::new();
    let (mut child, stderr) = started(job.command());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(last_line(stderr).contains("stopped by SIGTERM before the workers were started"));
}

#[test]
fn the_end_of_the_lifeline_stops_in_order() {
    let job = MuteJob::new();
    let mut command = job.command();
    command.env("TRACTORUN_LIFELINE", "stdin").stdin(Stdio::piped());
    let (mut child, _stderr) = started(command);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_killed_guard_ends_a_start_up() {
    let job = MuteJob::new();
    let (mut guard, stderr) = started(job.command());
    guard.kill().unwrap();
    guard.wait().unwrap();
    // The init has stderr to itself now: its end is the end of the pipe.
    let expected = "tractorun-init: error: stopped by SIGKILL before the workers were started; exit code 137";
    assert_eq!(last_line(stderr), expected);
}

#[test]
fn a_broken_connection_is_no_signal_for_workers() {
    let job = MuteJob::new();
    let mut command = job.command();
    command.env("TRACTORUN_LOG_LEVEL", "debug");
    let (mut child, stderr) = started(command);
    // The kernel sends the same to whoever writes to a connection that its peer has closed.
    for signal in [Signal::SIGPIPE, Signal::SIGUSR1, Signal::SIGTERM] {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let lines: Vec<String> = stderr.lines().map(Result::unwrap).collect();
    assert!(!lines.iter().any(|line| line.contains("SIGPIPE")), "{lines:?}");
}

#[test]
fn a_missing_job_spec_is_bad_configuration() {
    let sandbox = tempfile::tempdir().unwrap();
    let (mut child, stderr) = started(command(sandbox.path()));
    assert_eq!(child.wait().unwrap().code(), Some(64));
    let line = last_line(stderr);
    assert!(line.starts_with("tractorun-init: error: cannot read job spec `"), "{line}");
}

#[test]
fn a_job_spec_of_a_newer_version_names_both() {
    let sandbox = tempfile::tempdir().unwrap();
    std::fs::write(sandbox.path().join("job-spec.json"), r#"{"version": "2.0"}"#).unwrap();
    let (mut child, stderr) = started(command(sandbox.path()));
    assert_eq!(child.wait().unwrap().code(), Some(64));
    let lines: Vec<String> = stderr.lines().map(Result::unwrap).collect();
    assert!(lines[0].contains("version 2.0") && lines[0].contains("up to 1."), "{lines:?}");
    assert!(lines[1].starts_with("tractorun-init: hint: "), "{lines:?}");
}
