//! Cutting a stream of bytes into lines.

use memchr::memchr_iter;

/// A line longer than this is passed on in pieces, so that a stream without newlines needs no memory.
pub(super) const LINE_LIMIT: usize = 1024 * 1024;

/// How a worker's lines appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// The worker has init's stderr to itself: its bytes appear unchanged. A carriage return counts as the end
    /// of a line, so that progress bars move.
    Sole,
    /// Others write there too: every line stands alone and begins with this (which may be empty).
    Shared {
        /// In front of every line.
        prefix: Vec<u8>,
    },
}

/// One stream's cutter. Complete lines leave as soon as they are complete.
#[derive(Debug)]
pub(super) struct Splitter {
    style: Style,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

// === impl Splitter ===

impl Splitter {
    pub(super) fn new(style: Style) -> Self {
        Self { style, partial: Vec::new() }
    }

    /// Takes bytes; appends what may be shown to `out`, and gives the lines as the worker wrote them to
    /// `complete`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>, complete: &mut dyn FnMut(&[u8])) {
        if self.partial.is_empty() {
            let rest = self.emit_complete(bytes, out, complete);
            self.partial.extend_from_slice(rest);
        } else {
            // The scan for an end is over the new bytes only, or a long line would be scanned again and again.
            let fresh_from = self.partial.len();
            self.partial.extend_from_slice(bytes);
            if self.end_of_last_line(&self.partial, fresh_from).is_some() {
                let joined = std::mem::take(&mut self.partial);
                let rest = self.emit_complete(&joined, out, complete).to_vec();
                self.partial = rest;
            }
        }
        while self.partial.len() >= LINE_LIMIT {
            let rest = self.partial.split_off(LINE_LIMIT);
            let piece = std::mem::replace(&mut self.partial, rest);
            complete(&piece);
            self.emit_unfinished(&piece, out);
        }
    }

    /// The stream has ended: passes on what has no newline.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, complete: &mut dyn FnMut(&[u8])) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            complete(&last);
            self.emit_unfinished(&last, out);
        }
    }

    /// The beginning of a line whose end has not come.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.partial
    }

    /// Passes on the complete lines at the beginning of `bytes`; returns the rest.
    fn emit_complete<'b>(
        &self,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        complete: &mut dyn FnMut(&[u8]),
    ) -> &'b [u8] {
        let Some(end) = self.end_of_last_line(bytes, 0) else { return bytes };
        let (lines, rest) = bytes.split_at(end);
        complete(lines);
        match &self.style {
            Style::Shared { prefix } if !prefix.is_empty() => {
                let mut begin = 0;
                for end in memchr_iter(b'\n', lines) {
                    out.extend_from_slice(prefix);
                    out.extend_from_slice(&lines[begin..=end]);
                    begin = end + 1;
                }
            }
            Style::Shared { .. } | Style::Sole => out.extend_from_slice(lines),
        }
        rest
    }

    /// Passes on a line, or a piece of one, whose newline did not come.
    fn emit_unfinished(&self, piece: &[u8], out: &mut Vec<u8>) {
        match &self.style {
            Style::Sole => out.extend_from_slice(piece),
            Style::Shared { prefix } => {
                out.extend_from_slice(prefix);
                out.extend_from_slice(piece);
                out.push(b'\n');
            }
        }
    }

    /// Where the last complete line ends, if one ends after `from`.
    fn end_of_last_line(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let is_end = |index: usize| match bytes[index] {
            b'\n' => true,
            // Not of `\r\n`, and of that only if it is known what follows.
            b'\r' => self.style == Style::Sole && bytes.get(index + 1).is_some_and(|next| *next != b'\n'),
            _ => false,
        };
        // One earlier: it may have been waiting for what follows it.
        (from.saturating_sub(1)..bytes.len()).rev().find(|index| is_end(*index)).map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds chunks; what each one shows, and the end last.
    fn shown(style: Style, chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::new(style);
        let mut all = Vec::new();
        for chunk in chunks {
            let mut out = Vec::new();
            splitter.feed(chunk, &mut out, &mut |_| {});
            all.push(String::from_utf8(out).unwrap());
        }
        let mut out = Vec::new();
        splitter.end(&mut out, &mut |_| {});
        all.push(String::from_utf8(out).unwrap());
        all
    }

    fn prefixed() -> Style {
        Style::Shared { prefix: b"[3] ".to_vec() }
    }

    #[test]
    fn lines_leave_whole_and_with_their_rank() {
        let chunks: [&[u8]; 4] = [b"one\ntwo\nth", b"re", b"e\n\n", b"last"];
        assert_eq!(
            shown(prefixed(), &chunks),
            ["[3] one\n[3] two\n", "", "[3] three\n[3] \n", "", "[3] last\n"]
        );
    }

    #[test]
    fn a_partial_last_line_gets_its_newline_only_where_others_follow() {
        assert_eq!(shown(Style::Shared { prefix: vec![] }, &[b"a\nb"]), ["a\n", "b\n"]);
        assert_eq!(shown(Style::Sole, &[b"a\nb"]), ["a\n", "b"]);
        assert_eq!(shown(prefixed(), &[b"a\n"]), ["[3] a\n", ""]);
    }

    #[test]
    fn progress_bars_move_where_a_worker_is_alone() {
        let chunks: [&[u8]; 4] = [b"\r 10%", b"\r 20%", b"\r", b"\ndone\r\n"];
        assert_eq!(shown(Style::Sole, &chunks), ["\r", " 10%\r", "", " 20%\r\ndone\r\n", ""]);
        assert_eq!(shown(prefixed(), &chunks), ["", "", "", "[3] \r 10%\r 20%\r\n[3] done\r\n", ""]);
    }

    #[test]
    fn long_lines_leave_in_pieces() {
        let long = vec![b'x'; LINE_LIMIT + 10];
        let expected = format!("[3] {}\n", "x".repeat(LINE_LIMIT));
        assert_eq!(shown(prefixed(), &[&long, b"\n"]), [expected, "[3] xxxxxxxxxx\n".into(), String::new()]);
        let expected = "x".repeat(LINE_LIMIT);
        assert_eq!(shown(Style::Sole, &[&long, b"\n"]), [expected, "xxxxxxxxxx\n".into(), String::new()]);
    }

    proptest! {
        /// However the bytes are cut, a sole worker's appear unchanged, and shared ones line by line.
        #[test]
        fn nothing_is_lost_or_doubled(bytes in "[ab\r\n]{0,40}", cuts in proptest::collection::vec(0..40_usize, 0..6)) {
            let bytes = bytes.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();

            let sole = shown(Style::Sole, &chunks).concat();
            prop_assert_eq!(sole.as_bytes(), bytes);

            let mut expected = String::new();
            for line in std::str::from_utf8(bytes).unwrap().split_inclusive('\n') {
                expected.push_str("[3] ");
                expected.push_str(line);
                if !line.ends_with('\n') {
                    expected.push('\n');
                }
            }
            prop_assert_eq!(shown(prefixed(), &chunks).concat(), expected);
        }
    }
}
