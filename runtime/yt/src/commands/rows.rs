//! Rows of a static table one by one, from any row on: for tables that do not fit into memory and that grow
//! while they are read.
//!
//! When the connection breaks the reader asks again from the first row that it has not given, so that no row is
//! lost or given twice. That holds for tables whose rows are only ever added.

use std::ops::Range;

use bytes::Bytes;
use ytsaurus_yson::{YsonFormat, YsonNode, YsonValue};

use crate::client::Client;
use crate::error::Error;
use crate::transport::call::{Call, binary_yson};
use crate::transport::exec::Attempts;
use crate::transport::retry::TryError;
use crate::transport::stream::Incoming;
use crate::value::{int, list, map, string, with_attributes};

/// Rows that are being read. See [`Client::open_rows`].
#[derive(Debug)]
pub struct RowReader {
    client: Client,
    path: String,
    columns: Vec<String>,
    /// Rows that were not given yet.
    rows: Range<u64>,
    stream: Option<Stream>,
}

/// One answer of the cluster.
#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    proxy: String,
    fragment: Fragment,
}

/// Binary YSON of rows, as far as it came.
#[derive(Debug, Default)]
struct Fragment {
    bytes: Vec<u8>,
    /// Where the next row begins.
    start: usize,
}

impl Client {
    /// Reads these rows of a table, by their numbers from 0, and of each only these columns, or all if none is
    /// named. Rows behind the table's end are none. Nothing is sent yet.
    pub fn open_rows(&self, path: &str, rows: Range<u64>, columns: &[&str]) -> RowReader {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        RowReader { client: self.clone(), path: path.to_owned(), columns, rows, stream: None }
    }
}

// === impl RowReader ===

impl RowReader {
    /// Number of the row that [`RowReader::next`] gives.
    pub fn position(&self) -> u64 {
        self.rows.start
    }

    /// The next row, a map; `None` when there is none left. After an error it goes on with the same row.
    pub async fn next(&mut self) -> Result<Option<YsonValue>, Error> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let client = self.client.clone();
        let transport = client.transport();
        let mut attempts = Attempts::new("read_table", crate::transport::retry::Repeat::Freely);
        loop {
            let proxy = match &self.stream {
                Some(stream) => stream.proxy.clone(),
                None => transport.heavy_proxy().await,
            };
            match self.advance(&proxy).await {
                Ok(Some(row)) => {
                    self.rows.start += 1;
                    return Ok(Some(row));
                }
                Ok(None) => {
                    self.rows.start = self.rows.end;
                    self.stream = None;
                    return Ok(None);
                }
                Err(error) => {
                    self.stream = None;
                    transport.blame(&proxy, &error);
                    attempts.failed(transport, &proxy, error).await?;
                }
            }
        }
    }

    async fn advance(&mut self, proxy: &str) -> Result<Option<YsonValue>, TryError> {
        if self.stream.is_none() {
            let transport = self.client.transport();
            let response = transport.heavy_read(proxy, &self.call()).await?;
            let incoming = Incoming::new(response, transport.config.heavy_progress_timeout);
            self.stream = Some(Stream { incoming, proxy: proxy.to_owned(), fragment: Fragment::default() });
        }
        match &mut self.stream {
            Some(stream) => stream.next().await,
            None => Ok(None),
        }
    }

    fn call(&self) -> Call {
        let limit = |row: u64| map([("row_index", int(i64::try_from(row).unwrap_or(i64::MAX)))]);
        let range = map([("lower_limit", limit(self.rows.start)), ("upper_limit", limit(self.rows.end))]);
        let mut path = with_attributes(string(&self.path), [("ranges", list([range]))]);
        if !self.columns.is_empty() {
            path = with_attributes(path, [("columns", list(self.columns.iter().map(string)))]);
        }
        Call::read("read_table")
            .scoped(self.client.scope())
            .with("path", path)
            .with("output_format", binary_yson())
    }
}

// === impl Stream ===

impl Stream {
    async fn next(&mut self) -> Result<Option<YsonValue>, TryError> {
        loop {
            let row = match self.fragment.next()? {
                Some(row) => row,
                None => match self.incoming.chunk().await? {
                    Some(chunk) => {
                        self.fragment.add(&chunk);
                        continue;
                    }
                    None => match self.fragment.rest()? {
                        Some(row) => row,
                        None => return Ok(None),
                    },
                },
            };
            // An entity with attributes says something of the rows that follow.
            if !matches!(row.node, YsonNode::Entity) {
                return Ok(Some(row));
            }
        }
    }
}

// === impl Fragment ===

impl Fragment {
    fn add(&mut self, chunk: &Bytes) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next row that has come whole.
    fn next(&mut self) -> Result<Option<YsonValue>, TryError> {
        let rest = &self.bytes[self.start..];
        let Some(length) = length_of_item(rest) else { return Ok(None) };
        let row = parse(&rest[..length])?;
        self.start += length + 1;
        Ok(Some(row))
    }

    /// What stands behind the last separator, at the end of the answer.
    fn rest(&mut self) -> Result<Option<YsonValue>, TryError> {
        let rest = &self.bytes[self.start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let row = parse(rest)?;
        self.start = self.bytes.len();
        Ok(Some(row))
    }
}

fn parse(item: &[u8]) -> Result<YsonValue, TryError> {
    ytsaurus_yson::from_slice(item, YsonFormat::Binary)
        .map_err(|error| TryError::NotYt { status: 200, reason: format!("a row is not YSON: {error}") })
}

/// Length of the first item of binary YSON, up to the separator behind it; `None` if that has not come.
fn length_of_item(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let marker = *bytes.get(at)?;
        match marker {
            b';' if depth == 0 => return Some(at),
            b'{' | b'[' | b'<' => depth += 1,
            b'}' | b']' | b'>' => depth = depth.saturating_sub(1),
            0x01 => {
                let (length, digits) = varint(&bytes[at + 1..])?;
                // Zigzag; a negative length is none, and is refused by the parser.
                at = at.checked_add(digits)?.checked_add(usize::try_from(length >> 1).ok()?)?;
            }
            0x02 | 0x06 => at += varint(&bytes[at + 1..])?.1,
            0x03 => at += 8,
            _ => {}
        }
        at += 1;
    }
}

/// A number in groups of seven bits, lowest first, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    // Ten bytes hold any number: a longer one is damage, which the parser names.
    (bytes.len() >= 10).then_some((number, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{bytes, double, uint};

    fn rows() -> Vec<YsonValue> {
        vec![
            map([("a", int(1)), ("b", bytes(*b";}{\x01;\xff"))]),
            map([("c", double(2.5)), ("d", list([uint(300_u64), int(-70_000), string("x".repeat(300))]))]),
            with_attributes(crate::value::entity(), [("row_index", int(7))]),
            map::<&str>([]),
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut fragment = Vec::new();
        for row in rows() {
            fragment.extend(ytsaurus_yson::to_vec(&row, YsonFormat::Binary).unwrap());
            fragment.push(b';');
        }
        fragment
    }

    #[test]
    fn rows_are_found_however_the_pieces_are_cut() {
        let encoded = encoded();
        for size in [1, 2, 7, 100, encoded.len()] {
            let mut fragment = Fragment::default();
            let mut found = Vec::new();
            for piece in encoded.chunks(size) {
                fragment.add(&Bytes::copy_from_slice(piece));
                while let Some(row) = fragment.next().unwrap() {
                    found.push(row);
                }
            }
            assert!(fragment.rest().unwrap().is_none());
            assert_eq!(found, rows(), "in pieces of {size}");
        }
    }

    #[test]
    fn the_last_separator_may_be_left_out_but_half_a_row_is_none() {
        let encoded = encoded();
        let mut fragment = Fragment::default();
        fragment.add(&Bytes::copy_from_slice(&encoded[..encoded.len() - 1]));
        while fragment.next().unwrap().is_some() {}
        assert_eq!(fragment.rest().unwrap(), Some(map::<&str>([])));
        let mut fragment = Fragment::default();
        fragment.add(&Bytes::copy_from_slice(&encoded[..5]));
        assert!(fragment.next().unwrap().is_none());
        assert!(fragment.rest().is_err());
    }
}
