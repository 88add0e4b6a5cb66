//! The stderr of one job: all of it while it is short, its head and its tail when it is long.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What stands for the bytes between head and tail.
const SKIPPED: &[u8] = b"\n...skipped...\n";

/// Written by the job's thread, read by commands at the same time.
#[derive(Debug)]
pub(super) struct Stderr {
    kept: Mutex<Kept>,
    most_head: usize,
    most_tail: usize,
}

#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes that were between head and tail and are gone.
    skipped: u64,
}

impl Stderr {
    /// Keeps at most this many bytes: the first half and the last one.
    pub(super) fn new(most_bytes: usize) -> Self {
        let most_head = most_bytes / 2;
        Stderr { kept: Mutex::default(), most_head, most_tail: most_bytes - most_head }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change leaves the bytes whole, so a writer that panicked changes nothing for readers.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        let room = self.most_head - kept.head.len().min(self.most_head);
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        kept.head.extend_from_slice(head);
        kept.tail.extend(rest);
        let too_many = kept.tail.len().saturating_sub(self.most_tail);
        kept.tail.drain(..too_many);
        kept.skipped += too_many as u64;
    }

    /// All that is kept.
    pub(super) fn read(&self) -> Bytes {
        let kept = self.lock();
        let mut bytes = kept.head.clone();
        if kept.skipped > 0 {
            bytes.extend_from_slice(SKIPPED);
        }
        let (first, second) = kept.tail.as_slices();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        bytes.into()
    }

    /// How many bytes [`Stderr::read`] would give.
    pub(super) fn length(&self) -> usize {
        let kept = self.lock();
        let mark = if kept.skipped > 0 { SKIPPED.len() } else { 0 };
        kept.head.len() + mark + kept.tail.len()
    }

    /// Lets go of all bytes.
    pub(super) fn forget(&self) {
        *self.lock() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_one_is_kept_whole() {
        let stderr = Stderr::new(10);
        for part in ["012", "", "345678", "9"] {
            stderr.append(part.as_bytes());
        }
        assert_eq!(stderr.read(), "0123456789");
        assert_eq!(stderr.length(), 10);
    }

    #[test]
    fn of_a_long_one_head_and_tail_are_kept_however_it_was_written() {
        let text: Vec<u8> = (0..100_u8).map(|number| b'a' + number % 26).collect();
        let expected = [&text[..5], SKIPPED, &text[94..]].concat();
        for step in 1..=100 {
            let stderr = Stderr::new(11);
            text.chunks(step).for_each(|chunk| stderr.append(chunk));
            assert_eq!(stderr.read(), expected, "in steps of {step}");
            assert_eq!(stderr.length(), expected.len());
        }
    }

    #[test]
    fn nothing_is_kept_of_one_that_may_not_be() {
        let stderr = Stderr::new(0);
        stderr.append(b"abc");
        assert_eq!(stderr.read(), SKIPPED);
    }
}
