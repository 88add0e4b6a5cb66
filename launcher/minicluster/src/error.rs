//! The error document of YT: a code, a text, attributes and the errors it was caused by.
//!
//! Every command ends in a value or in a [`YtError`]. Clients look for codes anywhere in the tree, so an inner
//! error carries a code only where the real cluster puts one there.

use std::collections::BTreeMap;
use std::fmt;

use ytsaurus_yson::YsonValue;

use crate::value;

/// Codes that this server answers with. Names are YT's own.
#[allow(missing_docs, reason = "each name is the meaning that YT gives to the number")]
pub mod code {
    pub const GENERIC: i32 = 1;
    pub const NO_SUCH_METHOD: i32 = 103;
    pub const INVALID_CREDENTIALS: i32 = 111;
    pub const NO_SUCH_OPERATION: i32 = 200;
    pub const INVALID_OPERATION_STATE: i32 = 201;
    pub const SORT_ORDER_VIOLATION: i32 = 301;
    pub const UNIQUE_KEY_VIOLATION: i32 = 306;
    pub const SCHEMA_VIOLATION: i32 = 307;
    pub const INVALID_SCHEMA_VALUE: i32 = 314;
    pub const INCOMPATIBLE_SCHEMAS: i32 = 316;
    pub const SAME_TRANSACTION_LOCK_CONFLICT: i32 = 400;
    pub const DESCENDANT_TRANSACTION_LOCK_CONFLICT: i32 = 401;
    pub const CONCURRENT_TRANSACTION_LOCK_CONFLICT: i32 = 402;
    pub const PENDING_LOCK_CONFLICT: i32 = 403;
    pub const RESOLVE_ERROR: i32 = 500;
    pub const ALREADY_EXISTS: i32 = 501;
    pub const AUTHORIZATION_ERROR: i32 = 901;
    pub const ACCOUNT_LIMIT_EXCEEDED: i32 = 902;
    pub const PREREQUISITE_CHECK_FAILED: i32 = 1000;
    pub const NO_SUCH_TRANSACTION: i32 = 11000;
}

/// One node of an error tree.
#[derive(Debug, Clone, PartialEq)]
pub struct YtError {
    /// The number that clients decide by.
    pub code: i32,
    /// One line for people.
    pub message: String,
    /// Facts about the error.
    pub attributes: BTreeMap<String, YsonValue>,
    /// What caused it.
    pub inner: Vec<YtError>,
}

impl YtError {
    /// An error with a code and a text.
    pub fn new(code: i32, message: impl Into<String>) -> YtError {
        YtError { code, message: message.into(), attributes: BTreeMap::new(), inner: Vec::new() }
    }

    /// An error that has no code of its own.
    pub fn generic(message: impl Into<String>) -> YtError {
        YtError::new(code::GENERIC, message)
    }

    /// Code 500: no such node, attribute or object.
    pub fn resolve(message: impl Into<String>) -> YtError {
        YtError::new(code::RESOLVE_ERROR, message)
    }

    /// Code 500 around its cause, as the master wraps everything that goes wrong on the way to a node.
    #[must_use]
    pub fn resolving(path: &str, cause: YtError) -> YtError {
        YtError::resolve(format!("Error resolving path {path}")).with_inner(cause)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: YsonValue) -> YtError {
        self.attributes.insert(name.to_owned(), value);
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn with_inner(mut self, inner: YtError) -> YtError {
        self.inner.push(inner);
        self
    }

    /// Whether this code is anywhere in the tree.
    pub fn contains(&self, code: i32) -> bool {
        self.code == code || self.inner.iter().any(|inner| inner.contains(code))
    }

    /// The document as a YSON map with all four keys.
    pub fn to_yson(&self) -> YsonValue {
        value::map([
            ("code", value::int64(i64::from(self.code))),
            ("message", value::string(&self.message)),
            ("attributes", value::map(self.attributes.iter().map(|(k, v)| (k.as_str(), v.clone())))),
            ("inner_errors", value::list(self.inner.iter().map(YtError::to_yson))),
        ])
    }

    /// The document as JSON text in ASCII on one line, fit for a header.
    pub fn to_json(&self) -> String {
        crate::formats::json::to_ascii_line(&self.to_yson())
    }
}

impl fmt::Display for YtError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        for inner in &self.inner {
            write!(formatter, ": {inner}")?;
        }
        Ok(())
    }
}

impl std::error::Error for YtError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_ascii_line_with_all_keys() {
        let error = YtError::resolving("//x", YtError::generic("caf\u{e9}\nline"))
            .with_attribute("path", value::string("//x"));
        assert_eq!(
            error.to_json(),
            r#"{"attributes":{"path":"//x"},"code":500,"inner_errors":[{"attributes":{},"code":1,"inner_errors":[],"message":"caf\u00e9\nline"}],"message":"Error resolving path //x"}"#
        );
    }

    #[test]
    fn codes_are_found_at_any_depth() {
        let error = YtError::resolving("//x", YtError::new(code::NO_SUCH_TRANSACTION, "gone"));
        assert!(error.contains(code::NO_SUCH_TRANSACTION) && error.contains(500) && !error.contains(501));
    }
}
