//! Why no client can be made.

use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used. No text holds a token.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody named a proxy.
    #[error(
        "no YT proxy is given\n\
         hint: set YT_PROXY, e.g. YT_PROXY=https://cluster.example.com, or `{{proxy={{url=\"...\"}}}}` in ~/.yt/config"
    )]
    NoProxy,
    /// The proxy's address cannot be used.
    #[error(
        "YT proxy `{proxy}` is not an address: {reason}\nhint: expected `https://host`, `host:port` or a cluster name"
    )]
    BadProxy {
        /// The address.
        proxy: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable's value cannot be used.
    #[error("{name} is `{value}`: expected {expected}")]
    BadVariable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The token has blanks around it, or none but blanks.
    #[error("{place} has whitespace around the token\nhint: remove spaces, tabs and line breaks")]
    TokenWhitespace {
        /// Where the token was found.
        place: String,
    },
    /// The token has characters that no token has.
    #[error("{place} has characters that a token cannot have: expected printable ASCII without blanks")]
    TokenCharacters {
        /// Where the token was found.
        place: String,
    },
    /// The token's file holds nothing.
    #[error("token file `{path}` is empty", path = path.display())]
    TokenFileEmpty {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{what} `{path}` cannot be read: {reason}", path = path.display(), reason = io_text(error))]
    Unreadable {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The configuration file is no configuration.
    #[error("YT config `{path}`{place}: {reason}", path = path.display(), place = at_line(*line))]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// The CA bundle is no bundle.
    #[error("CA bundle `{path}` holds no certificate\nhint: YT_CA_BUNDLE names a file with PEM certificates", path = path.display())]
    NoCertificates {
        /// The file.
        path: PathBuf,
    },
    /// The TLS or HTTP machinery refused its set-up.
    #[error("cannot set up the HTTP client: {reason}")]
    SetUp {
        /// Why.
        reason: String,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// The system's words for an IO error, in lower case and without the number.
pub(crate) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
