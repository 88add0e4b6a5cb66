//! How an operation is shown: `get_operation`, `list_operations`, `list_operation_events`.

use std::collections::BTreeMap;

use ytsaurus_yson::YsonValue;

use super::clock::Moment;
use super::state::{Counters, Operation, Scheduling};
use super::statistics;
use super::view_job::tally;
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// The only type of operations here.
pub(super) const OPERATION_TYPE: &str = "vanilla";

const DEFAULT_LIMIT: i64 = 100;

/// Attributes that a list leaves out unless they are asked for by name, because they are large.
const NOT_LISTED: [&str; 8] =
    ["events", "full_spec", "progress", "provided_spec", "result", "spec", "task_names", "unrecognized_spec"];

/// `get_operation`: all attributes, or those asked for that exist.
pub(super) fn get(operation: &Operation, attributes: Option<&[String]>) -> YsonValue {
    let all = all(operation);
    match attributes {
        None => value::map(all),
        Some(names) => {
            value::map(all.into_iter().filter(|(name, _)| names.iter().any(|wanted| wanted == name)))
        }
    }
}

fn all(operation: &Operation) -> BTreeMap<&'static str, YsonValue> {
    let spec = &operation.spec;
    let provided = value::map(spec.provided.clone());
    let tasks = spec.tasks.iter().map(|task| value::string(&task.name));
    let mut all = BTreeMap::from([
        ("alerts", value::map(YsonMap::new())),
        ("authenticated_user", value::string(&operation.user)),
        ("brief_progress", brief_progress(operation)),
        ("brief_spec", brief_spec(operation)),
        ("events", events(operation)),
        ("full_spec", value::map(spec.full())),
        ("id", value::string(operation.id.to_string())),
        ("operation_type", value::string(OPERATION_TYPE)),
        ("progress", progress(operation)),
        ("provided_spec", provided.clone()),
        ("result", result(operation)),
        ("runtime_parameters", runtime_parameters(operation)),
        ("spec", provided),
        ("start_time", operation.started.to_yson()),
        ("state", value::string(operation.state.name())),
        ("suspended", value::boolean(operation.scheduling == Scheduling::Suspended)),
        ("task_names", value::list(tasks)),
        ("type", value::string(OPERATION_TYPE)),
        ("unrecognized_spec", value::map(spec.unrecognized.clone())),
        ("user_transaction_id", value::string(operation.transaction.unwrap_or_default().to_string())),
    ]);
    if let Some(finished) = operation.finished {
        all.insert("finish_time", finished.to_yson());
    }
    if let Some(alias) = &spec.alias {
        all.insert("alias", value::string(alias));
    }
    all
}

fn brief_spec(operation: &Operation) -> YsonValue {
    let spec = &operation.spec;
    let mut brief = BTreeMap::new();
    for (name, text) in [("title", &spec.title), ("alias", &spec.alias)] {
        brief.extend(text.as_ref().map(|text| (name, value::string(text))));
    }
    brief.extend(
        operation
            .runtime
            .trees
            .values()
            .next()
            .and_then(|tree| Some(("pool", tree.get(b"pool".as_slice())?.clone()))),
    );
    value::map(brief)
}

fn brief_progress(operation: &Operation) -> YsonValue {
    value::map([
        ("build_time", Moment::now().to_yson()),
        ("jobs", counters(operation.counters(None))),
        ("state", value::string(operation.state.name())),
    ])
}

fn progress(operation: &Operation) -> YsonValue {
    let tasks = operation.spec.tasks.iter().enumerate().map(|(number, task)| {
        value::map([
            ("task_name", value::string(&task.name)),
            ("job_type", value::string(OPERATION_TYPE)),
            ("job_counter", counters(operation.counters(Some(number)))),
        ])
    });
    let mut progress = BTreeMap::from([
        ("build_time", Moment::now().to_yson()),
        ("jobs", counters(operation.counters(None))),
        ("state", value::string(operation.state.name())),
        ("tasks", value::list(tasks)),
    ]);
    let (nested, tagged) = statistics::of_jobs(&operation.jobs);
    progress.extend([("job_statistics", nested), ("job_statistics_v2", tagged)]);
    if let Some(gang) = &operation.gang {
        progress.insert("incarnation", value::string(gang.incarnation.to_string()));
    }
    value::map(progress)
}

/// All keys that clients read; a missing one breaks the Python client's progress line.
fn counters(counters: Counters) -> YsonValue {
    let Counters { total, pending, running, completed, failed, aborted } = counters;
    value::map(
        [
            ("total", total),
            ("pending", pending),
            ("running", running),
            ("completed", completed),
            ("failed", failed),
            ("aborted", aborted),
            ("lost", 0),
            ("invalidated", 0),
            ("blocked", 0),
            ("suspended", 0),
        ]
        .map(|(name, number)| (name, value::count(number))),
    )
}

/// The error is there, with code 0, also when there is none.
fn result(operation: &Operation) -> YsonValue {
    let none = YtError::new(0, "");
    let error = if operation.state.is_ending() { operation.error.as_ref() } else { None };
    value::map([("error", error.unwrap_or(&none).to_yson())])
}

fn runtime_parameters(operation: &Operation) -> YsonValue {
    let runtime = &operation.runtime;
    let trees = runtime.trees.iter().map(|(name, options)| (name, value::map(options.clone())));
    let mut shown = BTreeMap::from([
        ("scheduling_options_per_pool_tree", value::map(trees)),
        ("annotations", value::map(runtime.annotations.clone())),
        ("acl", runtime.acl.clone().unwrap_or_else(|| value::list([]))),
    ]);
    shown.extend(runtime.options_per_job_shell.clone().map(|options| ("options_per_job_shell", options)));
    value::map(shown)
}

/// `list_operation_events`, and the attribute `events`.
pub(super) fn events(operation: &Operation) -> YsonValue {
    value::list(operation.events.iter().map(|(time, state)| {
        value::map([
            ("time", time.to_yson()),
            ("state", value::string(state.name())),
            ("attributes", value::map(YsonMap::new())),
        ])
    }))
}

/// Which way from the cursor a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Past,
    Future,
}

/// `list_operations`.
pub(super) fn list<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    parameters: &YsonMap,
) -> Result<YsonValue, YtError> {
    let moment = |name: &str| -> Result<Option<Moment>, YtError> {
        let Some(text) = value::optional_str(parameters, name)? else { return Ok(None) };
        let wrong = || YtError::generic(format!("Error reading parameter /{name}: {text:?} is not a time"));
        Moment::parse(text).map(Some).ok_or_else(wrong)
    };
    let (from, to, cursor) = (moment("from_time")?, moment("to_time")?, moment("cursor_time")?);
    let direction = match value::optional_str(parameters, "cursor_direction")? {
        None | Some("past") => Direction::Past,
        Some("future") => Direction::Future,
        Some(other) => {
            let text =
                format!("Error reading parameter /cursor_direction: expected past or future, got {other:?}");
            return Err(YtError::generic(text));
        }
    };
    let limit = value::optional_i64(parameters, "limit")?.unwrap_or(DEFAULT_LIMIT);
    let limit = usize::try_from(limit)
        .map_err(|_| YtError::generic(format!("Error reading parameter /limit: {limit} is negative")))?;
    let attributes = value::optional_strings(parameters, "attributes")?;
    let filters = Filters::read(parameters)?;

    let mut found: Vec<&Operation> = operations
        .filter(|operation| from.is_none_or(|from| operation.started >= from))
        .filter(|operation| to.is_none_or(|to| operation.started < to))
        .filter(|operation| filters.accept(operation))
        .collect();
    let counts = value::flag(parameters, "include_counters", true)?.then(|| counts(&found));
    found.retain(|operation| match (cursor, direction) {
        (None, _) => true,
        (Some(cursor), Direction::Past) => operation.started <= cursor,
        (Some(cursor), Direction::Future) => operation.started >= cursor,
    });
    found.sort_by_key(|operation| (operation.started, operation.id));
    if direction == Direction::Past {
        found.reverse();
    }
    let incomplete = found.len() > limit;
    let shown = found.into_iter().take(limit).map(|operation| {
        let mut all = all(operation);
        match &attributes {
            Some(names) => all.retain(|name, _| names.iter().any(|wanted| wanted == name)),
            None => all.retain(|name, _| !NOT_LISTED.contains(name)),
        }
        value::map(all)
    });
    let mut answer =
        BTreeMap::from([("operations", value::list(shown)), ("incomplete", value::boolean(incomplete))]);
    answer.extend(counts.into_iter().flatten());
    Ok(value::map(answer))
}

struct Filters<'a> {
    user: Option<&'a str>,
    state: Option<&'a str>,
    kind: Option<&'a str>,
    pool: Option<&'a str>,
    pool_tree: Option<&'a str>,
    text: Option<String>,
    with_failed_jobs: Option<bool>,
}

impl<'a> Filters<'a> {
    fn read(parameters: &'a YsonMap) -> Result<Self, YtError> {
        Ok(Filters {
            user: value::optional_str(parameters, "user")?,
            state: value::optional_str(parameters, "state")?,
            kind: value::optional_str(parameters, "type")?,
            pool: value::optional_str(parameters, "pool")?,
            pool_tree: value::optional_str(parameters, "pool_tree")?,
            text: value::optional_str(parameters, "filter")?.map(str::to_lowercase),
            with_failed_jobs: parameters.get(b"with_failed_jobs".as_slice()).and_then(value::as_bool),
        })
    }

    fn accept(&self, operation: &Operation) -> bool {
        let trees = &operation.runtime.trees;
        let has_failed = operation.counters(None).failed > 0;
        self.user.is_none_or(|user| user == operation.user)
            && self.state.is_none_or(|state| state == operation.state.name())
            && self.kind.is_none_or(|kind| kind == OPERATION_TYPE)
            && self.pool.is_none_or(|pool| pools(operation).any(|name| name == pool))
            && self.pool_tree.is_none_or(|tree| trees.contains_key(tree))
            && self.with_failed_jobs.is_none_or(|wanted| wanted == has_failed)
            && self.text.as_ref().is_none_or(|text| searchable(operation).contains(text.as_str()))
    }
}

fn pools(operation: &Operation) -> impl Iterator<Item = &str> {
    operation.runtime.trees.values().filter_map(|tree| tree.get(b"pool".as_slice())?.as_str())
}

/// What the text filter looks through, in lower case.
fn searchable(operation: &Operation) -> String {
    let mut text = format!("{} {} {OPERATION_TYPE} {}", operation.id, operation.user, operation.state.name());
    let spec = &operation.spec;
    for part in spec.title.iter().chain(&spec.alias).map(String::as_str).chain(pools(operation)) {
        text.push(' ');
        text.push_str(part);
    }
    text.to_lowercase()
}

fn counts(operations: &[&Operation]) -> Vec<(&'static str, YsonValue)> {
    let with_failed = operations.iter().filter(|operation| operation.counters(None).failed > 0).count();
    vec![
        ("pool_counts", tally(operations.iter().flat_map(|operation| pools(operation)))),
        (
            "pool_tree_counts",
            tally(operations.iter().flat_map(|operation| operation.runtime.trees.keys().map(String::as_str))),
        ),
        ("user_counts", tally(operations.iter().map(|operation| operation.user.as_str()))),
        ("state_counts", tally(operations.iter().map(|operation| operation.state.name()))),
        ("type_counts", tally(operations.iter().map(|_| OPERATION_TYPE))),
        ("failed_jobs_count", value::count(with_failed)),
    ]
}
