//! Nodes that vanish, hang, come twice or cannot begin: the others notice in time, and the record names who it was.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::launcher::signal;
use tractorun_tests::nodes::Particulars;
use tractorun_tests::process::{Finished, Running};
use tractorun_tests::{Cluster, Nodes, Scratch, Wire, leftovers};

/// Says that it is up, and stays.
const STAY: [&str; 3] = ["/bin/bash", "-c", r#"echo "up" > "$SCRATCH/up.$RANK"; exec sleep 1000"#];

/// Time limits of a run whose nodes are noticed missing after a second.
fn quick() -> Value {
    json!({ "rendezvous_ms": 60_000, "heartbeat_ms": 1000, "grace_period_ms": 5000 })
}

/// Three nodes whose workers run.
struct Three<'a> {
    nodes: Nodes<'a>,
    running: Vec<Running>,
}

impl<'a> Three<'a> {
    fn start(scratch: &'a Scratch, cluster: &Cluster) -> Self {
        let nodes = Nodes::new(scratch, cluster, "run", (3, 1), &STAY).with("timeouts", quick());
        let running = nodes.start_all();
        for rank in 0..3 {
            scratch.wait_for_file(&format!("run/up.{rank}"));
        }
        Self { nodes, running }
    }
}

/// The init below the guard that a test has started.
fn init_of(guard: &Running) -> i32 {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", guard.pid()));
    let children = children.expect("the guard lives");
    children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("the guard has an init")
}

/// Checks that all have ended because of that node, in those words.
fn assert_lost(nodes: &Nodes<'_>, cluster: &Cluster, others: Vec<Running>, lost: u32, words: &str) {
    for other in others {
        let finished = other.wait();
        finished.assert_code(203).assert_stderr(&format!("job failed: node {lost} (127.0.0.1) is lost: "));
        finished.assert_stderr(words);
    }
    let failure = nodes.failure(cluster);
    assert_eq!((&failure["cause"], &failure["node_rank"]), (&json!("node_lost"), &json!(lost)), "{failure}");
    assert_eq!(failure["job_id"], format!("1-2-3840001-{lost:x}"));
}

#[test]
fn a_node_whose_init_is_killed_is_named() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let Three { nodes, mut running } = Three::start(&scratch, &cluster);
    let victim = running.remove(2);
    signal(init_of(&victim), Signal::SIGKILL);
    victim.wait().assert_code(137);
    assert_lost(&nodes, &cluster, running, 2, "connection");
    leftovers::assert_gone_but(&scratch, &[cluster.pid()]);
}

#[test]
fn a_node_that_stands_still_is_named_by_its_silence() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let Three { nodes, mut running } = Three::start(&scratch, &cluster);
    let victim = running.remove(1);
    let init = init_of(&victim);
    signal(init, Signal::SIGSTOP);
    assert_lost(&nodes, &cluster, running, 1, "no heartbeat for 1 s");
    // Awake again, it finds that all have left it.
    signal(init, Signal::SIGCONT);
    victim.wait().assert_code(203).assert_stderr("node 1");
    leftovers::wait_until_gone_but(&scratch, &[cluster.pid()]);
}

#[test]
fn without_their_leader_all_end_and_name_it() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let Three { nodes: _, mut running } = Three::start(&scratch, &cluster);
    let leader = running.remove(0);
    signal(init_of(&leader), Signal::SIGKILL);
    for other in running {
        other.wait().assert_code(203).assert_stderr("job failed: node 0 (127.0.0.1) is lost: ");
    }
    leader.wait().assert_code(137);
    leftovers::assert_gone_but(&scratch, &[cluster.pid()]);
}

#[test]
fn a_cut_network_is_noticed_on_both_sides() {
    let scratch = Scratch::new();
    let wire = match Wire::between_here_and_a_new_namespace() {
        Ok(wire) => wire,
        Err(reason) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped: no network namespaces here: {reason}");
            return;
        }
    };
    let cluster = Cluster::start_for_all(&scratch);
    let proxy = format!("http://{}:{}", wire.here, cluster.port());
    let nodes =
        Nodes::new(&scratch, &cluster, "run", (2, 1), &STAY).with("timeouts", quick()).with_proxy(&proxy);
    let leader = nodes.start_with(0, &Particulars { host: Some(&wire.here), ..Particulars::default() });
    let by = ["ip", "netns", "exec", &wire.name];
    let far = Particulars { by: &by, host: Some(&wire.there), ..Particulars::default() };
    let follower = nodes.start_with(1, &far);
    for rank in 0..2 {
        scratch.wait_for_file(&format!("run/up.{rank}"));
    }
    wire.cut();
    // The leader writes down who was lost, the node behind the cut can only say whom it does not hear.
    let finished = leader.wait();
    finished.assert_code(203);
    finished.assert_stderr(&format!("job failed: node 1 ({}) is lost: no heartbeat for 1 s", wire.there));
    let finished = follower.wait();
    finished.assert_code(203);
    finished.assert_stderr(&format!("job failed: node 0 ({}) is lost: no heartbeat for 1 s", wire.here));
    let failure = nodes.failure(&cluster);
    assert_eq!((&failure["cause"], &failure["node_rank"]), (&json!("node_lost"), &json!(1)), "{failure}");
    leftovers::wait_until_gone_but(&scratch, &[cluster.pid()]);
}

#[test]
fn a_second_job_of_a_rank_is_told_who_is_there() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes = Nodes::new(&scratch, &cluster, "run", (3, 1), &["/bin/true"]);
    let leader = nodes.start(0);
    let first = nodes.start(1);
    leader.wait_for("node 1 (127.0.0.1) has joined");
    let double = nodes.start_with(1, &Particulars { job_id: Some("another-job"), ..Particulars::default() });
    let reason = "node 1 is here already: job 1-2-3840001-1 on 127.0.0.1; this is job another-job";
    leader.wait_for(reason);
    double.wait_for(reason);
    // A spare without a place in the mesh is told so, for good.
    let spare = nodes.start(3).wait();
    spare.assert_code(64);
    let last = nodes.start(2);
    for node in [leader, first, last] {
        node.wait().assert_code(0);
    }
    // Either it heard in time that the run has begun without it, or it goes on looking for up to ten minutes.
    double.signal(Signal::SIGTERM);
    let double = double.wait();
    assert!([143, 201].contains(&double.code()), "{}", double.show());
}

#[test]
fn a_node_that_cannot_begin_is_the_verdict_of_all() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes = Nodes::new(&scratch, &cluster, "run", (3, 1), &STAY)
        .with("cypress_binds", json!([{ "file": "data", "destination": "placed" }]));
    for rank in 0..2 {
        fs::write(nodes.sandbox(rank).join("data"), "x").expect("cannot write a file");
    }
    let mut running: Vec<Running> = (0..2).map(|rank| nodes.start(rank)).collect();
    running[0].wait_for("node 1 (127.0.0.1) has joined");
    running.push(nodes.start(2));
    let finished: Vec<Finished> = running.into_iter().map(Running::wait).collect();
    for node in &finished {
        node.assert_code(64);
    }
    for node in &finished[..2] {
        node.assert_stderr("rendezvous failed: node 2 (127.0.0.1) could not begin: ").assert_stderr("data");
    }
    let failure = nodes.failure(&cluster);
    assert_eq!(
        (&failure["cause"], &failure["node_rank"], &failure["exit_code"]),
        (&json!("start_up_failed"), &json!(2), &json!(64)),
        "{failure}"
    );
    assert!(!scratch.path("run/up.0").exists(), "no worker has run");
}

#[test]
fn who_does_not_come_is_named_with_what_the_cluster_knows_of_its_job() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    // Its jobs run, and are no inits: as if those were still at the image or hung.
    let operation = cluster.start_operation(&json!({ "command": "sleep 1000", "job_count": 3 }));
    let nodes = Nodes::new(&scratch, &cluster, "run", (5, 1), &STAY)
        // The first look at the jobs is after 5 seconds.
        .with("timeouts", json!({ "rendezvous_ms": 8000 }))
        .of_operation(&operation);
    let running: Vec<Running> = (0..2).map(|rank| nodes.start(rank)).collect();
    for node in running {
        let finished = node.wait();
        let jobs = "2 of 5 nodes are ready, waiting for 2 (not here, job running on ";
        finished.assert_code(201).assert_stderr(jobs).assert_stderr("; 3, 4 (not here, no job yet)");
    }
    let failure = nodes.failure(&cluster);
    assert_eq!((&failure["cause"], &failure["exit_code"]), (&json!("start_up_failed"), &json!(201)));
}
