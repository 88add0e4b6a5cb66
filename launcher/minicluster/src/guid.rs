//! Object ids as YT spells them: four 32-bit groups in hexadecimal, joined by `-`, without leading zeros.
//!
//! The third group carries the cell tag and the object type, which is how a reader of an id (and this server,
//! on a path such as `#1-2-10001-3`) tells a transaction from a table.

use std::fmt;
use std::str::FromStr;

/// The cell tag of every id made here. Real clusters give each master cell its own.
const CELL_TAG: u32 = 1;

/// The number of an object type inside an id.
pub type ObjectTypeCode = u16;

/// An object id. `Guid::default()` is `0-0-0-0`, which means "none" wherever YT takes an id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid([u32; 4]);

impl Guid {
    /// A random id of an object of this type.
    pub fn random(object_type: ObjectTypeCode) -> Guid {
        let [_, _, typed, _] = Guid::of_type(object_type).0;
        Guid([rand::random(), rand::random(), typed, rand::random()])
    }

    /// An id of an object of this type, otherwise zero.
    pub const fn of_type(object_type: ObjectTypeCode) -> Guid {
        Guid([0, 0, CELL_TAG << 16 | object_type as u32, 0])
    }

    /// A random id that names no object: request ids, mutation ids.
    pub fn random_untyped() -> Guid {
        Guid([rand::random(), rand::random(), rand::random(), rand::random()])
    }

    /// Builds an id from its four groups, in the order in which they are written.
    pub const fn from_parts(parts: [u32; 4]) -> Guid {
        Guid(parts)
    }

    /// The four groups, in the order in which they are written.
    pub const fn parts(self) -> [u32; 4] {
        self.0
    }

    /// The object type that this id claims to have.
    pub const fn object_type(self) -> ObjectTypeCode {
        (self.0[2] & 0xffff) as u16
    }

    /// The cell that this id claims to come from.
    pub const fn cell_tag(self) -> u32 {
        self.0[2] >> 16
    }

    /// Whether this is `0-0-0-0`.
    pub const fn is_null(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 0
    }

    /// Whether the cell tag is that of this server.
    pub const fn is_of_this_cell(self) -> bool {
        self.cell_tag() == CELL_TAG
    }
}

// === impl Guid: text ===

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(formatter, "{a:x}-{b:x}-{c:x}-{d:x}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("error parsing GUID {0:?}: four hexadecimal groups joined by `-` are expected")]
pub struct ParseGuidError(String);

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Guid, ParseGuidError> {
        let mut parts = [0u32; 4];
        let mut groups = text.split('-');
        for part in &mut parts {
            let group = groups.next().unwrap_or_default();
            let hexadecimal = (1..=8).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_hexdigit());
            if !hexadecimal {
                return Err(ParseGuidError(text.to_owned()));
            }
            *part = u32::from_str_radix(group, 16).map_err(|_| ParseGuidError(text.to_owned()))?;
        }
        if groups.next().is_some() { Err(ParseGuidError(text.to_owned())) } else { Ok(Guid(parts)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        let id: Guid = "3-5bc70-10001-387a".parse().unwrap();
        assert_eq!(id.parts(), [3, 0x5bc70, 0x10001, 0x387a]);
        assert_eq!((id.object_type(), id.cell_tag()), (1, 1));
        assert_eq!(id.to_string(), "3-5bc70-10001-387a");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-g", "1-2-3-", "123456789-1-1-1", "1-2-3-+4"] {
            assert!(text.parse::<Guid>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_random_id_carries_its_type() {
        let id = Guid::random(401);
        assert_eq!(id.object_type(), 401);
        assert!(id.is_of_this_cell());
        assert_ne!(id, Guid::random(401));
    }
}
