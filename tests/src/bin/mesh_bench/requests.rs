//! What the log tables of 1,000 nodes with 8 workers each ask of the cluster: real inits and workers, each of which
//! writes a line a second.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::bench::{Figure, Row, heading};
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;
use crate::notes::send;
use crate::supervisors::own_path;

/// Nodes; `TRACTORUN_BENCH_NODES` says otherwise.
const NODES: u32 = 1000;
const WORKERS: u32 = 8;

/// How long requests are counted, and in what steps.
const MEASURED: Duration = Duration::from_mins(1);
const STEP: Duration = Duration::from_secs(1);
/// A bound on requests a second is one on average: over this much.
const WINDOW: usize = 10;

/// Tables of which every row is accounted for at the end.
const CHECKED_TABLES: u32 = 40;

/// How long all workers may take until they have begun.
const BEGIN: Duration = Duration::from_mins(5);

pub(crate) fn measure() {
    let count =
        std::env::var("TRACTORUN_BENCH_NODES").ok().and_then(|count| count.parse().ok()).unwrap_or(NODES);
    let workers = count * WORKERS;
    heading(&format!(
        "Log tables of {count} nodes x {WORKERS} workers, a line a second each: requests to the cluster"
    ));
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let nodes = Nodes::new(&scratch, &cluster, "many", (count, WORKERS), &[&own_path(), "writer"])
        .with("logs", json!({ "mode": "realtime_yt_table" }));
    let mut group = Group::new();
    let leader = group.start(&mut nodes.command(0, &Particulars::default()));
    group.wait_for("leading incarnation", 1);
    for rank in 1..count {
        group.start_silent(&mut nodes.command(rank, &Particulars::default()));
    }
    group.wait_for("nodes have met", 1);
    let group = group.drain();
    let tables = format!("{}/logs/0/workers", nodes.yt_path());
    wait_for_tables(&cluster, &format!("{tables}/@count"), workers);

    let (begin, mut steps) = (Instant::now(), vec![Requests::so_far(&cluster)]);
    while begin.elapsed() < MEASURED {
        thread::sleep(STEP);
        steps.push(Requests::so_far(&cluster));
    }
    let per_step = begin.elapsed().as_secs_f64() / (steps.len() - 1) as f64;
    // The most in so many steps.
    let most = |span: usize, of: fn(&Requests) -> f64| {
        let spans = steps.windows(span + 1).map(|it| (of(&it[span]) - of(&it[0])) / (span as f64 * per_step));
        Figure::Count(spans.fold(0.0, f64::max))
    };
    let minute = steps.len() - 1;
    Row::new("requests a second for log tables, of a minute", most(minute, |it| it.of_tables))
        .goal("about 1000")
        .print();
    Row::new("the same, the busiest 10 seconds", most(WINDOW, |it| it.of_tables)).print();
    Row::new("requests a second for all else, of a minute", most(minute, |it| it.others)).print();

    send(leader, Signal::SIGTERM);
    group.end();
    let lost: f64 =
        (0..CHECKED_TABLES).map(|it| missing(&cluster, &tables, it * workers / CHECKED_TABLES)).sum();
    Row::new(&format!("lines missing in {CHECKED_TABLES} of the {workers} tables"), Figure::Count(lost))
        .goal("0")
        .print();
}

/// Runs as a worker: a line a second until it is ended.
pub(crate) fn write_lines() {
    let rank = std::env::var("RANK").unwrap_or_default();
    let mut stdout = std::io::stdout();
    for number in 0_u64.. {
        // Its supervisor may be gone.
        if writeln!(
            stdout,
            "rank {rank}: step {number}, loss 0.123456, and what else a training says every second"
        )
        .is_err()
        {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Requests that the cluster was sent.
struct Requests {
    of_tables: f64,
    /// The leader's lock, addresses of proxies.
    others: f64,
}

impl Requests {
    fn so_far(cluster: &Cluster) -> Self {
        let counted = cluster.control("GET", "/counters", &Value::Null);
        let counts = counted["counters"].as_array().expect("there is a list of counters");
        let (mut of_tables, mut others) = (0.0, 0.0);
        for count in counts {
            let is_of_table = matches!(
                count["command"].as_str().unwrap_or_default(),
                "start_transaction"
                    | "write_table"
                    | "execute_batch"
                    | "commit_transaction"
                    | "abort_transaction"
            );
            let requests = count["requests"].as_f64().unwrap_or(0.0);
            *(if is_of_table { &mut of_tables } else { &mut others }) += requests;
        }
        Self { of_tables, others }
    }
}

fn wait_for_tables(cluster: &Cluster, count_path: &str, workers: u32) {
    let begin = Instant::now();
    loop {
        let answer = cluster.send("GET", "get", &json!({ "path": count_path }), b"");
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer["value"] == workers {
            return;
        }
        assert!(begin.elapsed() < BEGIN, "of {workers} workers these have tables: {answer}");
        thread::sleep(STEP);
    }
}

/// Lines of a worker that init counted and that are no rows.
fn missing(cluster: &Cluster, tables: &str, rank: u32) -> f64 {
    let table = format!("{tables}/{rank}");
    let [lines, rows] = ["@tractorun_log/lines", "@row_count"]
        .map(|what| cluster.get(&format!("{table}/{what}")).as_f64().expect("a number of lines"));
    assert!(rows > 0.0, "table {rank} is empty");
    lines - rows
}
