//! However a run ends, nobody is left: Ctrl-C, SIGTERM, the launcher's death, and trees that try to stay.

use nix::sys::signal::Signal;
use tractorun_tests::launcher::signal;
use tractorun_tests::process::Running;
use tractorun_tests::{Launcher, Place, in_both_places, leftovers};

in_both_places! {
    ctrl_c_leaves_nothing
    ctrl_c_before_the_workers_run_leaves_nothing
    sigterm_to_an_init_stops_in_order
    trees_that_try_to_stay_are_gone_after_success
    trees_that_try_to_stay_are_gone_after_a_failure
    trees_that_try_to_stay_are_gone_after_ctrl_c
}

/// Every worker says that it is up and waits; asked to stop, it says that too.
const WAIT: &str = r#"trap 'echo bye > "$SCRATCH/stopped.$RANK"; exit 0' TERM
    echo $$ > "$SCRATCH/up.$RANK"; sleep 1000 & wait $!"#;

/// A process that nobody asked for: own session, parent gone, deaf to everything that can be ignored.
const STAYER: &str = r#"(trap '' TERM INT HUP QUIT USR1; setsid bash -c 'echo $$ > "$SCRATCH/stayer.$RANK"; sleep 1000' &)
    until [ -s "$SCRATCH/stayer.$RANK" ]; do sleep 0.02; done"#;

fn start_and_wait_for_workers(place: &Place, script: &str) -> Running {
    start_and_wait(place, place.launcher(), script)
}

fn start_and_wait(place: &Place, launcher: Launcher, script: &str) -> Running {
    let running = launcher.mesh((2, 2)).bash(script).start();
    for rank in 0..4 {
        place.scratch.wait_for_file(&format!("up.{rank}"));
    }
    running
}

fn ctrl_c_leaves_nothing(place: &Place) {
    let running = start_and_wait_for_workers(place, WAIT);
    running.signal(Signal::SIGINT);
    running.wait().assert_code(130);
    place.wait_until_nothing_left();
}

fn ctrl_c_before_the_workers_run_leaves_nothing(place: &Place) {
    // The first thing that it says is long before the first worker.
    let running = place.launcher().mesh((2, 1)).bash(WAIT).start();
    running.wait_for("\n");
    running.signal(Signal::SIGINT);
    running.wait().assert_code(130);
    place.wait_until_nothing_left();
}

fn sigterm_to_an_init_stops_in_order(place: &Place) {
    let running = start_and_wait_for_workers(place, WAIT);
    let inits = leftovers::inits(&place.scratch);
    assert_eq!(inits.len(), 2, "one init for each node");
    signal(inits[1], Signal::SIGTERM);
    let finished = running.wait();
    if place.is_submitted() {
        // On a cluster that is how a preemption is announced.
        finished.assert_code(205).assert_stderr("was preempted (SIGTERM)");
    } else {
        finished.assert_code(143).assert_stderr("was stopped by SIGTERM");
    }
    for rank in 0..4 {
        assert_eq!(place.scratch.wait_for_file(&format!("stopped.{rank}")), "bye\n");
    }
    place.assert_nothing_left();
}

fn trees_that_try_to_stay_are_gone_after_success(place: &Place) {
    place.launcher().mesh((2, 2)).bash(STAYER).run().assert_code(0);
    place.assert_nothing_left();
}

fn trees_that_try_to_stay_are_gone_after_a_failure(place: &Place) {
    let script = format!("{STAYER}\n[ $RANK = 0 ] && exit 9; sleep 1000");
    place.launcher().mesh((2, 2)).bash(&script).run().assert_code(9);
    place.assert_nothing_left();
}

fn trees_that_try_to_stay_are_gone_after_ctrl_c(place: &Place) {
    let script = format!("{STAYER}\n{WAIT}");
    let running = start_and_wait_for_workers(place, &script);
    running.signal(Signal::SIGINT);
    running.wait().assert_code(130);
    place.wait_until_nothing_left();
}

/// `kill -9` of the launcher: nobody is told, and yet nobody stays.
#[test]
fn local_run_ends_with_its_launcher() {
    let place = Place::local();
    let running = start_and_wait_for_workers(&place, &format!("{STAYER}\n{WAIT}"));
    running.signal(Signal::SIGKILL);
    place.wait_until_nothing_left();
    // Even so they were asked first.
    for rank in 0..4 {
        assert_eq!(place.scratch.wait_for_file(&format!("stopped.{rank}")), "bye\n");
    }
}

/// The operation runs inside the launcher's transaction, which nobody pings any more.
#[test]
fn operation_ends_with_its_launcher() {
    let place = Place::submitted();
    let launcher = place.launcher().args(["--yt-path", "//tmp/run", "--transaction-timeout", "5s"]);
    let running = start_and_wait(&place, launcher, WAIT);
    running.signal(Signal::SIGKILL);
    place.wait_until_nothing_left();
    assert_eq!(place.cluster().the_operation()["state"], "aborted");
    // Whoever comes later is told why.
    let attached = Launcher::new(&place.scratch).env("YT_PROXY", place.cluster().proxy());
    let attached = attached.args(["attach", "//tmp/run"]).run();
    attached
        .assert_code(1)
        .assert_stderr("was aborted: the cluster heard nothing of its launcher for too long");
    attached.assert_stderr("hint: `--no-wait` starts a run that needs no launcher");
}

#[test]
fn second_ctrl_c_leaves_at_once() {
    let place = Place::submitted();
    let running = start_and_wait_for_workers(&place, WAIT);
    // The cluster stands still, so that the first Ctrl-C cannot be done with.
    signal(place.cluster().pid(), Signal::SIGSTOP);
    running.signal(Signal::SIGINT);
    running.wait_for("abort");
    running.signal(Signal::SIGINT);
    running.wait().assert_code(130);
    signal(place.cluster().pid(), Signal::SIGCONT);
}

/// The minicluster's own end takes its jobs along.
#[test]
fn jobs_end_with_their_minicluster() {
    let place = Place::submitted();
    let running = start_and_wait_for_workers(&place, &format!("{STAYER}\n{WAIT}"));
    signal(place.cluster().pid(), Signal::SIGKILL);
    drop(running);
    leftovers::wait_until_gone_but(&place.scratch, &[place.cluster().pid()]);
}
