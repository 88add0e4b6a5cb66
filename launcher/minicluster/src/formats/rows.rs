//! Rows of a table as bytes: each a map in binary YSON without attributes of its own, one behind the other.
//!
//! Tables are written once and read whole, mostly, so their rows are kept as they go over the wire and taken apart
//! only where somebody asks for a part of one.

use ytsaurus_yson::{YsonNode, YsonValue};

use super::yson;
use crate::error::YtError;
use crate::value::YsonMap;

/// Many rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

crate::storage::codec::persist_struct!(EncodedRows { bytes, ends });

impl EncodedRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of a row.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// All rows, as bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// A row, taken apart.
    pub fn decode(&self, index: usize) -> Option<YsonMap> {
        self.get(index).map(decode)
    }

    /// Adds a row.
    pub fn push(&mut self, row: &YsonValue) -> Result<(), YtError> {
        if !matches!(row.node, YsonNode::Map(_)) {
            return Err(not_a_map());
        }
        let bytes = match row.attributes {
            None => yson::to_binary(row)?,
            Some(_) => yson::to_binary(&crate::value::plain(row.node.clone()))?,
        };
        self.bytes.extend_from_slice(&bytes);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Adds a row that was encoded before.
    pub fn push_encoded(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Adds rows that somebody writes to the end of the bytes.
    pub(super) fn push_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), YtError>,
    ) -> Result<(), YtError> {
        write(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Room for about as many bytes as these.
    pub(super) fn with_capacity(bytes: usize) -> EncodedRows {
        EncodedRows { bytes: Vec::with_capacity(bytes), ends: Vec::new() }
    }

    /// Gives back what was not needed.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

pub(super) fn not_a_map() -> YtError {
    YtError::generic("A row of a table must be a map")
}

/// A row, taken apart. What is in a table has been checked when it came.
pub fn decode(row: &[u8]) -> YsonMap {
    match yson::parse(row).map(|row| row.node) {
        Ok(YsonNode::Map(entries)) => entries,
        _ => YsonMap::new(),
    }
}

/// The names and encoded values of a row.
pub fn entries(row: &[u8]) -> Entries<'_> {
    Entries { rest: row.get(1..).unwrap_or_default() }
}

/// See [`entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader { rest: self.rest };
        if reader.rest.first() == Some(&b';') {
            reader.skip(1)?;
        }
        let name = reader.string()?;
        reader.skip(1)?;
        let start = reader.rest;
        reader.value(&mut 0)?;
        let value = &start[..start.len() - reader.rest.len()];
        self.rest = reader.rest;
        Some((name, value))
    }
}

/// The bytes that an encoded value counts for in `@data_weight`.
pub fn weight(value: &[u8]) -> u64 {
    let mut weight = 0;
    let _ = Reader { rest: value }.value(&mut weight);
    weight
}

/// An unsigned or zigzag integer behind its marker.
pub fn integer(value: &[u8]) -> Option<u64> {
    Reader { rest: value.get(1..)? }.varint()
}

/// Reads binary YSON that is known to be right; `None` means that it is not.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.skip(index + 1)?;
                return Some(number);
            }
        }
        None
    }

    /// A string with its marker.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.rest.first() != Some(&0x01) {
            return None;
        }
        self.skip(1)?;
        let length = usize::try_from(self.varint()? >> 1).ok()?;
        let text = self.rest.get(..length)?;
        self.skip(length)?;
        Some(text)
    }

    /// Goes behind a value and adds its weight. Depth is bounded by what the parser lets in.
    fn value(&mut self, weight: &mut u64) -> Option<()> {
        if self.rest.first() == Some(&b'<') {
            self.skip(1)?;
            self.inside(b'>', true, &mut 0)?;
        }
        match self.rest.first()? {
            0x01 => {
                *weight += self.string()?.len() as u64;
                Some(())
            }
            0x02 | 0x06 => {
                self.skip(1)?;
                self.varint()?;
                *weight += 8;
                Some(())
            }
            0x03 => {
                *weight += 8;
                self.skip(9)
            }
            0x04 | 0x05 => {
                *weight += 1;
                self.skip(1)
            }
            b'#' => self.skip(1),
            b'{' => {
                *weight += 1;
                self.skip(1)?;
                self.inside(b'}', true, weight)
            }
            b'[' => {
                *weight += 1;
                self.skip(1)?;
                self.inside(b']', false, weight)
            }
            _ => None,
        }
    }

    fn inside(&mut self, end: u8, keys: bool, weight: &mut u64) -> Option<()> {
        loop {
            match *self.rest.first()? {
                byte if byte == end => return self.skip(1),
                b';' => self.skip(1)?,
                _ => {
                    if keys {
                        *weight += self.string()?.len() as u64;
                        self.skip(1)?;
                    }
                    self.value(weight)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_behind_values_of_every_kind() {
        let text = b"{a=-300;b=300u;c=1.5;d=%true;e=#;f=\"x\\ny\";g=[1;{h=<i=2>3}];j=<k=l>m};{};{z=\"\"}";
        let rows = yson::encode_rows(text).unwrap();
        assert_eq!(rows.len(), 3);
        let row = rows.get(0).unwrap();
        let names: Vec<&[u8]> = entries(row).map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"j"]);
        let again: YsonMap =
            entries(row).map(|(name, value)| (name.to_vec(), yson::parse(value).unwrap())).collect();
        assert_eq!(again, decode(row));
        assert_eq!(again[b"j".as_slice()].attr("k").and_then(YsonValue::as_str), Some("l"));
        let weights: Vec<u64> = entries(row).map(|(_, value)| weight(value)).collect();
        assert_eq!(weights, [8, 8, 8, 1, 0, 3, 1 + 8 + 1 + 1 + 8, 1]);
        assert_eq!(rows.decode(1), Some(YsonMap::new()));
        assert_eq!(rows.decode(3), None);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for text in [&b"[1]"[..], b"5", b"<a=1>#", b"{a=1}{b=2}", b"{a=1", b"{a}", b"\x01\x02a"] {
            assert!(yson::encode_rows(text).is_err(), "{text:?}");
        }
        assert_eq!(yson::encode_rows(b"<a=1>{b=2}").unwrap(), yson::encode_rows(b"{b=2};\n").unwrap());
    }

    #[test]
    fn broken_bytes_do_no_harm() {
        let rows = yson::encode_rows(b"{a=[1;{b=\"xyz\"}];c=<d=1>2.5}").unwrap();
        let row = rows.get(0).unwrap();
        for end in 0..row.len() {
            let _ = entries(&row[..end]).count();
            let _ = weight(&row[..end]);
        }
    }
}
