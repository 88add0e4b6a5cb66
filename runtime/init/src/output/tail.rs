//! The last lines of a stream, kept for the failure record.

use std::collections::VecDeque;

/// Lines kept.
pub(super) const TAIL_LINES: usize = 50;

/// Bytes kept of each: a record is read by people.
const LINE_BYTES: usize = 1000;

/// Bytes kept of all of them: the record is an attribute, which the cluster keeps in the memory of its masters.
const TAIL_BYTES: usize = 16 * 1024;

/// The last lines of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
}

// === impl Tail ===

impl Tail {
    /// Takes complete lines, each with its newline.
    pub(super) fn push(&mut self, complete: &[u8]) {
        let complete = complete.strip_suffix(b"\n").unwrap_or(complete);
        // Only the last ones matter, however much there is: cut them off the end.
        let newest: Vec<&[u8]> = complete.rsplit(|byte| *byte == b'\n').take(TAIL_LINES).collect();
        for line in newest.into_iter().rev() {
            if self.lines.len() == TAIL_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(visible(line).to_vec());
        }
    }

    /// The lines as text, oldest first, with what was begun after them (which is none if it is empty): the last ones
    /// that are within the bounds.
    pub(super) fn lines(&self, unfinished: &[u8]) -> Vec<String> {
        let unfinished = Some(visible(unfinished)).filter(|line| !line.is_empty());
        let newest_first = unfinished.into_iter().chain(self.lines.iter().rev().map(Vec::as_slice));
        let mut left = TAIL_BYTES;
        let mut lines: Vec<String> = newest_first
            .take(TAIL_LINES)
            .map(String::from_utf8_lossy)
            .take_while(|line| {
                let fits = line.len() <= left;
                left = left.saturating_sub(line.len());
                fits
            })
            .map(std::borrow::Cow::into_owned)
            .collect();
        lines.reverse();
        lines
    }
}

/// What a terminal would show of a line: what follows its last carriage return, and not too much of it.
fn visible(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    &line[..line.len().min(LINE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifty_lines_are_kept_oldest_first() {
        let mut tail = Tail::default();
        let text = (0..120).fold(String::new(), |text, number| text + &format!("line {number}\n"));
        let (early, late) = text.split_at(text.find("line 100").unwrap());
        tail.push(early.as_bytes());
        tail.push(late.as_bytes());
        let lines = tail.lines(b"");
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!((lines[0].as_str(), lines[49].as_str()), ("line 70", "line 119"));
    }

    #[test]
    fn progress_bars_are_kept_as_they_look() {
        let mut tail = Tail::default();
        tail.push(b"\r 10%\r 99%\nwindows\r\n\n\xff\n");
        assert_eq!(tail.lines(b""), [" 99%", "windows", "", "\u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let mut tail = Tail::default();
        tail.push(&[b'x'; 5000]);
        assert_eq!(tail.lines(b"")[0].len(), LINE_BYTES);
    }

    #[test]
    fn what_is_not_finished_is_the_last_line() {
        let mut tail = Tail::default();
        (0..TAIL_LINES).for_each(|number| tail.push(format!("{number}\n").as_bytes()));
        let lines = tail.lines(b"half a line");
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!((lines[0].as_str(), lines[48].as_str(), lines[49].as_str()), ("1", "49", "half a line"));
    }

    #[test]
    fn the_last_lines_are_kept_that_fit() {
        let mut tail = Tail::default();
        // Bytes that are no text need three each as text.
        (0..TAIL_LINES).for_each(|_| tail.push(&[0xff; LINE_BYTES]));
        tail.push(b"the end\n");
        let lines = tail.lines(b"");
        assert_eq!(lines.len(), 1 + (TAIL_BYTES - 7) / (3 * LINE_BYTES));
        assert!(lines.iter().map(String::len).sum::<usize>() <= TAIL_BYTES);
        assert_eq!(lines.last().unwrap(), "the end");
    }
}
