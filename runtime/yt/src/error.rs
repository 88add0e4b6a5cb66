//! What can go wrong with a command: the cluster said no, or the cluster could not be asked.

use std::collections::BTreeMap;
use std::fmt;

use ytsaurus_yson::YsonValue;

/// Codes of the cluster's errors that code decides by.
pub mod codes {
    /// Something timed out inside the cluster.
    pub const TIMEOUT: i32 = 3;
    /// The cluster could not talk to itself.
    pub const TRANSPORT_ERROR: i32 = 100;
    /// A service is not available now.
    pub const UNAVAILABLE: i32 = 105;
    /// Too many requests in a queue.
    pub const REQUEST_QUEUE_FULL: i32 = 108;
    /// The token is wrong, or there is none.
    pub const INVALID_CREDENTIALS: i32 = 111;
    /// No such operation (older servers).
    pub const NO_SUCH_OPERATION_OLD: i32 = 200;
    /// The operation is in a state that does not allow it.
    pub const INVALID_OPERATION_STATE: i32 = 201;
    /// Too many operations run already.
    pub const TOO_MANY_OPERATIONS: i32 = 202;
    /// No such job (older servers).
    pub const NO_SUCH_JOB_OLD: i32 = 203;
    /// The scheduler lost the master.
    pub const MASTER_DISCONNECTED: i32 = 218;
    /// Another transaction holds a lock.
    pub const LOCK_CONFLICT: i32 = 402;
    /// A path, attribute or object does not exist.
    pub const RESOLVE_ERROR: i32 = 500;
    /// The node exists already.
    pub const ALREADY_EXISTS: i32 = 501;
    /// The user may not do this.
    pub const AUTHORIZATION_ERROR: i32 = 901;
    /// Too many requests of this user.
    pub const USER_QUEUE_FULL: i32 = 904;
    /// A prerequisite transaction is gone.
    pub const PREREQUISITE_FAILED: i32 = 1000;
    /// No such operation.
    pub const NO_SUCH_OPERATION: i32 = 1915;
    /// No such job.
    pub const NO_SUCH_JOB: i32 = 1916;
    /// The proxy is banned.
    pub const PROXY_BANNED: i32 = 2100;
    /// No such transaction.
    pub const NO_SUCH_TRANSACTION: i32 = 11000;
}

/// An error of the cluster, a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct YtError {
    /// Code, see [`codes`].
    pub code: i32,
    /// Message.
    pub message: String,
    /// Attributes: host, time, ids.
    pub attributes: BTreeMap<String, YsonValue>,
    /// Causes.
    pub inner_errors: Vec<YtError>,
}

impl YtError {
    /// Whether this error or one of its causes has that code.
    pub fn contains(&self, code: i32) -> bool {
        self.find(code).is_some()
    }

    /// The first error of that code in the tree, outermost first.
    pub fn find(&self, code: i32) -> Option<&YtError> {
        let _ = code;
        todo!()
    }
}

impl fmt::Display for YtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for YtError {}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster said no.
    #[error(transparent)]
    Yt(#[from] YtError),
    /// The cluster could not be asked, or did not answer.
    #[error("{text}")]
    Transport {
        /// Who, what, and why, on one line, perhaps with a hint.
        text: String,
    },
    /// The answer is no answer of this API.
    #[error("{text}")]
    Protocol {
        /// Who said what, on one line.
        text: String,
    },
    /// A local file could not be read or written.
    #[error("{text}")]
    LocalFile {
        /// File and reason, on one line.
        text: String,
    },
}

impl Error {
    /// Whether the cluster said no with that code, anywhere in its error's tree.
    pub fn contains(&self, code: i32) -> bool {
        matches!(self, Self::Yt(error) if error.contains(code))
    }

    /// The cluster's own error, if it is one.
    pub fn as_yt(&self) -> Option<&YtError> {
        match self {
            Self::Yt(error) => Some(error),
            _ => None,
        }
    }
}
