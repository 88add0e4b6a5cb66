//! How far the stderr of one job was read, and what of an answer is new.
//!
//! The cluster keeps the beginning and the end of a long stderr. Once it has begun to cut, what stands at an
//! offset moves, so that an offset alone would repeat bytes or skip them. The last bytes that were seen are asked
//! for again with each request, a few hundred: when they are not where they were, the place is looked for in all
//! that is kept; when they are nowhere, bytes are missing, and that is said.

use tractorun_yt::StderrRange;

/// The most that is fetched at once.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;

/// Seen bytes that are asked for again with each request.
const OVERLAP_BYTES: usize = 256;

/// Seen bytes that the place is looked for with.
const MEMORY_BYTES: usize = 4096;

/// What is fetched of the end once the cluster cuts, so that the place is found without all of it.
const CUT_BYTES: u64 = 256 << 10;

/// What stands where the cluster has cut, as far as is known.
const CUT_MARK: &[u8] = b"\n...skipped...\n";

/// Whether the cluster sends from an offset on. An older one ignores it without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Offsets {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It does.
    Honoured,
    /// It always sends everything.
    Ignored,
}

/// What an answer brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether bytes are missing in front of these.
    pub(crate) gap: Gap,
    /// Bytes that were not seen before.
    pub(crate) bytes: Vec<u8>,
    /// What to do next.
    pub(crate) next: Next,
}

/// Whether bytes are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Gap {
    /// None, as far as can be told.
    #[default]
    None,
    /// The cluster has cut some out before they were read.
    Here,
}

/// What to do after an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Next {
    /// All that is there was seen.
    #[default]
    Wait,
    /// There is more.
    Ask,
}

/// The place in one stderr.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    offset: u64,
    /// The last bytes that were seen.
    memory: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// All is kept where it was.
    #[default]
    Growing,
    /// The cluster cuts: only the end is asked for.
    Cut,
    /// The place is lost: everything is asked for.
    Lost,
}

impl Cursor {
    /// Bytes up to the place.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the cluster cuts, so that a length says nothing.
    pub(crate) fn is_cut(&self) -> bool {
        self.state != State::Growing
    }

    /// Which part to ask for; none means everything.
    pub(crate) fn wanted(&self, offsets: Offsets) -> Option<StderrRange> {
        if offsets == Offsets::Ignored || self.state == State::Lost {
            return None;
        }
        let back = match self.state {
            State::Growing | State::Lost => self.overlap().len() as u64,
            State::Cut => CUT_BYTES.min(self.offset),
        };
        Some(StderrRange { offset: self.offset - back, limit: back + CHUNK_BYTES })
    }

    /// Takes the answer to what was [`Cursor::wanted`].
    pub(crate) fn accept(&mut self, answer: &[u8], wanted: Option<StderrRange>) -> News {
        let Some(range) = wanted else { return self.accept_all(answer) };
        if self.state == State::Cut {
            return match find_last(answer, &self.memory) {
                Some(end) => {
                    self.see(&answer[end..]);
                    self.offset = range.offset + answer.len() as u64;
                    news(&answer[end..])
                }
                None => self.lose(),
            };
        }
        let overlap = self.overlap();
        match answer.strip_prefix(overlap) {
            Some(new) => {
                let next = if answer.len() as u64 >= range.limit { Next::Ask } else { Next::Wait };
                self.see(new);
                self.offset += new.len() as u64;
                News { next, ..news(new) }
            }
            None => self.lose(),
        }
    }

    /// Everything that is kept.
    fn accept_all(&mut self, whole: &[u8]) -> News {
        let seen = usize::try_from(self.offset).unwrap_or(usize::MAX);
        if self.state == State::Growing
            && let Some((before, new)) = whole.split_at_checked(seen)
            && before.ends_with(self.overlap())
        {
            self.see(new);
            self.offset = whole.len() as u64;
            return news(new);
        }
        self.state = State::Cut;
        self.offset = whole.len() as u64;
        if let Some(end) = find_last(whole, &self.memory) {
            self.see(&whole[end..]);
            return news(&whole[end..]);
        }
        // What is left is the end, which the cluster has kept behind its mark.
        let start = find_last(whole, CUT_MARK).unwrap_or(0);
        self.see(&whole[start..]);
        News { gap: Gap::Here, ..news(&whole[start..]) }
    }

    fn lose(&mut self) -> News {
        self.state = State::Lost;
        News { next: Next::Ask, ..News::default() }
    }

    fn see(&mut self, new: &[u8]) {
        let new = &new[new.len().saturating_sub(MEMORY_BYTES)..];
        self.memory.extend_from_slice(new);
        let too_many = self.memory.len().saturating_sub(MEMORY_BYTES);
        self.memory.drain(..too_many);
    }

    fn overlap(&self) -> &[u8] {
        &self.memory[self.memory.len().saturating_sub(OVERLAP_BYTES)..]
    }
}

fn news(bytes: &[u8]) -> News {
    News { bytes: bytes.to_vec(), ..News::default() }
}

/// Where the last occurrence of `what` ends.
fn find_last(whole: &[u8], what: &[u8]) -> Option<usize> {
    if what.is_empty() {
        return None;
    }
    let last = *what.last()?;
    (what.len()..=whole.len()).rev().find(|end| whole[end - 1] == last && whole[..*end].ends_with(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a cluster keeps of `written`, and what it answers.
    fn kept(written: &[u8], most: usize) -> Vec<u8> {
        if written.len() <= most {
            return written.to_vec();
        }
        let head = most / 2;
        let tail = written.len() - (most - head);
        [&written[..head], CUT_MARK, &written[tail..]].concat()
    }

    fn answer(kept: &[u8], range: Option<StderrRange>) -> &[u8] {
        let Some(range) = range else { return kept };
        let start = usize::try_from(range.offset).unwrap().min(kept.len());
        let end = start.saturating_add(usize::try_from(range.limit).unwrap()).min(kept.len());
        &kept[start..end]
    }

    /// One look: asks until there is nothing more.
    fn poll(cursor: &mut Cursor, kept: &[u8], offsets: Offsets) -> (Vec<u8>, usize) {
        let (mut bytes, mut gaps) = (Vec::new(), 0);
        for _ in 0..50 {
            let wanted = cursor.wanted(offsets);
            let answer = if offsets == Offsets::Ignored { kept } else { answer(kept, wanted) };
            let news = cursor.accept(answer, wanted);
            gaps += usize::from(news.gap == Gap::Here);
            bytes.extend(news.bytes);
            if news.next == Next::Wait {
                return (bytes, gaps);
            }
        }
        panic!("it asks for ever");
    }

    #[test]
    fn only_what_is_new_is_shown_and_little_is_read_again() {
        for offsets in [Offsets::Honoured, Offsets::Ignored] {
            let mut cursor = Cursor::default();
            assert_eq!(poll(&mut cursor, b"one\n", offsets), (b"one\n".to_vec(), 0));
            assert_eq!(poll(&mut cursor, b"one\none\n", offsets), (b"one\n".to_vec(), 0));
            assert_eq!(poll(&mut cursor, b"one\none\n", offsets), (vec![], 0));
            assert_eq!(cursor.offset(), 8);
        }
        let mut cursor = Cursor::default();
        let long = vec![b'x'; 3_000_000];
        assert_eq!(poll(&mut cursor, &long, Offsets::Honoured).0.len(), long.len());
        let wanted = cursor.wanted(Offsets::Honoured).unwrap();
        assert_eq!((wanted.offset, wanted.limit), (3_000_000 - 256, CHUNK_BYTES + 256));
    }

    /// Lines that can be told apart.
    fn lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
    }

    #[test]
    fn a_cut_loses_nothing_that_was_read_in_time_and_doubles_nothing() {
        for offsets in [Offsets::Honoured, Offsets::Ignored] {
            let written = lines(20_000);
            let mut cursor = Cursor::default();
            let mut shown = Vec::new();
            // Steps are shorter than the tail that is kept.
            for end in (0..written.len()).step_by(3000).chain([written.len()]) {
                let (bytes, gaps) = poll(&mut cursor, &kept(&written[..end], 20_000), offsets);
                assert_eq!(gaps, 0);
                shown.extend(bytes);
            }
            assert!(shown == written, "{offsets:?}");
        }
    }

    #[test]
    fn what_was_cut_before_it_was_read_is_a_gap() {
        for offsets in [Offsets::Honoured, Offsets::Ignored] {
            let written = lines(20_000);
            let mut cursor = Cursor::default();
            let (first, _) = poll(&mut cursor, &kept(&written[..30_000], 40_000), offsets);
            assert_eq!(first, written[..30_000]);
            let (rest, gaps) = poll(&mut cursor, &kept(&written, 40_000), offsets);
            assert_eq!((rest, gaps), (written[written.len() - 20_000..].to_vec(), 1));
            assert_eq!(poll(&mut cursor, &kept(&written, 40_000), offsets), (vec![], 0));
        }
    }

    proptest! {
        /// However it grows: what is shown is what was written, but for what stands behind a gap.
        #[test]
        fn nothing_is_doubled(
            steps in prop::collection::vec(0..9000_usize, 1..30),
            most in 2000..50_000_usize,
            honoured in any::<bool>(),
        ) {
            let offsets = if honoured { Offsets::Honoured } else { Offsets::Ignored };
            let written = lines(30_000);
            let (mut cursor, mut end, mut shown, mut any_gap) = (Cursor::default(), 0, Vec::new(), false);
            for step in steps {
                end = (end + step).min(written.len());
                let (bytes, gaps) = poll(&mut cursor, &kept(&written[..end], most), offsets);
                any_gap |= gaps > 0 || find_last(&bytes, CUT_MARK).is_some();
                shown.extend(bytes);
            }
            if any_gap {
                prop_assert!(written[..end].ends_with(&shown[shown.len().saturating_sub(1000.min(most / 4))..]));
            } else {
                prop_assert!(shown == written[..end]);
            }
        }
    }
}
