//! What is shown, in which form, to whom; and that nobody is held up by who looks.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Cause, Failure, Fates};
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::{Pid, Signal};

use super::exporter::Exporter;
use super::*;
use crate::control::{LeaderMessage, StopManner};
use crate::rendezvous::MetricsTarget;
use crate::supervisor::{Announcement, Identity, Member, Traces};

const SECRET: &str = "s3cret";

fn identity(node_rank: u32) -> Identity {
    Identity { node_rank, host: format!("host{node_rank}"), job_id: format!("job{node_rank}") }
}

fn failure(cause: Cause) -> Failure {
    Failure {
        cause,
        rank: Some(3),
        node_rank: 1,
        host: "host1".into(),
        job_id: "job1".into(),
        attempt: 0,
        exit_code: 7,
        elapsed_seconds: 1.5,
        stderr_tail: vec![SECRET.into()],
        not_restarted: None,
        oom: None,
        others: Fates::default(),
    }
}

fn started(node_rank: u32) -> (Monitor, Questions) {
    let (monitor, questions) = Monitor::new(Kind::Job, Clock::start());
    monitor.know(Facts::Node { own: identity(node_rank), node_count: 2 });
    for phase in [Phase::Unpack, Phase::Secrets] {
        monitor.begin(phase);
        monitor.end(phase);
    }
    monitor.begin(Phase::Rendezvous);
    (monitor, questions)
}

fn met(monitor: &Monitor) {
    let target =
        |node_rank: u32| MetricsTarget { node_rank, address: format!("host{node_rank}:900{node_rank}") };
    monitor.end(Phase::Rendezvous);
    let (nodes, targets) = (vec![identity(0), identity(1)], vec![target(0), target(1)]);
    monitor.know(Facts::Met { incarnation: 4, nodes, targets });
    monitor.know(Facts::Workers(vec![2, 3]));
    monitor.know(Facts::Sidecars(vec![SidecarId::Index(0), SidecarId::Index(1), SidecarId::Tensorproxy]));
    let placed = Placed { gpus: vec!["1".into()], cpus: "8-15".into(), omp_num_threads: Some(1) };
    monitor.know(Facts::Placed(vec![Placed { cpus: "0".into(), ..Placed::default() }, placed]));
    monitor.note_event(&Event::Begun);
}

fn render(monitor: &Monitor) -> String {
    Exporter::new(Kind::Job).unwrap().render(&monitor.sources).unwrap()
}

/// Value of a series, as it is written.
fn value<'a>(page: &'a str, series: &str) -> &'a str {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in:\n{page}"))
}

fn exited(pid: Pid, reason: ExitReason) -> Event {
    Event::ChildExited {
        pid,
        reason,
        reaped_at: Duration::ZERO,
        traces: Traces { stderr_tail: vec![SECRET.into()], oom: None },
    }
}

#[tokio::test]
async fn the_page_has_these_metrics_of_these_types_and_no_others() {
    let (monitor, _questions) = started(0);
    met(&monitor);
    let page = render(&monitor);
    let types: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE tractorun_")).collect();
    assert_eq!(
        types,
        [
            "attempt gauge",
            "build_info gauge",
            "cypress_request_failures_total counter",
            "cypress_requests_total counter",
            "heartbeat_age_seconds gauge",
            "info gauge",
            "init_cpu_seconds_total counter",
            "init_resident_memory_bytes gauge",
            "nodes gauge",
            "nodes_joined gauge",
            "output_bytes_total counter",
            "output_lines_total counter",
            "phase gauge",
            "phase_seconds gauge",
            "reaped_orphans_total counter",
            "sidecar_exits_total counter",
            "sidecar_restarts_total counter",
            "sidecar_running gauge",
            "start_time_seconds gauge",
            "worker_cpu_seconds_total counter",
            "worker_exits_total counter",
            "worker_processes gauge",
            "worker_resident_memory_bytes gauge",
            // Not worker_start_time_seconds: none was started yet.
            "workers gauge",
        ]
    );
    assert!(page.lines().all(|line| line.starts_with("tractorun_")
        || line.starts_with("# HELP tractorun_")
        || line.starts_with("# TYPE tractorun_")));
}

#[tokio::test]
async fn log_tables_are_shown_where_there_are_any() {
    let (monitor, _questions) = started(0);
    met(&monitor);
    assert!(!render(&monitor).contains("tractorun_log_"));
    assert_eq!(status::status(&monitor.sources)["logs"], Value::Null);
    monitor.watch_logs(crate::logs::testing::gauge());
    let page = render(&monitor);
    let types: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE tractorun_log_")).collect();
    assert_eq!(
        types,
        [
            "bytes_total counter",
            "commits_total counter",
            "dropped_bytes_total counter",
            "dropped_lines_total counter",
            "last_commit_duration_seconds gauge",
            "last_commit_timestamp_seconds gauge",
            "oldest_waiting_age_seconds gauge",
            "requests_total counter",
            "retries_total counter",
            "rows_total counter",
            "waiting_bytes gauge",
        ]
    );
    let series = page.lines().filter(|line| line.starts_with("tractorun_log_"));
    assert_eq!(series.count(), 12, "one of each, and two places where lines wait");
    assert_eq!(status::status(&monitor.sources)["logs"]["rows"], 0);
}

#[tokio::test]
async fn numbers_follow_what_happens() {
    let (monitor, _questions) = started(0);
    assert_eq!(value(&render(&monitor), r#"tractorun_phase{phase="rendezvous"}"#), "1");
    met(&monitor);
    let own = Pid::current();
    let other = Pid::from_raw(1).unwrap();
    monitor.note_event(&Event::Spawned { member: Member::Worker(0), pid: own });
    monitor.output().count(OutputStream::Stderr, b"one\ntwo\nha");
    monitor.pulses().heard(1);
    let page = render(&monitor);
    let version = env!("CARGO_PKG_VERSION");
    let info = format!(r#"tractorun_info{{incarnation="4",node_rank="0",version="{version}"}}"#);
    for (series, expected) in [
        (info.as_str(), "1"),
        (r#"tractorun_phase{phase="running"}"#, "1"),
        (r#"tractorun_phase{phase="rendezvous"}"#, "0"),
        (r#"tractorun_workers{state="running"}"#, "1"),
        (r#"tractorun_workers{state="not_started"}"#, "1"),
        (r#"tractorun_output_bytes_total{stream="stderr"}"#, "10"),
        (r#"tractorun_output_lines_total{stream="stderr"}"#, "2"),
        (r#"tractorun_output_bytes_total{stream="stdout"}"#, "0"),
        ("tractorun_nodes", "2"),
        ("tractorun_nodes_joined", "2"),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    let memory: u64 = value(&page, r#"tractorun_worker_resident_memory_bytes{rank="2"}"#).parse().unwrap();
    assert!(memory > 100_000, "{memory}");
    let started: f64 = value(&page, r#"tractorun_worker_start_time_seconds{rank="2"}"#).parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - started).abs() < 3600.0, "{started}");

    monitor.note_event(&exited(other, ExitReason::Code(0)));
    // A sidecar is no orphan.
    let sidecar = Pid::from_raw(2).unwrap();
    monitor.note_event(&Event::Spawned { member: Member::Sidecar(0), pid: sidecar });
    monitor.note_event(&exited(sidecar, ExitReason::Code(1)));
    monitor.note_event(&exited(own, ExitReason::Signal(9)));
    let spawn_failed =
        Event::SpawnFailed { member: Member::Worker(1), reason: SECRET.into(), exit_code: 127 };
    monitor.note_event(&spawn_failed);
    monitor.note_action(&Action::SignalTree { signal: Signal::TERM, spared: Vec::new() });
    let page = render(&monitor);
    for (series, expected) in [
        ("tractorun_reaped_orphans_total", "1"),
        (r#"tractorun_worker_exits_total{kind="signal"}"#, "1"),
        (r#"tractorun_worker_exits_total{kind="not_started"}"#, "1"),
        (r#"tractorun_worker_exits_total{kind="success"}"#, "0"),
        (r#"tractorun_workers{state="exited"}"#, "1"),
        (r#"tractorun_workers{state="failed_to_start"}"#, "1"),
        (r#"tractorun_phase{phase="stopping"}"#, "1"),
        (r#"tractorun_worker_resident_memory_bytes{rank="2"}"#, "0"),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
}

#[tokio::test]
async fn sidecars_are_shown_by_number_and_without_what_they_say() {
    let (monitor, _questions) = started(0);
    met(&monitor);
    let pid = Pid::from_raw(7).unwrap();
    let announce = |restart_after| {
        let reason = ExitReason::Signal(9);
        monitor.note_action(&Action::Announce(Announcement::SidecarExited {
            sidecar: 1,
            reason,
            last_lines: vec!["what it says".into()],
            restart_after,
        }));
    };
    for _ in 0..2 {
        monitor.note_event(&Event::Spawned { member: Member::Sidecar(1), pid });
        assert_eq!(value(&render(&monitor), r#"tractorun_sidecar_running{sidecar="1"}"#), "1");
        monitor.note_event(&exited(pid, ExitReason::Signal(9)));
        announce(Some(Duration::from_secs(1)));
    }
    let page = render(&monitor);
    for (series, expected) in [
        (r#"tractorun_sidecar_running{sidecar="1"}"#, "0"),
        (r#"tractorun_sidecar_restarts_total{sidecar="1"}"#, "1"),
        (r#"tractorun_sidecar_restarts_total{sidecar="0"}"#, "0"),
        (r#"tractorun_sidecar_restarts_total{sidecar="tensorproxy"}"#, "0"),
        (r#"tractorun_sidecar_exits_total{kind="signal",sidecar="1"}"#, "2"),
        (r#"tractorun_sidecar_exits_total{kind="success",sidecar="1"}"#, "0"),
        ("tractorun_reaped_orphans_total", "0"),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    let status = status::status(&monitor.sources);
    assert_eq!(status["sidecars"][0]["state"], "not_started");
    assert_eq!(status["sidecars"][2]["sidecar"], "tensorproxy");
    assert_eq!(
        status["sidecars"][1],
        json!({"sidecar": 1, "state": "backing_off", "restarts": 1,
            "last_exit": {"code": 137, "signal": "SIGKILL"}})
    );
    monitor.note_event(&Event::SpawnFailed {
        member: Member::Sidecar(1),
        reason: SECRET.into(),
        exit_code: 127,
    });
    assert_eq!(status::status(&monitor.sources)["sidecars"][1]["state"], "ended");
    let page = render(&monitor);
    assert_eq!(value(&page, r#"tractorun_sidecar_exits_total{kind="not_started",sidecar="1"}"#), "1");
    assert!(!page.contains(SECRET));
}

#[tokio::test]
async fn a_counter_never_falls_and_a_second_scrape_counts_nothing_twice() {
    let (monitor, _questions) = started(1);
    monitor.output().count(OutputStream::Stdout, b"a\n");
    let mut exporter = Exporter::new(Kind::Job).unwrap();
    for _ in 0..3 {
        let page = exporter.render(&monitor.sources).unwrap();
        assert_eq!(value(&page, r#"tractorun_output_lines_total{stream="stdout"}"#), "1");
        assert!(!page.contains("nodes_joined"), "only the leader knows who has joined");
    }
}

#[tokio::test]
async fn the_status_says_who_runs_and_why_it_ended_but_quotes_nobody() {
    let (monitor, _questions) = started(0);
    met(&monitor);
    let pid = Pid::current();
    monitor.note_event(&Event::Spawned { member: Member::Worker(0), pid });
    monitor.note_event(&exited(pid, ExitReason::Signal(9)));
    let own = failure(Cause::WorkerNotStarted { reason: SECRET.into() });
    monitor.note_action(&Action::Announce(Announcement::Stopping(own)));
    let verdict = failure(Cause::WorkerKilled { signal: "SIGKILL".into() });
    monitor.note_event(&Event::Told(LeaderMessage::Stop { verdict, manner: StopManner::Orderly }));
    monitor.pulses().heard(1);
    let status = status::status(&monitor.sources);
    assert_eq!(status["phase"], "running");
    assert_eq!((&status["incarnation"], &status["attempt"]), (&json!(4), &json!(0)));
    assert_eq!(
        (&status["node_rank"], &status["host"], &status["job_id"]),
        (&json!(0), &json!("host0"), &json!("job0"))
    );
    assert_eq!(status["workers"][0]["exit"], json!({"code": 137, "signal": "SIGKILL"}));
    assert_eq!((&status["workers"][1]["rank"], &status["workers"][1]["local_rank"]), (&json!(3), &json!(1)));
    assert_eq!(status["workers"][1]["state"], "not_started");
    assert_eq!(status["workers"][1]["started_seconds"], Value::Null);
    assert_eq!((&status["workers"][0]["gpus"], &status["workers"][0]["cpus"]), (&json!([]), &json!("0")));
    assert_eq!(
        (&status["workers"][1]["gpus"], &status["workers"][1]["cpus"]),
        (&json!(["1"]), &json!("8-15"))
    );
    assert_eq!(status["workers"][1]["omp_num_threads"], 1);
    assert_eq!(
        (&status["verdict"]["cause"], &status["verdict"]["rank"]),
        (&json!("worker_killed"), &json!(3))
    );
    assert!(status["nodes"][1]["last_seen_seconds"].as_f64().unwrap() >= 0.0);
    assert!(!status.to_string().contains(SECRET) && !render(&monitor).contains(SECRET));
}

/// Asks for a page; gives its status, headers and body.
async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

async fn serving(monitor: &Monitor) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    monitor.serve(listener);
    address
}

#[tokio::test]
async fn pages_are_served_and_only_these() {
    let (monitor, mut questions) = started(0);
    let address = serving(&monitor).await;
    assert_eq!(ask(address, "GET /targets").await.0, 503);
    met(&monitor);
    let (status, head, body) = ask(address, "GET /metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\ntractorun_nodes 2\n"), "{body}");
    let (_, head, body) = ask(address, "GET /targets").await;
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!([
            {"targets": ["host0:9000"], "labels": {"__meta_tractorun_node_rank": "0"}},
            {"targets": ["host1:9001"], "labels": {"__meta_tractorun_node_rank": "1"}},
        ])
    );
    assert_eq!(ask(address, "GET /status").await.0, 200);
    assert_eq!(ask(address, "HEAD /status").await.2, "");
    assert_eq!(ask(address, "GET /").await.0, 404);
    assert_eq!(ask(address, "POST /metrics").await.0, 405);
    let ((status, _, body), ()) = tokio::join!(ask(address, "GET /healthz"), questions.answer());
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    drop(questions);
    assert_eq!(ask(address, "GET /healthz").await.0, 503);
}

#[tokio::test]
async fn only_the_leader_knows_all_targets() {
    let (monitor, _questions) = started(1);
    met(&monitor);
    assert_eq!(ask(serving(&monitor).await, "GET /targets").await.0, 404);
}

#[tokio::test]
async fn strangers_who_say_nothing_or_too_much_keep_nobody_out() {
    let (monitor, _questions) = started(0);
    let address = serving(&monitor).await;
    let mut strangers = Vec::new();
    for number in 0..100 {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            // May be refused while it is written.
            let _ = stranger.write_all(&vec![b'x'; 100_000]).await;
        }
        strangers.push(stranger);
    }
    assert_eq!(ask(address, "GET /status").await.0, 200);
    // The first of the silent ones was given up.
    assert_eq!(strangers[1].read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_does_not_turn_is_not_healthy() {
    let (monitor, mut questions) = started(0);
    let health = || server::health(&monitor.questions);
    let (healthy, ()) = tokio::join!(health(), questions.answer());
    assert!(healthy);
    assert!(!health().await, "nobody answers");
}
