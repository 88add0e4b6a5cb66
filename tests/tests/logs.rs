//! Log tables hold what workers wrote, byte by byte, whatever happens to the cluster, the workers and init.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::launcher::signal;
use tractorun_tests::log_tables::{LogTable, writer};
use tractorun_tests::{Cluster, Launcher, Scratch, binaries, leftovers, run};

const YT_PATH: &str = "//tmp/logs";

/// Node processes on this machine, their notice board and tables on that cluster.
fn local(scratch: &Scratch, cluster: &Cluster) -> Launcher {
    Launcher::local(scratch).env("YT_PROXY", cluster.proxy()).args([
        "--yt-path",
        YT_PATH,
        "--operation-log-mode",
        "realtime_yt_table",
    ])
}

fn worker_table(cluster: &Cluster, rank: u32) -> LogTable {
    LogTable::read(cluster, &format!("{YT_PATH}/logs/0/workers/{rank}"))
}

#[test]
fn every_byte_of_workers_and_sidecars_is_in_its_table() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let write = writer(&scratch, "300 20000 0");
    let finished = Launcher::submit(&scratch, &cluster)
        .args(["--yt-path", YT_PATH, "--operation-log-mode", "realtime_yt_table"])
        .mesh((2, 2))
        .sidecar(&write, "never")
        .bash(&write)
        .run();
    finished.assert_code(0);
    for rank in 0..4 {
        worker_table(&cluster, rank).assert_truth(&scratch, &rank.to_string());
    }
    for index in 0..2 {
        let path = format!("{YT_PATH}/logs/0/sidecars/{index}");
        let table = LogTable::read(&cluster, &path);
        table.assert_numbered();
        assert_eq!(table.record["node_rank"], index);
    }
    let columns = cluster.get(&format!("{YT_PATH}/logs/0/workers/0/@schema"));
    let columns: Vec<&Value> =
        columns.as_array().or(columns["$value"].as_array()).unwrap().iter().take(3).collect();
    let names: Vec<_> =
        columns.iter().map(|column| (&column["name"], &column["type"], &column["required"])).collect();
    assert_eq!(
        json!(names),
        json!([["datetime", "datetime", true], ["message", "string", true], ["fd", "string", true]])
    );
}

#[test]
fn nothing_is_lost_or_doubled_however_requests_fail() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let mut faults = Vec::new();
    let mut plan = |command: &str, nth: u32, times: u32, effect: Value| {
        faults.push(
            cluster
                .plan(&json!({"match": {"command": command}, "nth": nth, "times": times, "effect": effect})),
        );
    };
    plan("write_table", 1, 2, json!({"answer": {"status": 503}}));
    plan("write_table", 4, 1, json!({"reset": {"at": "during_request_body"}}));
    plan("write_table", 6, 1, json!("lose_answer"));
    plan("write_table", 8, 1, json!("expire_transaction"));
    plan("write_table", 10, 2, json!({"over_quota": {}}));
    plan(
        "write_table",
        13,
        1,
        json!({"answer": {"status": 400, "error": {"code": 105, "message": "Unavailable"}}}),
    );
    plan("commit_transaction", 2, 1, json!("lose_answer"));
    plan("commit_transaction", 3, 1, json!({"reset": {"at": "before_request_body"}}));
    plan("commit_transaction", 4, 1, json!("expire_transaction"));
    plan("commit_transaction", 5, 8, json!({"reset": {"at": "before_answer"}}));
    plan("execute_batch", 1, 1, json!("lose_answer"));
    let write = writer(&scratch, "200 30000 0.01");
    let running =
        local(&scratch, &cluster).mesh((1, 2)).args(["--logs.batch-age", "50ms"]).bash(&write).start();
    running.wait().assert_code(0);
    for rank in 0..2 {
        worker_table(&cluster, rank).assert_truth(&scratch, &rank.to_string());
    }
    for fault in faults {
        assert!(cluster.struck(fault) > 0, "fault {fault} never struck");
    }
}

/// Writes numbered lines at full speed; keeps how long it took. Arguments: lines.
const FLOOD: &str = r#"
import os, sys, time
began = time.monotonic()
for start in range(0, int(sys.argv[1]), 1000):
    sys.stdout.write("".join(f"{number:09} {'x' * 89}\n" for number in range(start, start + 1000)))
sys.stdout.flush()
open(f"{os.environ['SCRATCH']}/took.{os.environ['RANK']}", "w").write(f"{time.monotonic() - began}\n")
"#;

/// A cluster that is away from the first written row on.
fn flood_while_away(arguments: &[&str], away_ms: u64) -> (Scratch, Cluster) {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    cluster.plan(&json!({"match": {"command": "write_table"}, "effect": {"proxy_away": {"ms": away_ms}}}));
    let flood = scratch.file("flood.py", FLOOD);
    let finished = local(&scratch, &cluster)
        .args(arguments.iter().copied())
        .bash(&format!("exec python3 {} 100000", flood.display()))
        .run();
    finished.assert_code(0);
    (scratch, cluster)
}

fn took(scratch: &Scratch) -> f64 {
    scratch.wait_for_file("took.0").trim().parse().expect("seconds")
}

#[track_caller]
fn assert_numbers(table: &LogTable, count: usize) {
    table.assert_complete();
    assert_eq!(table.lines().count(), count);
    for (number, row) in table.lines().enumerate() {
        assert!(row.message.starts_with(format!("{number:09} ").as_bytes()), "{number}: {row:?}");
    }
}

#[test]
fn what_the_cluster_does_not_take_now_waits_on_disk_and_follows() {
    let (scratch, cluster) = flood_while_away(&["--logs.memory", "1MiB"], 2500);
    assert_numbers(&worker_table(&cluster, 0), 100_000);
    assert!(took(&scratch) < 2.5, "the worker waited");
    assert_eq!(remains(scratch.path("").as_path()), Vec::<PathBuf>::new());
}

#[test]
fn with_block_the_worker_waits_and_nothing_is_lost() {
    let (scratch, cluster) = flood_while_away(
        &["--logs.memory", "1MiB", "--logs.spool", "2MiB", "--logs.overflow", "block"],
        2500,
    );
    assert_numbers(&worker_table(&cluster, 0), 100_000);
    assert!(took(&scratch) > 1.0, "the worker did not wait");
}

#[test]
fn with_drop_a_row_says_what_is_missing() {
    let (scratch, cluster) =
        flood_while_away(&["--logs.memory", "1MiB", "--logs.spool", "2MiB", "--logs.overflow", "drop"], 2500);
    let table = worker_table(&cluster, 0);
    table.assert_complete();
    assert!(took(&scratch) < 2.5, "the worker waited");
    let mut next = 0;
    let mut dropped = 0;
    for row in &table.rows {
        if let Some(lines) = row.dropped_lines {
            assert_eq!(row.dropped_bytes, Some(lines * 100));
            assert!(String::from_utf8_lossy(&row.message).contains("lines"), "{row:?}");
            dropped += lines;
            next += lines;
        } else {
            assert!(row.message.starts_with(format!("{next:09} ").as_bytes()), "{next}: {row:?}");
            next += 1;
        }
    }
    assert_eq!(next, 100_000);
    assert!(dropped > 10_000 && dropped < 90_000, "{dropped}");
}

/// Files that init has kept lines in.
fn remains(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(remains(&path));
        } else if path.ends_with(".tractorun/logs/spool") {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_cannot_be_shipped_is_said_and_kept_and_can_be_added() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let path = format!("{YT_PATH}/logs/0/workers/1");
    let fault = cluster.plan(&json!({"match": {"command": "write_table", "path": path}, "times": "always", "effect": {"over_quota": {}}}));
    let write = writer(&scratch, "100 20000 0");
    let finished =
        local(&scratch, &cluster).mesh((1, 2)).args(["--logs.drain-timeout", "4s"]).bash(&write).run();
    finished.assert_code(206).assert_stderr("could not be written to the log tables; they are kept in");
    worker_table(&cluster, 0).assert_truth(&scratch, "0");
    let table = worker_table(&cluster, 1);
    assert_eq!((table.rows.len(), &table.record["state"]), (0, &json!("closed")));
    assert!(table.record["unshipped_lines"].as_u64().unwrap() > 100, "{}", table.record);

    cluster.control("DELETE", &format!("/faults/{fault}"), &Value::Null);
    let files = remains(&scratch.path(""));
    assert_eq!(files.len(), 1, "{files:?}");
    let command = finished.stderr.split("tractorun logs --spool ").nth(1).expect("it says how");
    let words = command.lines().next().expect("a line").split(' ');
    let ship = || {
        let ship = Launcher::new(&scratch).env("YT_PROXY", cluster.proxy()).args(["logs", "--spool"]);
        ship.args(words.clone()).run()
    };
    ship().assert_code(0).assert_stdout("rank 1: ").assert_stdout(" added, 0 there before");
    worker_table(&cluster, 1).assert_truth(&scratch, "1");
    ship().assert_stdout("rank 1: 0 lines (0 B) added, ");
    let verify = Launcher::new(&scratch).env("YT_PROXY", cluster.proxy()).args(["logs", YT_PATH, "--verify"]);
    verify.run().assert_code(0).assert_stdout("2 tables: 2 ok");
}

#[test]
fn what_a_worker_wrote_before_it_was_killed_is_there_to_the_last_byte() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = r"printf 'out\nhalf a line'; printf 'Traceback\r 50%%\rboom' >&2
        sleep 1000 & kill -KILL $$";
    let finished = local(&scratch, &cluster).bash(script).run();
    finished.assert_code(137);
    let table = worker_table(&cluster, 0);
    table.assert_complete();
    assert_eq!(table.stream("stdout"), b"out\nhalf a line");
    assert_eq!(table.stream("stderr"), b"Traceback\r 50%\rboom");
    let ends: Vec<_> = table.rows.iter().map(|row| row.line_end.clone()).collect();
    assert!(ends.contains(&Some(vec![])) && ends.contains(&Some(b"\r".to_vec())) && ends.contains(&None));
}

#[test]
fn after_sigterm_the_last_words_are_there_on_every_node() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = r#"trap 'for i in $(seq 1000); do echo "bye $i"; done; exit 0' TERM
        echo $$ > "$SCRATCH/up.$RANK"; sleep 1000 & wait $!"#;
    // Lines would leave after a minute: it is the drain that ships them, before the leader lets anybody go.
    let running =
        local(&scratch, &cluster).mesh((2, 1)).args(["--logs.batch-age", "60s"]).bash(script).start();
    for rank in 0..2 {
        scratch.wait_for_file(&format!("up.{rank}"));
    }
    signal(leftovers::inits(&scratch)[1], Signal::SIGTERM);
    running.wait().assert_code(143);
    for rank in 0..2 {
        let table = worker_table(&cluster, rank);
        table.assert_complete();
        assert!(table.stream("stdout").ends_with(b"bye 999\nbye 1000\n"), "rank {rank}");
    }
}

#[test]
fn a_killed_init_loses_what_was_not_committed_and_the_table_says_so() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script =
        r#"i=0; while true; do echo "line $i"; i=$((i+1)); [ $i = 5000 ] && echo > "$SCRATCH/many"; done"#;
    let running = local(&scratch, &cluster).args(["--logs.batch-age", "50ms"]).bash(script).start();
    scratch.wait_for_file("many");
    let path = format!("{YT_PATH}/logs/0/workers/0");
    // The worker is quicker than the table is made.
    let rows = || cluster.get(&format!("{path}/@row_count")).as_u64().unwrap_or_default();
    while !cluster.exists(&path) || rows() < 1000 {
        std::thread::yield_now();
    }
    for pid in leftovers::inits(&scratch) {
        signal(pid, Signal::SIGKILL);
    }
    running.wait();
    let table = worker_table(&cluster, 0);
    table.assert_numbered();
    assert_eq!(table.record["state"], "open");
    for (number, row) in table.rows.iter().enumerate() {
        assert_eq!(row.message, format!("line {number}").into_bytes());
    }
}

#[test]
fn lines_of_nothing_and_of_megabytes_and_floods_of_returns() {
    lines_of_all_lengths(10);
}

#[test]
#[ignore = "takes long: make soak"]
fn a_line_of_a_hundred_megabytes() {
    lines_of_all_lengths(100);
}

#[test]
#[ignore = "takes long: make soak"]
fn a_cluster_that_is_away_for_a_minute() {
    let (scratch, cluster) = flood_while_away(&["--logs.drain-timeout", "120s"], 60_000);
    assert_numbers(&worker_table(&cluster, 0), 100_000);
    assert!(took(&scratch) < 30.0, "the worker waited");
}

#[test]
fn the_official_client_reads_them() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    local(&scratch, &cluster).bash(r"printf 'one\ntwo\r\n'; printf '\xff' >&2").run().assert_code(0);
    // As a script of the Python tractorun's users does, and with the columns that are ours.
    let script = r#"
import sys, yt.wrapper
client = yt.wrapper.YtClient(proxy=sys.argv[1])
rows = list(client.read_table(sys.argv[2], format=yt.wrapper.YsonFormat(encoding=None)))
assert all(row[b"datetime"] > 1_700_000_000 for row in rows)
assert sorted((row[b"message"], row[b"fd"]) for row in rows) == [
    (b"one", b"stdout"), (b"two", b"stdout"), (b"\xff", b"stderr")], rows
assert [row[b"seq"] for row in rows] == [0, 1, 2] and {row[b"attempt"] for row in rows} == {0}
assert sorted(str(row.get(b"line_end")) for row in rows) == ["None", "b''", "b'\\r\\n'"], rows
"#;
    let finished = run(Command::new(binaries::python())
        .args(["-c", script, &cluster.proxy(), &format!("{YT_PATH}/logs/0/workers/0")])
        .env("YT_CONFIG_PATCHES", "{proxy={enable_proxy_discovery=%false}}"));
    finished.assert_code(0);
}

fn lines_of_all_lengths(megabytes: usize) {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = format!(
        r"head -c {megabytes}000000 /dev/zero; echo; yes '' | head -n 100000; yes | head -n 200000 | tr '\n' '\r'; echo end"
    );
    local(&scratch, &cluster).bash(&script).run().assert_code(0);
    let table = worker_table(&cluster, 0);
    table.assert_complete();
    let truth = [
        &vec![0; megabytes * 1_000_000][..],
        b"\n",
        &b"\n".repeat(100_000),
        &b"y\r".repeat(200_000),
        b"end\n",
    ]
    .concat();
    assert!(table.stream("stdout") == truth);
    assert!(table.rows.iter().all(|row| row.message.len() <= 1 << 20));
}

#[test]
fn eight_workers_at_full_speed() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let flood = scratch.file("flood.py", FLOOD);
    let finished =
        local(&scratch, &cluster).mesh((1, 8)).bash(&format!("exec python3 {} 30000", flood.display())).run();
    finished.assert_code(0);
    for rank in 0..8 {
        assert_numbers(&worker_table(&cluster, rank), 30_000);
    }
}
