//! What the launcher submits and tells: the operation's spec, the run's place in Cypress, the dry run, no waiting.

use std::time::Instant;

use serde_json::{Value, json};
use tractorun_tests::process::{DEADLINE, POLL};
use tractorun_tests::{Launcher, Place, Scratch};

fn json_of(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {stdout}"))
}

/// Looks again and again until there is something.
#[track_caller]
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(POLL);
    }
}

#[test]
fn operation_is_what_the_options_say() {
    let place = Place::submitted();
    let finished = place
        .launcher()
        .mesh((2, 3))
        .args(["--yt-path", "//tmp/my/run", "--title", "A title", "--user-config", r#"{"a": "b"}"#])
        .args(["--resources.cpu-limit", "1.5", "--resources.memory-limit", "1073741824"])
        .args(["--yt-task-spec", r#"{"environment": {"EXTRA": "1"}, "max_failed_job_count": 1}"#])
        .args(["--yt-operation-spec", r#"{"annotations": {"mine": 1}}"#])
        .arg("true")
        .run();
    finished.assert_code(0);
    let operation = place.cluster().the_operation();
    assert_eq!(operation["state"], "completed");
    let spec = &operation["spec"];
    let task = &spec["tasks"]["task"];
    assert_eq!(spec["title"], "A title");
    assert_eq!(task["job_count"], 2);
    assert_eq!(task["port_count"], 5);
    assert_eq!(task["cpu_limit"], 1.5);
    assert_eq!(task["memory_limit"], 1_073_741_824);
    assert_eq!(task["docker_image"], "no/image:1");
    assert_eq!(task["environment"]["TRACTORUN_JOB_SPEC"], "job-spec.json");
    assert_eq!(task["environment"]["EXTRA"], "1");
    assert_eq!(task["max_failed_job_count"], 1);
    assert_eq!(spec["fail_on_job_restart"], true);
    assert_eq!(spec["is_gang"], true);
    assert_eq!(spec["annotations"]["is_tractorun"], true);
    assert_eq!(spec["annotations"]["mine"], 1);
}

#[test]
fn run_leaves_its_incarnations_in_cypress() {
    let place = Place::submitted();
    let launch =
        |script: &str| place.launcher().args(["--yt-path", "//tmp/run"]).mesh((2, 2)).bash(script).run();
    launch("exit 0").assert_code(0);
    launch("[ $RANK = 2 ] && exit 6; sleep 1000").assert_code(6);

    let cluster = place.cluster();
    assert_eq!(cluster.get("//tmp/run/@incarnation_id"), 1);
    for folder in ["primary_lock", "incarnations", "models", "checkpoints", "logs"] {
        assert_eq!(cluster.get(&format!("//tmp/run/{folder}/@type")), "map_node", "{folder}");
    }
    let topology = cluster.get("//tmp/run/incarnations/00000/@topology");
    assert_eq!(topology.as_array().map(Vec::len), Some(4), "{topology}");
    assert_eq!(topology[0]["address"], cluster.get("//tmp/run/incarnations/00000/@primary_endpoint"));
    assert_eq!(topology[0]["job_id"], topology[1]["job_id"]);
    assert_ne!(topology[1]["job_id"], topology[2]["job_id"]);

    let failure = cluster.get("//tmp/run/incarnations/00001/@failure");
    assert_eq!(failure["cause"], "worker_exited");
    assert_eq!(failure["code"], 6);
    assert_eq!(failure["rank"], 2);
    assert_eq!(failure["node_rank"], 1);
    assert!(!cluster.exists("//tmp/run/incarnations/00000/@failure"));
    let operation = cluster.get("//tmp/run/incarnations/00001/@incarnation_operation_id");
    assert_eq!(operation, cluster.operations()[0]["id"]);
}

/// In the layout of the Python tractorun, which says it only of scripts that call its library.
#[test]
fn the_description_of_any_command_has_links_to_all_that_is_there() {
    let place = Place::submitted();
    let cluster = place.cluster();
    let describe = |yt_path: &str| {
        let launcher = place.launcher().mesh((2, 1)).args(["--yt-path", yt_path, "--mesh.pool", "research"]);
        // The leader tells while the workers start.
        let told = r#"[ $RANK = 1 ] || until [ -e "$SCRATCH/told" ]; do sleep 0.02; done"#;
        let running = launcher.bash(told).start();
        let description = wait_until("the leader tells", || {
            let operations = cluster.operations();
            let running = operations.iter().find(|operation| operation["state"] == "running")?;
            let parameters = json!({ "operation_id": running["id"], "attributes": ["runtime_parameters"] });
            let operation = cluster.read("get_operation", &parameters);
            let description = &operation["runtime_parameters"]["annotations"]["description"]["tractorun"];
            (description["incarnation"] == 0).then(|| description.clone())
        });
        place.scratch.file("told", "");
        running.wait().assert_code(0);
        std::fs::remove_file(place.scratch.path("told")).expect("it is there");
        description
    };
    let mesh = json!({
        "node_count": 2, "process_per_node": 1, "gpu_per_process": 0, "pool_trees": null, "pool": "research",
    });

    // A cluster that says nothing about its web interface: paths.
    let plain = describe("//tmp/plain");
    let primary = cluster.get("//tmp/plain/incarnations/00000/@primary_endpoint");
    assert_eq!(
        plain,
        json!({
            "training_dir": "//tmp/plain", "logs": "//tmp/plain/logs/0", "incarnation": 0, "mesh": mesh,
            "primary": { "address": primary }, "state": "running", "attempt": 0,
        })
    );

    let config = json!({
        "cypress_link_template": "https://ui/navigation?path={path}",
        "job_stderr_link_template": "https://ui/{operation_id}/{job_id}/stderr",
    });
    cluster.create("map_node", "//home/tractorun", &json!({}));
    cluster.create("document", "//home/tractorun/config", &json!({ "value": config }));
    let linked = describe("//tmp/a run");
    let primary = cluster.get("//tmp/a run/incarnations/00000/@primary_endpoint");
    let job = cluster.get("//tmp/a run/incarnations/00000/@topology")[0]["job_id"].clone();
    let operation = cluster.get("//tmp/a run/incarnations/00000/@incarnation_operation_id");
    let (job, operation) = (job.as_str().expect("an id"), operation.as_str().expect("an id"));
    let url = |url: String| json!({ "$attributes": { "_type_tag": "url" }, "$value": url });
    assert_eq!(
        linked,
        json!({
            "training_dir": url("https://ui/navigation?path=//tmp/a%20run".to_owned()),
            "logs": url("https://ui/navigation?path=//tmp/a%20run/logs/0".to_owned()),
            "primary": {
                "address": primary,
                "job_stderr": url(format!("https://ui/{operation}/{job}/stderr")),
            },
            "incarnation": 0, "mesh": mesh, "state": "running", "attempt": 0,
        })
    );
}

#[test]
fn failed_operation_fails() {
    let place = Place::submitted();
    place.launcher().bash("exit 7").run().assert_code(7);
    assert_eq!(place.cluster().the_operation()["state"], "failed");
}

#[test]
fn no_wait_submits_and_leaves() {
    let place = Place::submitted();
    let script = r#"echo up > "$SCRATCH/up"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; echo end > "$SCRATCH/end""#;
    let finished = place.launcher().arg("--no-wait").bash(script).run();
    finished.assert_code(0);
    let id = json_of(&finished.stdout)["run_info"]["operation_id"].clone();

    // The launcher is gone, the job runs, and goes on.
    place.scratch.wait_for_file("up");
    let operation = place.cluster().the_operation();
    assert_eq!(operation["id"], id);
    assert_eq!(operation["state"], "running");
    place.scratch.file("go", "\n");
    place.scratch.wait_for_file("end");
    place.wait_until_nothing_left();
    assert_eq!(place.cluster().the_operation()["state"], "completed");
}

#[test]
fn stderr_of_the_primary_is_shown_while_it_runs() {
    let place = Place::submitted();
    let script = r#"echo "line of rank $RANK" >&2; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done"#;
    let running = place.launcher().args(["--proxy-stderr-mode", "primary"]).mesh((2, 1)).bash(script).start();
    running.wait_for("line of rank 0");
    place.scratch.file("go", "\n");
    let finished = running.wait();
    finished.assert_code(0);
    assert_eq!(finished.output().matches("line of rank 0").count(), 1, "{}", finished.show());
    assert!(!finished.output().contains("line of rank 1"), "{}", finished.show());
}

#[test]
fn stderr_is_not_shown_unless_asked_for() {
    let place = Place::submitted();
    let finished = place.launcher().bash("echo a-line-of-the-worker >&2").run();
    finished.assert_code(0);
    assert!(!finished.output().contains("a-line-of-the-worker"), "{}", finished.show());
}

#[test]
fn dry_run_is_offline_and_deterministic() {
    let scratch = Scratch::new();
    scratch.file(
        "config.yaml",
        "docker_image: i:1\nyt_path: //tmp/run\nmesh: {node_count: 3}\ncommand: [a, b]\n",
    );
    scratch.file("bind.txt", "content");
    let dry_run = || {
        Launcher::new(&scratch)
            .env("YT_PROXY", "http://127.0.0.1:1")
            .args(["--run-config-path", "config.yaml", "--bind-local", "bind.txt:x", "--dry-run"])
            .run()
    };
    let finished = dry_run();
    finished.assert_code(0);
    let document = json_of(&finished.stdout);
    assert_eq!(document["run_info"]["operation_spec"]["tasks"]["task"]["job_count"], 3);
    assert_eq!(document["run_info"]["operation_id"], Value::Null);
    assert_eq!(document["configuration"]["file_config"]["mesh"]["node_count"], 3);
    assert_eq!(document["configuration"]["effective_config"]["command"], json!(["a", "b"]));
    assert_eq!(document["errors"], json!([]));
    assert_eq!(dry_run().stdout, finished.stdout);
}

#[test]
fn local_means_what_it_says() {
    let scratch = Scratch::new();
    for value in ["True", "true"] {
        Launcher::local(&scratch).args([value, "sh", "-c", "exit 3"]).run().assert_code(3);
    }
    // `true` after `--local` is its value; a command follows it.
    Launcher::local(&scratch).args(["/bin/true"]).run().assert_code(0);
    let launcher = Launcher::local(&scratch).args(["false", "--docker-image", "i:1", "sh", "-c", "exit 3"]);
    launcher.run().assert_code(2).assert_stderr("YT_PROXY");
}

#[test]
fn the_command_starts_at_the_first_word_that_is_no_option() {
    let scratch = Scratch::new();
    let finished = Launcher::local(&scratch)
        .args([
            "--mesh.node-count",
            "1",
            "--proxy-stderr-mode",
            "primary",
            "echo",
            "--mesh.node-count",
            "--dry-run",
        ])
        .run();
    finished.assert_code(0).assert_output("--mesh.node-count --dry-run");
}
