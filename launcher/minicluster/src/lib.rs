//! A single-machine server of the YT HTTP API, with real jobs.
//!
//! It owns what a cluster would: Cypress with its transactions and locks (`cypress`), the bytes behind it
//! (`storage`), operations and their jobs (`operations`), and the HTTP front in front of them (`http`,
//! `commands`). It knows nothing of tractorun, only of YT, and it refuses what it does not know.

pub mod commands;
pub mod cypress;
pub mod error;
pub mod faults;
pub mod formats;
pub mod guid;
mod http;
mod keeper;
pub mod operations;
mod server;
pub mod storage;
pub mod value;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use faults::Faults;
use operations::{JobKind, Operations, OperationsConfig, OperationsError};
pub use server::Tokens;
use server::{Server, ServerArtifacts};
use storage::{DataFolder, Storage};
pub use storage::{FolderConfig, OpenError, Sync};

/// How a server is started.
#[derive(Debug, Clone)]
pub struct MiniclusterConfig {
    /// The address to listen on.
    pub listen: IpAddr,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// Who may ask.
    pub tokens: Tokens,
    /// The loopback port of the control endpoint, 0 for a free one; without it there is none.
    pub control_port: Option<u16>,
    /// How jobs are run.
    pub job_kind: JobKind,
    /// Bytes of memory for a job of a task without a `memory_limit`; without any, as many as there are.
    pub default_memory_limit: Option<u64>,
    /// What becomes of the state at the end.
    pub state: StateConfig,
}

/// What becomes of the state when the server ends.
#[derive(Debug, Clone, Default)]
pub enum StateConfig {
    /// It goes: it lives in memory and in a temporary folder.
    #[default]
    Temporary,
    /// It is kept in a folder, and the next server goes on with it.
    Kept {
        /// The folder; made if missing.
        folder: PathBuf,
        /// How it is used.
        config: FolderConfig,
    },
}

impl Default for MiniclusterConfig {
    fn default() -> Self {
        MiniclusterConfig {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            tokens: Tokens::default(),
            control_port: None,
            job_kind: JobKind::default(),
            default_memory_limit: Some(operations::DEFAULT_MEMORY_LIMIT),
            state: StateConfig::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no place for files.
    #[error("cannot make a folder for files in `{path}`: {source}")]
    Folder {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder that keeps the state cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Jobs cannot be run here.
    #[error(transparent)]
    Operations(#[from] OperationsError),
}

/// A running server. Dropping it without [`Minicluster::shutdown`] leaves jobs to their own fate.
#[derive(Debug)]
pub struct Minicluster {
    address: SocketAddr,
    control_address: Option<SocketAddr>,
    controlling: Option<JoinHandle<()>>,
    server: Arc<Server>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    timer: JoinHandle<()>,
    operations: Arc<Operations>,
    /// Everything that is on disk, if it is removed at the end.
    folder: Option<tempfile::TempDir>,
}

impl Minicluster {
    /// Starts a server. When this returns, it listens.
    #[allow(clippy::unused_async, reason = "it starts tasks, so it must be called where they can run")]
    pub async fn start(config: MiniclusterConfig) -> Result<Minicluster, StartError> {
        let asked = SocketAddr::new(config.listen, config.port);
        let listen_error = |source| StartError::Listen { address: asked, source };
        let listener = http::listen(asked).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let control = config.control_port.map(listen_for_control).transpose()?;
        let control_address = control.as_ref().and_then(|listener| listener.local_addr().ok());
        let (server, folder, slots, kept) = match config.state {
            StateConfig::Temporary => {
                let folder_error = |source| StartError::Folder { path: std::env::temp_dir(), source };
                let folder =
                    tempfile::Builder::new().prefix("minicluster-").tempdir().map_err(folder_error)?;
                let storage = Storage::open(folder.path().join("blobs")).map_err(folder_error)?;
                let slots = folder.path().join("slots");
                (Server::new(storage, config.tokens, address), Some(folder), slots, BTreeMap::new())
            }
            StateConfig::Kept { folder, config: folder_config } => {
                let folder = DataFolder::open(&folder, folder_config)?;
                let slots = folder.path().join("slots");
                let (server, kept) = Server::restore(folder, config.tokens, address)?;
                (server, None, slots, kept)
            }
        };
        let server = Arc::new(server);
        let operations = Operations::new(
            OperationsConfig {
                slots,
                node_address: format!("localhost:{}", address.port()),
                job_kind: config.job_kind,
                default_memory_limit: config.default_memory_limit,
            },
            Arc::new(ServerArtifacts::new(&server)),
        )?;
        operations.restore(kept);
        server.set_operations(Arc::clone(&operations));
        let (stop, stopped) = watch::channel(false);
        let timer = tokio::spawn(Arc::clone(&server).keep_time());
        let controlling =
            control.map(|listener| tokio::spawn(faults::serve(listener, Faults::new(Arc::clone(&server)))));
        let serving = tokio::spawn(http::serve(listener, Arc::clone(&server), stopped));
        Ok(Minicluster {
            address,
            control_address,
            controlling,
            server,
            stop,
            serving,
            timer,
            operations,
            folder,
        })
    }

    /// Where the control endpoint listens, if there is one.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// Faults on demand, and counters.
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.server))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in order: no job is left, then no connection, then no file.
    pub async fn shutdown(self) {
        self.operations.shutdown().await;
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::warn!(%error, "the server did not end in order");
        }
        self.timer.abort();
        if let Some(controlling) = &self.controlling {
            controlling.abort();
        }
        if let Err(error) = self.server.settle().await {
            tracing::warn!(%error, "the last changes are not kept");
        }
        let Some(folder) = self.folder else { return };
        let path = folder.path().to_owned();
        if let Err(error) = folder.close() {
            tracing::warn!(path = %path.display(), %error, "could not remove the folder");
        }
    }
}

/// On loopback only, whatever the server listens on: whoever reaches it may break everything.
fn listen_for_control(port: u16) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    http::listen(address).map_err(|source| StartError::Listen { address, source })
}
