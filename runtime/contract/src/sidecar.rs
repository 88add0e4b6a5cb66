//! Which of a node's sidecars: what it is called in lines, records, metrics and the names of tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of a node's sidecars. In JSON the user's are numbers, and ours is the text `"tensorproxy"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SidecarId {
    /// The tensorproxy: it has no number, so that those of the user's sidecars are the same with and without it.
    #[serde(rename = "tensorproxy")]
    Tensorproxy,
    /// One of the user's, by its place in the job spec.
    #[serde(untagged)]
    Index(u32),
}

// === impl SidecarId ===

impl SidecarId {
    /// What tells it from the others of its node: `2`, `tensorproxy`.
    pub fn label(self) -> String {
        match self {
            Self::Tensorproxy => "tensorproxy".to_owned(),
            Self::Index(index) => index.to_string(),
        }
    }
}

impl fmt::Display for SidecarId {
    /// As a sentence names it: `sidecar 2`, `tensorproxy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensorproxy => f.write_str("tensorproxy"),
            Self::Index(index) => write!(f, "sidecar {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_and_names_are_texts() {
        for (id, json, label, text) in [
            (SidecarId::Index(2), serde_json::json!(2), "2", "sidecar 2"),
            (SidecarId::Tensorproxy, serde_json::json!("tensorproxy"), "tensorproxy", "tensorproxy"),
        ] {
            assert_eq!(serde_json::to_value(id).unwrap(), json);
            assert_eq!(serde_json::from_value::<SidecarId>(json).unwrap(), id);
            assert_eq!((id.label().as_str(), id.to_string().as_str()), (label, text));
        }
        assert!(serde_json::from_str::<SidecarId>("\"other\"").is_err());
    }
}
