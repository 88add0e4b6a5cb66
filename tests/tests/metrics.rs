//! Metrics and status of running nodes: every page of every node, and a real Prometheus that finds the nodes by
//! itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::process::{DEADLINE, POLL, Running, run};
use tractorun_tests::{Cluster, Place, Scratch, binaries};

/// What nothing may show: a variable's value, and a word of the command.
const SECRETS: [&str; 2] = ["a-secret-value", "a-secret-argument"];

/// Status and body of a page.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    let mut answer = String::new();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer))
        .unwrap_or_else(|error| panic!("{address}{path}: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
}

fn get_json(address: &str, path: &str) -> Value {
    let (status, body) = get(address, path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
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

/// A port of this machine that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a listener has an address")
}

/// What node 0 of a local run has logged so far.
fn log_of_leader(scratch: &Scratch) -> Option<String> {
    fn find(folder: &Path) -> Option<PathBuf> {
        let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        let log = folder.join("node-0/stderr.log");
        if log.is_file() { Some(log) } else { entries.iter().find_map(|entry| find(entry)) }
    }
    fs::read_to_string(find(&scratch.path(""))?).ok()
}

/// Where the leader says that it lists all nodes.
fn leader_of(scratch: &Scratch) -> String {
    wait_until("address of the metrics in the leader's log", || {
        let log = log_of_leader(scratch)?;
        let (_, rest) = log.split_once("http://")?;
        let (address, _) = rest.split_once("/targets")?;
        (!address.contains('\n')).then(|| address.to_owned())
    })
}

/// A local run of 2 nodes with 2 workers each, which ends when the file `go` is there.
fn start_run(place: &Place) -> Running {
    let script = format!(
        r#"echo "up $RANK" > "$SCRATCH/up.$RANK"; echo line; : {}
           until [ -e "$SCRATCH/go" ]; do sleep 0.05; done"#,
        SECRETS[1]
    );
    let launcher = place.launcher().mesh((2, 2)).worker_env("PASSWORD", SECRETS[0]);
    let running = launcher.bash(&script).start();
    for rank in 0..4 {
        place.scratch.wait_for_file(&format!("up.{rank}"));
    }
    running
}

fn end_run(place: &Place, running: Running) {
    place.scratch.file("go", "\n");
    running.wait().assert_code(0);
    place.assert_nothing_left();
}

/// Addresses of all nodes, by rank, as the leader tells Prometheus.
fn targets(leader: &str) -> Vec<String> {
    let groups = get_json(leader, "/targets");
    let groups = groups.as_array().expect("a list of groups");
    groups.iter().map(|group| group["targets"][0].as_str().expect("an address").to_owned()).collect()
}

fn series<'a>(page: &'a str, name: &str) -> &'a str {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in:\n{page}"))
}

#[test]
fn every_node_shows_its_own_workers_and_the_leader_shows_all_nodes() {
    let place = Place::local();
    let running = start_run(&place);
    let leader = leader_of(&place.scratch);
    let nodes = targets(&leader);
    assert_eq!((nodes.len(), &nodes[0]), (2, &leader));
    let mut pages = get(&leader, "/targets").1;
    for (node_rank, node) in nodes.iter().enumerate() {
        assert_eq!(get(node, "/healthz"), (200, "ok\n".to_owned()));
        let status = get_json(node, "/status");
        assert_eq!(status["node_rank"], node_rank);
        assert_eq!((&status["phase"], &status["incarnation"]), (&json!("running"), &json!(0)));
        let ranks: Vec<_> = status["workers"].as_array().expect("workers").iter().collect();
        assert_eq!(ranks.len(), 2);
        for (local_rank, worker) in ranks.iter().enumerate() {
            assert_eq!(worker["rank"], node_rank * 2 + local_rank);
            assert_eq!((&worker["state"], &worker["exit"]), (&json!("running"), &Value::Null));
        }
        assert_eq!(status["nodes"].as_array().map(Vec::len), (node_rank == 0).then_some(2), "{status}");

        let (code, page) = get(node, "/metrics");
        assert_eq!(code, 200, "{page}");
        assert_eq!(series(&page, r#"tractorun_workers{state="running"}"#), "2");
        let memory = format!(r#"tractorun_worker_resident_memory_bytes{{rank="{}"}}"#, node_rank * 2);
        assert!(series(&page, &memory).parse::<u64>().expect("bytes") > 100_000);
        assert!(series(&page, "tractorun_cypress_requests_total").parse::<u64>().expect("a number") > 0);
        wait_until("lines of both workers in the metrics", || {
            let page = get(node, "/metrics").1;
            (series(&page, r#"tractorun_output_lines_total{stream="stdout"}"#) == "2").then_some(())
        });
        check_by_promtool(&page);
        pages += &page;
        pages += &status.to_string();
    }
    assert_eq!(series(&get(&leader, "/metrics").1, "tractorun_nodes_joined"), "2");
    assert_eq!(get(&nodes[1], "/targets").0, 404);
    for secret in SECRETS {
        assert!(!pages.contains(secret), "{secret} is shown:\n{pages}");
    }
    end_run(&place, running);
}

#[test]
fn what_becomes_of_the_lines_of_log_tables_is_shown() {
    let place = Place::local();
    let cluster = Cluster::start_with_control(&place.scratch);
    let fault = json!({"match": {"command": "write_table"}, "times": "always", "effect": {"over_quota": {}}});
    let fault = cluster.plan(&fault);
    let script = r#"seq 1000; echo oops >&2; until [ -e "$SCRATCH/go" ]; do sleep 0.05; done"#;
    let launcher = place.launcher().mesh((1, 2)).env("YT_PROXY", cluster.proxy());
    let running = launcher
        .args(["--yt-path", "//tmp/logs", "--operation-log-mode", "realtime_yt_table"])
        .bash(script)
        .start();
    let node = leader_of(&place.scratch);
    let number = |page: &str, name: &str| -> f64 {
        series(page, &format!("tractorun_log_{name}")).parse().expect("a number")
    };
    let page = wait_until("batches that were refused, twice for both workers", || {
        let page = get(&node, "/metrics").1;
        let refused = page.contains("tractorun_log_retries_total") && number(&page, "retries_total") >= 4.0;
        refused.then_some(page)
    });
    assert!(number(&page, r#"waiting_bytes{place="memory"}"#) > 2.0 * 3000.0);
    assert!(number(&page, "oldest_waiting_age_seconds") > 0.0);
    for none in ["rows_total", "commits_total", "last_commit_timestamp_seconds", "dropped_lines_total"] {
        assert_eq!(number(&page, none).to_string(), "0", "{none}");
    }

    cluster.control("DELETE", &format!("/faults/{fault}"), &Value::Null);
    let page = wait_until("all rows", || {
        let page = get(&node, "/metrics").1;
        (number(&page, "rows_total") >= 2002.0).then_some(page)
    });
    // `seq 1000` is 3893 bytes long, `oops` 5.
    for (name, expected) in [
        ("rows_total", 2002.0),
        ("bytes_total", 2.0 * 3898.0),
        (r#"waiting_bytes{place="memory"}"#, 0.0),
        (r#"waiting_bytes{place="spool"}"#, 0.0),
        ("oldest_waiting_age_seconds", 0.0),
        ("dropped_bytes_total", 0.0),
    ] {
        assert_eq!(number(&page, name).to_string(), expected.to_string(), "{name}");
    }
    assert!(number(&page, "commits_total") >= 1.0 && number(&page, "requests_total") > 10.0);
    assert!(number(&page, "last_commit_duration_seconds") > 0.0);
    assert!(number(&page, "last_commit_timestamp_seconds") > 1.7e9);
    check_by_promtool(&page);
    let logs = &get_json(&node, "/status")["logs"];
    assert_eq!((&logs["rows"], &logs["waiting_memory_bytes"]), (&json!(2002), &json!(0)), "{logs}");
    place.scratch.file("go", "\n");
    running.wait().assert_code(0);
    cluster.stop();
    place.assert_nothing_left();
}

/// Prometheus' own opinion of a page.
fn check_by_promtool(page: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut promtool = Running::start_with_stdin(&mut command);
    promtool.stdin().write_all(page.as_bytes()).expect("promtool reads");
    let finished = promtool.wait();
    finished.assert_code(0);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""), "{page}");
}

#[test]
fn prometheus_finds_all_nodes_through_the_leader() {
    let place = Place::local();
    let running = start_run(&place);
    let leader = leader_of(&place.scratch);
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - job_name: tractorun\n  \
           http_sd_configs: [{{url: 'http://{leader}/targets', refresh_interval: 1s}}]\n"
    );
    let config = place.scratch.file("prometheus.yml", config);
    let address = free_address();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", place.scratch.text("prometheus")))
        .arg(format!("--web.listen-address={address}"));
    let prometheus = Running::start(&mut command);
    prometheus.wait_for("Server is ready to receive web requests");
    let found = wait_until("two nodes that are up", || {
        let answer =
            get_json(&address.to_string(), "/api/v1/query?query=up%7Bjob%3D%22tractorun%22%7D%3D%3D1");
        let nodes = answer["data"]["result"].as_array()?.clone();
        (nodes.len() == 2).then_some(nodes)
    });
    let mut instances: Vec<_> = found.iter().filter_map(|node| node["metric"]["instance"].as_str()).collect();
    let mut nodes = targets(&leader);
    instances.sort_unstable();
    nodes.sort_unstable();
    assert_eq!(instances, nodes);
    let answer = get_json(
        &address.to_string(),
        "/api/v1/query?query=sum(tractorun_workers%7Bstate%3D%22running%22%7D)",
    );
    assert_eq!(answer["data"]["result"][0]["value"][1], "4", "{answer}");
    prometheus.signal(Signal::SIGTERM);
    prometheus.wait().assert_code(0);
    end_run(&place, running);
}

#[test]
fn a_plain_init_serves_metrics_where_it_is_told_to() {
    let address = free_address().to_string();
    let mut command = Command::new(binaries::init());
    command
        .env_remove("TRACTORUN_JOB_SPEC")
        .env("TRACTORUN_METRICS", &address)
        .args(["--", "sh", "-c", "echo ready; echo \"${TRACTORUN_METRICS-none of it}\"; read line; exit 3"])
        .stdin(Stdio::piped());
    let mut init = Running::start_with_stdin(&mut command);
    init.wait_for("ready");
    // An init inside the program must not ask for the same port.
    init.wait_for("none of it");
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get_json(&address, "/status")["workers"][0]["state"], "running");
    let page = get(&address, "/metrics").1;
    assert_eq!(series(&page, r#"tractorun_workers{state="running"}"#), "1");
    check_by_promtool(&page);
    assert_eq!(get(&address, "/targets").0, 404);

    // Somebody else has the port.
    let mut second = Command::new(binaries::init());
    let second = run(second.env_remove("TRACTORUN_JOB_SPEC").args(["--metrics", &address, "--", "true"]));
    second.assert_code(64);
    assert!(second.stderr.contains(&format!("cannot serve metrics on {address}: ")), "{}", second.show());

    init.stdin().write_all(b"\n").expect("the program reads");
    init.wait().assert_code(3);
}
