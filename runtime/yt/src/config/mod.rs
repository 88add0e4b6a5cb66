//! How to reach the cluster: proxy, token, roots, time budgets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::token::Token;

/// Everything a [`crate::Client`] needs to know.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// URL of the proxy: scheme, host, and a port where it is not the scheme's own.
    pub proxy: String,
    /// Token, where the cluster asks for one.
    pub token: Option<Token>,
    /// File with the PEM roots that the proxy's certificate is checked against.
    pub ca_bundle: Option<PathBuf>,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// How long a failing command is retried in all.
    pub retry_budget: Duration,
    /// How long it is retried while this client has never been answered at all: a wrong address shows soon.
    pub first_contact_budget: Duration,
    /// Time for one connection to be made.
    pub connect_timeout: Duration,
    /// Time for one try of a light command.
    pub light_timeout: Duration,
    /// Time without any progress after which a heavy command's try is given up.
    pub heavy_progress_timeout: Duration,
    /// Send heavy commands to the proxies that `/hosts` names.
    pub proxy_discovery: bool,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// To be filled.
    #[error("{0}")]
    Text(String),
}

impl ClientConfig {
    /// Configuration with defaults for that proxy: a URL, `host:port` or a bare cluster name.
    pub fn new(proxy: &str, token: Option<Token>) -> Result<Self, ConfigError> {
        let _ = (proxy, token);
        todo!()
    }

    /// Configuration as the official Python client finds it: environment, then `~/.yt`.
    pub fn from_environment(
        environment: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let _ = (environment, home);
        todo!()
    }
}
