//! How an operation ended, in words and as an exit code.
//!
//! What init recorded in `incarnations/<n>/@failure` comes first: it knows the worker. Without a record (the
//! job never met, or is none of ours) the operation's own error tells what it can.

use tractorun_contract::cypress;
use tractorun_contract::exit::InitExit;
use tractorun_contract::failure::{Cause, FAILURE_ATTRIBUTE, Failure};
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{BatchRequest, Client, Error, JobFilter, StderrRange, YsonValue, YtError, codes};

use crate::report::ExitStatus;
use crate::settings::{Place, ProxyStderrMode};

use super::telling::{MemoryKill, TAIL_LINES, Telling};
use super::{End, Followed};

/// Incarnations that are looked through for ours, newest first: another run may have begun meanwhile.
const RECENT_INCARNATIONS: u32 = 3;

/// Enough for the last lines of a job's stderr.
const TAIL_BYTES: u64 = 1 << 20;

/// What init left of a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The failure.
    pub failure: Failure,
    /// The attribute that it is in.
    pub path: String,
}

/// The record of that operation's failure, if init left one.
pub async fn read_failure(
    client: &Client,
    yt_path: &str,
    operation_id: &str,
) -> Result<Option<Record>, Error> {
    let newest = client.get(&format!("{yt_path}/@{}", cypress::INCARNATION_ID)).await?;
    let Some(newest) = newest.as_uint().and_then(|newest| u32::try_from(newest).ok()) else {
        return Ok(None);
    };
    let oldest = (newest + 1).saturating_sub(RECENT_INCARNATIONS);
    let incarnations: Vec<u32> = (oldest..=newest).rev().collect();
    let attribute = |id: u32, name: &str| format!("{}/@{name}", cypress::incarnation(yt_path, id));
    let requests = incarnations.iter().flat_map(|id| {
        [cypress::incarnation::OPERATION_ID, FAILURE_ATTRIBUTE]
            .map(|name| BatchRequest::new("get").parameter("path", value::string(attribute(*id, name))))
    });
    let answers = client.execute_batch(requests.collect()).await?;
    let ours = incarnations.iter().zip(answers.chunks_exact(2)).find_map(|(id, pair)| match pair {
        [Ok(operation), failure] if operation.as_str() == Some(operation_id) => Some((*id, failure)),
        _ => None,
    });
    match ours {
        Some((id, Ok(failure))) => match value::to_deserialize(failure) {
            Ok(failure) => Ok(Some(Record { failure, path: attribute(id, FAILURE_ATTRIBUTE) })),
            Err(error) => {
                tracing::debug!("cannot understand the failure record: {error}");
                Ok(None)
            }
        },
        _ => Ok(None),
    }
}

/// Says what happened and names the launcher's exit status.
pub async fn report(followed: &Followed, end: End) -> ExitStatus {
    let Followed { client, operation_id, yt_path, terminal, .. } = followed;
    match end {
        End::Completed => {
            terminal.line(format_args!("operation {operation_id} completed"));
            ExitStatus::Success
        }
        End::Aborted => {
            let error = operation_error(client, operation_id).await;
            let reason = reason(error.as_ref());
            if is_about_its_transaction(reason) {
                terminal.error(format_args!(
                    "operation {operation_id} was aborted: the cluster heard nothing of its launcher for too long, \
                     which was killed or had no network ({reason})"
                ));
                terminal.hint(LAUNCHER_LOST_HINT);
            } else {
                terminal.error(format_args!("operation {operation_id} was aborted: {reason}"));
            }
            ExitStatus::Failure
        }
        End::Failed => {
            let record = match read_failure(client, yt_path, operation_id).await {
                Ok(record) => record,
                Err(error) => {
                    tracing::debug!("cannot read the failure record: {error}");
                    None
                }
            };
            let (telling, status) = explain(followed, record).await;
            telling.tell(&format!("operation {operation_id} failed: "), terminal);
            status
        }
    }
}

/// What init knows comes first. The exception is a job that the cluster itself killed: its init could not say so, and
/// what another one saw of it is only that it was gone.
async fn explain(followed: &Followed, record: Option<Record>) -> (Telling, ExitStatus) {
    let is_lost = |record: &Record| matches!(record.failure.cause, Cause::NodeLost { .. });
    if let Some(Record { failure, path }) = record.as_ref().filter(|record| !is_lost(record)) {
        let was_shown = failure.node_rank == 0 && followed.proxy_stderr_mode == ProxyStderrMode::Primary;
        let telling = Telling::of_record(failure, Place::Cluster).with_record_at(path.clone());
        let telling = if was_shown { telling.without_tail() } else { telling };
        return (telling, ExitStatus::Job(failure.exit_code));
    }
    let error = operation_error(&followed.client, &followed.operation_id).await;
    let failure = record.as_ref().map(|record| &record.failure);
    if let Some(kill) = error.as_ref().and_then(MemoryKill::find) {
        let job = FailedJob::find(followed).await;
        let node = job.as_ref().and_then(FailedJob::node);
        let telling = Telling::of_memory_kill(kill, node.as_deref(), failure);
        let telling = telling.with_tail(failed_job_tail(followed, job).await);
        return (telling, ExitStatus::Job(InitExit::LostNode.code()));
    }
    if let Some(failure) = failure {
        return (Telling::of_record(failure, Place::Cluster), ExitStatus::Job(failure.exit_code));
    }
    let tail = failed_job_tail(followed, FailedJob::find(followed).await).await;
    let status = error.as_ref().and_then(exit_code).map_or(ExitStatus::Failure, ExitStatus::Job);
    (Telling::of_text(reason(error.as_ref())).with_tail(tail), status)
}

/// What helps against a launcher that goes away.
const LAUNCHER_LOST_HINT: &str =
    "`--no-wait` starts a run that needs no launcher; `--transaction-timeout` lets one be away for longer";

/// Whether the operation ended with the transaction that its launcher held. The cluster has no code for it.
fn is_about_its_transaction(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("transaction") && (reason.contains("expired") || reason.contains("aborted"))
}

fn reason(error: Option<&YtError>) -> &str {
    error.map_or("the cluster gives no reason", |error| &error.innermost().message)
}

async fn operation_error(client: &Client, operation_id: &str) -> Option<YtError> {
    let operation = client.get_operation(operation_id, &["result"]).await.ok()?;
    YtError::from_value(operation.at(&["result", "error"])?).filter(|error| error.code != 0)
}

/// The job that failed first.
struct FailedJob {
    job: YsonValue,
}

impl FailedJob {
    async fn find(followed: &Followed) -> Option<Self> {
        let filter = JobFilter { state: Some("failed".to_owned()), ..JobFilter::default() };
        let jobs = followed.client.list_jobs(&followed.operation_id, filter).await.unwrap_or_default();
        let finished =
            |job: &YsonValue| job.get("finish_time").and_then(YsonValue::as_str).map(str::to_owned);
        jobs.into_iter().min_by_key(finished).map(|job| Self { job })
    }

    /// Rank of its node, which is its cookie.
    fn cookie(&self) -> Option<i64> {
        self.job.get("job_cookie").and_then(ValueExt::as_int)
    }

    /// Its node in words.
    fn node(&self) -> Option<String> {
        let address = self.job.get("address").and_then(YsonValue::as_str);
        let host = address.map(|address| address.rsplit_once(':').map_or(address, |(host, _)| host));
        match (self.cookie(), host) {
            (Some(cookie), Some(host)) => Some(format!("node {cookie} ({host})")),
            (Some(cookie), None) => Some(format!("node {cookie}")),
            (None, Some(host)) => Some(format!("the node on {host}")),
            (None, None) => None,
        }
    }
}

/// The last lines that a failed job wrote.
async fn failed_job_tail(followed: &Followed, job: Option<FailedJob>) -> Vec<String> {
    let Followed { client, operation_id, .. } = followed;
    let Some(failed) = job else { return Vec::new() };
    let is_primary = failed.cookie().is_none_or(|cookie| cookie == 0);
    if followed.proxy_stderr_mode == ProxyStderrMode::Primary && is_primary {
        // They were shown as they came.
        return Vec::new();
    }
    let job = failed.job;
    let size = job.get("stderr_size").and_then(ValueExt::as_uint).unwrap_or(0);
    let Some(job) = job.get("id").and_then(YsonValue::as_str) else { return Vec::new() };
    let range = StderrRange { offset: size.saturating_sub(TAIL_BYTES), limit: TAIL_BYTES };
    let stderr = client.get_job_stderr(operation_id, job, Some(range)).await.unwrap_or_default();
    last_lines(&stderr)
}

fn last_lines(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(ToString::to_string).collect()
}

/// The exit code of the process that the operation failed because of, as a shell would see it.
fn exit_code(error: &YtError) -> Option<u8> {
    let number = |attribute: &str| {
        let from_attribute = error.attributes.get(attribute).and_then(ValueExt::as_int);
        from_attribute.or_else(|| error.message.rsplit(' ').next()?.parse().ok())
    };
    let own = match error.code {
        codes::NON_ZERO_EXIT_CODE => number("exit_code"),
        codes::KILLED_BY_SIGNAL => number("signal").map(|signal| 128 + signal),
        _ => None,
    };
    let own = own.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    own.or_else(|| error.inner_errors.iter().find_map(exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(code: i64, message: &str, attributes: YsonValue, inner: Vec<YsonValue>) -> YsonValue {
        value::map([
            ("code", value::int(code)),
            ("message", value::string(message)),
            ("attributes", attributes),
            ("inner_errors", value::list(inner)),
        ])
    }

    fn failed_by(process: YsonValue) -> YtError {
        let none = || value::map::<&str>([]);
        let job = document(1205, "User job failed", none(), vec![process]);
        YtError::from_value(&document(210, "Job failed", none(), vec![job])).unwrap()
    }

    #[test]
    fn exit_codes_come_from_the_bottom_of_the_tree() {
        let by_attribute = value::map([("exit_code", value::int(3))]);
        let error = failed_by(document(10_000, "Process exited with code 3", by_attribute, vec![]));
        assert_eq!(exit_code(&error), Some(3));
        assert_eq!(error.innermost().message, "Process exited with code 3");
        let none = value::map::<&str>([]);
        let error = failed_by(document(10_001, "Process terminated by signal 9", none.clone(), vec![]));
        assert_eq!(exit_code(&error), Some(137));
        let error = failed_by(document(10_000, "Process exited with code 64", none, vec![]));
        assert_eq!(exit_code(&error), Some(64));
    }

    #[test]
    fn other_errors_have_no_exit_code() {
        let none = value::map::<&str>([]);
        let error =
            YtError::from_value(&document(216, "Operation failed to prepare 3", none, vec![])).unwrap();
        assert_eq!(exit_code(&error), None);
    }

    #[test]
    fn the_end_of_a_launcher_is_known_by_its_transaction() {
        assert!(is_about_its_transaction("Operation transaction 1-2-3-4 has expired or was aborted"));
        assert!(is_about_its_transaction("User transaction 1-2-3-4 aborted"));
        assert!(!is_about_its_transaction("Operation aborted by user request"));
        assert!(!is_about_its_transaction("stopped by `tractorun stop`"));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let text = (0..30).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
        let lines = last_lines(text.as_bytes());
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (TAIL_LINES, "10", "29"));
    }
}
