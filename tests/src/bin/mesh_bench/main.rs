//! Measures what a node does and what crosses nodes: `TRACTORUN_BIN_DIR=<folder with the binaries> mesh_bench [PART...]`; `make bench` runs it.
//!
//! Every node is a real `tractorun-init` on this machine, against a real minicluster. Where there is a peer it is
//! measured in the same run.

#![allow(clippy::cast_precision_loss, reason = "counts here are small")]

use std::io::Write;

mod failure;
mod idle;
mod lines;
mod notes;
mod propagation;
mod rendezvous;
mod requests;
mod restart;
mod sizes;
mod start;
mod supervisors;
mod torchrun;
mod worker;

/// What can be measured, in the order of the table.
const PARTS: [(&str, fn()); 8] = [
    ("sizes", sizes::measure),
    ("start", start::measure),
    ("failure", failure::measure),
    ("restart", restart::measure),
    ("idle", idle::measure),
    ("rendezvous", rendezvous::measure),
    ("propagation", propagation::measure),
    ("requests", requests::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["worker"] => return worker::run(),
        ["writer"] => return requests::write_lines(),
        _ => {}
    }
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    if arguments.iter().any(|argument| !names.contains(&argument.as_str())) {
        let _ = writeln!(std::io::stderr(), "usage: mesh_bench [{}]...", names.join("|"));
        return;
    }
    for (name, measure) in PARTS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            measure();
        }
    }
}
