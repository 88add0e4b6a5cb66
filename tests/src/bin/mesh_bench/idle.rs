//! What a supervisor needs while its workers run and nothing happens: memory, CPU time and wake-ups.

use std::fs;
use std::thread;
use std::time::Duration;

use tractorun_tests::bench::{Figure, Row, heading};
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;
use crate::notes::{end_workers, notes};
use crate::supervisors::{Peer, WORKERS, own_path, rows};

const MEASURED: Duration = Duration::from_mins(1);

pub(crate) fn measure() {
    heading("Idle: 8 workers that do nothing, for a minute");
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    // All in the same minute: none of them does anything.
    let nodes = Nodes::new(&scratch, &cluster, "idle", (2, WORKERS), &[&own_path(), "worker"]);
    let mut group = Group::new();
    let guards: Vec<u32> =
        (0..2).map(|rank| group.start(&mut nodes.command(rank, &Particulars::default()))).collect();
    let mut workers = vec![notes(&scratch.path("idle"), "up", 2 * WORKERS as usize)];
    let mut processes: Vec<u32> = guards.iter().map(|guard| child_of(*guard)).collect();
    let peers = Peer::installed();
    for peer in &peers {
        let name = format!("idle-{peer:?}");
        processes.push(group.start(&mut peer.command(&scratch, &cluster, &name, 0)));
        workers.push(notes(&scratch.path(&name), "up", WORKERS as usize));
    }
    // What the start leaves to be done is done.
    thread::sleep(Duration::from_secs(2));
    let before: Vec<Use> = processes.iter().map(|process| Use::of(*process)).collect();
    thread::sleep(MEASURED);
    let figures: Vec<[Figure; 4]> =
        processes.iter().zip(&before).map(|(process, before)| since(*process, before)).collect();
    let (ours, theirs) = figures.split_at(2);
    let names = ["memory: PSS", "memory: RSS", "times that a thread woke up", "CPU time"];
    for (index, what) in names.iter().enumerate() {
        let theirs: Vec<_> =
            peers.iter().zip(theirs).map(|(peer, figures)| (*peer, figures[index])).collect();
        let row = Row::new(what, ours[1][index]);
        rows(&if *what == "memory: RSS" { row.goal("12 MiB") } else { row }, &theirs);
    }
    Row::new("the leader's init: times that a thread woke up", ours[0][2]).print();
    Row::new("the leader's init: CPU time", ours[0][3]).print();
    workers.iter().for_each(end_workers);
    group.kill();
}

/// Memory and what was used since then, in the order of the table.
fn since(process: u32, before: &Use) -> [Figure; 4] {
    let after = Use::of(process);
    [
        Figure::Bytes(kilobytes(process, "Pss") * 1024.0),
        Figure::Bytes(kilobytes(process, "Rss") * 1024.0),
        Figure::Count((after.wake_ups - before.wake_ups) as f64),
        Figure::Seconds(after.cpu_seconds - before.cpu_seconds),
    ]
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
        for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the supervisor lives").flatten() {
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
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the supervisor lives");
    let line = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN)
}
