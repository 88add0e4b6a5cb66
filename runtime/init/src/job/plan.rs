//! What a node is to run, process by process: made when everybody has met, complete but for the attempt.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tractorun_contract::env;
use tractorun_contract::job_spec::RestartPolicy;
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::CpuSet;
use tractorun_yt::ClientConfig;

use super::config::Config;
use super::environment::NodeContext;
use super::placement::Allotment;
use super::worker_config::WorkerConfig;
use super::{Environment, OWN_FOLDER, Reason, stop_deadline_file};
use crate::logs;
use crate::rendezvous::Membership;
use crate::supervisor::{Preemption, Restarts};

/// What the node runs.
#[derive(Debug)]
pub struct JobPlan {
    /// The workers, by local rank.
    pub workers: Vec<WorkerPlan>,
    /// The sidecars, in the order they are started.
    pub sidecars: Vec<SidecarPlan>,
    /// From SIGTERM to SIGKILL.
    pub grace_period: Duration,
    /// Which failures are answered by another attempt.
    pub restarts: Restarts,
    /// What SIGTERM to init means, if not a stop.
    pub preemption: Option<Preemption>,
    /// Where the workers look when they will be killed.
    pub stop_deadline_file: PathBuf,
    /// What the workers' lines carry in front.
    pub prefix: Prefix,
    /// Rank of the node.
    pub node_rank: u32,
    /// Name of the node's host, for reports.
    pub host: String,
    /// YT job id of the node.
    pub job_id: String,
    /// Where lines go besides init's stderr, if anywhere.
    pub logs: Option<LogPlan>,
    /// The job's own folder: working directory of init and, but for some local runs, of the workers.
    pub sandbox: PathBuf,
}

/// Tables for the lines of the node's processes.
#[derive(Debug)]
pub struct LogPlan {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// How lines are shipped.
    pub settings: logs::Settings,
    /// Base directory of the run on the cluster.
    pub yt_path: String,
}

/// One process to spawn. `Debug` shows the names of its variables only: values may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkerPlan {
    /// Global rank.
    pub rank: u32,
    /// Rank on the node.
    pub local_rank: u32,
    /// Command and arguments, at least one element; looked up in `PATH` of `environment`.
    pub command: Vec<OsString>,
    /// The complete environment of the first attempt: nothing else is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub working_directory: PathBuf,
    /// CPUs to bind it to, if not all of init's.
    pub cpus: Option<CpuSet>,
    /// The file that `TRACTO_CONFIG` names.
    pub(crate) config: (PathBuf, WorkerConfig),
}

/// One process beside the workers. `Debug` shows the names of its variables only: values may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SidecarPlan {
    /// Which it is.
    pub id: SidecarId,
    /// Command and arguments, at least one element; looked up in `PATH` of `environment`.
    pub command: Vec<OsString>,
    /// The complete environment: nothing else is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub working_directory: PathBuf,
    /// What its end leads to.
    pub restart_policy: RestartPolicy,
}

/// What the workers' lines carry in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Nothing.
    None,
    /// `[rank] `.
    Rank,
}

pub(super) fn plan_workers(
    config: &Config,
    inherited: &Environment,
    user: &[(OsString, OsString)],
    python_path: &[PathBuf],
    membership: &Membership,
    allotments: &[Allotment],
) -> Result<Vec<WorkerPlan>, Reason> {
    let Membership { incarnation, topology, .. } = membership;
    let stop_deadline_file = &stop_deadline_file(config);
    let context = NodeContext {
        config,
        inherited,
        user,
        python_path,
        incarnation: *incarnation,
        topology,
        stop_deadline_file,
    };
    let folder = config.sandbox.join(OWN_FOLDER);
    std::fs::create_dir_all(&folder)
        .map_err(|source| Reason::WorkerConfig { path: folder.clone(), source })?;
    let mut workers = Vec::new();
    for (local_rank, allotment) in (0..).zip(allotments) {
        let path = folder.join(format!("config_{local_rank}.json"));
        let worker_config = WorkerConfig::new(config, *incarnation, topology, local_rank, stop_deadline_file);
        worker_config.write(&path).map_err(|source| Reason::WorkerConfig { path: path.clone(), source })?;
        workers.push(WorkerPlan {
            rank: config.mesh.rank(config.node_rank, local_rank),
            local_rank,
            command: config.command.clone(),
            environment: context.worker(local_rank, &path, allotment),
            working_directory: config.working_directory.clone(),
            cpus: allotment.cpus.clone(),
            config: (path, worker_config),
        });
    }
    Ok(workers)
}

pub(super) fn plan_sidecars(
    config: &Config,
    inherited: &Environment,
    user: &[(OsString, OsString)],
    python_path: &[PathBuf],
    membership: &Membership,
) -> Result<Vec<SidecarPlan>, Reason> {
    let Membership { incarnation, topology, .. } = membership;
    // The values are in the order of the variables.
    let everybodys = config.env.iter().zip(user).filter(|(variable, _)| variable.scope.is_everybody());
    let user: Vec<_> = everybodys.map(|(_, value)| value.clone()).collect();
    let context = NodeContext {
        config,
        inherited,
        user: &user,
        python_path,
        incarnation: *incarnation,
        topology,
        stop_deadline_file: &stop_deadline_file(config),
    };
    let of_user = (0..).map(SidecarId::Index).zip(&config.sidecars).map(|(id, sidecar)| SidecarPlan {
        id,
        command: sidecar.command.iter().map(OsString::from).collect(),
        environment: context.sidecar(id),
        working_directory: config.working_directory.clone(),
        restart_policy: sidecar.restart_policy,
    });
    let mut sidecars: Vec<_> = of_user.collect();
    if let Some(tensorproxy) = &config.tensorproxy {
        let file = config.sandbox.join(OWN_FOLDER).join("tensorproxy.yson");
        tensorproxy
            .write_config(&file, &config.proxy)
            .map_err(|source| Reason::WorkerConfig { path: file.clone(), source })?;
        sidecars.push(SidecarPlan {
            id: SidecarId::Tensorproxy,
            command: tensorproxy.command(&config.sandbox, &file),
            environment: context.sidecar(SidecarId::Tensorproxy),
            // It writes files of its own where it starts, and a local run's folder is the user's.
            working_directory: config.sandbox.clone(),
            restart_policy: tensorproxy.restart_policy,
        });
    }
    Ok(sidecars)
}

// === impl WorkerPlan ===

impl WorkerPlan {
    /// Makes the worker's files say that this attempt begins.
    pub(crate) fn prepare(&mut self, attempt: u32) -> std::io::Result<()> {
        let (path, config) = &mut self.config;
        if config.attempt == attempt {
            return Ok(());
        }
        config.attempt = attempt;
        config.write(path)?;
        for (name, value) in &mut self.environment {
            if name == env::ATTEMPT || name == env::worker::TORCHELASTIC_RESTART_COUNT {
                *value = attempt.to_string().into();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for WorkerPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, local_rank, command, environment, working_directory, cpus, config: _ } = self;
        f.debug_struct("WorkerPlan")
            .field("rank", rank)
            .field("local_rank", local_rank)
            .field("command", command)
            .field("environment", &environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("working_directory", working_directory)
            .field("cpus", cpus)
            .finish()
    }
}

// === impl SidecarPlan ===

impl fmt::Debug for SidecarPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, command, environment, working_directory, restart_policy } = self;
        f.debug_struct("SidecarPlan")
            .field("id", id)
            .field("command", command)
            .field("environment", &environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("working_directory", working_directory)
            .field("restart_policy", restart_policy)
            .finish()
    }
}
