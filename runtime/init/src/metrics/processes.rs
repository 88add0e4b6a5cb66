//! What processes use, by `/proc`, one look for all of them.

use std::collections::HashMap;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Longer chains of parents than this are taken for a circle of numbers that were used again meanwhile.
const MAX_ANCESTORS: usize = 4096;

/// What a process and all that descend from it use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) processes: u64,
    pub(super) resident_bytes: u64,
    /// Those of children that were reaped included.
    pub(super) cpu_seconds: f64,
}

/// One line of `/proc/<pid>/stat`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    session: i32,
    cpu_ticks: u64,
    resident_pages: u64,
}

/// Usage of the trees with these roots, in their order, and of this process alone. Empty where `/proc` cannot tell.
pub(super) fn usage(roots: &[i32]) -> (Vec<Usage>, Usage) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let table = read_table(own);
    let ticks = constant(SysconfVar::CLK_TCK, 100);
    let page = constant(SysconfVar::PAGE_SIZE, 4096);
    let mut trees = vec![Usage::default(); roots.len()];
    for (pid, stat) in &table {
        if let Some(index) = owner(*pid, &table, roots) {
            trees[index].add(*stat, ticks, page);
        }
    }
    let mut self_usage = Usage::default();
    if let Some(stat) = table.get(&own) {
        self_usage.add(*stat, ticks, page);
    }
    (trees, self_usage)
}

fn constant(name: SysconfVar, usual: u64) -> u64 {
    sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(usual).max(1)
}

fn read_table(own: i32) -> HashMap<i32, Stat> {
    // A /proc of another PID namespace would give numbers that mean other processes here.
    let is_ours = fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.to_string().as_str());
    let entries = if is_ours { fs::read_dir("/proc").ok() } else { None };
    let read = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        // Who ended since the listing has no file any more.
        Some((pid, parse(&fs::read(entry.path().join("stat")).ok()?)?))
    };
    entries.into_iter().flatten().flatten().filter_map(read).collect()
}

/// The root that a process belongs to: its nearest ancestor among them, or, if it was orphaned, whose session it is.
fn owner(pid: i32, table: &HashMap<i32, Stat>, roots: &[i32]) -> Option<usize> {
    let index_of = |pid: i32| roots.iter().position(|root| *root == pid);
    let mut ancestor = pid;
    for _ in 0..MAX_ANCESTORS {
        if let Some(index) = index_of(ancestor) {
            return Some(index);
        }
        match table.get(&ancestor) {
            Some(stat) => ancestor = stat.parent,
            None => break,
        }
    }
    index_of(table.get(&pid)?.session)
}

/// The name, in parentheses, may hold anything: fields are counted from its last `)`.
fn parse(stat: &[u8]) -> Option<Stat> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    if matches!(*fields.first()?, "Z" | "X" | "x") {
        return None;
    }
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        resident_pages: number(21)?,
    })
}

// === impl Usage ===

impl Usage {
    #[expect(clippy::cast_precision_loss, reason = "a billion years of ticks are exact enough")]
    fn add(&mut self, stat: Stat, ticks_per_second: u64, page_bytes: u64) {
        self.processes += 1;
        self.resident_bytes += stat.resident_pages * page_bytes;
        self.cpu_seconds += stat.cpu_ticks as f64 / ticks_per_second as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name_is() {
        let line = b"7 (a) Z 1 (\n) S 3 7 5 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 99 8192 12 1844674 1";
        let expected = Stat { parent: 3, session: 5, cpu_ticks: 100, resident_pages: 12 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"7 (x) Z 3 7 5 0 -1 0 0 0 0 0 1 1 1 1 20 0 1 0 9 0 0"), None);
        assert_eq!(parse(b"nothing"), None);
    }

    #[test]
    fn processes_belong_to_their_nearest_root_or_to_the_session_they_were_born_in() {
        let stat = |parent, session| Stat { parent, session, cpu_ticks: 0, resident_pages: 0 };
        let table = HashMap::from([
            (1, stat(0, 1)),
            (10, stat(1, 10)),
            (11, stat(10, 10)),
            (12, stat(11, 12)), // made its own session
            (13, stat(1, 10)),  // orphaned
            (20, stat(1, 20)),
            (30, stat(31, 1)), // a circle
            (31, stat(30, 1)),
        ]);
        let owners: Vec<_> = [1, 10, 11, 12, 13, 20, 30].map(|pid| owner(pid, &table, &[10, 20])).into();
        assert_eq!(owners, [None, Some(0), Some(0), Some(0), Some(0), Some(1), None]);
    }

    #[test]
    fn this_process_uses_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (trees, alone) = usage(&[own, i32::MAX]);
        assert!(alone.resident_bytes > 100_000 && trees[0].resident_bytes >= 100_000);
        assert_eq!((alone.processes, trees[1]), (1, Usage::default()));
    }
}
