//! What an init needs while its workers run and nothing happens: memory, CPU time and wake-ups.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;
use crate::propagation::notes;

const WORKERS: u32 = 8;

const MEASURED: Duration = Duration::from_mins(1);

pub(crate) fn measure() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let own = std::env::current_exe().expect("a running program has a path");
    let own = own.to_str().expect("a plain path");
    let nodes = Nodes::new(&scratch, &cluster, "idle", (2, WORKERS), &[own, "worker"]);
    let mut group = Group::new();
    let guards: Vec<u32> =
        (0..2).map(|rank| group.start(&mut nodes.command(rank, &Particulars::default()))).collect();
    notes(&scratch.path("idle"), "up", 2 * WORKERS as usize);
    // What the start leaves to be done is done.
    thread::sleep(Duration::from_secs(2));
    let inits: Vec<u32> = guards.iter().map(|guard| child_of(*guard)).collect();
    let before: Vec<Use> = inits.iter().map(|init| Use::of(*init)).collect();
    thread::sleep(MEASURED);
    for (name, (init, before)) in ["node 0, the leader", "node 1"].iter().zip(inits.iter().zip(&before)) {
        let after = Use::of(*init);
        let memory = |key: &str| kilobytes(*init, key) / 1024.0;
        println!(
            "idle tractorun-init with {WORKERS} workers, {name}: RSS {:.1} MiB, PSS {:.1} MiB; in a minute {} \
             wake-ups, {:.0} ms of CPU time",
            memory("Rss"),
            memory("Pss"),
            after.wake_ups - before.wake_ups,
            (after.cpu_seconds - before.cpu_seconds) * 1e3
        );
    }
    kill(Pid::from_raw(i32::try_from(guards[0]).expect("a process id fits")), Signal::SIGTERM)
        .expect("the leader is there");
    group.end();
}

/// What a process has used so far.
struct Use {
    /// Times that one of its threads stopped waiting.
    wake_ups: u64,
    cpu_seconds: f64,
}

impl Use {
    fn of(pid: u32) -> Self {
        let mut total = Self { wake_ups: 0, cpu_seconds: 0.0 };
        for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the init lives").flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).expect("its threads live");
            let status = read("status");
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            total.wake_ups += switches.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
            let nanoseconds: f64 =
                read("schedstat").split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0.0);
            total.cpu_seconds += nanoseconds / 1e9;
        }
        total
    }
}

/// The init below a guard.
fn child_of(guard: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap_or_default();
    children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("the guard has an init")
}

fn kilobytes(pid: u32, key: &str) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the init lives");
    let line = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN)
}
