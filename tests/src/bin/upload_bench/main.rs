//! Measures what a launcher does before its job: `TRACTORUN_BIN_DIR=<folder with the binaries> upload_bench`;
//! `make bench` runs it.
//!
//! The tree of files is the same for the Python tractorun on the same minicluster, which counts the bytes that come.
//! Its `--dry-run` packs and uploads as a run does; ours does neither, so ours starts a job that does nothing, and the
//! job is ended before the next figure.

#![allow(clippy::cast_precision_loss, reason = "counts here are small")]

use std::process::Command;

use serde_json::{Value, json};
use tractorun_tests::bench::{Figure, Row, TIMED, Usage, heading, peers, percentile, timed};
use tractorun_tests::{Cluster, Scratch, binaries};

mod tree;

/// Cold starts; the median is printed.
const STARTS: usize = 20;
/// The same of the peer, which takes longer.
const PEER_STARTS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((TIMED, command)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        timed(command);
        return;
    }
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let launchers =
        Launchers { scratch: &scratch, cluster: &cluster, has_peer: peers::has_python_tractorun() };
    launchers.starts();
    launchers.uploads();
}

struct Launchers<'a> {
    scratch: &'a Scratch,
    cluster: &'a Cluster,
    has_peer: bool,
}

/// What an upload took.
struct Upload {
    usage: Usage,
    sent_bytes: f64,
}

impl Launchers<'_> {
    /// From the command to its end, for one that only says what it would do.
    fn starts(&self) {
        heading("Starting the launcher: --dry-run of a command without binds");
        let of = |starts: usize, launcher: &dyn Fn() -> Command| {
            let uses: Vec<Usage> = (0..starts).map(|_| Usage::of(&launcher())).collect();
            let mut seconds: Vec<f64> = uses.iter().map(|used| used.seconds).collect();
            let mut peaks: Vec<f64> = uses.iter().map(|used| used.peak_bytes).collect();
            (Figure::Seconds(percentile(&mut seconds, 50)), Figure::Bytes(percentile(&mut peaks, 50)))
        };
        let ours = of(STARTS, &|| self.ours(&["--dry-run"]));
        let theirs = self.has_peer.then(|| of(PEER_STARTS, &|| self.theirs(&[])));
        let time = Row::new("time, median", ours.0).goal("< 20 ms");
        let memory = Row::new("largest memory", ours.1);
        match theirs {
            Some(theirs) => {
                time.beside(peers::PYTHON_TRACTORUN, theirs.0);
                memory.beside(peers::PYTHON_TRACTORUN, theirs.1);
            }
            None => [time, memory].into_iter().for_each(Row::print),
        }
    }

    fn uploads(&self) {
        let tree = self.scratch.path("tree");
        let bytes = tree::plant(&tree);
        heading(&format!(
            "Uploads: a folder of {} files, {:.1} GB, to a minicluster on this machine",
            tree::FILES,
            bytes as f64 / 1e9
        ));
        let source = tree.to_str().expect("a plain path");
        let ours = format!("--bind-local={source}:data");
        let theirs = format!("--bind-local={source}:/slot/sandbox/data");
        for (what, changed) in [("cold", false), ("the same again", false), ("one byte changed", true)] {
            if changed {
                tree::change_a_byte(&tree);
            }
            let ours = self.upload(&self.ours(&["--no-wait", &ours]));
            self.end_job();
            let theirs = self.has_peer.then(|| self.upload(&self.theirs(&[&theirs])));
            let figures = |upload: &Upload| {
                [
                    Figure::Seconds(upload.usage.seconds),
                    Figure::Seconds(upload.usage.cpu_seconds),
                    Figure::Bytes(upload.sent_bytes),
                    Figure::Bytes(upload.usage.peak_bytes),
                ]
            };
            let theirs = theirs.as_ref().map(figures);
            let names = ["time", "CPU time", "sent", "largest memory"];
            for (index, (figure, ours)) in names.iter().zip(figures(&ours)).enumerate() {
                let what = format!("{what}: {figure}");
                let row = Row::new(&what, ours);
                match theirs {
                    Some(theirs) => row.beside(peers::PYTHON_TRACTORUN, theirs[index]),
                    None => row.print(),
                }
            }
        }
    }

    /// Runs a launcher and counts what the cluster got of file content.
    fn upload(&self, command: &Command) -> Upload {
        self.cluster.control("DELETE", "/counters", &Value::Null);
        let usage = Usage::of(command);
        let counted = self.cluster.control("GET", "/counters", &Value::Null);
        let counts = counted["counters"].as_array().expect("there is a list of counters");
        let written = counts.iter().filter(|count| count["command"] == "write_file");
        let sent_bytes = written.fold(0.0, |sum, count| sum + count["bytes_in"].as_f64().unwrap_or(0.0));
        Upload { usage, sent_bytes }
    }

    /// Ends the operation that was started last, so that unpacking disturbs nothing.
    fn end_job(&self) {
        let operations = self.cluster.operations();
        let parameters = json!({ "operation_id": operations[0]["id"] });
        // One that has ended by itself cannot be aborted.
        let _ = self.cluster.send("POST", "abort_operation", &parameters, b"");
        self.cluster.wait_until_no_operation_runs();
    }

    fn ours(&self, options: &[&str]) -> Command {
        self.launcher(Command::new(binaries::tractorun()), options)
    }

    fn theirs(&self, options: &[&str]) -> Command {
        self.launcher(Command::new(peers::venv("tractorun")), &[options, &["--dry-run"]].concat())
    }

    fn launcher(&self, mut command: Command, options: &[&str]) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.scratch.path(""))
            .env("TMPDIR", self.scratch.path(""))
            .env("YT_PROXY", self.cluster.proxy())
            .env("YT_TOKEN", "any")
            .args(["--docker-image", "debian:12", "--yt-path", "//tmp/bench"])
            .args(options)
            .arg("/bin/true");
        command
    }
}
