//! Blocks: what lines are kept in until they are in their tables.
//!
//! A block is a sequence of records; a record is what one read gave of whole rows, with a header. The same bytes lie
//! in memory and in the spool.

use bytes::Bytes;
pub(super) use tractorun_contract::logs::spool::Record;

/// Rows that are kept together.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) content: Content,
    /// Rows of its table that it makes.
    pub(super) rows: u64,
    /// What the process wrote: without headers.
    pub(super) bytes: u64,
    /// Rows and bytes that the process wrote before.
    pub(super) before: Written,
    /// Blocks that are older have smaller numbers, whatever their table.
    pub(super) age: u64,
    /// Attempt of its first record.
    pub(super) attempt: u32,
    /// When its first record was read, in microseconds since 1970.
    pub(super) since_us: u64,
}

/// How much a process has written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Where a block is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// In memory.
    Memory(Bytes),
    /// In the spool file.
    Spooled(Extent),
    /// Nowhere: in place of lines that were dropped.
    Dropped(Dropped),
}

/// A place in the spool file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Lines that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    pub(super) attempt: u32,
    /// When they were dropped, in microseconds since 1970.
    pub(super) time_us: u64,
}

// === impl Block ===

impl Block {
    /// Bytes that it takes, wherever it is.
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Spooled(extent) => extent.length,
            Content::Dropped(_) => 0,
        }
    }
}
