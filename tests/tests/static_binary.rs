//! `tractorun-init` is one static file that needs nothing around it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::unistd::Uid;
use tractorun_tests::{Finished, Scratch, binaries, run};

/// Bytes that the release binary may have.
const SIZE_LIMIT: u64 = 6 * 1024 * 1024;

/// Runs `/tractorun-init` in a folder that holds nothing else: no `/proc`, no `/etc`, no libraries.
fn run_in_empty_root(arguments: &[&str]) -> Finished {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    fs::create_dir(&root).expect("cannot make a folder");
    fs::copy(binaries::init(), root.join("tractorun-init")).expect("cannot copy");
    let mut command = Command::new("unshare");
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--pid", "--fork", "--kill-child", "chroot"])
        .arg(&root)
        .arg("/tractorun-init")
        .args(arguments);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    run(&mut command)
}

#[test]
fn file_says_statically_linked() {
    for binary in [binaries::init(), binaries::tractorun(), binaries::minicluster()] {
        run(Command::new("file").arg("--brief").arg(binary))
            .assert_code(0)
            .assert_stdout("statically linked");
    }
}

#[test]
fn release_is_at_most_6_mib() {
    let path = binaries::init();
    if path.components().any(|part| part.as_os_str() == "debug") {
        println!("skipped: {} is a debug build", path.display());
        return;
    }
    let size = fs::metadata(&path).expect("it is there").len();
    assert!(size <= SIZE_LIMIT, "{} has {size} bytes, the limit is {SIZE_LIMIT}", path.display());
}

#[test]
fn is_executable_by_all() {
    let mode = fs::metadata(binaries::init()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o555, 0o555, "mode {mode:o}");
}

#[test]
fn tells_its_version_and_help_in_an_empty_root() {
    let version = run_in_empty_root(&["--version"]);
    version.assert_code(0);
    assert_eq!(version.stdout, concat!("tractorun-init ", env!("CARGO_PKG_VERSION"), " (job spec 1.0)\n"));
    run_in_empty_root(&["--help"]).assert_code(0).assert_output("tractorun-init");
}

#[test]
fn runs_a_command_as_pid_1_of_an_empty_root() {
    let finished = run_in_empty_root(&["--", "/tractorun-init", "--version"]);
    finished.assert_code(0).assert_stdout(concat!("tractorun-init ", env!("CARGO_PKG_VERSION")));
    run_in_empty_root(&["--", "/nothing-here"]).assert_code(127).assert_stderr("/nothing-here");
}

#[test]
fn without_a_job_spec_and_without_a_command_it_says_what_it_wants() {
    let finished = run_in_empty_root(&[]);
    finished.assert_code(64).assert_stderr("TRACTORUN_JOB_SPEC");
}
