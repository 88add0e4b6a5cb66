//! How to reach the cluster: proxy, token, roots, time budgets.
//!
//! [`ClientConfig::from_environment`] finds them where the official Python client does: environment first,
//! then the configuration file, then `~/.yt/token`. It reads files, but the process' environment and the
//! home folder are handed to it.

mod error;
mod file;
mod proxy;
mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::error::ConfigError;
pub(crate) use self::error::io_text;
use self::file::Settings;
use crate::token::Token;

/// Everything a [`crate::Client`] needs to know.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// URL of the proxy: scheme, host, and a port where it is not the scheme's own.
    pub proxy: String,
    /// Token, where the cluster asks for one.
    pub token: Option<Token>,
    /// Where the token was found: a variable or a file.
    pub token_place: Option<String>,
    /// File with the PEM roots that the proxy's certificate is checked against; the system's otherwise.
    pub ca_bundle: Option<PathBuf>,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// How long a failing command is retried in all.
    pub retry_budget: Duration,
    /// How long it is retried while this client was never answered at all: a wrong address shows soon.
    pub first_contact_budget: Duration,
    /// Pause before the first retry; it doubles with each.
    pub first_pause: Duration,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// Time for one connection to be made.
    pub connect_timeout: Duration,
    /// Time after which a connection is given up whose other end does not take what was sent. Where the system cannot
    /// tell, the other limits have to do.
    pub unacknowledged_timeout: Duration,
    /// Time for one try of a light command.
    pub light_timeout: Duration,
    /// Time without any progress after which one try of a heavy command is given up.
    pub heavy_progress_timeout: Duration,
    /// Send heavy commands to the proxies that `/hosts` names.
    pub proxy_discovery: bool,
}

/// Who a program asks for the value of an environment variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl ClientConfig {
    /// Configuration with defaults for that proxy: a URL, `host:port` or a host name.
    pub fn new(proxy: &str, token: Option<Token>) -> Result<Self, ConfigError> {
        let rules = proxy::Rules { aliases: &BTreeMap::new(), suffix: "", prefer_https: false };
        let proxy = proxy::url(proxy, &rules)?;
        if let Some(token) = &token {
            token::check(token, "given token")?;
        }
        Ok(Self::with_defaults(proxy, token))
    }

    /// Configuration as the official Python client finds it.
    ///
    /// Proxy: `YT_PROXY` or `proxy/url` of the configuration file; a name among the aliases
    /// (`YT_PROXY_URL_ALIASING_CONFIG`, `proxy/aliases`) stands for its value, and a bare name gets
    /// `YT_PROXY_SUFFIX` (`proxy/default_suffix`). Token: `YT_TOKEN` or `token`, then the file that
    /// `YT_TOKEN_PATH` or `token_path` names, then `~/.yt/token`. Configuration file: `YT_CONFIG_PATH`,
    /// `~/.yt/config` or `/etc/ytclient.conf`, in YSON.
    pub fn from_environment(environment: &Environment<'_>, home: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(environment, home, Path::new("/etc/ytclient.conf"))
    }

    fn from_sources(
        environment: &Environment<'_>,
        home: Option<&Path>,
        global_file: &Path,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::from_file(environment, home, global_file)?;
        settings.take_environment(environment)?;

        let proxy =
            settings.proxy.as_deref().filter(|proxy| !proxy.is_empty()).ok_or(ConfigError::NoProxy)?;
        let rules = proxy::Rules {
            aliases: &settings.aliases,
            suffix: settings.suffix.as_deref().unwrap_or_default(),
            prefer_https: settings.prefer_https,
        };
        let proxy = proxy::url(proxy, &rules)?;
        let token = if settings.enable_token { token::find(&settings, home)? } else { None };
        let (token, token_place) = token.unzip();

        let mut config = Self::with_defaults(proxy, token);
        config.token_place = token_place;
        config.ca_bundle = settings.ca_bundle.map(PathBuf::from);
        config.proxy_discovery = settings.proxy_discovery;
        Ok(config)
    }

    fn with_defaults(proxy: String, token: Option<Token>) -> Self {
        Self {
            proxy,
            token,
            token_place: None,
            ca_bundle: None,
            user_agent: concat!("tractorun/", env!("CARGO_PKG_VERSION")).to_owned(),
            // The times of the official client, but for the first pause: a restarting proxy is often back sooner.
            retry_budget: Duration::from_mins(2),
            first_contact_budget: Duration::from_secs(5),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(5),
            unacknowledged_timeout: Duration::from_secs(30),
            light_timeout: Duration::from_secs(20),
            heavy_progress_timeout: Duration::from_mins(1),
            proxy_discovery: true,
        }
    }
}

#[cfg(test)]
mod tests;
