//! The tensorproxy's program: where it lies on the cluster, and that it does, before anything is submitted.

use tractorun_yt::{Client, Error, YtError, codes};

use crate::operation::SandboxFile;
use crate::settings::{BindAttributes, Tensorproxy};

/// Where the cluster's administrator puts it; the Python tractorun looks there too.
pub const DEFAULT_YT_PATH: &str = "//sys/tractorun/tensorproxy";

/// Its name in the sandbox: none that a bind's destination is likely to be.
pub const FILE: &str = "tractorun-tensorproxy";

/// Why the program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TensorproxyError {
    /// There is nothing at its path.
    #[error(
        "tensorproxy: `{path}` does not exist on the cluster\n\
         hint: ask the cluster's administrator for it, or give the path of a copy with `--tensorproxy.yt_path`"
    )]
    Missing {
        /// The path.
        path: String,
    },
    /// There is something else.
    #[error("tensorproxy: `{path}` is a {node_type}: expected the file with the program")]
    NoFile {
        /// The path.
        path: String,
        /// Type of what is there.
        node_type: String,
    },
    /// The cluster refused to show it.
    #[error("tensorproxy: cannot look at `{path}`: {error}")]
    Refused {
        /// The path.
        path: String,
        /// What the cluster says.
        error: YtError,
    },
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(Error),
}

/// Sees that the program is on the cluster, if the job wants one.
pub async fn check(client: &Client, tensorproxy: Option<&Tensorproxy>) -> Result<(), TensorproxyError> {
    let Some(Tensorproxy { yt_path, .. }) = tensorproxy else { return Ok(()) };
    let path = yt_path.clone();
    // Without `&` Cypress follows links itself.
    match client.get(&format!("{yt_path}/@type")).await {
        Ok(node_type) if node_type.as_str() == Some("file") => Ok(()),
        Ok(node_type) => {
            let node_type = node_type.as_str().unwrap_or("node of no type").to_owned();
            Err(TensorproxyError::NoFile { path, node_type })
        }
        Err(Error::Yt(error)) if error.contains(codes::RESOLVE_ERROR) => {
            Err(TensorproxyError::Missing { path })
        }
        Err(Error::Yt(error)) => Err(TensorproxyError::Refused { path, error }),
        Err(error) => Err(TensorproxyError::Client(error)),
    }
}

/// The program as a file of the sandbox.
pub fn sandbox_file(tensorproxy: &Tensorproxy) -> SandboxFile {
    SandboxFile {
        name: FILE.to_owned(),
        path: tensorproxy.yt_path.clone(),
        attributes: BindAttributes { executable: Some(true), ..BindAttributes::default() },
    }
}
