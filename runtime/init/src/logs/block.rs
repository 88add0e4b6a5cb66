//! Blocks: what lines are kept in until they are in their tables.
//!
//! A block is a sequence of records; a record is what one read gave of whole rows, with a header. The same bytes lie
//! in memory and in the spool.

use std::ops::Range;

use bytes::Bytes;

use crate::metrics::OutputStream;

/// Header of a record: stream, attempt, time, length.
const HEADER_BYTES: usize = 1 + 4 + 8 + 4;

/// Rows that are kept together.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) content: Content,
    /// Rows of its table that it makes.
    pub(super) rows: u64,
    /// What the process wrote: without headers.
    pub(super) bytes: u64,
    /// Blocks that are older have smaller numbers, whatever their table.
    pub(super) age: u64,
    /// Attempt of its first record.
    pub(super) attempt: u32,
    /// When its first record was read, in microseconds since 1970.
    pub(super) since_us: u64,
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

/// Header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stream: OutputStream,
    pub(super) attempt: u32,
    /// When it was read, in microseconds since 1970.
    pub(super) time_us: u64,
}

// === impl Record ===

impl Record {
    /// Appends a record with that payload, in two parts.
    pub(super) fn write(&self, head: &[u8], tail: &[u8], out: &mut Vec<u8>) {
        let Self { stream, attempt, time_us } = *self;
        out.push(match stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        });
        out.extend_from_slice(&attempt.to_le_bytes());
        out.extend_from_slice(&time_us.to_le_bytes());
        // A read and the rest of a row are far below 4 GiB.
        let length = u32::try_from(head.len() + tail.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(head);
        out.extend_from_slice(tail);
    }

    /// The record that begins at `at`, and where its payload is; `None` at the end of the block.
    pub(super) fn read(block: &[u8], at: usize) -> Option<(Self, Range<usize>)> {
        let header = block.get(at..at + HEADER_BYTES)?;
        let (stream, rest) = header.split_first()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (time_us, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let stream = if *stream == 1 { OutputStream::Stdout } else { OutputStream::Stderr };
        let record =
            Self { stream, attempt: u32::from_le_bytes(*attempt), time_us: u64::from_le_bytes(*time_us) };
        let start = at + HEADER_BYTES;
        Some((record, start..start + u32::from_le_bytes(*length) as usize))
    }
}
