//! Start-up of a node: from the job's environment to workers that only need to be spawned.

mod config;
mod environment;
mod place;
pub(crate) mod placement;
mod secrets;
mod unpack;
mod worker_config;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};
use tractorun_contract::env;
use tractorun_contract::exit::InitExit;
use tractorun_contract::job_spec::{Bind, CypressBind, Lib, PartCount, RestartPolicy};
use tractorun_sys::CpuSet;
use tractorun_yt::{Client, ClientConfig};

use crate::control::acceptor::Interfaces;
use crate::control::progress::{Preparations, Step};
use crate::logs;
use crate::metrics::{Facts, Monitor, Phase};
use crate::rendezvous::address::own_host_name;
use crate::rendezvous::cypress::CypressBoard;
use crate::rendezvous::{self, Membership, MetricsTarget, RendezvousError, Settings};
use crate::supervisor::{Identity, Preemption, Restarts};
use config::{Config, ConfigError};
use environment::NodeContext;
use place::PlaceError;
use placement::{Allotment, Machine, PlacementError, Request};
use secrets::SecretError;
use unpack::UnpackError;
use worker_config::WorkerConfig;

/// Folder of ours inside the sandbox.
const OWN_FOLDER: &str = ".tractorun";

/// A node that cannot begin waits no longer for the leader to take note of it.
const TOLD_LIMIT: Duration = Duration::from_secs(3);

/// A snapshot of the process environment, so that nothing below `main` reads the global one. `Debug` shows
/// names only: values may be secret.
#[derive(Clone, Default)]
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

/// Why a node could not begin. The text is one line, and a `hint:` line where there is one.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartUpError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot tell the working directory: {0}")]
    NoSandbox(std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] tractorun_yt::ConfigError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the leader let this node go before it was ready")]
    MetTooEarly,
    #[error("unpacking was interrupted: {0}")]
    Interrupted(tokio::task::JoinError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("cannot tell which CPUs may be used: {0}")]
    Affinity(std::io::Error),
    #[error("cannot write `{}`: {source}", path.display())]
    WorkerConfig { path: PathBuf, source: std::io::Error },
}

/// Brings the node from nothing to the point where its workers may start: configuration, then binds,
/// secrets and the rendezvous side by side, then the workers' environments.
///
/// Cancel it by dropping the future.
///
/// What it learns it tells the monitor, which it also opens to whoever wants to read it.
pub async fn start_up(environment: &Environment, monitor: &Monitor) -> Result<Started, StartUpError> {
    let sandbox = std::env::current_dir().map_err(Reason::NoSandbox)?;
    Ok(start_up_in(environment, &sandbox, monitor).await?)
}

async fn start_up_in(
    environment: &Environment,
    sandbox: &Path,
    monitor: &Monitor,
) -> Result<Started, Reason> {
    let begin = Instant::now();
    let config = config::read(environment, sandbox)?;
    let client = Client::new(config.client.clone())?;
    info!(
        "node {} of {}, {} workers each, operation {}, job {}",
        config.node_rank,
        config.mesh.node_count,
        config.mesh.process_per_node,
        config.operation_id,
        config.job_id
    );

    let host = own_host_name();
    let own = Identity { node_rank: config.node_rank, host: host.clone(), job_id: config.job_id.clone() };
    monitor.know(Facts::Node { own, node_count: config.mesh.node_count });
    monitor.watch_client(&client);
    let metrics_port = serve_metrics(&config, monitor).await;

    let preparations = Preparations::of([Step::Unpack, Step::Secrets]);
    let settings = Settings {
        mesh: config.mesh,
        node_rank: config.node_rank,
        operation_id: config.operation_id.clone(),
        job_id: config.job_id.clone(),
        ports: config.ports.clone(),
        metrics_port,
        progress: preparations.watch(),
        pulses: monitor.pulses(),
        host: host.clone(),
        advertise_host: config.advertise_host.clone(),
        heartbeat: config.heartbeat_timeout,
        patience: config.rendezvous_timeout,
        deadline: begin + config.rendezvous_timeout,
    };
    let board = CypressBoard::new(client.clone(), config.yt_path.clone());
    let mut meeting = pin!(rendezvous::join(&board, &settings));
    let preparing = prepare(&config, environment, &client, monitor, &preparations);
    // Joined while still preparing: so the others know whom they wait for, and why.
    let (python_path, Placed { user, allotments, allowed }) = tokio::select! {
        prepared = preparing => match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                let code = reason.exit_code();
                preparations.fail(&reason.to_string(), code);
                // The leader writes down who failed, if it can, and then says that it is over.
                let _ = timeout(TOLD_LIMIT, meeting).await;
                return Err(reason);
            }
        },
        // Nobody meets before all are ready: this is an error.
        met = &mut meeting => return Err(met.map_or_else(Reason::from, |_| Reason::MetTooEarly)),
    };
    debug!("binds and secrets are there after {:.3} s", begin.elapsed().as_secs_f64());
    monitor.begin(Phase::Rendezvous);
    let membership = meeting.await?;
    monitor.end(Phase::Rendezvous);
    info!(
        "all {} nodes have met in incarnation {} after {:.3} s",
        config.mesh.node_count,
        membership.incarnation,
        begin.elapsed().as_secs_f64()
    );

    if let Some(MetricsTarget { address, .. }) = membership.metrics_targets.first() {
        info!("metrics of all nodes: http://{address}/targets");
    }
    let workers = plan_workers(&config, environment, &user, &python_path, &membership, &allotments)?;
    let given = allotments
        .iter()
        .zip(&workers)
        .map(|(allotment, worker)| allotment.shown(&worker.environment, &allowed));
    monitor.know(Facts::Placed(given.collect()));
    let sidecars = plan_sidecars(&config, environment, &user, &python_path, &membership);
    let stop_deadline_file = stop_deadline_file(&config);
    let Config {
        grace_period,
        restarts,
        preemption,
        prefix,
        node_rank,
        job_id,
        sandbox,
        logs,
        client,
        yt_path,
        ..
    } = config;
    let logs = logs.map(|settings| LogPlan { client, settings, yt_path });
    let plan = JobPlan {
        workers,
        sidecars,
        grace_period,
        restarts,
        preemption,
        stop_deadline_file,
        prefix,
        node_rank,
        host,
        job_id,
        logs,
        sandbox,
    };
    Ok(Started { plan, membership })
}

/// What is known when secrets are there: the user's variables, and what workers with these get of the machine.
struct Placed {
    user: Vec<(OsString, OsString)>,
    /// By local rank.
    allotments: Vec<Allotment>,
    /// CPUs that init may run on.
    allowed: CpuSet,
}

/// Unpacks and fetches secrets, side by side; gives the folders for `PYTHONPATH` and what is placed.
async fn prepare(
    config: &Config,
    inherited: &Environment,
    client: &Client,
    monitor: &Monitor,
    preparations: &Preparations,
) -> Result<(Vec<PathBuf>, Placed), Reason> {
    monitor.begin(Phase::Unpack);
    monitor.begin(Phase::Secrets);
    tokio::try_join!(
        async {
            let folders = prepare_files(config).await?;
            monitor.end(Phase::Unpack);
            preparations.done(Step::Unpack);
            Ok(folders)
        },
        async {
            let secrets = secrets::resolve(&config.env, client).await?;
            monitor.end(Phase::Secrets);
            let placed = place_workers(config, inherited, secrets)?;
            preparations.done(Step::Secrets);
            Ok(placed)
        },
    )
}

fn stop_deadline_file(config: &Config) -> PathBuf {
    config.sandbox.join(OWN_FOLDER).join("stop_deadline")
}

/// Opens the metrics port; gives it if that went well. A job runs without metrics too.
async fn serve_metrics(config: &Config, monitor: &Monitor) -> Option<u16> {
    let port = config.metrics_port?;
    match Interfaces::of(config.advertise_host.as_deref()).bind(port).await {
        Ok(listener) => {
            monitor.serve(listener);
            Some(port)
        }
        Err(error) => {
            warn!("cannot serve metrics on port {port}: {error}");
            None
        }
    }
}

/// Unpacks and places all files, off the async threads; gives the folders for `PYTHONPATH`.
async fn prepare_files(config: &Config) -> Result<Vec<PathBuf>, Reason> {
    let cancel = CancelOnDrop::default();
    let cancelled = Arc::clone(&cancel.0);
    let sandbox = config.sandbox.clone();
    let (binds, libs) = (config.binds.clone(), config.libs.clone());
    let cypress_binds = config.cypress_binds.clone();
    tokio::task::spawn_blocking(move || {
        let files = |archive: &str, parts: PartCount| -> Vec<_> {
            parts.names(archive).map(|name| sandbox.join(name)).collect()
        };
        for Bind { archive, destination, parts } in &binds {
            // Joining an absolute path gives that path.
            unpack::unpack(&files(archive, *parts), &sandbox.join(destination), &cancelled)?;
        }
        let lib_folder = sandbox.join(OWN_FOLDER).join("lib");
        for Lib { archive, name, parts } in &libs {
            unpack::unpack(&files(archive, *parts), &lib_folder.join(name), &cancelled)?;
        }
        for CypressBind { file, destination } in &cypress_binds {
            place::place(&sandbox, file, &sandbox.join(destination))?;
        }
        // Names of libraries are distinct, so one folder holds them all.
        Ok(if libs.is_empty() { Vec::new() } else { vec![lib_folder] })
    })
    .await
    .map_err(Reason::Interrupted)?
}

/// Gives every worker its GPUs and CPUs, or says that there are too few.
fn place_workers(
    config: &Config,
    inherited: &Environment,
    user: Vec<(OsString, OsString)>,
) -> Result<Placed, Reason> {
    let Config { mesh, node_rank, nodes_here, placement, .. } = *config;
    let allowed = CpuSet::allowed().map_err(Reason::Affinity)?;
    let machine = Machine::read(hardware_root(inherited));
    let variable = |name: &str| {
        let of_user = user.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        of_user.or_else(|| inherited.get(name)).map(|value| value.to_string_lossy().into_owned())
    };
    let request = Request { mesh, node_rank, nodes_here, placement };
    let allotments = placement::plan(request, &machine, &allowed, &variable)?;
    if mesh.gpu_per_process > 0 {
        for (local_rank, Allotment { gpus, cpus, .. }) in allotments.iter().enumerate() {
            let cpus = cpus.as_ref().unwrap_or(&allowed);
            info!("local rank {local_rank}: GPUs {}, CPUs {cpus}", gpus.join(","));
        }
    }
    Ok(Placed { user, allotments, allowed })
}

/// What stands for `/` where GPUs are looked for.
pub(crate) fn hardware_root(environment: &Environment) -> &Path {
    environment.get(env::HARDWARE_ROOT).filter(|root| !root.is_empty()).map_or(Path::new("/"), Path::new)
}

fn plan_workers(
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

fn plan_sidecars(
    config: &Config,
    inherited: &Environment,
    user: &[(OsString, OsString)],
    python_path: &[PathBuf],
    membership: &Membership,
) -> Vec<SidecarPlan> {
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
    let sidecars = config.sidecars.iter().enumerate();
    sidecars
        .map(|(index, sidecar)| SidecarPlan {
            command: sidecar.command.iter().map(OsString::from).collect(),
            environment: context.sidecar(index),
            working_directory: config.working_directory.clone(),
            restart_policy: sidecar.restart_policy,
        })
        .collect()
}

/// Tells blocking work that nobody waits for it any more.
#[derive(Debug, Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
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
        let Self { command, environment, working_directory, restart_policy } = self;
        f.debug_struct("SidecarPlan")
            .field("command", command)
            .field("environment", &environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("working_directory", working_directory)
            .field("restart_policy", restart_policy)
            .finish()
    }
}

// === impl StartUpError ===

impl StartUpError {
    /// Code that init exits with because of it.
    pub fn exit_code(&self) -> u8 {
        self.0.exit_code()
    }
}

// === impl Reason ===

impl Reason {
    fn exit_code(&self) -> u8 {
        let exit = match self {
            Self::Config(_) | Self::Client(_) | Self::Unpack(_) | Self::Place(_) | Self::Secret(_) => {
                InitExit::BadConfig
            }
            Self::Placement(_) => InitExit::PreflightFailed,
            Self::NoSandbox(_)
            | Self::Interrupted(_)
            | Self::Affinity(_)
            | Self::WorkerConfig { .. }
            | Self::MetTooEarly => InitExit::Internal,
            Self::Rendezvous(error) => return error.exit_code(),
        };
        exit.code()
    }
}

#[cfg(test)]
mod tests;
