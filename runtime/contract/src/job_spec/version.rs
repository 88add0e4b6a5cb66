//! The version of a job spec.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version that this build writes and the newest that it reads.
pub const SPEC_VERSION: SpecVersion = SpecVersion { major: 1, minor: 0 };

/// Version of a job spec, written as `"major.minor"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecVersion {
    /// Changes when an older init could misread the spec.
    pub major: u32,
    /// Changes when fields are added that may be ignored.
    pub minor: u32,
}

// === impl SpecVersion ===

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpecVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| {
            serde::de::Error::custom(format!("version `{text}` is not of the form `major.minor`"))
        })
    }
}
