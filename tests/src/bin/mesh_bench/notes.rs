//! What [`crate::worker`] notes in the folder of its run, and signals to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lines::poll;

/// Time and process by rank.
pub(crate) type Notes = BTreeMap<u32, (f64, u32)>;

/// Time and process of every worker that has noted this, once so many have.
pub(crate) fn notes(folder: &Path, what: &str, count: usize) -> Notes {
    poll(what, || find_notes(folder, what, count))
}

/// The same, if so many have by now.
pub(crate) fn find_notes(folder: &Path, what: &str, count: usize) -> Option<Notes> {
    let mut notes = BTreeMap::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rank) = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('.')?.parse().ok()) else {
            continue;
        };
        let text = fs::read_to_string(entry.path()).ok()?;
        let (time, pid) = text.trim().split_once(' ')?;
        notes.insert(rank, (time.parse().ok()?, pid.parse().ok()?));
    }
    (notes.len() >= count).then_some(notes)
}

/// Seconds from a moment to the last that was noted.
pub(crate) fn last_after(notes: &Notes, moment: f64) -> f64 {
    notes.values().map(|(time, _)| time - moment).fold(0.0, f64::max)
}

/// Sends a signal to a worker that lives.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(pid_of(pid), signal).expect("the worker is there");
}

/// Ends workers, those that live.
pub(crate) fn end_workers(notes: &Notes) {
    for (_, pid) in notes.values() {
        match kill(pid_of(*pid), Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("cannot end worker {pid}: {error}"),
        }
    }
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a process id fits"))
}
