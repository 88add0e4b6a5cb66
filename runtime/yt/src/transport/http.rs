//! One HTTP request, and what its answer or its failure means.

use std::error::Error as StdError;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, Response, redirect};
use tokio::time::Instant;

use super::call::{Call, Method, new_guid};
use super::health::Health;
use super::heavy::HeavyProxies;
use super::retry::TryError;
use super::stream::{Incoming, silence};
use super::tls;
use crate::client::RequestCounts;
use crate::config::{ClientConfig, ConfigError, io_text};
use crate::error::{Error, TransportKind, UNKNOWN_HOST, YtError};

/// What all clones of a client share.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) config: ClientConfig,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    /// Whether anybody ever answered.
    contacted: AtomicBool,
    requests: AtomicU64,
    failures: AtomicU64,
    pub(crate) health: Health,
    pub(crate) heavy: Mutex<HeavyProxies>,
    /// Held by whoever asks for the list of proxies, so that many writes at once ask once.
    pub(super) asking_hosts: tokio::sync::Mutex<()>,
}

impl Transport {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let set_up = |reason: String| ConfigError::SetUp { reason };
        let url = reqwest::Url::parse(&config.proxy).map_err(|error| ConfigError::BadProxy {
            proxy: config.proxy.clone(),
            reason: error.to_string(),
        })?;
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("OAuth {}", token.expose()))
                    .map_err(|_| ConfigError::TokenCharacters { place: "given token".to_owned() })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            http: http_client(&config, &url)?.build().map_err(|error| set_up(error.to_string()))?,
            config,
            authorization,
            contacted: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            health: Health::default(),
            heavy: Mutex::default(),
            asking_hosts: tokio::sync::Mutex::default(),
        })
    }

    /// Takes note of a request that came to nothing.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What was sent so far.
    pub(crate) fn request_counts(&self) -> RequestCounts {
        RequestCounts {
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Whether anybody ever answered.
    pub(crate) fn contacted(&self) -> bool {
        self.contacted.load(Ordering::Relaxed)
    }

    pub(crate) fn with_heavy<T>(&self, act: impl FnOnce(&mut HeavyProxies) -> T) -> T {
        // Nothing in there is left half done by a panic.
        act(&mut self.heavy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a light command once and reads the answer.
    pub(crate) async fn light(&self, call: &Call) -> Result<Bytes, TryError> {
        let patience = call.timeout.unwrap_or(self.config.light_timeout);
        let exchange = async {
            let response = self.send(self.request(&self.config.proxy, call)?).await?;
            Incoming::new(response, patience).all().await
        };
        let sent = self.health.sent(call.command);
        let result =
            tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| Err(silence(patience)));
        sent.ended(&result);
        result
    }

    /// Sends a heavy command without input once; the body is still to be read.
    pub(crate) async fn heavy_read(&self, base: &str, call: &Call) -> Result<Response, TryError> {
        let sent = Instant::now();
        let result = self.heavy_read_once(base, call).await;
        self.health.ended(call.command, sent, &result);
        result
    }

    async fn heavy_read_once(&self, base: &str, call: &Call) -> Result<Response, TryError> {
        let patience = self.config.heavy_progress_timeout;
        let mut base = base.to_owned();
        for _ in 0..3 {
            let sent = self.raw(self.request(&base, call)?);
            let response =
                tokio::time::timeout(patience, sent).await.unwrap_or_else(|_| Err(silence(patience)))?;
            match redirected(&response, &base) {
                Some(other) => base = other,
                None => return self.judge(response).await,
            }
        }
        Err(TryError::NotYt { status: 307, reason: "it redirects in circles".to_owned() })
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, TryError> {
        let response = self.raw(request).await?;
        self.judge(response).await
    }

    /// The same for a heavy one, which says nothing of the cluster while it lasts.
    pub(crate) async fn send_heavy(
        &self,
        command: &'static str,
        request: RequestBuilder,
    ) -> Result<Response, TryError> {
        let sent = Instant::now();
        let result = self.send(request).await;
        self.health.ended(command, sent, &result);
        result
    }

    async fn raw(&self, request: RequestBuilder) -> Result<Response, TryError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(|error| failure(&error))?;
        self.contacted.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// A request without token and parameters: what is asked of a proxy itself.
    pub(crate) fn get_plain(&self, url: &str) -> RequestBuilder {
        self.http.get(url).timeout(self.config.connect_timeout)
    }

    /// A request with the token and without parameters.
    pub(crate) fn get_authorized(&self, url: &str) -> RequestBuilder {
        let request = self.http.get(url).timeout(self.config.light_timeout);
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    /// The request of a command, without the body of a heavy one.
    pub(crate) fn request(&self, base: &str, call: &Call) -> Result<RequestBuilder, TryError> {
        let bad = |reason: String| TryError::Ours(Error::BadInput { command: call.command, reason });
        let parameters = call.parameters.to_text().map_err(|error| bad(error.to_string()))?;
        let url = format!("{base}/api/v4/{}", call.command);
        let correlation_id = new_guid();
        tracing::debug!(command = call.command, proxy = base, correlation_id, "request");

        let mut request = match call.method {
            Method::Get => self.http.get(url),
            Method::Post => self.http.post(url),
            Method::Put => self.http.put(url),
        };
        request = request
            .header("X-YT-Header-Format", "<format=text>yson")
            .header("X-YT-Correlation-Id", correlation_id);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        Ok(match call.method {
            Method::Post => request.header(CONTENT_TYPE, "application/x-yt-yson-text").body(parameters),
            Method::Get | Method::Put => {
                let header = HeaderValue::from_bytes(&parameters).map_err(|error| bad(error.to_string()))?;
                let request = request.header("X-YT-Parameters", header);
                match &call.input {
                    Some(input) => request.body(input.clone()),
                    None => request,
                }
            }
        })
    }

    /// Tells an answer from an error by its head, as the official client does.
    async fn judge(&self, response: Response) -> Result<Response, TryError> {
        let status = response.status();
        if let Some(error) = error_in(response.headers()) {
            return Err(TryError::Cluster { status: status.as_u16(), error });
        }
        if status.is_success() {
            return Ok(response);
        }
        let location =
            response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Incoming::new(response, self.config.light_timeout).all().await?;
        if let Some(error) = YtError::from_json(&body) {
            return Err(TryError::Cluster { status: status.as_u16(), error });
        }
        let redirects = location.map(|location| format!(", it redirects to {location}")).unwrap_or_default();
        Err(TryError::NotYt { status: status.as_u16(), reason: format!("HTTP status {status}{redirects}") })
    }
}

/// The HTTP machinery for that configuration.
pub(crate) fn http_client(
    config: &ClientConfig,
    url: &reqwest::Url,
) -> Result<reqwest::ClientBuilder, ConfigError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::set_up(config)?)
        .user_agent(config.user_agent.clone())
        .connect_timeout(config.connect_timeout)
        // The proxies of a cluster redirect across hosts, where the token would be dropped.
        .redirect(redirect::Policy::none());
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(config.unacknowledged_timeout);
    // An HTTP_PROXY of the environment cannot reach this machine's own loopback.
    Ok(if is_loopback(url) { builder.no_proxy() } else { builder })
}

fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// The proxy that a control proxy names for a heavy command. Never one that is reached less safely.
fn redirected(response: &Response, base: &str) -> Option<String> {
    if !matches!(response.status().as_u16(), 307 | 308) {
        return None;
    }
    let base = reqwest::Url::parse(base).ok()?;
    let target = base.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    let safe = target.scheme() == base.scheme() || target.scheme() == "https";
    safe.then(|| target.origin().ascii_serialization())
}

/// The cluster's error in a head or a trailer.
pub(crate) fn error_in(headers: &HeaderMap) -> Option<YtError> {
    let code: i32 = headers.get("X-YT-Response-Code")?.to_str().ok()?.trim().parse().ok()?;
    if code == 0 {
        return None;
    }
    let whole = headers.get("X-YT-Error").and_then(|value| YtError::from_json(value.as_bytes()));
    Some(whole.unwrap_or_else(|| {
        let message =
            headers.get("X-YT-Response-Message").map(|value| String::from_utf8_lossy(value.as_bytes()));
        YtError::new(code, message.map_or_else(|| format!("error {code}"), std::borrow::Cow::into_owned))
    }))
}

/// What a failure of the HTTP machinery means.
pub(crate) fn failure(error: &reqwest::Error) -> TryError {
    let reason = Reason::of(error);
    let kind = if reason.untrusted {
        TransportKind::Untrusted
    } else if error.is_connect() {
        TransportKind::Unreachable
    } else if error.is_timeout() {
        TransportKind::TimedOut
    } else {
        TransportKind::Broken
    };
    TryError::Transport { kind, cause: reason.text }
}

/// The cause of a failure in words for a person.
struct Reason {
    text: String,
    untrusted: bool,
}

impl Reason {
    fn of(error: &reqwest::Error) -> Self {
        let mut text = "connection failed".to_owned();
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        if next.is_none() {
            text = error.to_string();
        }
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Self::of_io(error);
            }
            text = error.to_string();
            if text == "dns error" {
                return Self::plain(UNKNOWN_HOST);
            }
            next = error.source();
        }
        Self { text, untrusted: false }
    }

    fn of_io(error: &io::Error) -> Self {
        let Some(inner) = error.get_ref() else { return Self::plain(&io_text(error)) };
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            let untrusted = matches!(error, rustls::Error::InvalidCertificate(_));
            return Self { text: format!("TLS: {error}"), untrusted };
        }
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return Self::of_io(error);
        }
        Self::plain(&io_text(error))
    }

    fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), untrusted: false }
    }
}
