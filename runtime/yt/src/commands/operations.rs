//! Operations and their jobs.

use std::time::Duration;

use bytes::Bytes;
use ytsaurus_yson::{YsonNode, YsonValue};

use crate::client::Client;
use crate::error::{Error, codes};
use crate::transport::call::Call;
use crate::transport::retry::Repeat;
use crate::value::{boolean, int, list, string, uint};

/// Time for one try of the commands that ask scheduler and archive, as the official client has it.
const SLOW: Duration = Duration::from_mins(1);

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in that state, such as `running`.
    pub state: Option<String>,
    /// Only jobs of that task.
    pub task_name: Option<String>,
    /// At most so many; the cluster's default is 1000.
    pub limit: Option<u32>,
    /// Only jobs with (or without) stderr.
    pub with_stderr: Option<bool>,
}

/// Which operations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only operations of that user.
    pub user: Option<String>,
    /// Only operations in that state, such as `running`.
    pub state: Option<String>,
    /// Only operations whose title, annotations or other short texts contain it.
    pub text: Option<String>,
    /// Only operations that began before this time or at it, as the cluster writes times.
    pub not_after: Option<String>,
    /// At most so many, the newest; the cluster's default is 100.
    pub limit: Option<u32>,
    /// Operations that began within this time, those that only the archive knows too. Not every cluster has one.
    pub archived_within: Option<(String, String)>,
}

/// Which part of a job's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StderrRange {
    /// First byte.
    pub offset: u64,
    /// At most so many bytes.
    pub limit: u64,
}

impl Client {
    /// Starts an operation and gives its id. Inside a transaction it ends with it.
    pub async fn start_operation(&self, operation_type: &str, spec: &YsonValue) -> Result<String, Error> {
        let call = Call::mutate("start_operation")
            .scoped(self.scope())
            .with("operation_type", string(operation_type))
            .with("spec", spec.clone())
            .repeat(Repeat::StartOperation)
            .timeout(SLOW);
        self.execute_for_string(call, "operation_id").await
    }

    /// An operation's attributes, those named; all if none is.
    pub async fn get_operation(&self, id: &str, attributes: &[&str]) -> Result<YsonValue, Error> {
        let mut call = Call::read("get_operation").with("operation_id", string(id)).timeout(SLOW);
        if !attributes.is_empty() {
            call = call.with("attributes", list(attributes.iter().map(string)));
        }
        self.execute(call).await
    }

    /// Vanilla operations, newest first, with those of their attributes that are named.
    pub async fn list_operations(
        &self,
        filter: &OperationFilter,
        attributes: &[&str],
    ) -> Result<Vec<YsonValue>, Error> {
        let mut call = Call::read("list_operations")
            .with("type", string("vanilla"))
            .with("include_counters", boolean(false))
            .with("attributes", list(attributes.iter().map(string)))
            .timeout(SLOW);
        let texts = [
            ("user", &filter.user),
            ("state", &filter.state),
            ("filter", &filter.text),
            ("cursor_time", &filter.not_after),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                call = call.with(name, string(text));
            }
        }
        if let Some(limit) = filter.limit {
            call = call.with("limit", int(limit));
        }
        if let Some((from, to)) = &filter.archived_within {
            call = call
                .with("include_archive", boolean(true))
                .with("from_time", string(from))
                .with("to_time", string(to));
        }
        match self.execute_for(call, "operations").await?.node {
            YsonNode::List(operations) => Ok(operations),
            _ => Err(self.protocol_error("list_operations", "its `operations` are not a list")),
        }
    }

    /// Aborts an operation. One that has ended meanwhile, or that the cluster does not know, is fine.
    pub async fn abort_operation(&self, id: &str, message: Option<&str>) -> Result<(), Error> {
        let mut call = Call::assign("abort_operation").with("operation_id", string(id)).timeout(SLOW);
        if let Some(message) = message {
            call = call.with("abort_message", string(message));
        }
        self.end_operation(call).await
    }

    /// Completes an operation ahead of time. One that has ended meanwhile, or that the cluster does not know,
    /// is fine.
    pub async fn complete_operation(&self, id: &str) -> Result<(), Error> {
        self.end_operation(Call::assign("complete_operation").with("operation_id", string(id)).timeout(SLOW))
            .await
    }

    /// The scheduler forgets an operation when it ends, so that a command sent twice, or too late, is told that
    /// there is none.
    async fn end_operation(&self, call: Call) -> Result<(), Error> {
        const ENDED: [i32; 2] = [codes::NO_SUCH_OPERATION_SCHEDULER, codes::NO_SUCH_OPERATION];
        match self.execute(call).await {
            Err(error) if ENDED.iter().any(|code| error.contains(*code)) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Changes parameters of a running operation.
    pub async fn update_operation_parameters(&self, id: &str, parameters: &YsonValue) -> Result<(), Error> {
        let call = Call::assign("update_operation_parameters")
            .with("operation_id", string(id))
            .with("parameters", parameters.clone());
        self.execute(call).await.map(drop)
    }

    /// Jobs of an operation.
    pub async fn list_jobs(&self, operation: &str, filter: JobFilter) -> Result<Vec<YsonValue>, Error> {
        let mut call = Call::read("list_jobs").with("operation_id", string(operation)).timeout(SLOW);
        if let Some(state) = &filter.state {
            call = call.with("state", string(state));
        }
        if let Some(task_name) = &filter.task_name {
            call = call.with("task_name", string(task_name));
        }
        if let Some(limit) = filter.limit {
            call = call.with("limit", int(limit));
        }
        if let Some(with_stderr) = filter.with_stderr {
            call = call.with("with_stderr", boolean(with_stderr));
        }
        match self.execute_for(call, "jobs").await?.node {
            YsonNode::List(jobs) => Ok(jobs),
            _ => Err(self.protocol_error("list_jobs", "its `jobs` are not a list")),
        }
    }

    /// One job.
    pub async fn get_job(&self, operation: &str, job: &str) -> Result<YsonValue, Error> {
        let call = Call::read("get_job").with("operation_id", string(operation)).with("job_id", string(job));
        self.execute(call.timeout(SLOW)).await
    }

    /// A job's stderr, while it runs and after it.
    pub async fn get_job_stderr(
        &self,
        operation: &str,
        job: &str,
        range: Option<StderrRange>,
    ) -> Result<Bytes, Error> {
        let mut call =
            Call::read("get_job_stderr").with("operation_id", string(operation)).with("job_id", string(job));
        if let Some(StderrRange { offset, limit }) = range {
            call = call.with("offset", signed(offset)).with("limit", signed(limit));
        }
        self.heavy_read(&call).await
    }
}

/// The cluster's numbers are signed where they can be.
fn signed(number: u64) -> YsonValue {
    i64::try_from(number).map_or_else(|_| uint(number), int)
}
