//! One thing that was looked at and how it is: as a line for people and as JSON for programs.

use std::fmt::{Display, Write as _};

use serde_json::{Value, json};

use crate::report::{Colour, split_hint};

/// Column where the texts start.
const COLUMN: usize = 16;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at, in a word or two.
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    /// How it is, in one line.
    pub(super) text: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should be.
    Fine,
    /// A run would work, and yet.
    Doubtful,
    /// A run would not work.
    Wrong,
    /// It could not be looked at.
    LeftOut,
}

/// With which signs outcomes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    /// For a terminal with UTF-8.
    Unicode,
    /// For everybody else.
    Ascii,
}

// === impl Finding ===

impl Finding {
    pub(super) fn fine(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fine, text: text.into(), hint: None }
    }

    pub(super) fn left_out(name: &'static str, text: impl Into<String>) -> Self {
        Self { outcome: Outcome::LeftOut, ..Self::fine(name, text) }
    }

    /// A run would work, and yet; a hint in the text becomes one.
    pub(super) fn doubtful(name: &'static str, error: impl Display) -> Self {
        Self { outcome: Outcome::Doubtful, ..Self::wrong(name, error) }
    }

    /// A run would not work; a hint in the text becomes one.
    pub(super) fn wrong(name: &'static str, error: impl Display) -> Self {
        let error = error.to_string();
        let (text, hint) = split_hint(&error);
        Self { name, outcome: Outcome::Wrong, text: text.to_owned(), hint: hint.map(str::to_owned) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The line for people, and a second one for the hint.
    pub(super) fn to_line(&self, signs: Signs, colour: Colour) -> String {
        let (unicode, ascii, style) = match self.outcome {
            Outcome::Fine => ("\u{2713}", "ok  ", "32"),
            Outcome::Doubtful => ("!", "warn", "1;33"),
            Outcome::Wrong => ("\u{2717}", "FAIL", "1;31"),
            Outcome::LeftOut => ("-", "skip", "2"),
        };
        let sign = match signs {
            Signs::Unicode => unicode,
            Signs::Ascii => ascii,
        };
        let indent = sign.chars().count() + 1 + COLUMN;
        let paint = |text: &str, style: &str| match colour {
            Colour::On => format!("\x1b[{style}m{text}\x1b[0m"),
            Colour::Off => text.to_owned(),
        };
        // Texts come from elsewhere, too: nothing in them may move the cursor.
        let clean = |text: &str| text.replace(|character: char| character.is_control(), " ");
        let mut line = format!("{} {:COLUMN$}{}\n", paint(sign, style), self.name, clean(&self.text));
        if let Some(hint) = &self.hint {
            // Writing to a string does not fail.
            let _ = writeln!(line, "{:indent$}{}{}", "", paint("hint: ", "1;36"), clean(hint));
        }
        line
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "status": self.outcome.name(),
            "text": self.text,
            "hint": self.hint,
        })
    }
}

// === impl Outcome ===

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Doubtful => "warning",
            Self::Wrong => "failure",
            Self::LeftOut => "skipped",
        }
    }
}

/// The last line: what it all means.
pub(super) fn summary(findings: &[Finding]) -> String {
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let plural = |count: usize, noun: &str| match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    };
    let warnings = plural(count(Outcome::Doubtful), "warning");
    match (count(Outcome::Wrong), count(Outcome::Doubtful)) {
        (0, 0) => "a run would start".to_owned(),
        (0, _) => format!("a run would start; {warnings}"),
        (wrong, 0) => format!("a run would not start: {}", plural(wrong, "problem")),
        (wrong, _) => format!("a run would not start: {}, {warnings}", plural(wrong, "problem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_hints_stand_below() {
        let wrong = Finding::wrong("token", "there is none\nhint: put it\u{1b}[2J somewhere");
        assert_eq!(
            wrong.to_line(Signs::Ascii, Colour::Off),
            "FAIL token           there is none\n                     hint: put it [2J somewhere\n"
        );
        assert_eq!(
            wrong.to_line(Signs::Unicode, Colour::Off),
            "\u{2717} token           there is none\n                  hint: put it [2J somewhere\n"
        );
        assert_eq!(
            Finding::fine("proxy", "x").to_line(Signs::Unicode, Colour::On),
            "\u{1b}[32m\u{2713}\u{1b}[0m proxy           x\n"
        );
    }

    #[test]
    fn the_summary_counts() {
        let fine = Finding::fine("a", "");
        let doubtful = Finding::doubtful("a", "");
        let wrong = Finding::wrong("a", "");
        assert_eq!(summary(std::slice::from_ref(&fine)), "a run would start");
        assert_eq!(summary(&[fine.clone(), doubtful.clone()]), "a run would start; 1 warning");
        assert_eq!(
            summary(&[fine, doubtful.clone(), doubtful, wrong]),
            "a run would not start: 1 problem, 2 warnings"
        );
    }
}
