//! The command line: which options it gives, and what the command is.
//!
//! The grammar is small and its own. Options come first, as `--name value` or `--name=value`; the first word
//! that is none, or the first after `--`, begins the command, and nothing from there on is ours. A switch takes
//! the next word only if that is `true` or `false`: `--local python3 x.py` runs python3, `--local false
//! python3 x.py` runs it on the cluster.
//!
//! The first word alone may be a command of ours, [`LOGS`], [`DOCTOR`] or one of [`Name::ALL`]: to run a program of
//! that name, write `tractorun -- logs`. What follows [`DOCTOR`] is read as a run's options are.
//!
//! This is why the words are read here and not by `clap`, which either always takes the next word or never, and
//! which stops at the first mistake; `clap` serves the shell completions. Values are not looked at here.

use std::ffi::OsString;

use crate::runs::Name;
use crate::settings::file::{Layer, later};
use crate::settings::node::{Content, Node};
use crate::settings::options::{self, OPTIONS, OptionSpec, Takes};
use crate::settings::read::boolean_word;
use crate::settings::{Origin, Problem, RunMode};

pub mod help;

/// The first word of `tractorun logs`.
pub const LOGS: &str = "logs";

/// The first word of `tractorun doctor`.
pub const DOCTOR: &str = "doctor";

/// What the words after `tractorun` ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// No word at all: who does that wants to know what there is.
    Nothing,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--man`.
    Man,
    /// `--completions SHELL`, the shell as it was written.
    Completions(String),
    /// `logs`, with the words behind it.
    Logs(Vec<OsString>),
    /// `doctor`.
    Doctor(Consultation),
    /// A command on runs that have started, with the words behind it.
    OnRuns(Name, Vec<OsString>),
    /// Everything else.
    Run(CommandLine),
}

/// What is wanted of the doctor.
#[derive(Debug, Clone, PartialEq)]
pub enum Consultation {
    /// `--help`.
    Help,
    /// To look whether a run with this command line would work.
    Examine(CommandLine, Format),
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A command line taken apart, not checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandLine {
    /// Options by their key.
    pub(crate) options: Layer,
    /// The command; empty where the file has to give it.
    pub(crate) command: Vec<String>,
    /// What to do if there is no command at all.
    pub(crate) command_hint: String,
    /// The YAML file.
    pub(crate) run_config_path: Option<String>,
    /// Whether to act or only to show.
    pub(crate) run_mode: RunMode,
    /// What could not be understood.
    pub(crate) problems: Vec<Problem>,
}

impl CommandLine {
    /// Where the first word of all may be a misspelt command of ours: what was probably meant.
    pub fn meant_instead(&self) -> Option<String> {
        let first = self.command.first().filter(|_| self.options.is_empty() && self.problems.is_empty())?;
        let ours = Name::ALL.into_iter().map(Name::word).chain([LOGS, DOCTOR, "help"]);
        let meant = match options::nearest(first, ours)? {
            "help" => "--help",
            word => word,
        };
        Some(format!("`{first}` was taken as the command of a job; did you mean `tractorun {meant}`?"))
    }
}

/// Takes the words after `tractorun` apart.
///
/// A request for something else than a run wins over mistakes beside it: who asks for `--help` is not told
/// what else is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Request {
    let mut scan = Scan::default();
    let mut words = words.into_iter().peekable();
    if words.peek().is_none() {
        return Request::Nothing;
    }
    if words.next_if(|word| word == LOGS).is_some() {
        return Request::Logs(words.collect());
    }
    if let Some(name) = words.peek().and_then(|word| Name::ALL.into_iter().find(|name| word == name.word())) {
        return Request::OnRuns(name, words.skip(1).collect());
    }
    if words.next_if(|word| word == DOCTOR).is_some() {
        scan.doctor = Some(Format::Text);
    }
    for word in words {
        let word = word.into_string().unwrap_or_else(|word| {
            let word = word.to_string_lossy().into_owned();
            scan.problem(format!("`{word}` is not valid UTF-8"), None);
            word
        });
        scan.remaining.push(word);
    }
    scan.remaining.reverse();
    scan.run()
}

/// What was found in the words read so far, and the words that are left, the next one last.
#[derive(Default)]
struct Scan {
    remaining: Vec<String>,
    options: Layer,
    problems: Vec<Problem>,
    /// A switch that took the word after it, and that word: it may have been meant as the command.
    last_switch: Option<(&'static OptionSpec, String)>,
    /// Whether the doctor is asked, and how it is to answer.
    doctor: Option<Format>,
}

// === impl Scan ===

impl Scan {
    fn run(mut self) -> Request {
        let mut command = Vec::new();
        while let Some(word) = self.remaining.pop() {
            if let Some(name) = word.strip_prefix("--") {
                let request = match name {
                    "" => break,
                    "help" => Some(self.help()),
                    "json" if self.doctor.is_some() => {
                        self.doctor = Some(Format::Json);
                        None
                    }
                    name => self.option(name),
                };
                if let Some(request) = request {
                    return request;
                }
            } else if word == "-h" {
                return self.help();
            } else if word.len() > 1 && word.starts_with('-') {
                self.unknown(&word);
            } else {
                command.push(word);
                break;
            }
        }
        command.extend(self.remaining.drain(..).rev());
        match self.doctor {
            None => Request::Run(self.finish(command)),
            Some(format) => {
                let command_line = CommandLine { run_mode: RunMode::Examine, ..self.finish(command) };
                Request::Doctor(Consultation::Examine(command_line, format))
            }
        }
    }

    fn help(&self) -> Request {
        match self.doctor {
            None => Request::Help,
            Some(_) => Request::Doctor(Consultation::Help),
        }
    }

    fn finish(mut self, command: Vec<String>) -> CommandLine {
        let command_hint = match &self.last_switch {
            Some((option, word)) => format!(
                "`{word}` was taken as the value of `--{0}`: to run it, write `--{0} -- {word}`",
                option.name
            ),
            None => "put it after the options, `tractorun [OPTIONS] python3 train.py`, or give `command` in the file".to_owned(),
        };
        let run_mode = match self.options.get("dry_run").map(|node| &node.content) {
            Some(Content::Bool(true, _)) => RunMode::DryRun,
            _ => RunMode::Submit,
        };
        let run_config_path = match self.options.get("run_config_path").map(|node| &node.content) {
            Some(Content::Text(path)) if path.is_empty() => {
                self.problem("`--run-config-path`: expected a file, got ``".to_owned(), None);
                None
            }
            Some(Content::Text(path)) => Some(path.clone()),
            _ => None,
        };
        let Self { options, problems, .. } = self;
        CommandLine { options, command, command_hint, run_config_path, run_mode, problems }
    }

    /// Reads one option, `written` without its dashes.
    fn option(&mut self, written: &str) -> Option<Request> {
        let (name, value) = match written.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (written, None),
        };
        let Some(option) = options::by_name(name) else {
            let near = self.unknown(&format!("--{name}"));
            if value.is_none() {
                self.skip_value_of_unknown(near);
            }
            return None;
        };
        self.last_switch = None;
        match option.takes {
            Takes::Nothing if value.is_none() && option.key == "man" => return Some(Request::Man),
            Takes::Nothing if value.is_none() => return Some(Request::Version),
            Takes::Nothing => self.problem(format!("`--{name}` takes no value"), None),
            Takes::Switch => self.switch(option, value),
            Takes::One(placeholder, _) => {
                let value = self.value(option, placeholder, value)?;
                if option.key == "completions" {
                    return Some(Request::Completions(value));
                }
                self.options.insert(option.key, Node::word(value));
            }
            Takes::Each(placeholder, _) => {
                let value = Node::word(self.value(option, placeholder, value)?);
                let empty = Node { origin: Origin::CommandLine, content: Content::List(Vec::new()) };
                if let Content::List(items) = &mut self.options.entry(option.key).or_insert(empty).content {
                    items.push(value);
                }
            }
        }
        None
    }

    fn switch(&mut self, option: &'static OptionSpec, value: Option<String>) {
        let word = match value {
            Some(value) => value,
            None => match self.remaining.pop_if(|next| boolean_word(next).is_some()) {
                Some(word) => {
                    self.last_switch = Some((option, word.clone()));
                    word
                }
                None => "true".to_owned(),
            },
        };
        if let Some(value) = boolean_word(&word) {
            let content = Content::Bool(value, word);
            self.options.insert(option.key, Node { origin: Origin::CommandLine, content });
        } else {
            let text = format!("`--{}`: expected `true` or `false`, got `{word}`", option.name);
            self.problem(text, None);
        }
    }

    /// The value of an option that must have one.
    fn value(&mut self, option: &OptionSpec, placeholder: &str, inline: Option<String>) -> Option<String> {
        if inline.is_some() {
            return inline;
        }
        if self.next_is_value() {
            return self.remaining.pop();
        }
        let name = option.name;
        let hint = match self.remaining.last() {
            Some(next) if next != "--" => Some(format!("if `{next}` is the value, write `--{name}={next}`")),
            _ => None,
        };
        self.problem(format!("`--{name}` needs a value: `--{name} <{placeholder}>`"), hint);
        None
    }

    /// Whether the next word can be a value: another option after an option means that its value was forgotten.
    fn next_is_value(&self) -> bool {
        self.remaining.last().is_some_and(|next| !next.starts_with("--"))
    }

    /// Notes an option that nobody knows, and gives the one that was probably meant.
    fn unknown(&mut self, written: &str) -> Option<&'static OptionSpec> {
        let name = written.trim_start_matches('-');
        if options::comes_later(&name.replace('-', "_")) {
            self.problem(later(&format!("`{written}`")), None);
            return None;
        }
        let near = options::nearest(name, OPTIONS.iter().map(|option| option.name).chain(["help"]));
        if let Some(near) = near {
            self.problem(format!("unknown option `{written}`, did you mean `--{near}`?"), None);
        } else {
            let hint = "`tractorun --help` shows all options".to_owned();
            self.problem(format!("unknown option `{written}`"), Some(hint));
        }
        near.and_then(options::by_name)
    }

    /// Goes past what is probably the value of an unknown option, so that the options behind it are still
    /// read as options and are not reported as missing.
    fn skip_value_of_unknown(&mut self, near: Option<&OptionSpec>) {
        let takes_value = match near.map(|option| option.takes) {
            Some(Takes::One(..) | Takes::Each(..)) => true,
            Some(Takes::Switch) => self.remaining.last().is_some_and(|next| boolean_word(next).is_some()),
            Some(Takes::Nothing) => false,
            None => self.remaining.iter().rev().nth(1).is_some_and(|after_next| {
                let name = after_next.strip_prefix("--").unwrap_or_default();
                options::by_name(name.split('=').next().unwrap_or_default()).is_some()
            }),
        };
        if takes_value && self.next_is_value() {
            self.remaining.pop();
        }
    }

    fn problem(&mut self, text: String, hint: Option<String>) {
        self.problems.push(Problem { origin: Origin::CommandLine, text, hint });
    }
}
