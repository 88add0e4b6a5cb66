//! `patch_operation_spec`: what of a spec may change while its operation runs.
//!
//! The number of failed jobs that an operation may have, which is what a cluster's own tests change. All else is
//! refused by name.

use ytsaurus_yson::YsonValue;

use super::state::{End, JobState, Operation};
use super::{errors, spec};
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// A checked change of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpecPatch {
    max_failed_job_count: Option<u64>,
}

impl SpecPatch {
    /// Reads `patches=[{path=...;value=...}; ...]`; of two for the same path the later one holds.
    pub(super) fn read(parameters: &YsonMap) -> Result<SpecPatch, YtError> {
        let patches = value::as_list(value::required(parameters, "patches")?)
            .ok_or_else(|| YtError::generic("\"patches\" must be a list of maps with `path` and `value`"))?;
        let mut read = SpecPatch { max_failed_job_count: None };
        for patch in patches {
            let path = value::get(patch, "path").and_then(YsonValue::as_str);
            let (Some(path), Some(new)) = (path, value::get(patch, "value")) else {
                return Err(YtError::generic("Each of \"patches\" must be a map with `path` and `value`"));
            };
            match path {
                "/max_failed_job_count" => read.max_failed_job_count = Some(spec::max_failed_job_count(new)?),
                other => {
                    return Err(YtError::generic(format!(
                        "Cannot patch {other:?} of an operation spec: this server can change /max_failed_job_count only"
                    )));
                }
            }
        }
        Ok(read)
    }
}

impl Operation {
    /// Applies a patch. An operation that has more failed jobs by now than it may have fails.
    pub(super) fn patch(&mut self, patch: &SpecPatch) {
        let Some(limit) = patch.max_failed_job_count else { return };
        self.max_failed_job_count = limit;
        if self.counters(None).failed as u64 >= limit {
            let failed = self.jobs.iter().rev().find(|job| job.state == JobState::Failed);
            if let Some((id, error)) = failed.and_then(|job| Some((job.id, job.error.clone()?))) {
                self.end(End::Failed, Some(errors::max_failed_jobs(limit, id, error)));
            }
        }
    }
}
