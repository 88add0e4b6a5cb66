//! Restart in place: from the exit of one worker to the first moment of all of the next attempt.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use tractorun_tests::bench::{Figure, Row, heading, note, peers, percentile};
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::{Group, poll};
use crate::notes::{end_workers, find_notes, last_after, notes, send};
use crate::supervisors::{Peer, WORKERS, own_path};

const RUNS: usize = 10;
const PEER_RUNS: usize = 3;

pub(crate) fn measure() {
    heading("Restart in place: one of 8 workers exits with 7, all begin again");
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let [one_node, nodes] = [(1, 8), (8, 1)].map(|mesh| {
        let runs = (0..RUNS).map_while(|run| ours(&scratch, &cluster, mesh, run));
        median(runs.collect())
    });
    let what = "its exit to the first moment of the last, median";
    let row = Row::new(what, one_node);
    if peers::has_torchrun() {
        let runs = (0..PEER_RUNS).map_while(|run| {
            let name = format!("torch-again{run}");
            let mut group = Group::new();
            group.start(&mut Peer::Torchrun.command(&scratch, &cluster, &name, 1));
            let seconds = first_lines(&scratch.path(&name), &mut group);
            group.end();
            seconds
        });
        row.beside(Peer::Torchrun.name(), median(runs.collect()));
    } else {
        row.print();
    }
    Row::new("the same on 8 nodes with one worker each", nodes).print();
    note("the Python tractorun has no restart in place");
}

fn median(mut seconds: Vec<f64>) -> Figure {
    Figure::Seconds(percentile(&mut seconds, 50))
}

fn ours(scratch: &Scratch, cluster: &Cluster, mesh: (u32, u32), run: usize) -> Option<f64> {
    let name = format!("again-{}-{run}", mesh.0);
    let nodes = Nodes::new(scratch, cluster, &name, mesh, &[&own_path(), "worker"])
        .with("restarts", json!({ "max": 1, "backoff_ms": 0 }));
    let mut group = Group::new();
    for rank in 0..mesh.0 {
        group.start(&mut nodes.command(rank, &Particulars::default()));
    }
    let seconds = first_lines(&scratch.path(&name), &mut group);
    group.end();
    seconds
}

/// Makes one of the workers that note in the folder exit; seconds until all have begun again. Ends those too. None if
/// they do not begin again.
fn first_lines(folder: &Path, group: &mut Group) -> Option<f64> {
    let up = notes(folder, "up", WORKERS as usize);
    send(up[&5].1, Signal::SIGUSR1);
    let begun = poll("again", || {
        let begun = find_notes(folder, "again", WORKERS as usize);
        if begun.is_some() || group.is_short() { Some(begun) } else { None }
    })?;
    let death = notes(folder, "death", 1)[&5].0;
    end_workers(&begun);
    Some(last_after(&begun, death))
}
