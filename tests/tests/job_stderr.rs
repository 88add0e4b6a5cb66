//! The jobs' stderr on the launcher's terminal and by `tractorun logs`: from the first line on, each line once, the end
//! before the verdict, and with few requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tractorun_contract::cypress::{self, incarnation as attribute};
use tractorun_tests::{Cluster, Finished, Launcher, Scratch};

const RUN: &str = "//tmp/run";

fn bench() -> (Scratch, Cluster) {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    (scratch, cluster)
}

fn submit(scratch: &Scratch, cluster: &Cluster, mode: &str) -> Launcher {
    Launcher::submit(scratch, cluster).args(["--yt-path", RUN, "--proxy-stderr-mode", mode])
}

fn count(finished: &Finished, line: &str) -> usize {
    finished.stderr.lines().filter(|shown| *shown == line).count()
}

/// Sum of a counter over the commands that follow jobs.
fn counted(cluster: &Cluster, commands: &[&str], what: &str) -> u64 {
    let counters = cluster.control("GET", "/counters", &Value::Null);
    let counters = counters["counters"].as_array().expect("there are counters").clone();
    let ours = counters.iter().filter(|count| commands.iter().any(|command| count["command"] == *command));
    ours.filter_map(|count| count[what].as_u64()).sum()
}

#[test]
fn every_nodes_stderr_is_shown_once_with_the_node_in_front() {
    let (scratch, cluster) = bench();
    let script =
        r#"exec >&2; echo "first of $RANK"; echo "second of $RANK"; printf "end of $RANK"; [ "$RANK" != 2 ]"#;
    let finished = submit(&scratch, &cluster, "all").mesh((3, 1)).bash(script).run();
    finished.assert_code(1);
    for node in 0..3 {
        for what in ["first", "second", "end"] {
            assert_eq!(
                count(&finished, &format!("[node {node}] {what} of {node}")),
                1,
                "{}",
                finished.stderr
            );
        }
    }
    let first = finished.stderr.find("[node 2] first of 2").expect("it was shown");
    let last = finished.stderr.find("[node 2] end of 2").expect("it was shown");
    assert!(first < last && finished.stderr[last..].contains("tractorun: operation"), "{}", finished.stderr);
}

#[test]
fn what_init_says_before_any_worker_is_shown() {
    let (scratch, cluster) = bench();
    let finished = submit(&scratch, &cluster, "primary").arg("no-such-trainer").run();
    finished.assert_code(127);
    let before = finished.stderr.split("| ").next().unwrap_or_default();
    assert!(before.contains("tractorun-init"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("[node "), "one node needs no name");
}

/// The worker writes a piece whenever the one before has been shown.
#[test]
fn what_was_shown_is_not_read_again() {
    let (scratch, cluster) = bench();
    let script = r#"for piece in 1 2 3 4 5 6; do
        head -c 300000 /dev/zero | tr '\0' x | fold -w 99; echo; echo "piece $piece"
        until [ -e "$SCRATCH/seen.$piece" ]; do sleep 0.02; done
    done"#;
    let running = submit(&scratch, &cluster, "primary").bash(script).start();
    for piece in 1..=6 {
        running.wait_for(&format!("piece {piece}\n"));
        scratch.file(&format!("seen.{piece}"), "");
    }
    let finished = running.wait();
    finished.assert_code(0);
    let written = 6 * 300_000_u64;
    let read = counted(&cluster, &["get_job_stderr"], "bytes_out");
    assert!((written..written * 5 / 4).contains(&read), "{read} bytes were read to show {written}");
    assert_eq!(finished.stderr.matches('x').count() as u64, written);
}

#[test]
fn the_end_of_a_stderr_that_was_cut_is_shown_and_the_gap_is_said() {
    let (scratch, cluster) = bench();
    let running = submit(&scratch, &cluster, "primary")
        .args(["--yt-task-spec", r#"{"max_stderr_size": 20000}"#])
        .bash(r#"echo ready; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; seq -f 'line %06.0f' 1 100000; exit 3"#)
        .start();
    running.wait_for("ready\n");
    scratch.file("go", "");
    let finished = running.wait();
    finished.assert_code(3);
    assert_eq!(count(&finished, "line 100000"), 1, "{}", finished.stderr);
    let notice = "some of the stderr of node 0 is missing here";
    assert!(
        finished.stderr.contains(notice) || finished.stderr.contains("...skipped..."),
        "{}",
        finished.stderr
    );
    let mut numbers: Vec<u32> = finished
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("line ").filter(|line| line.len() == 6)?.parse().ok())
        .collect();
    let shown = numbers.len();
    numbers.dedup();
    assert!(numbers.is_sorted() && numbers.len() == shown, "lines were doubled or moved");
}

#[test]
fn a_run_without_tables_is_read_from_its_jobs() {
    let (scratch, cluster) = bench();
    let script = r#"echo "up $RANK"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; echo "down $RANK""#;
    let run = submit(&scratch, &cluster, "disabled").mesh((2, 1)).bash(script).start();
    let logs = || Launcher::new(&scratch).env("YT_PROXY", cluster.proxy()).args(["logs", RUN]);
    run.wait_for("tractorun: operation ");
    let following = logs().args(["-f", "--rank", "0"]).start();
    following.wait_for("[node 0] up 0\n");
    following.wait_for("[node 1] up 1\n");
    scratch.file("go", "");
    run.wait().assert_code(0);
    let finished = following.wait();
    finished.assert_code(0);
    finished.assert_stderr("has no log tables: this is what the cluster keeps of its jobs' stderr");
    finished.assert_stderr("warning: `--rank` is left aside");
    let mut lines: Vec<&str> =
        finished.stdout.lines().filter(|line| !line.contains("tractorun-init")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[node 0] down 0", "[node 0] up 0", "[node 1] down 1", "[node 1] up 1"]);

    let after = logs().args(["--node", "1", "--grep", "^(up|down) ", "--json"]).run();
    after.assert_code(0);
    let line = |text: &str| format!(r#"{{"node":1,"stream":"stderr","message":"{text}"}}"#);
    assert_eq!(after.stdout.lines().collect::<Vec<_>>(), [line("up 1"), line("down 1")]);
    assert_eq!(
        logs().args(["--tail", "1", "--grep", "down", "--node", "0"]).run().stdout,
        "[node 0] down 0\n"
    );
}

/// However many nodes write, the cluster is asked ten times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_grow_with_nodes() {
    let (scratch, cluster) = bench();
    let client = tractorun_yt::Client::new(
        tractorun_yt::ClientConfig::new(&cluster.proxy(), None).expect("the proxy is an address"),
    )
    .expect("a client can be made");
    let go = scratch.text("go");
    let command = format!("while [ ! -e {go} ]; do echo . >&2; sleep 0.1; done; echo last >&2");
    let spec = json!({"tasks": {"t": {"job_count": 25, "command": command}}, "max_stderr_count": 150});
    let operation =
        client.start_operation("vanilla", &tractorun_yt::value::from_json(&spec)).await.expect("it starts");
    let topology: Vec<Value> = (0..25).map(|_| json!({"address": "h:1", "job_id": "1"})).collect();
    let attributes = json!({ attribute::OPERATION_ID: operation, attribute::TOPOLOGY: topology });
    cluster.create("map_node", &cypress::incarnation(RUN, 0), &attributes);
    cluster.control("DELETE", "/counters", &Value::Null);
    let began = Instant::now();
    let following =
        Launcher::new(&scratch).env("YT_PROXY", cluster.proxy()).args(["logs", RUN, "-f"]).start();
    for node in [0, 12, 24] {
        following.wait_for(&format!("[node {node}] .\n"));
    }
    let requests = counted(&cluster, &["list_jobs", "get_job_stderr"], "requests");
    // What may be made at once at first is a second's worth.
    let most = 10.0 * (began.elapsed() + Duration::from_secs(2)).as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "there are few")]
    let made = requests as f64;
    assert!(made <= most, "{made} requests in {:?}", began.elapsed());
    std::fs::write(&go, "").expect("it can be written");
    let finished = following.wait();
    finished.assert_code(0);
    for node in 0..25 {
        assert!(
            finished.stdout.contains(&format!("[node {node}] last\n")),
            "node {node}: {}",
            finished.stdout
        );
    }
}
