//! Nodes that are asked to stop before any worker runs: all nodes learn it, end with one code, and the record says who.

use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::nodes::Nodes;
use tractorun_tests::process::{DEADLINE, POLL};
use tractorun_tests::{Cluster, Place, Scratch};

/// Where a run's workers would be seen.
const NEVER: &[&str] = &["/bin/bash", "-c", r#"touch "$SCRATCH/ran""#];

/// Node 0 and 1 of three have met, node 1 is asked to stop or node 0 is; the third never comes.
fn stopped(spec: &[(&str, Value)], signal: Signal, whom: usize, code: i32, words: &str, cause: &str) {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes = Nodes::new(&scratch, &cluster, "run", (3, 1), NEVER);
    let nodes = spec.iter().fold(nodes, |nodes, (member, value)| nodes.with(member, value.clone()));
    for rank in [0, 1] {
        let made = Command::new("mkfifo").arg(nodes.sandbox(rank).join("fifo")).status();
        assert!(made.is_ok_and(|status| status.success()), "cannot make a pipe");
    }
    let running = [nodes.start(0), nodes.start(1)];
    running[1].wait_for("joined the leader of incarnation 0");
    running[0].wait_for("node 1 (127.0.0.1) has joined");
    running[whom].signal(signal);
    for (rank, node) in running.into_iter().enumerate() {
        let finished = node.wait();
        finished.assert_code(code);
        let words = if rank == whom {
            format!("{words} before the workers were started; exit code {code}")
        } else {
            format!("rendezvous failed: node {whom} (127.0.0.1) was {words}")
        };
        finished.assert_stderr(&words);
    }
    let failure = nodes.failure(&cluster);
    assert_eq!((&failure["cause"], &failure["node_rank"]), (&json!(cause), &json!(whom)), "{failure}");
    assert_eq!(failure["exit_code"], code);
    assert!(!scratch.path("run/ran").exists(), "a worker ran");
}

fn preemption() -> (&'static str, Value) {
    ("preemption", json!({ "signal": "SIGTERM", "timeout_ms": 10_000 }))
}

#[test]
fn a_stopped_node_is_the_verdict_of_all_while_they_meet() {
    for whom in [0, 1] {
        stopped(&[], Signal::SIGTERM, whom, 143, "stopped by SIGTERM", "stopped");
        stopped(&[preemption()], Signal::SIGINT, whom, 130, "stopped by SIGINT", "stopped");
    }
}

#[test]
fn a_node_that_is_taken_away_is_the_verdict_of_all_while_they_meet() {
    for whom in [0, 1] {
        stopped(&[preemption()], Signal::SIGTERM, whom, 205, "preempted (SIGTERM)", "preempted");
    }
}

/// An archive that nobody ever writes.
#[test]
fn a_node_that_is_stopped_while_it_unpacks_is_the_verdict_of_all() {
    let binds = ("binds", json!([{ "archive": "fifo", "destination": "code" }]));
    stopped(&[binds, preemption()], Signal::SIGTERM, 1, 205, "preempted (SIGTERM)", "preempted");
}

/// The cluster takes a job of an operation away that still waits for its leader.
#[test]
fn a_job_that_is_taken_away_while_it_waits_ends_the_run_with_the_code_of_preemption() {
    let place = Place::submitted_with_control();
    let cluster = place.cluster();
    let launcher = || place.launcher().mesh((2, 1)).args(["--yt-path", "//tmp/run"]);
    launcher().bash("exit 0").run().assert_code(0);
    let first = cluster.the_operation()["id"].clone();
    // Nobody leads while somebody else has the lock.
    cluster.control("POST", "/locks", &json!({ "path": "//tmp/run/primary_lock" }));
    let running = launcher().bash(r#"touch "$SCRATCH/ran""#).start();
    let job = wait_for(|| {
        let operation = cluster.operations().into_iter().find(|operation| operation["id"] != first)?;
        let jobs = cluster.read("list_jobs", &json!({ "operation_id": operation["id"] }));
        let runs = |job: &&Value| job["state"] == "running" && job["job_cookie"] == 1;
        let id = jobs["jobs"].as_array()?.iter().find(runs)?["id"].clone();
        // It has read its configuration, and so it knows what SIGTERM means.
        let said = cluster.job_stderrs(&operation["id"]).concat();
        said.contains("waiting for the leader: ").then_some(id)
    });
    cluster.control("POST", "/jobs/preempt", &json!({ "job_id": job, "ms": 60_000 }));
    running.wait().assert_code(205);
    assert!(!place.scratch.path("ran").exists(), "a worker ran");
    place.assert_nothing_left();
}

/// What `look` finds in the end.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "it never comes");
        thread::sleep(POLL);
    }
}
