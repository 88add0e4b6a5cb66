//! The user's environment variables.

use serde::{Deserialize, Serialize};

/// One environment variable of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub source: EnvSource,
    /// Who gets it: `"sidecars": false` keeps it from them.
    #[serde(rename = "sidecars", default, skip_serializing_if = "EnvScope::is_everybody")]
    pub scope: EnvScope,
}

/// Who gets an [`EnvVar`]; in JSON whether sidecars do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum EnvScope {
    /// Workers and sidecars.
    #[default]
    Everybody,
    /// Workers alone, such as for a secret that is not a sidecar's business.
    Workers,
}

/// Where the value of an [`EnvVar`] comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvSource {
    /// `{"name": .., "value": ..}`: the value itself, readable by all.
    Value(String),
    /// `{"name": .., "cypress_path": ..}`: a Cypress string node or document read inside the job.
    CypressPath(String),
}

// === impl EnvScope ===

impl EnvScope {
    /// Whether sidecars get the variable too.
    pub fn is_everybody(&self) -> bool {
        *self == Self::Everybody
    }
}

impl From<bool> for EnvScope {
    fn from(sidecars: bool) -> Self {
        if sidecars { Self::Everybody } else { Self::Workers }
    }
}

impl From<EnvScope> for bool {
    fn from(scope: EnvScope) -> Self {
        scope.is_everybody()
    }
}
