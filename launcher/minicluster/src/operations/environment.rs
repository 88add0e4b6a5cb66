//! The environment of a job: made from nothing, never from the server's own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::spec::OperationSpec;
use super::task_spec::TaskSpec;
use crate::error::YtError;
use crate::guid::Guid;

/// The tree of pools of a cluster that has one.
pub(super) const POOL_TREE: &str = "default";

/// Who a job is in its gang.
#[derive(Debug, Clone, Copy)]
pub(super) struct GangIdentity {
    pub(super) incarnation: Guid,
    /// `None`: in reserve.
    pub(super) rank: Option<u32>,
    /// Ranks of the operation.
    pub(super) size: u32,
    /// Ranks of the task.
    pub(super) task_size: u32,
}

/// Who a job is.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobIdentity {
    pub(super) operation: Guid,
    pub(super) job: Guid,
    /// Kept when the job runs again.
    pub(super) cookie: u32,
    /// Number of this run in the operation.
    pub(super) index: u64,
    /// Number of this run in the task.
    pub(super) task_index: u64,
    pub(super) gang: Option<GangIdentity>,
}

/// All variables, in the order in which later ones win: the cluster's own defaults, the task's, then ids, ports
/// and secrets.
pub(super) fn variables(
    identity: &JobIdentity,
    spec: &OperationSpec,
    task: &TaskSpec,
    ports: &[u16],
    sandbox: &Path,
    node_address: &str,
) -> Result<Vec<(OsString, OsString)>, YtError> {
    let mut variables = Variables(Vec::new());
    let sandbox = sandbox.to_string_lossy();
    variables.set("HOME", &sandbox);
    variables.set("TMPDIR", &sandbox);
    for (name, value) in &task.environment {
        variables.set(name, &value.replace("$(SandboxPath)", &sandbox));
    }
    variables.set("SHELL", "/bin/bash");
    variables.set("YT_OPERATION_ID", &identity.operation.to_string());
    variables.set("YT_JOB_ID", &identity.job.to_string());
    variables.set("YT_JOB_COOKIE", &identity.cookie.to_string());
    variables.set("YT_JOB_INDEX", &identity.index.to_string());
    variables.set("YT_TASK_JOB_INDEX", &identity.task_index.to_string());
    variables.set("YT_FIRST_OUTPUT_TABLE_FD", "1");
    variables.set("YT_NODE_HOST", node_address.rsplit_once(':').map_or(node_address, |(host, _)| host));
    variables.set("YT_POOL_TREE", POOL_TREE);
    if let Some(gang) = &identity.gang {
        variables.set("YT_OPERATION_INCARNATION", &gang.incarnation.to_string());
        variables.set("YT_JOB_COUNT", &spec.total_jobs().to_string());
        variables.set("YT_TASK_JOB_COUNT", &task.job_count.to_string());
        variables.set("YT_GANG_SIZE", &gang.size.to_string());
        variables.set("YT_TASK_GANG_SIZE", &gang.task_size.to_string());
        if let Some(rank) = gang.rank {
            variables.set("YT_GANG_RANK", &rank.to_string());
        }
    }
    for (number, port) in ports.iter().enumerate() {
        variables.set(&format!("YT_PORT_{number}"), &port.to_string());
    }
    for (name, value) in spec.secure_vault.variables()? {
        variables.set_bytes(name, value);
    }
    Ok(variables.0)
}

struct Variables(Vec<(OsString, OsString)>);

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        self.set_bytes(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    }

    fn set_bytes(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let (name, value) = (OsString::from_vec(name), OsString::from_vec(value));
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}
