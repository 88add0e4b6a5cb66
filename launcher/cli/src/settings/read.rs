//! Readers of single values: each takes what was written and gives the checked form, or notes a problem.
//!
//! Every reader returns `None` for a value that it refused, after noting why; the caller goes on, so that all
//! problems are found in one go.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::node::{Content, Entry, Node};
use super::options;
use super::problem::{Origin, Problem, Subject};

/// Collects the problems of one configuration.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// A map whose keys are known: `field` takes them out one by one.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    subject: &'a Subject,
    origin: &'a Origin,
    entries: Vec<(&'static str, &'a Node)>,
}

/// Sizes that a number of bytes may be written with. Only units that say which factor they mean.
const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Units that a span of time may be written with, in milliseconds; longer names first, as `ms` ends in `s`.
const SPANS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A year: no job runs so long, and all sums of times stay small.
const MAX_SPAN_MS: u64 = 366 * 86_400_000;

/// The largest number of bytes that a spec can hold (a signed 64-bit integer).
const MAX_BYTES: u64 = i64::MAX as u64;

impl Reader {
    /// All problems: those of the command line as they were found, then those of the file by their place.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| match problem.origin {
            Origin::CommandLine => (0, 0),
            Origin::File { line, column, .. } => (line.saturating_add(1), column),
        });
        self.problems
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Notes that a value is not what its option accepts.
    pub(super) fn refuse(&mut self, subject: &Subject, node: &Node, accepted: &str) {
        let text = format!("{}: expected {accepted}, got {}", subject.name(&node.origin), node.show());
        self.note(Problem::new(&node.origin, text));
    }

    /// Text that is not empty. Numbers and booleans of a YAML file are taken as they were written.
    pub(super) fn text(&mut self, subject: &Subject, node: &Node) -> Option<String> {
        self.text_that(subject, node, "text that is not empty", |text| !text.is_empty())
    }

    /// Text, possibly empty.
    pub(super) fn any_text(&mut self, subject: &Subject, node: &Node) -> Option<String> {
        self.text_that(subject, node, "text", |_| true)
    }

    /// Text that fulfils a condition, and the words for it.
    pub(super) fn text_that(
        &mut self,
        subject: &Subject,
        node: &Node,
        accepted: &str,
        is_right: impl Fn(&str) -> bool,
    ) -> Option<String> {
        match &node.content {
            Content::Text(text) | Content::Number(_, text) | Content::Bool(_, text)
                if is_right(text) && !text.contains('\0') =>
            {
                Some(text.clone())
            }
            _ => {
                self.refuse(subject, node, accepted);
                None
            }
        }
    }

    /// An absolute path on the cluster, without a slash at its end.
    pub(super) fn cypress_path(&mut self, subject: &Subject, node: &Node) -> Option<String> {
        let accepted = "a path on the cluster that starts with `//` and does not end with `/`";
        self.text_that(subject, node, accepted, |path| {
            path.strip_prefix("//").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
                && !path.ends_with('/')
        })
    }

    /// A whole number within limits.
    pub(super) fn whole(
        &mut self,
        subject: &Subject,
        node: &Node,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = match &node.content {
            Content::Number(number, _) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            Content::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let accepted = format!("a whole number from {} to {}", range.start(), range.end());
            self.refuse(subject, node, &accepted);
        }
        number
    }

    /// A number above 0.
    pub(super) fn positive(&mut self, subject: &Subject, node: &Node) -> Option<f64> {
        let number = match &node.content {
            Content::Number(number, _) => number.as_f64(),
            Content::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
        if number.is_none() {
            self.refuse(subject, node, "a number above 0");
        }
        number
    }

    /// A number of bytes above 0, or a size with its unit.
    pub(super) fn bytes(&mut self, subject: &Subject, node: &Node) -> Option<u64> {
        self.bytes_from(subject, node, 1)
    }

    /// The same, from so many bytes on.
    pub(super) fn bytes_from(&mut self, subject: &Subject, node: &Node, least: u64) -> Option<u64> {
        let bytes = match &node.content {
            Content::Number(number, _) => number.as_u64(),
            Content::Text(text) => parse_bytes(text),
            _ => None,
        };
        let bytes = bytes.filter(|bytes| (least..=MAX_BYTES).contains(bytes));
        if bytes.is_none() {
            let range = match least {
                0 => String::new(),
                1 => " above 0".to_owned(),
                least => format!(" from {least} on"),
            };
            let accepted = format!("a number of bytes{range}, or a size such as `512MiB` or `16GiB`");
            self.refuse(subject, node, &accepted);
        }
        bytes
    }

    /// A span of time with its unit; milliseconds.
    pub(super) fn span_ms(&mut self, subject: &Subject, node: &Node, least_ms: u64) -> Option<u64> {
        let span = match &node.content {
            Content::Text(text) => parse_span_ms(text),
            // Zero is the same in every unit.
            Content::Number(number, _) if number.as_u64() == Some(0) => Some(0),
            _ => None,
        };
        let span = span.filter(|span| (least_ms..=MAX_SPAN_MS).contains(span));
        if span.is_none() {
            let least = if least_ms > 0 { " above 0" } else { "" };
            let accepted =
                format!("a time{least} with its unit (`ms`, `s`, `m`, `h`, `d`), such as `30s` or `10m`");
            self.refuse(subject, node, &accepted);
        }
        span
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, subject: &Subject, node: &Node) -> Option<bool> {
        let value = match &node.content {
            Content::Bool(value, _) => Some(*value),
            Content::Text(text) => boolean_word(text),
            _ => None,
        };
        if value.is_none() {
            self.refuse(subject, node, "`true` or `false`");
        }
        value
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        subject: &Subject,
        node: &Node,
        choices: &[(&str, T)],
    ) -> Option<T> {
        if let Content::Text(text) = &node.content
            && let Some((_, value)) = choices.iter().find(|(word, _)| word == text)
        {
            return Some(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let name = subject.name(&node.origin);
        let text = format!("{name}: expected {}, got {}", words.join(" or "), node.show());
        let mut problem = Problem::new(&node.origin, text);
        if let Content::Text(text) = &node.content
            && let Some(near) = options::nearest(text, choices.iter().map(|(word, _)| *word))
        {
            problem = problem.hint(format!("did you mean `{near}`?"));
        }
        self.note(problem);
        None
    }

    /// The elements of a list, each with its name.
    pub(super) fn list<'a>(&mut self, subject: &Subject, node: &'a Node) -> Vec<(Subject, &'a Node)> {
        if let Content::List(items) = &node.content {
            items.iter().enumerate().map(|(number, item)| (subject.element(number), item)).collect()
        } else {
            self.refuse(subject, node, "a list");
            Vec::new()
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, subject: &Subject, node: &Node) -> Vec<String> {
        let items = self.list(subject, node);
        items.into_iter().filter_map(|(subject, item)| self.text(&subject, item)).collect()
    }

    /// A JSON object: a map in the YAML file, JSON on the command line.
    pub(super) fn object(&mut self, subject: &Subject, node: &Node) -> Option<Map<String, Value>> {
        let form = "a JSON object such as `{\"key\": \"value\"}`";
        let node = self.structured(subject, node, form)?;
        self.note_duplicates(subject, &node);
        if let Value::Object(map) = node.to_json() {
            Some(map)
        } else {
            self.refuse(subject, &node, form);
            None
        }
    }

    /// The operation's spec, whose `secure_vault` is a map. What it holds is not shown.
    pub(super) fn operation_spec(&mut self, subject: &Subject, node: &Node) -> Option<Map<String, Value>> {
        let spec = self.object(subject, node)?;
        if spec.get("secure_vault").is_some_and(|vault| !vault.is_object()) {
            let name = subject.field("secure_vault").name(&node.origin);
            self.note(Problem::new(
                &node.origin,
                format!("{name}: expected keys with values (the value is not shown)"),
            ));
            return None;
        }
        Some(spec)
    }

    /// The value with the JSON in a word of the command line read; `form` says what JSON is accepted.
    pub(super) fn structured(&mut self, subject: &Subject, node: &Node, form: &str) -> Option<Node> {
        let Content::Text(text) = &node.content else { return Some(node.clone()) };
        if node.origin != Origin::CommandLine {
            self.refuse(subject, node, form);
            return None;
        }
        match Node::from_json(text) {
            Ok(node) => Some(node),
            // The value is not repeated: it is long, the shell may have changed it, and it may hold a secret.
            Err(error) => {
                let text = format!("{}: expected {form}: {error}", subject.name(&node.origin));
                let hint = "put the JSON in single quotes, so that the shell leaves it as it is";
                self.note(Problem::new(&node.origin, text).hint(hint));
                None
            }
        }
    }

    /// A map of which every key is known; others are problems.
    pub(super) fn fields<'a>(
        &mut self,
        subject: &'a Subject,
        node: &'a Node,
        known: &'static [&'static str],
        form: &str,
    ) -> Option<Fields<'a>> {
        let Content::Map(entries) = &node.content else {
            self.refuse(subject, node, form);
            return None;
        };
        let mut fields = Fields { subject, origin: &node.origin, entries: Vec::new() };
        for entry in entries {
            let Some(&name) = known.iter().find(|name| **name == entry.key) else {
                let near = options::nearest(&entry.key, known.iter().copied());
                let near = near.map(|near| match entry.origin {
                    Origin::CommandLine => format!("`{near}`"),
                    Origin::File { .. } => subject.field(near).name(&entry.origin),
                });
                let unknown = subject.field(&entry.key).name(&entry.origin);
                self.note_unknown(&entry.origin, "key", &unknown, near.as_deref(), known);
                continue;
            };
            if fields.get(name).is_some() {
                self.note_twice(&subject.field(name).name(&entry.origin), entry);
            } else if entry.value.content != Content::Null {
                fields.entries.push((name, &entry.value));
            }
        }
        Some(fields)
    }

    /// A field that must be there.
    pub(super) fn needed<'a>(&mut self, fields: &Fields<'a>, name: &str, form: &str) -> Option<&'a Node> {
        let node = fields.get(name);
        if node.is_none() {
            let text =
                format!("{}: `{name}` is missing: expected {form}", fields.subject.name(fields.origin));
            self.note(Problem::new(fields.origin, text));
        }
        node
    }

    /// Notes a name that nobody knows; `unknown` and `near` stand in backticks already.
    pub(super) fn note_unknown(
        &mut self,
        origin: &Origin,
        what: &str,
        unknown: &str,
        near: Option<&str>,
        known: &[&str],
    ) {
        let mut text = format!("unknown {what} {unknown}");
        match near {
            Some(near) => {
                text.push_str(", did you mean ");
                text.push_str(near);
                text.push('?');
            }
            None if known.is_empty() => {}
            None => {
                text.push_str(": expected one of `");
                text.push_str(&known.join("`, `"));
                text.push('`');
            }
        }
        self.note(Problem::new(origin, text));
    }

    pub(super) fn note_twice(&mut self, name: &str, second: &Entry) {
        self.note(Problem::new(&second.origin, format!("{name} is given twice")));
    }

    /// In a map of the user's own, a key that is there twice would silently lose one of its values.
    fn note_duplicates(&mut self, subject: &Subject, node: &Node) {
        match &node.content {
            Content::List(items) => items.iter().for_each(|item| self.note_duplicates(subject, item)),
            Content::Map(entries) => {
                for (number, entry) in entries.iter().enumerate() {
                    let subject = subject.field(&entry.key);
                    if entries[..number].iter().any(|earlier| earlier.key == entry.key) {
                        self.note_twice(&subject.name(&entry.origin), entry);
                    }
                    self.note_duplicates(&subject, &entry.value);
                }
            }
            _ => {}
        }
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
    }
}

/// Reads the words for `true` and `false`, in any case, and the `1` and `0` that people wrote for the Python tractorun.
pub(crate) fn boolean_word(word: &str) -> Option<bool> {
    if word.eq_ignore_ascii_case("true") || word == "1" {
        Some(true)
    } else if word.eq_ignore_ascii_case("false") || word == "0" {
        Some(false)
    } else {
        None
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits.trim_end(), *factor)))
        .unwrap_or((text, 1));
    // `u64::from_str` takes a leading `+`, a size does not.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn parse_span_ms(text: &str) -> Option<u64> {
    let (number, factor) = SPANS_MS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))?;
    let is_digit = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    if !is_digit(whole) || fraction.is_some_and(|fraction| !is_digit(fraction)) {
        return None;
    }
    // Thousandths of the unit, so that `1.5m` is exact.
    let thousandths: u64 = match fraction {
        Some(fraction) if fraction.len() > 3 => return None,
        Some(fraction) => format!("{fraction:0<3}").parse().ok()?,
        None => 0,
    };
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    whole.checked_add(thousandths * factor / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_times_with_a_unit() {
        for (text, span) in [
            ("30s", 30_000),
            ("10m", 600_000),
            ("10 m", 600_000),
            ("1.5h", 5_400_000),
            ("0.25s", 250),
            ("250ms", 250),
            ("0s", 0),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse_span_ms(text), Some(span), "{text}");
        }
        for refused in [
            "",
            "30",
            "s",
            "-1s",
            "+1s",
            "1.s",
            ".5s",
            "1e3s",
            "1 hour",
            "1.2345s",
            "1w",
            "99999999999999999999s",
            "1s2",
        ] {
            assert_eq!(parse_span_ms(refused), None, "{refused}");
        }
    }

    #[test]
    fn sizes_are_numbers_of_bytes() {
        assert_eq!(parse_bytes("17179869184"), Some(17_179_869_184));
        assert_eq!(parse_bytes("16GiB"), Some(17_179_869_184));
        assert_eq!(parse_bytes("16 GiB"), Some(17_179_869_184));
        assert_eq!(parse_bytes("2KB"), Some(2_000));
        for refused in ["", "GiB", "16G", "1.5GiB", "-1", "+1", "16gib", "99999999TiB"] {
            assert_eq!(parse_bytes(refused), None, "{refused}");
        }
    }
}
