//! The command line. By hand: four options do not need a library that is larger than they are.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;

use tractorun_contract::env;

use crate::check::Format;
use crate::driver::PlainCommand;
use crate::image_env::{DEFAULT_FILE, Save};
use crate::job::Environment;
use crate::supervisor::Target;

pub mod help;

use help::Topic;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Be one node of a job.
    Job,
    /// Be the init of one program.
    Plain(PlainCommand),
    /// Say what the machine offers.
    Check(Format),
    /// Keep the environment of an image's build for its jobs.
    SaveEnv(Save),
    /// Print a help.
    Help(Topic),
    /// Print the version.
    Version,
}

/// What init's life hangs on besides signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifelineKind {
    /// Nothing.
    None,
    /// Standard input: its end is a request to stop.
    Stdin,
}

/// Why the command line was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An option that does not exist.
    #[error("unknown option `{0}`{near}\nhint: tractorun-init --help", near = near_text(.0))]
    UnknownOption(String),
    /// A word where `--` must be.
    #[error("unexpected argument `{0}`\nhint: the command comes after `--`: tractorun-init -- {0}")]
    UnexpectedArgument(String),
    /// A word after `check` that means nothing.
    #[error("unexpected argument `{0}` of `check`: expected `--json` or nothing")]
    ArgumentOfCheck(String),
    /// A word after `save-env` that means nothing.
    #[error(
        "unexpected argument `{0}` of `save-env`: expected `--to FILE`, `--with NAME`, `--without NAME` or nothing"
    )]
    ArgumentOfSaveEnv(String),
    /// An option of `save-env` without its value.
    #[error("`{0}` needs a value: expected {1}")]
    NoValueOfSaveEnv(&'static str, &'static str),
    /// `--` without a command.
    #[error("no command after `--`\nhint: tractorun-init -- COMMAND [ARGUMENT]...")]
    NoCommand,
    /// Arguments besides a job spec.
    #[error(
        "in a job (`{spec}` is set) there are no arguments, found `{0}`\nhint: the command is in the job spec",
        spec = env::JOB_SPEC
    )]
    ArgumentInJob(String),
    /// Neither a command nor a job spec.
    #[error(
        "nothing to do: no command, and `{}` is not set\n\
         hint: tractorun-init -- COMMAND [ARGUMENT]...; see tractorun-init --help",
        env::JOB_SPEC
    )]
    NothingToDo,
    /// An option without its value.
    #[error("`{0}` needs a value: expected ADDRESS:PORT, such as 127.0.0.1:9100")]
    NoValue(String),
    /// A place to serve metrics on that is none.
    #[error("{name}: expected ADDRESS:PORT, such as 127.0.0.1:9100, got `{value}`")]
    BadMetrics {
        /// Where it was said.
        name: &'static str,
        /// What was said.
        value: String,
    },
    /// A lifeline that does not exist.
    #[error("environment variable `{name}` is not understood, expected `stdin`: {0}", name = env::LIFELINE)]
    BadLifeline(String),
}

/// All options.
const OPTIONS: [&str; 7] = ["--help", "--version", "--group", METRICS_OPTION, "-h", "-V", "-g"];

/// Where metrics are served outside a job.
const METRICS_OPTION: &str = "--metrics";

/// Understands the arguments (without the program's name).
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Invocation, UsageError> {
    let mut target = Target::Process;
    let mut metrics = None;
    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|word| word == "check").is_some() {
        return check(arguments);
    }
    if arguments.next_if(|word| word == "save-env").is_some() {
        return save_env(arguments);
    }
    let in_job = environment.get(env::JOB_SPEC).is_some_and(|path| !path.is_empty());
    let mut first = None;
    while let Some(argument) = arguments.next() {
        first.get_or_insert_with(|| argument.clone());
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Invocation::Help(Topic::Program)),
            Some("--version" | "-V") => return Ok(Invocation::Version),
            Some("--group" | "-g") => target = Target::Group,
            Some(METRICS_OPTION) => match arguments.next() {
                Some(value) if value != "--" => metrics = Some(metrics_address(METRICS_OPTION, &value)?),
                _ => return Err(UsageError::NoValue(METRICS_OPTION.to_owned())),
            },
            Some(word) if word.starts_with("--metrics=") => {
                let (_, value) = word.split_once('=').unwrap_or_default();
                metrics = Some(metrics_address(METRICS_OPTION, OsStr::new(value))?);
            }
            Some("--") => {
                // An image may have been given this entrypoint and its job a spec: the words on the command line
                // are nearer.
                let command: Vec<OsString> = arguments.collect();
                if command.is_empty() {
                    return Err(UsageError::NoCommand);
                }
                let metrics = match metrics {
                    Some(address) => Some(address),
                    None => metrics_of(environment)?,
                };
                return Ok(Invocation::Plain(PlainCommand { command, target, metrics }));
            }
            _ if in_job => break,
            _ if looks_like_option(&argument) => return Err(UsageError::UnknownOption(lossy(&argument))),
            _ => return Err(UsageError::UnexpectedArgument(lossy(&argument))),
        }
    }
    match first {
        Some(first) if in_job => Err(UsageError::ArgumentInJob(lossy(&first))),
        None if in_job => Ok(Invocation::Job),
        _ => Err(UsageError::NothingToDo),
    }
}

/// What comes after `check`.
fn check(arguments: impl Iterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut format = Format::Text;
    for argument in arguments {
        match argument.to_str() {
            Some("--json") => format = Format::Json,
            Some("--help" | "-h") => return Ok(Invocation::Help(Topic::Check)),
            _ => return Err(UsageError::ArgumentOfCheck(lossy(&argument))),
        }
    }
    Ok(Invocation::Check(format))
}

/// What comes after `save-env`.
fn save_env(mut arguments: impl Iterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut save = Save { to: DEFAULT_FILE.into(), with: Vec::new(), without: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = |option, expected| {
            let value = arguments.next().filter(|value| !value.is_empty());
            value.ok_or(UsageError::NoValueOfSaveEnv(option, expected))
        };
        match argument.to_str() {
            Some("--to") => save.to = value("--to", "a file")?.into(),
            Some("--with") => save.with.push(value("--with", "the name of a variable")?),
            Some("--without") => save.without.push(value("--without", "the name of a variable")?),
            Some("--help" | "-h") => return Ok(Invocation::Help(Topic::SaveEnv)),
            _ => return Err(UsageError::ArgumentOfSaveEnv(lossy(&argument))),
        }
    }
    Ok(Invocation::SaveEnv(save))
}

/// What the environment says of metrics; nothing where it is empty.
fn metrics_of(environment: &Environment) -> Result<Option<SocketAddr>, UsageError> {
    let value = environment.get(env::METRICS).filter(|value| !value.is_empty());
    value.map(|value| metrics_address(env::METRICS, value)).transpose()
}

/// An address and a port; a name would have to be resolved first.
fn metrics_address(name: &'static str, value: &OsStr) -> Result<SocketAddr, UsageError> {
    let parsed = value.to_str().and_then(|value| value.parse().ok());
    parsed.ok_or_else(|| UsageError::BadMetrics { name, value: lossy(value) })
}

/// Which lifeline the environment asks for. A plain init has none: its standard input is its program's.
pub fn lifeline(invocation: &Invocation, environment: &Environment) -> Result<LifelineKind, UsageError> {
    if *invocation != Invocation::Job {
        return Ok(LifelineKind::None);
    }
    match environment.get(env::LIFELINE) {
        None => Ok(LifelineKind::None),
        Some(value) if value == "stdin" => Ok(LifelineKind::Stdin),
        Some(value) => Err(UsageError::BadLifeline(lossy(value))),
    }
}

fn looks_like_option(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"-")
}

fn lossy(argument: &OsStr) -> String {
    argument.to_string_lossy().into_owned()
}

/// `, did you mean ...` where an option is near enough.
fn near_text(unknown: &str) -> String {
    let nearest = OPTIONS
        .into_iter()
        .filter(|option| option.starts_with("--"))
        .map(|option| (distance(unknown, option), option))
        .min();
    match nearest {
        Some((distance, option)) if distance <= 3 => format!(", did you mean `{option}`?"),
        _ => String::new(),
    }
}

/// Number of single letters to insert, remove or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], spec: Option<&str>) -> Result<Invocation, String> {
        let environment = spec.map(|path| (env::JOB_SPEC, path)).into_iter().collect();
        parse(arguments.iter().map(OsString::from), &environment).map_err(|error| error.to_string())
    }

    fn plain(command: &[&str], target: Target) -> Invocation {
        let command = command.iter().map(OsString::from).collect();
        Invocation::Plain(PlainCommand { command, target, metrics: None })
    }

    #[test]
    fn everything_after_the_dashes_is_the_command() {
        assert_eq!(
            parsed(&["--", "sh", "-c", "--help"], None),
            Ok(plain(&["sh", "-c", "--help"], Target::Process))
        );
        assert_eq!(parsed(&["-g", "--", "--"], None), Ok(plain(&["--"], Target::Group)));
        // The command line is nearer than the environment.
        assert_eq!(parsed(&["--", "sh"], Some("spec")), Ok(plain(&["sh"], Target::Process)));
    }

    #[test]
    fn metrics_are_asked_for_by_an_option_or_the_environment() {
        let metrics = |arguments: &[&str], variable: Option<&str>| {
            let environment = variable.map(|value| (env::METRICS, value)).into_iter().collect();
            match parse(arguments.iter().map(OsString::from), &environment) {
                Ok(Invocation::Plain(command)) => Ok(command.metrics.map(|address| address.to_string())),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        let (first, second) = ("127.0.0.1:9100", "[::]:9200");
        assert_eq!(metrics(&["--", "sh"], None), Ok(None));
        assert_eq!(metrics(&["--", "sh"], Some("")), Ok(None));
        assert_eq!(metrics(&["--", "sh"], Some(second)), Ok(Some(second.into())));
        assert_eq!(metrics(&["--metrics", first, "--", "sh"], Some(second)), Ok(Some(first.into())));
        assert_eq!(metrics(&["-g", "--metrics=[::]:9200", "--", "sh"], None), Ok(Some(second.into())));
        assert_eq!(
            metrics(&["--metrics", "9100", "--", "sh"], None).unwrap_err(),
            "--metrics: expected ADDRESS:PORT, such as 127.0.0.1:9100, got `9100`"
        );
        assert!(
            metrics(&["--", "sh"], Some("host:1")).unwrap_err().starts_with("TRACTORUN_METRICS: expected")
        );
        assert!(
            metrics(&["--metrics", "--", "sh"], None).unwrap_err().starts_with("`--metrics` needs a value")
        );
    }

    #[test]
    fn a_check_can_be_asked_for_in_a_job_too() {
        for spec in [None, Some("spec.json")] {
            assert_eq!(parsed(&["check"], spec), Ok(Invocation::Check(Format::Text)));
            assert_eq!(parsed(&["check", "--json"], spec), Ok(Invocation::Check(Format::Json)));
        }
        assert_eq!(
            parsed(&["check", "--jsno"], None),
            Err("unexpected argument `--jsno` of `check`: expected `--json` or nothing".into())
        );
        assert_eq!(parsed(&["--", "check"], None), Ok(plain(&["check"], Target::Process)));
    }

    #[test]
    fn an_environment_is_saved_where_and_as_was_said() {
        let save = |to: &str, with: &[&str], without: &[&str]| {
            let names = |names: &[&str]| names.iter().map(OsString::from).collect();
            Ok(Invocation::SaveEnv(Save { to: to.into(), with: names(with), without: names(without) }))
        };
        assert_eq!(parsed(&["save-env"], None), save("/etc/tractorun/env", &[], &[]));
        let arguments =
            ["save-env", "--with", "A_KEY", "--to", "/x/env", "--without", "B", "--with", "C_KEY"];
        assert_eq!(parsed(&arguments, None), save("/x/env", &["A_KEY", "C_KEY"], &["B"]));
        assert_eq!(parsed(&["save-env", "--help"], None), Ok(Invocation::Help(Topic::SaveEnv)));
        assert_eq!(
            parsed(&["save-env", "/x"], None),
            Err("unexpected argument `/x` of `save-env`: expected `--to FILE`, `--with NAME`, `--without NAME` or \
                 nothing"
                .into())
        );
        assert_eq!(
            parsed(&["save-env", "--with"], None),
            Err("`--with` needs a value: expected the name of a variable".into())
        );
    }

    #[test]
    fn a_job_has_no_arguments() {
        assert_eq!(parsed(&[], Some("spec.json")), Ok(Invocation::Job));
        assert_eq!(parsed(&["--version"], Some("spec.json")), Ok(Invocation::Version));
        assert_eq!(
            parsed(&["sh"], Some("spec.json")),
            Err("in a job (`TRACTORUN_JOB_SPEC` is set) there are no arguments, found `sh`\n\
                 hint: the command is in the job spec"
                .into())
        );
        assert!(parsed(&["-g"], Some("spec.json")).is_err());
    }

    #[test]
    fn errors_name_what_is_wrong_and_what_to_do() {
        let error = |arguments: &[&str]| parsed(arguments, None).unwrap_err();
        assert_eq!(
            error(&["--vresion"]),
            "unknown option `--vresion`, did you mean `--version`?\nhint: tractorun-init --help"
        );
        assert_eq!(error(&["--frobnicate"]), "unknown option `--frobnicate`\nhint: tractorun-init --help");
        assert_eq!(
            error(&["python3", "x.py"]),
            "unexpected argument `python3`\nhint: the command comes after `--`: tractorun-init -- python3"
        );
        assert_eq!(error(&["--"]), "no command after `--`\nhint: tractorun-init -- COMMAND [ARGUMENT]...");
        let nothing = "nothing to do: no command, and `TRACTORUN_JOB_SPEC` is not set\n\
                       hint: tractorun-init -- COMMAND [ARGUMENT]...; see tractorun-init --help";
        assert_eq!(error(&[]), nothing);
        assert_eq!(error(&["-g"]), nothing);
    }

    #[test]
    fn only_jobs_have_lifelines_and_only_one_kind_exists() {
        let of = |invocation, value: Option<&str>| {
            let environment = value.map(|value| (env::LIFELINE, value)).into_iter().collect();
            lifeline(&invocation, &environment).map_err(|error| error.to_string())
        };
        assert_eq!(of(Invocation::Job, None), Ok(LifelineKind::None));
        assert_eq!(of(Invocation::Job, Some("stdin")), Ok(LifelineKind::Stdin));
        assert_eq!(of(plain(&["sh"], Target::Process), Some("stdin")), Ok(LifelineKind::None));
        let text = "environment variable `TRACTORUN_LIFELINE` is not understood, expected `stdin`: fd3";
        assert_eq!(of(Invocation::Job, Some("fd3")), Err(text.into()));
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("--help", "--help"), 0);
    }
}
