//! What a run does when something ends, or does not answer, that should not.

use serde::{Deserialize, Serialize};

/// Time limits of a run, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From init's start until every node has joined.
    pub rendezvous_ms: u64,
    /// A node not heard of for this long is lost.
    pub heartbeat_ms: u64,
    /// From SIGTERM to SIGKILL when workers are stopped.
    pub grace_period_ms: u64,
}

/// Restarts in place: after a failed worker all workers of all nodes are stopped and started again as the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// How many, at most; 0 for none.
    pub max: u32,
    /// Only restarts of the last so many milliseconds count against `max`; `null`: all of the run.
    pub window_ms: Option<u64>,
    /// From the end of the last worker to the start of the next attempt, in milliseconds.
    pub backoff_ms: u64,
    /// Exit codes of the failure record that are never answered by a restart, such as 137 for a worker killed by
    /// SIGKILL.
    pub never: Vec<u8>,
}

/// What a preemption is to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preemption {
    /// What every worker of every node gets.
    pub signal: PreemptionSignal,
    /// From that signal to SIGKILL, in milliseconds.
    pub timeout_ms: u64,
}

/// A signal that asks a worker to save what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreemptionSignal {
    /// As every other stop.
    #[serde(rename = "SIGTERM")]
    Term,
    /// As Ctrl-C: Python raises `KeyboardInterrupt`.
    #[serde(rename = "SIGINT")]
    Int,
    /// A user's own meaning.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// A user's own meaning; what Slurm's users choose most.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// A user's own meaning.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

// === impl Timeouts ===

impl Default for Timeouts {
    /// Ten minutes for nodes that the scheduler starts one by one; heartbeats survive a long pause of a
    /// loaded machine; ten seconds of grace are what container engines give.
    fn default() -> Self {
        Self { rendezvous_ms: 600_000, heartbeat_ms: 30_000, grace_period_ms: 10_000 }
    }
}

// === impl Restarts ===

impl Default for Restarts {
    /// None. The pause is for what the failure left behind elsewhere, such as a peer's connection.
    fn default() -> Self {
        Self { max: 0, window_ms: None, backoff_ms: 1_000, never: Vec::new() }
    }
}

impl Restarts {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Preemption ===

impl Default for Preemption {
    /// Long enough to save a checkpoint of some size, short enough to be over before an impatient cluster is.
    fn default() -> Self {
        Self { signal: PreemptionSignal::Term, timeout_ms: 30_000 }
    }
}

// === impl PreemptionSignal ===

impl PreemptionSignal {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("SIGTERM", Self::Term),
        ("SIGINT", Self::Int),
        ("SIGHUP", Self::Hup),
        ("SIGUSR1", Self::Usr1),
        ("SIGUSR2", Self::Usr2),
    ];
}
