//! Preemption and signals on the real programs: who is asked, with what, how long they have, and what the run ends with.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tractorun_tests::launcher::signal;
use tractorun_tests::process::Running;
use tractorun_tests::{Place, leftovers};

/// Says that it is up; asked by SIGUSR1, says when it will be killed and fails.
const SAVE: &str = r#"trap 'cat "$TRACTORUN_STOP_DEADLINE_FILE" > "$SCRATCH/saved.$RANK"; exit 3' USR1
    [ -e "$TRACTORUN_STOP_DEADLINE_FILE" ] && exit 4
    trap 'exit 5' TERM
    echo $$ > "$SCRATCH/up.$RANK"; while :; do sleep 1000 & wait; done"#;

fn start(place: &Place, timeout: &str, script: &str) -> Running {
    let launcher = place.launcher().mesh((2, 2)).args(["--yt-path", "//tmp/run"]);
    let options = ["--preemption.signal", "SIGUSR1", "--preemption.timeout", timeout, "--restarts.max", "3"];
    let running = launcher.args(options).bash(script).start();
    for rank in 0..4 {
        place.scratch.wait_for_file(&format!("up.{rank}"));
    }
    running
}

/// The cluster takes the job of the second node away.
fn preempt(place: &Place) {
    let cluster = place.cluster();
    let topology = cluster.get("//tmp/run/incarnations/00000/@topology");
    let job = topology[2]["job_id"].clone();
    cluster.control("POST", "/jobs/preempt", &json!({ "job_id": job, "ms": 60_000 }));
}

fn failure(place: &Place) -> Value {
    place.cluster().get("//tmp/run/incarnations/00000/@failure")
}

#[test]
fn one_node_is_taken_and_every_worker_of_every_node_saves() {
    let place = Place::submitted_with_control();
    let running = start(&place, "2m", SAVE);
    let before = now();
    preempt(&place);
    let finished = running.wait();
    finished.assert_code(205).assert_stderr("node 1").assert_stderr("was preempted (SIGTERM)");
    let deadlines: Vec<f64> = (0..4)
        .map(|rank| place.scratch.wait_for_file(&format!("saved.{rank}")).trim().parse().expect("a number"))
        .collect();
    for deadline in &deadlines {
        // The two minutes count from when each node heard of it; the minicluster's 60 s bound the test from above.
        assert!((before + 120.0..now() + 121.0).contains(deadline), "{before} {deadlines:?}");
    }
    let failure = failure(&place);
    assert_eq!((&failure["cause"], &failure["node_rank"]), (&json!("preempted"), &json!(1)), "{failure}");
    // A preemption is answered by no restart, and how the workers ended is no failure of theirs.
    assert!(!place.cluster().exists("//tmp/run/incarnations/00000/@attempts"));
    place.assert_nothing_left();
}

#[test]
fn who_does_not_go_in_time_is_killed() {
    let place = Place::submitted_with_control();
    let running = start(&place, "300ms", r#"trap '' USR1 TERM; echo $$ > "$SCRATCH/up.$RANK"; sleep 1000"#);
    preempt(&place);
    running.wait().assert_code(205);
    place.assert_nothing_left();
}

#[test]
fn a_second_sigterm_shortens_the_time() {
    let place = Place::submitted_with_control();
    // Node 1 says that it was asked and stays; node 0 goes at once.
    let script = r#"trap 'echo asked > "$SCRATCH/asked.$RANK"; [ $NODE_RANK = 0 ] && exit 0' USR1
        trap '' TERM
        echo $$ > "$SCRATCH/up.$RANK"; while :; do sleep 1000 & wait; done"#;
    let running = start(&place, "10m", script);
    preempt(&place);
    for rank in 0..4 {
        assert_eq!(place.scratch.wait_for_file(&format!("asked.{rank}")), "asked\n");
    }
    // The init that is left is that of node 1; one that is leaving is not harmed.
    for init in leftovers::inits(&place.scratch) {
        signal(init, Signal::SIGTERM);
    }
    running.wait().assert_code(205);
    place.assert_nothing_left();
}

/// Every signal that an init can hand on reaches the worker; the numbers of the others.
#[test]
fn every_other_signal_reaches_the_workers() {
    // KILL, STOP: nobody can take them. ILL, BUS, FPE, SEGV: init's own faults. PIPE: of its own sockets. INT, TERM: a
    // stop. CHLD: its children. TTIN, TTOU: its terminal. 32, 33: the C library's.
    const KEPT: [i32; 14] = [2, 4, 7, 8, 9, 11, 13, 15, 17, 19, 21, 22, 32, 33];
    let place = Place::local();
    let script = r#"
import os, signal, sys, time
scratch = os.environ["SCRATCH"]
kept = {int(number) for number in sys.argv[1].split()}
def take(number, _):
    open(os.path.join(scratch, f"got.{number}"), "w").write("got\n")
    if number == 64:
        sys.exit(0)
for number in range(1, 65):
    if number not in kept:
        signal.signal(number, take)
open(os.path.join(scratch, "up"), "w").write("up\n")
while True:
    time.sleep(1000)
"#;
    let script = place.scratch.file("worker.py", script);
    let kept = KEPT.map(|number| number.to_string()).join(" ");
    let arguments = ["/usr/bin/python3", script.to_str().expect("plain text"), &kept];
    let running = place.launcher().args(arguments).start();
    place.scratch.wait_for_file("up");
    let [init] = leftovers::inits(&place.scratch)[..] else { panic!("one init") };
    for number in (1..=64).filter(|number| !KEPT.contains(number)) {
        send(init, number);
        place.scratch.wait_for_file(&format!("got.{number}"));
    }
    running.wait().assert_code(0);
    place.assert_nothing_left();
}

/// Any signal, real-time ones too.
fn send(pid: i32, number: i32) {
    let status =
        std::process::Command::new("/bin/kill").args([format!("-{number}"), pid.to_string()]).status();
    assert!(status.expect("kill can be started").success(), "signal {number}");
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is right").as_secs_f64()
}
