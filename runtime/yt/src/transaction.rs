//! A transaction that pings itself.

use std::fmt;
use std::time::Duration;

use crate::client::Client;
use crate::error::{Error, YtError};

/// Id of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionId(String);

impl TransactionId {
    /// Wraps an id that somebody wrote down.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a transaction is started.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// It dies when it was not pinged for this long.
    pub timeout: Duration,
    /// Text for people.
    pub title: Option<String>,
    /// The transaction it is nested in, if not the client's own.
    pub parent: Option<TransactionId>,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), title: None, parent: None }
    }
}

/// Why a transaction is no longer held.
#[derive(Debug, Clone, PartialEq)]
pub enum LostReason {
    /// The cluster says that it does not exist.
    Gone(YtError),
    /// No ping came through within its timeout.
    NotPinged {
        /// How long ago the last ping came through.
        silence: Duration,
        /// Why the last ping failed.
        last_error: String,
    },
    /// It was committed or aborted by this very client, or dropped.
    Ended,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

/// A transaction that is pinged by a task of its own until it is committed, aborted or dropped.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    client: Client,
}

impl Client {
    /// Starts a transaction and its pings.
    pub async fn start_transaction(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        let _ = options;
        todo!()
    }

    /// Aborts a transaction that somebody else may have started. One that is gone already is fine.
    pub async fn abort_transaction(&self, id: &TransactionId) -> Result<(), Error> {
        let _ = id;
        todo!()
    }
}

impl Transaction {
    /// Its id.
    pub fn id(&self) -> &TransactionId {
        &self.id
    }

    /// The client whose commands run inside it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves when the transaction is no longer held, and why. Does not borrow the transaction.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        std::future::pending()
    }

    /// Commits it.
    pub async fn commit(self) -> Result<(), Error> {
        todo!()
    }

    /// Aborts it.
    pub async fn abort(self) -> Result<(), Error> {
        todo!()
    }
}
