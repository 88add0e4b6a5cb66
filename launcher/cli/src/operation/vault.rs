//! The secrets of an operation.

use std::collections::BTreeMap;
use std::fmt;

use tractorun_contract::env;
use tractorun_yt::{YsonValue, value};

/// The operation's `secure_vault`: what the cluster shows to nobody but the jobs.
///
/// `Debug` prints the keys only and there is no way to serialize it; `expose` is for the one request
/// that starts the operation.
#[derive(Clone, Default, PartialEq)]
pub struct Vault {
    secrets: BTreeMap<String, YsonValue>,
}

impl Vault {
    /// Adds a secret, or replaces the one of that key.
    pub fn insert(&mut self, key: &str, secret: YsonValue) {
        self.secrets.insert(key.to_owned(), secret);
    }

    /// Adds the token that init talks to the cluster with.
    pub fn insert_yt_token(&mut self, token: &str) {
        self.insert(env::VAULT_YT_TOKEN, value::string(token));
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The keys, sorted: they may be shown.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The secrets themselves.
    pub(super) fn expose(&self) -> YsonValue {
        value::map(self.secrets.iter().map(|(key, secret)| (key, secret.clone())))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.keys().map(|key| (key, "***"))).finish()
    }
}
