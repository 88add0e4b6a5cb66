//! How much memory a job uses, by looking again and again.
//!
//! Used are the pages of all its processes and what is in its tmpfs volumes. Pages that processes share count
//! once (as proportional set sizes, where the kernel tells them); pages of files that are mapped count too, the
//! page cache does not. Looking is not as exact as a memory control group: a job that takes and gives back memory
//! between two looks is not seen, and one that grows quickly has more than its limit for a moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use tractorun_sys::Pid;
use tractorun_sys::jobroot::Job;
use tractorun_sys::tree;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Bytes in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryUsage {
    pub(super) processes: u64,
    pub(super) tmpfs: u64,
}

/// Which processes of a job count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    All,
    /// The first one of its container and those below it: not the container engine's own.
    InContainer(Pid),
}

/// The memory of one running job.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    limit: u64,
    guard: Pid,
    counted: Counted,
    volumes: Vec<PathBuf>,
    next: Instant,
}

impl MemoryUsage {
    pub(super) fn total(self) -> u64 {
        self.processes.saturating_add(self.tmpfs)
    }
}

impl MemoryWatch {
    /// `volumes`: the mount points of its tmpfs volumes, as the job sees them.
    pub(super) fn new(
        job: &Job,
        limit: u64,
        counted: Counted,
        volumes: impl Iterator<Item = PathBuf>,
    ) -> Self {
        let root = match counted {
            Counted::All => job.root().clone(),
            Counted::InContainer(first) => PathBuf::from(format!("/proc/{first}/root")),
        };
        let volumes = volumes.map(|volume| root.join(volume.strip_prefix("/").unwrap_or(&volume)));
        MemoryWatch { guard: job.guard(), limit, counted, volumes: volumes.collect(), next: Instant::now() }
    }

    /// When to look.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, if it is time; gives the usage if it is above the limit.
    pub(super) fn too_much(&mut self) -> Option<MemoryUsage> {
        if Instant::now() < self.next {
            return None;
        }
        let usage = self.usage();
        // From now on, so that a look that takes long does not follow upon itself.
        self.next = Instant::now() + INTERVAL;
        usage.filter(|usage| usage.total() > self.limit)
    }

    /// `None` if nothing can be seen.
    fn usage(&self) -> Option<MemoryUsage> {
        let (above, first) = match self.counted {
            Counted::All => (self.guard, None),
            Counted::InContainer(first) => (first, Some(first)),
        };
        let below = tree::descendants(above).ok()?;
        let processes: Vec<Pid> = below.into_iter().map(|process| process.pid).chain(first).collect();
        let tmpfs = self.volumes.iter().map(|volume| used(volume)).sum();
        let all = processes.iter().filter_map(|process| resident(*process)).sum::<u64>();
        // Resident sizes are quick to get and never too small.
        let processes = if all.saturating_add(tmpfs) > self.limit {
            let size = |process: &Pid| proportional(*process).or_else(|| resident(*process));
            processes.iter().filter_map(size).sum()
        } else {
            all
        };
        Some(MemoryUsage { processes, tmpfs })
    }
}

/// All pages that a process has in memory.
fn resident(process: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kilobytes(&text, "VmRSS:")
}

/// The same, with a page that n processes share counted as a part in n.
fn proportional(process: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    kilobytes(&text, "Pss:")
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What is in a file system; nothing, when it is gone.
fn used(volume: &Path) -> u64 {
    statvfs(volume).map_or(0, |state| {
        state.blocks().saturating_sub(state.blocks_free()).saturating_mul(state.fragment_size())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        let text = "Rss:   2000 kB\nPss:     12 kB\nPss_Dirty: 4 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(12 << 10));
        assert_eq!(kilobytes(text, "VmRSS:"), None);
    }

    #[test]
    fn the_memory_of_a_process_is_read_in_both_ways() {
        // Not compared: the kernel adds up the two at different times and the first from batched counters.
        assert!(resident(Pid::current()).unwrap() > 0);
        assert!(proportional(Pid::current()).unwrap() > 0);
    }
}
