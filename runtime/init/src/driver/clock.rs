//! The supervisor's time.

use std::time::Duration;

use tokio::time::Instant;

/// Counts from init's start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

// === impl Clock ===

impl Clock {
    /// Starts now; `main` does it first of all.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }
}
