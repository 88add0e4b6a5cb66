//! Faults on demand: what our client and the official one see of each, and that nothing is applied twice.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Scratch, binaries};
use tractorun_yt::value::string;
use tractorun_yt::{
    Append, Client, ClientConfig, CreateOptions, Error, NodeType, TransactionOptions, YsonValue,
};

struct Bench {
    cluster: Cluster,
    client: Client,
    scratch: Scratch,
}

/// A cluster whose faults can be planned, and a client that does not wait long between its tries.
fn bench() -> Bench {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let mut config = ClientConfig::new(&cluster.proxy(), None).expect("the proxy is an address");
    config.first_pause = Duration::from_millis(5);
    config.longest_pause = Duration::from_millis(50);
    config.retry_budget = Duration::from_secs(10);
    let client = Client::new(config).expect("a client can be made");
    Bench { cluster, client, scratch }
}

impl Bench {
    async fn make(&self, node_type: NodeType, path: &str) {
        self.client.create(node_type, path, CreateOptions::default()).await.expect("a node can be made");
    }

    /// How many requests of this command have come.
    fn requests(&self, command: &str) -> u64 {
        let counters = self.cluster.control("GET", "/counters", &Value::Null);
        let counters = counters["counters"].as_array().expect("there are counters").iter();
        counters
            .filter(|count| count["command"] == command)
            .filter_map(|count| count["requests"].as_u64())
            .sum()
    }
}

fn rows() -> Vec<YsonValue> {
    vec![tractorun_yt::value::map([("a", string("x"))])]
}

/// Every fault after which the client tries again: the command succeeds, and is applied once.
#[tokio::test]
async fn what_passes_by_is_tried_again_and_applied_once() {
    let bench = bench();
    let effects = [
        json!({"answer": {"status": 500}}),
        json!({"answer": {"status": 503}}),
        json!({"answer": {"status": 503, "error": {"code": 1, "message": "Busy"}}}),
        json!({"answer": {"status": 400, "error": {"code": 105, "message": "Unavailable"}}}),
        json!({"reset": {"at": "before_request_body"}}),
        json!({"reset": {"at": "during_request_body"}}),
        json!({"reset": {"at": "after_request_body"}}),
        json!({"reset": {"at": "before_answer"}}),
        json!({"reset": {"at": "before_answer_body"}}),
        json!({"reset": {"at": {"during_answer_body": {"bytes": 3}}}}),
        json!("lose_answer"),
    ];
    for (number, effect) in effects.iter().enumerate() {
        let path = format!("//tmp/once{number}");
        let fault =
            bench.cluster.plan(&json!({"match": {"command": "create"}, "times": 2, "effect": effect}));
        bench.cluster.control("DELETE", "/counters", &Value::Null);
        // Applied twice, the second would answer that the node exists.
        let made = bench.client.create(NodeType::MapNode, &path, CreateOptions::default()).await;
        made.unwrap_or_else(|error| panic!("{effect}: {error}"));
        assert_eq!(bench.cluster.struck(fault), 2, "{effect}");
        assert_eq!(bench.requests("create"), 3, "{effect}");
        bench.cluster.control("DELETE", &format!("/faults/{fault}"), &Value::Null);
    }
}

#[tokio::test]
async fn a_reset_behind_the_answer_is_not_noticed() {
    let bench = bench();
    let fault = bench.cluster.plan(
        &json!({"match": {"command": "exists"}, "times": "always", "effect": {"reset": {"at": "after_answer"}}}),
    );
    for _ in 0..5 {
        assert!(bench.client.exists("//tmp").await.unwrap());
    }
    assert!(bench.cluster.struck(fault) >= 5);
}

#[tokio::test]
async fn table_rows_whose_answer_was_lost_are_there_once() {
    let bench = bench();
    bench.make(NodeType::Table, "//tmp/t").await;
    for (count, effect) in
        [json!("lose_answer"), json!({"reset": {"at": "during_request_body"}})].iter().enumerate()
    {
        let fault = bench.cluster.plan(&json!({"match": {"command": "write_table"}, "effect": effect}));
        bench.client.write_table("//tmp/t", Append::Yes, &rows()).await.unwrap();
        assert_eq!(bench.cluster.struck(fault), 1);
        assert_eq!(bench.client.read_table("//tmp/t").await.unwrap().len(), count + 1, "{effect}");
    }
}

#[tokio::test]
async fn a_read_that_breaks_off_is_read_again() {
    let bench = bench();
    bench.make(NodeType::Table, "//tmp/t").await;
    let many: Vec<_> = (0..50_000).map(|_| rows().remove(0)).collect();
    bench.client.write_table("//tmp/t", Append::Yes, &many).await.unwrap();
    for bytes in [0, 5, 200_000] {
        let effect = json!({"reset": {"at": {"during_answer_body": {"bytes": bytes}}}});
        let fault = bench.cluster.plan(&json!({"match": {"command": "read_table"}, "effect": effect}));
        assert_eq!(bench.client.read_table("//tmp/t").await.unwrap().len(), many.len(), "{bytes}");
        assert_eq!(bench.cluster.struck(fault), 1, "{bytes}");
    }
}

#[tokio::test]
async fn a_delay_is_waited_for() {
    let bench = bench();
    let fault = bench.cluster.plan(
        &json!({"match": {"command": "get", "path": "//tmp"}, "nth": 2, "effect": {"delay": {"ms": 200}}}),
    );
    let start = std::time::Instant::now();
    bench.client.get("//tmp").await.unwrap();
    assert_eq!(bench.cluster.struck(fault), 0, "the second is meant");
    bench.client.get("//tmp").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(bench.cluster.struck(fault), 1);
}

#[tokio::test]
async fn a_proxy_that_is_away_comes_back_at_its_address() {
    let bench = bench();
    assert!(bench.client.exists("//tmp").await.unwrap());
    bench.cluster.control("POST", "/proxy/away", &json!({"ms": 300}));
    assert!(bench.client.exists("//tmp").await.unwrap());
    let path = "//tmp/after";
    bench
        .cluster
        .plan(&json!({"match": {"command": "create", "path": path}, "effect": {"proxy_away": {"ms": 200}}}));
    let again = std::time::Instant::now();
    bench.make(NodeType::MapNode, path).await;
    assert!(again.elapsed() >= Duration::from_millis(200), "{:?}", again.elapsed());
}

/// The code and the text of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result.expect_err("the cluster refuses") {
        Error::Yt(error) => (error.code, error.to_string()),
        other => panic!("an error of the cluster is expected: {other}"),
    }
}

#[tokio::test]
async fn what_stays_is_told() {
    let bench = bench();
    bench.make(NodeType::Table, "//tmp/t").await;
    for (effect, wanted) in [
        (json!("refuse_token"), "wants a token: Invalid credentials: a planned fault refuses the token"),
        (json!({"over_quota": {"account": "mine"}}), "Account \"mine\" is over disk space limit"),
        (json!({"answer": {"error": {"code": 901, "message": "Access denied"}}}), "Access denied"),
    ] {
        bench.cluster.plan(&json!({"match": {"command": "create"}, "effect": effect}));
        let made = bench.client.create(NodeType::MapNode, "//tmp/x", CreateOptions::default()).await;
        let text = made.expect_err("the cluster refuses").to_string();
        assert!(text.contains(wanted), "{text}");
    }
    assert!(!bench.client.exists("//tmp/x").await.unwrap());
    bench.cluster.control("DELETE", "/faults", &Value::Null);
    bench.cluster.plan(&json!({"times": "always", "effect": {"over_quota": {}}}));
    assert!(bench.client.exists("//tmp/t").await.unwrap(), "reading needs no quota");
    let made = bench.client.create(NodeType::MapNode, "//tmp/x", CreateOptions::default()).await;
    assert_eq!(refusal(made).0, 902);
}

#[tokio::test]
async fn transactions_expire_when_told_to() {
    let bench = bench();
    let transaction = bench.client.start_transaction(TransactionOptions::default()).await.unwrap();
    bench.cluster.plan(&json!({"match": {"command": "create"}, "effect": "expire_transaction"}));
    let made = transaction.client().create(NodeType::MapNode, "//tmp/x", CreateOptions::default()).await;
    let Err(Error::Yt(error)) = made else { panic!("{made:?}") };
    assert!(error.contains(11000), "{error}");
    let transaction = bench.client.start_transaction(TransactionOptions::default()).await.unwrap();
    let id = json!({"transaction_id": transaction.id().as_str()});
    bench.cluster.control("POST", "/transactions/expire", &id);
    assert!(transaction.commit().await.is_err());
    let again = bench.cluster.try_control("POST", "/transactions/expire", &id);
    assert!(
        (again.status, String::from_utf8_lossy(&again.body).contains("No such transaction")) == (400, true)
    );
}

#[tokio::test]
async fn another_holds_the_lock_until_it_is_released() {
    let bench = bench();
    bench.make(NodeType::Table, "//tmp/t").await;
    let held = bench.cluster.control("POST", "/locks", &json!({"path": "//tmp/t"}));
    let (code, text) = refusal(bench.client.write_table("//tmp/t", Append::Yes, &rows()).await);
    assert!(code == 402 || text.contains("lock is taken by concurrent transaction"), "{code} {text}");
    let holder = held["transaction_id"].as_str().expect("the holder is named");
    assert!(text.contains(holder), "{text}");
    bench.cluster.control("DELETE", &format!("/locks/{holder}"), &Value::Null);
    bench.client.write_table("//tmp/t", Append::Yes, &rows()).await.unwrap();
    bench.cluster.plan(
        &json!({"match": {"command": "set", "path": "//tmp/t"}, "effect": {"hold_lock": {"seconds": 60}}}),
    );
    assert_eq!(refusal(bench.client.set("//tmp/t/@note", &string("x")).await).0, 402);
}

/// A job waits for a file, so that it ends after what is done to it and not before.
#[tokio::test]
async fn jobs_that_are_lost_or_preempted_run_again() {
    let bench = bench();
    let go = bench.scratch.path("go");
    let command = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let spec = json!({"tasks": {"task": {"job_count": 1, "command": command}}, "max_failed_job_count": 1});
    let id = bench.client.start_operation("vanilla", &tractorun_yt::value::from_json(&spec)).await.unwrap();
    let running = async |but: &[String]| loop {
        let listed = bench.cluster.read("list_jobs", &json!({ "operation_id": id, "state": "running" }));
        let job = listed["jobs"][0]["id"].as_str().map(str::to_owned);
        if let Some(job) = job.filter(|job| !but.contains(job)) {
            return job;
        }
    };
    let first = running(&[]).await;
    bench.cluster.control("POST", "/jobs/preempt", &json!({"job_id": first}));
    let second = running(std::slice::from_ref(&first)).await;
    let lost = bench.cluster.control("POST", "/nodes/lose", &Value::Null);
    assert_eq!(lost["jobs"], json!([second]));
    running(&[first.clone(), second.clone()]).await;
    std::fs::write(&go, "").unwrap();
    bench.cluster.wait_until_no_operation_runs();
    assert_eq!(bench.cluster.the_operation()["state"], "completed");
    let reason = |job: &str| {
        bench.cluster.read("get_job", &json!({ "operation_id": id, "job_id": job }))["abort_reason"].clone()
    };
    assert_eq!((reason(&first), reason(&second)), (json!("preemption"), json!("node_offline")));
    let gone = bench.cluster.try_control("POST", "/jobs/preempt", &json!({"job_id": first}));
    assert_eq!(gone.status, 400);
}

#[tokio::test]
async fn callers_and_bytes_are_counted() {
    let bench = bench();
    bench.cluster.control("DELETE", "/counters", &Value::Null);
    bench.make(NodeType::Table, "//tmp/t").await;
    let large = vec![tractorun_yt::value::map([("a", string("x".repeat(100_000)))])];
    bench.client.write_table("//tmp/t", Append::Yes, &large).await.unwrap();
    assert_eq!(bench.client.read_table("//tmp/t").await.unwrap().len(), 1);
    let counters = bench.cluster.control("GET", "/counters", &Value::Null);
    let of = |command: &str| {
        let mut counters = counters["counters"].as_array().expect("there are counters").iter();
        counters
            .find(|count| count["command"] == command)
            .unwrap_or_else(|| panic!("{command}: {counters:?}"))
            .clone()
    };
    let (write, read) = (of("write_table"), of("read_table"));
    assert_eq!((&write["user"], &write["requests"]), (&json!("root"), &json!(1)));
    assert!(write["user_agent"].as_str().is_some_and(|name| name.starts_with("tractorun/")), "{write}");
    for (large, small) in [(&write["bytes_in"], &write["bytes_out"]), (&read["bytes_out"], &read["bytes_in"])]
    {
        let (large, small) = (large.as_u64().unwrap_or(0), small.as_u64().unwrap_or(0));
        assert!((100_000..110_000).contains(&large) && (1..4000).contains(&small), "{large} {small}");
    }
}

#[test]
fn the_control_endpoint_says_what_is_wrong() {
    let bench = bench();
    for (method, path, body, status, wanted) in [
        ("GET", "/nowhere", Value::Null, 404, "POST /faults"),
        ("POST", "/faults", json!({"effect": "explode"}), 400, "unknown variant `explode`"),
        ("POST", "/faults", json!({"efect": "lose_answer"}), 400, "unknown field `efect`"),
        ("DELETE", "/faults/7", Value::Null, 404, "there is no fault 7"),
        ("POST", "/locks", json!({"path": "//tmp/nope"}), 400, "has no child with key"),
    ] {
        let answer = bench.cluster.try_control(method, path, &body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            answer.status == status && text.contains(wanted),
            "{method} {path}: {} {text}",
            answer.status
        );
    }
}

/// The official client's own retries, with what it needs to try again soon.
#[test]
fn the_official_client_tries_again_too() {
    let bench = bench();
    bench.cluster.plan(&json!({"match": {"command": "create"}, "effect": "lose_answer"}));
    bench.cluster.plan(&json!({"match": {"command": "set"}, "effect": {"answer": {"status": 503}}}));
    bench.cluster.plan(
        &json!({"match": {"command": "write_table"}, "effect": {"reset": {"at": "after_request_body"}}}),
    );
    bench.cluster.plan(&json!({"match": {"command": "remove"}, "effect": {"over_quota": {}}}));
    let script = r#"
import yt.wrapper as yt
backoff = {"policy": "constant_time", "constant_time": 10}
yt.config["proxy"]["retries"]["backoff"] = backoff
yt.config["write_retries"]["backoff"] = backoff
yt.config["proxy"]["retries"]["count"] = 3
yt.create("table", "//tmp/t")
yt.set("//tmp/t/@note", "x")
assert yt.get("//tmp/t/@note") == "x"
yt.write_table("//tmp/t", [{"a": 1}])
assert list(yt.read_table("//tmp/t")) == [{"a": 1}]
try:
    yt.remove("//tmp/t")
    raise AssertionError("removed")
except yt.YtResponseError as error:
    assert error.is_account_limit_exceeded() if hasattr(error, "is_account_limit_exceeded") else error.contains_code(902)
yt.remove("//tmp/t")
print("all checks passed")
"#;
    let mut command = Command::new(binaries::python());
    command
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("YT_PROXY", bench.cluster.proxy());
    Running::start(&mut command).wait().assert_code(0).assert_stdout("all checks passed");
    let planned = bench.cluster.control("GET", "/faults", &Value::Null);
    for fault in planned["faults"].as_array().expect("there are faults") {
        assert_eq!(fault["struck"], 1, "{fault}");
    }
}
