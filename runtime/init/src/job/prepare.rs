//! What a node does while the others come: its files, its secrets, and what of the machine each worker gets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;
use tractorun_contract::env;
use tractorun_contract::job_spec::{Bind, CypressBind, Lib, PartCount};
use tractorun_sys::CpuSet;
use tractorun_yt::Client;

use super::config::Config;
use super::placement::{self, Allotment, Machine, Request};
use super::{Environment, OWN_FOLDER, Reason, place, secrets, unpack};
use crate::control::progress::{Preparations, Step};
use crate::metrics::{Monitor, Phase};

/// What is known when secrets are there: the user's variables, and what workers with these get of the machine.
pub(super) struct Placed {
    pub(super) user: Vec<(OsString, OsString)>,
    /// By local rank.
    pub(super) allotments: Vec<Allotment>,
    /// CPUs that init may run on.
    pub(super) allowed: CpuSet,
}

/// Tells blocking work that nobody waits for it any more.
#[derive(Debug, Default)]
struct CancelOnDrop(Arc<AtomicBool>);

/// Unpacks and fetches secrets, side by side; gives the folders for `PYTHONPATH` and what is placed.
pub(super) async fn prepare(
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

/// Unpacks and places all files, off the async threads; gives the folders for `PYTHONPATH`.
pub(super) async fn prepare_files(config: &Config) -> Result<Vec<PathBuf>, Reason> {
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
pub(super) fn place_workers(
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

// === impl CancelOnDrop ===

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
