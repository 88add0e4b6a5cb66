//! Vanilla operations and their jobs: everything behind the commands of the "operations and jobs" section of
//! the API.
//!
//! [`Operations`] owns every operation, every job and every process of a job; nobody else starts or ends one.
//! It is called by the command layer with a request's parameter map and answers with the v4 value, unwrapped.
//! What it needs of the rest of the server (files, transactions, ids) it asks of [`Artifacts`]. It never looks
//! into Cypress itself and knows nothing of HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ytsaurus_yson::YsonValue;

use crate::error::YtError;
use crate::guid::Guid;
use crate::value::YsonMap;

/// The object type of an operation's id.
pub const OPERATION_TYPE_CODE: u16 = 1000;
/// The object type of a job's id.
pub const JOB_TYPE_CODE: u16 = 900;

/// What operations need of the rest of the server.
pub trait Artifacts: Send + Sync {
    /// The content and the name of a file node, seen from a transaction. The path may be `#id`; links are followed.
    fn open(&self, path: &str, transaction: Option<Guid>, user: &str) -> Result<Artifact, YtError>;
    /// Whether this transaction may still be used.
    fn transaction_is_alive(&self, id: Guid) -> bool;
    /// A fresh id of an object of this type.
    fn new_guid(&self, object_type: u16) -> Guid;
}

/// A file as a job gets it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The bytes.
    pub content: Content,
    /// The node's own `@executable`; an attribute of the path in `file_paths` wins over it.
    pub executable: bool,
    /// The node's `@file_name`, else the last component of its path.
    pub file_name: String,
}

/// The bytes of a file, cheap to clone.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// On disk; the file never changes while somebody holds this.
    File(Arc<Path>),
}

/// Where and as whom jobs run.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// The folder for the jobs' folders; made if missing. One server at a time may use it.
    pub slots: PathBuf,
    /// The address that `list_jobs` shows as the node of every job, such as `localhost:9012`.
    pub node_address: String,
}

/// Why operations cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The folder for jobs cannot be used.
    #[error("cannot use the folder for jobs `{path}`: {source}")]
    Slots {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No process could be started, in any way.
    #[error("cannot start a process for a job: {0}")]
    Spawn(String),
}

/// All operations of this server.
#[derive(Debug)]
pub struct Operations {}

impl Operations {
    /// Makes the folder for jobs, and tries once how well jobs can be isolated on this machine.
    pub fn new(
        _config: OperationsConfig,
        _artifacts: Arc<dyn Artifacts>,
    ) -> Result<Arc<Self>, OperationsError> {
        todo!()
    }

    /// `start_operation`: checks the spec and answers with the id of the new operation.
    pub async fn start(self: &Arc<Self>, _parameters: &YsonMap, _user: &str) -> Result<Guid, YtError> {
        todo!()
    }

    /// `get_operation`: a bare map.
    pub fn get_operation(&self, _parameters: &YsonMap) -> Result<YsonValue, YtError> {
        todo!()
    }

    /// `list_operations`: a bare map.
    pub fn list_operations(&self, _parameters: &YsonMap) -> Result<YsonValue, YtError> {
        todo!()
    }

    /// `abort_operation`: returns when no process of the operation is left.
    pub async fn abort(&self, _parameters: &YsonMap, _user: &str) -> Result<(), YtError> {
        todo!()
    }

    /// `complete_operation`: returns when no process of the operation is left.
    pub async fn complete(&self, _parameters: &YsonMap) -> Result<(), YtError> {
        todo!()
    }

    /// `suspend_operation`.
    pub fn suspend(&self, _parameters: &YsonMap) -> Result<(), YtError> {
        todo!()
    }

    /// `resume_operation`.
    pub fn resume(self: &Arc<Self>, _parameters: &YsonMap) -> Result<(), YtError> {
        todo!()
    }

    /// `update_operation_parameters`.
    pub fn update_parameters(&self, _parameters: &YsonMap) -> Result<(), YtError> {
        todo!()
    }

    /// `list_operation_events`: a bare list.
    pub fn list_operation_events(&self, _parameters: &YsonMap) -> Result<YsonValue, YtError> {
        todo!()
    }

    /// `list_jobs`: a bare map.
    pub fn list_jobs(&self, _parameters: &YsonMap) -> Result<YsonValue, YtError> {
        todo!()
    }

    /// `get_job`: a bare map.
    pub fn get_job(&self, _parameters: &YsonMap) -> Result<YsonValue, YtError> {
        todo!()
    }

    /// `get_job_stderr`, while the job runs and after it, with `offset` and `limit`.
    pub fn job_stderr(&self, _parameters: &YsonMap) -> Result<Bytes, YtError> {
        todo!()
    }

    /// `abort_job`.
    pub fn abort_job(&self, _parameters: &YsonMap, _user: &str) -> Result<(), YtError> {
        todo!()
    }

    /// A transaction was committed or is gone: aborts the operations that were started in it.
    pub fn transaction_ended(&self, _id: Guid) {
        todo!()
    }

    /// Kills every job's whole tree and returns when no process is left. Nothing starts afterwards.
    pub async fn shutdown(&self) {
        todo!()
    }
}
