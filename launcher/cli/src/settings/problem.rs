//! What is wrong with a configuration, and how it is said.
//!
//! Problems are collected, not thrown: a person who made three mistakes is told of three, each with where it
//! stands, what was written and what is accepted.

use std::fmt;
use std::sync::Arc;

use super::options::OptionSpec;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, or nowhere.
    CommandLine,
    /// In the YAML file.
    File {
        /// The file, as the user named it.
        path: Arc<str>,
        /// Line, from 1; 0 where only the file is known.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// What is wrong, on one line.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A value's name as its source spells it: an option, an element of it, a field of that.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    option: &'static OptionSpec,
    /// Number of the element in a list, from 0. The command line shows no number: each is written apart.
    element: Option<usize>,
    /// Fields within, joined by dots.
    field: String,
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(origin: &Origin, text: impl Into<String>) -> Self {
        Self { origin: origin.clone(), text: text.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::CommandLine => {}
            Origin::File { path, line: 0, .. } => write!(f, "{path}: ")?,
            Origin::File { path, line, column } => write!(f, "{path}:{line}:{column}: ")?,
        }
        f.write_str(&self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

// === impl Subject ===

impl Subject {
    pub(super) fn new(option: &'static OptionSpec) -> Self {
        Self { option, element: None, field: String::new() }
    }

    pub(super) fn element(&self, number: usize) -> Self {
        Self { element: Some(number), ..self.clone() }
    }

    pub(super) fn field(&self, name: &str) -> Self {
        let field = if self.field.is_empty() { name.to_owned() } else { format!("{}.{name}", self.field) };
        Self { field, ..self.clone() }
    }

    /// The name in the file: `env[1].name`; on the command line: `name` of `--env`.
    pub(super) fn name(&self, origin: &Origin) -> String {
        match origin {
            Origin::CommandLine if self.option.name.is_empty() => "the command".to_owned(),
            Origin::CommandLine if self.field.is_empty() => format!("`--{}`", self.option.name),
            Origin::CommandLine => format!("`{}` of `--{}`", self.field, self.option.name),
            Origin::File { .. } => {
                let element = self.element.map_or_else(String::new, |number| format!("[{number}]"));
                let dot = if self.field.is_empty() { "" } else { "." };
                format!("`{}{element}{dot}{}`", self.option.key, self.field)
            }
        }
    }
}
