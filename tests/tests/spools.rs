//! What an init leaves behind in its sandbox: read back, and added to the tables without a line lost or doubled.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::launcher::signal;
use tractorun_tests::log_tables::{LogTable, block_on, client};
use tractorun_tests::process::{DEADLINE, POLL, Running};
use tractorun_tests::{Cluster, Finished, Launcher, Scratch, leftovers};
use tractorun_yt::{RemoveOptions, TransactionId};

const YT_PATH: &str = "//tmp/spools";
const TABLE: &str = "//tmp/spools/logs/0/workers/0";

/// Lines that are in the table before the cluster takes nothing more.
const SHIPPED: u64 = 1000;

/// Writes numbered lines of 100 bytes: some, and when the cluster takes no more so many; says so, and sleeps.
const FLOOD: &str = r#"
import os, sys, time
for start in range(0, int(sys.argv[2]), 100):
    while start == int(sys.argv[1]) and not os.path.exists(f"{os.environ['SCRATCH']}/go"):
        time.sleep(0.01)
    sys.stderr.write("".join(f"{number:09} {'x' * 89}\n" for number in range(start, start + 100)))
    sys.stderr.flush()
open(f"{os.environ['SCRATCH']}/written", "w").write("all\n")
time.sleep(1000)
"#;

fn logs(scratch: &Scratch, cluster: Option<&Cluster>, arguments: &[&str]) -> Finished {
    let launcher = Launcher::new(scratch).arg("logs").args(arguments.iter().copied());
    match cluster {
        Some(cluster) => launcher.env("YT_PROXY", cluster.proxy()).run(),
        None => launcher.run(),
    }
}

/// A worker that floods a cluster that takes only the first lines, with little memory.
fn start_flood(scratch: &Scratch, cluster: &Cluster, lines: u32) -> Running {
    let flood = scratch.file("flood.py", FLOOD);
    let running = Launcher::local(scratch)
        .env("YT_PROXY", cluster.proxy())
        .args(["--yt-path", YT_PATH, "--operation-log-mode", "realtime_yt_table"])
        .args(["--logs.memory", "1MiB", "--logs.batch-age", "10ms"])
        .bash(&format!("exec python3 {} {SHIPPED} {lines}", flood.display()))
        .start();
    wait_until("the first rows", || {
        (cluster.exists(TABLE) && cluster.get(&format!("{TABLE}/@row_count")) == SHIPPED).then_some(())
    });
    cluster
        .plan(&json!({"match": {"command": "write_table"}, "times": "always", "effect": {"over_quota": {}}}));
    scratch.file("go", "\n");
    scratch.wait_for_file("written");
    running
}

/// Looks again and again until there is something.
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
        std::thread::sleep(POLL);
    }
}

/// The spool of the only node, once it is larger than that.
fn wait_for_spool(scratch: &Scratch, bytes: u64) -> PathBuf {
    wait_until("spool", || {
        let path = find(&scratch.path(""))?;
        std::fs::metadata(&path).is_ok_and(|data| data.len() > bytes).then_some(path)
    })
}

/// Ends what a killed init has left on the cluster, as the cluster does after a while: its leadership, and the batch
/// that was on its way.
fn end_transactions(cluster: &Cluster) {
    let leader = cluster.get(&format!("{YT_PATH}/incarnations/00000/@incarnation_transaction_id"));
    let locks = cluster.get(&format!("{TABLE}/@locks"));
    let holders = locks.as_array().expect("a list").iter().map(|lock| lock["transaction_id"].clone());
    for id in holders.chain([leader]) {
        let id = TransactionId::new(id.as_str().expect("an id"));
        block_on(client(cluster).abort_transaction(&id)).expect("it can be aborted");
    }
}

fn find(folder: &std::path::Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let spool = folder.join(".tractorun/logs/spool");
    if spool.is_file() { Some(spool) } else { entries.iter().find_map(|entry| find(entry)) }
}

/// Every line of the flood from the first on is in the table, or named as missing; gives how many are there.
#[track_caller]
fn assert_lines(table: &LogTable) -> u64 {
    table.assert_numbered();
    let (mut next, mut there) = (0, 0);
    for row in &table.rows {
        if let Some(lines) = row.dropped_lines {
            assert_eq!(row.dropped_bytes, Some(100 * lines));
            next += lines;
        } else {
            let line = format!("{next:09} {}", "x".repeat(89));
            assert_eq!(String::from_utf8_lossy(&row.message), line);
            next += 1;
            there += 1;
        }
    }
    there
}

#[test]
fn what_a_killed_init_leaves_is_shown_and_added_once() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let running = start_flood(&scratch, &cluster, 20_000);
    let spool = wait_for_spool(&scratch, 1 << 19);
    let spool = spool.to_str().expect("plain text");

    // While its init lives nobody else ships it: neither the file nor a copy of it. Everybody may look.
    let refused = logs(&scratch, Some(&cluster), &["--spool", spool, "--ship"]);
    refused.assert_code(1).assert_stderr("is in use: its init still runs");
    let copy = scratch.path("copy");
    std::fs::copy(spool, &copy).expect("it can be copied");
    let copied = logs(&scratch, Some(&cluster), &["--spool", copy.to_str().unwrap(), "--ship"]);
    copied.assert_code(1).assert_stderr(&format!("the run of `{TABLE}` goes on"));
    logs(&scratch, None, &["--spool", spool, "--tail", "1"]).assert_code(0).assert_stdout("[0] 0");

    for pid in leftovers::inits(&scratch) {
        signal(pid, Signal::SIGKILL);
    }
    running.wait();
    end_transactions(&cluster);
    let before = LogTable::read(&cluster, TABLE);
    let before_count = assert_lines(&before);
    assert_eq!(before_count, SHIPPED);

    // Shown without a cluster, as lines and as JSON.
    // In the folder of the run, which the launcher has named.
    let folder = spool.split("/node-0/").next().expect("a run has a folder");
    let shown = logs(&scratch, None, &["--spool", folder]);
    shown.assert_code(0);
    let kept: Vec<&str> = shown.stdout.lines().collect();
    assert!(kept.len() > 4000, "{}", kept.len());
    let numbers: Vec<&str> = kept.iter().map(|line| line.split(' ').nth(1).expect("a number")).collect();
    assert!(numbers.is_sorted() && numbers.iter().collect::<HashSet<_>>().len() == numbers.len());
    let lines = logs(&scratch, None, &["--spool", folder, "--json", "--tail", "1", "--stream", "stderr"]);
    let line: Value = serde_json::from_str(lines.stdout.trim()).expect("JSON");
    assert_eq!(line["stream"], "stderr");
    assert_eq!((&line["rank"], &line["incarnation"], &line["attempt"]), (&json!(0), &json!(0), &json!(0)));
    let number =
        line["message"].as_str().expect("text").split(' ').next().and_then(|text| text.parse::<u64>().ok());
    assert_eq!(line["seq"].as_u64(), number);

    // Added, once, however often it is asked for.
    cluster.control("DELETE", "/faults", &Value::Null);
    let shipped = logs(&scratch, Some(&cluster), &["--spool", folder, "--ship"]);
    shipped
        .assert_code(0)
        .assert_stdout("rank 0: ")
        .assert_stdout(&format!(" added, {before_count} there before"));
    let table = LogTable::read(&cluster, TABLE);
    let there = assert_lines(&table);
    assert_eq!(table.rows[..before.rows.len()], before.rows);
    let in_both =
        numbers.iter().filter(|number| number.parse::<u64>().expect("a number") < before_count).count();
    assert_eq!(there, before_count + (kept.len() - in_both) as u64);
    assert_eq!(table.record["state"], "open", "nobody knows what a killed init had read");
    let again = logs(&scratch, Some(&cluster), &["--spool", folder, "--ship"]);
    again.assert_code(0).assert_stdout(&format!("rank 0: 0 lines (0 B) added, {there} there before\n"));
    assert_eq!(LogTable::read(&cluster, TABLE).rows, table.rows);

    // A table that is gone is made again; what it held is named as missing.
    let removed = block_on(client(&cluster).remove(TABLE, RemoveOptions::default()));
    removed.expect("it can be removed");
    logs(&scratch, Some(&cluster), &["--spool", folder, "--ship"]).assert_code(0).assert_stdout(" are lost");
    let table = LogTable::read(&cluster, TABLE);
    assert_eq!(assert_lines(&table), kept.len() as u64);
    assert!(String::from_utf8_lossy(&table.rows[0].message).contains("are missing here: init was killed"));
}

#[test]
fn a_folder_without_a_spool_says_so() {
    let scratch = Scratch::new();
    let folder = scratch.text("");
    logs(&scratch, None, &["--spool", &folder])
        .assert_code(1)
        .assert_stderr("there is no spool below `")
        .assert_stderr("hint: a node leaves one only if it could not ship all of its lines");
    let file = scratch.file("other", "other");
    let other = logs(&scratch, None, &["--spool", file.to_str().expect("plain text")]);
    other.assert_code(1).assert_stderr("other` is not a spool");
}
