//! Workers that are hard to be rid of: stopped, traced, forking without end, or with their pipes in other hands. When
//! the launcher ends, none is left on any node.

use nix::sys::signal::Signal;
use tractorun_tests::{Place, binaries, in_both_places};

in_both_places! {
    stopped_workers_are_gone
    traced_workers_are_gone
    forking_without_end_is_ended
    pipes_in_other_hands_hold_nothing_up
}

/// Those who can ignore SIGTERM do, so the test would only wait.
const SHORT_GRACE: [&str; 2] = ["--grace-period", "500ms"];

/// Rank 0 fails as soon as all others say that they are as they want to be.
fn fails_when_others_are_ready(script: &str) -> String {
    format!(
        r#"if [ $RANK = 0 ]; then
            for rank in 1 2 3; do until [ -s "$SCRATCH/ready.$rank" ]; do sleep 0.02; done; done
            exit 9
        fi
        {script}"#
    )
}

fn assert_nobody_stays(place: &Place, script: &str) {
    let script = fails_when_others_are_ready(script);
    let finished = place.launcher().args(SHORT_GRACE).mesh((2, 2)).bash(&script).run();
    finished.assert_code(9).assert_stderr("rank 0");
    place.assert_nothing_left();
}

/// A stopped process does not even see SIGTERM before somebody continues it.
fn stopped_workers_are_gone(place: &Place) {
    assert_nobody_stays(
        place,
        r#"(until grep -q 'T (stopped)' /proc/$$/status; do sleep 0.02; done; echo 1 > "$SCRATCH/ready.$RANK") &
        kill -STOP $$; sleep 1000"#,
    );
}

/// A tracer sees every signal of its child but SIGKILL first; this one never lets it have one.
fn traced_workers_are_gone(place: &Place) {
    let tracer = r"
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
ready = os.environ['SCRATCH'] + '/ready.' + os.environ['RANK']
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)
os.waitpid(child, os.WUNTRACED)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(ready, 'w') as file:
    file.write('1')
time.sleep(1000)
";
    place.scratch.file("tracer.py", tracer);
    let script = format!("exec {} \"$SCRATCH/tracer.py\"", binaries::SYSTEM_PYTHON);
    assert_nobody_stays(place, &script);
}

/// As many children as there may be at once, each replaced when it ends, and all deaf to SIGTERM.
fn forking_without_end_is_ended(place: &Place) {
    let forker = r"
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready = os.environ['SCRATCH'] + '/ready.' + os.environ['RANK']
def chain(depth):
    # A child takes over and its parent ends: nobody who is looked at is there a moment later.
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(0.002)
            continue
        os._exit(0)
for index in range(8):
    if os.fork() == 0:
        chain(index)
with open(ready, 'w') as file:
    file.write('1')
time.sleep(1000)
";
    place.scratch.file("forker.py", forker);
    let script = format!("exec {} \"$SCRATCH/forker.py\"", binaries::SYSTEM_PYTHON);
    assert_nobody_stays(place, &script);
}

/// A grandchild that holds stdout and stderr open: the worker's end is its own end, not that of its pipes.
fn pipes_in_other_hands_hold_nothing_up(place: &Place) {
    let script = r#"(trap '' TERM HUP; setsid sleep 1000 &); echo said by $RANK >&2; echo 1 > "$SCRATCH/ready.$RANK"; sleep 1000"#;
    assert_nobody_stays(place, script);
    let finished =
        place.launcher().args(SHORT_GRACE).mesh((1, 2)).bash("(setsid sleep 1000 &); exit 0").run();
    finished.assert_code(0);
    place.assert_nothing_left();
}

/// SIGKILL of one node's init: the node is lost, and nobody of it is left either.
#[test]
fn a_killed_init_leaves_nobody() {
    let place = Place::local();
    let script = r#"(trap '' TERM; setsid sleep 1000 &); echo 1 > "$SCRATCH/up.$RANK"; trap '' TERM; sleep 1000 & wait"#;
    let running = place.launcher().args(SHORT_GRACE).mesh((2, 2)).bash(script).start();
    for rank in 0..4 {
        place.scratch.wait_for_file(&format!("up.{rank}"));
    }
    let inits = tractorun_tests::leftovers::inits(&place.scratch);
    tractorun_tests::launcher::signal(inits[1], Signal::SIGKILL);
    assert_ne!(running.wait().code(), 0);
    place.wait_until_nothing_left();
}
