//! A close look at the way to a proxy, for somebody who looks for a fault: which addresses it has, and what each of
//! them says. Nothing is tried again here, and no token is sent.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::StatusCode;
use reqwest::header::DATE;

use crate::config::{ClientConfig, ConfigError};
use crate::error::TransportKind;
use crate::transport::http::{failure, http_client};
use crate::transport::retry::TryError;

/// Which way a greeting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight to that address.
    To(SocketAddr),
    /// As a client goes: through what `HTTPS_PROXY` and its kin name, to whichever address answers.
    AsClientsGo,
}

/// An answer of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// From the first packet to the answer's head, connecting included.
    pub took: Duration,
    /// Its clock, to the second, and this machine's half way through.
    pub clocks: Option<(SystemTime, SystemTime)>,
}

/// Why a proxy does not greet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its name leads nowhere, or nobody listens.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody listens, and TLS fails.
    #[error("{0}")]
    Tls(String),
    /// It took the connection and said nothing.
    #[error("{0}")]
    Silent(String),
    /// It says that it does not serve now.
    #[error("{0}")]
    Unavailable(String),
    /// What answers is no YT proxy.
    #[error("{0}")]
    Strange(String),
}

/// Addresses of the configured proxy. The error is the reason in words.
pub async fn addresses(config: &ClientConfig) -> Result<Vec<SocketAddr>, String> {
    let url = reqwest::Url::parse(&config.proxy).map_err(|error| error.to_string())?;
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // Without /etc/resolv.conf there is still /etc/hosts.
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    match tokio::time::timeout(config.connect_timeout, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => Ok(found.iter().map(|address| SocketAddr::new(address, port)).collect()),
        Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
            Err("no such name".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no name server answers within {} s", config.connect_timeout.as_secs())),
    }
}

/// Asks the proxy what every proxy tells everybody.
pub async fn greet(config: &ClientConfig, way: Way) -> Result<Result<Greeting, Refusal>, ConfigError> {
    let set_up = |error: reqwest::Error| ConfigError::SetUp { reason: error.to_string() };
    let url = reqwest::Url::parse(&config.proxy)
        .map_err(|error| ConfigError::BadProxy { proxy: config.proxy.clone(), reason: error.to_string() })?;
    let mut builder = http_client(config, &url)?.timeout(config.light_timeout);
    if let Way::To(address) = way {
        builder = builder.no_proxy().resolve(url.host_str().unwrap_or_default(), address);
    }
    let http = builder.build().map_err(set_up)?;
    Ok(ask(&http, &config.proxy).await)
}

async fn ask(http: &reqwest::Client, proxy: &str) -> Result<Greeting, Refusal> {
    let (began, sent) = (Instant::now(), SystemTime::now());
    let response = http.get(format!("{proxy}/api")).send().await.map_err(|error| refusal(&error))?;
    let took = began.elapsed();
    let status = response.status();
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    // The header's second began half a second ago, taken over all answers.
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = date.map(|date| date + Duration::from_millis(500));
    let body = response.text().await.map_err(|error| refusal(&error))?;
    let versions: Option<Vec<String>> = serde_json::from_str(&body).ok();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Refusal::Unavailable(format!("HTTP status {status}")));
    }
    if !status.is_success() {
        return Err(Refusal::Strange(format!("HTTP status {status}")));
    }
    if !versions.is_some_and(|versions| versions.iter().any(|version| version == "v4")) {
        return Err(Refusal::Strange("it does not answer as a YT proxy does".to_owned()));
    }
    Ok(Greeting { took, clocks: theirs.map(|theirs| (theirs, sent + took / 2)) })
}

fn refusal(error: &reqwest::Error) -> Refusal {
    match failure(error) {
        TryError::Transport { kind: TransportKind::Untrusted, cause } => Refusal::Tls(cause),
        TryError::Transport { cause, .. } if cause.starts_with("TLS: ") => Refusal::Tls(cause),
        // A timeout while connecting is one of a way that swallows packets.
        TryError::Transport { kind: TransportKind::Unreachable, cause } => {
            let timed_out = error.is_timeout() || cause.contains("timed out");
            Refusal::Unreachable(if timed_out { "no answer to a connection".to_owned() } else { cause })
        }
        TryError::Transport { kind: TransportKind::TimedOut, .. } => {
            Refusal::Silent("it takes connections and does not answer".to_owned())
        }
        TryError::Transport { cause, .. } => Refusal::Unavailable(cause),
        _ => Refusal::Strange(error.to_string()),
    }
}
