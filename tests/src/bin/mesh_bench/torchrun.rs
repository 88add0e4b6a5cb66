//! Agents of `torchrun` that meet and lose a worker: what [`crate::rendezvous`] and [`crate::propagation`] measure of our
//! nodes. Both come from one start, since every agent imports `PyTorch`: 64 of them keep two cores busy for minutes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use nix::sys::signal::Signal;
use tractorun_tests::Scratch;
use tractorun_tests::bench::peers;
use tractorun_tests::nodes::free_port;

use crate::lines::Group;
use crate::notes::{last_after, notes, send};
use crate::supervisors::own_path;
use crate::worker::now;

/// What so many agents took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agents {
    /// From the last one's coming to the rendezvous until all have met.
    pub(crate) meeting_seconds: f64,
    /// From SIGKILL of a worker to SIGTERM at the last worker of the others, which begin again with it.
    pub(crate) propagation_seconds: f64,
}

/// Measured once for each number; nothing where there is no torchrun.
pub(crate) fn agents(count: usize) -> Option<Agents> {
    static MEASURED: Mutex<BTreeMap<usize, Agents>> = Mutex::new(BTreeMap::new());
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    if !measured.contains_key(&count) && peers::has_torchrun() {
        measured.insert(count, measure(count));
    }
    measured.get(&count).copied()
}

fn measure(count: usize) -> Agents {
    let scratch = Scratch::new();
    let endpoint = format!("--rdzv_endpoint=127.0.0.1:{}", free_port());
    let nodes = format!("--nnodes={count}");
    let own = own_path();
    let arguments = [
        nodes.as_str(),
        "--nproc_per_node=1",
        "--rdzv_backend=c10d",
        "--rdzv_id=bench",
        &endpoint,
        // As newer versions have it; this one's own would be 5 s.
        "--monitor_interval=0.1",
        // Without a restart the others are never told.
        "--max_restarts=1",
        "--no_python",
        &own,
        "worker",
    ];
    let mut group = Group::new();
    for _ in 0..count {
        group.start(&mut peers::torchrun(&scratch, "meet", &arguments));
    }
    // Each says so when it comes to the rendezvous.
    group.wait_for("Rendezvous'ing worker group", count);
    let came = Instant::now();
    group.wait_for("Rendezvous complete for workers", count);
    let meeting_seconds = came.elapsed().as_secs_f64();
    let folder = scratch.path("meet");
    let up = notes(&folder, "up", count);
    let death = now();
    send(up[&1].1, Signal::SIGKILL);
    let told = notes(&folder, "term", count - 1);
    // All begin again, and are ended before anybody is killed: torchrun would leave its workers behind.
    // Their workers end with them.
    group.kill();
    Agents { meeting_seconds, propagation_seconds: last_after(&told, death) }
}
