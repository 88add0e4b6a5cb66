//! `tractorun logs`: against tables in the contract's shape that the tests write themselves, so that every byte of
//! what must be shown is known.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tractorun_contract::cypress::{self, incarnation as attribute};
use tractorun_contract::logs::{SCHEMA, TABLE_ATTRIBUTE, TableRecord, TableState, column};
use tractorun_contract::sidecar::SidecarId;
use tractorun_tests::launcher::Launcher;
use tractorun_tests::{Cluster, Scratch, binaries};
use tractorun_yt::value::{self, bytes, map, string, uint};
use tractorun_yt::{Append, BatchRequest, Client, ClientConfig, Transaction, TransactionOptions, YsonValue};

const RUN: &str = "//tmp/run";

/// 2026-11-24T17:20:00Z.
const START: u64 = 1_795_540_800_000_000;

/// A cluster with a run in it.
struct Bench {
    cluster: Cluster,
    client: Client,
    scratch: Scratch,
}

/// One row of a log table.
#[derive(Clone)]
struct Row {
    micros: u64,
    stream: &'static str,
    message: Vec<u8>,
    line_end: Option<&'static str>,
    attempt: u64,
    dropped: Option<(u64, u64)>,
}

/// A line of stdout, so many microseconds after the start.
fn row(micros: u64, message: impl Into<Vec<u8>>) -> Row {
    let message = message.into();
    Row { micros, stream: "stdout", message, line_end: None, attempt: 0, dropped: None }
}

impl Row {
    fn to_yson(&self, seq: usize) -> YsonValue {
        let time = START + self.micros;
        let mut columns = vec![
            (column::DATETIME, uint(time / 1_000_000)),
            (column::MESSAGE, bytes(self.message.clone())),
            (column::FD, string(self.stream)),
            (column::TIMESTAMP, uint(time)),
            (column::SEQ, uint(seq as u64)),
            (column::ATTEMPT, uint(self.attempt)),
        ];
        columns.extend(self.line_end.map(|end| (column::LINE_END, string(end))));
        if let Some((lines, bytes)) = self.dropped {
            columns.extend([(column::DROPPED_LINES, uint(lines)), (column::DROPPED_BYTES, uint(bytes))]);
        }
        map(columns)
    }
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start_with_control(&scratch);
        let mut config = ClientConfig::new(&cluster.proxy(), None).expect("the proxy is an address");
        config.first_pause = Duration::from_millis(5);
        let client = Client::new(config).expect("a client can be made");
        Self { cluster, client, scratch }
    }

    /// Makes incarnation `number` of an operation that the cluster does not know.
    fn incarnation(&self, number: u32, transaction: &str, workers: usize) {
        let topology: Vec<Value> =
            (0..workers).map(|rank| json!({"address": "h:1", "job_id": format!("{rank}")})).collect();
        let attributes = json!({
            attribute::OPERATION_ID: "1-2-103e8-4",
            attribute::TRANSACTION_ID: transaction,
            attribute::TOPOLOGY: topology,
        });
        self.cluster.create("map_node", &cypress::incarnation(RUN, number), &attributes);
        self.cluster.set(&format!("{RUN}/@{}", cypress::INCARNATION_ID), &json!(number));
    }

    fn schema() -> Value {
        let columns = SCHEMA.iter().map(
            |column| json!({"name": column.name, "type": column.column_type, "required": column.required}),
        );
        columns.collect()
    }

    async fn table(&self, path: &str, rows: &[Row], record: &TableRecord) {
        let attributes = json!({"schema": Self::schema(), TABLE_ATTRIBUTE: record});
        self.cluster.create("table", path, &attributes);
        self.append(path, 0, rows).await;
    }

    async fn append(&self, path: &str, first: usize, rows: &[Row]) {
        let rows: Vec<_> = rows.iter().enumerate().map(|(index, row)| row.to_yson(first + index)).collect();
        self.client.write_table(path, Append::Yes, &rows).await.expect("rows can be written");
    }

    /// Table of a worker on the node of half its rank.
    async fn worker(&self, rank: u32, rows: &[Row]) {
        let record = TableRecord { node_rank: rank / 2, ..counted(rows) };
        self.table(&cypress::worker_log(RUN, 0, rank), rows, &record).await;
    }

    fn logs(&self) -> Launcher {
        Launcher::new(&self.scratch).env("YT_PROXY", self.cluster.proxy()).arg("logs")
    }

    /// What `tractorun logs` of the run with these options writes to stdout.
    fn shown(&self, options: &[&str]) -> String {
        let finished = self.logs().arg(RUN).args(options).run();
        finished.assert_code(0);
        assert_eq!(finished.stderr, "", "{options:?}");
        finished.stdout
    }
}

/// What init would have counted.
fn counted(rows: &[Row]) -> TableRecord {
    let lines: Vec<&Row> = rows.iter().filter(|row| row.dropped.is_none()).collect();
    let dropped = rows.iter().filter_map(|row| row.dropped);
    let length = |row: &&Row| row.message.len() + row.line_end.map_or(1, str::len);
    TableRecord {
        state: TableState::Closed,
        rows: rows.len() as u64,
        lines: lines.len() as u64,
        bytes: lines.iter().map(length).sum::<usize>() as u64,
        dropped_lines: dropped.clone().map(|(lines, _)| lines).sum(),
        dropped_bytes: dropped.map(|(_, bytes)| bytes).sum(),
        ..TableRecord::default()
    }
}

#[tokio::test]
async fn lines_of_all_ranks_come_in_the_order_of_time() {
    let bench = Bench::new();
    bench.incarnation(0, "1-2-10001-4", 3);
    let split = Row { line_end: Some(""), ..row(10, "long ") };
    let bar = Row { line_end: Some("\r"), ..row(25, "50%") };
    let gap = Row { stream: "stderr", dropped: Some((12, 2048)), ..row(45, "12 lines are missing") };
    let restarted = Row { attempt: 1, ..row(60, "again") };
    bench.worker(0, &[split, row(30, "line"), gap, restarted.clone()]).await;
    bench.worker(1, &[row(20, b"\xff\x00\x80".to_vec()), bar, Row { micros: 61, ..restarted }]).await;
    bench.worker(2, &[Row { stream: "stderr", ..row(40, "error: no") }]).await;
    bench
        .table(
            &cypress::sidecar_log(RUN, 0, (0, 1), 1, SidecarId::Index(0)),
            &[row(5, "side")],
            &TableRecord::default(),
        )
        .await;

    // Bytes, and not text: one line is no UTF-8.
    let output = Command::new(binaries::tractorun())
        .args(["logs", RUN])
        .env_clear()
        .env("YT_PROXY", bench.cluster.proxy())
        .output()
        .expect("it can be started");
    let expected: &[u8] = b"[1] \xff\x00\x80\n[1] 50%\n[0] long line\n[2] error: no\n\
        [0] ---- 12 lines (2.00 KiB) dropped here: there was no room ----\n---- attempt 1 ----\n[0] again\n[1] again\n";
    assert_eq!(output.stdout.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));

    assert_eq!(bench.shown(&["--rank", "2,7"]), "[2] error: no\n");
    assert_eq!(bench.shown(&["--node", "1"]), "[2] error: no\n");
    assert_eq!(bench.shown(&["--sidecar", "all"]), "[sidecar 0] side\n");
    assert_eq!(bench.shown(&["--stream", "stderr", "--rank", "1-2"]), "[2] error: no\n");
    assert_eq!(bench.shown(&["--grep", "^a.*n$"]).lines().last(), Some("[1] again"));
    assert_eq!(bench.shown(&["--since", "2026-11-24T17:20:00.000061Z"]), "---- attempt 1 ----\n[1] again\n");
    assert_eq!(bench.shown(&["--tail", "2"]), "---- attempt 1 ----\n[0] again\n[1] again\n");
    assert_eq!(bench.shown(&["--tail", "1", "--stream", "stderr", "--rank", "2"]), "[2] error: no\n");
    let collapsed = bench.shown(&["--tail", "2", "--collapse", "always"]);
    assert_eq!(collapsed, "---- attempt 1 ----\n[0-1 x2] again\n");

    let lines = bench.shown(&["--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let first = json!({
        "rank": 1, "incarnation": 0, "attempt": 0, "seq": 0, "time": "2026-11-24T17:20:00.000020Z",
        "stream": "stdout", "message_base64": "/wCA",
    });
    assert_eq!(lines[0], first);
    assert_eq!((&lines[2]["message"], &lines[2]["seq"]), (&json!("long line"), &json!(0)));
    assert_eq!((&lines[4]["dropped_lines"], &lines[4]["dropped_bytes"]), (&json!(12), &json!(2048)));
    assert_eq!(lines.len(), 7);
}

/// Tables longer than what is read at once, with lines of a megabyte among them.
#[tokio::test]
async fn long_tables_are_read_in_pieces_and_only_where_they_are_needed() {
    let bench = Bench::new();
    bench.incarnation(0, "1-2-10001-4", 2);
    let count = 12_000_u64;
    for rank in 0..2_u64 {
        let rows: Vec<Row> = (0..count)
            .map(|number| {
                let mut message = format!("{rank}:{number}:");
                if number % 3000 == 7 {
                    message.push_str(&"x".repeat(1 << 20));
                }
                row(number * 1_000_000 + rank, message)
            })
            .collect();
        bench.worker(u32::try_from(rank).expect("it fits"), &rows).await;
    }
    let shown = bench.shown(&[]);
    assert_eq!(shown.lines().count() as u64, 2 * count);
    for (index, line) in shown.lines().enumerate() {
        let (number, rank) = (index / 2, index % 2);
        assert!(line.starts_with(&format!("[{rank}] {rank}:{number}:")), "line {index}");
    }
    assert_eq!(shown.len() - shown.replace('x', "").len(), 8 << 20);

    bench.cluster.control("DELETE", "/counters", &Value::Null);
    let since = "2026-11-24T20:39:58Z";
    assert_eq!(bench.shown(&["--since", since]), "[0] 0:11998:\n[1] 1:11998:\n[0] 0:11999:\n[1] 1:11999:\n");
    let last = "[1] 1:11998:\n[0] 0:11999:\n[1] 1:11999:\n";
    assert_eq!(bench.shown(&["--tail", "3"]), last);
    assert_eq!(bench.shown(&["--tail", "3", "--since", "2026-11-24T18:00:00Z"]), last);
    assert_eq!(bench.shown(&["--tail", "3", "--grep", "1199", "--stream", "stdout"]), last);
    assert_eq!(
        bench.shown(&["--tail", "3", "--since", since, "--rank", "1"]),
        "[1] 1:11998:\n[1] 1:11999:\n"
    );
    let counters = bench.cluster.control("GET", "/counters", &Value::Null);
    let read = counters["counters"].as_array().expect("there are counters").iter();
    let read: u64 = read
        .filter(|count| count["command"] == "read_table")
        .filter_map(|count| count["bytes_out"].as_u64())
        .sum();
    assert!(read < 1 << 20, "{read} bytes were read for a few lines");
}

#[tokio::test]
async fn what_512_ranks_print_alike_is_one_line() {
    let bench = Bench::new();
    bench.incarnation(0, "1-2-10001-4", 512);
    let attributes = json!({"schema": Bench::schema(), TABLE_ATTRIBUTE: counted(&[])});
    let attributes = value::from_json(&attributes);
    let paths: Vec<String> = (0..512).map(|rank| cypress::worker_log(RUN, 0, rank)).collect();
    let create = |path: &String| {
        BatchRequest::new("create")
            .parameter("type", string("table"))
            .parameter("path", string(path))
            .parameter("recursive", value::boolean(true))
            .parameter("attributes", attributes.clone())
    };
    for made in bench.client.execute_batch(paths.iter().map(create).collect()).await.expect("a batch") {
        made.expect("a table can be made");
    }
    for (rank, path) in paths.iter().enumerate() {
        // All start within a tenth of a second, one of them writes something else in between.
        let offset = rank as u64 * 200;
        let mut rows = vec![row(offset, "epoch 1")];
        if rank == 300 {
            rows.push(row(500_000, "loss is NaN"));
        }
        rows.push(row(2_000_000 + offset, "epoch 2"));
        let rows: Vec<YsonValue> = rows.iter().enumerate().map(|(seq, row)| row.to_yson(seq)).collect();
        bench.client.write_table(path, Append::Yes, &rows).await.expect("rows can be written");
    }
    assert_eq!(
        bench.shown(&["--collapse", "always"]),
        "[0-511 x512] epoch 1\n[300] loss is NaN\n[0-511 x512] epoch 2\n"
    );
    let plain = bench.shown(&[]);
    assert_eq!(plain.lines().count(), 1025, "a pipe gets every line");
    let ranks: Vec<String> = (0..512).map(|rank| format!("[{rank}] epoch 1")).collect();
    assert_eq!(plain.lines().take(512).collect::<Vec<_>>(), ranks, "in the order of time");
    let json = bench.shown(&["--json", "--rank", "510-600"]);
    assert_eq!(json.lines().count(), 4);
}

/// A leader that lives as long as this.
async fn leader(bench: &Bench) -> Transaction {
    bench.client.start_transaction(TransactionOptions::default()).await.expect("a transaction can begin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_loses_and_doubles_nothing_whatever_happens_to_connections() {
    let bench = Bench::new();
    let leader = leader(&bench).await;
    bench.incarnation(0, leader.id().as_str(), 2);
    bench.worker(0, &[row(0, "first")]).await;
    let following = bench.logs().args([RUN, "-f"]).start();
    following.wait_for("[0] first\n");

    let mut faults = Vec::new();
    for effect in [
        json!({"reset": {"at": {"during_answer_body": {"bytes": 700}}}}),
        json!({"reset": {"at": "before_answer_body"}}),
        json!({"answer": {"status": 503}}),
        json!("lose_answer"),
    ] {
        let planned = json!({"match": {"command": "read_table"}, "nth": 2, "times": 2, "effect": effect});
        faults.push(bench.cluster.plan(&planned));
    }
    bench.cluster.plan(&json!({"match": {"command": "execute_batch"}, "times": 1, "effect": "lose_answer"}));
    // The table of rank 1 comes late, and the next attempt later.
    let mut length = [1, 0];
    for batch in 0..20_u64 {
        for rank in [0, 1] {
            let path = cypress::worker_log(RUN, 0, rank);
            let rows: Vec<Row> = (0..40)
                .map(|number| Row {
                    attempt: u64::from(batch >= 10),
                    ..row(batch * 1_000_000 + number, format!("rank {rank} batch {batch} line {number}."))
                })
                .collect();
            if batch == 0 && rank == 1 {
                bench.table(&path, &[], &TableRecord::default()).await;
            }
            bench.append(&path, length[rank as usize], &rows).await;
            length[rank as usize] += rows.len();
        }
        if batch % 5 == 0 {
            following.wait_for(&format!("rank 1 batch {batch} line 39."));
        }
    }
    bench
        .append(&cypress::worker_log(RUN, 0, 1), length[1], &[Row { line_end: Some(""), ..row(99, "end") }])
        .await;
    leader.abort().await.expect("it can be aborted");
    let finished = following.wait();
    finished.assert_code(0);
    for fault in faults {
        assert!(bench.cluster.struck(fault) > 0, "fault {fault} has not struck");
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for line in finished.stdout.lines() {
        *seen.entry(line).or_default() += 1;
    }
    for (line, count) in &seen {
        assert_eq!(*count, 1, "`{line}` was shown {count} times");
    }
    // The first line, the last one without its end, 2 x 20 x 40, and the boundary of the second attempt.
    assert!(seen.contains_key("[1] end") && seen.contains_key("---- attempt 1 ----"), "{}", finished.stdout);
    assert_eq!(seen.len(), 3 + 2 * 20 * 40);
    // Within a rank the order is that of the table.
    for rank in [0, 1] {
        let of_rank = finished.stdout.lines().filter(|line| line.contains(&format!("rank {rank} batch")));
        let expected = (0..20).flat_map(|batch| {
            (0..40).map(move |number| format!("[{rank}] rank {rank} batch {batch} line {number}."))
        });
        assert!(of_rank.eq(expected), "rank {rank} is out of order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_told_once_and_waited_for() {
    let bench = Bench::new();
    let leader = leader(&bench).await;
    bench.incarnation(0, leader.id().as_str(), 1);
    bench.worker(0, &[row(0, "first")]).await;
    let following = bench.logs().args([RUN, "--follow"]).start();
    following.wait_for("[0] first\n");
    let fault = bench.cluster.plan(&json!({
        "match": {"command": "execute_batch"}, "times": "always", "effect": {"answer": {"status": 503}},
    }));
    following.wait_for("the cluster has not answered for 5 s: HTTP status 503");
    bench.append(&cypress::worker_log(RUN, 0, 0), 1, &[row(1, "second")]).await;
    bench.cluster.control("DELETE", &format!("/faults/{fault}"), &Value::Null);
    following.wait_for("the cluster answers again");
    following.wait_for("[0] second\n");
    leader.abort().await.expect("it can be aborted");
    let finished = following.wait();
    finished.assert_code(0);
    assert_eq!(finished.stdout, "[0] first\n[0] second\n");
    assert_eq!(finished.stderr.matches("has not answered").count(), 1, "{}", finished.stderr);
}

/// A gang that is started again is another incarnation of the same operation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_with_the_next_incarnation_of_the_operation() {
    let bench = Bench::new();
    let first = leader(&bench).await;
    bench.incarnation(0, first.id().as_str(), 1);
    bench.worker(0, &[row(0, "before"), Row { line_end: Some(""), ..row(1, "cut off") }]).await;
    let following = bench.logs().args([RUN, "-f"]).start();
    let only = bench.logs().args([RUN, "-f", "--incarnation", "0"]).start();
    following.wait_for("[0] before\n");
    only.wait_for("[0] before\n");
    let second = leader(&bench).await;
    bench.incarnation(1, second.id().as_str(), 1);
    bench.table(&cypress::worker_log(RUN, 1, 0), &[row(2, "after")], &TableRecord::default()).await;
    following.wait_for("[0] after\n");
    first.abort().await.expect("it can be aborted");
    assert_eq!(only.wait().stdout, "[0] before\n[0] cut off\n");
    second.abort().await.expect("it can be aborted");
    let finished = following.wait();
    finished.assert_code(0);
    assert_eq!(finished.stdout, "[0] before\n[0] cut off\n---- incarnation 1 ----\n[0] after\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_run_sees_it_begin_and_who_reads_no_more_is_no_failure() {
    let bench = Bench::new();
    bench.cluster.create("map_node", &format!("{RUN}/incarnations"), &json!({}));
    let mut following = Command::new(binaries::tractorun())
        .args(["logs", "-f", RUN])
        .env_clear()
        .env("YT_PROXY", bench.cluster.proxy())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let leader = leader(&bench).await;
    bench.incarnation(0, leader.id().as_str(), 1);
    bench.worker(0, &[row(0, "first")]).await;
    let mut stdout = following.stdout.take().expect("stdout is piped");
    let mut first = [0; 10];
    stdout.read_exact(&mut first).expect("there is a line");
    assert_eq!(&first, b"[0] first\n");
    // Nothing more is written, and yet it ends.
    drop(stdout);
    assert_eq!(following.wait().expect("it ends").code(), Some(0));
    drop(leader);
}

#[tokio::test]
async fn what_init_counted_is_compared_with_what_is_there() {
    let bench = Bench::new();
    bench.incarnation(0, "1-2-10001-4", 5);
    let rows = [row(0, "one"), Row { line_end: Some("\r"), ..row(1, b"\xff".to_vec()) }, row(2, "")];
    bench.worker(0, &rows).await;
    let finished = bench.logs().args([RUN, "--verify", "--rank", "0"]).run();
    finished.assert_code(0);
    assert_eq!(finished.stdout, "rank 0: ok, 3 rows, 7 B\n1 tables: 1 ok\n");

    let lost = TableRecord { rows: 4, ..counted(&rows) };
    bench.table(&cypress::worker_log(RUN, 0, 1), &rows, &lost).await;
    bench.table(&cypress::worker_log(RUN, 0, 2), &rows, &TableRecord::default()).await;
    bench.worker(3, &[row(0, "x"), Row { dropped: Some((5, 50)), ..row(1, "gap") }]).await;
    let finished = bench.logs().args([RUN, "--verify"]).run();
    finished.assert_code(1);
    assert_eq!(
        finished.stdout,
        "rank 0: ok, 3 rows, 7 B\n\
         rank 1: missing: 3 rows are in the table, init wrote 4\n\
         rank 2: unfinished, 3 rows, 7 B: init was killed before it could say how much it had read\n\
         rank 3: missing: 5 lines (50 B) were dropped: there was no room\n\
         rank 4: missing: there is no table\n\
         5 tables: 1 ok, 3 missing, 1 unfinished\n"
    );
}

#[tokio::test]
async fn mistakes_are_told_with_what_there_is() {
    let bench = Bench::new();
    let error = |words: &[&str], code: i32| {
        let finished = bench.logs().args(words.iter().copied()).run();
        finished.assert_code(code);
        assert_eq!(finished.stdout, "", "{words:?}");
        finished.stderr
    };
    assert_eq!(
        error(&["//tmp/nowhere"], 1),
        "tractorun: there is nothing at `//tmp/nowhere`\n\
         hint: the directory of a run is its `yt_path`, which the operation's title ends with\n"
    );
    assert_eq!(
        error(&["//tmp"], 1),
        "tractorun: `//tmp` is not the directory of a run: it has no `incarnations`\n"
    );
    bench.cluster.create("map_node", &format!("{RUN}/incarnations"), &json!({}));
    assert_eq!(
        error(&[RUN], 1),
        "tractorun: no run has begun in `//tmp/run`\nhint: `--follow` waits until one does\n"
    );
    for number in [0, 1, 2, 5] {
        bench.incarnation(number, "1-2-10001-4", 1);
    }
    assert_eq!(
        error(&[RUN, "--incarnation", "7"], 1),
        "tractorun: `--incarnation`: `//tmp/run` has no incarnation 7; it has 0-2,5\n"
    );
    assert_eq!(
        error(&[RUN, "--verify", "--incarnation", "5"], 1),
        "tractorun: incarnation 5 of `//tmp/run` has no log tables to verify\n\
         hint: `--operation-log-mode realtime_yt_table` makes them\n"
    );
    for rank in 0..3 {
        bench.worker(rank, &[row(0, "x")]).await;
    }
    assert_eq!(
        error(&[RUN, "--incarnation", "0", "--rank", "3-9"], 1),
        "tractorun: incarnation 0 of `//tmp/run` has none of what `--rank`, `--sidecar` and `--node` ask for; \
         it has ranks 0-2, nodes 0-1\n"
    );
    assert_eq!(
        error(&[RUN, "--rank", "5-3", "--grep", "(", "--tails"], 2),
        "tractorun: `--rank`: the range `5-3` ends before it begins\n\
         tractorun: `--grep`: `(` is not a regular expression: unclosed group\n\
         tractorun: unknown option `--tails`, did you mean `--tail`?\n"
    );
}

/// A table of the Python tractorun is a link to one with three columns only.
#[tokio::test]
async fn tables_of_the_python_tractorun_are_read_too() {
    let bench = Bench::new();
    bench.incarnation(0, "1-2-10001-4", 1);
    let schema: Value = SCHEMA[..3]
        .iter()
        .map(|column| json!({"name": column.name, "type": column.column_type, "required": false}))
        .collect();
    let raw = format!("{RUN}/logs/_raw_logs/x");
    bench.cluster.create("table", &raw, &json!({ "schema": schema }));
    let rows = [map([
        (column::DATETIME, uint(START / 1_000_000)),
        (column::MESSAGE, string("old")),
        (column::FD, string("stdout")),
    ])];
    bench.client.write_table(&raw, Append::Yes, &rows).await.expect("rows can be written");
    bench.cluster.create("map_node", &format!("{RUN}/logs/0/workers"), &json!({}));
    let link = json!({"target_path": raw, "link_path": format!("{RUN}/logs/0/workers/0")});
    assert_eq!(bench.cluster.send("POST", "link", &link, b"").status, 200);
    assert_eq!(bench.shown(&[]), "[0] old\n");
    let finished = bench.logs().args([RUN, "--verify"]).run();
    finished.assert_code(0).assert_output("rank 0: uncounted, 1 rows, 4 B");
}

#[test]
fn the_first_word_alone_is_a_command() {
    let scratch = Scratch::new();
    let help = Launcher::new(&scratch).args(["logs", "--help"]).run();
    help.assert_code(0).assert_stdout("Usage: tractorun logs [OPTIONS] YT_PATH");
    let script = scratch.file("logs", "#!/bin/sh\necho \"ran with $1\"\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("it is ours");
    let path = format!("{}:/usr/bin:/bin", scratch.text(""));
    let finished = Launcher::local(&scratch).worker_env("PATH", &path).args(["logs", "x"]).run();
    finished.assert_code(0).assert_output("ran with x");
}
