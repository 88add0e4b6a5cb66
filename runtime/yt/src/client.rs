//! The client: a cheap handle on one cluster, and the scope that its commands carry.

use crate::config::{ClientConfig, ConfigError};
use crate::transaction::TransactionId;

/// A client of one cluster. Cloning is cheap; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// Makes a client. Nothing is sent yet.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let _ = config;
        todo!()
    }

    /// The same client, whose commands run inside that transaction.
    #[must_use]
    pub fn in_transaction(&self, id: &TransactionId) -> Self {
        let _ = id;
        todo!()
    }

    /// The same client, whose commands are refused once that transaction is gone.
    #[must_use]
    pub fn with_prerequisite(&self, id: &TransactionId) -> Self {
        let _ = id;
        todo!()
    }

    /// URL of the proxy, as `http://host:port`.
    pub fn proxy_url(&self) -> &str {
        todo!()
    }

    /// The token, for whoever must hand it on.
    pub fn token(&self) -> Option<&str> {
        todo!()
    }
}
