//! What a user is told when something is wrong, by its text.

use std::net::TcpListener;
use std::process::Command;

use tractorun_tests::{Cluster, Finished, Launcher, Place, Scratch, binaries, run};

/// Wrong usage: code 2, nothing was touched.
#[track_caller]
fn assert_usage(finished: &Finished, texts: &[&str]) {
    finished.assert_code(2).assert_stderr("tractorun: ");
    for text in texts {
        finished.assert_stderr(text);
    }
}

fn launch(scratch: &Scratch) -> Launcher {
    Launcher::new(scratch).env("YT_PROXY", "http://127.0.0.1:1").args(["--docker-image", "i:1"])
}

#[test]
fn no_proxy() {
    let scratch = Scratch::new();
    let finished = Launcher::new(&scratch).args(["--docker-image", "i:1", "true"]).run();
    assert_usage(&finished, &["YT_PROXY", "hint: "]);
}

#[test]
fn no_docker_image() {
    let scratch = Scratch::new();
    let finished = Launcher::new(&scratch).env("YT_PROXY", "http://127.0.0.1:1").arg("true").run();
    assert_usage(&finished, &["docker-image", "YT_BASE_LAYER"]);
}

#[test]
fn no_command() {
    let scratch = Scratch::new();
    assert_usage(&launch(&scratch).run(), &["command"]);
}

#[test]
fn wrong_token() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, "right");
    for token in ["wrong", ""] {
        let finished = Launcher::submit(&scratch, &cluster).env("YT_TOKEN", token).arg("true").run();
        assert_ne!(finished.code(), 0);
        finished.assert_stderr(&cluster.proxy()).assert_stderr("token").assert_stderr("hint: ");
    }
    assert_eq!(cluster.operations().len(), 0);
}

#[test]
fn cluster_away() {
    let scratch = Scratch::new();
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let proxy = format!("http://127.0.0.1:{port}");
    let finished =
        Launcher::new(&scratch).env("YT_PROXY", &proxy).args(["--docker-image", "i:1", "true"]).run();
    assert_ne!(finished.code(), 0);
    finished.assert_stderr(&proxy).assert_stderr("onnection refused");
}

#[test]
fn unknown_option() {
    let scratch = Scratch::new();
    let finished = launch(&scratch).args(["--mesh.node-cout", "2", "true"]).run();
    assert_usage(&finished, &["--mesh.node-cout", "--mesh.node-count"]);
}

#[test]
fn wrong_value() {
    let scratch = Scratch::new();
    let finished = launch(&scratch).args(["--mesh.node-count", "many", "true"]).run();
    assert_usage(&finished, &["--mesh.node-count", "many"]);
    let finished = launch(&scratch).args(["--mesh.node-count", "0", "true"]).run();
    assert_usage(&finished, &["mesh.node-count", "0"]);
    let finished = launch(&scratch).args(["--proxy-stderr-mode", "loud", "true"]).run();
    assert_usage(&finished, &["--proxy-stderr-mode", "loud", "primary"]);
}

#[test]
fn misspelt_yaml_key() {
    let scratch = Scratch::new();
    scratch.file(
        "config.yaml",
        "docker_image: i:1\nmesh:\n  node_count: 2\n  proces_per_node: 2\ncommand: [\"true\"]\n",
    );
    let finished = launch(&scratch).args(["--run-config-path", "config.yaml"]).run();
    assert_usage(&finished, &["config.yaml:4:3", "proces_per_node", "process_per_node"]);
}

#[test]
fn broken_yaml() {
    let scratch = Scratch::new();
    scratch.file("config.yaml", "mesh:\n  node_count: [1\ncommand: x\n");
    let finished = launch(&scratch).args(["--run-config-path", "config.yaml"]).run();
    assert_usage(&finished, &["config.yaml:"]);
    let finished = launch(&scratch).args(["--run-config-path", "nowhere.yaml", "true"]).run();
    assert_usage(&finished, &["nowhere.yaml", "No such file or directory"]);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let scratch = Scratch::new();
    let finished = launch(&scratch)
        .args([
            "--mesh.node-count",
            "0",
            "--bind-local",
            "missing-file:x",
            "--mesh.process-per-node",
            "0",
            "true",
        ])
        .run();
    assert_usage(&finished, &["mesh.node-count", "mesh.process-per-node", "missing-file"]);
}

#[test]
fn missing_bind_source() {
    let scratch = Scratch::new();
    let finished = launch(&scratch).args(["--bind-local", "./missing-file:x", "true"]).run();
    assert_usage(&finished, &["bind-local", "./missing-file", "No such file or directory"]);
    let finished = launch(&scratch).args(["--bind-local-lib", "./missing-lib", "true"]).run();
    assert_usage(&finished, &["bind-local-lib", "./missing-lib", "No such file or directory"]);
}

#[test]
fn missing_cypress_bind_source() {
    let place = Place::submitted();
    let finished = place.launcher().args(["--bind-cypress", "//tmp/nowhere:x", "true"]).run();
    assert_ne!(finished.code(), 0);
    finished.assert_stderr("//tmp/nowhere");
    assert_eq!(place.cluster().operations().len(), 0);
}

#[test]
fn absolute_destination_in_a_local_run() {
    let scratch = Scratch::new();
    scratch.file("source", "x");
    let finished = Launcher::local(&scratch).args(["--bind-local", "source:/etc/x", "true"]).run();
    assert_usage(&finished, &["/etc/x", "hint: ", "relative"]);
}

#[test]
fn what_comes_later_is_refused_and_not_ignored() {
    for [option, value] in [["--mesh.spare-nodes", "1"], ["--metrics.port", "1"]] {
        let scratch = Scratch::new();
        let finished = launch(&scratch).args([option, value, "true"]).run();
        assert_usage(&finished, &[option, "is not supported by tractorun"]);
    }
}

#[test]
fn job_spec_too_new() {
    let scratch = Scratch::new();
    let spec = scratch.file("job-spec.json", r#"{"version": "2.3", "novelty": []}"#);
    let finished = run(Command::new(binaries::init()).env("TRACTORUN_JOB_SPEC", spec));
    finished.assert_code(64).assert_stderr("tractorun-init: ");
    finished
        .assert_stderr("job spec has version 2.3, this tractorun-init reads versions up to 1.0")
        .assert_stderr("hint: ");
}

#[test]
fn job_spec_missing_or_broken() {
    let scratch = Scratch::new();
    let missing = scratch.path("nowhere.json");
    let finished = run(Command::new(binaries::init()).env("TRACTORUN_JOB_SPEC", &missing));
    finished.assert_code(64).assert_stderr("nowhere.json").assert_stderr("No such file or directory");
    let broken = scratch.file("broken.json", "{");
    run(Command::new(binaries::init()).env("TRACTORUN_JOB_SPEC", broken))
        .assert_code(64)
        .assert_stderr("broken.json");
}
