//! The kernel's word that memory ran out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Processes of the node's control group that the kernel has killed since its workers were started, since there was
/// no memory left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// How many; 0 where nobody counts them ([`OomEvidence::FailCount`], [`OomEvidence::Cluster`]).
    pub kills: u64,
    /// Where this is known from.
    pub evidence: OomEvidence,
    /// The memory limit of the control group, if it has one, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

/// Which of the kernel's files says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomEvidence {
    /// `oom_kill` in `memory.events` of cgroup v2.
    MemoryEvents,
    /// `oom_kill` in `memory.oom_control` of cgroup v1.
    OomControl,
    /// `memory.failcnt` of cgroup v1 has risen, on a kernel before 4.13, which counts no kills: a process that was
    /// killed by SIGKILL is likely, not surely, one of them.
    FailCount,
    /// The cluster, which killed the whole job: it watches the memory limit itself, beside the kernel.
    Cluster,
    /// Something newer than this program.
    #[serde(other)]
    Other,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.evidence {
            OomEvidence::FailCount => "probably out of memory",
            OomEvidence::MemoryEvents
            | OomEvidence::OomControl
            | OomEvidence::Cluster
            | OomEvidence::Other => "out of memory",
        })?;
        match self.limit_bytes {
            Some(limit) => write!(f, " (limit {})", Bytes(limit)),
            None => Ok(()),
        }
    }
}

/// A number of bytes for people: `8.0 GiB`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0) {
            // In tenths, rounded.
            Some((unit, shift)) => {
                let tenths = (u128::from(self.0) * 10 + (1 << (shift - 1))) >> shift;
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_words() {
        let known = OutOfMemory { kills: 1, evidence: OomEvidence::OomControl, limit_bytes: Some(8 << 30) };
        assert_eq!(known.to_string(), "out of memory (limit 8.0 GiB)");
        let guessed = OutOfMemory { kills: 0, evidence: OomEvidence::FailCount, limit_bytes: None };
        assert_eq!(guessed.to_string(), "probably out of memory");
    }

    #[test]
    fn bytes_are_rounded_to_tenths() {
        for (bytes, text) in [
            (5, "5 B"),
            (1536, "1.5 KiB"),
            (100 << 20, "100.0 MiB"),
            (1_610_612_735, "1.5 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
