//! A failure is seen at once: the launcher ends within a second of the worker. And whatever a worker does, it is gone
//! with its node within the grace period and half a second.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::json;
use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, MESHES, Nodes, Place, Scratch, leftovers};

/// From the worker's end to the launcher's, in a release build.
const LIMIT: Duration = Duration::from_secs(1);

fn failure_is_prompt(place: &Place) {
    for mesh in MESHES {
        let script = r#"cd "$SCRATCH"; echo > "up.$WORLD_SIZE.$RANK"
            if [ $RANK = $((WORLD_SIZE - 1)) ]; then
                for rank in $(seq 0 $RANK); do until [ -e "up.$WORLD_SIZE.$rank" ]; do sleep 0.02; done; done
                date +%s.%N > "end.$WORLD_SIZE"; exit 7
            fi
            exec sleep 1000"#;
        place.launcher().mesh(mesh).bash(script).run().assert_code(7);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let end = fs::read_to_string(place.scratch.path(&format!("end.{}", mesh.0 * mesh.1)))
            .expect("it was written");
        let end = Duration::from_secs_f64(end.trim().parse().expect("seconds"));
        let took = now.checked_sub(end).expect("clocks agree");
        assert!(took < LIMIT, "the launcher ended {took:?} after the worker, on mesh {mesh:?}");
    }
}

const GRACE: Duration = Duration::from_millis(700);

/// What the end may take besides the grace period.
const MORE: Duration = Duration::from_millis(500);

/// What workers do that make it hard to be rid of them; each says `ready` when it does it.
const BAD_WORKERS: &[(&str, &str)] = &[
    ("deaf", "import signal as s; s.signal(15, s.SIG_IGN); ready(); wait()"),
    ("stopped", "ready(); os.kill(os.getpid(), 19)"),
    (
        "deaf in a session of its own, its parents gone",
        "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(15, signal.SIG_IGN); ready(); wait()
    os._exit(0)
wait()",
    ),
    (
        "many",
        "
signal.signal(15, signal.SIG_IGN)
for _ in range(50):
    if os.fork() == 0: wait()
ready(); wait()",
    ),
    (
        "forking without end",
        "
signal.signal(15, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        while True:
            if os.fork(): os._exit(0)
            os.setsid(); time.sleep(0.002)
ready(); wait()",
    ),
    (
        "traced by one that is deaf",
        "
import ctypes
child = os.fork()
if child == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0); os.kill(os.getpid(), 19); wait()
os.waitpid(child, os.WUNTRACED)
signal.signal(15, signal.SIG_IGN); ready(); wait()",
    ),
    (
        "a zombie's parent",
        "
signal.signal(15, signal.SIG_IGN)
for _ in range(50):
    if os.fork() == 0: os._exit(0)
ready(); wait()",
    ),
    (
        "busy",
        "
signal.signal(15, signal.SIG_IGN); ready()
while True: pass",
    ),
    (
        "talking without end",
        "
signal.signal(15, signal.SIG_IGN); ready()
while True: os.write(1, b'x' * 999 + b'\\n')",
    ),
    (
        "holding its pipes by others",
        "
if os.fork() == 0:
    os.setsid(); signal.signal(15, signal.SIG_IGN); ready(); wait()
wait()",
    ),
    ("obedient", "ready(); wait()"),
];

/// From SIGTERM at one init of two to the end of both.
fn time_to_the_end(script: &str) -> Duration {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let script = format!(
        "import os, signal, time\n\
         def wait():\n    while True: time.sleep(1000)\n\
         def ready(): open(os.environ['SCRATCH'] + '/ready.' + os.environ['RANK'], 'w').write('ready\\n')\n{script}"
    );
    let nodes = Nodes::new(&scratch, &cluster, "run", (2, 2), &["/usr/bin/python3", "-c", &script]);
    let limits = json!({
        "rendezvous_ms": 60_000, "heartbeat_ms": 30_000, "grace_period_ms": GRACE.as_millis(),
    });
    let running = nodes.with("timeouts", limits).start_all();
    for rank in 0..4 {
        scratch.wait_for_file(&format!("run/ready.{rank}"));
    }
    let begin = Instant::now();
    running[1].signal(Signal::SIGTERM);
    let ends: Vec<_> = running.into_iter().map(Running::wait).collect();
    let took = begin.elapsed();
    for end in ends {
        end.assert_code(143);
    }
    leftovers::assert_gone_but(&scratch, &[cluster.pid()]);
    took
}

mod timed {
    use super::{BAD_WORKERS, GRACE, MORE, Place, failure_is_prompt, time_to_the_end};

    /// The median of five, since the machine does other things, too.
    #[test]
    #[ignore = "wants an idle machine, see `make soak`"]
    fn bad_workers_are_gone_in_time() {
        for (what, script) in BAD_WORKERS {
            let mut took: Vec<_> = (0..5).map(|_| time_to_the_end(script)).collect();
            took.sort();
            println!("{what}: {took:?}");
            assert!(took[2] < GRACE + MORE, "{what}: {took:?}");
        }
    }

    #[test]
    fn local() {
        failure_is_prompt(&Place::local());
    }

    #[test]
    fn submitted() {
        failure_is_prompt(&Place::submitted());
    }
}
