//! Start-up of a node: from the job's environment to workers that only need to be spawned.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::rendezvous::Membership;

/// A snapshot of the process environment, so that nothing below `main` reads the global one.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

/// A node that has met all others and may start its workers.
#[derive(Debug)]
pub struct Started {
    /// What to run.
    pub plan: JobPlan,
    /// Who runs with us.
    pub membership: Membership,
}

/// What the node runs.
#[derive(Debug)]
pub struct JobPlan {
    /// The workers, by local rank.
    pub workers: Vec<WorkerPlan>,
    /// From SIGTERM to SIGKILL.
    pub grace_period: Duration,
    /// What the workers' lines carry in front.
    pub prefix: Prefix,
    /// Rank of the node.
    pub node_rank: u32,
    /// Name of the node's host, for reports.
    pub host: String,
    /// YT job id of the node.
    pub job_id: String,
    /// The job's own folder: working directory of init and of the workers.
    pub sandbox: PathBuf,
}

/// One process to spawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlan {
    /// Global rank.
    pub rank: u32,
    /// Rank on the node.
    pub local_rank: u32,
    /// Command and arguments, at least one element; looked up in `PATH` of `environment`.
    pub command: Vec<OsString>,
    /// The complete environment: nothing else is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub working_directory: PathBuf,
}

/// What the workers' lines carry in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Nothing.
    None,
    /// `[rank] `.
    Rank,
}

/// Why a node could not begin. The text is one line, and a `hint:` line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum StartUpError {}

/// Brings the node from nothing to the point where its workers may start.
///
/// Cancel it by dropping the future.
pub async fn start_up(environment: &Environment) -> Result<Started, StartUpError> {
    let _ = environment;
    todo!()
}

// === impl Environment ===

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// All variables, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

// === impl StartUpError ===

impl StartUpError {
    /// Code that init exits with because of it.
    pub fn exit_code(&self) -> u8 {
        match *self {}
    }
}
