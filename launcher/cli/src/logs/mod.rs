//! `tractorun logs <yt_path>`: what the workers of a run wrote, while it runs and after everything of it is gone.
//!
//! ```text
//! catalog: which incarnation, which tables ──▶ source: lines of one table ─┐
//!                                              source ...                  ├─▶ merge ─▶ view: collapse, render
//!                                              source ...                 ─┘
//! ```
//!
//! Tables are only read. Where there are none, [`kept`] shows what the cluster keeps of the jobs' stderr.
//! Positions are row numbers, so following loses and doubles nothing, whatever happens to connections.

use std::ffi::OsString;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tractorun_contract::ranks::Ranks;
use tractorun_yt::{Client, ConfigError};

use crate::commands::submit::client_config;
use crate::follow;
use crate::patience::{Listener, telling};
use crate::report::{Colour, ExitStatus, Report};

use catalog::Incarnation;
use options::{Options, Request, Task};
use time::Micros;
use view::View;

mod bounds;
mod catalog;
mod collapse;
mod kept;
mod merge;
mod numbers;
pub(crate) mod options;
mod render;
mod row;
mod show;
mod source;
mod spool;
pub(crate) mod time;
mod verify;
mod view;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The path leads nowhere.
    #[error(
        "there is nothing at `{path}`\nhint: the directory of a run is its `yt_path`, which the operation's title ends with"
    )]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// The path leads to something else.
    #[error("`{path}` is not the directory of a run: it has no `incarnations`")]
    NotARun {
        /// The path.
        path: String,
    },
    /// Nothing has begun.
    #[error("no run has begun in `{path}`\nhint: `--follow` waits until one does")]
    NoIncarnation {
        /// The path.
        path: String,
    },
    /// There are others.
    #[error("`{path}` has no incarnation {number}; it has {existing}")]
    NoSuchIncarnation {
        /// The path.
        path: String,
        /// Which was asked for.
        number: u32,
        /// Which there are.
        existing: String,
    },
    /// The selection leaves nothing of what there is.
    #[error(
        "incarnation {number} of `{path}` has none of what `--rank`, `--sidecar` and `--node` ask for; it has {existing}"
    )]
    NothingSelected {
        /// The path.
        path: String,
        /// The incarnation.
        number: u32,
        /// What there is.
        existing: String,
    },
    /// There is nothing to verify.
    #[error(
        "incarnation {number} of `{path}` has no log tables to verify\n\
         hint: `--operation-log-mode realtime_yt_table` makes them"
    )]
    NoTables {
        /// The path.
        path: String,
        /// The incarnation.
        number: u32,
    },
    /// Nobody reads what is written, which is no failure.
    #[error("stdout is closed")]
    Closed,
    /// stdout takes nothing.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// Something is wrong with a spool.
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    /// A spool was read and cannot be read again.
    #[error("cannot read the spool: {0}")]
    ReadSpool(io::Error),
    /// The cluster said no.
    #[error(transparent)]
    Cluster(#[from] tractorun_yt::Error),
}

// === impl LogsError ===

impl LogsError {
    fn from_stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Stdout(error) }
    }
}

/// Carries out `tractorun logs` with the words behind it.
pub fn run(words: Vec<OsString>, report: Report, variable: &dyn Fn(&str) -> Option<String>) -> ExitStatus {
    let options = match options::parse(words, now()) {
        Ok(Request::Logs(options)) => options,
        Ok(Request::Help) => {
            let text = options::help::text(Colour::of(&io::stdout(), variable));
            return match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitStatus::Failure,
                _ => ExitStatus::Success,
            };
        }
        Err(problems) => {
            for problem in problems {
                report.error(&problem);
            }
            return ExitStatus::Usage;
        }
    };
    match act(&options, report, variable) {
        Ok(status) => status,
        Err(error) if error.is::<ConfigError>() => {
            report.failure(&error);
            ExitStatus::Usage
        }
        Err(error) => match error.downcast_ref::<LogsError>() {
            Some(LogsError::Closed) => ExitStatus::Success,
            Some(error @ LogsError::NoSuchIncarnation { .. }) => {
                report.error(&format!("`--incarnation`: {error}"));
                ExitStatus::Failure
            }
            _ => {
                report.failure(&error);
                ExitStatus::Failure
            }
        },
    }
}

fn act(
    options: &Options,
    report: Report,
    variable: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<ExitStatus> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let status = runtime.block_on(async {
        let view = View::new(options, variable);
        if let Some(spool) = &options.spool {
            return spool::run(spool, options, report, view, || Ok(Client::new(client_config()?)?)).await;
        }
        let config = client_config()?;
        let client = Client::new(config.clone())?;
        let listener = Listener::Lines(report);
        let work = async {
            match options.task {
                Task::Show | Task::Ship => {
                    let following = Client::new(follow::config(config))?;
                    let clients = show::Clients { once: &client, following: &following };
                    let shown = show::run(clients, options, report, view);
                    Ok(telling(&following, listener, shown).await?)
                }
                Task::Verify => Ok(verify(&client, options).await?),
            }
        };
        telling(&client, listener, work).await
    });
    runtime.shutdown_background();
    status
}

/// Writes a line to stdout.
fn print(line: &str) -> Result<(), LogsError> {
    let mut stdout = io::stdout().lock();
    io::Write::write_all(
        &mut stdout,
        format!(
            "{line}
"
        )
        .as_bytes(),
    )
    .map_err(LogsError::from_stdout)
}

async fn verify(client: &Client, options: &Options) -> Result<ExitStatus, LogsError> {
    let incarnation = catalog::find(client, &options.yt_path, options.incarnation).await?;
    // Asked first: what comes between the two looks is not taken for lost.
    let end = if incarnation.is_over(client).await? { verify::End::Over } else { verify::End::GoesOn };
    let tables = catalog::look(client, &options.yt_path, incarnation.number).await?.tables;
    if tables.is_empty() {
        return Err(LogsError::NoTables { path: options.yt_path.clone(), number: incarnation.number });
    }
    check_selection(options, &incarnation, &tables)?;
    let summary = verify::run(client, &incarnation, &tables, options, end, print).await?;
    Ok(if summary.is_incomplete() { ExitStatus::Failure } else { ExitStatus::Success })
}

/// Refuses a selection that leaves nothing, and says what there is.
fn check_selection(
    options: &Options,
    incarnation: &Incarnation,
    tables: &[catalog::Table],
) -> Result<(), LogsError> {
    if tables.iter().any(|table| options.selection.contains(table)) {
        return Ok(());
    }
    let list = |what: &str, pick: fn(render::Process) -> Option<u32>| {
        let numbers = tables.iter().filter_map(|table| pick(table.process)).collect::<Ranks>();
        (!numbers.is_empty()).then(|| format!("{what} {numbers}"))
    };
    let workers = list("ranks", |process| match process {
        render::Process::Worker(rank) => Some(rank),
        _ => None,
    });
    let sidecars = list("sidecars", |process| match process {
        render::Process::Sidecar(number) => Some(number),
        _ => None,
    });
    let nodes: Ranks = tables.iter().filter_map(|table| Some(table.record.as_ref()?.node_rank)).collect();
    let nodes = (!nodes.is_empty()).then(|| format!("nodes {nodes}"));
    let existing: Vec<String> = [workers, sidecars, nodes].into_iter().flatten().collect();
    Err(LogsError::NothingSelected {
        path: options.yt_path.clone(),
        number: incarnation.number,
        existing: existing.join(", "),
    })
}

/// The time now, by this machine's clock.
fn now() -> Micros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since_1970.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_there_is() {
        let path = "//x".to_owned();
        let number = 7;
        assert_eq!(
            LogsError::NoSuchIncarnation { path: path.clone(), number, existing: "0-3,5".to_owned() }
                .to_string(),
            "`//x` has no incarnation 7; it has 0-3,5"
        );
        assert_eq!(
            LogsError::NotARun { path: path.clone() }.to_string(),
            "`//x` is not the directory of a run: it has no `incarnations`"
        );
        assert!(LogsError::NoSuchPath { path }.to_string().starts_with("there is nothing at `//x`\nhint: "));
    }
}
