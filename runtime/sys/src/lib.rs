//! Every system call of tractorun that needs unsafe code, and nothing else.
//!
//! Owns: process ids, signals, starting and reaping processes, finding and ending process trees, the guard
//! above an init, pipes, sets of CPUs, the terminal's foreground group. Knows nothing about jobs, workers or policies, and keeps no state of its own:
//! who calls decides when. Linux only.
//!
//! Two rules hold for all callers:
//! - A program reaps either everything ([`reap::reap_any`], as `tractorun-init` does) or only children that it
//!   knows ([`reap::wait_pid`], as the minicluster does), never both: two reapers steal from each other.
//! - Between fork and exec nothing but system calls is made; [`spawn`] prepares everything before.

#![allow(unsafe_code, reason = "this is the one crate that may; every block says why it is sound")]

pub mod cpu;
pub mod descriptor;
pub mod guard;
pub mod jobroot;
pub mod pid;
pub mod reap;
pub mod signal;
pub mod spawn;
pub mod tree;

pub use cpu::CpuSet;
pub use pid::Pid;
pub use reap::ExitReason;
pub use signal::Signal;
