//! Following an operation to its end: its state, its primary's stderr, and the verdict.
//!
//! [`until_over`] only watches and may be dropped at any moment; [`abort`] ends the operation and waits until
//! none of its jobs is left; [`verdict::report`] says how it ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, ClientConfig, Error, JobFilter, YsonValue, codes};

use crate::commands::terminal::{Terminal, clock};
use crate::settings::ProxyStderrMode;

use stderr::{JobStderrs, News, Pieces, Whose};

pub mod stderr;
pub mod telling;
pub mod verdict;

/// Pause between two looks at the operation while everything is still new.
const FIRST_POLLS: Duration = Duration::from_millis(250);

/// How long that lasts.
const FIRST_POLLS_LAST: Duration = Duration::from_mins(1);

/// Pause afterwards: a failure still ends the launcher within a second.
const LATER_POLLS: Duration = Duration::from_millis(500);

/// Pause between two looks at an operation that is being aborted.
const ABORT_POLLS: Duration = Duration::from_millis(100);

/// While following, one command is given up after this long; the next one follows anyway.
const RETRY_BUDGET: Duration = Duration::from_secs(5);

/// A connection that is dead after the network has changed is given up after this long for a new one.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);

/// How the client of somebody who follows is configured.
pub fn config(config: ClientConfig) -> ClientConfig {
    ClientConfig { retry_budget: RETRY_BUDGET, unacknowledged_timeout: UNACKNOWLEDGED_TIMEOUT, ..config }
}

/// The operation that is followed.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Client outside of any transaction, so that the operation can be asked for whatever became of ours.
    pub client: Client,
    /// Id of the operation.
    pub operation_id: String,
    /// Base directory of the run.
    pub yt_path: String,
    /// Jobs of the operation.
    pub node_count: u32,
    /// Whose stderr is shown.
    pub proxy_stderr_mode: ProxyStderrMode,
    /// Who is told.
    pub terminal: Terminal,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All jobs did what they should.
    Completed,
    /// A job failed, or the operation could not begin.
    Failed,
    /// Somebody ended it, or our transaction did.
    Aborted,
}

/// A look at the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    state: String,
    running: i64,
}

impl Look {
    fn read(operation: &YsonValue) -> Self {
        let state = operation.get("state").and_then(YsonValue::as_str).unwrap_or("unknown").to_owned();
        let jobs = operation.at(&["brief_progress", "jobs", "running"]);
        Self { state, running: jobs.and_then(count).unwrap_or(0) }
    }

    fn end(&self) -> Option<End> {
        match self.state.as_str() {
            "completed" => Some(End::Completed),
            "failed" => Some(End::Failed),
            "aborted" => Some(End::Aborted),
            _ => None,
        }
    }

    fn describe(&self, node_count: u32) -> String {
        let Self { state, running } = self;
        match state.as_str() {
            "running" => format!("{state}, {running} of {node_count} nodes"),
            _ => state.clone(),
        }
    }
}

/// Number of jobs: a plain number, or a map with a `total` on some servers.
fn count(value: &YsonValue) -> Option<i64> {
    value.as_int().or_else(|| value.get("total")?.as_int())
}

/// Watches the operation until it has ended. An error is one that the cluster will not take back.
pub async fn until_over(followed: &Followed) -> Result<End, Error> {
    let Followed { client, operation_id, terminal, .. } = followed;
    let started = Instant::now();
    let mut stderrs = Shown::new(followed);
    loop {
        match client.get_operation(operation_id, &["state", "brief_progress"]).await {
            Ok(operation) => {
                let look = Look::read(&operation);
                if let Some(end) = look.end() {
                    if let Some(shown) = &mut stderrs {
                        shown.finish().await;
                    }
                    terminal.clear();
                    return Ok(end);
                }
                let text = format!("operation {operation_id}: {}", look.describe(followed.node_count));
                terminal.status(&text, &format!(", {}", clock(started.elapsed())));
                if let Some(shown) = &mut stderrs {
                    shown.poll().await;
                }
            }
            // Whoever waits is told by [`crate::patience`].
            Err(error) if is_temporary(&error) => tracing::debug!("cannot ask for the operation: {error}"),
            Err(error) => return Err(error),
        }
        let young = started.elapsed() < FIRST_POLLS_LAST;
        sleep(if young { FIRST_POLLS } else { LATER_POLLS }).await;
    }
}

/// The jobs' stderr on the terminal.
struct Shown {
    stderrs: JobStderrs,
    mode: ProxyStderrMode,
    terminal: Terminal,
}

impl Shown {
    /// Nothing where the user does not want it.
    fn new(followed: &Followed) -> Option<Self> {
        let Followed { client, operation_id, node_count, proxy_stderr_mode: mode, terminal, .. } = followed;
        let (whose, pieces) = match mode {
            ProxyStderrMode::Disabled => return None,
            ProxyStderrMode::Primary if !terminal.wants_whole_lines() => (Whose::Primary, Pieces::AsTheyCome),
            ProxyStderrMode::Primary => (Whose::Primary, Pieces::WholeLines),
            ProxyStderrMode::All => (Whose::All, Pieces::WholeLines),
        };
        let stderrs = JobStderrs::new(client.clone(), operation_id.clone(), *node_count, whose, pieces);
        Some(Self { stderrs, mode: *mode, terminal: terminal.clone() })
    }

    /// Shows what is new. Trouble is left to the next time.
    async fn poll(&mut self) {
        let Self { stderrs, mode, terminal } = self;
        if let Err(error) = stderrs.poll(&mut |news| show(terminal, *mode, news)).await {
            tracing::debug!("cannot read the jobs' stderr: {error}");
        }
    }

    /// Shows the rest.
    async fn finish(&mut self) {
        let Self { stderrs, mode, terminal } = self;
        stderrs.finish(&mut |news| show(terminal, *mode, news)).await;
    }
}

fn show(terminal: &Terminal, mode: ProxyStderrMode, news: News) {
    match news {
        News::Note(text) => terminal.warning(text),
        News::Bytes { node, bytes } if mode == ProxyStderrMode::All => {
            let mut lines = Vec::with_capacity(bytes.len() + bytes.len() / 4);
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                lines.extend_from_slice(format!("[node {node}] ").as_bytes());
                lines.extend_from_slice(line);
            }
            terminal.write(&lines);
        }
        News::Bytes { bytes, .. } => terminal.write(&bytes),
    }
}

/// Aborts the operation and waits until it and its jobs are gone.
pub async fn abort(followed: &Followed, reason: &str) -> Result<(), Error> {
    let Followed { client, operation_id, .. } = followed;
    client.abort_operation(operation_id, Some(reason)).await?;
    loop {
        match client.get_operation(operation_id, &["state"]).await {
            Ok(operation) if Look::read(&operation).end().is_some() => break,
            Ok(_) => {}
            // The cluster has forgotten it: nothing is over more thoroughly.
            Err(error) if is_unknown(&error) => return Ok(()),
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        sleep(ABORT_POLLS).await;
    }
    loop {
        let filter = JobFilter { state: Some("running".to_owned()), ..JobFilter::default() };
        match client.list_jobs(operation_id, filter).await {
            Ok(jobs) if !jobs.is_empty() => {}
            Err(error) if is_temporary(&error) => {}
            // An operation that has ended may be asked for its jobs only for a while: then none is left.
            Ok(_) | Err(_) => return Ok(()),
        }
        sleep(ABORT_POLLS).await;
    }
}

/// Whether the same question may be answered later.
pub(crate) fn is_temporary(error: &Error) -> bool {
    const TEMPORARY: [i32; 7] = [
        codes::TIMEOUT,
        codes::TRANSPORT_ERROR,
        codes::UNAVAILABLE,
        codes::REQUEST_QUEUE_FULL,
        codes::USER_QUEUE_FULL,
        codes::MASTER_DISCONNECTED,
        codes::PROXY_BANNED,
    ];
    match error {
        Error::Yt(error) => TEMPORARY.iter().any(|code| error.contains(*code)),
        Error::Transport { .. } | Error::Protocol { .. } => true,
        Error::Credentials { .. }
        | Error::LockTimedOut { .. }
        | Error::LocalFile { .. }
        | Error::BadInput { .. } => false,
    }
}

pub(crate) fn is_unknown(error: &Error) -> bool {
    error.contains(codes::NO_SUCH_OPERATION) || error.contains(codes::NO_SUCH_OPERATION_SCHEDULER)
}

#[cfg(test)]
mod tests {
    use tractorun_yt::value;

    use super::*;

    fn look(state: &str, running: YsonValue) -> Look {
        let jobs = value::map([("running", running)]);
        Look::read(&value::map([
            ("state", value::string(state)),
            ("brief_progress", value::map([("jobs", jobs)])),
        ]))
    }

    #[test]
    fn looks_are_described_in_words() {
        assert_eq!(look("running", value::int(1)).describe(2), "running, 1 of 2 nodes");
        assert_eq!(look("pending", value::int(0)).describe(2), "pending");
        let nested = value::map([("total", value::int(2))]);
        assert_eq!(look("running", nested).describe(2), "running, 2 of 2 nodes");
    }

    #[test]
    fn only_final_states_end_it() {
        for (state, end) in
            [("completed", End::Completed), ("failed", End::Failed), ("aborted", End::Aborted)]
        {
            assert_eq!(look(state, value::int(0)).end(), Some(end));
        }
        for state in ["running", "completing", "failing", "aborting", "pending", "unknown"] {
            assert_eq!(look(state, value::int(0)).end(), None, "{state}");
        }
    }
}
