//! Rows of a log table, and lines put together from them.

use std::collections::VecDeque;

use tractorun_contract::logs::column;
pub(crate) use tractorun_contract::logs::{LineEnd, Stream};
use tractorun_yt::value::ValueExt;
use tractorun_yt::{YsonNode, YsonValue};

use super::time::Micros;

/// Columns that are read.
pub(crate) const COLUMNS: [&str; 9] = [
    column::DATETIME,
    column::MESSAGE,
    column::FD,
    column::TIMESTAMP,
    column::SEQ,
    column::ATTEMPT,
    column::LINE_END,
    column::DROPPED_LINES,
    column::DROPPED_BYTES,
];

/// What stands in a row or line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// What a process wrote.
    Text {
        /// Without the end of the line, whatever bytes these are.
        message: Vec<u8>,
        /// The end of the line.
        end: LineEnd,
    },
    /// Lines are missing here: there was no room for them.
    Gap {
        /// How many.
        lines: u64,
        /// How many bytes.
        bytes: u64,
    },
}

/// A row, or a line made of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When its end was read.
    pub(crate) timestamp: Micros,
    /// Number of its first row.
    pub(crate) seq: u64,
    /// Which attempt wrote it.
    pub(crate) attempt: u32,
    /// The stream it was written to.
    pub(crate) stream: Stream,
    /// The line.
    pub(crate) content: Content,
}

// === impl Line ===

impl Line {
    /// The line of row `seq`. A table of the Python tractorun has only the first three columns.
    pub(crate) fn of_row(row: YsonValue, seq: u64) -> Self {
        let number = |name: &str| row.get(name).and_then(ValueExt::as_uint);
        let timestamp = row.get(column::TIMESTAMP).and_then(ValueExt::as_int);
        let seconds = || row.get(column::DATETIME).and_then(ValueExt::as_int).unwrap_or(0);
        let line = Self {
            timestamp: timestamp.unwrap_or_else(|| seconds().saturating_mul(1_000_000)),
            seq,
            attempt: number(column::ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0),
            stream: match row.get(column::FD).and_then(ValueExt::as_bytes) {
                Some(b"stderr") => Stream::Stderr,
                _ => Stream::Stdout,
            },
            content: Content::Gap { lines: 0, bytes: 0 },
        };
        let content = if let Some(lines) = number(column::DROPPED_LINES) {
            Content::Gap { lines, bytes: number(column::DROPPED_BYTES).unwrap_or(0) }
        } else {
            let end = match row.get(column::LINE_END).and_then(ValueExt::as_bytes) {
                None | Some(b"\n") => LineEnd::Newline,
                Some(b"\r") => LineEnd::Return,
                Some(b"\r\n") => LineEnd::ReturnNewline,
                Some(_) => LineEnd::Nothing,
            };
            Content::Text { message: take_message(row), end }
        };
        Self { content, ..line }
    }

    /// What the process wrote, without the end of the line; nothing where lines are missing.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &[u8] {
        match &self.content {
            Content::Text { message, .. } => message,
            Content::Gap { .. } => b"",
        }
    }

    /// What it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.content {
                Content::Text { message, .. } => message.len(),
                Content::Gap { .. } => 0,
            }
    }
}

fn take_message(row: YsonValue) -> Vec<u8> {
    let YsonNode::Map(mut columns) = row.node else { return Vec::new() };
    match columns.remove(column::MESSAGE.as_bytes()).map(|value| value.node) {
        Some(YsonNode::String(message)) => message,
        _ => Vec::new(),
    }
}

/// Puts the rows of one table together to lines.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Lines that have begun: of stdout, of stderr.
    begun: [Option<Line>; 2],
}

impl Assembler {
    /// Takes the next row, and adds to `lines` what it completes.
    pub(crate) fn push(&mut self, row: Line, lines: &mut VecDeque<Line>) {
        let is_gap = matches!(row.content, Content::Gap { .. });
        let attempt_is_over = self.begun.iter().flatten().any(|begun| begun.attempt != row.attempt);
        if is_gap || attempt_is_over {
            // What comes now cannot be the rest of a line that began before.
            self.finish(lines);
        }
        let begun = &mut self.begun[row.stream as usize];
        let Content::Text { message, end } = row.content else {
            lines.push_back(row);
            return;
        };
        let whole = match begun.take() {
            Some(Line { seq, content: Content::Text { message: mut whole, .. }, .. }) => {
                whole.extend_from_slice(&message);
                Line { seq, content: Content::Text { message: whole, end }, ..row }
            }
            _ => Line { content: Content::Text { message, end }, ..row },
        };
        if end == LineEnd::Nothing {
            *begun = Some(whole);
        } else {
            lines.push_back(whole);
        }
    }

    /// Gives the lines that have begun and will never end.
    pub(crate) fn finish(&mut self, lines: &mut VecDeque<Line>) {
        let mut begun: Vec<Line> = self.begun.iter_mut().filter_map(Option::take).collect();
        begun.sort_by_key(|line| line.seq);
        lines.extend(begun);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tractorun_yt::value::{bytes, int, map, string, uint};

    use super::*;

    /// A line of stdout.
    pub(crate) fn line(timestamp: Micros, message: &str) -> Line {
        let content = Content::Text { message: message.as_bytes().to_vec(), end: LineEnd::Newline };
        Line { timestamp, seq: 0, attempt: 0, stream: Stream::Stdout, content }
    }

    fn part(stream: Stream, message: &str, end: LineEnd) -> Line {
        let content = Content::Text { message: message.as_bytes().to_vec(), end };
        Line { stream, content, ..line(0, "") }
    }

    fn assemble(rows: Vec<Line>) -> Vec<String> {
        let (mut assembler, mut lines) = (Assembler::default(), VecDeque::new());
        for row in rows {
            assembler.push(row, &mut lines);
        }
        assembler.finish(&mut lines);
        lines
            .into_iter()
            .map(|line| match line.content {
                Content::Text { message, .. } => String::from_utf8(message).unwrap(),
                Content::Gap { lines, .. } => format!("<{lines}>"),
            })
            .collect()
    }

    #[test]
    fn rows_are_read_with_all_their_columns_and_with_three() {
        let row = map([
            ("datetime", uint(7_u64)),
            ("message", bytes(*b"a\xff")),
            ("fd", string("stderr")),
            ("timestamp", uint(7_000_001_u64)),
            ("attempt", uint(2_u64)),
            ("line_end", string("\r")),
        ]);
        let expected = Line {
            timestamp: 7_000_001,
            seq: 5,
            attempt: 2,
            stream: Stream::Stderr,
            content: Content::Text { message: b"a\xff".to_vec(), end: LineEnd::Return },
        };
        assert_eq!(Line::of_row(row, 5), expected);
        let old = map([("datetime", int(3)), ("message", string("x")), ("fd", string("stdout"))]);
        assert_eq!(Line::of_row(old, 0), line(3_000_000, "x"));
        let dropped = map([("message", string("12 lines")), ("dropped_lines", uint(12_u64))]);
        assert_eq!(Line::of_row(dropped, 0).content, Content::Gap { lines: 12, bytes: 0 });
    }

    #[test]
    fn split_lines_are_put_together_stream_by_stream() {
        use LineEnd::{Newline, Nothing};
        use Stream::{Stderr, Stdout};

        let rows = vec![
            part(Stdout, "one ", Nothing),
            part(Stderr, "err ", Nothing),
            part(Stdout, "two ", Nothing),
            part(Stderr, "or", Newline),
            part(Stdout, "three", Newline),
            part(Stdout, "", Newline),
            part(Stdout, "cut off", Nothing),
        ];
        assert_eq!(assemble(rows), ["err or", "one two three", "", "cut off"]);
    }

    #[test]
    fn a_gap_and_another_attempt_end_what_has_begun() {
        use LineEnd::{Newline, Nothing};

        let gap = Line { content: Content::Gap { lines: 3, bytes: 9 }, ..line(0, "") };
        let next = Line { attempt: 1, ..part(Stream::Stdout, "c", Newline) };
        let rows = vec![part(Stream::Stdout, "a", Nothing), gap, part(Stream::Stdout, "b", Nothing), next];
        assert_eq!(assemble(rows), ["a", "<3>", "b", "c"]);
    }
}
