//! What `tractorun-init` says to those who call it by hand.

use tractorun_tests::{Launcher, Running, Scratch, binaries};

use super::seen::{Folds, assert_place_seen};

/// Init's lines are a log's and nobody lays them out, so where a terminal breaks them is no matter.
#[track_caller]
fn assert_seen(name: &str, call: impl Fn(&Scratch) -> Launcher + Sync) {
    assert_place_seen(
        name,
        Folds::Undone,
        || (Scratch::new(), ()),
        |(scratch, ())| call(scratch),
        Running::wait,
    );
}

fn init(scratch: &Scratch) -> Launcher {
    Launcher::program(scratch, binaries::init())
}

#[test]
fn wrong_usage() {
    assert_seen("init_nothing_to_do", init);
    assert_seen("init_misspelt_option", |scratch| init(scratch).args(["--gruop", "--", "true"]));
    assert_seen("init_no_dashes", |scratch| init(scratch).args(["sleep", "1"]));
    assert_seen("init_no_command", |scratch| init(scratch).arg("--"));
    assert_seen("init_bad_metrics", |scratch| init(scratch).args(["--metrics", "9100", "--", "true"]));
    assert_seen("init_check_unknown_argument", |scratch| init(scratch).args(["check", "--jsn"]));
}

#[test]
fn commands_that_cannot_run() {
    assert_seen("init_command_not_found", |scratch| init(scratch).args(["--", "pyhton3"]));
    assert_seen("init_command_not_executable", |scratch| init(scratch).args(["--", "/etc/passwd"]));
}

#[test]
fn job_specs() {
    let with = |scratch: &Scratch, spec: &str| {
        scratch.file("spec.json", spec);
        init(scratch).env("TRACTORUN_JOB_SPEC", "spec.json")
    };
    assert_seen("init_no_job_spec", |scratch| init(scratch).env("TRACTORUN_JOB_SPEC", "nowhere.json"));
    assert_seen("init_broken_job_spec", |scratch| with(scratch, "{"));
    assert_seen("init_newer_job_spec", |scratch| with(scratch, r#"{"version": "2.3"}"#));
}
