//! The table of `tractorun_contract::exit`, row by row, on the real init: every node of a run ends with the same code.
//! [`ROWS`] says which test proves which row of it and of README's table; a row without one fails.
//!
//! Lost nodes are also in `lost_nodes`, where each way of losing one is tried.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;
use tractorun_tests::nodes::Particulars;
use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Finished, Launcher, Nodes, Scratch, binaries};

/// Rows of the two tables and the tests of this file that prove them.
const ROWS: &[(&str, &[&str])] = &[
    ("0", &["zero_where_all_workers_end_with_it"]),
    ("the worker's", &["the_first_failed_workers_own_code"]),
    ("128 + n", &["a_signals_number_above_128", "the_signal_that_stopped_an_init"]),
    ("126, 127", &["what_a_shell_says_of_a_command_that_cannot_be_run"]),
    ("2", &["wrong_usage_of_the_launcher"]),
    ("64", &["bad_configuration"]),
    ("70", &["a_fault_of_our_own"]),
    ("130", &["ctrl_c_of_the_launcher"]),
    ("201", &["a_rendezvous_that_timed_out"]),
    ("202", &["a_node_that_offers_too_little"]),
    ("203", &["a_lost_node"]),
    ("205", &["a_node_that_is_taken_away"]),
    ("206", &["lines_that_cannot_be_written"]),
    ("a sidecar's", &["a_sidecar_that_should_never_end"]),
];

/// Codes of the contract that nothing ends with yet: hangs are not looked for.
const RESERVED: &[&str] = &["204"];

/// The last rank ends in its own way once all are up; the others stay until they are stopped.
fn last_rank(end: &str) -> String {
    format!(
        r#"cd "$SCRATCH"; touch "up.$RANK"
        if [ $RANK = $((WORLD_SIZE - 1)) ]; then
            for rank in $(seq 0 $RANK); do until [ -e "up.$rank" ]; do sleep 0.02; done; done
            {end}
        fi
        exec sleep 1000"#
    )
}

/// Runs two nodes of two workers each, and gives their ends.
fn two_nodes(prepare: impl FnOnce(Nodes<'_>) -> Nodes<'_>, command: &[&str]) -> Vec<Finished> {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes = prepare(Nodes::new(&scratch, &cluster, "run", (2, 2), command));
    nodes.start_all().into_iter().map(Running::wait).collect()
}

#[track_caller]
fn assert_all(ends: &[Finished], code: i32, words: &str) {
    assert_eq!(ends.len(), 2);
    for end in ends {
        end.assert_code(code).assert_stderr(words).assert_stderr(&format!("; exit code {code}\n"));
    }
}

#[test]
fn zero_where_all_workers_end_with_it() {
    for end in two_nodes(|nodes| nodes, &["/bin/true"]) {
        end.assert_code(0).assert_stderr("job succeeded after ");
    }
}

#[test]
fn the_first_failed_workers_own_code() {
    for code in [1, 7, 125, 201, 255] {
        let script = last_rank(&format!("exit {code}"));
        let ends = two_nodes(|nodes| nodes, &["/bin/bash", "-c", &script]);
        assert_all(&ends, code, &format!("exited with code {code} after "));
    }
}

#[test]
fn a_signals_number_above_128() {
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGUSR1] {
        let script = last_rank(&format!("ulimit -c 0; kill -{} $$", signal as i32));
        let ends = two_nodes(|nodes| nodes, &["/bin/bash", "-c", &script]);
        assert_all(&ends, 128 + signal as i32, &format!("was killed by {signal}"));
    }
}

#[test]
fn what_a_shell_says_of_a_command_that_cannot_be_run() {
    let ends = two_nodes(|nodes| nodes, &["no-such-trainer"]);
    assert_all(&ends, 127, "could not be started: ");
    let scratch = Scratch::new();
    let plain = scratch.file("plain", "#!/bin/sh\n");
    let ends = two_nodes(|nodes| nodes, &[plain.to_str().expect("a plain name")]);
    assert_all(&ends, 126, "could not be started: ");
}

#[test]
fn a_sidecar_that_should_never_end() {
    for (end, code) in [("exit 0", 1), ("exit 5", 5), ("kill -9 $$", 137)] {
        let script = format!("[ $NODE_RANK = 0 ] && exec sleep 1000; {end}");
        let sidecar = json!([{"command": ["/bin/bash", "-c", script], "restart_policy": "fail"}]);
        let ends = two_nodes(|nodes| nodes.with("sidecars", sidecar), &["/bin/sleep", "1000"]);
        assert_all(&ends, code, "job failed: sidecar 0 on node 1 (");
    }
}

#[test]
fn the_signal_that_stopped_an_init() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        let script = r#"echo up > "$SCRATCH/up.$RANK"; exec sleep 1000"#;
        let nodes = Nodes::new(&scratch, &cluster, "run", (2, 1), &["/bin/bash", "-c", script]);
        let running = nodes.start_all();
        for rank in 0..2 {
            scratch.wait_for_file(&format!("run/up.{rank}"));
        }
        running[1].signal(signal);
        let ends: Vec<_> = running.into_iter().map(Running::wait).collect();
        assert_all(&ends, 128 + signal as i32, &format!("was stopped by {signal}"));
    }
}

#[test]
fn bad_configuration() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes =
        Nodes::new(&scratch, &cluster, "run", (1, 1), &["/bin/true"]).with("yt_path", json!("nowhere"));
    nodes.start(0).wait().assert_code(64).assert_stderr("yt_path");
    let mut command = nodes.command(0, &Particulars::default());
    fs::remove_file(nodes.sandbox(0).join("job-spec.json")).expect("it was just written");
    Running::start(&mut command).wait().assert_code(64).assert_stderr("cannot read job spec");
}

/// A fault that is neither the user's nor a worker's: this init may not even open what its loop needs.
#[test]
fn a_fault_of_our_own() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let nodes = Nodes::new(&scratch, &cluster, "run", (1, 1), &["/bin/true"]);
    let few = Particulars { by: &["prlimit", "--nofile=5:5"], ..Particulars::default() };
    nodes.start_with(0, &few).wait().assert_code(70).assert_stderr("tractorun-init: cannot begin: ");
}

#[test]
fn a_rendezvous_that_timed_out() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let limits = json!({ "rendezvous_ms": 1000, "heartbeat_ms": 30_000, "grace_period_ms": 1000 });
    // Three nodes, of which one never comes.
    let nodes = Nodes::new(&scratch, &cluster, "run", (3, 1), &["/bin/true"]).with("timeouts", limits);
    let running = [nodes.start(0), nodes.start(1)];
    for running in running {
        running.wait().assert_code(201);
    }
    assert_eq!(nodes.failure(&cluster)["exit_code"], 201);
}

#[test]
fn a_lost_node() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = r#"echo up > "$SCRATCH/up.$RANK"; exec sleep 1000"#;
    let nodes = Nodes::new(&scratch, &cluster, "run", (3, 1), &["/bin/bash", "-c", script]);
    let mut running = nodes.start_all();
    for rank in 0..3 {
        scratch.wait_for_file(&format!("run/up.{rank}"));
    }
    // The guard's end is its init's end.
    running[1].signal(Signal::SIGKILL);
    // It has no lines to ship, so it neither waits for them nor misses any.
    let lost = running.remove(1).wait();
    lost.assert_code(137);
    assert!(!lost.stderr.contains("log tables"), "{}", lost.show());
    let ends: Vec<_> = running.into_iter().map(Running::wait).collect();
    assert_all(&ends, 203, "job failed: node 1 (127.0.0.1) is lost: ");
    // The last line of each says in brief what became of the rest.
    for end in &ends {
        end.assert_stderr("; others: 2 stopped, 1 lost (node 1); exit code 203\n");
    }
    let others = &nodes.failure(&cluster)["others"];
    assert_eq!(
        others,
        &json!([
            {"fate": "victim", "exit_code": 143, "signal": "SIGTERM", "ranks": "0,2"},
            {"fate": "lost", "ranks": "1", "nodes": "1"},
        ])
    );
}

/// Checked by every node for itself, before any worker starts.
#[test]
fn a_node_that_offers_too_little() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let mesh = json!({"node_count": 2, "process_per_node": 2, "gpu_per_process": 1});
    let script = r#"touch "$SCRATCH/ran""#;
    let nodes =
        Nodes::new(&scratch, &cluster, "run", (2, 2), &["/bin/bash", "-c", script]).with("mesh", mesh);
    let without_gpus = scratch.path("machine");
    fs::create_dir_all(&without_gpus).expect("cannot make a folder");
    let start = |rank| {
        let mut command = nodes.command(rank, &Particulars::default());
        Running::start(command.env("TRACTORUN_HARDWARE_ROOT", &without_gpus))
    };
    for running in [start(0), start(1)] {
        running.wait().assert_code(202);
    }
    assert_eq!(nodes.failure(&cluster)["exit_code"], 202);
    assert!(!scratch.path("run/ran").exists(), "a worker ran");
}

#[test]
fn a_node_that_is_taken_away() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    // Those who are asked leave with a code of their own, which does not count.
    let script = r#"trap 'exit 3' USR1; echo up > "$SCRATCH/up.$RANK"; while :; do sleep 1000 & wait; done"#;
    let preemption = json!({"signal": "SIGUSR1", "timeout_ms": 60_000});
    let nodes = Nodes::new(&scratch, &cluster, "run", (2, 1), &["/bin/bash", "-c", script]);
    let running = nodes.with("preemption", preemption).start_all();
    for rank in 0..2 {
        scratch.wait_for_file(&format!("run/up.{rank}"));
    }
    running[1].signal(Signal::SIGTERM);
    let ends: Vec<_> = running.into_iter().map(Running::wait).collect();
    assert_all(&ends, 205, "was preempted (SIGTERM)");
}

#[test]
fn lines_that_cannot_be_written() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let full = json!({"match": {"command": "write_table"}, "times": "always", "effect": {"over_quota": {}}});
    cluster.plan(&full);
    let logs = json!({"mode": "realtime_yt_table", "drain_timeout_ms": 500});
    let nodes = Nodes::new(&scratch, &cluster, "run", (2, 2), &["/bin/bash", "-c", "echo a line of $RANK"]);
    for running in nodes.with("logs", logs).start_all() {
        running.wait().assert_code(206).assert_stderr("could not be written to the log tables");
    }
}

#[test]
fn wrong_usage_of_the_launcher() {
    let scratch = Scratch::new();
    let finished = Launcher::new(&scratch).args(["--mesh.node-count", "none", "true"]).run();
    finished.assert_code(2).assert_stderr("`--mesh.node-count`");
}

#[test]
fn ctrl_c_of_the_launcher() {
    let scratch = Scratch::new();
    let script = r#"echo up > "$SCRATCH/up"; exec sleep 1000"#;
    let running = Launcher::local(&scratch).bash(script).start();
    scratch.wait_for_file("up");
    running.signal(Signal::SIGINT);
    running.wait().assert_code(130);
}

/// First cells of a table's rows: those lines that begin with `|` behind `prefix`, up to the first that does not.
fn first_cells(text: &str, prefix: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.strip_prefix(prefix).unwrap_or_default().trim());
    let rows =
        lines.skip_while(|line| !line.starts_with("| code |")).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.split('|').nth(1).unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn every_row_of_the_tables_has_its_test() {
    let root = binaries::repository();
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is in the repository");
    let own = read("tests/tests/exit_codes.rs");
    for (row, tests) in ROWS {
        for test in *tests {
            assert!(own.contains(&format!("#[test]\nfn {test}()")), "{row}: there is no test {test}");
        }
    }
    let proven = |cell: &str| {
        // The contract spells out what the worker's and the sidecar's own codes may be.
        let names = if cell == "1-125" { vec!["the worker's", "a sidecar's"] } else { vec![cell] };
        let known = |name: &str| ROWS.iter().any(|(row, _)| *row == name) || RESERVED.contains(&name);
        names.iter().all(|name| known(name) || name.split(", ").all(known))
    };
    for (path, prefix) in [("README.md", ""), ("runtime/contract/src/exit.rs", "//!")] {
        let cells = first_cells(&read(path), prefix);
        assert!(cells.len() > 8, "{path}: {cells:?}");
        for cell in cells {
            assert!(proven(&cell), "{path}: no test proves the row `{cell}`");
        }
    }
}
