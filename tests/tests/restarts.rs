//! Restarts in place on the real programs: all workers of all nodes start again in the same jobs, none of them beside
//! one of the attempt before, and not more often than was asked for.

use serde_json::json;
use tractorun_tests::{Launcher, Place, in_both_places};

in_both_places! {
    all_workers_start_again_as_the_next_attempt
    a_used_budget_ends_the_run_and_says_so
    a_code_that_is_never_retried_ends_the_run_at_once
    a_finished_node_takes_part_again
    a_worker_that_cannot_be_started_is_tried_again
    what_is_not_a_workers_failure_is_not_retried
}

/// Waits until all four workers of this attempt have said that they are up.
const ALL_UP: &str = r#"echo up >> "$SCRATCH/up.$TRACTORUN_ATTEMPT.$RANK"
    for rank in 0 1 2 3; do until [ -s "$SCRATCH/up.$TRACTORUN_ATTEMPT.$rank" ]; do sleep 0.02; done; done"#;

const WAIT: &str = "sleep 1000 & wait";

fn launcher(place: &Place, max: &str) -> Launcher {
    let launcher = place.launcher().mesh((2, 2)).args(["--restarts.max", max, "--restarts.backoff", "100ms"]);
    launcher.args(["--yt-path", "//tmp/run", "--proxy-stderr-mode", "primary"])
}

/// The record of an incarnation, where the test can look at it.
fn assert_attempts(place: &Place, ranks: &[u32], code: u8) {
    if place.is_submitted() {
        let records = place.cluster().get("//tmp/run/incarnations/00000/@attempts");
        let records = records.as_array().expect("a list");
        assert_eq!(records.len(), ranks.len(), "{records:?}");
        for ((attempt, rank), record) in ranks.iter().enumerate().zip(records) {
            let of =
                [&record["attempt"], &record["rank"], &record["exit_code"]].map(serde_json::Value::as_u64);
            assert_eq!(of, [Some(attempt as u64), Some(u64::from(*rank)), Some(u64::from(code))], "{record}");
        }
    }
}

fn all_workers_start_again_as_the_next_attempt(place: &Place) {
    let worker = format!(
        r#"config=$(grep -o '"attempt": [0-9]*' "$TRACTO_CONFIG")
        echo "$TRACTORUN_ATTEMPT $TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_MAX_RESTARTS $config" \
            "$TRACTORUN_INCARNATION_ID $MASTER_PORT" > "$SCRATCH/told.$TRACTORUN_ATTEMPT.$RANK"
        {ALL_UP}
        [ "$TRACTORUN_ATTEMPT.$RANK" = 0.3 ] && exit 7
        [ "$TRACTORUN_ATTEMPT.$RANK" = 1.0 ] && kill -9 $$
        [ $TRACTORUN_ATTEMPT = 2 ] || {{ {WAIT}; }}"#
    );
    let sidecar = r#"echo $$ >> "$SCRATCH/sidecar.$NODE_RANK"; sleep 1000 & wait"#;
    let finished = launcher(place, "5").sidecar(sidecar, "always").bash(&worker).run();
    finished.assert_code(0).assert_output("starting them again, attempt 2");
    let port_of = |attempt: u32, rank: u32| {
        let told = place.scratch.wait_for_file(&format!("told.{attempt}.{rank}"));
        let port = told.strip_prefix(&format!("{attempt} {attempt} 5 \"attempt\": {attempt} 0 "));
        port.unwrap_or_else(|| panic!("attempt {attempt}, rank {rank}: {told}")).to_owned()
    };
    for (attempt, rank) in (0..3).flat_map(|attempt| (0..4).map(move |rank| (attempt, rank))) {
        assert_eq!(port_of(attempt, rank), port_of(0, 0));
        let once = place.scratch.wait_for_file(&format!("up.{attempt}.{rank}"));
        assert_eq!(once, "up\n", "attempt {attempt}, rank {rank}");
    }
    // Sidecars live through it all.
    for node in 0..2 {
        assert_eq!(place.scratch.wait_for_file(&format!("sidecar.{node}")).lines().count(), 1);
    }
    if place.is_submitted() {
        let records = place.cluster().get("//tmp/run/incarnations/00000/@attempts");
        assert_eq!((&records[0]["rank"], &records[0]["exit_code"]), (&json!(3), &json!(7)), "{records}");
        assert_eq!((&records[1]["rank"], &records[1]["signal"]), (&json!(0), &json!("SIGKILL")), "{records}");
        assert!(!place.cluster().exists("//tmp/run/incarnations/00000/@failure"), "the run succeeded");
    }
    place.assert_nothing_left();
}

fn a_used_budget_ends_the_run_and_says_so(place: &Place) {
    let worker = format!("{ALL_UP}; [ $RANK = 1 ] && exit 9; {WAIT}");
    let finished = launcher(place, "2").bash(&worker).run();
    finished.assert_code(9).assert_stderr("rank 1 on node 0").assert_stderr("2 of 2 restarts are used");
    assert!(!place.scratch.path("up.3.0").exists(), "a third restart");
    place.scratch.wait_for_file("up.2.0");
    assert_attempts(place, &[1, 1], 9);
    place.assert_nothing_left();
}

fn a_code_that_is_never_retried_ends_the_run_at_once(place: &Place) {
    let worker = format!("{ALL_UP}; [ $RANK = 2 ] && exit 9; {WAIT}");
    let launcher = launcher(place, "2").args(["--restarts.never", "8", "--restarts.never", "9"]);
    let finished = launcher.bash(&worker).run();
    finished.assert_code(9).assert_stderr("this exit code is never retried");
    assert!(!place.scratch.path("up.1.0").exists(), "a restart");
    place.assert_nothing_left();
}

fn a_finished_node_takes_part_again(place: &Place) {
    let worker = format!(
        r#"{ALL_UP}
        [ $TRACTORUN_ATTEMPT = 1 ] && exit 0
        [ $NODE_RANK = 0 ] && {{ echo done > "$SCRATCH/done.$RANK"; exit 0; }}
        until [ -s "$SCRATCH/done.0" ] && [ -s "$SCRATCH/done.1" ]; do sleep 0.02; done
        [ $RANK = 2 ] && {WAIT}; sleep 0.3; exit 7"#
    );
    launcher(place, "1").bash(&worker).run().assert_code(0);
    for rank in 0..4 {
        assert_eq!(place.scratch.wait_for_file(&format!("up.1.{rank}")), "up\n");
    }
    assert_attempts(place, &[3], 7);
    place.assert_nothing_left();
}

fn a_worker_that_cannot_be_started_is_tried_again(place: &Place) {
    let launcher = launcher(place, "1").args(["no-such-program"]);
    let finished = launcher.run();
    finished.assert_code(127).assert_stderr("1 of 1 restarts are used");
    place.assert_nothing_left();
}

fn what_is_not_a_workers_failure_is_not_retried(place: &Place) {
    let worker = format!("{ALL_UP}; {WAIT}");
    let sidecar =
        r#"for rank in 0 1 2 3; do until [ -s "$SCRATCH/up.0.$rank" ]; do sleep 0.02; done; done; exit 6"#;
    let finished = launcher(place, "3").sidecar(sidecar, "fail").bash(&worker).run();
    finished.assert_code(6).assert_stderr("sidecar 0 on node");
    assert!(!place.scratch.path("up.1.0").exists(), "a restart");
    place.assert_nothing_left();
}

/// A worker that ignores SIGTERM, and a process that it left behind in a session of its own, hold the port that the
/// next attempt needs: it begins when they are killed, after the grace period.
#[test]
fn nobody_of_an_attempt_meets_the_next_one() {
    let place = Place::local();
    let worker = r#"
import os, signal, socket, subprocess, sys, time
attempt, rank = os.environ["TRACTORUN_ATTEMPT"], os.environ["RANK"]
scratch = os.environ["SCRATCH"]
def path(name, rank): return os.path.join(scratch, f"{name}.{attempt}.{rank}")
if rank == "0":
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
    listener.listen()
    if attempt == "0":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stayer = subprocess.Popen(["sleep", "1000"], start_new_session=True, pass_fds=[listener.fileno()],
                                  preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
        open(os.path.join(scratch, "pids"), "w").write(f"{os.getpid()} {stayer.pid}")
    else:
        for pid in open(os.path.join(scratch, "pids")).read().split():
            assert not os.path.exists(f"/proc/{pid}"), pid
open(path("up", rank), "w").write("up")
while not all(os.path.exists(path("up", other)) for other in range(4)):
    time.sleep(0.02)
if attempt == "0":
    if rank == "3":
        sys.exit(7)
    while True:
        time.sleep(1000)
"#;
    let script = place.scratch.file("worker.py", worker);
    let sidecar = "sleep 1000";
    let launcher = launcher(&place, "1").sidecar(sidecar, "always");
    launcher.args(["/usr/bin/python3", script.to_str().expect("plain text")]).run().assert_code(0);
    place.assert_nothing_left();
}
