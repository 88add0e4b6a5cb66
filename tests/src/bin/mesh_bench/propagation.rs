//! From the death of one worker to SIGTERM at every other one of all nodes.

use nix::sys::signal::Signal;
use tractorun_tests::bench::{Figure, Row, heading, note, percentile};
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;
use crate::notes::{last_after, notes, send};
use crate::supervisors::own_path;
use crate::torchrun;
use crate::worker::now;

const NODES: u32 = 64;

/// Runs; `TRACTORUN_BENCH_RUNS` says otherwise.
const RUNS: usize = 50;

pub(crate) fn measure() {
    heading(
        "Propagation: SIGKILL of one worker to SIGTERM at the last of 63 others, 64 nodes with one worker each",
    );
    let runs = std::env::var("TRACTORUN_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let mut last: Vec<f64> = (0..runs).map(|run| one(&scratch, &cluster, run)).collect();
    let [median, most] = [50, 99].map(|hundredths| Figure::Seconds(percentile(&mut last, hundredths)));
    Row::new(&format!("p99 of {runs} runs"), most).goal("<= 100 ms").print();
    let row = Row::new("p50", median);
    match torchrun::agents(NODES as usize) {
        Some(agents) => {
            row.beside("torchrun, one run", Figure::Seconds(agents.propagation_seconds));
            note("torchrun tells the other agents only if it may restart; without a restart they run on");
        }
        None => row.print(),
    }
}

/// Seconds from the death until SIGTERM came to the last other worker.
fn one(scratch: &Scratch, cluster: &Cluster, run: usize) -> f64 {
    let name = format!("stop{run}");
    let nodes = Nodes::new(scratch, cluster, &name, (NODES, 1), &[&own_path(), "worker"]);
    let mut group = Group::new();
    for rank in 0..NODES {
        group.start(&mut nodes.command(rank, &Particulars::default()));
    }
    let folder = scratch.path(&name);
    let up = notes(&folder, "up", NODES as usize);
    // A different node each time, the leader among them.
    let victim = u32::try_from(run * 7).expect("few runs") % NODES;
    let death = now();
    send(up[&victim].1, Signal::SIGKILL);
    let told = notes(&folder, "term", NODES as usize - 1);
    let codes = group.end();
    assert!(codes.iter().all(|code| *code == Some(137)), "{codes:?}");
    last_after(&told, death)
}
