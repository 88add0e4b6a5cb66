//! From the exit of one worker to the first line of all of the next attempt, and to the launcher's own exit.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch, binaries};

use crate::lines::{Group, poll};
use crate::percentile;
use crate::propagation::{find_notes, notes};
use crate::torchrun;
use crate::worker::now;

const RUNS: usize = 10;

const WORKERS: usize = 8;

pub(crate) fn measure() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let own = std::env::current_exe().expect("a running program has a path");
    let own = own.to_str().expect("a plain path");
    for mesh in [(1, 8), (8, 1)] {
        let runs = (0..RUNS).map_while(|run| again(&scratch, &cluster, own, mesh, run));
        say(&format!("restart in place, {} x {} workers", mesh.0, mesh.1), RESTART, runs.collect());
    }
    let runs = (0..RUNS).map(|run| {
        let mut command = Command::new(binaries::tractorun());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch.path(""))
            .env("TMPDIR", scratch.path(""))
            .args(["--local", "--mesh.process-per-node", "8", own, "worker"]);
        exit_of(&scratch, &format!("exit{run}"), command)
    });
    say("tractorun --local, 8 workers", EXIT, runs.collect());

    if torchrun::is_there() {
        // As newer versions have it by themselves; this one's own would be 5 s.
        let own =
            ["--standalone", "--monitor_interval=0.1", "--nproc_per_node=8", "--no_python", own, "worker"];
        let runs = (0..3).map_while(|run| {
            let name = format!("torch-again{run}");
            let arguments = [&["--max_restarts=1"], &own[..]].concat();
            let mut group = Group::new();
            group.start(&mut torchrun::torchrun(&scratch, &name, &arguments));
            let seconds = first_lines(&scratch.path(&name), &mut group);
            group.end();
            seconds
        });
        say("torchrun, restart of 8 workers", RESTART, runs.collect());
        let runs = (0..3).map(|run| {
            let name = format!("torch-exit{run}");
            let arguments = [&["--max_restarts=0"], &own[..]].concat();
            exit_of(&scratch, &name, torchrun::torchrun(&scratch, &name, &arguments))
        });
        say("torchrun, 8 workers", EXIT, runs.collect());
    }
}

const RESTART: &str = "exit of one worker to the first line of all";
const EXIT: &str = "exit of one worker to the launcher's exit";

fn say(who: &str, what: &str, mut seconds: Vec<f64>) {
    let count = seconds.len();
    if count == 0 {
        println!("{who}, {what}: not measured, there was none");
        return;
    }
    println!(
        "{who}, {what}: median {:.0} ms, longest {:.0} ms ({count} runs)",
        percentile(&mut seconds, 50) * 1e3,
        percentile(&mut seconds, 100) * 1e3
    );
}

fn again(scratch: &Scratch, cluster: &Cluster, own: &str, mesh: (u32, u32), run: usize) -> Option<f64> {
    let name = format!("again-{}-{run}", mesh.0);
    let nodes = Nodes::new(scratch, cluster, &name, mesh, &[own, "worker"])
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
    let up = notes(folder, "up", WORKERS);
    send(up[&5].1, Signal::SIGUSR1);
    let begun = poll("again", || {
        let begun = find_notes(folder, "again", WORKERS);
        if begun.is_some() || group.is_short() { Some(begun) } else { None }
    })?;
    let death = notes(folder, "death", 1)[&5].0;
    for (_, pid) in begun.values() {
        send(*pid, Signal::SIGTERM);
    }
    Some(begun.values().map(|(time, _)| time - death).fold(0.0, f64::max))
}

/// Seconds from the exit of one of its workers to the exit of a launcher.
fn exit_of(scratch: &Scratch, name: &str, mut command: Command) -> f64 {
    let folder = scratch.path(name);
    std::fs::create_dir_all(&folder).expect("cannot make a folder");
    let launcher = command.env("SCRATCH", &folder).stdin(Stdio::null());
    let mut launcher =
        launcher.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the launcher starts");
    let up = notes(&folder, "up", WORKERS);
    send(up[&5].1, Signal::SIGUSR1);
    launcher.wait().expect("our own child");
    let end = now();
    end - notes(&folder, "death", 1)[&5].0
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id fits")), signal).expect("the worker is there");
}
