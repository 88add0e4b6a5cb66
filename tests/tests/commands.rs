//! `tractorun status`, `attach`, `stop`, `list` and `targets` against runs on a cluster.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::launcher::Launcher;
use tractorun_tests::{Cluster, Finished, Scratch};

const RUN: &str = "//tmp/run";

struct Bench {
    cluster: Cluster,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        Self { cluster, scratch }
    }

    fn submit(&self) -> Launcher {
        Launcher::submit(&self.scratch, &self.cluster).args(["--yt-path", RUN])
    }

    fn command(&self, words: &[&str]) -> Launcher {
        Launcher::new(&self.scratch).env("YT_PROXY", self.cluster.proxy()).args(words.to_vec())
    }

    fn run(&self, words: &[&str]) -> Finished {
        let finished = self.command(words).run();
        assert!(!finished.output().contains('\x1b'), "colours in a pipe: {}", finished.show());
        finished
    }

    fn json(&self, words: &[&str]) -> Value {
        let finished = self.run(words);
        finished.assert_code(0);
        assert_eq!(finished.stderr, "", "{words:?}");
        serde_json::from_str(&finished.stdout).expect("stdout is JSON")
    }

    fn wait_for_workers(&self, count: u32) {
        (0..count).for_each(|rank| drop(self.scratch.wait_for_file(&format!("up.{rank}"))));
    }
}

/// A run that nobody waits for: seen from all sides, followed, left, followed again to its failure, and seen again.
#[test]
fn a_run_is_seen_followed_left_and_followed_to_its_end() {
    let bench = Bench::new();
    let script = r#"echo "line of $RANK" >&2; echo up > "$SCRATCH/up.$RANK"
        until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; [ "$RANK" != 2 ] || exit 7; exec sleep 1000"#;
    let submitted = bench.submit().mesh((2, 2)).arg("--no-wait").bash(script).run();
    submitted.assert_code(0);
    bench.wait_for_workers(4);
    let operation = bench.cluster.the_operation()["id"].as_str().expect("it has an id").to_owned();

    let text = bench.run(&["status", RUN]);
    text.assert_code(0).assert_stdout(RUN).assert_stdout(&format!("{operation}, running\n"));
    text.assert_stdout("incarnation 0, attempt 0, no restarts\n")
        .assert_stdout("  running  2-3    running  ");
    let status = bench.json(&["status", RUN, "--json"]);
    assert_eq!(status["operation"]["state"], "running");
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(2), "{status}");
    assert_eq!(status["nodes"][1]["workers"][1]["rank"], 3);
    assert_eq!(status["nodes"][1]["workers"][1]["state"], "running");
    assert_eq!(status["verdict"], Value::Null);
    let by_operation = bench.json(&["status", "--json", &operation]);
    assert_eq!(by_operation["nodes"], status["nodes"]);
    let key = bench.cluster.get(&format!("{RUN}/incarnations/00000/@control_endpoint"))["join_key"].clone();
    let key = key.as_str().expect("the key to join is a string").to_owned();
    assert!(!status.to_string().contains(&key) && !text.output().contains(&key), "the key is shown");

    let targets = bench.json(&["targets", RUN]);
    assert_eq!(targets[1]["labels"], json!({"__meta_tractorun_node_rank": "1"}));
    for node in targets.as_array().expect("a list of groups") {
        let address = node["targets"][0].as_str().expect("an address");
        TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let shown =
            status["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|n| n["metrics"] == address));
        assert!(shown, "{address} is not in {status}");
    }

    let runs = bench.json(&["list", "--json"]);
    assert_eq!((&runs[0]["id"], &runs[0]["yt_path"]), (&json!(operation), &json!(RUN)));
    assert_eq!(runs[0]["node_count"], 2);
    assert_eq!(bench.json(&["list", "--json", "--user", "nobody"]), json!([]));

    let attached = bench.command(&["attach", RUN]).start();
    attached.wait_for("line of 0");
    attached.signal(Signal::SIGINT);
    let detached = attached.wait();
    detached.assert_code(130).assert_stderr("detached").assert_stderr("tractorun attach");
    assert_eq!(bench.json(&["status", RUN, "--json"])["operation"]["state"], "running");

    let attached = bench.command(&["attach", &operation]).start();
    attached.wait_for("line of 0");
    bench.scratch.file("go", "");
    attached.wait().assert_code(7).assert_stderr("rank 2 on node 1").assert_stderr("exited with code 7");

    let status = bench.json(&["status", RUN, "--json"]);
    assert_eq!((&status["verdict"]["exit_code"], &status["verdict"]["rank"]), (&json!(7), &json!(2)));
    assert_eq!(status["nodes"][1]["workers"][0]["state"], "failed");
    let phases = [0, 1].map(|node| status["nodes"][node]["phase"].clone());
    assert_eq!(phases, [json!("over"), json!("over")]);
    assert!(!status.to_string().contains(r#""state":"running""#), "{status}");
    bench.run(&["status", RUN]).assert_code(0).assert_stdout("verdict     rank 2 on node 1");
    bench.run(&["attach", RUN]).assert_code(7).assert_stderr("line of 0");
    assert_eq!(bench.json(&["targets", RUN]), json!([]));
    let listed = bench.run(&["list"]);
    listed.assert_code(0).assert_stderr("no runs that are not over; `--all` shows the others");
    assert_eq!(listed.stdout, "");
    bench
        .run(&["list", "--all"])
        .assert_code(0)
        .assert_stdout(&format!("{operation}  failed"))
        .assert_stdout(RUN);
    bench.run(&["stop", RUN]).assert_code(0).assert_stderr("is over already: failed");
}

/// Every worker has the time to save what it has, and the launcher that started the run says why it ended.
#[test]
fn stop_gives_workers_of_all_nodes_their_grace() {
    let bench = Bench::new();
    let script = r#"trap 'sleep 0.3; echo saved > "$SCRATCH/saved.$RANK"; exit 0' TERM
        echo up > "$SCRATCH/up.$RANK"; while :; do sleep 0.02; done"#;
    let running = bench.submit().mesh((2, 1)).bash(script).start();
    bench.wait_for_workers(2);
    let stopped = bench.run(&["stop", RUN]);
    stopped.assert_code(0).assert_stderr("asked the leader").assert_stderr("is over: failed");
    assert_eq!(stopped.stdout, "");
    for rank in 0..2 {
        assert!(bench.scratch.path(&format!("saved.{rank}")).exists(), "rank {rank} had no time");
    }
    running.wait().assert_code(143).assert_stderr("was stopped by `tractorun stop`");
    bench.cluster.assert_no_operation_runs();
}

#[test]
fn stop_now_asks_nobody() {
    let bench = Bench::new();
    let script = r#"trap 'echo saved > "$SCRATCH/saved.$RANK"; exit 0' TERM
        echo up > "$SCRATCH/up.$RANK"; while :; do sleep 0.02; done"#;
    bench.submit().arg("--no-wait").bash(script).run().assert_code(0);
    bench.wait_for_workers(1);
    let operation = bench.cluster.the_operation()["id"].as_str().expect("it has an id").to_owned();
    bench.run(&["stop", "--now", &operation]).assert_code(0).assert_stderr("is over: aborted");
    bench.cluster.assert_no_operation_runs();
    assert!(!bench.scratch.path("saved.0").exists());
    bench.run(&["attach", RUN]).assert_code(1).assert_stderr("stopped by `tractorun stop`");
}

#[test]
fn a_run_that_succeeded_is_told_so() {
    let bench = Bench::new();
    bench.submit().bash("true").run().assert_code(0);
    bench.run(&["attach", RUN]).assert_code(0).assert_stderr("completed");
    let status = bench.json(&["status", RUN, "--json"]);
    assert_eq!(status["nodes"][0]["workers"][0]["state"], "finished");
    assert_eq!((&status["operation"]["state"], &status["verdict"]), (&json!("completed"), &Value::Null));
}

#[test]
fn what_is_no_run_is_refused_by_name() {
    let bench = Bench::new();
    let error = |words: &[&str], code: i32, text: &str| {
        let finished = bench.run(words);
        finished.assert_code(code).assert_stderr(text);
        assert_eq!(finished.stdout, "");
    };
    error(&["status", "//tmp/no"], 1, "no run at `//tmp/no`: there is nothing\nhint: ");
    error(&["attach", "//tmp"], 1, "no run at `//tmp`: it has no `incarnations`\n");
    bench.cluster.create("map_node", "//tmp/empty", &json!({}));
    bench.cluster.create("map_node", "//tmp/empty/incarnations", &json!({}));
    error(&["stop", "//tmp/empty"], 1, "its `incarnations` are empty, and no operation");
    error(&["status", "1-2-103e8-4"], 1, "knows no operation `1-2-103e8-4`");
    error(&["targets", "run"], 2, "expected the directory of a run such as `//home/me/run`");
    error(&["stop"], 2, "no run is named\nhint: ");

    // A run on somebody's machine, or one that the cluster has forgotten.
    let topology = json!([{"address": "h:1", "job_id": "1-2-3-4"}]);
    let attributes = json!({"incarnation_operation_id": "1-2-103e8-4", "topology": topology});
    bench.cluster.create("map_node", "//tmp/empty/incarnations/00004", &attributes);
    bench.run(&["status", "//tmp/empty"]).assert_code(0).assert_stdout("1-2-103e8-4, unknown to the cluster");
    error(&["stop", "//tmp/empty"], 1, "the cluster knows nothing of operation `1-2-103e8-4`");

    // The user's own program of that name.
    let own = bench.submit().args(["--dry-run", "--", "status", "me"]).run();
    own.assert_code(0).assert_stdout(r#""status""#);
}

/// Shown again whenever something is new, and no longer than the run lasts.
#[test]
fn a_status_that_is_watched_ends_with_the_run() {
    let bench = Bench::new();
    let script = r#"echo up > "$SCRATCH/up.$RANK"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done
        echo "what went wrong" >&2; exit 7"#;
    bench.submit().arg("--no-wait").bash(script).run().assert_code(0);
    bench.wait_for_workers(1);
    let watching = bench.command(&["status", RUN, "--watch"]).start();
    watching.wait_for(", running\n");
    bench.scratch.file("go", "");
    let watched = watching.wait();
    watched.assert_code(0).assert_stdout(", failed\n").assert_stdout("exited with code 7");
    watched
        .assert_stdout("its last lines:\n  | what went wrong\n")
        .assert_stdout("logs        tractorun logs //tmp/run");
    assert!(!watched.stdout.contains('\x1b'), "{}", watched.show());
    bench.run(&["status", RUN, "--watch", "--json"]).assert_code(2).assert_stderr("`--watch` is for people");
}

/// A cluster keeps operations that ended for a while only; its archive, where there is one, knows them longer.
#[test]
fn list_asks_the_archive_and_does_without() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let bench = Bench { cluster, scratch };
    bench.submit().bash("true").run().assert_code(0);
    // Without an archive the first answer is an error, whatever it is called.
    let effect = json!({"answer": {"status": 400, "error": {"code": 500, "message": "No archive"}}});
    let fault = bench.cluster.plan(&json!({"match": {"command": "list_operations"}, "effect": effect}));
    bench.run(&["list", "--all"]).assert_code(0).assert_stdout(RUN);
    assert_eq!(bench.cluster.struck(fault), 1);
    bench.run(&["list", "--all"]).assert_code(0).assert_stdout(RUN);
}
