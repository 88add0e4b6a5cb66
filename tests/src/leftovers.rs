//! Who is still alive: processes that carry a test's mark.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::process::{DEADLINE, POLL};
use crate::scratch::{MARK, Scratch};

/// A process that carries the mark.
#[derive(Debug)]
pub struct Leftover {
    /// Its id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
}

/// Every living process with the test's mark in its environment, or the test's folder in its command line.
///
/// Zombies have neither, so a process that is dead and not yet reaped by its parent does not count.
pub fn find(scratch: &Scratch) -> Vec<Leftover> {
    let mark = format!("{MARK}={}", scratch.mark());
    let folder = scratch.text("");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux has /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == i32::try_from(std::process::id()).expect("a process id fits") {
            continue;
        }
        let environment = read(&entry.path().join("environ"));
        let command = read(&entry.path().join("cmdline")).replace('\0', " ");
        if environment.split('\0').any(|variable| variable == mark) || command.contains(&folder) {
            found.push(Leftover { pid, command });
        }
    }
    found
}

/// Waits until nobody with the mark is alive.
///
/// # Panics
/// When somebody still is at the deadline.
#[track_caller]
pub fn wait_until_gone(scratch: &Scratch) {
    let start = Instant::now();
    loop {
        let found = find(scratch);
        if found.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "still alive after {DEADLINE:?}: {found:#?}");
        std::thread::sleep(POLL);
    }
}

/// Checks that nobody with the mark is alive at this moment.
#[track_caller]
pub fn assert_gone(scratch: &Scratch) {
    let found = find(scratch);
    assert!(found.is_empty(), "still alive: {found:#?}");
}

fn read(path: &Path) -> String {
    // It may be gone by now, or belong to somebody else.
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
