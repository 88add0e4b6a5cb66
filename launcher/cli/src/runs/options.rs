//! The words behind `tractorun status` and its kin, and the text of their `--help`.

use std::ffi::OsString;
use std::fmt::Write as _;

use crate::cli::help::write_option;
use crate::report::Colour;
use crate::settings::options::nearest;

/// A command on runs that have started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// How a run is doing.
    Status,
    /// Ends a run.
    Stop,
    /// Which runs there are.
    List,
    /// Follows a run again.
    Attach,
    /// Where a run's nodes serve metrics.
    Targets,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// `--help`.
    Help,
    /// `status`.
    Status { run: Whereabouts, format: Format, looks: Looks },
    /// `stop`.
    Stop { run: Whereabouts, urgency: Urgency },
    /// `list`.
    List { scope: Scope, user: Option<String>, format: Format },
    /// `attach`.
    Attach { run: Whereabouts },
    /// `targets`.
    Targets { run: Whereabouts },
}

/// How a user names a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// By its base directory: then the newest one there.
    YtPath(String),
    /// By its operation.
    Operation(String),
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How often it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// Once.
    One,
    /// Again and again until the run is over.
    UntilOver,
}

/// How a run is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// SIGTERM and the grace period.
    Orderly,
    /// At once.
    Now,
}

/// Which runs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those that are not over.
    Unfinished,
    /// Those that are over, too.
    All,
}

struct Spec {
    name: &'static str,
    value: Option<&'static str>,
    help: &'static str,
}

const JSON: Spec = Spec { name: "json", value: None, help: "Print JSON" };

// === impl Name ===

impl Name {
    /// All, in the order of `--help`.
    pub const ALL: [Self; 5] = [Self::Status, Self::Attach, Self::Stop, Self::List, Self::Targets];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Stop => "stop",
            Self::List => "list",
            Self::Attach => "attach",
            Self::Targets => "targets",
        }
    }

    /// What stands behind the word in a usage line.
    pub fn arguments(self) -> &'static str {
        match self {
            Self::List => "",
            _ => " RUN",
        }
    }

    /// What it does, for a list of commands.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Status => "How a run is doing, or how it ended",
            Self::Stop => "End a run in order, or with --now at once",
            Self::List => "Runs that are not over, or with --all all of them",
            Self::Attach => "Follow a run again, to its end and exit code",
            Self::Targets => "Where nodes serve metrics, for Prometheus' http_sd",
        }
    }

    /// Its options, what stands for their values, and what they do.
    pub fn options(self) -> impl Iterator<Item = (&'static str, Option<&'static str>, &'static str)> {
        self.specs().iter().map(|spec| (spec.name, spec.value, spec.help))
    }

    fn specs(self) -> &'static [Spec] {
        match self {
            Self::Status => &[
                Spec { name: "watch", value: None, help: "Show it again and again until the run is over" },
                JSON,
            ],
            Self::Stop => {
                &[Spec { name: "now", value: None, help: "Abort the operation, without SIGTERM or grace" }]
            }
            Self::List => &[
                Spec { name: "all", value: None, help: "Runs that are over, too" },
                Spec { name: "user", value: Some("USER"), help: "Runs of that user only" },
                JSON,
            ],
            Self::Attach | Self::Targets => &[],
        }
    }

    fn takes_run(self) -> bool {
        self != Self::List
    }

    fn before(self) -> &'static str {
        match self {
            Self::Status => {
                "Shows how a run is doing or how it ended: its operation, its nodes with their\n\
                 ranks, its restarts and its verdict."
            }
            Self::Stop => {
                "Ends a run and waits until it is over. Its leader is asked to stop, which it\n\
                 sees within seconds: the workers of all nodes get SIGTERM, and what is left\n\
                 after the grace period gets SIGKILL. A run whose nodes have not met yet is\n\
                 aborted. Exits with 0 when the run is over, however it ended."
            }
            Self::List => "Lists runs, newest first.",
            Self::Attach => {
                "Follows a run to its end as the launcher that started it did: what node 0\n\
                 writes to stderr, the verdict, and the exit code. Ctrl-C detaches; the run\n\
                 goes on."
            }
            Self::Targets => {
                "Prints the addresses of a run's metrics as JSON, as Prometheus' http_sd and\n\
                 file_sd read it."
            }
        }
    }
}

/// The text of a command's `--help`, 80 columns wide.
pub(crate) fn help(name: Name, colour: Colour) -> String {
    let heading = |text: &str| match colour {
        Colour::On => format!("\x1b[1m{text}\x1b[0m"),
        Colour::Off => text.to_owned(),
    };
    let mut out = format!(
        "{} tractorun {} [OPTIONS]{}\n\n{}\n",
        heading("Usage:"),
        name.word(),
        name.arguments(),
        name.before()
    );
    if name.takes_run() {
        out.push_str(
            "\nRUN is the base directory of a run, such as //home/me/digits (then the newest\n\
             run there), or the id of its operation.\n",
        );
    }
    // Writing to a string does not fail.
    let _ = writeln!(out, "\n{}", heading("Options:"));
    for Spec { name, value, help } in name.specs() {
        let value = value.map(|value| format!(" <{value}>")).unwrap_or_default();
        write_option(&mut out, &format!("--{name}{value}"), help);
    }
    write_option(&mut out, "-h, --help", "Print this help");
    out
}

/// Reads the words behind the command's name.
pub(crate) fn parse(name: Name, words: impl IntoIterator<Item = OsString>) -> Result<Request, Vec<String>> {
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned()).peekable();
    let (mut given, mut places, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        let Some(written) = word.strip_prefix("--") else {
            match word.as_str() {
                "-h" => return Ok(Request::Help),
                _ if word.len() > 1 && word.starts_with('-') => problems.push(unknown(name, &word)),
                _ => places.push(word),
            }
            continue;
        };
        let (option, inline) = match written.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (written, None),
        };
        if option == "help" {
            return Ok(Request::Help);
        }
        if option.is_empty() {
            places.extend(words.by_ref());
            continue;
        }
        let Some(spec) = name.specs().iter().find(|spec| spec.name == option) else {
            problems.push(unknown(name, &format!("--{option}")));
            continue;
        };
        match (spec.value, inline) {
            (None, None) => given.push((spec.name, String::new())),
            (None, Some(_)) => problems.push(format!("`--{option}` takes no value")),
            (Some(_), Some(value)) => given.push((spec.name, value)),
            (Some(placeholder), None) => match words.next_if(|next| !next.starts_with("--")) {
                Some(value) => given.push((spec.name, value)),
                None => problems.push(format!("`--{option}` needs a value: `--{option} <{placeholder}>`")),
            },
        }
    }
    let run = match whereabouts(name, &places) {
        Ok(run) => run,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let is_given = |option: &str| given.iter().any(|(name, _)| *name == option);
    let format = if is_given("json") { Format::Json } else { Format::Text };
    Ok(match (name, run) {
        (Name::Status, Some(run)) => {
            let looks = if is_given("watch") { Looks::UntilOver } else { Looks::One };
            if (format, looks) == (Format::Json, Looks::UntilOver) {
                return Err(vec!["`--watch` is for people: give either it or `--json`".to_owned()]);
            }
            Request::Status { run, format, looks }
        }
        (Name::Stop, Some(run)) => {
            let urgency = if is_given("now") { Urgency::Now } else { Urgency::Orderly };
            Request::Stop { run, urgency }
        }
        (Name::Attach, Some(run)) => Request::Attach { run },
        (Name::Targets, Some(run)) => Request::Targets { run },
        (Name::List, _) | (_, None) => {
            let scope = if is_given("all") { Scope::All } else { Scope::Unfinished };
            let user = given.iter().rfind(|(name, _)| *name == "user").map(|(_, value)| value.clone());
            Request::List { scope, user, format }
        }
    })
}

fn whereabouts(name: Name, places: &[String]) -> Result<Option<Whereabouts>, String> {
    let word = name.word();
    match (name.takes_run(), places) {
        (false, []) => Ok(None),
        (false, [place, ..]) => Err(format!("`tractorun {word}` takes no arguments, got `{place}`")),
        (true, []) => Err(format!(
            "no run is named\nhint: `tractorun {word} //path/of/the/run` or `tractorun {word} OPERATION`; \
             `tractorun list` shows both"
        )),
        (true, [place]) if place.starts_with("//") && place.len() > 2 => {
            Ok(Some(Whereabouts::YtPath(place.trim_end_matches('/').to_owned())))
        }
        (true, [place]) if is_operation_id(place) => Ok(Some(Whereabouts::Operation(place.clone()))),
        (true, [place]) => Err(format!(
            "expected the directory of a run such as `//home/me/run`, or the id of an operation such as \
             `1-2-3e8-4`, got `{place}`"
        )),
        (true, [_, more, ..]) => Err(format!("one run is expected, got also `{more}`")),
    }
}

/// Four hexadecimal numbers of at most 32 bits.
fn is_operation_id(text: &str) -> bool {
    let is_part = |part: &str| (1..=8).contains(&part.len()) && u32::from_str_radix(part, 16).is_ok();
    text.split('-').count() == 4 && text.split('-').all(is_part)
}

fn unknown(name: Name, written: &str) -> String {
    let options = name.specs().iter().map(|spec| spec.name).chain(["help"]);
    match nearest(written.trim_start_matches('-'), options) {
        Some(near) => format!("unknown option `{written}`, did you mean `--{near}`?"),
        None => {
            format!("unknown option `{written}`\nhint: `tractorun {} --help` shows all options", name.word())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: Name, words: &[&str]) -> Result<Request, Vec<String>> {
        parse(name, words.iter().map(OsString::from))
    }

    #[test]
    fn runs_are_named_by_path_or_operation() {
        let run = Whereabouts::YtPath("//home/me/run".into());
        let status = Request::Status { run, format: Format::Json, looks: Looks::One };
        assert_eq!(parsed(Name::Status, &["//home/me/run/", "--json"]), Ok(status));
        let run = Whereabouts::Operation("a1-0-3e803e8-ffffffff".into());
        assert_eq!(parsed(Name::Attach, &["a1-0-3e803e8-ffffffff"]), Ok(Request::Attach { run }));
        let run = Whereabouts::YtPath("//x".into());
        assert_eq!(parsed(Name::Stop, &["--now", "//x"]), Ok(Request::Stop { run, urgency: Urgency::Now }));
    }

    #[test]
    fn list_takes_no_run() {
        let request = Request::List { scope: Scope::All, user: Some("me".into()), format: Format::Text };
        assert_eq!(parsed(Name::List, &["--user", "me", "--all"]), Ok(request));
        let error = parsed(Name::List, &["//x", "--user"]).unwrap_err();
        assert_eq!(
            error,
            ["`--user` needs a value: `--user <USER>`", "`tractorun list` takes no arguments, got `//x`"]
        );
    }

    #[test]
    fn mistakes_say_what_is_accepted() {
        assert_eq!(
            parsed(Name::Status, &["run", "--jsn"]).unwrap_err(),
            [
                "unknown option `--jsn`, did you mean `--json`?",
                "expected the directory of a run such as `//home/me/run`, or the id of an operation such as \
                 `1-2-3e8-4`, got `run`"
            ]
        );
        assert_eq!(
            parsed(Name::Stop, &[]).unwrap_err(),
            ["no run is named\nhint: `tractorun stop //path/of/the/run` or `tractorun stop OPERATION`; \
              `tractorun list` shows both"]
        );
        assert_eq!(
            parsed(Name::Attach, &["//a", "//b"]).unwrap_err(),
            ["one run is expected, got also `//b`"]
        );
        assert_eq!(
            parsed(Name::Status, &["//a", "--json", "--watch"]).unwrap_err(),
            ["`--watch` is for people: give either it or `--json`"]
        );
        for bad in ["1-2-3", "1-2-3-g", "1-2-3-123456789", "1-2--4", "//"] {
            assert!(parsed(Name::Status, &[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_fits_80_columns() {
        for name in Name::ALL {
            assert_eq!(parsed(name, &["--nonsense", "-h"]), Ok(Request::Help));
            let text = help(name, Colour::Off);
            assert!(text.starts_with(&format!("Usage: tractorun {}", name.word())), "{text}");
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
            assert!(name.specs().iter().all(|spec| text.contains(&format!("--{}", spec.name))), "{text}");
        }
    }
}
