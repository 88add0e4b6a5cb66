//! How a person is told: error text and hints, colours, and the exit status in one place.
//!
//! stdout is data, stderr is talk. Everything said goes through a [`Report`], so that colours are decided once:
//! only on a terminal, and never with `NO_COLOR` set or on a dumb terminal.
//!
//! An error is one line, `tractorun: text`, and where somebody can do something about it a second one,
//! `hint: text`. Errors carry their hint in their text, after `\nhint: `; wherever in a chain it stands, it is
//! printed on its own line below.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

/// How `tractorun` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// The job did what it should, or there was nothing to run.
    Success,
    /// The launcher failed: no cluster, wrong token, upload refused... The text says why.
    Failure,
    /// The command line or the YAML file cannot be used.
    Usage,
    /// Ctrl-C.
    Interrupted,
    /// The job ended with this code: the first failed worker's own, or one that init reserves.
    Job(u8),
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// It is.
    On,
    /// It is plain.
    Off,
}

/// Says things to the person at the terminal, on stderr.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    colour: Colour,
}

/// Starts the hint within an error's text.
const HINT: &str = "\nhint: ";

// === impl ExitStatus ===

impl ExitStatus {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
            Self::Job(code) => code,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

// === impl Report ===

impl Report {
    /// A report to this process' stderr; `variable` looks up the environment.
    pub fn to_stderr(variable: impl Fn(&str) -> Option<String>) -> Self {
        let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").is_some_and(|value| value == "dumb")
            || !io::stderr().is_terminal();
        Self::new(if plain { Colour::Off } else { Colour::On })
    }

    /// A report whose colours are decided.
    pub fn new(colour: Colour) -> Self {
        Self { colour }
    }

    /// Something failed: `tractorun: text`, then the hint.
    pub fn error(self, text: &str) {
        say(&self.render_error(text));
    }

    /// Something is not as it should be, but the run goes on: `tractorun: warning: text`.
    pub fn warning(self, text: &str) {
        say(&self.render(text, Some(("warning: ", "1;33"))));
    }

    /// Something a person may want to know: `tractorun: text`.
    pub fn note(self, text: &str) {
        say(&self.render(text, None));
    }

    /// The text of [`Report::error`].
    pub fn render_error(self, text: &str) -> String {
        self.render(text, Some(("", "1;31")))
    }

    fn render(self, text: &str, kind: Option<(&str, &str)>) -> String {
        let (text, hint) = split_hint(text);
        let mut out = String::new();
        let (label, style) = kind.unwrap_or(("", "1"));
        let _ = writeln!(out, "{}{text}", self.styled(&format!("tractorun: {label}"), style));
        if let Some(hint) = hint {
            let _ = writeln!(out, "{}{hint}", self.styled("hint: ", "1;36"));
        }
        out
    }

    fn styled(self, text: &str, style: &str) -> String {
        match self.colour {
            Colour::On => format!("\x1b[{style}m{text}\x1b[0m"),
            Colour::Off => text.to_owned(),
        }
    }
}

/// Takes the hint out of a text such as `a: b\nhint: h: c`, which is what an error chain makes when the hint
/// stands in its middle: the rest of the hint's line belongs to the hint only if nothing follows it.
fn split_hint(text: &str) -> (&str, Option<&str>) {
    match text.split_once(HINT) {
        Some((text, hint)) => (text, Some(hint)),
        None => (text, None),
    }
}

/// Writes to stderr. A terminal that is gone is no reason to fail.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
