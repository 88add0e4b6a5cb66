//! Sets of CPUs, as the scheduler and the kernel's text files mean them.
//!
//! Owns: the set, its text form (`0-3,8`), what the calling thread may run on. Knows nothing about why a program
//! should run on some CPUs; [`crate::spawn`] binds a child to a set.

use std::fmt;
use std::io;

/// Bits in a word of the kernel's mask: an `unsigned long`.
const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// Ids above this are a mistake in the text; the largest kernels are built for 8,192.
const MAX_CPU: usize = 1 << 16;

/// A set of CPU ids. There is no limit of 1,024, which the C library's own type has.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuSet {
    /// The kernel's mask; the last word is never zero, so that equal sets are equal.
    words: Vec<libc::c_ulong>,
}

/// A text that is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a list of CPUs such as `0-3,8`, got `{0}`")]
pub struct BadCpuList(pub String);

impl CpuSet {
    /// No CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// The CPUs that the calling thread may run on: online, in its cgroup's cpuset, and not given up by
    /// `sched_setaffinity`.
    pub fn allowed() -> io::Result<Self> {
        // The kernel refuses a mask that is shorter than its own.
        let mut words = vec![0; 1024 / WORD_BITS];
        loop {
            let bytes = size_of_val(words.as_slice());
            // SAFETY: the kernel writes at most `bytes` bytes to the vector, which has that many.
            let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, words.as_mut_ptr()) };
            if written >= 0 {
                return Ok(Self::of_words(words));
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) || words.len() * WORD_BITS > MAX_CPU {
                return Err(error);
            }
            words.resize(words.len() * 2, 0);
        }
    }

    /// Reads the kernel's form: ids and ranges, such as `0-3,8`; nothing is the empty set.
    pub fn parse(text: &str) -> Result<Self, BadCpuList> {
        let bad = || BadCpuList(text.trim().to_owned());
        let mut set = Self::new();
        for item in text.trim().split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let number = |text: &str| text.parse().ok().filter(|id| *id <= MAX_CPU).ok_or_else(bad);
            let (first, last): (usize, usize) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            (first..=last).for_each(|cpu| set.insert(cpu));
        }
        Ok(set)
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: usize) {
        let index = cpu / WORD_BITS;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= 1 << (cpu % WORD_BITS);
    }

    /// Whether a CPU is in it.
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / WORD_BITS).is_some_and(|word| word & (1 << (cpu % WORD_BITS)) != 0)
    }

    /// Number of CPUs.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The ids, from the lowest on.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.words.len() * WORD_BITS).filter(|cpu| self.contains(*cpu))
    }

    /// CPUs that are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (long, short) = if self.words.len() >= other.words.len() { (self, other) } else { (other, self) };
        let mut words = long.words.clone();
        words.iter_mut().zip(&short.words).for_each(|(word, other)| *word |= other);
        Self::of_words(words)
    }

    /// CPUs that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::of_words(self.words.iter().zip(&other.words).map(|(word, other)| word & other).collect())
    }

    /// The kernel's mask.
    pub(crate) fn words(&self) -> &[libc::c_ulong] {
        &self.words
    }

    fn of_words(mut words: Vec<libc::c_ulong>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::new();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

/// The kernel's form: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for text in ["", "0", "0-3", "0-3,8", "1,3,5", "62-65", "0,1024,4095", "5-6"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set("0-3,8\n").iter().collect::<Vec<_>>(), [0, 1, 2, 3, 8]);
        assert_eq!(set("2,1,1-3").to_string(), "1-3");
        for text in ["x", "3-1", "-1", "1-", "1.5", "99999999", "0-99999999"] {
            assert_eq!(CpuSet::parse(text), Err(BadCpuList(text.into())));
        }
    }

    #[test]
    fn sets_are_joined_and_cut() {
        assert_eq!(set("0-3").union(&set("2-70")), set("0-70"));
        assert_eq!(set("2-70").union(&set("0-3")), set("0-70"));
        assert_eq!(set("0-70").intersection(&set("3,70,71")), set("3,70"));
        // What is left of a long set is equal to the short one that it is.
        assert_eq!(set("1,2000").intersection(&set("0-100")), set("1"));
        assert!(set("1").intersection(&set("2")).is_empty());
        assert_eq!(set("0-70").len(), 71);
        assert!(!set("1").contains(5000));
    }

    #[test]
    fn the_allowed_set_is_what_the_kernel_shows() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let shown = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(CpuSet::allowed().unwrap(), set(shown));
    }
}
