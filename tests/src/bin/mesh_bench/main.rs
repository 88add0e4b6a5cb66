//! Measures what crosses nodes: `TRACTORUN_BIN_DIR=<folder with the binaries> mesh_bench`; `make bench` runs it.
//!
//! Every node is a real `tractorun-init` on this machine, against a real minicluster. Where there is a peer it is
//! measured in the same run.

#![allow(clippy::print_stdout, reason = "what is measured is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are small")]

use std::io::Write;

mod idle;
mod lines;
mod propagation;
mod rendezvous;
mod restart;
mod torchrun;
mod worker;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["worker"] => worker::run(),
        ["rendezvous"] => rendezvous::measure(),
        ["propagation"] => propagation::measure(),
        ["restart"] => restart::measure(),
        ["idle"] => idle::measure(),
        ["torchrun"] => torchrun::measure(),
        [] => {
            rendezvous::measure();
            propagation::measure();
            restart::measure();
            idle::measure();
            torchrun::measure();
        }
        _ => {
            let _ = std::io::stderr()
                .write_all(b"usage: mesh_bench [rendezvous|propagation|restart|idle|torchrun]\n");
        }
    }
}

/// The value that so many of a hundred are not above.
fn percentile(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * hundredths).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or(f64::NAN)
}
