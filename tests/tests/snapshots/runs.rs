//! Runs, from their start to their verdict, and what is said of them afterwards.

use std::sync::Arc;

use tractorun_tests::{Finished, Launcher, Place, Running};

use super::seen::assert_run_seen;

const RUN: &str = "//home/me/digits";

/// Waits for all workers but the last, and for their last words to be read; then the last one does something.
const TOGETHER: &str = r#"touch "$SCRATCH/up.$RANK"; trap 'exit 0' TERM
    if [ $RANK != $((WORLD_SIZE - 1)) ]; then sleep 1000 & wait $!; exit; fi
    for rank in $(seq 0 $((WORLD_SIZE - 2))); do until [ -e "$SCRATCH/up.$rank" ]; do sleep 0.02; done; done
    "#;

/// `tractorun --local OPTIONS SCRIPT`.
#[track_caller]
fn assert_local(name: &str, options: &[&str], script: &str, watch: fn(Running) -> Finished) {
    let call = |place: &Place| hidden(place.launcher().args(options.iter().copied()), script);
    assert_run_seen(name, local, call, watch);
}

/// `tractorun OPTIONS SCRIPT` on a cluster.
#[track_caller]
fn assert_submitted(name: &str, options: &[&str], script: &str, watch: fn(Running) -> Finished) {
    let call = |place: &Place| submit(place, options, script);
    assert_run_seen(name, submitted, call, watch);
}

fn local() -> Arc<Place> {
    Arc::new(Place::local())
}

fn submitted() -> Arc<Place> {
    Arc::new(Place::submitted())
}

fn submit(place: &Place, options: &[&str], script: &str) -> Launcher {
    hidden(place.launcher().args(["--yt-path", RUN]).args(options.iter().copied()), script)
}

/// The script as a file, so that its text is not part of what is seen.
fn hidden(launcher: Launcher, script: &str) -> Launcher {
    launcher.worker_env("SCRIPT", script).args(["bash", "-c", r#"eval "$SCRIPT""#])
}

/// Presses Ctrl-C once the workers run.
fn interrupt(running: Running) -> Finished {
    running.wait_for("worker is up");
    running.interrupt();
    running.wait()
}

#[test]
fn success() {
    assert_local("local_success", &["--mesh.node-count", "2"], "echo \"I am $RANK\"", Running::wait);
    assert_submitted("success", &["--mesh.node-count", "2"], "true", Running::wait);
}

#[test]
fn failures_of_workers() {
    let script = format!("{TOGETHER} echo 'Traceback: no such file' >&2; exit 3");
    let mesh = ["--mesh.node-count", "2", "--mesh.process-per-node", "2"];
    assert_local("local_worker_failed", &mesh, &script, Running::wait);
    assert_submitted("worker_failed", &mesh, &script, Running::wait);
    assert_submitted("worker_killed", &[], "kill -9 $$", Running::wait);
    let options = ["--restarts.max", "1", "--restarts.backoff", "10ms"];
    assert_submitted("worker_failed_again", &options, "exit 5", Running::wait);
}

#[test]
fn failures_of_nodes() {
    let script = format!("{TOGETHER} kill -9 $PPID; sleep 1000");
    assert_local("lost_node", &["--mesh.node-count", "2"], &script, Running::wait);
    let script = "exec python3 -c 'x = bytearray(1 << 30); import time; time.sleep(1000)'";
    assert_submitted("out_of_memory", &["--resources.memory-limit", "256MiB"], script, Running::wait);
}

#[test]
fn commands_that_cannot_run() {
    let call = |place: &Place| place.launcher().args(["pyhton3", "train.py"]);
    assert_run_seen("local_command_not_found", local, call, Running::wait);
    assert_run_seen("command_not_found", submitted, call, Running::wait);
    let call = |place: &Place| place.launcher().arg("/etc/passwd");
    assert_run_seen("command_not_executable", submitted, call, Running::wait);
}

#[test]
fn sidecars() {
    let sidecar = r#"{"command": ["bash", "-c", "exit 4"], "restart_policy": "fail"}"#;
    assert_submitted("sidecar_failed", &["--sidecar", sidecar], "sleep 1000", Running::wait);
}

#[test]
fn what_is_not_on_the_cluster() {
    let bind = ["--bind-cypress", "//home/me/nowhere:data"];
    assert_submitted("no_such_cypress_bind", &bind, "true", Running::wait);
    let secret = ["--env", r#"{"name": "KEY", "cypress_path": "//home/me/key"}"#];
    assert_submitted("no_such_secret", &secret, "true", Running::wait);
    let registry = ["--docker-auth-secret.cypress-path", "//home/me/registry"];
    assert_submitted("no_such_registry_secret", &registry, "true", Running::wait);
}

#[test]
fn ctrl_c() {
    let script = "echo worker is up >&2; trap 'exit 0' TERM; sleep 1000 & wait $!";
    assert_local("local_ctrl_c", &[], script, interrupt);
    assert_submitted("ctrl_c", &["--proxy-stderr-mode", "primary"], script, interrupt);
}

#[test]
fn afterwards() {
    let place = submitted();
    let script = format!("{TOGETHER} echo epoch 1; echo 'Traceback: no such file' >&2; exit 3");
    let options = ["--mesh.node-count", "2", "--operation-log-mode", "realtime_yt_table"];
    submit(&place, &options, &script).run().assert_code(3);
    let after = || Arc::clone(&place);
    let command = |words: &'static [&'static str]| {
        move |place: &Place| {
            Launcher::new(&place.scratch).env("YT_PROXY", place.cluster().proxy()).args(words.to_vec())
        }
    };
    assert_run_seen("status_of_a_failed_run", after, command(&["status", RUN]), Running::wait);
    assert_run_seen("attach_to_a_failed_run", after, command(&["attach", RUN]), Running::wait);
    assert_run_seen("stop_a_failed_run", after, command(&["stop", RUN]), Running::wait);
    assert_run_seen("logs_of_a_failed_run", after, command(&["logs", RUN]), Running::wait);
    assert_run_seen("list_nothing", after, command(&["list"]), Running::wait);
    assert_run_seen("list_all", after, command(&["list", "--all"]), Running::wait);
    assert_run_seen("no_such_run", after, command(&["status", "//home/me/nowhere"]), Running::wait);
    assert_run_seen("no_run_there", after, command(&["attach", "//home/me"]), Running::wait);
}
