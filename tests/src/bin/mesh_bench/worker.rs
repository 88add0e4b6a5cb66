//! What the measured nodes run: a worker that notes when things happen to it, on the clock that all processes share.

use std::path::PathBuf;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};

/// Seconds on the machine's monotonic clock.
pub(crate) fn now() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

/// Runs as a worker: says in `up.<rank>` that it is there, and in `<signal>.<rank>` when a signal came. SIGTERM ends
/// it with 0, SIGUSR1 with 7; restarted, it says so in `again.<rank>`.
pub(crate) fn run() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGUSR1);
    signals.thread_block().expect("signals can be blocked");
    // Peers leave their workers behind when they are killed.
    set_pdeathsig(Signal::SIGTERM).expect("Linux has this signal");
    let attempt = std::env::var("TORCHELASTIC_RESTART_COUNT").unwrap_or_default();
    note(if attempt == "0" || attempt.is_empty() { "up" } else { "again" }, std::process::id());
    let signal = signals.wait().expect("a signal can be waited for");
    let name = if signal == Signal::SIGTERM { "term" } else { "death" };
    note(name, std::process::id());
    #[expect(clippy::exit, reason = "the code is what the measurement is about")]
    std::process::exit(if signal == Signal::SIGTERM { 0 } else { 7 })
}

/// Time and process id, whole or not at all.
fn note(what: &str, pid: u32) {
    let time = now();
    let rank = rank();
    let folder = PathBuf::from(std::env::var_os("SCRATCH").expect("a test has a folder"));
    let part = folder.join(format!("{what}.{rank}.part"));
    std::fs::write(&part, format!("{time} {pid}\n")).expect("cannot write a file");
    std::fs::rename(part, folder.join(format!("{what}.{rank}"))).expect("cannot name a file");
}

/// Its rank, as the supervisors tell it: the Python tractorun only in the name of a file, `config_<rank>.json`.
fn rank() -> String {
    let of_config = || {
        let path = PathBuf::from(std::env::var_os("TRACTO_CONFIG")?);
        Some(path.file_stem()?.to_str()?.strip_prefix("config_")?.to_owned())
    };
    std::env::var("RANK").ok().or_else(of_config).expect("a worker has a rank")
}
