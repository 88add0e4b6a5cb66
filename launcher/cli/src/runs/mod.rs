//! Commands on runs that have started: `tractorun status`, `attach`, `stop`, `list` and `targets`.
//!
//! All they know is what the cluster tells: Cypress below the run's directory, and the operation. A run is seldom
//! reachable from where a person sits, so nothing here connects to its nodes. Only `stop` changes anything.

use std::ffi::OsString;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tractorun_yt::{Client, ConfigError};

use crate::commands::submit::client_config;
use crate::commands::terminal::Terminal;
use crate::follow::{self, Followed};
use crate::logs::time::Micros;
use crate::patience::{Listener, telling};
use crate::report::{Colour, ExitStatus, Report};
use crate::settings::ProxyStderrMode;

use find::Run;
use options::{Format, Looks, Request};

pub use options::Name;

mod attach;
mod find;
mod list;
mod operation;
mod options;
mod status;
mod stop;
mod table;
mod targets;
mod watch;

/// Why a command cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The path leads nowhere.
    #[error(
        "no run at `{path}`: there is nothing\nhint: `tractorun list --all` shows runs and their directories"
    )]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// The path leads to something else.
    #[error(
        "no run at `{path}`: it has no `incarnations`\n\
         hint: `tractorun list --all` shows runs and their directories"
    )]
    NoIncarnations {
        /// The path.
        path: String,
    },
    /// A directory without a trace of a run.
    #[error(
        "no run at `{path}`: its `incarnations` are empty, and no operation that the cluster knows names it\n\
         hint: `tractorun list --all` shows runs and their directories"
    )]
    NothingBegun {
        /// The path.
        path: String,
    },
    /// The cluster does not know the operation.
    #[error(
        "`{proxy}` knows no operation `{id}`: it may be forgotten, or one of another cluster\n\
         hint: the run's directory tells as much, `tractorun status //path/of/the/run`"
    )]
    NoSuchOperation {
        /// Its id.
        id: String,
        /// The cluster.
        proxy: String,
    },
    /// Somebody else's operation.
    #[error("operation `{id}` is not a run of tractorun: it has no annotation `is_tractorun`")]
    NotARun {
        /// Its id.
        id: String,
    },
    /// The run's operation is gone.
    #[error(
        "the cluster knows nothing of operation `{id}`: it has forgotten it, or the run is one on somebody's machine"
    )]
    Forgotten {
        /// Its id.
        id: String,
    },
    /// Nobody knows yet.
    #[error(
        "the nodes of operation `{id}` have not met yet\nhint: `tractorun status {id}` shows how far it is"
    )]
    NotMet {
        /// Its id.
        id: String,
    },
    /// An older init.
    #[error(
        "operation `{id}` does not say where it serves metrics: its tractorun-init is of an older version"
    )]
    NoMetrics {
        /// Its id.
        id: String,
    },
    /// stdout takes nothing.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// The cluster said no.
    #[error(transparent)]
    Cluster(#[from] tractorun_yt::Error),
}

/// Carries out a command with the words behind its name.
pub fn run(
    name: Name,
    words: Vec<OsString>,
    report: Report,
    variable: &dyn Fn(&str) -> Option<String>,
) -> ExitStatus {
    let request = match options::parse(name, words) {
        Ok(Request::Help) => {
            let text = options::help(name, Colour::of(&io::stdout(), variable));
            return match print(&text) {
                Ok(()) => ExitStatus::Success,
                Err(_) => ExitStatus::Failure,
            };
        }
        Ok(request) => request,
        Err(problems) => {
            for problem in problems {
                report.error(&problem);
            }
            return ExitStatus::Usage;
        }
    };
    let terminal = Terminal::stderr(report);
    let result = act(&request, &terminal);
    terminal.clear();
    match result {
        Ok(status) => status,
        Err(error) => {
            report.failure(&error);
            if error.is::<ConfigError>() { ExitStatus::Usage } else { ExitStatus::Failure }
        }
    }
}

fn act(request: &Request, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let config = client_config()?;
    let client = Client::new(config.clone())?;
    let follow_client = Client::new(follow::config(config))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let listener = Listener::Terminal(terminal);
    let work = async {
        match request {
            // Answered before.
            Request::Help => Ok(ExitStatus::Success),
            Request::Status { run, looks: Looks::UntilOver, .. } => watch::run(&client, run).await,
            Request::Status { run, format, looks: Looks::One } => {
                let run = find::find(&client, run).await?;
                let status = status::Status::of(&client, run).await?;
                print(&match format {
                    Format::Text => status.to_text(now()),
                    Format::Json => pretty(&status.to_json(now())),
                })?;
                Ok(ExitStatus::Success)
            }
            Request::List { scope, user, format } => {
                list::run(&client, *scope, user.as_deref(), *format, terminal).await
            }
            Request::Targets { run } => {
                let run = find::find(&client, run).await?;
                print(&pretty(&targets::of(&run)?))?;
                Ok(ExitStatus::Success)
            }
            Request::Attach { run } => {
                let run = find::find(&client, run).await?;
                let followed = followed(&follow_client, &run, ProxyStderrMode::Primary, terminal)?;
                telling(&follow_client, listener, attach::run(followed)).await
            }
            Request::Stop { run, urgency } => {
                let run = find::find(&client, run).await?;
                // What it asks for is worth trying for long.
                let followed = followed(&client, &run, ProxyStderrMode::Disabled, terminal)?;
                stop::run(&followed, &run, *urgency).await
            }
        }
    };
    let status = runtime.block_on(telling(&client, listener, work));
    runtime.shutdown_background();
    status
}

/// The run as something to follow.
fn followed(
    client: &Client,
    run: &Run,
    proxy_stderr_mode: ProxyStderrMode,
    terminal: &Terminal,
) -> Result<Followed, RunError> {
    let Some(operation) = &run.operation else {
        return Err(RunError::Forgotten { id: run.operation_id.clone() });
    };
    Ok(Followed {
        client: client.clone(),
        operation_id: run.operation_id.clone(),
        yt_path: run.yt_path.clone().unwrap_or_default(),
        node_count: operation.mesh.map_or(1, |mesh| mesh.node_count),
        proxy_stderr_mode,
        terminal: terminal.clone(),
    })
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), RunError> {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Stdout(error)),
        _ => Ok(()),
    }
}

fn pretty(document: &serde_json::Value) -> String {
    format!("{document:#}\n")
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
    fn errors_say_what_was_looked_for() {
        let path = "//x".to_owned();
        assert_eq!(
            RunError::NoSuchPath { path: path.clone() }.to_string(),
            "no run at `//x`: there is nothing\nhint: `tractorun list --all` shows runs and their directories"
        );
        assert!(RunError::NothingBegun { path }.to_string().starts_with(
            "no run at `//x`: its `incarnations` are empty, and no operation that the cluster knows names it\n"
        ));
        assert_eq!(
            RunError::NotARun { id: "1-2-3-4".into() }.to_string(),
            "operation `1-2-3-4` is not a run of tractorun: it has no annotation `is_tractorun`"
        );
    }
}
