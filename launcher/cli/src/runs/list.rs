//! `tractorun list`: the runs among the cluster's vanilla operations.

use std::collections::BTreeMap;

use futures_util::{TryStreamExt, stream};
use serde_json::{Value, json};
use tractorun_yt::{Client, Error, OperationFilter};

use super::operation::{ATTRIBUTES, Operation, Origin, clock_of};
use super::options::{Format, Scope};
use super::{now, pretty, print, table};
use crate::commands::terminal::Terminal;
use crate::logs::time::{self, Micros};
use crate::report::ExitStatus;

/// Operations in one answer.
const PAGE: u32 = 100;

/// Pages that are looked through.
const MAX_PAGES: usize = 10;

/// States of operations that are not over.
const UNFINISHED: [&str; 13] = [
    "starting",
    "waiting_for_agent",
    "orphaned",
    "initializing",
    "preparing",
    "materializing",
    "reviving_initializing",
    "reviving",
    "pending",
    "running",
    "completing",
    "failing",
    "aborting",
];

/// Whether there may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    Whole,
    Cut,
}

/// Shows them.
pub(crate) async fn run(
    client: &Client,
    scope: Scope,
    user: Option<&str>,
    format: Format,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let states: Vec<Option<&str>> = match scope {
        Scope::All => vec![None],
        Scope::Unfinished => UNFINISHED.map(Some).into(),
    };
    let answers: Vec<_> = stream::iter(states.into_iter().map(Ok))
        .map_ok(|state| pages(client, state, user))
        .try_buffer_unordered(UNFINISHED.len())
        .try_collect()
        .await?;
    let is_cut = answers.iter().any(|(_, completeness)| *completeness == Completeness::Cut);
    let runs = newest_first(answers.into_iter().flat_map(|(operations, _)| operations));
    print(&match format {
        Format::Json => pretty(&json(&runs, now())),
        Format::Text => text(&runs, now()),
    })?;
    if runs.is_empty() && format == Format::Text {
        terminal.line(match scope {
            Scope::All => "no runs",
            Scope::Unfinished => "no runs that are not over; `--all` shows the others",
        });
    }
    if is_cut {
        terminal.warning(format_args!(
            "only the newest {} operations were looked through; `--user` narrows it",
            MAX_PAGES * PAGE as usize
        ));
    }
    Ok(ExitStatus::Success)
}

/// How far back the archive is asked: it needs a beginning, and a year is longer than clusters keep operations.
const ARCHIVED_DAYS: i64 = 365;

const DAY: Micros = 24 * 3600 * 1_000_000;

/// Operations in a state, or in any: then also those that only the cluster's archive knows, if it has one.
async fn pages(
    client: &Client,
    state: Option<&str>,
    user: Option<&str>,
) -> Result<(Vec<Operation>, Completeness), Error> {
    if state.is_none() {
        let now = now();
        // Clocks differ: what has just begun is none to leave out.
        let within = (time::format(now - ARCHIVED_DAYS * DAY), time::format(now + DAY));
        match pages_within(client, state, user, Some(within)).await {
            Err(Error::Yt(error)) if !error.is_transient() => {
                tracing::debug!("the cluster's archive does not answer: {error}");
            }
            answer => return answer,
        }
    }
    pages_within(client, state, user, None).await
}

/// Page by page from the newest on.
async fn pages_within(
    client: &Client,
    state: Option<&str>,
    user: Option<&str>,
    archived_within: Option<(String, String)>,
) -> Result<(Vec<Operation>, Completeness), Error> {
    let mut found = Vec::new();
    let mut not_after = None;
    for _ in 0..MAX_PAGES {
        let filter = OperationFilter {
            user: user.map(str::to_owned),
            state: state.map(str::to_owned),
            not_after,
            limit: Some(PAGE),
            archived_within: archived_within.clone(),
            ..OperationFilter::default()
        };
        let page = client.list_operations(&filter, &ATTRIBUTES).await?;
        let is_last = page.len() < PAGE as usize;
        let page: Vec<_> = page.iter().filter_map(Operation::read).collect();
        not_after = page.last().and_then(|last| last.started.clone());
        found.extend(page);
        if is_last || not_after.is_none() {
            return Ok((found, Completeness::Whole));
        }
    }
    Ok((found, Completeness::Cut))
}

/// Runs of tractorun, each once: pages overlap, and states change between two requests.
fn newest_first(operations: impl Iterator<Item = Operation>) -> Vec<Operation> {
    let ours = operations.filter(|operation| operation.origin == Origin::Tractorun);
    let by_id: BTreeMap<String, Operation> =
        ours.map(|operation| (operation.id.clone(), operation)).collect();
    let mut runs: Vec<_> = by_id.into_values().collect();
    runs.sort_by(|one, other| other.started.cmp(&one.started));
    runs
}

fn json(runs: &[Operation], now: Micros) -> Value {
    json!(runs.iter().map(|run| run.to_json(now)).collect::<Vec<_>>())
}

fn text(runs: &[Operation], now: Micros) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = runs.iter().map(|run| {
        let started =
            run.started.as_ref().map(|time| time.split('.').next().unwrap_or_default().replace('T', " "));
        [
            run.id.clone(),
            run.state.clone(),
            or_dash(run.mesh.map(|mesh| mesh.node_count.to_string())),
            or_dash(started),
            or_dash(run.elapsed_seconds(now).map(clock_of)),
            or_dash(run.user.clone()),
            or_dash(run.yt_path.clone()),
        ]
    });
    table::text(["OPERATION", "STATE", "NODES", "STARTED (UTC)", "TIME", "USER", "YT_PATH"], rows)
}

#[cfg(test)]
mod tests {
    use super::super::operation::tests::answer;
    use super::*;
    use crate::logs::time::parse_since;

    #[test]
    fn runs_are_a_table_and_each_is_listed_once() {
        let run = Operation::read(&answer("running")).unwrap();
        let other = Operation { id: "5-6-7-8".into(), origin: Origin::Other, ..run.clone() };
        let runs = newest_first([run.clone(), other, run].into_iter());
        let now = parse_since("2026-11-24T17:21:05Z", 0).unwrap();
        assert_eq!(
            text(&runs, now),
            "OPERATION  STATE    NODES  STARTED (UTC)        TIME  USER  YT_PATH\n\
             1-2-3-4    running  2      2026-11-24 17:20:00  1:05  me    //home/me/run\n"
        );
        assert_eq!(json(&runs, now)[0]["elapsed_seconds"], 65.0);
        assert_eq!(text(&[], now), "");
    }
}
