//! How an operation ended, in words and as an exit code.
//!
//! What init recorded in `incarnations/<n>/@failure` comes first: it knows the worker. Without a record (the
//! job never met, or is none of ours) the operation's own error tells what it can.

use tractorun_contract::cypress;
use tractorun_contract::failure::{Cause, FAILURE_ATTRIBUTE, Failure};
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{BatchRequest, Client, Error, JobFilter, StderrRange, YsonValue, YtError, codes};

use crate::report::ExitStatus;
use crate::settings::{Place, ProxyStderrMode};

use super::{End, Followed};

/// Incarnations that are looked through for ours, newest first: another run may have begun meanwhile.
const RECENT_INCARNATIONS: u32 = 3;

/// Lines of a failed job's stderr that are shown.
const TAIL_LINES: usize = 20;

/// Enough for so many lines.
const TAIL_BYTES: u64 = 1 << 20;

/// The record of that operation's failure, if init left one.
pub async fn read_failure(
    client: &Client,
    yt_path: &str,
    operation_id: &str,
) -> Result<Option<Failure>, Error> {
    let newest = client.get(&format!("{yt_path}/@{}", cypress::INCARNATION_ID)).await?;
    let Some(newest) = newest.as_uint().and_then(|newest| u32::try_from(newest).ok()) else {
        return Ok(None);
    };
    let oldest = (newest + 1).saturating_sub(RECENT_INCARNATIONS);
    let requests = (oldest..=newest).rev().flat_map(|id| {
        let incarnation = cypress::incarnation(yt_path, id);
        [cypress::incarnation::OPERATION_ID, FAILURE_ATTRIBUTE].map(|attribute| {
            BatchRequest::new("get").parameter("path", value::string(format!("{incarnation}/@{attribute}")))
        })
    });
    let answers = client.execute_batch(requests.collect()).await?;
    let ours = answers.chunks_exact(2).find_map(|pair| match pair {
        [Ok(id), failure] if id.as_str() == Some(operation_id) => Some(failure),
        _ => None,
    });
    match ours {
        Some(Ok(failure)) => value::to_deserialize(failure).map(Some).or_else(|error| {
            tracing::debug!("cannot understand the failure record: {error}");
            Ok(None)
        }),
        _ => Ok(None),
    }
}

/// Says what happened and names the launcher's exit status.
pub async fn report(followed: &Followed, end: End) -> ExitStatus {
    let Followed { client, operation_id, yt_path, terminal, .. } = followed;
    if end == End::Completed {
        terminal.line(format_args!("operation {operation_id} completed"));
        return ExitStatus::Success;
    }
    let failure = match read_failure(client, yt_path, operation_id).await {
        Ok(failure) => failure,
        Err(error) => {
            tracing::debug!("cannot read the failure record: {error}");
            None
        }
    };
    if let (End::Failed, Some(failure)) = (end, &failure) {
        if !(failure.node_rank == 0 && followed.proxy_stderr_mode == ProxyStderrMode::Primary) {
            terminal.write(&quote(&failure.stderr_tail));
        }
        let prefix = format!("operation {operation_id} failed: ");
        terminal.error(describe(&prefix, failure, Place::Cluster));
        return ExitStatus::Job(failure.exit_code);
    }
    let error = operation_error(client, operation_id).await;
    let text = error.as_ref().map_or("the cluster gives no reason", |error| &error.innermost().message);
    if end == End::Aborted {
        terminal.error(format_args!("operation {operation_id} was aborted: {text}"));
        return ExitStatus::Failure;
    }
    terminal.write(&quote(&failed_job_tail(followed).await));
    terminal.error(format_args!("operation {operation_id} failed: {text}"));
    error.as_ref().and_then(exit_code).map_or(ExitStatus::Failure, ExitStatus::Job)
}

/// The verdict as an error's text: who, where, what, and what may help.
pub fn describe(prefix: &str, failure: &Failure, place: Place) -> String {
    match hint(failure, place) {
        Some(hint) => format!("{prefix}{failure}\nhint: {hint}"),
        None => format!("{prefix}{failure}"),
    }
}

/// Lines of a job, set off from the launcher's own.
pub fn quote(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("  | {line}\n").into_bytes()).collect()
}

fn hint(failure: &Failure, place: Place) -> Option<&'static str> {
    match (&failure.cause, place) {
        (Cause::WorkerKilled { signal } | Cause::SidecarKilled { signal, .. }, Place::Cluster)
            if signal == "SIGKILL" =>
        {
            Some(
                "the kernel kills a process when the node's memory is used up; a higher `resources.memory_limit` may help",
            )
        }
        (Cause::WorkerKilled { signal } | Cause::SidecarKilled { signal, .. }, Place::Local)
            if signal == "SIGKILL" =>
        {
            Some("the kernel kills a process when this machine's memory is used up")
        }
        (Cause::WorkerNotStarted { .. } | Cause::SidecarNotStarted { .. }, Place::Cluster) => {
            Some("the command must exist in the image, or be bound with `bind_local`")
        }
        (Cause::NodeLost { .. }, Place::Cluster) => {
            Some("the node went away without a word, or its network did; try again")
        }
        _ => None,
    }
}

async fn operation_error(client: &Client, operation_id: &str) -> Option<YtError> {
    let operation = client.get_operation(operation_id, &["result"]).await.ok()?;
    YtError::from_value(operation.at(&["result", "error"])?).filter(|error| error.code != 0)
}

/// The last lines that a failed job wrote.
async fn failed_job_tail(followed: &Followed) -> Vec<String> {
    let Followed { client, operation_id, .. } = followed;
    let filter = JobFilter { state: Some("failed".to_owned()), ..JobFilter::default() };
    let jobs = client.list_jobs(operation_id, filter).await.unwrap_or_default();
    let finished = |job: &&YsonValue| job.get("finish_time").and_then(YsonValue::as_str).map(str::to_owned);
    let Some(job) = jobs.iter().min_by_key(finished) else { return Vec::new() };
    let cookie = job.get("job_cookie").and_then(ValueExt::as_int);
    if followed.proxy_stderr_mode == ProxyStderrMode::Primary && cookie.is_none_or(|cookie| cookie == 0) {
        // They were shown as they came.
        return Vec::new();
    }
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
    fn the_last_lines_are_kept() {
        let text = (0..30).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
        let lines = last_lines(text.as_bytes());
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (TAIL_LINES, "10", "29"));
        assert_eq!(quote(&["a".into(), "b".into()]), b"  | a\n  | b\n");
    }

    #[test]
    fn verdicts_carry_a_hint_where_there_is_one() {
        let mut failure = Failure {
            cause: Cause::WorkerExited { code: 7 },
            rank: Some(3),
            node_rank: 1,
            host: "h".into(),
            job_id: "j".into(),
            attempt: 0,
            exit_code: 7,
            elapsed_seconds: 1.0,
            stderr_tail: Vec::new(),
            not_restarted: None,
        };
        assert_eq!(
            describe("", &failure, Place::Cluster),
            "rank 3 on node 1 (h) exited with code 7 after 1.0 s"
        );
        failure.cause = Cause::WorkerKilled { signal: "SIGKILL".into() };
        assert!(
            describe("x: ", &failure, Place::Cluster)
                .contains("x: rank 3 on node 1 (h) was killed by SIGKILL")
        );
        assert!(describe("x: ", &failure, Place::Cluster).contains("\nhint: the kernel kills"));
    }
}
