//! The words behind `tractorun logs`: what is to be shown, and of which run.
//!
//! All mistakes are reported at once, as for the options of a run.

use std::ffi::OsString;
use std::path::PathBuf;

use regex::bytes::Regex;
use tractorun_contract::ranks::Ranks;

use super::numbers;
use super::row::Stream;
use super::time::{self, Micros};
use crate::settings::options::nearest;

pub(crate) mod help;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// `--help`.
    Help,
    /// Logs.
    Logs(Box<Options>),
}

/// Which lines, and how they are shown.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Directory of the run; empty where a spool is read.
    pub(crate) yt_path: String,
    /// A file that an init has left, or a folder that holds some.
    pub(crate) spool: Option<PathBuf>,
    /// Which incarnation; the newest if none is named.
    pub(crate) incarnation: Option<u32>,
    /// Which workers and sidecars.
    pub(crate) selection: Selection,
    /// Which lines of theirs.
    pub(crate) filter: Filter,
    /// Only so many lines at the end.
    pub(crate) tail: Option<usize>,
    /// What to do with the lines.
    pub(crate) task: Task,
    /// Whether the end of the tables is the end.
    pub(crate) follow: Follow,
    /// How lines are written.
    pub(crate) format: Format,
    /// Whether lines that many print alike become one.
    pub(crate) collapse: Collapse,
}

/// Which processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Workers by rank.
    pub(crate) workers: Wanted,
    /// Sidecars by the number of their table.
    pub(crate) sidecars: Wanted,
    /// Only those of these nodes.
    pub(crate) nodes: Option<Ranks>,
}

/// Which of the processes of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None.
    None,
    /// All.
    #[default]
    All,
    /// Those.
    Only(Ranks),
}

/// Which lines of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Of one stream only.
    pub(crate) stream: Option<Stream>,
    /// Those that match.
    pub(crate) grep: Option<Regex>,
    /// Those from then on.
    pub(crate) since: Option<Micros>,
}

/// What to do with the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Show them.
    Show,
    /// Count them and see whether any are missing.
    Verify,
    /// Add those of a spool to their tables.
    Ship,
}

/// Whether the end of the tables is the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// It is.
    No,
    /// The end of the run is.
    UntilOver,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one object on each line.
    Json,
}

/// Whether lines that many print alike become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collapse {
    /// On a terminal.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Incarnation,
    Rank,
    Sidecar,
    Node,
    Stream,
    Grep,
    Since,
    Tail,
    Follow,
    Json,
    Collapse,
    Verify,
    Spool,
    Ship,
    Help,
}

/// One option.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    /// What stands for its value; none if it takes none.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
    key: Key,
}

/// Every option, in the order `--help` shows them.
pub(crate) static SPECS: [Spec; 15] = [
    with_value("incarnation", "N", Key::Incarnation, "Logs of that incarnation (default: the newest)"),
    with_value("rank", "RANKS", Key::Rank, "Workers of these ranks only, such as 0,3,8-15, or none"),
    with_value("sidecar", "NUMBERS", Key::Sidecar, "Sidecars of these numbers, or all (default: none)"),
    with_value("node", "NODES", Key::Node, "Processes of these nodes only, such as 0,3,8-15"),
    with_value("stream", "STREAM", Key::Stream, "Lines of stdout or stderr only"),
    with_value("grep", "REGEX", Key::Grep, "Lines that match only"),
    with_value("since", "WHEN", Key::Since, "Lines from then on: 10m, 1h30m, 2026-11-24T17:20:00Z"),
    with_value("tail", "N", Key::Tail, "The last N of these lines, all ranks taken together"),
    switch("follow", Some('f'), Key::Follow, "Go on until the run has ended"),
    switch("json", None, Key::Json, "One JSON object for each line"),
    with_value(
        "collapse",
        "WHEN",
        Key::Collapse,
        "Show what many ranks print alike as one line: always, never or auto, which is on a terminal (default)",
    ),
    switch("verify", None, Key::Verify, "Say whether the tables hold all that the workers wrote; 1 if not"),
    with_value("spool", "PATH", Key::Spool, "Lines that an init has left behind, in that file or folder"),
    switch("ship", None, Key::Ship, "Add the lines of the spool to their tables, unless they are there"),
    switch("help", Some('h'), Key::Help, "Print this help"),
];

const fn with_value(name: &'static str, value: &'static str, key: Key, help: &'static str) -> Spec {
    Spec { name, short: None, value: Some(value), help, key }
}

const fn switch(name: &'static str, short: Option<char>, key: Key, help: &'static str) -> Spec {
    Spec { name, short, value: None, help, key }
}

/// Reads the words behind `tractorun logs`. `now` is what durations are counted back from.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>, now: Micros) -> Result<Request, Vec<String>> {
    let mut scan = Scan { now, ..Scan::new() };
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned()).peekable();
    while let Some(word) = words.next() {
        let (spec, written, inline) = match word.strip_prefix("--") {
            Some("") => {
                words.by_ref().for_each(|word| scan.path(word));
                break;
            }
            Some(name) => {
                let (name, inline) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (name, None),
                };
                (SPECS.iter().find(|spec| spec.name == name), format!("--{name}"), inline)
            }
            None if word.len() > 1 && word.starts_with('-') => {
                let mut letters = word[1..].chars();
                let (letter, more) = (letters.next(), letters.next());
                let spec = SPECS.iter().find(|spec| more.is_none() && spec.short == letter);
                (spec, word.clone(), None)
            }
            None => {
                scan.path(word);
                continue;
            }
        };
        let Some(spec) = spec else {
            scan.unknown(&written);
            continue;
        };
        if spec.key == Key::Help {
            return Ok(Request::Help);
        }
        let value = match (spec.value, inline) {
            (None, None) => String::new(),
            (None, Some(_)) => {
                scan.problem(format!("`--{}` takes no value", spec.name));
                continue;
            }
            (Some(_), Some(value)) => value,
            (Some(placeholder), None) => {
                let Some(value) = words.next_if(|next| !next.starts_with("--")) else {
                    scan.problem(format!("`--{0}` needs a value: `--{0} <{placeholder}>`", spec.name));
                    continue;
                };
                value
            }
        };
        if let Err(text) = scan.take(spec.key, &value) {
            scan.problem(format!("`--{}`: {text}", spec.name));
        }
    }
    scan.finish()
}

/// What was read so far.
struct Scan {
    now: Micros,
    paths: Vec<String>,
    spool: Option<PathBuf>,
    incarnation: Option<u32>,
    workers: Option<Wanted>,
    sidecars: Option<Wanted>,
    nodes: Option<Ranks>,
    filter: Filter,
    tail: Option<usize>,
    task: Task,
    follow: Follow,
    format: Format,
    collapse: Collapse,
    problems: Vec<String>,
}

impl Scan {
    fn new() -> Self {
        Self {
            now: 0,
            paths: Vec::new(),
            spool: None,
            incarnation: None,
            workers: None,
            sidecars: None,
            nodes: None,
            filter: Filter::default(),
            tail: None,
            task: Task::Show,
            follow: Follow::No,
            format: Format::Text,
            collapse: Collapse::Auto,
            problems: Vec::new(),
        }
    }

    fn path(&mut self, word: String) {
        self.paths.push(word);
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn unknown(&mut self, written: &str) {
        let name = written.trim_start_matches('-');
        let text = match nearest(name, SPECS.iter().map(|spec| spec.name)) {
            Some(near) => format!("unknown option `{written}`, did you mean `--{near}`?"),
            None => {
                format!("unknown option `{written}`\nhint: `tractorun logs --help` shows all options")
            }
        };
        self.problem(text);
    }

    fn take(&mut self, key: Key, value: &str) -> Result<(), String> {
        let number = |what: &str| {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let bad = || format!("expected {what}, got `{value}`");
            if digits { value.parse::<u32>().map_err(|_| bad()) } else { Err(bad()) }
        };
        match key {
            Key::Incarnation => self.incarnation = Some(number("the number of an incarnation")?),
            Key::Rank => add(&mut self.workers, wanted(value)?),
            Key::Sidecar => add(&mut self.sidecars, wanted(value)?),
            Key::Node => {
                let numbers = numbers::parse(value).map_err(|error| error.to_string())?;
                self.nodes.get_or_insert_default().extend(&numbers);
            }
            Key::Stream => {
                self.filter.stream = Some(choice(value, &Stream::ALL)?);
            }
            Key::Grep => {
                let regex = Regex::new(value).map_err(|error| regex_error(value, &error))?;
                self.filter.grep = Some(regex);
            }
            Key::Since => self.filter.since = Some(time::parse_since(value, self.now)?),
            Key::Tail => self.tail = Some(number("a number of lines")? as usize),
            Key::Follow => self.follow = Follow::UntilOver,
            Key::Json => self.format = Format::Json,
            Key::Collapse => {
                let choices =
                    [("always", Collapse::Always), ("never", Collapse::Never), ("auto", Collapse::Auto)];
                self.collapse = choice(value, &choices)?;
            }
            Key::Verify => self.task = Task::Verify,
            Key::Ship => self.task = Task::Ship,
            Key::Spool => self.spool = Some(PathBuf::from(value)),
            Key::Help => {}
        }
        Ok(())
    }

    /// What goes with `--spool`, and what goes with nothing else.
    fn check_spool(&mut self) {
        if self.spool.is_none() {
            if self.task == Task::Ship {
                self.problem("`--ship` adds the lines of a spool: `--spool <PATH>` is missing".to_owned());
            }
            return;
        }
        let wrong = [
            ("--incarnation", self.incarnation.is_some()),
            ("--follow", self.follow == Follow::UntilOver),
            ("--verify", self.task == Task::Verify),
        ];
        for (option, is_given) in wrong {
            if is_given {
                self.problem(format!("`{option}` is about tables: it does not go with `--spool`"));
            }
        }
        let filter = &self.filter;
        let filtered = filter.stream.is_some() || filter.grep.is_some() || filter.since.is_some();
        if self.task == Task::Ship && (filtered || self.tail.is_some() || self.format == Format::Json) {
            let text = "`--ship` adds all lines: only `--rank`, `--sidecar` and `--node` go with it";
            self.problem(text.to_owned());
        }
    }

    fn finish(mut self) -> Result<Request, Vec<String>> {
        let mut paths = std::mem::take(&mut self.paths);
        if self.task == Task::Verify {
            let filtered = self.filter.stream.is_some()
                || self.filter.grep.is_some()
                || self.filter.since.is_some()
                || self.tail.is_some();
            if filtered || self.follow == Follow::UntilOver || self.format == Format::Json {
                let text = "`--verify` counts whole tables: only `--incarnation`, `--rank`, `--sidecar` and \
                            `--node` go with it";
                self.problem(text.to_owned());
            }
        }
        self.check_spool();
        if self.format == Format::Json && self.collapse == Collapse::Always {
            self.problem("`--json` shows every line: `--collapse always` does not go with it".to_owned());
        }
        match &paths[..] {
            [] if self.spool.is_some() => paths.push(String::new()),
            [path, ..] if self.spool.is_some() => {
                let text =
                    format!("`--spool` says by itself of which run it is: `{path}` does not go with it");
                self.problem(text);
            }
            [] => self.problem(
                "no directory of a run\nhint: `tractorun logs //path/of/the/run`: its `yt_path`, which the \
                 operation's title ends with"
                    .to_owned(),
            ),
            [path] if !path.starts_with("//") || path.len() == 2 => {
                let text = format!("expected the directory of a run such as `//home/me/run`, got `{path}`");
                self.problem(text);
            }
            [_] => {}
            [_, more, ..] => {
                let text = format!("one directory of a run is expected, got also `{more}`");
                self.problem(text);
            }
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        // What is named is all that is shown: `--sidecar 0` alone is not about workers.
        let selection = Selection {
            workers: match (self.workers, &self.sidecars) {
                (Some(workers), _) => workers,
                (None, Some(_)) if self.task != Task::Verify => Wanted::None,
                (None, _) => Wanted::All,
            },
            sidecars: self.sidecars.unwrap_or(match self.task {
                Task::Show if self.spool.is_none() => Wanted::None,
                Task::Show | Task::Verify | Task::Ship => Wanted::All,
            }),
            nodes: self.nodes,
        };
        Ok(Request::Logs(Box::new(Options {
            yt_path: paths.remove(0).trim_end_matches('/').to_owned(),
            spool: self.spool,
            incarnation: self.incarnation,
            selection,
            filter: self.filter,
            tail: self.tail,
            task: self.task,
            follow: self.follow,
            format: self.format,
            collapse: self.collapse,
        })))
    }
}

fn wanted(value: &str) -> Result<Wanted, String> {
    match value {
        "all" => Ok(Wanted::All),
        "none" => Ok(Wanted::None),
        _ => numbers::parse(value).map(Wanted::Only).map_err(|error| error.to_string()),
    }
}

/// An option that is given twice asks for both.
fn add(wanted: &mut Option<Wanted>, more: Wanted) {
    match (wanted, more) {
        (Some(Wanted::Only(numbers)), Wanted::Only(more)) => numbers.extend(&more),
        (wanted, more) => *wanted = Some(more),
    }
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, found)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*found);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let near = nearest(value, names.iter().copied());
    let near = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
    Err(format!("expected `{}`, got `{value}`{near}", names.join("` or `")))
}

/// The last line says what is wrong; those before it draw an arrow at it.
fn regex_error(value: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    format!("`{value}` is not a regular expression: {reason}")
}

// === impl Selection ===

impl Wanted {
    /// Whether that number is wanted.
    pub(crate) fn contains(&self, number: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(numbers) => numbers.contains(number),
        }
    }
}

#[cfg(test)]
mod tests;
