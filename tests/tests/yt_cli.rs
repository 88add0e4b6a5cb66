//! The `yt` command line of the official client, as a person types it, against the minicluster.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tractorun_tests::conformance::Script;
use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Scratch, binaries};

#[test]
fn as_a_person_types_it() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    Script::new("yt_cli/cli.py", &cluster, &scratch).assert_passes();
}

/// Starts a minicluster with nothing but these arguments, and types what it says at its start.
fn type_what_it_says(arguments: &[&str], token: &str) {
    let scratch = Scratch::new();
    let mut minicluster = Command::new(binaries::minicluster())
        .args(["--exit-on-stdin-eof"])
        .args(arguments)
        .env("TMPDIR", scratch.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the minicluster starts");
    let mut line = String::new();
    let stdout = minicluster.stdout.take().expect("it is a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("the minicluster says where it listens");
    let (_, typed) = line.split_once("use it as: ").expect("it says how it is used");
    let python = binaries::python();
    let folder = python.parent().expect("the virtual environment has a folder").display();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &typed.replace("<token>", token)])
        .env_clear()
        .env("PATH", format!("{folder}:/usr/bin:/bin"))
        .env("HOME", scratch.path(""));
    Running::start(&mut shell).wait().assert_code(0).assert_stdout("sys\n").assert_stdout("tmp\n");
    drop(minicluster.stdin.take());
    assert!(minicluster.wait().expect("it ends").success());
}

#[test]
fn what_the_minicluster_says_at_its_start_can_be_typed() {
    type_what_it_says(&[], "");
    type_what_it_says(&["--token", "secret:alice"], "secret");
}
