//! A minicluster with `--data` is killed again and again under load: what it has answered is there afterwards, and
//! nothing is there by half.
//!
//! `TRACTORUN_CRASH_SECONDS` (default 12) says for how long, `TRACTORUN_CRASH_SEED` repeats the choices of a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::kept::{KeptCluster, Reply};
use tractorun_tests::scratch::Scratch;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// What one client knows of its own folder, which nobody else writes to.
#[derive(Default)]
struct Model {
    /// Every change has a number, which is the value it writes.
    next: u64,
    /// Values by key that were answered.
    values: std::collections::BTreeMap<u64, u64>,
    /// A change whose answer never came: the key, and the value that it has if it was made.
    open: Option<(u64, Option<u64>)>,
    /// Rows that were answered, and one that may be there.
    rows: Vec<u64>,
    open_row: Option<u64>,
    /// The content of the file that was answered, and one that may be there instead.
    file: Option<u64>,
    open_file: Option<u64>,
    /// Keys that one transaction writes together, and what it writes.
    pair: Option<u64>,
    open_pair: Option<u64>,
    /// One that was started and not ended: it outlives the server.
    transaction: Option<Value>,
}

fn content(number: u64) -> String {
    format!("{number} ").repeat(500 + usize::try_from(number % 1000).unwrap_or_default())
}

/// Changes things until the server is gone.
fn load(cluster: &KeptCluster, home: &str, model: &mut Model, dice: &mut Dice, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        model.next += 1;
        let number = model.next;
        let done = match dice.roll(8) {
            0..=2 => {
                let key = dice.roll(20);
                model.open = Some((key, Some(number)));
                let done = cluster.try_set(&format!("{home}/k{key}"), &json!(number));
                if done == Reply::Yes {
                    model.values.insert(key, number);
                    model.open = None;
                }
                done
            }
            3 => {
                let key = dice.roll(20);
                model.open = Some((key, None));
                let done = cluster.try_command(
                    "remove",
                    &json!({"path": format!("{home}/k{key}"), "force": true}),
                    b"",
                );
                if done == Reply::Yes {
                    model.values.remove(&key);
                    model.open = None;
                }
                done
            }
            4 | 5 => {
                model.open_row = Some(number);
                let path = format!("<append=%true>{home}/table");
                let done = cluster.try_command(
                    "write_table",
                    &json!({"path": path}),
                    format!("{{\"n\":{number}}}\n").as_bytes(),
                );
                if done == Reply::Yes {
                    model.rows.push(number);
                    model.open_row = None;
                }
                done
            }
            6 => {
                model.open_file = Some(number);
                let done = cluster.try_command(
                    "write_file",
                    &json!({"path": format!("{home}/file")}),
                    content(number).as_bytes(),
                );
                if done == Reply::Yes {
                    model.file = Some(number);
                    model.open_file = None;
                }
                done
            }
            _ => {
                model.open_pair = Some(number);
                let done = write_pair(cluster, home, model, number);
                if done == Reply::Yes {
                    model.pair = Some(number);
                    model.open_pair = None;
                }
                done
            }
        };
        if done == Reply::None {
            return;
        }
    }
}

/// Two values in one transaction.
fn write_pair(cluster: &KeptCluster, home: &str, model: &mut Model, number: u64) -> Reply {
    let Some(started) = cluster.try_answer("start_transaction", &json!({"timeout": 60_000}), b"") else {
        return Reply::None;
    };
    let transaction = &started["transaction_id"];
    model.transaction = Some(transaction.clone());
    for key in ["left", "right"] {
        let parameters = json!({"path": format!("{home}/@{key}"), "transaction_id": transaction});
        if cluster.try_command("set", &parameters, number.to_string().as_bytes()) == Reply::None {
            return Reply::None;
        }
    }
    let done = cluster.try_command("commit_transaction", &json!({"transaction_id": transaction}), b"");
    if done == Reply::Yes {
        model.transaction = None;
    }
    done
}

/// Compares what is there with what was answered, and takes over what is.
fn check(cluster: &KeptCluster, home: &str, model: &mut Model) {
    let found = cluster.answer("get", &json!({"path": home, "attributes": ["left", "right"]}));
    let found = &found["value"]["$value"];
    let open = model.open.take();
    for key in 0..20 {
        let there = found.get(format!("k{key}")).and_then(Value::as_u64);
        let known = model.values.get(&key).copied();
        let in_doubt = open.filter(|(open_key, _)| *open_key == key).map(|(_, value)| value);
        assert!(
            there == known || in_doubt == Some(there),
            "{home}/k{key}: {there:?}, not {known:?} or {in_doubt:?}"
        );
        match there {
            Some(value) => model.values.insert(key, value),
            None => model.values.remove(&key),
        };
    }
    let rows = cluster.rows(&format!("{home}/table"));
    let rows: Vec<u64> = rows.iter().map(|row| row["n"].as_u64().expect("rows have numbers")).collect();
    if rows.len() > model.rows.len() {
        model.rows.extend(model.open_row);
    }
    model.open_row = None;
    assert_eq!(rows, model.rows, "{home}/table");

    let text = String::from_utf8(cluster.bytes("read_file", &json!({"path": format!("{home}/file")})))
        .expect("text");
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    assert!(
        number == model.file || (number.is_some() && number == model.open_file),
        "{home}/file: {number:?}"
    );
    assert_eq!(text, number.map_or(String::new(), content), "{home}/file is whole");
    (model.file, model.open_file) = (number, None);

    let of = |key: &str| {
        let there = cluster.answer("get", &json!({"path": format!("{home}/@{key}")}));
        there["value"].as_u64()
    };
    let (left, right) = (of("left"), of("right"));
    assert_eq!(left, right, "{home}: a transaction is there by half");
    assert!(left == model.pair || left == model.open_pair, "{home}: {left:?}, not {:?}", model.pair);
    (model.pair, model.open_pair) = (left, None);
    if let Some(transaction) = model.transaction.take() {
        // Its commit may have been made; else it is still there, with its locks.
        cluster.answer("abort_transaction", &json!({"transaction_id": transaction}));
    }
}

#[test]
fn nothing_that_was_answered_is_lost_by_kill_9() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = setting("TRACTORUN_CRASH_SECONDS").unwrap_or(12);
    let seed = setting("TRACTORUN_CRASH_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() << 20 | u64::from(now.subsec_micros())
    });
    println!("repeat with TRACTORUN_CRASH_SEED={seed}");
    let scratch = Scratch::new();
    let clients = 4;
    let mut dice = Dice(seed | 1);
    let mut models: Vec<Model> = (0..clients).map(|_| Model::default()).collect();
    let homes: Vec<String> = (0..clients).map(|client| format!("//tmp/client{client}")).collect();
    // Small journals, so that snapshots are made and killed, too.
    let options = ["--snapshot-after", "20000"];
    let mut cluster = KeptCluster::start(&scratch, &options);
    for (home, model) in homes.iter().zip(&mut models) {
        cluster.answer("create", &json!({"path": home, "type": "map_node"}));
        cluster.answer("create", &json!({"path": format!("{home}/table"), "type": "table"}));
        cluster.answer("create", &json!({"path": format!("{home}/file"), "type": "file"}));
        for key in ["left", "right"] {
            assert_eq!(cluster.try_set(&format!("{home}/@{key}"), &json!(0)), Reply::Yes);
        }
        model.pair = Some(0);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut changes) = (0, 0);
    while Instant::now() < end {
        let stop = AtomicBool::new(false);
        let life = Duration::from_millis(20 + dice.roll(400));
        let seeds: Vec<u64> = models.iter().map(|_| dice.roll(1 << 30)).collect();
        std::thread::scope(|scope| {
            for ((home, model), seed) in homes.iter().zip(&mut models).zip(seeds) {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || load(cluster, home, model, &mut Dice(seed | 1), stop));
            }
            // Not a wait for something: when the kill comes is the random choice of this test.
            std::thread::sleep(life);
            cluster.signal(Signal::SIGKILL);
            stop.store(true, Ordering::Relaxed);
        });
        cluster = cluster.restart(&scratch, &options);
        for (home, model) in homes.iter().zip(&mut models) {
            check(&cluster, home, model);
        }
        rounds += 1;
        changes = models.iter().map(|model| model.next).sum();
    }
    println!("{rounds} kills, {changes} changes");
    assert!(rounds >= 3 && changes >= 100, "{rounds} kills, {changes} changes: too slow to tell anything");
}

#[test]
fn transactions_operations_and_stderr_outlive_the_server() {
    let scratch = Scratch::new();
    let cluster = KeptCluster::start(&scratch, &[]);
    let started =
        cluster.answer("start_transaction", &json!({"timeout": 60_000, "attributes": {"title": "kept"}}));
    let transaction = &started["transaction_id"];
    let lock = json!({"path": "//tmp", "mode": "snapshot", "transaction_id": transaction});
    let locked = cluster.answer("lock", &lock);
    let spec = |command: &str| json!({"tasks": {"task": {"job_count": 1, "command": command}}, "secure_vault": {"key": "hunter2"}});
    let start = |command: &str| {
        let parameters = json!({"operation_type": "vanilla", "spec": spec(command)});
        cluster.answer("start_operation", &parameters)["operation_id"].clone()
    };
    let finished = start("echo said to stderr >&2");
    let running = start("echo started > started; exec sleep 86400.5");
    cluster.wait_for_state(&finished, "completed");
    cluster.wait_for_state(&running, "running");
    cluster.signal(Signal::SIGKILL);
    let cluster = cluster.restart(&scratch, &[]);

    let title = cluster.answer("get", &json!({"path": format!("#{}/@title", transaction.as_str().unwrap())}));
    assert_eq!(title["value"], "kept");
    let state =
        cluster.answer("get", &json!({"path": format!("#{}/@state", locked["lock_id"].as_str().unwrap())}));
    assert_eq!(state["value"], "acquired");
    cluster.answer("commit_transaction", &json!({"transaction_id": transaction}));

    let operation = cluster.answer("get_operation", &json!({"operation_id": finished}));
    assert_eq!(operation["state"], "completed");
    let jobs = cluster.answer("list_jobs", &json!({"operation_id": finished}));
    let parameters = json!({"operation_id": finished, "job_id": jobs["jobs"][0]["id"]});
    assert_eq!(cluster.bytes("get_job_stderr", &parameters), b"said to stderr\n");
    let operation = cluster.answer("get_operation", &json!({"operation_id": running}));
    assert_eq!(operation["state"], "aborted");
    assert!(operation.to_string().contains("because the server was restarted"), "{operation}");
    for entry in std::fs::read_dir(scratch.path("data")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "a secret is in {}", path.display());
    }
}

#[test]
fn a_second_server_is_refused_by_name_of_the_first() {
    let scratch = Scratch::new();
    let cluster = KeptCluster::start(&scratch, &[]);
    let second = KeptCluster::command(&scratch, &[]).output().unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(error.contains(&format!("is in use by process {}", cluster.pid())), "{error}");
}
