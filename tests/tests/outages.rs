//! The cluster does not answer for a while: everybody who waits for it is told, and nobody gives up.

use std::io::Write;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use tractorun_tests::{Cluster, Launcher, Running, Scratch, Wire};

const RUN: &str = "//tmp/run";

/// Longer than the launcher is silent about it, shorter than nodes of a run wait for the cluster.
const OUTAGE_MS: u64 = 7_000;

struct Bench {
    cluster: Cluster,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start_with_control(&scratch);
        Self { cluster, scratch }
    }

    fn submit(&self) -> Launcher {
        Launcher::submit(&self.scratch, &self.cluster).args(["--yt-path", RUN])
    }

    fn command(&self, words: &[&str]) -> Running {
        Launcher::new(&self.scratch).env("YT_PROXY", self.cluster.proxy()).args(words.to_vec()).start()
    }

    fn go_away(&self, ms: u64) {
        self.cluster.control("POST", "/proxy/away", &json!({ "ms": ms }));
    }
}

/// A run that lasts until the file `go` is there.
const UNTIL_GO: &str = r#"echo "line of $RANK"; echo up > "$SCRATCH/up.$RANK"
    until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; echo "last line of $RANK""#;

fn told(finished: &tractorun_tests::Finished) {
    finished.assert_stderr("warning: the cluster has not answered for 5 s: ");
    finished.assert_stderr("; trying again\n").assert_stderr("the cluster answers again, after ");
    let warnings = finished.stderr.matches("has not answered").count();
    assert_eq!(warnings, 1, "it is told once: {}", finished.show());
}

#[test]
fn whoever_follows_waits_and_is_told() {
    let bench = Bench::new();
    let logs = ["--operation-log-mode", "realtime_yt_table"];
    let launcher = bench.submit().mesh((2, 1)).args(logs).bash(UNTIL_GO).start();
    for rank in 0..2 {
        bench.scratch.wait_for_file(&format!("up.{rank}"));
    }
    let attached = bench.command(&["attach", RUN]);
    attached.wait_for("line of 0");
    let following = bench.command(&["logs", RUN, "-f"]);
    following.wait_for("line of 1");
    bench.go_away(OUTAGE_MS);
    let everybody = [launcher, attached, following];
    for process in &everybody {
        process.wait_for("the cluster answers again");
    }
    bench.scratch.file("go", "");
    for process in everybody {
        let finished = process.wait();
        finished.assert_code(0);
        told(&finished);
    }
    bench.cluster.assert_no_operation_runs();
}

#[test]
fn an_upload_goes_on_where_it_was() {
    let bench = Bench::new();
    let effect = json!({"proxy_away": {"ms": OUTAGE_MS}});
    let fault = bench.cluster.plan(&json!({"match": {"command": "write_file"}, "effect": effect}));
    let finished = bench.submit().bash("true").run();
    finished.assert_code(0);
    told(&finished);
    assert_eq!(bench.cluster.struck(fault), 1);
}

/// The cluster ends the run of a launcher that it does not hear of. The launcher says so before anybody could know, and
/// what became of it when the cluster is back.
#[test]
fn a_run_that_is_lost_is_told_as_far_as_it_is_known() {
    let bench = Bench::new();
    let launcher = bench.submit().args(["--transaction-timeout", "3s"]).bash(UNTIL_GO).start();
    bench.scratch.wait_for_file("up.0");
    bench.go_away(OUTAGE_MS + 1_000);
    let finished = launcher.wait();
    finished.assert_code(1);
    finished
        .assert_stderr("warning: the cluster has heard nothing from here for 3 s, so it aborts operation ");
    finished.assert_stderr("`tractorun attach ").assert_stderr("` will tell what became of it");
    finished.assert_stderr("the cluster answers again");
    finished.assert_stderr("was aborted: the cluster heard nothing of its launcher for too long");
    finished.assert_stderr("hint: `--no-wait` starts a run that needs no launcher");
    bench.cluster.assert_no_operation_runs();
    assert!(Path::new(&bench.scratch.path("up.0")).exists() && !bench.scratch.path("go").exists());
}

/// Nobody is kept from leaving, and what becomes of the run is said as far as it is known.
#[test]
fn ctrl_c_leaves_a_run_that_cannot_be_reached() {
    let bench = Bench::new();
    let launcher = bench.submit().args(["--transaction-timeout", "10s"]).bash(UNTIL_GO).start();
    bench.scratch.wait_for_file("up.0");
    bench.go_away(60_000);
    launcher.signal(Signal::SIGINT);
    let finished = launcher.wait();
    finished.assert_code(130).assert_stderr("cannot abort operation ");
    finished.assert_stderr("hint: without its launcher the cluster ends it within 10 s; `tractorun status ");
}

/// The cable of the launcher's machine is pulled and plugged in again.
#[test]
fn a_network_that_is_cut_is_waited_for() {
    let scratch = Scratch::new();
    let wire = match Wire::between_here_and_a_new_namespace() {
        Ok(wire) => wire,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "skipped: no network namespaces here: {reason}");
            return;
        }
    };
    let cluster = Cluster::start_for_all(&scratch);
    let launcher = Launcher::submit(&scratch, &cluster)
        .env("YT_PROXY", format!("http://{}:{}", wire.here, cluster.port()))
        .args(["--proxy-stderr-mode", "primary"])
        .bash(UNTIL_GO)
        .by_shell(&format!(r#"exec ip netns exec {} "$@""#, wire.name))
        .start();
    launcher.wait_for("line of 0");
    wire.cut();
    launcher.wait_for("has not answered");
    wire.mend();
    launcher.wait_for("the cluster answers again");
    scratch.file("go", "");
    let finished = launcher.wait();
    finished.assert_code(0).assert_stderr("last line of 0");
    told(&finished);
}
