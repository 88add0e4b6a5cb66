//! What can go wrong with a command: the cluster said no, or the cluster could not be asked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ytsaurus_yson::YsonValue;

use crate::config::io_text;
use crate::value;

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
    /// Authentication failed.
    pub const AUTHENTICATION_ERROR: i32 = 109;
    /// The token is wrong, or there is none.
    pub const INVALID_CREDENTIALS: i32 = 111;
    /// No such operation, as the scheduler says it.
    pub const NO_SUCH_OPERATION_SCHEDULER: i32 = 200;
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
    /// A job used more memory than it may; attributes `usage` and `limit`, in bytes.
    pub const MEMORY_LIMIT_EXCEEDED: i32 = 1200;
    /// The job archive is not there.
    pub const JOB_ARCHIVE_UNAVAILABLE: i32 = 1910;
    /// No such operation.
    pub const NO_SUCH_OPERATION: i32 = 1915;
    /// No such job.
    pub const NO_SUCH_JOB: i32 = 1916;
    /// The proxy is banned.
    pub const PROXY_BANNED: i32 = 2100;
    /// A process exited with another code than 0; attribute `exit_code`.
    pub const NON_ZERO_EXIT_CODE: i32 = 10000;
    /// A process was killed by a signal.
    pub const KILLED_BY_SIGNAL: i32 = 10001;
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
    /// An error without attributes and causes.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), attributes: BTreeMap::new(), inner_errors: Vec::new() }
    }

    /// The tree that an error document holds, such as an operation's `result/error`; `None` if it is none.
    pub fn from_value(value: &YsonValue) -> Option<Self> {
        use crate::value::ValueExt;
        use ytsaurus_yson::YsonNode;

        let attributes = match value.get("attributes").map(|attributes| &attributes.node) {
            Some(YsonNode::Map(map)) => map
                .iter()
                .map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.clone()))
                .collect(),
            _ => BTreeMap::new(),
        };
        let inner = value.get("inner_errors").and_then(ValueExt::as_list).unwrap_or_default();
        Some(Self {
            code: i32::try_from(value.get("code")?.as_int()?).ok()?,
            message: String::from_utf8_lossy(value.get("message")?.as_bytes()?).into_owned(),
            attributes,
            inner_errors: inner.iter().filter_map(Self::from_value).collect(),
        })
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        // A header's text is Latin-1 if it is not UTF-8.
        let json: serde_json::Value = serde_json::from_slice(json)
            .or_else(|_| serde_json::from_str(&json.iter().map(|byte| char::from(*byte)).collect::<String>()))
            .ok()?;
        Self::from_value(&value::from_json(&json))
    }

    /// Whether it only means "not now": the same command may go well soon. The codes are the official client's.
    pub fn is_transient(&self) -> bool {
        let transient = [
            codes::TIMEOUT,
            codes::TRANSPORT_ERROR,
            codes::UNAVAILABLE,
            codes::REQUEST_QUEUE_FULL,
            codes::USER_QUEUE_FULL,
            codes::PROXY_BANNED,
        ];
        transient.iter().any(|code| self.contains(*code))
    }

    /// Whether this error or one of its causes has that code.
    pub fn contains(&self, code: i32) -> bool {
        self.find(code).is_some()
    }

    /// The first error of that code in the tree, the outer one before its causes.
    pub fn find(&self, code: i32) -> Option<&Self> {
        if self.code == code {
            return Some(self);
        }
        self.inner_errors.iter().find_map(|inner| inner.find(code))
    }

    /// The cause of the cause: the first inner error, as deep as it goes.
    pub fn innermost(&self) -> &Self {
        self.inner_errors.first().map_or(self, Self::innermost)
    }
}

impl fmt::Display for YtError {
    /// One line: the outermost message and the innermost cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.message))?;
        let cause = self.innermost();
        if cause.message == self.message { Ok(()) } else { write!(f, ": {}", one_line(&cause.message)) }
    }
}

impl std::error::Error for YtError {}

/// In which way the cluster could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// No connection: refused, no route, no such host, too slow.
    Unreachable,
    /// A connection, but not to somebody whose certificate we trust.
    Untrusted,
    /// No answer in time.
    TimedOut,
    /// The connection broke before the answer was complete.
    Broken,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster said no.
    #[error(transparent)]
    Yt(#[from] YtError),
    /// The cluster does not know who asks.
    #[error("{}", credentials_text(proxy, *token_was_sent, error))]
    Credentials {
        /// URL of the proxy.
        proxy: String,
        /// Whether there was a token to send.
        token_was_sent: bool,
        /// What the cluster said.
        error: YtError,
    },
    /// The cluster could not be asked, or its answer did not come.
    #[error("{}", transport_text(*kind, proxy, command, cause, *tries, *elapsed))]
    Transport {
        /// In which way.
        kind: TransportKind,
        /// URL of the proxy.
        proxy: String,
        /// The command.
        command: &'static str,
        /// The system's words.
        cause: String,
        /// How often it was tried.
        tries: u32,
        /// For how long it was tried.
        elapsed: Duration,
    },
    /// The answer is no answer of this API.
    #[error("{proxy} does not answer `{command}` as a YT proxy does: {reason}")]
    Protocol {
        /// URL of the proxy.
        proxy: String,
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A lock was not acquired in time.
    #[error("lock on `{path}` was not acquired in {:.1} s: another transaction holds it", waited.as_secs_f64())]
    LockTimedOut {
        /// What should be locked.
        path: String,
        /// For how long it was waited.
        waited: Duration,
    },
    /// A local file could not be read.
    #[error("cannot read `{path}`: {}", io_text(error), path = path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The caller's value cannot be sent.
    #[error("cannot send `{command}`: {reason}")]
    BadInput {
        /// The command.
        command: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
}

impl Error {
    /// Whether the cluster said no with that code, anywhere in its error's tree.
    pub fn contains(&self, code: i32) -> bool {
        match self {
            Self::LockTimedOut { .. } => code == codes::LOCK_CONFLICT,
            _ => self.as_yt().is_some_and(|error| error.contains(code)),
        }
    }

    /// The cluster's own error, if it is one.
    pub fn as_yt(&self) -> Option<&YtError> {
        match self {
            Self::Yt(error) | Self::Credentials { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn credentials_text(proxy: &str, token_was_sent: bool, error: &YtError) -> String {
    let what = if token_was_sent { "does not accept the token" } else { "wants a token" };
    let where_to = if token_was_sent { "put a valid token" } else { "put your token" };
    format!("the cluster at {proxy} {what}: {error}\nhint: {where_to} into YT_TOKEN or into ~/.yt/token")
}

fn transport_text(
    kind: TransportKind,
    proxy: &str,
    command: &str,
    cause: &str,
    tries: u32,
    elapsed: Duration,
) -> String {
    let tries = match tries {
        0 | 1 => String::new(),
        _ => format!(" ({tries} tries in {:.1} s)", elapsed.as_secs_f64()),
    };
    match kind {
        TransportKind::Unreachable => {
            let hint = if cause == UNKNOWN_HOST && is_bare_name(proxy) {
                "give the full host name in YT_PROXY, or what a cluster's name is completed with in YT_PROXY_SUFFIX"
            } else {
                "check YT_PROXY, and whether this machine can connect to it"
            };
            format!("cannot reach the cluster at {proxy}: {cause}{tries}\nhint: {hint}")
        }
        TransportKind::Untrusted => format!(
            "cannot trust the cluster at {proxy}: {cause}\n\
             hint: YT_CA_BUNDLE names a file with the roots of a private certificate authority"
        ),
        TransportKind::TimedOut => {
            format!("the cluster at {proxy} does not answer `{command}`: {cause}{tries}")
        }
        TransportKind::Broken => {
            format!("the connection to the cluster at {proxy} broke during `{command}`: {cause}{tries}")
        }
    }
}

/// The cause of a failure to resolve the proxy's name.
pub(crate) const UNKNOWN_HOST: &str = "its host name cannot be resolved";

fn is_bare_name(proxy: &str) -> bool {
    proxy.split_once("//").is_some_and(|(_, host)| !host.contains(['.', ':']) && !host.contains("localhost"))
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> YtError {
        YtError::from_json(
            br#"{"code": 500, "message": "Error resolving path //x", "attributes": {"host": "m1"},
                 "inner_errors": [{"code": 1, "message": "wrapper", "inner_errors":
                   [{"code": 11000, "message": "No such transaction\n 1-2-3-4"}]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_text_is_one_line_of_the_outermost_and_the_innermost() {
        assert_eq!(tree().to_string(), "Error resolving path //x: No such transaction 1-2-3-4");
        assert_eq!(YtError::new(1, "alone").to_string(), "alone");
    }

    #[test]
    fn codes_are_found_anywhere_in_the_tree() {
        let tree = tree();
        assert!(tree.contains(500) && tree.contains(1) && !tree.contains(402));
        assert_eq!(tree.find(11000).unwrap().message, "No such transaction\n 1-2-3-4");
        assert_eq!(tree.attributes["host"].as_str(), Some("m1"));
    }

    #[test]
    fn latin_1_headers_are_read() {
        let error = YtError::from_json(b"{\"code\": 1, \"message\": \"caf\xe9\"}").unwrap();
        assert_eq!(error.message, "caf\u{e9}");
        assert_eq!(YtError::from_json(b"<html>"), None);
        assert_eq!(YtError::from_json(b"{\"code\": \"x\", \"message\": \"\"}"), None);
    }

    #[test]
    fn transport_errors_say_who_what_and_why() {
        let error = |kind, tries| {
            Error::Transport {
                kind,
                proxy: "http://h:1".into(),
                command: "get",
                cause: "because".into(),
                tries,
                elapsed: Duration::from_millis(4210),
            }
            .to_string()
        };
        assert_eq!(
            error(TransportKind::Unreachable, 3),
            "cannot reach the cluster at http://h:1: because (3 tries in 4.2 s)\n\
             hint: check YT_PROXY, and whether this machine can connect to it"
        );
        assert_eq!(
            error(TransportKind::TimedOut, 1),
            "the cluster at http://h:1 does not answer `get`: because"
        );
        assert_eq!(
            error(TransportKind::Broken, 1),
            "the connection to the cluster at http://h:1 broke during `get`: because"
        );
    }

    #[test]
    fn a_missing_token_is_not_called_a_wrong_one() {
        let error = |token_was_sent| {
            let error = YtError::new(codes::INVALID_CREDENTIALS, "Client is missing credentials");
            Error::Credentials { proxy: "http://h".into(), token_was_sent, error }
        };
        assert_eq!(
            error(false).to_string(),
            "the cluster at http://h wants a token: Client is missing credentials\n\
             hint: put your token into YT_TOKEN or into ~/.yt/token"
        );
        assert!(error(true).to_string().starts_with("the cluster at http://h does not accept the token: "));
        assert!(error(true).contains(codes::INVALID_CREDENTIALS));
    }
}
