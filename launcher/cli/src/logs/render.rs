//! How lines look: for people, with who wrote them in front, or as JSON.
//!
//! The bytes of a line are written as they are, whatever they are. What is ours stands in brackets or between
//! dashes. On a terminal a line that a progress bar is to replace is replaced; elsewhere every line stands on a
//! line of its own.

use std::fmt;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tractorun_contract::ranks::Ranks;

use super::row::{Content, Line, LineEnd, Stream};
use super::time;
use crate::commands::terminal::size;
use crate::report::Colour;

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    /// The worker of that rank.
    Worker(u32),
    /// The sidecar with that number, all nodes taken together.
    Sidecar(u32),
    /// Any of that node: the stderr of its job.
    Node(u32),
}

/// Where lines are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// A terminal.
    Terminal,
    /// A pipe or a file.
    Pipe,
}

/// Writes lines for people.
#[derive(Debug)]
pub(crate) struct TextLines {
    colour: Colour,
    medium: Medium,
    /// The newest attempt that was shown.
    attempt: u32,
    /// Whose line the cursor stands in, if it is to be replaced.
    replaceable: Option<(Process, Stream)>,
}

/// Colours of ranks, by rank. Readable on dark and on light ground: neither black nor white nor bright yellow.
const PALETTE: [&str; 12] = ["36", "32", "35", "34", "33", "31", "96", "92", "95", "94", "91", "90"];

/// So many ranges of ranks stand in brackets; more are cut off.
const MOST_RANGES: usize = 4;

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(rank) => write!(f, "rank {rank}"),
            Self::Sidecar(number) => write!(f, "sidecar {number}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl Process {
    fn number(self) -> u32 {
        match self {
            Self::Worker(number) | Self::Sidecar(number) | Self::Node(number) => number,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Worker(_) => "",
            Self::Sidecar(_) => "sidecar ",
            Self::Node(_) => "node ",
        }
    }
}

// === impl TextLines ===

impl TextLines {
    /// Nothing was written yet.
    pub(crate) fn new(colour: Colour, medium: Medium) -> Self {
        Self { colour, medium, attempt: 0, replaceable: None }
    }

    /// One line that all of these wrote, the first first.
    pub(crate) fn line(&mut self, processes: &[Process], line: &Line, out: &mut Vec<u8>) {
        let Some(first) = processes.first().copied() else { return };
        if line.attempt > self.attempt {
            self.attempt = line.attempt;
            self.boundary(&format!("attempt {}", line.attempt), out);
        }
        let label = self.label(processes);
        match &line.content {
            Content::Gap { lines, bytes } => {
                self.end(out);
                out.extend_from_slice(label.as_bytes());
                let what = if *lines == 1 { "line" } else { "lines" };
                self.dashes(
                    &format!("{lines} {what} ({}) dropped here: there was no room", size(*bytes)),
                    out,
                );
            }
            Content::Text { message, end } => {
                let key = (first, line.stream);
                if self.replaceable.take().is_some_and(|replaceable| replaceable != key) {
                    out.push(b'\n');
                }
                out.extend_from_slice(label.as_bytes());
                out.extend_from_slice(message);
                if *end == LineEnd::Return && self.medium == Medium::Terminal {
                    // What was there before and was longer goes; the cursor goes back to the beginning.
                    out.extend_from_slice(b"\x1b[K\r");
                    self.replaceable = Some(key);
                } else {
                    if self.medium == Medium::Terminal {
                        out.extend_from_slice(b"\x1b[K");
                    }
                    out.push(b'\n');
                }
            }
        }
    }

    /// A line between dashes: something begins.
    pub(crate) fn boundary(&mut self, text: &str, out: &mut Vec<u8>) {
        self.end(out);
        self.dashes(text, out);
    }

    /// Ends a line that could still be replaced.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if self.replaceable.take().is_some() {
            out.push(b'\n');
        }
    }

    fn dashes(&self, text: &str, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = match self.colour {
            Colour::On => writeln!(out, "\x1b[1;33m---- {text} ----\x1b[0m"),
            Colour::Off => writeln!(out, "---- {text} ----"),
        };
    }

    /// `[3] `, or `[0-510 x511] `.
    fn label(&self, processes: &[Process]) -> String {
        let first = processes[0];
        let text = if processes.len() == 1 {
            format!("[{}{}]", first.word(), first.number())
        } else {
            let numbers: Ranks = processes.iter().map(|process| process.number()).collect();
            format!("[{}{} x{}]", first.word(), numbers.brief(MOST_RANGES), processes.len())
        };
        match self.colour {
            Colour::On => {
                let colour = PALETTE[first.number() as usize % PALETTE.len()];
                format!("\x1b[{colour}m{text}\x1b[0m ")
            }
            Colour::Off => format!("{text} "),
        }
    }
}

/// A line as JSON. Which fields there are is a contract.
#[derive(Debug, Serialize)]
struct JsonLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    stream: &'static str,
    /// The line, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    /// The line in Base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_base64: Option<String>,
    /// What ended it, if not `\n`.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_lines: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_bytes: Option<u64>,
}

/// Writes a line as one JSON object. A line of a job's stderr has no number, time or attempt: its incarnation is
/// not given either.
pub(crate) fn json(process: Process, incarnation: Option<u32>, line: &Line, out: &mut Vec<u8>) {
    let (message, message_base64, line_end) = match &line.content {
        Content::Gap { .. } => (None, None, None),
        Content::Text { message, end } => {
            let text = std::str::from_utf8(message).ok();
            let line_end = match end {
                LineEnd::Newline => None,
                LineEnd::Return => Some("\r"),
                LineEnd::ReturnNewline => Some("\r\n"),
                LineEnd::Nothing => Some(""),
            };
            (text, text.is_none().then(|| STANDARD.encode(message)), line_end)
        }
    };
    let (dropped_lines, dropped_bytes) = match line.content {
        Content::Gap { lines, bytes } => (Some(lines), Some(bytes)),
        Content::Text { .. } => (None, None),
    };
    let is_row = incarnation.is_some();
    let object = JsonLine {
        rank: if let Process::Worker(rank) = process { Some(rank) } else { None },
        sidecar: if let Process::Sidecar(number) = process { Some(number) } else { None },
        node: if let Process::Node(node) = process { Some(node) } else { None },
        incarnation,
        attempt: is_row.then_some(line.attempt),
        seq: is_row.then_some(line.seq),
        time: is_row.then(|| time::format(line.timestamp)),
        stream: line.stream.name(),
        message,
        message_base64,
        line_end,
        dropped_lines,
        dropped_bytes,
    };
    // Numbers and text have nothing that JSON could refuse, and memory takes all.
    if serde_json::to_writer(&mut *out, &object).is_ok() {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::line;
    use super::*;

    fn show(lines: &mut TextLines, ranks: &[u32], line: &Line) -> String {
        let processes: Vec<Process> = ranks.iter().copied().map(Process::Worker).collect();
        let mut out = Vec::new();
        lines.line(&processes, line, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn ended(message: &str, end: LineEnd) -> Line {
        Line { content: Content::Text { message: message.as_bytes().to_vec(), end }, ..line(0, "") }
    }

    #[test]
    fn ranks_stand_in_front() {
        let mut lines = TextLines::new(Colour::Off, Medium::Pipe);
        assert_eq!(show(&mut lines, &[3], &line(0, "hello")), "[3] hello\n");
        let all: Vec<u32> = (0..511).collect();
        assert_eq!(show(&mut lines, &all, &line(0, "hello")), "[0-510 x511] hello\n");
        assert_eq!(show(&mut lines, &[5, 0, 1], &line(0, "x")), "[0-1,5 x3] x\n");
        let odd: Vec<u32> = (0..40).filter(|number| number % 2 == 1).collect();
        assert_eq!(show(&mut lines, &odd, &line(0, "x")), "[1,3,5,7,... x20] x\n");
        let mut out = Vec::new();
        lines.line(&[Process::Sidecar(2)], &line(0, "x"), &mut out);
        assert_eq!(out, b"[sidecar 2] x\n");
    }

    #[test]
    fn a_rank_has_its_colour_wherever_colours_are() {
        let mut lines = TextLines::new(Colour::On, Medium::Pipe);
        assert_eq!(show(&mut lines, &[0], &line(0, "x")), "\x1b[36m[0]\x1b[0m x\n");
        assert_eq!(show(&mut lines, &[13], &line(0, "x")), "\x1b[32m[13]\x1b[0m x\n");
        assert_eq!(show(&mut lines, &[0], &line(0, "x")), "\x1b[36m[0]\x1b[0m x\n");
    }

    #[test]
    fn bytes_are_written_as_they_are() {
        let mut lines = TextLines::new(Colour::Off, Medium::Pipe);
        let content = Content::Text { message: b"\xff\x00\x80".to_vec(), end: LineEnd::Newline };
        let mut out = Vec::new();
        lines.line(&[Process::Worker(0)], &Line { content, ..line(0, "") }, &mut out);
        assert_eq!(out, b"[0] \xff\x00\x80\n");
    }

    #[test]
    fn attempts_and_gaps_are_shown() {
        let mut lines = TextLines::new(Colour::Off, Medium::Pipe);
        assert_eq!(show(&mut lines, &[0], &line(0, "a")), "[0] a\n");
        let next = Line { attempt: 1, ..line(0, "b") };
        assert_eq!(show(&mut lines, &[0], &next), "---- attempt 1 ----\n[0] b\n");
        assert_eq!(show(&mut lines, &[1], &next), "[1] b\n");
        let gap = Line { content: Content::Gap { lines: 12, bytes: 2048 }, ..next };
        assert_eq!(
            show(&mut lines, &[1], &gap),
            "[1] ---- 12 lines (2.00 KiB) dropped here: there was no room ----\n"
        );
    }

    #[test]
    fn progress_bars_are_replaced_on_a_terminal_only() {
        let mut lines = TextLines::new(Colour::Off, Medium::Pipe);
        assert_eq!(show(&mut lines, &[0], &ended("10%", LineEnd::Return)), "[0] 10%\n");
        let mut lines = TextLines::new(Colour::Off, Medium::Terminal);
        assert_eq!(show(&mut lines, &[0], &ended("10%", LineEnd::Return)), "[0] 10%\x1b[K\r");
        assert_eq!(show(&mut lines, &[0], &ended("20%", LineEnd::Return)), "[0] 20%\x1b[K\r");
        assert_eq!(
            show(&mut lines, &[1], &line(0, "x")),
            "\n[1] x\x1b[K\n",
            "another rank's line does not replace it"
        );
        show(&mut lines, &[1], &ended("5%", LineEnd::Return));
        let mut out = Vec::new();
        lines.end(&mut out);
        assert_eq!(out, b"\n");
    }

    #[test]
    fn json_has_all_there_is_to_know() {
        let mut out = Vec::new();
        let given = Line { seq: 7, ..line(1_500_000, "x \"y\"") };
        json(Process::Worker(3), Some(2), &given, &mut out);
        json(Process::Sidecar(0), Some(2), &ended("50%", LineEnd::Return), &mut out);
        let content = Content::Text { message: b"\xff".to_vec(), end: LineEnd::Newline };
        json(Process::Node(1), None, &Line { content, ..line(0, "") }, &mut out);
        let gap = Line { content: Content::Gap { lines: 3, bytes: 9 }, ..line(0, "") };
        json(Process::Worker(0), Some(0), &gap, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(),
            [
                r#"{"rank":3,"incarnation":2,"attempt":0,"seq":7,"time":"1970-01-01T00:00:01.500000Z","stream":"stdout","message":"x \"y\""}"#,
                r#"{"sidecar":0,"incarnation":2,"attempt":0,"seq":0,"time":"1970-01-01T00:00:00.000000Z","stream":"stdout","message":"50%","line_end":"\r"}"#,
                r#"{"node":1,"stream":"stdout","message_base64":"/w=="}"#,
                r#"{"rank":0,"incarnation":0,"attempt":0,"seq":0,"time":"1970-01-01T00:00:00.000000Z","stream":"stdout","dropped_lines":3,"dropped_bytes":9}"#,
            ]
        );
    }
}
