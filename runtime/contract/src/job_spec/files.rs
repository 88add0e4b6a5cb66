//! Files that travel to the job, and where they go.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// A local file or folder that travelled as an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Name of the archive (tar + zstd) in the sandbox.
    pub archive: String,
    /// Where its single top entry goes: a path in the container; a relative one starts in the sandbox.
    /// The archive's top entry is called `root` and is a file or a folder.
    pub destination: String,
    /// In how many files the archive comes.
    #[serde(default, skip_serializing_if = "PartCount::is_one")]
    pub parts: PartCount,
}

/// A local Python library that travelled as an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lib {
    /// Name of the archive (tar + zstd) in the sandbox; its single top entry is called `root`.
    pub archive: String,
    /// Name of the library: the folder that `import` looks for.
    pub name: String,
    /// In how many files the archive comes.
    #[serde(default, skip_serializing_if = "PartCount::is_one")]
    pub parts: PartCount,
}

/// In how many files of the sandbox an archive comes, at least one. Their contents, in order, are one stream of
/// zstd frames; their names are those of [`part_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartCount(pub NonZeroU32);

/// Name of the part of that index of the archive `archive`: the first has the archive's own name.
pub fn part_name(archive: &str, index: usize) -> String {
    if index == 0 { archive.to_owned() } else { format!("{archive}.{index}") }
}

/// A Cypress file that the cluster put into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CypressBind {
    /// Name of the file in the sandbox.
    pub file: String,
    /// Where it is to appear; a relative path starts in the sandbox.
    pub destination: String,
}

// === impl PartCount ===

impl PartCount {
    /// One file: the archive itself.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// Whether there is only one file.
    pub fn is_one(&self) -> bool {
        *self == Self::ONE
    }

    /// The names of an archive's files, in order.
    pub fn names(self, archive: &str) -> impl Iterator<Item = String> {
        (0..self.0.get() as usize).map(move |index| part_name(archive, index))
    }
}

impl Default for PartCount {
    fn default() -> Self {
        Self::ONE
    }
}
