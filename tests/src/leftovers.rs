//! Who is alive: processes that carry a test's mark, and the inits above them.

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

/// Every `tractorun-init` that has a child with the test's mark.
pub fn inits(scratch: &Scratch) -> Vec<i32> {
    let mut inits: Vec<i32> = find(scratch).iter().filter_map(|process| parent(process.pid)).collect();
    inits.retain(|pid| read(Path::new(&format!("/proc/{pid}/comm"))).trim() == "tractorun-init");
    inits.sort_unstable();
    inits.dedup();
    inits
}

/// Waits until nobody with the mark is alive but these.
///
/// # Panics
/// When somebody still is at the deadline.
#[track_caller]
pub fn wait_until_gone_but(scratch: &Scratch, keep: &[i32]) {
    let start = Instant::now();
    loop {
        let found = others(scratch, keep);
        if found.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "still alive after {DEADLINE:?}: {found:#?}");
        std::thread::sleep(POLL);
    }
}

/// Checks that nobody with the mark is alive at this moment but these.
#[track_caller]
pub fn assert_gone_but(scratch: &Scratch, keep: &[i32]) {
    let found = others(scratch, keep);
    assert!(found.is_empty(), "still alive: {found:#?}");
}

fn others(scratch: &Scratch, keep: &[i32]) -> Vec<Leftover> {
    let mut found = find(scratch);
    found.retain(|process| !keep.contains(&process.pid));
    found
}

fn parent(pid: i32) -> Option<i32> {
    let status = read(Path::new(&format!("/proc/{pid}/status")));
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn read(path: &Path) -> String {
    // It may be gone by now, or belong to somebody else.
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
