//! From the death of one worker to SIGTERM at every other one of all nodes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::{Group, poll};
use crate::percentile;
use crate::worker::now;

const NODES: u32 = 64;

/// Runs; `TRACTORUN_BENCH_RUNS` says otherwise.
const RUNS: usize = 50;

pub(crate) fn measure() {
    let runs = std::env::var("TRACTORUN_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let (mut last, mut all) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let delays = one(&scratch, &cluster, run);
        last.extend(delays.iter().copied().reduce(f64::max));
        all.extend(delays);
    }
    println!(
        "propagation, {NODES} nodes with one worker each, SIGKILL of a worker to SIGTERM at the last of all others: \
         p50 {:.1} ms, p99 {:.1} ms ({runs} runs); at each: p50 {:.1} ms, p99 {:.1} ms",
        percentile(&mut last, 50) * 1e3,
        percentile(&mut last, 99) * 1e3,
        percentile(&mut all, 50) * 1e3,
        percentile(&mut all, 99) * 1e3,
    );
}

/// Seconds from the death until SIGTERM came, for each other worker.
fn one(scratch: &Scratch, cluster: &Cluster, run: usize) -> Vec<f64> {
    let own = std::env::current_exe().expect("a running program has a path");
    let own = own.to_str().expect("a plain path");
    let name = format!("stop{run}");
    let nodes = Nodes::new(scratch, cluster, &name, (NODES, 1), &[own, "worker"]);
    let mut group = Group::new();
    for rank in 0..NODES {
        group.start(&mut nodes.command(rank, &Particulars::default()));
    }
    let folder = scratch.path(&name);
    let up = notes(&folder, "up", NODES as usize);
    // A different node each time, the leader among them.
    let victim = u32::try_from(run * 7).expect("few runs") % NODES;
    let death = now();
    let pid = i32::try_from(up[&victim].1).expect("a process id fits");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the worker is there");
    let told = notes(&folder, "term", NODES as usize - 1);
    let codes = group.end();
    assert!(codes.iter().all(|code| *code == Some(137)), "{codes:?}");
    told.values().map(|(time, _)| time - death).collect()
}

/// Time and process of every worker that has noted this, once so many have.
pub(crate) fn notes(folder: &Path, what: &str, count: usize) -> BTreeMap<u32, (f64, u32)> {
    poll(what, || find_notes(folder, what, count))
}

/// The same, if so many have by now.
pub(crate) fn find_notes(folder: &Path, what: &str, count: usize) -> Option<BTreeMap<u32, (f64, u32)>> {
    let mut notes = BTreeMap::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rank) = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('.')?.parse().ok()) else {
            continue;
        };
        let text = fs::read_to_string(entry.path()).ok()?;
        let (time, pid) = text.trim().split_once(' ')?;
        notes.insert(rank, (time.parse().ok()?, pid.parse().ok()?));
    }
    (notes.len() >= count).then_some(notes)
}
