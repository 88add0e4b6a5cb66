//! Every help.

use tractorun_tests::{Launcher, binaries};

use super::seen::assert_seen;

/// The launcher's commands.
const COMMANDS: [&str; 7] = ["logs", "status", "attach", "stop", "list", "targets", "doctor"];

#[test]
fn launcher() {
    assert_seen("help", |scratch| Launcher::new(scratch).arg("--help"));
    assert_seen("help_short", Launcher::new);
    assert_seen("version", |scratch| Launcher::new(scratch).arg("--version"));
}

#[test]
fn commands() {
    for command in COMMANDS {
        assert_seen(&format!("help_{command}"), |scratch| Launcher::new(scratch).args([command, "--help"]));
    }
}

/// A command that is new is in this suite, too.
#[test]
fn every_command_is_here() {
    let scratch = tractorun_tests::Scratch::new();
    let help = Launcher::new(&scratch).arg("--help").run();
    let usage = help.stdout.lines().nth(1).expect("a second line of usage").trim();
    let words = usage.strip_prefix("tractorun ").and_then(|usage| usage.strip_suffix(" ..."));
    let mut words: Vec<&str> = words.expect("the commands").split('|').collect();
    let mut ours = COMMANDS.to_vec();
    words.sort_unstable();
    ours.sort_unstable();
    assert_eq!(words, ours);
}

#[test]
fn init() {
    let init = |scratch: &_| Launcher::program(scratch, binaries::init());
    assert_seen("init_help", |scratch| init(scratch).arg("--help"));
    assert_seen("init_help_check", |scratch| init(scratch).args(["check", "--help"]));
    assert_seen("init_help_save_env", |scratch| init(scratch).args(["save-env", "--help"]));
}

#[test]
fn minicluster() {
    let minicluster = |scratch: &_| Launcher::program(scratch, binaries::minicluster());
    assert_seen("minicluster_help", |scratch| minicluster(scratch).arg("--help"));
    assert_seen("minicluster_unknown_option", |scratch| minicluster(scratch).arg("--prot=1"));
    assert_seen("minicluster_bad_token", |scratch| minicluster(scratch).args(["--token", "secret"]));
}
