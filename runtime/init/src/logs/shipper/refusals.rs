//! Tables that the cluster refuses to write to: they are left alone for a while, so that the others go on.

use tokio::time::Instant;

use crate::logs::pace;

/// What is known of each table.
#[derive(Debug)]
pub(super) struct Refusals(Vec<Refused>);

#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    /// How often in a row.
    times: u32,
    not_before: Option<Instant>,
}

// === impl Refusals ===

impl Refusals {
    /// None of so many tables was refused.
    pub(super) fn new(tables: usize) -> Self {
        Self(vec![Refused::default(); tables])
    }

    /// Tables that there are.
    pub(super) fn tables(&self) -> usize {
        self.0.len()
    }

    /// Whether a table is not to be left alone.
    pub(super) fn is_ready(&self, table: usize, now: Instant) -> bool {
        self.0[table].not_before.is_none_or(|at| at <= now)
    }

    /// When the next one is to be tried again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.iter().filter_map(|refused| refused.not_before).filter(|at| *at > now).min()
    }

    /// Whether every table was taken when it was tried last.
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|refused| refused.not_before.is_none())
    }

    /// A table was taken.
    pub(super) fn taken(&mut self, table: usize) {
        self.0[table] = Refused::default();
    }

    /// A table was refused.
    pub(super) fn refused(&mut self, table: usize, now: Instant) {
        let refused = &mut self.0[table];
        refused.times += 1;
        refused.not_before = Some(now + pace::pause(refused.times, rand::random()));
    }
}
