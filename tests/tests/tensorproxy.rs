//! The tensorproxy: its program is brought from the cluster, run beside the workers with the configuration that the
//! Python tractorun writes and ports of its own, and found by them. The program here is a stand-in.

use serde_json::{Value, json};
use tractorun_tests::log_tables::LogTable;
use tractorun_tests::{Launcher, Place, binaries};

const PROGRAM: &str = "//tmp/tensorproxy";

/// The worker's part: talks to the tensorproxy of its node, as soon as that listens, and keeps its answer.
const WORKER: &str = r#"port=${TS_GRPC_ADDRESS#localhost:}
    until { exec 3<>"/dev/tcp/localhost/$port"; } 2> /dev/null; do sleep 0.02; done
    read -r answer <&3; echo "$answer at $TS_GRPC_ADDRESS" > "$SCRATCH/worker.$RANK""#;

/// Puts the stand-in on the cluster.
fn upload(place: &Place, path: &str) {
    let source = std::fs::read_to_string(binaries::repository().join("tests/conformance/tensorproxy.py"));
    let python = binaries::python();
    let program = format!("#!{}\n{}", python.display(), source.expect("the stand-in is there"));
    place.cluster().write_file(path, program.as_bytes());
}

fn launcher(place: &Place) -> Launcher {
    place.launcher().args(["--tensorproxy.enabled", "--tensorproxy.yt_path", PROGRAM])
}

fn found(place: &Place, node: u32) -> Value {
    let text = place.scratch.wait_for_file(&format!("proxy.{node}"));
    serde_json::from_str(&text).expect("the stand-in writes JSON")
}

/// Every node has one, on two of its own ports; every worker finds that of its node.
fn runs_on_every_node(place: &Place) {
    upload(place, PROGRAM);
    let launcher = launcher(place).env("YT_TOKEN", "t0ken").mesh((2, 2));
    launcher.sidecar("exec sleep 1000", "fail").bash(WORKER).run().assert_code(0);
    let mut all_ports = Vec::new();
    for node in 0..2 {
        let found = found(place, node);
        let variable = |name: &str| found["environment"][name].as_str().map(str::to_owned);
        // Two workers, the control channel and metrics have those before.
        let [grpc, monitoring] = ["YT_PORT_4", "YT_PORT_5"].map(|name| variable(name).expect("a port"));
        assert_eq!(found["ports"].to_string(), format!("[{grpc},{monitoring}]"));
        assert_eq!(found["config_of_python"], true, "{found}");
        for rank in [2 * node, 2 * node + 1] {
            let answer = place.scratch.wait_for_file(&format!("worker.{rank}"));
            assert_eq!(answer, format!("node {node} at localhost:{grpc}\n"));
        }
        // It runs in the sandbox, where its logs harm nobody, and is no worker and no sidecar of the user's.
        let folder = found["folder"].as_str().expect("a folder");
        assert_eq!(found["program"], format!("{folder}/tractorun-tensorproxy"));
        assert_eq!(found["config"], format!("{folder}/.tractorun/tensorproxy.yson"));
        assert_eq!(variable("YT_TOKEN").as_deref(), Some("t0ken"));
        assert_eq!(variable("YT_PROXY"), Some(place.cluster().proxy()));
        for name in ["RANK", "TRACTORUN_SIDECAR_INDEX", "TS_GRPC_ADDRESS"] {
            assert_eq!(variable(name), None, "{name}");
        }
        all_ports.extend([grpc, monitoring]);
    }
    all_ports.sort();
    all_ports.dedup();
    assert_eq!(all_ports.len(), 4, "nodes may share a machine");
    place.assert_nothing_left();
}

#[test]
fn runs_on_every_node_of_an_operation() {
    let place = Place::submitted();
    runs_on_every_node(&place);
    let task = &place.cluster().the_operation()["spec"]["tasks"]["task"];
    assert_eq!(task["port_count"], 6);
}

#[test]
fn runs_on_every_node_of_a_local_run_with_a_cluster() {
    let place = Place::local_with_cluster();
    runs_on_every_node(&place);
    // Its program is not kept with what a run leaves.
    let folder = found(&place, 0)["program"].as_str().expect("a path").to_owned();
    assert!(!std::path::Path::new(&folder).exists(), "{folder}");
}

#[test]
fn its_lines_have_its_name_and_tables_behind_those_of_all_sidecars() {
    let place = Place::submitted();
    upload(&place, PROGRAM);
    let sidecar = r#"echo "sidecar of node $NODE_RANK"; exec sleep 1000"#;
    let finished = launcher(&place)
        .args(["--yt-path", "//tmp/run", "--operation-log-mode", "realtime_yt_table"])
        .args(["--proxy-stderr-mode", "all"])
        .mesh((2, 1))
        .sidecar(sidecar, "always")
        .bash(WORKER)
        .run();
    finished.assert_code(0).assert_output("[tensorproxy] started on node 0\n");
    finished.assert_output("[tensorproxy] started on node 1\n");
    let cluster = place.cluster();
    for (number, node, line) in [
        (0, 0, "sidecar of node 0"),
        (1, 1, "sidecar of node 1"),
        (2, 0, "started on node 0"),
        (3, 1, "started on node 1"),
    ] {
        let table = LogTable::read(cluster, &format!("//tmp/run/logs/0/sidecars/{number}"));
        assert_eq!(table.rows[0].message, line.as_bytes());
        assert_eq!(table.record["node_rank"], node);
    }
    assert!(!cluster.exists("//tmp/run/logs/0/sidecars/4"));
}

#[test]
fn one_that_ends_is_started_again() {
    let place = Place::submitted();
    upload(&place, PROGRAM);
    place.scratch.file("die.3", "");
    let finished = launcher(&place).args(["--proxy-stderr-mode", "all"]).mesh((2, 1)).bash(WORKER).run();
    finished.assert_code(0).assert_output("tensorproxy exited with code 3; starting it again in 0.1 s");
    for rank in 0..2 {
        let answer = place.scratch.wait_for_file(&format!("worker.{rank}"));
        assert!(answer.starts_with(&format!("node {rank} at ")), "{answer}");
    }
    place.assert_nothing_left();
}

#[test]
fn by_its_policy_its_end_is_that_of_the_run() {
    let place = Place::submitted();
    upload(&place, PROGRAM);
    place.scratch.file("die.5", "");
    let finished = launcher(&place)
        .args(["--yt-path", "//tmp/run", "--tensorproxy.restart_policy", "fail"])
        .bash("sleep 1000")
        .run();
    finished.assert_code(5).assert_stderr("tensorproxy on node 0").assert_stderr("exited with code 5");
    let failure = place.cluster().get("//tmp/run/incarnations/00000/@failure");
    assert_eq!((&failure["cause"], &failure["sidecar"]), (&json!("sidecar_exited"), &json!("tensorproxy")));
    place.assert_nothing_left();
}

#[test]
fn a_program_that_is_not_there_is_refused_before_anything_is_touched() {
    for place in [Place::submitted(), Place::local_with_cluster()] {
        let cluster = place.cluster();
        cluster.create("map_node", "//tmp/folder", &json!({}));
        let run = |options: &[&str]| {
            let launcher = place.launcher().args(["--yt-path", "//tmp/run", "--tensorproxy.enabled"]);
            launcher.args(options.iter().copied()).bash(r#"touch "$SCRATCH/ran""#).run()
        };
        run(&[])
            .assert_code(1)
            .assert_stderr(
                "tractorun: tensorproxy: `//sys/tractorun/tensorproxy` does not exist on the cluster\n",
            )
            .assert_stderr("hint: ask the cluster's administrator for it, or give the path of a copy");
        run(&["--tensorproxy.yt-path", "//tmp/folder"])
            .assert_code(1)
            .assert_stderr("tensorproxy: `//tmp/folder` is a map_node: expected the file with the program\n");
        assert_eq!(cluster.operations(), [] as [Value; 0]);
        assert!(!cluster.exists("//tmp/run") && !place.scratch.path("ran").exists());
    }
}

#[test]
fn a_link_to_the_program_will_do_and_the_usual_path_needs_no_option() {
    let place = Place::submitted();
    upload(&place, PROGRAM);
    let cluster = place.cluster();
    cluster.create("map_node", "//sys/tractorun", &json!({}));
    cluster.create("link", "//sys/tractorun/tensorproxy", &json!({ "target_path": PROGRAM }));
    place.launcher().args(["--tensorproxy.enabled", "1"]).bash(WORKER).run().assert_code(0);
    assert_eq!(found(&place, 0)["config_of_python"], true);
}

#[test]
fn a_dry_run_shows_it() {
    let place = Place::submitted();
    let finished = launcher(&place).args(["--dry-run"]).mesh((2, 3)).arg("true").run();
    finished.assert_code(0);
    let shown: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let expected = json!({ "enabled": true, "yt_path": PROGRAM, "restart_policy": "always" });
    assert_eq!(shown["configuration"]["effective_config"]["tensorproxy"], expected);
    let run_info = &shown["run_info"];
    assert_eq!(
        run_info["job_spec"]["tensorproxy"],
        json!({ "file": "tractorun-tensorproxy", "restart_policy": "always" })
    );
    let task = &run_info["operation_spec"]["tasks"]["task"];
    assert_eq!(task["port_count"], 7);
    let file = json!({
        "$value": PROGRAM,
        "$attributes": { "file_name": "tractorun-tensorproxy", "executable": true },
    });
    assert!(task["file_paths"].as_array().expect("a list").contains(&file), "{task}");
}
