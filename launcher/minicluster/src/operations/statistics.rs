//! What jobs write to descriptor 5: numbers by name, as maps one after another.
//!
//! Each number is one sample of its name; names of maps in maps are joined by `/`. Samples are summed up for a
//! job, and jobs by their state.

use std::collections::BTreeMap;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::state::Job;
use super::view_operation::OPERATION_TYPE;
use crate::error::YtError;
use crate::formats::yson;
use crate::value::{self, YsonMap};

/// More than a thousand names with many samples each need.
const MOST_BYTES: usize = 16 << 20;

/// What a job has written so far.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: Vec<u8>,
    size: usize,
}

/// A job's numbers by name.
pub(super) type Statistics = BTreeMap<String, Summary>;

/// All samples of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) count: i64,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) sum: i64,
}

// === impl Written ===

impl Written {
    /// Takes more bytes; what is too much is counted and dropped.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let room = MOST_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.size += bytes.len();
    }

    /// Reads all of it.
    pub(super) fn read(&self, most_names: usize) -> Result<Statistics, YtError> {
        if self.size > MOST_BYTES {
            return Err(YtError::generic(format!(
                "Custom statistics have {} bytes, at most {MOST_BYTES} are read",
                self.size
            )));
        }
        let mut statistics = Statistics::new();
        for item in yson::parse_list_fragment(&self.bytes)? {
            let map = value::as_map(&item).ok_or_else(|| unexpected("", "a map", &item))?;
            add_map(&mut statistics, "", map)?;
            if statistics.len() > most_names {
                return Err(YtError::generic("Custom statistics count exceeded")
                    .with_attribute("limit", value::count(most_names)));
            }
        }
        Ok(statistics)
    }
}

fn add_map(statistics: &mut Statistics, prefix: &str, map: &YsonMap) -> Result<(), YtError> {
    for (name, number) in map {
        let name = String::from_utf8_lossy(name);
        if name.is_empty() {
            return Err(YtError::generic("Custom statistics cannot have an empty name"));
        }
        let path = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
        if let YsonNode::Map(inner) = &number.node {
            add_map(statistics, &path, inner)?;
        } else {
            let sample = value::as_i64(number).ok_or_else(|| unexpected(&path, "an integer", number))?;
            let one = Summary { count: 1, min: sample, max: sample, sum: sample };
            statistics.entry(path).and_modify(|known| known.merge(one)).or_insert(one);
        }
    }
    Ok(())
}

fn unexpected(path: &str, wanted: &str, got: &YsonValue) -> YtError {
    YtError::generic(format!(
        "Custom statistics /{path}: {wanted} is expected, got {}",
        value::type_name(got)
    ))
}

// === impl Summary ===

impl Summary {
    fn merge(&mut self, other: Summary) {
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    fn to_yson(self) -> YsonValue {
        let Summary { count, min, max, sum } = self;
        value::map(
            [("count", count), ("max", max), ("min", min), ("sum", sum)]
                .map(|(name, number)| (name, value::int64(number))),
        )
    }
}

/// The statistics of one job.
pub(super) fn of_job(job: &Job) -> Option<YsonValue> {
    if job.statistics.is_empty() {
        return None;
    }
    let custom = job.statistics.iter().map(|(name, summary)| (name, summary.to_yson()));
    Some(value::map([("custom", value::map(custom))]))
}

/// `job_statistics` and `job_statistics_v2`: the jobs that have ended, by name and state.
pub(super) fn of_jobs(jobs: &[Job]) -> (YsonValue, YsonValue) {
    let mut all = BTreeMap::<&str, BTreeMap<&str, Summary>>::new();
    for job in jobs.iter().filter(|job| job.state.is_final()) {
        for (name, summary) in &job.statistics {
            let states = all.entry(name).or_default();
            states.entry(job.state.name()).and_modify(|known| known.merge(*summary)).or_insert(*summary);
        }
    }
    if all.is_empty() {
        return (value::map(YsonMap::new()), value::map(YsonMap::new()));
    }
    let nested = all.iter().map(|(name, states)| {
        let states =
            states.iter().map(|(state, summary)| (state, value::map([(OPERATION_TYPE, summary.to_yson())])));
        (name, value::map([("$", value::map(states))]))
    });
    let tagged = all.iter().map(|(name, states)| {
        let states = states.iter().map(|(state, summary)| {
            let tags = [("job_state", *state), ("job_type", OPERATION_TYPE)];
            value::map([
                ("summary", summary.to_yson()),
                ("tags", value::map(tags.map(|(name, text)| (name, value::string(text))))),
            ])
        });
        (name, value::list(states))
    });
    (value::map([("custom", value::map(nested))]), value::map([("custom", value::map(tagged))]))
}
