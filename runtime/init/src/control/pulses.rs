//! When the other ends of the control channel were last heard of, for whoever wants to show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When each node was last heard of: on the leader all but itself, on the others the leader alone. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<BTreeMap<u32, Instant>>>);

// === impl Pulses ===

impl Pulses {
    /// That node said something, be it a heartbeat.
    pub(crate) fn heard(&self, node_rank: u32) {
        self.lock().insert(node_rank, Instant::now());
    }

    /// That node's connection is gone.
    pub(crate) fn gone(&self, node_rank: u32) {
        self.lock().remove(&node_rank);
    }

    /// How long ago each node that is connected was heard of, by rank.
    pub fn ages(&self) -> BTreeMap<u32, Duration> {
        self.lock().iter().map(|(node_rank, heard)| (*node_rank, heard.elapsed())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Instant>> {
        // Nothing in there is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
