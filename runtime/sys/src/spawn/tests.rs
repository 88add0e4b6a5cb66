//! Spawning against the real kernel.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cpu::CpuSet;
use crate::reap::{ExitReason, wait_pid};

/// A shell command with a usable `PATH`.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args = vec!["-c".into(), script.into()];
    command.environment = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    command
}

/// Runs a command to its end; what it wrote to stdout and how it ended.
fn run(mut command: Command) -> (String, ExitReason) {
    let (reader, writer) = descriptor::blocking_pipe().unwrap();
    command.stdout = Stdio::Fd(writer);
    let child = spawn(&command).unwrap();
    drop(command);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    (output, wait_pid(child).unwrap())
}

#[test]
fn codes_and_signals_are_told_apart() {
    assert_eq!(run(shell("exit 0")).1, ExitReason::Code(0));
    assert_eq!(run(shell("exit 127")).1, ExitReason::Code(127));
    assert_eq!(run(shell("exit 255")).1, ExitReason::Code(255));
    assert_eq!(run(shell("kill -9 $$")).1, ExitReason::Signal(Signal::KILL));
    assert_eq!(run(shell("kill -34 $$")).1, ExitReason::Signal(Signal::from_number(34).unwrap()));
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    let mut command = Command::new("/usr/bin/env");
    command.environment = vec![("A".into(), "1 2".into()), ("B".into(), "".into())];
    assert_eq!(run(command).0, "A=1 2\nB=\n");
}

#[test]
fn no_descriptor_is_inherited() {
    // Deliberately without close-on-exec: what a careless parent leaves behind.
    let leaked = File::open("/dev/null").unwrap();
    // SAFETY: fcntl with F_SETFD takes numbers only.
    unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
    let (output, _) = run(shell("for fd in /proc/self/fd/*; do echo ${fd##*/}; done"));
    // The shell may open one of its own to read the folder.
    let inherited: Vec<i32> = output.lines().map(|line| line.parse().unwrap()).collect();
    assert!(inherited.starts_with(&[0, 1, 2]), "{inherited:?}");
    assert!(!inherited.contains(&leaked.as_raw_fd()) || inherited.len() == 4, "{inherited:?}");
}

#[test]
fn signals_start_from_their_defaults() {
    signal::ignore(Signal::USR2).unwrap();
    let (output, _) = run(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"));
    assert_eq!(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn the_child_runs_on_its_cpus_and_the_caller_on_all() {
    let before = CpuSet::allowed().unwrap();
    let allowed_list = |cpus: Option<CpuSet>| {
        let mut command = shell("sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status");
        command.cpus = cpus;
        run(command).0
    };
    let last = before.iter().last().unwrap();
    assert_eq!(allowed_list(Some(CpuSet::from_iter([last]))), format!("{last}\n"));
    // What the machine does not have is left out, however high its number.
    assert_eq!(allowed_list(Some(CpuSet::from_iter([last, 5000]))), format!("{last}\n"));
    assert_eq!(allowed_list(None), format!("{before}\n"));
    assert_eq!(CpuSet::allowed().unwrap(), before);
}

#[test]
fn cpus_that_are_not_there_are_an_error_of_their_own() {
    let mut command = shell("true");
    command.cpus = Some(CpuSet::from_iter([5000]));
    let error = spawn(&command).unwrap_err();
    assert_eq!((error.step, error.exit_code()), (Step::Affinity, 126));
    assert_eq!(error.to_string(), "cannot start `sh`: bind it to its CPUs: Invalid argument");
}

#[test]
fn the_callers_mask_comes_back() {
    let mask = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
    };
    let before = mask();
    run(shell("true"));
    assert_eq!(mask(), before);
}

#[test]
fn a_new_session_is_led_by_the_program() {
    // Field 5 of stat is the group, 6 the session.
    let script = "read -r pid _ _ _ group session _ < /proc/self/stat; echo $pid $group $session";
    let (output, _) = run(shell(script));
    let ids: Vec<&str> = output.split_whitespace().collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let mut command = shell(script);
    command.session = Session::Keep;
    let (output, _) = run(command);
    let ids: Vec<&str> = output.split_whitespace().collect();
    assert_ne!(ids[0], ids[2]);

    let mut command = shell(script);
    command.session = Session::ForegroundGroup;
    let (output, _) = run(command);
    let ids: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn streams_lead_where_they_should() {
    let mut command = shell("cat; echo done; readlink /proc/self/fd/2");
    let (stdin, mut feed) = descriptor::blocking_pipe().map(|(r, w)| (r, File::from(w))).unwrap();
    std::io::Write::write_all(&mut feed, b"fed\n").unwrap();
    drop(feed);
    command.stdin = Stdio::Fd(stdin);
    assert_eq!(run(command).0, "fed\ndone\n/dev/null\n");
}

#[test]
fn the_working_directory_is_set_and_relative_programs_start_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("tool");
    fs::write(&script, "#!/bin/sh\npwd\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("./tool");
    command.working_directory = Some(folder.path().to_owned());
    assert_eq!(run(command).0.trim_end(), folder.path().canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn a_script_without_a_first_line_runs_by_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("tool");
    fs::write(&script, "echo $0 $1\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("tool");
    command.args = vec!["x".into()];
    command.environment = vec![("PATH".into(), folder.path().into())];
    assert_eq!(run(command).0, format!("{} x\n", script.display()));
}

/// Text, code and hint of a failed spawn.
fn failure(command: &Command) -> (String, u8, Option<String>) {
    let error = spawn(command).unwrap_err();
    (error.to_string(), error.exit_code(), error.hint())
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let mut command = Command::new("no-such-command");
    command.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    assert_eq!(
        failure(&command),
        (
            "cannot start `no-such-command`: command not found in PATH: /usr/bin:/bin".into(),
            127,
            Some("install it in the image, bind it, or give its path with a `/` in it".into())
        )
    );
    let mut command = Command::new("./no-such-command");
    command.working_directory = Some("/usr".into());
    assert_eq!(
        failure(&command),
        (
            "cannot start `./no-such-command`: exec: No such file or directory".into(),
            127,
            Some("relative paths start in `/usr`".into())
        )
    );
    let text = "cannot start `/no/such`: exec: No such file or directory";
    assert_eq!(failure(&Command::new("/no/such")), (text.into(), 127, None));
    assert_eq!(failure(&Command::new("")).1, 127);
}

#[test]
fn what_cannot_be_executed_is_126() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "x").unwrap();
    assert_eq!(
        failure(&Command::new(&file)),
        (
            format!("cannot start `{}`: exec: Permission denied", file.display()),
            126,
            Some(format!("make it executable: chmod +x {}", file.display()))
        )
    );

    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let text =
        format!("cannot start `{}`: the interpreter that its first line names is not there", file.display());
    assert_eq!(failure(&Command::new(&file)), (text, 127, None));
}

#[test]
fn other_steps_say_which_they_are() {
    let mut command = shell("true");
    command.working_directory = Some("/no/such/folder".into());
    let text = "cannot start `sh`: working directory `/no/such/folder`: No such file or directory";
    assert_eq!(failure(&command), (text.into(), 126, None));

    let mut command = shell("true");
    command.args.push("a\0b".into());
    let text = "cannot start `sh`: prepare: a string with a NUL byte in it";
    assert_eq!(failure(&command).0, text);
}

#[test]
fn a_failed_spawn_leaves_no_child() {
    // No other process can be waited for by its number: the child was reaped.
    for _ in 0..20 {
        spawn(&Command::new("/no/such/program")).unwrap_err();
    }
    let children = crate::tree::descendants(Pid::current()).unwrap();
    assert!(children.iter().all(|child| {
        fs::read_to_string(format!("/proc/{}/cmdline", child.pid)).is_ok_and(|line| !line.contains("no/such"))
    }));
}

#[test]
fn the_parent_death_signal_is_set() {
    // The shell's parent (the middle one) dies; the grandchild, which has no reader of its pipe left, would
    // otherwise sleep on and keep the pipe open.
    let (reader, writer) = descriptor::blocking_pipe().unwrap();
    let writer_kept = writer.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut command = shell("exec sleep 1000");
        command.stdout = Stdio::Fd(writer_kept);
        command.parent_death_signal = Some(Signal::KILL);
        spawn(&command).unwrap()
    });
    // The "parent" is the thread that spawned, and it is gone now.
    let pid = thread.join().unwrap();
    drop(writer);
    File::from(reader).read_to_string(&mut String::new()).unwrap();
    assert_eq!(wait_pid(pid).unwrap(), ExitReason::Signal(Signal::KILL));
}
