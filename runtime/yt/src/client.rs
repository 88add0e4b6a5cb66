//! The client: a cheap handle on one cluster, and the scope that its commands carry.

use std::sync::Arc;

use crate::config::{ClientConfig, ConfigError};
use crate::token::Token;
use crate::transaction::TransactionId;
use crate::transport::health::Silence;
use crate::transport::http::Transport;

/// A client of one cluster. Cloning is cheap; clones share connections.
///
/// Needs a Tokio runtime with IO and time. Every command may be cancelled by dropping its future.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<Transport>,
    scope: Scope,
}

/// How many requests a client has sent, its clones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All, repetitions included.
    pub requests: u64,
    /// Those that were not answered, or with an error.
    pub failures: u64,
}

/// What commands carry beside their own parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) prerequisites: Vec<TransactionId>,
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self { transport: Arc::new(Transport::new(config)?), scope: Scope::default() })
    }

    /// The same client, whose commands run inside that transaction.
    #[must_use]
    pub fn in_transaction(&self, id: &TransactionId) -> Self {
        let mut client = self.clone();
        client.scope.transaction = Some(id.clone());
        client
    }

    /// The same client, whose commands are refused once that transaction is gone.
    #[must_use]
    pub fn with_prerequisite(&self, id: &TransactionId) -> Self {
        let mut client = self.clone();
        client.scope.prerequisites.push(id.clone());
        client
    }

    /// URL of the proxy, as `http://host:port`.
    pub fn proxy_url(&self) -> &str {
        &self.transport.config.proxy
    }

    /// The token, for whoever must hand it on.
    pub fn token(&self) -> Option<&str> {
        self.transport.config.token.as_ref().map(Token::expose)
    }

    /// URLs of the proxies that move data, those with the least load first; `None` if the proxy names none.
    pub async fn heavy_proxies(&self) -> Option<Vec<String>> {
        self.transport.ask_hosts().await.ok()
    }

    /// Whether the cluster leaves the commands of this client and its clones unanswered now. Every request that was
    /// just sent counts: who tells somebody looks at how long it lasts.
    pub fn silence(&self) -> Option<Silence> {
        self.transport.health.silence()
    }

    /// How many requests were sent by this client and its clones.
    pub fn request_counts(&self) -> RequestCounts {
        self.transport.request_counts()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}
