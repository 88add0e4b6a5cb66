//! From the start of a supervisor to the first moment of the last of its workers.

use std::process::Command;

use tractorun_tests::bench::{Figure, Row, heading, percentile};
use tractorun_tests::{Cluster, Scratch};

use crate::lines::Group;
use crate::notes::{end_workers, last_after, notes};
use crate::supervisors::{Peer, WORKERS, init, rows};
use crate::worker::now;

const RUNS: usize = 5;
const PEER_RUNS: usize = 3;

pub(crate) fn measure() {
    heading("Start: from the supervisor's start until 8 workers run, one node");
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let several = |runs: usize, name: &str, command: &dyn Fn(&str) -> Command| {
        let names = (0..runs).map(|run| format!("start-{name}-{run}"));
        let mut seconds: Vec<f64> = names.map(|name| one(&scratch, &name, command(&name))).collect();
        Figure::Seconds(percentile(&mut seconds, 50))
    };
    let ours = several(RUNS, "ours", &|name| init(&scratch, &cluster, name));
    let theirs: Vec<_> = Peer::installed()
        .into_iter()
        .map(|peer| {
            let name = format!("{peer:?}");
            (peer, several(PEER_RUNS, &name, &|name| peer.command(&scratch, &cluster, name, 0)))
        })
        .collect();
    rows(&Row::new("start to 8 running workers, rendezvous included, median", ours), &theirs);
}

fn one(scratch: &Scratch, name: &str, mut command: Command) -> f64 {
    let mut group = Group::new();
    let begin = now();
    group.start(&mut command);
    let up = notes(&scratch.path(name), "up", WORKERS as usize);
    end_workers(&up);
    group.kill();
    last_after(&up, begin)
}
