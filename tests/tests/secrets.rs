//! A token reaches those who need it and is written nowhere.

use std::fs;
use std::path::Path;

use serde_json::json;
use tractorun_tests::{Cluster, Launcher, Scratch, run};

/// Made up, and easy to find.
const TOKEN: &str = "t0ken-NEVER-to-be-SEEN-4711";

/// Every file below the folder that holds the token.
fn files_with_token(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(files_with_token(&path));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// The search itself must find what is there.
#[test]
fn a_written_token_would_be_found() {
    let scratch = Scratch::new();
    let file = scratch.file("deep/er/file", format!("before{TOKEN}after"));
    assert_eq!(files_with_token(&scratch.path("")), [file.display().to_string()]);
}

fn sha256(text: &str) -> String {
    let finished =
        run(std::process::Command::new("bash").args(["-c", r#"printf %s "$1" | sha256sum"#, "bash", text]));
    finished.stdout
}

/// The worker proves that it has the token without naming it, then waits until the test has looked around.
const WORKER: &str = r#"env | grep YT_SECURE_VAULT > "$SCRATCH/vault"
    printf %s "$YT_TOKEN" | sha256sum > "$SCRATCH/hash"
    until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; exit 5"#;

#[test]
fn token_of_a_submitted_run_is_written_nowhere() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, TOKEN);
    let running = Launcher::submit(&scratch, &cluster)
        .env("YT_TOKEN", TOKEN)
        .env("TRACTORUN_LOG_LEVEL", "trace")
        .args(["--proxy-stderr-mode", "primary"])
        .bash(WORKER)
        .start();
    assert_eq!(scratch.wait_for_file("hash"), sha256(TOKEN));
    assert_eq!(fs::read_to_string(scratch.path("vault")).expect("written before"), "");
    assert_eq!(files_with_token(&scratch.path("")), Vec::<String>::new(), "while it runs");

    scratch.file("go", "\n");
    let finished = running.wait();
    finished.assert_code(5);
    assert!(!finished.output().contains(TOKEN), "the launcher wrote the token");
    assert_eq!(files_with_token(&scratch.path("")), Vec::<String>::new(), "after the run");

    let operation = cluster.the_operation();
    assert!(operation.to_string().contains("TRACTORUN_JOB_SPEC"), "the answer holds the spec: {operation}");
    assert!(!operation.to_string().contains(TOKEN), "get_operation shows the token");
    assert!(!cluster.operations()[0].to_string().contains(TOKEN), "list_operations shows the token");
    for stderr in cluster.job_stderrs(&operation["id"]) {
        assert!(!stderr.contains(TOKEN), "a job's stderr shows the token");
    }
    let tree = cluster.read("get", &json!({ "path": "//tmp", "attributes": ["value", "incarnation_id"] }));
    assert!(!tree.to_string().contains(TOKEN), "Cypress holds the token");
    assert!(!cluster.stop().output().contains(TOKEN), "the minicluster's log shows the token");
}

#[test]
fn token_of_a_local_run_is_written_nowhere() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, TOKEN);
    let running = Launcher::local(&scratch)
        .env("YT_PROXY", cluster.proxy())
        .env("YT_TOKEN", TOKEN)
        .env("TRACTORUN_LOG_LEVEL", "trace")
        .bash(WORKER)
        .start();
    assert_eq!(scratch.wait_for_file("hash"), sha256(TOKEN));
    assert_eq!(fs::read_to_string(scratch.path("vault")).expect("written before"), "");
    assert_eq!(files_with_token(&scratch.path("")), Vec::<String>::new(), "while it runs");
    scratch.file("go", "\n");
    let finished = running.wait();
    finished.assert_code(5);
    assert!(!finished.output().contains(TOKEN), "the launcher wrote the token");
    assert_eq!(files_with_token(&scratch.path("")), Vec::<String>::new(), "after the run");
}

#[test]
fn dry_run_shows_no_token() {
    let scratch = Scratch::new();
    let finished = Launcher::new(&scratch)
        .env("YT_PROXY", "http://127.0.0.1:1")
        .env("YT_TOKEN", TOKEN)
        .args(["--docker-image", "i:1", "--dry-run", "date"])
        .run();
    finished.assert_code(0).assert_stdout("operation_spec");
    assert!(!finished.output().contains(TOKEN), "the dry run shows the token");
}

#[test]
fn wrong_token_is_not_echoed() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, "the-right-one");
    let finished = Launcher::submit(&scratch, &cluster).env("YT_TOKEN", TOKEN).arg("true").run();
    assert_ne!(finished.code(), 0);
    assert!(!finished.output().contains(TOKEN), "the error shows the token");
}
