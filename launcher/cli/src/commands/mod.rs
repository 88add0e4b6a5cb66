//! What `tractorun` does once it knows what is wanted: show it, run it on the cluster, or run it here.
//!
//! One file per way: [`dry_run`], [`submit`] and [`crate::local`]. Each takes checked settings and returns an
//! [`ExitStatus`]; data goes to stdout, talk to stderr. Nothing here parses options.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::Value;
use tractorun_yt::ConfigError;

use crate::report::{ExitStatus, Report};
use crate::settings::{Invocation, Place, RunMode};

use terminal::Terminal;

pub mod archives;
pub mod binaries;
pub mod dry_run;
pub mod interrupt;
pub mod prepare;
pub mod submit;
pub mod terminal;

/// Carries out one invocation and says how the program ends.
///
/// An error's text is complete, with a hint where there is one, and for a person.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitStatus> {
    let settings = &invocation.settings;
    if settings.run_mode == RunMode::DryRun {
        return dry_run::run(invocation);
    }
    // One thread: the launcher waits for the network, and packing has threads of its own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let terminal = Terminal::stderr(Report::to_stderr(|name| std::env::var(name).ok()));
    let result = runtime.block_on(async {
        match settings.place {
            Place::Cluster => submit::run(invocation, &terminal).await,
            Place::Local => crate::local::run(invocation, &terminal).await,
        }
    });
    terminal.clear();
    // Packing that was interrupted ends by itself; nobody waits for it.
    runtime.shutdown_background();
    // No proxy, an unreadable token: the user's environment is as much a part of the usage as the options.
    match result {
        Err(error) if error.is::<ConfigError>() => {
            terminal.error(error);
            Ok(ExitStatus::Usage)
        }
        result => result,
    }
}

/// Prints a document on stdout.
fn print(document: &Value) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{document:#}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}
