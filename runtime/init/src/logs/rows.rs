//! Rows as the cluster takes them: binary YSON, written by hand, since this is what all output goes through.
//!
//! All rows of one record (what one read gave) share their beginning, so a row costs two copies and a number.

use std::io;

use bytes::Bytes;
use tractorun_contract::logs::column;

use super::block::{Block, Content, Dropped, Record};
use super::cut::{self, LineEnd};
use super::spool::Reader;
use crate::metrics::OutputStream;

/// Rows are handed on in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Room for the row that crosses that line.
const PIECE_ROOM: usize = PIECE_BYTES + 8 * 1024;

/// Rows of blocks, piece by piece.
pub(super) struct Encoder {
    blocks: std::vec::IntoIter<Block>,
    reader: Reader,
    /// Number of the next row.
    seq: u64,
    /// What is read now: a block's bytes, and how far.
    current: Option<(Bytes, usize)>,
    /// The record whose rows are not all written: the rest of its bytes, as a range of the block.
    record: Option<(usize, usize)>,
    /// How every row of that record begins.
    beginning: Vec<u8>,
}

// === impl Encoder ===

impl Encoder {
    /// The rows of these blocks, numbered from `seq`.
    pub(super) fn new(blocks: Vec<Block>, reader: Reader, seq: u64) -> Self {
        Self { blocks: blocks.into_iter(), reader, seq, current: None, record: None, beginning: Vec::new() }
    }

    /// Fills `out` until it has a piece or there is no more.
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while out.len() < PIECE_BYTES {
            let Some((bytes, at)) = &mut self.current else {
                match self.blocks.next().map(|block| block.content) {
                    None => return Ok(()),
                    Some(Content::Memory(bytes)) => self.current = Some((bytes, 0)),
                    Some(Content::Spooled(extent)) => self.current = Some((self.reader.read(extent)?, 0)),
                    Some(Content::Dropped(dropped)) => {
                        write_dropped(&dropped, self.seq, out);
                        self.seq += 1;
                    }
                }
                continue;
            };
            let Some((mut start, end)) = self.record.take() else {
                match Record::read(bytes, *at) {
                    None => self.current = None,
                    Some((record, range)) => {
                        *at = range.end;
                        write_beginning(&record, &mut self.beginning);
                        self.record = Some((range.start, range.end));
                    }
                }
                continue;
            };
            while let Some((message, line_end, rest)) = cut::first_row(&bytes[start..end]) {
                write_row(&self.beginning, self.seq, message, line_end, out);
                self.seq += 1;
                start = end - rest.len();
                if out.len() >= PIECE_BYTES {
                    break;
                }
            }
            self.record = (start < end).then_some((start, end));
        }
        Ok(())
    }
}

impl Iterator for Encoder {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut out = Vec::with_capacity(PIECE_ROOM);
        match self.fill(&mut out) {
            Err(error) => Some(Err(error)),
            Ok(()) if out.is_empty() => None,
            Ok(()) => Some(Ok(out.into())),
        }
    }
}

/// `{datetime=..;fd=..;timestamp=..;attempt=..;`
fn write_beginning(record: &Record, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'{');
    let Record { stream, attempt, time_us } = *record;
    write_uint(column::DATETIME, time_us / 1_000_000, out);
    write_key(column::FD, out);
    write_string(stream.name().as_bytes(), out);
    out.push(b';');
    write_uint(column::TIMESTAMP, time_us, out);
    write_uint(column::ATTEMPT, attempt.into(), out);
}

fn write_row(beginning: &[u8], seq: u64, message: &[u8], line_end: LineEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(beginning);
    write_uint(column::SEQ, seq, out);
    if line_end != LineEnd::Newline {
        write_key(column::LINE_END, out);
        write_string(line_end.bytes(), out);
        out.push(b';');
    }
    write_key(column::MESSAGE, out);
    write_string(message, out);
    out.extend_from_slice(b"};");
}

fn write_dropped(dropped: &Dropped, seq: u64, out: &mut Vec<u8>) {
    let Dropped { lines, bytes, attempt, time_us } = *dropped;
    let mut beginning = Vec::new();
    write_beginning(&Record { stream: OutputStream::Stderr, attempt, time_us }, &mut beginning);
    write_uint(column::DROPPED_LINES, lines, &mut beginning);
    write_uint(column::DROPPED_BYTES, bytes, &mut beginning);
    let text = format!("tractorun-init: {lines} lines ({bytes} bytes) are missing here: logs.spool was full");
    write_row(&beginning, seq, text.as_bytes(), LineEnd::Newline, out);
}

fn write_key(name: &str, out: &mut Vec<u8>) {
    write_string(name.as_bytes(), out);
    out.push(b'=');
}

/// `name=number;`
fn write_uint(name: &str, number: u64, out: &mut Vec<u8>) {
    write_key(name, out);
    out.push(0x06);
    write_varint(number, out);
    out.push(b';');
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(0x01);
    // The length is signed, so in zigzag: twice itself.
    write_varint(2 * bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        // Seven bits at a time, the lowest first.
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use tractorun_yt::value::ValueExt;
    use ytsaurus_yson::YsonValue;
    use ytsaurus_yson::de::StreamDeserializer;

    use super::*;
    use crate::logs::spool::{Spool, tests::header};
    use crate::logs::store::{Limit, Store};

    /// `seq`, `fd`, `message`, `line_end`, `attempt`.
    type Shown<'a> = (u64, &'a [u8], &'a [u8], Option<&'a [u8]>, u64);

    const ALL: Limit = Limit { memory: u64::MAX, spooled: u64::MAX };

    /// What a reader of the cluster makes of it.
    fn decode(fragment: &[u8]) -> Vec<YsonValue> {
        let mut stream = StreamDeserializer::<YsonValue>::new(fragment, true);
        std::iter::from_fn(|| stream.next_item().unwrap()).collect()
    }

    fn encode(blocks: Vec<Block>, reader: Reader, seq: u64) -> Vec<u8> {
        Encoder::new(blocks, reader, seq).flat_map(|piece| piece.unwrap()).collect()
    }

    #[test]
    fn rows_have_all_columns_and_any_bytes() {
        let mut store = Store::new(1);
        let record = |stream, attempt| Record { stream, attempt, time_us: 1_700_000_000_123_456 };
        store.push(0, &record(OutputStream::Stdout, 0), b"he", b"llo\n\xff\0\r\n\n");
        store.push(0, &record(OutputStream::Stderr, 300), b"50%\rend", b"");
        let lot = store.take(0, ALL).unwrap();
        let rows = decode(&encode(lot.blocks, Spool::new("/nonexistent".into(), &header()).reader(), 127));
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                let bytes = |key| row.get(key).and_then(ValueExt::as_bytes);
                let number = |key| row.get(key).and_then(ValueExt::as_uint);
                assert_eq!(number("datetime"), Some(1_700_000_000));
                assert_eq!(number("timestamp"), Some(1_700_000_000_123_456));
                (
                    number("seq").unwrap(),
                    bytes("fd").unwrap(),
                    bytes("message").unwrap(),
                    bytes("line_end"),
                    number("attempt").unwrap(),
                )
            })
            .collect();
        let expected: [Shown<'_>; 5] = [
            (127, b"stdout", b"hello", None, 0),
            (128, b"stdout", b"\xff\0", Some(b"\r\n"), 0),
            (129, b"stdout", b"", None, 0),
            (130, b"stderr", b"50%", Some(b"\r"), 300),
            (131, b"stderr", b"end", Some(b""), 300),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn pieces_are_small_however_many_rows_a_block_has_and_spooled_blocks_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().to_owned(), &header());
        let mut store = Store::new(1);
        let record = Record { stream: OutputStream::Stdout, attempt: 0, time_us: 7 };
        for size in [1, 100_000, 1_000_000] {
            store.push(0, &record, &b"\n".repeat(100_000), &b"x".repeat(size));
            store.push(0, &record, b"\n", b"");
        }
        let in_memory = store.take(0, ALL).unwrap();
        store.unpin(0);
        let mut rows = 0;
        let mut whole = Vec::new();
        for piece in Encoder::new(in_memory.blocks.clone(), spool.reader(), 0) {
            let piece = piece.unwrap();
            assert!(piece.len() <= PIECE_BYTES + 1_000_200, "{}", piece.len());
            rows += decode(&piece).len();
            whole.extend_from_slice(&piece);
        }
        assert_eq!(rows as u64, in_memory.after.rows);
        while let Some((table, at, block)) = store.oldest_in_memory() {
            let extent = spool.append(table, &block).unwrap();
            store.moved(table, at, extent);
        }
        let spooled = store.take(0, ALL).unwrap();
        assert_eq!(store.memory(), 0);
        assert!(encode(spooled.blocks, spool.reader(), 0) == whole);
    }

    #[test]
    fn a_row_says_what_is_missing() {
        let mut store = Store::new(1);
        let record = Record { stream: OutputStream::Stdout, attempt: 2, time_us: 7 };
        store.push(0, &record, b"gone\ngone too\n", b"");
        store.drop_oldest(3_000_000).unwrap();
        let lot = store.take(0, ALL).unwrap();
        let rows = decode(&encode(lot.blocks, Spool::new("/nonexistent".into(), &header()).reader(), 5));
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let number = |key| row.get(key).and_then(ValueExt::as_uint);
        assert_eq!(
            (
                number("seq"),
                number("datetime"),
                number("attempt"),
                number("dropped_lines"),
                number("dropped_bytes")
            ),
            (Some(5), Some(3), Some(2), Some(2), Some(14))
        );
        assert_eq!(
            row.get("message").and_then(ValueExt::as_bytes).unwrap(),
            b"tractorun-init: 2 lines (14 bytes) are missing here: logs.spool was full"
        );
        assert_eq!(lot.after.rows, 1);
    }
}
