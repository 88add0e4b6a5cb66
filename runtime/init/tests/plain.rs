//! Plain-init mode, seen from outside: the real binary and real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const INIT: &str = env!("CARGO_BIN_EXE_tractorun-init");

/// The binary, without a job.
fn init() -> Command {
    let mut command = Command::new(INIT);
    command.env_remove("TRACTORUN_JOB_SPEC").env_remove("TRACTORUN_LOG_LEVEL").stdin(Stdio::null());
    command
}

fn shell(script: &str) -> Command {
    let mut command = init();
    command.args(["--", "sh", "-c", script]);
    command
}

/// Starts it and waits for the first line of its program.
fn ready(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_exit_code_is_the_programs() {
    for code in [0, 1, 2, 64, 125, 126, 127, 128, 143, 255] {
        let output = shell(&format!("exit {code}")).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(code), String::new()));
    }
    assert_eq!(shell("kill -9 $$").status().unwrap().code(), Some(137));
}

#[test]
fn streams_arguments_and_environment_are_the_programs() {
    let mut command = init();
    command.args(["--", "sh", "-c", "read x; echo \"$x $1 $A\"; echo error >&2", "sh", "-g"]).env("A", "a");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"input\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "input -g a\n");
    assert_eq!(stderr(&output), "error\n");
}

#[test]
fn a_program_that_cannot_be_started_is_explained() {
    let output = init().args(["--", "no-such-command"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        stderr(&output),
        "tractorun-init: error: cannot start `no-such-command`: command not found in PATH: /usr/bin:/bin\n\
         tractorun-init: hint: install it in the image, bind it, or give its path with a `/` in it\n"
    );
    let output = init().args(["--", "/etc/passwd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    assert_eq!(
        stderr(&output),
        "tractorun-init: error: cannot start `/etc/passwd`: exec: Permission denied\n\
         tractorun-init: hint: make it executable: chmod +x /etc/passwd\n"
    );
}

#[test]
fn signals_reach_the_program() {
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGPIPE, "PIPE"),
        (Signal::SIGABRT, "ABRT"),
        (Signal::SIGWINCH, "WINCH"),
    ] {
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.01; done");
        let (mut child, _stdout) = ready(shell(&script));
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(42), "{name}");
    }
}

#[test]
fn an_unhandled_signal_is_128_and_its_number() {
    let (mut child, _stdout) = ready(shell("echo ready; exec sleep 1000"));
    send(&child, Signal::SIGTERM);
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[test]
fn only_with_g_the_whole_group_gets_the_signal() {
    // The shell ignores it; its child does not, and ends only if it gets the signal itself.
    let script = "trap : USR1; sh -c 'trap \"exit 3\" USR1; echo ready; while :; do sleep 0.01; done' & \
                  wait $!; wait $!; exit $?";
    let mut command = init();
    command.args(["-g", "--", "sh", "-c", script]);
    let (mut child, _stdout) = ready(command);
    send(&child, Signal::SIGUSR1);
    assert_eq!(child.wait().unwrap().code(), Some(3));

    // Without it the child never hears of it.
    let script = "trap 'exit 4' USR1; \
                  sh -c 'trap \"echo hit\" USR1; echo ready; while :; do sleep 0.01; done' & wait; wait";
    let (mut child, mut stdout) = ready(shell(script));
    send(&child, Signal::SIGUSR1);
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn nobody_outlives_the_program() {
    // Three generations, one in a session of its own that ignores SIGTERM; all hold stdout.
    let script = "setsid sh -c 'trap \"\" TERM; sleep 1000 & echo ready; wait' & read line < /dev/null; \
                  while ! [ -e \"$0\" ]; do sleep 0.01; done; exit 5";
    let folder = tempfile::tempdir().unwrap();
    let barrier = folder.path().join("go");
    let mut command = init();
    command.args(["--", "sh", "-c", script]).arg(&barrier);
    let (mut child, mut stdout) = ready(command);
    std::fs::write(&barrier, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // The end of the pipe is everybody's end.
    stdout.read_to_string(&mut String::new()).unwrap();
}

#[test]
fn a_stopped_process_can_still_end_in_order() {
    // The program ends when its child has stopped itself.
    let script = "sh -c 'trap \"echo bye; exit\" TERM; kill -STOP $$' & \
                  until grep -q '^State:.T' /proc/$!/status; do sleep 0.01; done; exit 5";
    let output = shell(script).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bye\n");
}

#[test]
fn orphans_are_reaped_while_the_program_runs() {
    // A grandchild becomes an orphan and ends; when init has reaped it, its entry in /proc is gone.
    let script = "pid=$(sh -c 'sleep 0.01 > /dev/null & echo $!'); \
                  while [ -e /proc/$pid ]; do sleep 0.01; done; echo reaped";
    let output = shell(script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "reaped\n");
}

#[test]
fn bad_usage_is_64_and_says_what_to_do() {
    let refused = |arguments: &[&str]| {
        let output = init().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        stderr(&output)
    };
    assert_eq!(
        refused(&["--hlep"]),
        "tractorun-init: unknown option `--hlep`, did you mean `--help`?\n\
         tractorun-init: hint: tractorun-init --help\n"
    );
    assert_eq!(
        refused(&[]),
        "tractorun-init: nothing to do: no command, and `TRACTORUN_JOB_SPEC` is not set\n\
         tractorun-init: hint: tractorun-init -- COMMAND [ARGUMENT]...; see tractorun-init --help\n"
    );
    let output = shell("true").env("TRACTORUN_LOG_LEVEL", "loud").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = init().arg("--version").output().unwrap();
    let version = concat!("tractorun-init ", env!("CARGO_PKG_VERSION"), " (job spec 1.0)\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    let output = init().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Usage:"));
}
