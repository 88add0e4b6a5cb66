//! Log tables under random mixes of what goes wrong on a cluster: whatever the seed, every byte is there once.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tractorun_tests::log_tables::{LogTable, writer};
use tractorun_tests::process::DEADLINE;
use tractorun_tests::{Cluster, Launcher, Scratch};

const YT_PATH: &str = "//tmp/fuzz";

/// For how long seeds are tried: `TRACTORUN_FUZZ_SECONDS`.
const SECONDS: &str = "TRACTORUN_FUZZ_SECONDS";

/// The seed that is tried first, to see again what one has shown: `TRACTORUN_FUZZ_SEED`.
const SEED: &str = "TRACTORUN_FUZZ_SEED";

/// A random fault of one of the commands that shipping consists of.
fn fault(chance: &mut StdRng) -> Value {
    let commands = [
        "start_transaction",
        "write_table",
        "commit_transaction",
        "abort_transaction",
        "execute_batch",
        "get",
    ];
    let command = *commands.choose(chance).expect("there are some");
    let mut effects = vec![
        json!({"answer": {"status": 503}}),
        json!({"answer": {"status": 400, "error": {"code": 105, "message": "Unavailable"}}}),
        json!({"delay": {"ms": chance.random_range(1..800)}}),
        json!("lose_answer"),
        json!({"proxy_away": {"ms": chance.random_range(1..2500)}}),
        json!({"reset": {"at": "before_request_body"}}),
        json!({"reset": {"at": "after_request_body"}}),
        json!({"reset": {"at": "before_answer"}}),
        json!({"reset": {"at": "before_answer_body"}}),
        json!({"reset": {"at": {"during_answer_body": {"bytes": chance.random_range(0..40)}}}}),
        json!({"reset": {"at": "after_answer"}}),
    ];
    if command == "write_table" {
        let seconds = chance.random_range(1..3);
        effects.extend([
            json!({"over_quota": {}}),
            json!({"reset": {"at": "during_request_body"}}),
            json!({"hold_lock": {"mode": "exclusive", "seconds": seconds}}),
        ]);
    }
    if matches!(command, "write_table" | "commit_transaction" | "abort_transaction") {
        effects.push(json!("expire_transaction"));
    }
    let effect = effects.choose(chance).expect("there are some");
    let (nth, times) = (chance.random_range(1..12), chance.random_range(1..4));
    json!({"match": {"command": command}, "nth": nth, "times": times, "effect": effect})
}

fn range(chance: &mut StdRng, range: Range<u32>) -> String {
    chance.random_range(range).to_string()
}

/// One run with everything chosen by the seed.
#[allow(clippy::print_stderr, reason = "what a failing seed was is part of the failure")]
fn try_seed(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let (nodes, workers) = (chance.random_range(1..3), chance.random_range(1..4));
    let (pieces, largest) = (range(&mut chance, 20..250), 1 + (1 << chance.random_range(1..19)));
    let write = writer(&scratch, &format!("{pieces} {largest} 0.00{}", chance.random_range(0..10)));
    let settings = [
        ("--logs.memory", format!("{}KiB", range(&mut chance, 1024..6000))),
        ("--logs.spool", format!("{}KiB", range(&mut chance, 0..8000))),
        ("--logs.batch-age", format!("{}ms", range(&mut chance, 5..400))),
        ("--logs.overflow", "block".to_owned()),
        ("--logs.drain-timeout", "120s".to_owned()),
    ];
    eprintln!("seed {seed}: {nodes} x {workers}, {write}, {settings:?}");
    let running = Launcher::local(&scratch)
        .env("YT_PROXY", cluster.proxy())
        .args(["--yt-path", YT_PATH, "--operation-log-mode", "realtime_yt_table"])
        .args(settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]))
        .mesh((nodes, workers))
        .bash(&format!(
            r#"echo up > "$SCRATCH/up.$RANK"; until [ -e "$SCRATCH/go" ]; do sleep 0.01; done; {write}"#
        ))
        .start();
    for rank in 0..nodes * workers {
        scratch.wait_for_file(&format!("up.{rank}"));
    }
    // From here on: the nodes' meeting is not what is tried.
    let faults: Vec<Value> = (0..chance.random_range(3..14)).map(|_| fault(&mut chance)).collect();
    for fault in &faults {
        eprintln!("  {fault}");
        cluster.plan(fault);
    }
    scratch.file("go", "\n");
    running.wait_up_to(2 * DEADLINE).assert_code(0);
    cluster.control("DELETE", "/faults", &Value::Null);
    for rank in 0..nodes * workers {
        let table = LogTable::read(&cluster, &format!("{YT_PATH}/logs/0/workers/{rank}"));
        table.assert_truth(&scratch, &rank.to_string());
    }
}

#[test]
fn whatever_goes_wrong_every_byte_is_there_once() {
    try_seed(1);
}

#[test]
#[ignore = "takes long: make soak"]
fn many_seeds() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let limit = Duration::from_secs(number(SECONDS).unwrap_or(300));
    let start = Instant::now();
    let mut seed = number(SEED).unwrap_or_else(rand::random);
    while start.elapsed() < limit {
        try_seed(seed);
        seed = seed.wrapping_add(1);
    }
}
