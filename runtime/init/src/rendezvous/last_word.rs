//! What the cluster says of a job whose node is gone: the leader sees no more than that a connection closed, the cluster
//! may know that it killed the job itself.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::debug;
use tractorun_contract::failure::{Cause, Failure, OomEvidence, OutOfMemory};
use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, YsonValue, YtError, codes};

/// The cluster learns of a job's end with the next heartbeat of its machine; everybody waits with us.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Adds to the verdict on a lost node what the cluster says of its job, if it says anything in time.
pub(crate) async fn ask(client: &Client, operation_id: &str, failure: &mut Failure) {
    let Cause::NodeLost { reason } = &mut failure.cause else { return };
    let Ok(Some(error)) = timeout(PATIENCE, end_of(client, operation_id, &failure.job_id)).await else {
        return;
    };
    *reason = format!(
        "{reason}; the cluster says: {}",
        error.innermost().message.lines().next().unwrap_or_default()
    );
    failure.oom = failure.oom.take().or_else(|| out_of_memory(&error).map(Box::new));
}

/// Waits until the job has ended for the cluster too.
async fn end_of(client: &Client, operation_id: &str, job_id: &str) -> Option<YtError> {
    loop {
        let job = match client.get_job(operation_id, job_id).await {
            Ok(job) => job,
            Err(error) => {
                debug!("the cluster says nothing of job {job_id}: {error}");
                return None;
            }
        };
        match job.get("state").and_then(YsonValue::as_str) {
            Some("failed" | "aborted" | "lost") => {
                return YtError::from_value(job.get("error")?).filter(|error| error.code != 0);
            }
            Some("completed") | None => return None,
            Some(_) => sleep(PAUSE).await,
        }
    }
}

fn out_of_memory(error: &YtError) -> Option<OutOfMemory> {
    if error.code == codes::MEMORY_LIMIT_EXCEEDED {
        let limit_bytes = error.attributes.get("limit").and_then(ValueExt::as_uint);
        return Some(OutOfMemory { kills: 0, evidence: OomEvidence::Cluster, limit_bytes });
    }
    error.inner_errors.iter().find_map(out_of_memory)
}
