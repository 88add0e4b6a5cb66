//! Operations and their jobs.

use bytes::Bytes;
use ytsaurus_yson::YsonValue;

use crate::client::Client;
use crate::error::Error;

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
        let _ = (operation_type, spec);
        todo!()
    }

    /// An operation's attributes, those named or all.
    pub async fn get_operation(&self, id: &str, attributes: &[&str]) -> Result<YsonValue, Error> {
        let _ = (id, attributes);
        todo!()
    }

    /// Aborts an operation. One that has ended meanwhile is fine.
    pub async fn abort_operation(&self, id: &str, message: Option<&str>) -> Result<(), Error> {
        let _ = (id, message);
        todo!()
    }

    /// Completes an operation ahead of time. One that has ended meanwhile is fine.
    pub async fn complete_operation(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        todo!()
    }

    /// Changes parameters of a running operation.
    pub async fn update_operation_parameters(&self, id: &str, parameters: &YsonValue) -> Result<(), Error> {
        let _ = (id, parameters);
        todo!()
    }

    /// Jobs of an operation.
    pub async fn list_jobs(&self, operation: &str, filter: JobFilter) -> Result<Vec<YsonValue>, Error> {
        let _ = (operation, filter);
        todo!()
    }

    /// One job.
    pub async fn get_job(&self, operation: &str, job: &str) -> Result<YsonValue, Error> {
        let _ = (operation, job);
        todo!()
    }

    /// A job's stderr, while it runs and after it.
    pub async fn get_job_stderr(
        &self,
        operation: &str,
        job: &str,
        range: Option<StderrRange>,
    ) -> Result<Bytes, Error> {
        let _ = (operation, job, range);
        todo!()
    }
}
