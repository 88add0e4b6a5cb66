//! From the exit of one of eight workers to SIGTERM at the last of the others, and to the supervisor's own exit.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tractorun_tests::bench::{Figure, Row, heading, percentile};
use tractorun_tests::{Cluster, Scratch, binaries};

use crate::notes::{last_after, notes, send};
use crate::supervisors::{Peer, WORKERS, own_path, rows};
use crate::worker::now;

const RUNS: usize = 10;
const PEER_RUNS: usize = 3;

/// The worker that exits.
const VICTIM: u32 = 5;

pub(crate) fn measure() {
    heading("Failure: one of 8 workers of a node exits with 7");
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let several = |runs: usize, name: &str, command: &dyn Fn(&str) -> Command| {
        let names = (0..runs).map(|run| format!("exit-{name}-{run}"));
        let (mut told, mut over): (Vec<f64>, Vec<f64>) =
            names.map(|name| one(&scratch, &name, command(&name))).unzip();
        [percentile(&mut told, 50), percentile(&mut over, 50)].map(Figure::Seconds)
    };
    let ours = several(RUNS, "ours", &|_| {
        let mut command = Command::new(binaries::tractorun());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch.path(""))
            .env("TMPDIR", scratch.path(""))
            .args(["--local", "--mesh.process-per-node", "8", &own_path(), "worker"]);
        command
    });
    let theirs: Vec<_> = Peer::installed()
        .into_iter()
        .map(|peer| {
            let name = format!("{peer:?}");
            (peer, several(PEER_RUNS, &name, &|name| peer.command(&scratch, &cluster, name, 0)))
        })
        .collect();
    for (index, what) in ["SIGTERM at the last of the others", "the launcher's own exit (tractorun --local)"]
        .iter()
        .enumerate()
    {
        let theirs: Vec<_> = theirs.iter().map(|(peer, figures)| (*peer, figures[index])).collect();
        rows(&Row::new(&format!("its exit to {what}, median"), ours[index]), &theirs);
    }
}

/// Seconds to the last SIGTERM, and to the exit of the launcher.
fn one(scratch: &Scratch, name: &str, mut command: Command) -> (f64, f64) {
    let folder = scratch.path(name);
    std::fs::create_dir_all(&folder).expect("cannot make a folder");
    let launcher = command.env("SCRATCH", &folder).stdin(Stdio::null());
    let mut launcher =
        launcher.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the launcher starts");
    let up = notes(&folder, "up", WORKERS as usize);
    send(up[&VICTIM].1, Signal::SIGUSR1);
    launcher.wait().expect("our own child");
    let end = now();
    let death = notes(&folder, "death", 1)[&VICTIM].0;
    let told = notes(&folder, "term", WORKERS as usize - 1);
    (last_after(&told, death), end - death)
}
