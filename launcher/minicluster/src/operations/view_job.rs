//! How a job is shown: `list_jobs`, `get_job`.

use std::collections::BTreeMap;

use ytsaurus_yson::YsonValue;

use super::clock::Moment;
use super::environment::POOL_TREE;
use super::state::{Job, JobState, Operation, StderrKept};
use super::statistics;
use super::view_operation::OPERATION_TYPE;
use crate::error::YtError;
use crate::value::{self, YsonMap};

const DEFAULT_LIMIT: i64 = 1000;

/// `get_job`: all attributes, or those asked for that exist.
pub(super) fn get(
    operation: &Operation,
    job: &Job,
    node_address: &str,
    attributes: Option<&[String]>,
) -> YsonValue {
    let mut all = all(operation, job, node_address);
    all.insert("job_id", value::string(job.id.to_string()));
    if let Some(names) = attributes {
        all.retain(|name, _| names.iter().any(|wanted| wanted == name));
    }
    value::map(all)
}

fn all(operation: &Operation, job: &Job, node_address: &str) -> BTreeMap<&'static str, YsonValue> {
    let state = value::string(job.state.name());
    let mut all = BTreeMap::from([
        ("id", value::string(job.id.to_string())),
        ("operation_id", value::string(operation.id.to_string())),
        ("type", value::string(OPERATION_TYPE)),
        ("task_name", value::string(&operation.spec.tasks[job.task].name)),
        ("job_cookie", value::int64(i64::from(job.cookie))),
        ("state", state.clone()),
        ("controller_state", state),
        ("address", value::string(node_address)),
        ("addresses", value::map([("default", value::string(node_address))])),
        ("start_time", job.started.to_yson()),
        ("progress", value::double(if job.state == JobState::Completed { 1.0 } else { 0.0 })),
        ("pool_tree", value::string(POOL_TREE)),
        ("has_spec", value::boolean(false)),
        ("is_stale", value::boolean(false)),
    ]);
    if let Some(finished) = job.finished {
        all.insert("finish_time", finished.to_yson());
    }
    let stderr_size = stderr_size(job);
    if stderr_size > 0 {
        all.insert("stderr_size", value::count(stderr_size));
    }
    if let Some(error) = &job.error {
        all.insert("error", error.to_yson());
    }
    if let Some(reason) = job.abort_reason {
        all.insert("abort_reason", value::string(reason.name()));
    }
    all.extend(statistics::of_job(job).map(|statistics| ("statistics", statistics)));
    if let Some(reason) = job.interruption {
        all.insert("interruption_info", value::map([("interruption_reason", value::string(reason.name()))]));
    }
    if let Some(incarnation) = job.incarnation {
        all.insert("operation_incarnation", value::string(incarnation.to_string()));
    }
    if let Some(rank) = job.rank {
        all.insert("gang_rank", value::int64(i64::from(rank)));
    }
    if let Some(place) = &job.place {
        let ports = place.ports.iter().map(|port| value::int64(i64::from(*port)));
        all.insert(
            "exec_attributes",
            value::map([
                ("slot_index", value::count(place.slot_index)),
                ("sandbox_path", value::string(place.sandbox.to_string_lossy().as_bytes())),
                ("ports", value::list(ports)),
            ]),
        );
    }
    all
}

/// Zero if it cannot be read any more.
fn stderr_size(job: &Job) -> usize {
    if job.stderr_kept == StderrKept::Yes { job.stderr.length() } else { 0 }
}

/// `list_jobs`.
pub(super) fn list(
    operation: &Operation,
    node_address: &str,
    parameters: &YsonMap,
) -> Result<YsonValue, YtError> {
    let number = |name: &str, default: i64| -> Result<usize, YtError> {
        let number = value::optional_i64(parameters, name)?.unwrap_or(default);
        usize::try_from(number)
            .map_err(|_| YtError::generic(format!("Error reading parameter /{name}: {number} is negative")))
    };
    let (limit, offset) = (number("limit", DEFAULT_LIMIT)?, number("offset", 0)?);
    let attributes = value::optional_strings(parameters, "attributes")?;
    let filters = Filters::read(parameters)?;
    let mut found: Vec<&Job> =
        operation.jobs.iter().filter(|job| filters.accept(operation, job, node_address)).collect();
    let counts = [
        ("state_counts", tally(found.iter().map(|job| job.state.name()))),
        ("type_counts", tally(found.iter().map(|_| OPERATION_TYPE))),
    ];
    sort(&mut found, parameters)?;
    let shown = found.into_iter().skip(offset).take(limit).map(|job| {
        let mut all = all(operation, job, node_address);
        if let Some(names) = &attributes {
            all.retain(|name, _| names.iter().any(|wanted| wanted == name));
        }
        value::map(all)
    });
    let total = value::count(operation.jobs.len());
    let mut answer = BTreeMap::from([
        ("jobs", value::list(shown)),
        ("errors", value::list([])),
        // There is one source of jobs here, which answers for the agent; the others were not asked.
        ("cypress_job_count", value::entity()),
        ("scheduler_job_count", total.clone()),
        ("controller_agent_job_count", total),
        ("archive_job_count", value::entity()),
    ]);
    answer.extend(counts);
    Ok(value::map(answer))
}

/// How often each name occurs.
pub(super) fn tally<'a>(names: impl Iterator<Item = &'a str>) -> YsonValue {
    let mut counts = BTreeMap::<&str, usize>::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    value::map(counts.into_iter().map(|(name, number)| (name, value::count(number))))
}

struct Filters<'a> {
    state: Option<&'a str>,
    kind: Option<&'a str>,
    address: Option<&'a str>,
    task_name: Option<&'a str>,
    incarnation: Option<&'a str>,
    with_stderr: Option<bool>,
    with_interruption_info: bool,
    /// Things that no job here ever has; asking for jobs with one of them gives none.
    with_what_is_not_here: bool,
}

impl<'a> Filters<'a> {
    fn read(parameters: &'a YsonMap) -> Result<Self, YtError> {
        let either = |new: &str, old: &str| -> Result<Option<&'a str>, YtError> {
            Ok(value::optional_str(parameters, new)?.or(value::optional_str(parameters, old)?))
        };
        let mut with_what_is_not_here = false;
        for name in ["with_spec", "with_fail_context", "with_competitors", "with_monitoring_descriptor"] {
            with_what_is_not_here |= value::flag(parameters, name, false)?;
        }
        Ok(Filters {
            state: either("job_state", "state")?,
            kind: either("job_type", "type")?,
            address: value::optional_str(parameters, "address")?,
            task_name: value::optional_str(parameters, "task_name")?,
            incarnation: value::optional_str(parameters, "operation_incarnation")?,
            with_interruption_info: value::flag(parameters, "with_interruption_info", false)?,
            with_stderr: parameters.get(b"with_stderr".as_slice()).and_then(value::as_bool),
            with_what_is_not_here,
        })
    }

    fn accept(&self, operation: &Operation, job: &Job, node_address: &str) -> bool {
        !self.with_what_is_not_here
            && self.state.is_none_or(|state| state == job.state.name())
            && self.kind.is_none_or(|kind| kind == OPERATION_TYPE)
            && self.address.is_none_or(|prefix| node_address.starts_with(prefix))
            && self.task_name.is_none_or(|task| task == operation.spec.tasks[job.task].name)
            && self.incarnation.is_none_or(|wanted| {
                job.incarnation.is_some_and(|incarnation| incarnation.to_string() == wanted)
            })
            && (!self.with_interruption_info || job.interruption.is_some())
            && self.with_stderr.is_none_or(|wanted| wanted == (stderr_size(job) > 0))
    }
}

fn sort(jobs: &mut [&Job], parameters: &YsonMap) -> Result<(), YtError> {
    let duration = |job: &Job| job.finished.unwrap_or_else(Moment::now).since(job.started);
    match value::optional_str(parameters, "sort_field")?.unwrap_or("none") {
        // Of one type, on one node: the order they have is as good as any.
        "none" | "type" | "address" => {}
        "state" => jobs.sort_by_key(|job| job.state.name()),
        "start_time" => jobs.sort_by_key(|job| job.started),
        "finish_time" => jobs.sort_by_key(|job| job.finished),
        "duration" => jobs.sort_by_key(|job| duration(job)),
        "progress" => jobs.sort_by_key(|job| job.state == JobState::Completed),
        "id" => jobs.sort_by_key(|job| job.id.to_string()),
        other => {
            return Err(YtError::generic(format!(
                "Error reading parameter /sort_field: unknown field {other:?}: address, duration, finish_time, id, \
                 none, progress, start_time, state and type are known"
            )));
        }
    }
    match value::optional_str(parameters, "sort_order")?.unwrap_or("ascending") {
        "ascending" => Ok(()),
        "descending" => {
            jobs.reverse();
            Ok(())
        }
        other => Err(YtError::generic(format!(
            "Error reading parameter /sort_order: expected ascending or descending, got {other:?}"
        ))),
    }
}
