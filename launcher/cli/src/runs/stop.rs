//! `tractorun stop`: ends a run in order, or at once.
//!
//! An abort by the cluster is SIGKILL without a warning. So the leader is asked, by an attribute of the incarnation
//! that it looks at every ten seconds, and stops all nodes with their grace period. Before all nodes have met no worker
//! runs, and nobody looks: then an abort is in order.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use tractorun_contract::cypress::{self, incarnation as attribute};
use tractorun_contract::failure::FAILURE_ATTRIBUTE;
use tractorun_yt::value;
use tractorun_yt::{Error, codes};

use super::find::{self, Run};
use super::operation::Operation;
use super::options::Urgency;
use crate::commands::interrupt::Interrupts;
use crate::follow::{self, Followed, is_temporary};
use crate::report::ExitStatus;

/// Why the cluster aborts the operation, as it shows it.
const ABORT_REASON: &str = "stopped by `tractorun stop`";

/// Pause between two looks.
const POLLS: Duration = Duration::from_millis(250);

/// A leader that has not begun to stop after so long is told about.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Whether the leader has begun to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    /// The user was told that there is none.
    Missed,
    Given,
}

/// Ends it, and waits until it is over.
pub(crate) async fn run(followed: &Followed, run: &Run, urgency: Urgency) -> anyhow::Result<ExitStatus> {
    let Followed { operation_id: id, terminal, .. } = followed;
    if let Some(operation) = run.operation.as_ref().filter(|operation| operation.is_over()) {
        terminal.line(format_args!("operation {id} is over already: {}", operation.state));
        return Ok(ExitStatus::Success);
    }
    let mut interrupts = Interrupts::install().context("cannot catch signals")?;
    let work = async {
        let leader = match (urgency, &run.yt_path, &run.incarnation) {
            (Urgency::Orderly, Some(path), Some(incarnation)) if !incarnation.workers.is_empty() => {
                Some((path.as_str(), incarnation.number))
            }
            _ => None,
        };
        let Some((path, incarnation)) = leader else {
            let why = match urgency {
                Urgency::Now => "",
                Urgency::Orderly => ", whose nodes have not met yet",
            };
            terminal.line(format_args!("aborting operation {id}{why}"));
            follow::abort(followed, ABORT_REASON).await?;
            return find::ask(&followed.client, id).await;
        };
        let request = format!("{}/@{}", cypress::incarnation(path, incarnation), attribute::STOP_REQUESTED);
        followed.client.set(&request, &value::boolean(true)).await?;
        terminal.line(format_args!("asked the leader of operation {id} to stop the run"));
        wait(followed, path, incarnation).await
    };
    match interrupts.guard(work).await {
        Ok(ended) => {
            let ended = ended.with_context(|| format!("cannot stop operation {id}"))?;
            let state = ended.as_ref().map_or("forgotten", |operation| operation.state.as_str());
            terminal.clear();
            terminal.line(format_args!("operation {id} is over: {state}"));
            Ok(ExitStatus::Success)
        }
        Err(stop) => {
            terminal.clear();
            terminal.warning(format_args!("left operation {id} while it stops"));
            Ok(stop.status())
        }
    }
}

/// Waits until the operation is over. None if the cluster has forgotten it by then.
async fn wait(followed: &Followed, path: &str, incarnation: u32) -> Result<Option<Operation>, Error> {
    let Followed { client, operation_id: id, terminal, .. } = followed;
    let asked = Instant::now();
    let mut answer = Answer::Awaited;
    loop {
        match find::ask(client, id).await {
            Ok(Some(operation)) if !operation.is_over() => {
                terminal.status(&format!("operation {id}: {}", operation.state), "");
            }
            Err(error) if is_temporary(&error) => {}
            ended => return ended,
        }
        if answer != Answer::Given {
            let record = format!("{}/@{FAILURE_ATTRIBUTE}", cypress::incarnation(path, incarnation));
            match client.exists(&record).await {
                Ok(true) => {
                    answer = Answer::Given;
                    terminal.line("the run is stopping: its workers have SIGTERM and the grace period");
                }
                Err(error) if !is_temporary(&error) && !error.contains(codes::RESOLVE_ERROR) => {
                    return Err(error);
                }
                _ if answer == Answer::Awaited && asked.elapsed() > ANSWER_LIMIT => {
                    answer = Answer::Missed;
                    terminal.warning(format_args!(
                        "the run's leader has not heard it within {} s; an older tractorun-init never does",
                        ANSWER_LIMIT.as_secs()
                    ));
                    terminal.hint(format_args!("`tractorun stop --now {id}` aborts it"));
                }
                _ => {}
            }
        }
        sleep(POLLS).await;
    }
}
