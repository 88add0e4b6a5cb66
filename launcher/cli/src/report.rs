//! How a person is told: error text and hints, colours, and the exit status in one place.
//!
//! stdout is data, stderr is talk. Everything said goes through a [`Report`], so that colours are decided once:
//! only on a terminal, and never with `NO_COLOR` set or on a dumb terminal. A terminal also gets its lines broken
//! between words; in a pipe an error is one line, whatever its length, so that it can be searched for.
//!
//! An error is one line, `tractorun: text`, and where somebody can do something about it a second one,
//! `hint: text`. Errors carry their hint in their text, after `\nhint: `; wherever in a chain of causes it
//! stands, it is printed below the whole chain.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::wrap;

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
    layout: Layout,
}

/// Where lines are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Nowhere.
    Endless,
    /// Where the terminal ends, which may change at any time.
    Terminal,
}

/// On a narrower terminal than this, broken lines would be harder to read than what the terminal makes of them.
const LEAST_COLUMNS: u16 = 40;

/// Starts the hint within an error's text.
const HINT: &str = "\nhint: ";

/// What stands in front of a text, and the codes of its style.
type Label = (&'static str, &'static str);

const HINT_LABEL: Label = ("hint: ", "1;36");

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

// === impl Colour ===

impl Colour {
    /// Whether text to this stream is coloured: if a person reads it and did not ask for plain text.
    pub fn of(stream: &impl IsTerminal, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").is_some_and(|value| value == "dumb")
            || !stream.is_terminal();
        if is_plain { Self::Off } else { Self::On }
    }
}

// === impl Report ===

impl Report {
    /// A report to this process' stderr; `variable` looks up the environment.
    pub fn to_stderr(variable: impl Fn(&str) -> Option<String>) -> Self {
        let layout = if io::stderr().is_terminal() { Layout::Terminal } else { Layout::Endless };
        Self { layout, ..Self::new(Colour::of(&io::stderr(), variable)) }
    }

    /// A report whose colours are decided, with endless lines.
    pub fn new(colour: Colour) -> Self {
        Self { colour, layout: Layout::Endless }
    }

    /// Something failed: `tractorun: text`, then the hint.
    pub fn error(self, text: &str) {
        self.say(text, ("tractorun: ", "1;31"));
    }

    /// Something is not as it should be, but the run goes on: `tractorun: warning: text`.
    pub fn warning(self, text: &str) {
        self.say(text, ("tractorun: warning: ", "1;33"));
    }

    /// Something a person may want to know: `tractorun: text`.
    pub fn note(self, text: &str) {
        self.say(text, ("tractorun: ", "1"));
    }

    /// What may help against what was said before: `hint: text`.
    pub fn hint(self, text: &str) {
        self.say(text, HINT_LABEL);
    }

    /// The launcher failed: the error and its causes on one line, then their hints.
    pub fn failure(self, error: &anyhow::Error) {
        self.error(&on_one_line(error));
    }

    /// Writes to stderr. A terminal that is gone is no reason to fail.
    fn say(self, text: &str, label: Label) {
        let text = self.render(text, label, self.columns());
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Columns of the terminal; none where lines are not to be broken.
    fn columns(self) -> Option<usize> {
        let (terminal_size::Width(columns), _) = match self.layout {
            Layout::Endless => return None,
            Layout::Terminal => terminal_size::terminal_size_of(io::stderr())?,
        };
        (columns >= LEAST_COLUMNS).then_some(usize::from(columns))
    }

    /// The text behind its label, and its hints behind theirs, in lines of at most `columns`.
    fn render(self, text: &str, label: Label, columns: Option<usize>) -> String {
        let mut out = String::new();
        let mut label = label;
        for part in text.split(HINT) {
            let (word, style) = label;
            let lines = match columns {
                // Endless lines are not touched, so that what is quoted in them stays as it is.
                None => vec![part.to_owned()],
                Some(columns) => wrap::lines(part, columns.saturating_sub(word.len())),
            };
            for (number, line) in lines.iter().enumerate() {
                let start = if number == 0 { self.styled(word, style) } else { " ".repeat(word.len()) };
                let _ = writeln!(out, "{}", format!("{start}{line}").trim_end());
            }
            label = HINT_LABEL;
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

/// An error with its causes on one line, outermost first, all hints behind it.
///
/// A cause that its effect already quotes at its end is not said twice.
fn on_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let (text, hint) = split_hint(&cause);
        if line.is_empty() {
            line.push_str(text);
        } else if !line.ends_with(text) {
            line.push_str(": ");
            line.push_str(text);
        }
        hints.extend(hint.map(str::to_owned).filter(|hint| !hints.contains(hint)));
    }
    for hint in hints {
        line.push_str(HINT);
        line.push_str(&hint);
    }
    line
}

/// An error's text and its hint.
pub(crate) fn split_hint(text: &str) -> (&str, Option<&str>) {
    match text.split_once(HINT) {
        Some((text, hint)) => (text, Some(hint)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn an_error_is_one_line_and_its_hint_another() {
        const LABEL: Label = ("tractorun: ", "1;31");
        let report = Report::new(Colour::Off);
        assert_eq!(report.render("no such thing", LABEL, None), "tractorun: no such thing\n");
        assert_eq!(report.render("no\nhint: try", LABEL, None), "tractorun: no\nhint: try\n");
        assert_eq!(
            Report::new(Colour::On).render("no\nhint: try", LABEL, None),
            "\x1b[1;31mtractorun: \x1b[0mno\n\x1b[1;36mhint: \x1b[0mtry\n"
        );
    }

    #[test]
    fn on_a_terminal_lines_are_broken_below_their_beginning() {
        let text = "a line that is too long\nhint: so it is broken here";
        assert_eq!(
            Report::new(Colour::Off).render(text, ("tractorun: ", "1"), Some(24)),
            "tractorun: a line that\n           is too long\nhint: so it is broken\n      here\n"
        );
    }

    #[test]
    fn causes_stand_on_one_line_and_hints_below() {
        let error = Err::<(), _>(anyhow!("connection refused\nhint: is it up?"))
            .context("cannot reach `h:80`: connection refused")
            .context("cannot upload")
            .unwrap_err();
        assert_eq!(
            on_one_line(&error),
            "cannot upload: cannot reach `h:80`: connection refused\nhint: is it up?"
        );
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let codes = [
            ExitStatus::Success,
            ExitStatus::Failure,
            ExitStatus::Usage,
            ExitStatus::Interrupted,
            ExitStatus::Job(137),
        ];
        assert_eq!(codes.map(ExitStatus::code), [0, 1, 2, 130, 137]);
    }
}
