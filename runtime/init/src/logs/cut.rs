//! Cutting a stream of bytes into rows: at `\n`, at `\r` (progress bars), and where a line is too long for one row.
//!
//! Nothing is taken away: the rows of a stream, each with its end, joined, are the stream.

use memchr::memrchr2;
use tractorun_contract::logs::MAX_MESSAGE_BYTES;
pub(super) use tractorun_contract::logs::{LineEnd, first_row, rows};

/// The beginning of a row whose end has not come. It holds no `\n`, and a `\r` only as its last byte: whether that is
/// an end of its own is known when the next byte comes.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    carry: Vec<u8>,
}

// === impl Cutter ===

impl Cutter {
    /// Takes bytes (fewer than [`MAX_MESSAGE_BYTES`]); gives what consists of whole rows, or is a piece of a long one,
    /// to `emit`, in two parts that belong together.
    pub(super) fn feed(&mut self, bytes: &[u8], emit: &mut impl FnMut(&[u8], &[u8])) {
        if self.carry.len() + bytes.len() > MAX_MESSAGE_BYTES {
            let returned = self.carry.last() == Some(&b'\r');
            emit(&self.carry[..self.carry.len() - usize::from(returned)], b"");
            // After a long line the memory goes back.
            self.carry = if returned { b"\r".to_vec() } else { Vec::new() };
        }
        if let Some(end) = end_of_last_row(bytes) {
            emit(&self.carry, &bytes[..end]);
            self.carry.clear();
            self.carry.extend_from_slice(&bytes[end..]);
        } else {
            if self.carry.last() == Some(&b'\r') && !bytes.is_empty() {
                emit(&self.carry, b"");
                self.carry.clear();
            }
            self.carry.extend_from_slice(bytes);
        }
    }

    /// The stream has ended: passes on what has no end.
    pub(super) fn end(&mut self, emit: &mut impl FnMut(&[u8], &[u8])) {
        let last = std::mem::take(&mut self.carry);
        if !last.is_empty() {
            emit(&last, b"");
        }
    }
}

/// Where the last row ends that is known to end in `bytes`.
fn end_of_last_row(bytes: &[u8]) -> Option<usize> {
    let known = match bytes.split_last() {
        // What follows it is not known yet.
        Some((b'\r', before)) => before,
        _ => bytes,
    };
    // A `\r` in front of the last `\n` is never found first, and one in front of that last `\r` is an end.
    memrchr2(b'\n', b'\r', known).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows of a stream that comes in these chunks, as text.
    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, LineEnd)> {
        let mut all = Vec::new();
        let mut cutter = Cutter::default();
        let mut emit = |head: &[u8], tail: &[u8]| {
            let record = [head, tail].concat();
            all.extend(rows(&record).map(|(message, end)| (message.to_vec(), end)));
        };
        for chunk in chunks {
            cutter.feed(chunk, &mut emit);
        }
        cutter.end(&mut emit);
        all
    }

    fn row(message: &str, end: LineEnd) -> (Vec<u8>, LineEnd) {
        (message.as_bytes().to_vec(), end)
    }

    #[test]
    fn rows_end_at_newlines_and_at_returns() {
        use LineEnd::{Newline, Nothing, Return, ReturnNewline};
        let chunks: [&[u8]; 4] = [b"one\n\n\r 10", b"%\r", b"\n 20%\r", b"30%\rlast"];
        let expected = [
            row("one", Newline),
            row("", Newline),
            row("", Return),
            row(" 10%", ReturnNewline),
            row(" 20%", Return),
            row("30%", Return),
            row("last", Nothing),
        ];
        assert_eq!(cut(&chunks), expected);
        assert_eq!(cut(&[b"\r", b"\r", b"\r"]), [row("", Return), row("", Return), row("", Return)]);
        assert_eq!(cut(&[b"", b"", b"\r"]), [row("", Return)]);
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn a_progress_bar_moves_as_soon_as_the_next_one_begins() {
        let mut shown = Vec::new();
        let mut cutter = Cutter::default();
        for chunk in [b"\r 10%".as_slice(), b"\r 20%", b"\r 30%"] {
            cutter.feed(chunk, &mut |head, tail| shown.push([head, tail].concat()));
        }
        assert_eq!(shown, [b"\r".to_vec(), b" 10%\r".to_vec(), b" 20%\r".to_vec()]);
    }

    #[test]
    fn long_lines_take_several_rows_and_no_more_memory_than_one() {
        let chunk = vec![b'x'; 64 * 1024];
        let mut cutter = Cutter::default();
        let mut count = 0;
        let mut bytes = 0;
        let mut emit = |head: &[u8], tail: &[u8]| {
            assert!(head.len() + tail.len() <= MAX_MESSAGE_BYTES + 1);
            count += 1;
            bytes += head.len() + tail.len();
        };
        for _ in 0..160 {
            cutter.feed(&chunk, &mut emit);
            assert!(cutter.carry.len() <= MAX_MESSAGE_BYTES);
        }
        cutter.feed(b"\n", &mut emit);
        assert_eq!((count, bytes), (11, 160 * chunk.len() + 1));
    }

    proptest! {
        /// However the bytes come, the rows joined are the bytes, and they are cut alike.
        #[test]
        fn nothing_is_lost_and_chunks_do_not_matter(bytes in "[ab\r\n]{0,40}", cuts in proptest::collection::vec(0..40_usize, 0..8)) {
            let bytes = bytes.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let found = cut(&chunks);
            let joined: Vec<u8> = found.iter().flat_map(|(message, end)| [message.as_slice(), end.bytes()].concat()).collect();
            prop_assert_eq!(joined, bytes);
            prop_assert_eq!(&found, &cut(&[bytes]));
            prop_assert!(found.iter().all(|(message, _)| !message.contains(&b'\n') && !message.contains(&b'\r')));
        }
    }
}
