//! Asynchronous client of the `YTsaurus` HTTP API (v4).
//!
//! Owns the configuration as the official Python client reads it ([`config`]), the transport with its
//! retries, heavy proxies and mutation ids, the cluster's error tree ([`YtError`]) and the commands that
//! the launcher and `tractorun-init` need ([`Client`]). It knows of no other crate of the project, starts no
//! process, and never shows a token.

pub mod client;
#[cfg(test)]
mod client_tests;
pub mod commands;
pub mod config;
pub mod error;
#[cfg(test)]
mod heavy_tests;
pub mod probe;
#[cfg(test)]
mod probe_tests;
#[cfg(test)]
mod testing;
pub mod token;
pub mod transaction;
#[cfg(test)]
mod transaction_tests;
mod transport;
pub mod value;

pub use ytsaurus_yson::{YsonNode, YsonValue};

pub use client::{Client, RequestCounts};
pub use commands::access::Permission;
pub use commands::batch::BatchRequest;
pub use commands::cypress::{
    CreateOptions, Lock, LockMode, LockWait, NodeType, RemoveOptions, TransferOptions,
};
pub use commands::files::{FileContent, FileReader, Md5, Progress};
pub use commands::operations::{JobFilter, OperationFilter, StderrRange};
pub use commands::rows::RowReader;
pub use commands::tables::Append;
pub use config::{ClientConfig, ConfigError};
pub use error::{Error, TransportKind, YtError, codes};
pub use token::Token;
pub use transaction::{LostReason, Transaction, TransactionId, TransactionOptions};
pub use transport::health::Silence;
