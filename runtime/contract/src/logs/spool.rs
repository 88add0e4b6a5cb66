//! The spool file: lines that init could not ship yet, in a form that whoever finds the file can read and add to the
//! tables.
//!
//! ```text
//! file   = FileHeader as JSON, newline, frames
//! frame  = FrameHeader, payload
//! payload = records, each a RecordHeader and what one read gave of whole rows (see `row`)
//! ```
//!
//! Frames of all tables lie between each other. What init has shipped it gives back to the file system: there are
//! zeros then. A frame says how many lines and bytes its process wrote before it, so whoever knows how many the
//! table holds or names as dropped knows which of its lines are missing there, and how many are missing in front of
//! it. A frame without lines is the last of its table: nothing more was read. An init that was killed leaves none, and
//! perhaps a torn frame at the end.
//!
//! Init holds an exclusive lock (`flock`) on the file as long as it lives. All numbers are little-endian.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::row::Stream;

/// Name of the file, in [`FOLDER`].
pub const FILE_NAME: &str = "spool";

/// Where the file lies in a sandbox.
pub const FOLDER: [&str; 2] = [".tractorun", "logs"];

/// Version of the form.
pub const VERSION: u32 = 1;

/// How every frame begins.
pub const MAGIC: [u8; 4] = *b"\xf7TRL";

/// What the file is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// [`VERSION`].
    pub tractorun_spool: u32,
    /// Rank of the node.
    pub node_rank: u32,
    /// Its YT job id.
    pub job_id: String,
    /// Paths of its log tables, by their index in frames.
    pub tables: Vec<String>,
}

/// What stands before the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Index of the table.
    pub table: u32,
    /// Lines (rows) that the process wrote before those of this frame.
    pub lines_before: u64,
    /// Bytes of them, ends included.
    pub bytes_before: u64,
    /// Lines of this frame.
    pub lines: u64,
    /// Their bytes, ends included.
    pub bytes: u64,
    /// Length of the payload in bytes.
    pub length: u32,
}

/// What stands before each read of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Of which stream.
    pub stream: Stream,
    /// Of which attempt.
    pub attempt: u32,
    /// When it was read, in microseconds since 1970.
    pub time_us: u64,
}

// === impl FrameHeader ===

impl FrameHeader {
    /// Bytes that it takes.
    pub const BYTES: usize = 4 + 4 + 4 * 8 + 4 + 4;

    /// The bytes of the header of a frame with that payload.
    pub fn encode(&self, payload: &[u8]) -> [u8; Self::BYTES] {
        let Self { table, lines_before, bytes_before, lines, bytes, length } = *self;
        let mut out = [0; Self::BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&table.to_le_bytes());
        for (index, number) in [lines_before, bytes_before, lines, bytes].into_iter().enumerate() {
            out[8 + 8 * index..16 + 8 * index].copy_from_slice(&number.to_le_bytes());
        }
        out[40..44].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&out[..44], payload);
        out[44..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The header that these bytes are, if they may be one.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (table, rest) = rest.split_first_chunk()?;
        let (lines_before, rest) = rest.split_first_chunk()?;
        let (bytes_before, rest) = rest.split_first_chunk()?;
        let (lines, rest) = rest.split_first_chunk()?;
        let (written, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        (*magic == MAGIC).then(|| Self {
            table: u32::from_le_bytes(*table),
            lines_before: u64::from_le_bytes(*lines_before),
            bytes_before: u64::from_le_bytes(*bytes_before),
            lines: u64::from_le_bytes(*lines),
            bytes: u64::from_le_bytes(*written),
            length: u32::from_le_bytes(*length),
        })
    }

    /// Whether this is the payload that the header in these bytes was written for.
    pub fn is_whole(bytes: &[u8; Self::BYTES], payload: &[u8]) -> bool {
        checksum(&bytes[..44], payload).to_le_bytes() == bytes[44..]
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

// === impl Record ===

impl Record {
    /// Stream, attempt, time, length.
    pub const BYTES: usize = 1 + 4 + 8 + 4;

    /// Appends a record of what was read, in two parts.
    pub fn write(&self, head: &[u8], tail: &[u8], out: &mut Vec<u8>) {
        let Self { stream, attempt, time_us } = *self;
        out.push(match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        });
        out.extend_from_slice(&attempt.to_le_bytes());
        out.extend_from_slice(&time_us.to_le_bytes());
        // A read and the rest of a row are far below 4 GiB.
        let length = u32::try_from(head.len() + tail.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(head);
        out.extend_from_slice(tail);
    }

    /// The record that begins at `at` of a payload, and where what was read is; `None` at the end.
    pub fn read(payload: &[u8], at: usize) -> Option<(Self, Range<usize>)> {
        let header = payload.get(at..at + Self::BYTES)?;
        let (stream, rest) = header.split_first()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (time_us, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let stream = if *stream == 1 { Stream::Stdout } else { Stream::Stderr };
        let record =
            Self { stream, attempt: u32::from_le_bytes(*attempt), time_us: u64::from_le_bytes(*time_us) };
        let start = at + Self::BYTES;
        Some((record, start..start + u32::from_le_bytes(*length) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader = FrameHeader {
        table: 3,
        lines_before: 1 << 40,
        bytes_before: u64::MAX,
        lines: 7,
        bytes: 258,
        length: 5,
    };

    #[test]
    fn a_frame_reads_back_and_no_other_byte_passes_for_it() {
        let bytes = HEADER.encode(b"hello");
        assert_eq!(FrameHeader::decode(&bytes), Some(HEADER));
        assert!(FrameHeader::is_whole(&bytes, b"hello"));
        assert!(!FrameHeader::is_whole(&bytes, b"hellp") && !FrameHeader::is_whole(&bytes, b"hell"));
        for index in 0..FrameHeader::BYTES {
            let mut other = bytes;
            other[index] ^= 1;
            assert!(
                FrameHeader::decode(&other).is_none() || !FrameHeader::is_whole(&other, b"hello"),
                "byte {index}"
            );
        }
        assert_eq!(FrameHeader::decode(&[0; FrameHeader::BYTES]), None);
    }

    #[test]
    fn records_follow_each_other() {
        let first = Record { stream: Stream::Stderr, attempt: 300, time_us: 1 << 50 };
        let second = Record { stream: Stream::Stdout, attempt: 0, time_us: 0 };
        let mut payload = Vec::new();
        first.write(b"he", b"llo\n", &mut payload);
        second.write(b"", b"", &mut payload);
        let (found, range) = Record::read(&payload, 0).unwrap();
        assert_eq!((found, &payload[range.clone()]), (first, b"hello\n".as_slice()));
        let (found, rest) = Record::read(&payload, range.end).unwrap();
        assert_eq!((found, rest.len(), rest.end), (second, 0, payload.len()));
        assert_eq!(Record::read(&payload, rest.end), None);
    }

    #[test]
    fn the_first_line_says_what_it_is() {
        let header = FileHeader {
            tractorun_spool: VERSION,
            node_rank: 1,
            job_id: "1-2-3-4".to_owned(),
            tables: vec!["//x/logs/0/workers/2".to_owned()],
        };
        let json = serde_json::to_string(&header).unwrap();
        assert_eq!(
            json,
            r#"{"tractorun_spool":1,"node_rank":1,"job_id":"1-2-3-4","tables":["//x/logs/0/workers/2"]}"#
        );
        assert_eq!(serde_json::from_str::<FileHeader>(&json).unwrap(), header);
    }
}
