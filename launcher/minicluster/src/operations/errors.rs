//! The error trees of operations and jobs, with YT's codes and texts.

use std::time::Duration;

use super::memory::MemoryUsage;
use super::state::{AbortReason, InterruptionReason};
use crate::error::YtError;
use crate::guid::Guid;
use crate::value;

const NO_SUCH_OPERATION: i32 = 200;
const INVALID_OPERATION_STATE: i32 = 201;
const NO_SUCH_JOB: i32 = 203;
const OPERATION_FAILED_ON_JOB_RESTART: i32 = 210;
const MAX_FAILED_JOBS_LIMIT_EXCEEDED: i32 = 215;
const OPERATION_FAILED_TO_PREPARE: i32 = 216;
const DOCKER_IMAGE_PULLING_FAILED: i32 = 1132;
const INVALID_IMAGE: i32 = 1133;
const MEMORY_LIMIT_EXCEEDED: i32 = 1200;
const JOB_TIME_LIMIT_EXCEEDED: i32 = 1202;
const JOB_NOT_PREPARED: i32 = 1204;
const USER_JOB_FAILED: i32 = 1205;
const ARCHIVE_NO_SUCH_OPERATION: i32 = 1915;
const ARCHIVE_NO_SUCH_JOB: i32 = 1916;
const INTERRUPTION_TIMEOUT: i32 = 1210;
const NON_ZERO_EXIT_CODE: i32 = 10_000;
const TERMINATED_BY_SIGNAL: i32 = 10_001;

/// For commands that change a running operation.
pub(super) fn no_such_running_operation(name: &str) -> YtError {
    YtError::new(NO_SUCH_OPERATION, format!("No such operation {name}"))
}

/// For commands that look at an operation.
pub(super) fn no_such_operation(name: &str) -> YtError {
    YtError::new(ARCHIVE_NO_SUCH_OPERATION, format!("No such operation {name}"))
}

pub(super) fn no_such_running_job(id: &str) -> YtError {
    YtError::new(NO_SUCH_JOB, format!("No such job {id}"))
}

pub(super) fn no_such_job(id: &str, operation: Guid) -> YtError {
    YtError::new(ARCHIVE_NO_SUCH_JOB, format!("No such job {id} in operation {operation}"))
}

pub(super) fn no_stderr(id: Guid) -> YtError {
    YtError::new(
        NO_SUCH_JOB,
        format!("Job stderr is not found: job {id} is beyond max_stderr_count of its operation"),
    )
}

/// For an operation that an earlier server has started and did not end.
pub(super) fn lost_with_server() -> YtError {
    YtError::generic("Operation was aborted because the server was restarted: its jobs ended with the server")
}

pub(super) fn invalid_state(state: &str) -> YtError {
    YtError::new(INVALID_OPERATION_STATE, format!("Operation is in {state:?} state"))
}

pub(super) fn exit_code(code: u8) -> YtError {
    let cause = YtError::new(NON_ZERO_EXIT_CODE, format!("Process exited with code {code}"))
        .with_attribute("exit_code", value::int64(i64::from(code)));
    user_job_failed(cause)
}

pub(super) fn signal(number: i32) -> YtError {
    let cause = YtError::new(TERMINATED_BY_SIGNAL, format!("Process terminated by signal {number}"))
        .with_attribute("signal", value::int64(i64::from(number)));
    user_job_failed(cause)
}

/// The job's own fault.
pub(super) fn user_job_failed(cause: YtError) -> YtError {
    YtError::new(USER_JOB_FAILED, "User job failed").with_inner(cause)
}

pub(super) fn job_time_limit_exceeded(limit: Duration) -> YtError {
    YtError::new(JOB_TIME_LIMIT_EXCEEDED, "Job time limit exceeded")
        .with_attribute("limit", milliseconds(limit))
}

pub(super) fn memory_limit_exceeded(usage: MemoryUsage, limit: u64) -> YtError {
    let bytes = |bytes: u64| value::int64(i64::try_from(bytes).unwrap_or(i64::MAX));
    YtError::new(MEMORY_LIMIT_EXCEEDED, "Memory limit exceeded")
        .with_attribute("usage", bytes(usage.total()))
        .with_attribute("limit", bytes(limit))
        .with_attribute("tmpfs_usage", bytes(usage.tmpfs))
}

/// The same for a task that has asked for no limit: the cause says where it comes from.
pub(super) fn default_memory_limit_exceeded(usage: MemoryUsage, limit: u64) -> YtError {
    memory_limit_exceeded(usage, limit).with_inner(YtError::generic(format!(
        "The task's spec has no memory_limit, so the cluster's default of {} MiB holds",
        limit >> 20
    )))
}

pub(super) fn not_prepared(cause: YtError) -> YtError {
    YtError::new(JOB_NOT_PREPARED, "Job was not prepared").with_inner(cause)
}

pub(super) fn max_failed_jobs(limit: u64, job: Guid, cause: YtError) -> YtError {
    YtError::new(MAX_FAILED_JOBS_LIMIT_EXCEEDED, "Failed jobs limit exceeded")
        .with_attribute("max_failed_job_count", value::int64(i64::try_from(limit).unwrap_or(i64::MAX)))
        .with_attribute("job_id", value::string(job.to_string()))
        .with_inner(cause)
}

/// `what` is `failed` or `aborted`.
pub(super) fn failed_on_job_restart(what: &str, job: Guid, cause: YtError) -> YtError {
    let text = format!("Job {what}; failing operation since \"fail_on_job_restart\" spec option is set");
    YtError::new(OPERATION_FAILED_ON_JOB_RESTART, text)
        .with_attribute("job_id", value::string(job.to_string()))
        .with_attribute("reason", value::string(what))
        .with_inner(cause)
}

pub(super) fn failed_to_prepare(cause: YtError) -> YtError {
    YtError::new(OPERATION_FAILED_TO_PREPARE, "Operation has failed to prepare").with_inner(cause)
}

/// The image is not to be had.
pub(super) fn no_image(image: &str, reason: &str) -> YtError {
    YtError::new(DOCKER_IMAGE_PULLING_FAILED, format!("Failed to pull Docker image {image:?}: {reason}"))
}

/// Jobs cannot run in the image.
pub(super) fn bad_image(image: &str, reason: &str) -> YtError {
    YtError::new(INVALID_IMAGE, format!("Cannot run /bin/bash in Docker image {image:?}: {reason}"))
}

pub(super) fn aborted_by_user(message: Option<&str>) -> YtError {
    let error = YtError::generic("Operation aborted by user request");
    match message {
        Some(message) => error.with_inner(YtError::generic(message)),
        None => error,
    }
}

pub(super) fn aborted_with_transaction(transaction: Guid) -> YtError {
    YtError::generic(format!("Operation transaction {transaction} has expired or was aborted"))
        .with_attribute("transaction_id", value::string(transaction.to_string()))
}

pub(super) fn aborted_with_server() -> YtError {
    YtError::generic("Operation aborted: the server is shutting down")
}

pub(super) fn time_limit_exceeded(limit: Duration) -> YtError {
    YtError::generic("Operation is running for too long, aborted")
        .with_attribute("time_limit", milliseconds(limit))
}

/// Why an aborted job ended.
pub(super) fn job_aborted(reason: AbortReason, interruption: Option<InterruptionReason>) -> YtError {
    let with_reason = |error: YtError, reason: AbortReason| {
        error.with_attribute("abort_reason", value::string(reason.name()))
    };
    match interruption {
        Some(interruption) if reason == interruption.abort_reason() => {
            let late = YtError::new(INTERRUPTION_TIMEOUT, "Interruption is timed out")
                .with_attribute("interruption_reason", value::string(interruption.name()));
            let late = with_reason(late, AbortReason::InterruptionTimeout);
            match interruption {
                InterruptionReason::Preemption => {
                    with_reason(YtError::generic("Job preempted").with_inner(late), reason)
                }
                InterruptionReason::UserRequest => late,
            }
        }
        _ => with_reason(YtError::generic("Job aborted"), reason),
    }
}

/// For a job that cannot be abandoned.
pub(super) fn not_running(job: Guid, state: &str) -> YtError {
    YtError::generic(format!("Cannot abandon job {job} since it is not running: it is {state}"))
}

/// For a job that has no signal to be interrupted with.
pub(super) fn not_interruptible(job: Guid) -> YtError {
    YtError::generic(format!(
        "Cannot interrupt job {job} of type \"vanilla\" because it does not support interruption or \
         \"interruption_signal\" is not set"
    ))
}

fn milliseconds(limit: Duration) -> ytsaurus_yson::YsonValue {
    value::int64(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX))
}
