//! Start-up of a node: from the job's environment to workers that only need to be spawned.

mod config;
mod environment;
mod inherited;
mod place;
pub(crate) mod placement;
mod plan;
mod prepare;
mod secrets;
mod stop;
mod tensorproxy;
mod unpack;
mod worker_config;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};
use tractorun_contract::exit::InitExit;
use tractorun_sys::Signal;
use tractorun_yt::Client;

use self::config::{Config, ConfigError};
use self::place::PlaceError;
use self::placement::PlacementError;
use self::plan::{plan_sidecars, plan_workers};
use self::prepare::{Placed, prepare};
use self::secrets::SecretError;
use self::stop::next_stop;
use self::unpack::UnpackError;
use crate::control::acceptor::Interfaces;
use crate::control::progress::{Preparations, Step};
use crate::image_env::{self, RestoreError, Restored};
use crate::metrics::{Facts, Monitor, Phase};
use crate::rendezvous::address::own_host_name;
use crate::rendezvous::cypress::CypressBoard;
use crate::rendezvous::{self, Membership, MetricsTarget, RendezvousError, Settings};
use crate::supervisor::Identity;

pub use self::inherited::Environment;
pub use self::plan::{JobPlan, LogPlan, Prefix, SidecarPlan, WorkerPlan};
pub(crate) use self::prepare::hardware_root;

/// Folder of ours inside the sandbox.
const OWN_FOLDER: &str = ".tractorun";

/// A node that cannot begin waits no longer for the leader to take note of it.
const TOLD_LIMIT: Duration = Duration::from_secs(3);

/// A node that has met all others and may start its workers.
#[derive(Debug)]
pub struct Started {
    /// What to run.
    pub plan: JobPlan,
    /// Who runs with us.
    pub membership: Membership,
    /// A wish to stop that came so late that the workers of the others start: to be dealt with as if it came then.
    pub stop: Option<Signal>,
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
    ImageEnv(#[from] RestoreError),
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
    #[error("stopped by {signal} before the workers were started; exit code {exit_code}")]
    Stopped { signal: Signal, exit_code: u8 },
    #[error("preempted ({signal}) before the workers were started; exit code {exit_code}")]
    Preempted { signal: Signal, exit_code: u8 },
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
/// Cancel it by dropping the future. A signal in `stops` ends it in order: the leader hears of it, if it can, and all
/// nodes end with the same code; a second one ends it at once.
///
/// What it learns it tells the monitor, which it also opens to whoever wants to read it.
pub async fn start_up(
    environment: &Environment,
    monitor: &Monitor,
    stops: mpsc::UnboundedReceiver<Signal>,
) -> Result<Started, StartUpError> {
    let sandbox = std::env::current_dir().map_err(Reason::NoSandbox)?;
    let environment = with_images(environment)?;
    Ok(start_up_in(&environment, &sandbox, monitor, stops).await?)
}

/// The job's environment with what its image has saved below it.
fn with_images(environment: &Environment) -> Result<Environment, Reason> {
    let Restored { environment, names } = image_env::restore(environment)?;
    if !names.is_empty() {
        info!("from the image's environment: {}", image_env::list(&names));
    }
    Ok(environment)
}

async fn start_up_in(
    environment: &Environment,
    sandbox: &Path,
    monitor: &Monitor,
    mut stops: mpsc::UnboundedReceiver<Signal>,
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
    let settings = rendezvous_settings(&config, &host, metrics_port, monitor, &preparations, begin);
    let board = CypressBoard::new(client.clone(), config.yt_path.clone(), config.links.clone());
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
        signal = next_stop(&mut stops) => {
            let told = stop::tell(signal, &config, &preparations, meeting, &mut stops).await;
            return Err(told.err().unwrap_or(Reason::MetTooEarly));
        }
    };
    debug!("binds and secrets are there after {:.3} s", begin.elapsed().as_secs_f64());
    monitor.begin(Phase::Rendezvous);
    let mut stop = None;
    let membership = tokio::select! {
        met = &mut meeting => met?,
        signal = next_stop(&mut stops) => {
            stop = Some(signal);
            stop::tell(signal, &config, &preparations, meeting, &mut stops).await?
        }
    };
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
    let sidecars = plan_sidecars(&config, environment, &user, &python_path, &membership)?;
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
    Ok(Started { plan, membership, stop })
}

fn stop_deadline_file(config: &Config) -> PathBuf {
    config.sandbox.join(OWN_FOLDER).join("stop_deadline")
}

/// What the rendezvous must know.
fn rendezvous_settings(
    config: &Config,
    host: &str,
    metrics_port: Option<u16>,
    monitor: &Monitor,
    preparations: &Preparations,
    begin: Instant,
) -> Settings {
    Settings {
        mesh: config.mesh,
        node_rank: config.node_rank,
        operation_id: config.operation_id.clone(),
        job_id: config.job_id.clone(),
        ports: config.ports.clone(),
        metrics_port,
        progress: preparations.watch(),
        pulses: monitor.pulses(),
        host: host.to_owned(),
        advertise_host: config.advertise_host.clone(),
        heartbeat: config.heartbeat_timeout,
        patience: config.rendezvous_timeout,
        deadline: begin + config.rendezvous_timeout,
    }
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
            Self::ImageEnv(_)
            | Self::Config(_)
            | Self::Client(_)
            | Self::Unpack(_)
            | Self::Place(_)
            | Self::Secret(_) => InitExit::BadConfig,
            Self::Placement(_) => InitExit::PreflightFailed,
            Self::NoSandbox(_)
            | Self::Interrupted(_)
            | Self::Affinity(_)
            | Self::WorkerConfig { .. }
            | Self::MetTooEarly => InitExit::Internal,
            Self::Rendezvous(error) => return error.exit_code(),
            Self::Stopped { exit_code, .. } | Self::Preempted { exit_code, .. } => return *exit_code,
        };
        exit.code()
    }
}

#[cfg(test)]
mod tests;
