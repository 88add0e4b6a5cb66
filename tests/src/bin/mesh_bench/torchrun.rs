//! The peer: `torchrun` of Debian's `python3-torch`, where it is installed, doing the same on this machine.

use std::process::{Command, Stdio};
use std::time::Instant;

use tractorun_tests::Scratch;
use tractorun_tests::binaries::SYSTEM_PYTHON;
use tractorun_tests::nodes::free_port;

use crate::lines::Group;

/// Agents that meet: each of them imports `PyTorch`, so that more take minutes on a small machine.
const AGENTS: usize = 16;

/// Whether it can be run here.
pub(crate) fn is_there() -> bool {
    let mut python = Command::new(SYSTEM_PYTHON);
    python.args(["-c", "import torch.distributed.run"]).stdout(Stdio::null()).stderr(Stdio::null());
    let there = python.status().is_ok_and(|status| status.success());
    if !there {
        println!("torchrun: not measured, {SYSTEM_PYTHON} has no PyTorch");
    }
    there
}

/// `torchrun` with these arguments.
pub(crate) fn torchrun(scratch: &Scratch, folder: &str, arguments: &[&str]) -> Command {
    let folder = scratch.path(folder);
    std::fs::create_dir_all(&folder).expect("cannot make a folder");
    let mut command = Command::new(SYSTEM_PYTHON);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", scratch.path(""))
        .env("TMPDIR", scratch.path(""))
        .env("SCRATCH", folder)
        .env("OMP_NUM_THREADS", "1")
        .env("LOGLEVEL", "INFO")
        // Debian's PyTorch 1.13 takes underscores only, and cannot start workers on this Python unless told where
        // their stdout goes.
        .args(["-m", "torch.distributed.run", "-r", "1", "-t", "1"])
        .args(arguments);
    command
}

pub(crate) fn measure() {
    if !is_there() {
        return;
    }
    let scratch = Scratch::new();
    let endpoint = format!("--rdzv_endpoint=127.0.0.1:{}", free_port());
    let nodes = format!("--nnodes={AGENTS}");
    let arguments = [
        nodes.as_str(),
        "--nproc_per_node=1",
        "--rdzv_backend=c10d",
        "--rdzv_id=bench",
        &endpoint,
        "--no_python",
        "/bin/true",
    ];
    let mut group = Group::new();
    for _ in 1..AGENTS {
        group.start(&mut torchrun(&scratch, "meet", &arguments));
    }
    // Each says so when it comes to the rendezvous.
    group.wait_for("Rendezvous'ing worker group", AGENTS - 1);
    let start = Instant::now();
    group.start(&mut torchrun(&scratch, "meet", &arguments));
    group.wait_for("Rendezvous'ing worker group", 1);
    let came = Instant::now();
    group.wait_for("Rendezvous complete for workers", AGENTS);
    println!(
        "torchrun, c10d rendezvous of {AGENTS} agents: {:.3} s after the last agent came to it ({:.3} s after the \
         start of its process)",
        came.elapsed().as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    group.end();
}
