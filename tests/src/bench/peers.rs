//! The peers, where they are installed: `torchrun` of Debian's `python3-torch`, and the Python tractorun of `.venv`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::binaries::{self, SYSTEM_PYTHON};
use crate::{Cluster, Scratch};

/// How the Python tractorun is called in the table.
pub const PYTHON_TRACTORUN: &str = "Python tractorun";

/// Whether the Python tractorun can be run here; says so if not.
pub fn has_python_tractorun() -> bool {
    let there = venv("tractorun").exists();
    if !there {
        super::note("the Python tractorun is not measured: run `scripts/venv` to have it");
    }
    there
}

/// A program of the environment that has the Python tractorun.
pub fn venv(program: &str) -> PathBuf {
    binaries::repository().join(".venv/bin").join(program)
}

/// The bootstrap that the Python tractorun runs in a job, with so many workers that run a command. `SCRATCH` is the
/// run's folder, as for the nodes of [`crate::Nodes`].
pub fn python_bootstrap(
    scratch: &Scratch,
    cluster: &Cluster,
    name: &str,
    workers: u32,
    command: &[&str],
) -> Command {
    let folder = scratch.path(name);
    std::fs::create_dir_all(&folder).expect("cannot make a folder");
    let yt_path = format!("//tmp/{name}");
    for below in ["primary_lock", "incarnations", "_raw_logs/workers", "_raw_logs/sidecars"] {
        cluster.create("map_node", &format!("{yt_path}/{below}"), &serde_json::json!({}));
    }
    let mut bootstrap = Command::new(venv("python"));
    bootstrap
        .arg(binaries::repository().join("tests/bench/python_bootstrap.py"))
        .args([&yt_path, &workers.to_string(), "default"])
        .args(command)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("YT_PROXY", cluster.proxy())
        .env("YT_TOKEN", "any")
        .env("SCRATCH", &folder)
        .current_dir(&folder);
    bootstrap
}

/// Whether torchrun can be run here; says so if not.
pub fn has_torchrun() -> bool {
    let mut python = Command::new(SYSTEM_PYTHON);
    python.args(["-c", "import torch.distributed.run"]).stdout(Stdio::null()).stderr(Stdio::null());
    let there = python.status().is_ok_and(|status| status.success());
    if !there {
        super::note("torchrun is not measured: there is no PyTorch for the system's Python (python3-torch)");
    }
    there
}

/// `torchrun` with these arguments. `SCRATCH` is the run's folder.
pub fn torchrun(scratch: &Scratch, folder: &str, arguments: &[&str]) -> Command {
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
