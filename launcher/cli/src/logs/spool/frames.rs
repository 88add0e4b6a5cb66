//! The lines of one table in a spool file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use tractorun_contract::logs::rows;
use tractorun_contract::logs::spool::{FrameHeader, Record};

use super::file::read_whole;
use crate::logs::row::{Content, Line};

/// A frame, and where its payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
}

/// Frames of one table, in the order in which its process wrote.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    file: Arc<File>,
    frames: Vec<Frame>,
}

// === impl Frames ===

impl Frames {
    pub(super) fn new(file: Arc<File>, frames: Vec<Frame>) -> Self {
        Self { file, frames }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.frames.len()
    }

    /// What stands before the lines of each.
    pub(super) fn headers(&self) -> impl Iterator<Item = FrameHeader> + '_ {
        self.frames.iter().map(|frame| frame.header)
    }

    /// The lines (rows) of one of them.
    pub(crate) fn lines(&self, index: usize) -> io::Result<Vec<Line>> {
        let Some(Frame { header, offset }) = self.frames.get(index) else { return Ok(Vec::new()) };
        let mut payload = vec![0; header.length as usize];
        if !read_whole(&self.file, &mut payload, *offset)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut lines = Vec::new();
        let mut at = 0;
        while let Some((record, range)) = Record::read(&payload, at) {
            at = range.end;
            for (message, end) in rows(payload.get(range).unwrap_or_default()) {
                lines.push(Line {
                    timestamp: i64::try_from(record.time_us).unwrap_or(i64::MAX),
                    seq: header.lines_before + lines.len() as u64,
                    attempt: record.attempt,
                    stream: record.stream,
                    content: Content::Text { message: message.to_vec(), end },
                });
            }
        }
        Ok(lines)
    }
}
