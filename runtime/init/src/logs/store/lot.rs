//! What goes into a table together, and how much that is.

use crate::logs::block::{Block, Content};

/// How much of a table there is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) struct Totals {
    /// Rows, those about dropped lines included.
    pub(in crate::logs) rows: u64,
    /// Rows that hold lines.
    pub(in crate::logs) lines: u64,
    /// Their bytes, ends included.
    pub(in crate::logs) bytes: u64,
    /// Lines that were dropped.
    pub(in crate::logs) dropped_lines: u64,
    /// Their bytes.
    pub(in crate::logs) dropped_bytes: u64,
}

/// Lines that are gone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) struct Loss {
    pub(in crate::logs) lines: u64,
    pub(in crate::logs) bytes: u64,
}

/// Blocks of one table that go together.
#[derive(Debug, Clone)]
pub(in crate::logs) struct Lot {
    /// Index of the table.
    pub(in crate::logs) table: usize,
    pub(in crate::logs) blocks: Vec<Block>,
    /// Number of their first row.
    pub(in crate::logs) first_seq: u64,
    /// What is in the table once they are.
    pub(in crate::logs) after: Totals,
}

/// How much may be on its way at a time. At least one block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) struct Limit {
    /// Bytes of blocks in memory: they stay there until they are in the table.
    pub(in crate::logs) memory: u64,
    /// Bytes of blocks in the spool.
    pub(in crate::logs) spooled: u64,
}

/// How much waits that is not on its way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) struct Pending {
    pub(in crate::logs) bytes: u64,
    /// Tables that it is for.
    pub(in crate::logs) tables: usize,
}

// === impl Totals ===

impl Totals {
    /// The sum of two tables.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            lines: self.lines + other.lines,
            bytes: self.bytes + other.bytes,
            dropped_lines: self.dropped_lines + other.dropped_lines,
            dropped_bytes: self.dropped_bytes + other.dropped_bytes,
        }
    }

    pub(super) fn add(&mut self, block: &Block) {
        self.rows += block.rows;
        if let Content::Dropped(dropped) = &block.content {
            self.dropped_lines += dropped.lines;
            self.dropped_bytes += dropped.bytes;
        } else {
            self.lines += block.rows;
            self.bytes += block.bytes;
        }
    }
}
