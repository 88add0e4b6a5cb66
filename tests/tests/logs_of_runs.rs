//! `tractorun logs` on the tables of real runs: while they run, with connections that break, after init was killed, and
//! after everything of the run is gone.

use serde_json::{Value, json};
use tractorun_tests::log_tables::LogTable;
use tractorun_tests::{Cluster, Launcher, Scratch};

const RUN: &str = "//tmp/run";

fn logs(scratch: &Scratch, cluster: &Cluster) -> Launcher {
    Launcher::new(scratch).env("YT_PROXY", cluster.proxy()).args(["logs", RUN])
}

/// The lines that begin so, of all that were shown.
fn beginning<'a>(shown: &'a str, start: &str) -> Vec<&'a str> {
    shown.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_run_is_followed_to_its_end_whatever_happens_to_connections() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let script = r#"echo "up $RANK"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done
        for number in $(seq 1 300); do echo "number $number of $RANK"; [ $((number % 60)) != 0 ] || sleep 0.3; done
        echo "all alike"; printf "end of $RANK" >&2"#;
    let run = Launcher::submit(&scratch, &cluster)
        .args(["--yt-path", RUN, "--operation-log-mode", "realtime_yt_table"])
        .mesh((2, 2))
        .sidecar(r#"echo "side $TRACTORUN_SIDECAR_INDEX"; exec sleep 1000"#, "never")
        .bash(script)
        .start();
    run.wait_for("tractorun: its logs: tractorun logs //tmp/run -f\n");
    while !cluster.exists(&format!("{RUN}/incarnations/00000/@topology")) {
        std::thread::sleep(tractorun_tests::process::POLL);
    }
    let following = logs(&scratch, &cluster).args(["-f", "--sidecar", "all", "--rank", "all"]).start();
    let alike = logs(&scratch, &cluster).args(["-f", "--collapse", "always", "--grep", "alike"]).start();
    for rank in 0..4 {
        following.wait_for(&format!("[{rank}] up {rank}\n"));
    }
    for effect in [
        json!({"reset": {"at": {"during_answer_body": {"bytes": 300}}}}),
        json!({"reset": {"at": "before_answer"}}),
        json!({"answer": {"status": 503}}),
    ] {
        for command in ["read_table", "write_table", "execute_batch"] {
            cluster.plan(&json!({"match": {"command": command}, "nth": 2, "times": 2, "effect": effect}));
        }
    }
    scratch.file("go", "");
    run.wait().assert_code(0);
    let finished = following.wait();
    finished.assert_code(0);
    for rank in 0..4 {
        let numbers: Vec<String> =
            (1..=300).map(|number| format!("[{rank}] number {number} of {rank}")).collect();
        assert_eq!(beginning(&finished.stdout, &format!("[{rank}] number")), numbers);
        assert_eq!(beginning(&finished.stdout, &format!("[{rank}] end of {rank}")).len(), 1);
    }
    assert_eq!(beginning(&finished.stdout, "[sidecar ").len(), 2, "{}", finished.stdout);
    let finished = alike.wait();
    finished.assert_code(0);
    assert!(finished.stdout.contains(" x"), "alike lines collapse: {}", finished.stdout);

    // Nothing of it runs any more.
    cluster.assert_no_operation_runs();
    let after = logs(&scratch, &cluster).args(["--rank", "0-3"]).run();
    assert_eq!(after.stdout.lines().count(), 4 * 303, "{}", after.stdout);
    let verified = logs(&scratch, &cluster).arg("--verify").run();
    verified.assert_code(0).assert_stdout("6 tables: 6 ok\n");
    // A row that somebody takes away is missed.
    let rows = format!("{RUN}/logs/0/workers/3");
    let copied: Value =
        json!({"source_path": format!("{RUN}/logs/0/workers/2"), "destination_path": rows, "force": true});
    assert_eq!(cluster.send("POST", "copy", &copied, b"").status, 200);
    let record = json!({"state": "closed", "rows": 304, "lines": 304, "bytes": 1, "node_rank": 1});
    cluster.set(&format!("{rows}/@tractorun_log"), &record);
    let verified = logs(&scratch, &cluster).arg("--verify").run();
    verified.assert_code(1).assert_stdout("rank 3: missing: 303 rows are in the table, init wrote 304\n");
}

#[test]
fn attempts_follow_each_other_in_tables_and_on_the_terminal() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    // Rank 1 fails first, then rank 2 is killed; each leaves somebody behind who goes on writing.
    let script = r#"attempt=$TRACTORUN_ATTEMPT
        echo "begin $attempt"
        for number in $(seq 200); do echo "out $attempt $number"; echo "err $attempt $number" >&2; done
        echo up > "$SCRATCH/up.$attempt.$RANK"
        for rank in 0 1 2 3; do until [ -s "$SCRATCH/up.$attempt.$rank" ]; do sleep 0.02; done; done
        if [ $attempt != 2 ]; then (while :; do echo "left $attempt"; sleep 0.002; done) & fi
        [ "$attempt.$RANK" = 0.1 ] && exit 7
        [ "$attempt.$RANK" = 1.2 ] && kill -9 $$
        [ $attempt = 2 ] || { trap '' TERM; sleep 1000 & wait; }
        printf "end $attempt""#;
    let run = Launcher::submit(&scratch, &cluster)
        .args(["--yt-path", RUN, "--operation-log-mode", "realtime_yt_table", "--grace-period", "300ms"])
        .args(["--restarts.max", "3", "--restarts.backoff", "50ms"])
        .mesh((2, 2))
        .bash(script)
        .start();
    run.wait_for("tractorun: operation ");
    let following = logs(&scratch, &cluster).arg("-f").start();
    run.wait().assert_code(0);
    let followed = following.wait();
    followed.assert_code(0);
    for rank in 0..4 {
        let table = LogTable::read(&cluster, &format!("{RUN}/logs/0/workers/{rank}"));
        table.assert_complete();
        assert!(table.rows.is_sorted_by_key(|row| row.attempt), "rank {rank}");
        for attempt in 0..3 {
            let of_attempt = table.rows.iter().filter(|row| row.attempt == attempt);
            let of_attempt: Vec<String> =
                of_attempt.map(|row| String::from_utf8_lossy(&row.message).into_owned()).collect();
            for start in ["out", "err"] {
                let expected: Vec<String> =
                    (1..=200).map(|number| format!("{start} {attempt} {number}")).collect();
                let found: Vec<&String> = of_attempt.iter().filter(|line| line.starts_with(start)).collect();
                assert!(found.into_iter().eq(&expected), "rank {rank}, attempt {attempt}, {start}");
            }
            // Nothing else of any other attempt.
            assert!(of_attempt.iter().all(|line| line.split(' ').nth(1) == Some(&attempt.to_string())));
            assert_eq!(of_attempt.iter().filter(|line| line.starts_with("begin")).count(), 1);
        }
        assert_eq!(table.rows.last().map(|row| row.message.as_slice()), Some(b"end 2".as_slice()));
        let all: Vec<String> = table
            .rows
            .iter()
            .map(|row| format!("[{rank}] {}", String::from_utf8_lossy(&row.message)))
            .collect();
        assert_eq!(beginning(&followed.stdout, &format!("[{rank}] ")), all, "rank {rank}");
    }
    assert_eq!(beginning(&followed.stdout, "----"), ["---- attempt 1 ----", "---- attempt 2 ----"]);
    logs(&scratch, &cluster).arg("--verify").run().assert_code(0).assert_stdout("4 tables: 4 ok\n");
    let shown = logs(&scratch, &cluster).run();
    let second = shown.stdout.split("---- attempt 1 ----").nth(1).expect("a second attempt");
    assert!(!second.contains(" 0\n") && !second.contains(" 0 "), "lines of an attempt after it");
}

#[test]
fn after_init_was_killed_it_is_said_that_more_may_be_missing() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = r#"echo "first words"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; kill -KILL $PPID; sleep 1000"#;
    let run = Launcher::submit(&scratch, &cluster)
        .args(["--yt-path", RUN, "--operation-log-mode", "realtime_yt_table"])
        .bash(script)
        .start();
    run.wait_for("tractorun: operation ");
    let following = logs(&scratch, &cluster).arg("-f").start();
    following.wait_for("[0] first words\n");
    let verified = logs(&scratch, &cluster).arg("--verify").run();
    verified.assert_code(0).assert_stdout("the run goes on");
    scratch.file("go", "");
    run.wait();
    let finished = following.wait();
    finished.assert_code(0);
    assert_eq!(finished.stdout, "[0] first words\n");
    let verified = logs(&scratch, &cluster).arg("--verify").run();
    verified.assert_code(1).assert_stdout("rank 0: unfinished, 1 rows, 12 B: init was killed");
}
