//! The types of columns, and which values may stand in them.

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::formats::rows;

/// The type of a column's values, as far as rows are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Signed, of this many bits.
    Int(u32),
    /// Unsigned, of this many bits.
    Uint(u32),
    /// A double or float.
    Double,
    /// A boolean.
    Boolean,
    /// Any bytes.
    String,
    /// UTF-8.
    Utf8,
    /// JSON as text.
    Json,
    /// 16 bytes.
    Uuid,
    /// Days since 1970.
    Date,
    /// Seconds since 1970.
    Datetime,
    /// Microseconds since 1970.
    Timestamp,
    /// Microseconds between two moments.
    Interval,
    /// Days before or since 1970.
    Date32,
    /// Seconds before or since 1970.
    Datetime64,
    /// Microseconds before or since 1970.
    Timestamp64,
    /// Microseconds between two moments of the wide kinds.
    Interval64,
    /// Any YSON but null, unless optional.
    Any,
    /// Only null.
    Null,
}

/// The old name, the new name and the meaning of every simple type.
pub(super) const SIMPLE_TYPES: [(&str, &str, ColumnType); 26] = [
    ("int64", "int64", ColumnType::Int(64)),
    ("int32", "int32", ColumnType::Int(32)),
    ("int16", "int16", ColumnType::Int(16)),
    ("int8", "int8", ColumnType::Int(8)),
    ("uint64", "uint64", ColumnType::Uint(64)),
    ("uint32", "uint32", ColumnType::Uint(32)),
    ("uint16", "uint16", ColumnType::Uint(16)),
    ("uint8", "uint8", ColumnType::Uint(8)),
    ("double", "double", ColumnType::Double),
    ("float", "float", ColumnType::Double),
    ("boolean", "bool", ColumnType::Boolean),
    ("string", "string", ColumnType::String),
    ("utf8", "utf8", ColumnType::Utf8),
    ("json", "json", ColumnType::Json),
    ("uuid", "uuid", ColumnType::Uuid),
    ("date", "date", ColumnType::Date),
    ("datetime", "datetime", ColumnType::Datetime),
    ("timestamp", "timestamp", ColumnType::Timestamp),
    ("interval", "interval", ColumnType::Interval),
    ("date32", "date32", ColumnType::Date32),
    ("datetime64", "datetime64", ColumnType::Datetime64),
    ("timestamp64", "timestamp64", ColumnType::Timestamp64),
    ("interval64", "interval64", ColumnType::Interval64),
    ("any", "yson", ColumnType::Any),
    ("null", "null", ColumnType::Null),
    ("void", "void", ColumnType::Null),
];

impl ColumnType {
    pub(in crate::cypress) fn from_old_name(name: &str) -> Option<ColumnType> {
        SIMPLE_TYPES.iter().find(|(old, ..)| *old == name).map(|(.., known)| *known)
    }

    pub(in crate::cypress) fn old_name(self) -> &'static str {
        SIMPLE_TYPES.iter().find(|(.., known)| *known == self).map_or("any", |(old, ..)| old)
    }

    /// Whether an encoded value may stand in such a column as it is. That of others is found out by `accept`.
    pub(super) fn surely_accepts(self, item: &[u8]) -> bool {
        match (self, item.first()) {
            (ColumnType::Int(64), Some(0x02))
            | (ColumnType::Uint(64), Some(0x06))
            | (ColumnType::Double, Some(0x03))
            | (ColumnType::Boolean, Some(0x04 | 0x05))
            | (ColumnType::String, Some(0x01)) => true,
            (ColumnType::Uint(bits), Some(0x06)) => {
                rows::integer(item).is_some_and(|number| u128::from(number) < 1u128 << bits)
            }
            (ColumnType::Datetime, Some(0x06)) => {
                rows::integer(item).is_some_and(|number| number < 49_673 * 86_400)
            }
            (ColumnType::Timestamp, Some(0x06)) => {
                rows::integer(item).is_some_and(|number| number < 49_673 * DAY_US)
            }
            _ => false,
        }
    }

    /// Whether this value (no null) may stand in such a column. Integers of the other kind are converted.
    pub(super) fn accept(self, item: &mut YsonValue) -> bool {
        match (self, &item.node) {
            (
                ColumnType::Int(_)
                | ColumnType::Interval
                | ColumnType::Date32
                | ColumnType::Datetime64
                | ColumnType::Timestamp64
                | ColumnType::Interval64,
                YsonNode::Uint64(number),
            ) => {
                let Ok(number) = i64::try_from(*number) else { return false };
                item.node = YsonNode::Int64(number);
                self.accept(item)
            }
            (
                ColumnType::Uint(_) | ColumnType::Date | ColumnType::Datetime | ColumnType::Timestamp,
                YsonNode::Int64(number),
            ) => {
                let Ok(number) = u64::try_from(*number) else { return false };
                item.node = YsonNode::Uint64(number);
                self.accept(item)
            }
            (ColumnType::Int(bits), YsonNode::Int64(number)) => {
                let limit = 1i128 << (bits - 1);
                (-limit..limit).contains(&i128::from(*number))
            }
            (ColumnType::Uint(bits), YsonNode::Uint64(number)) => u128::from(*number) < 1u128 << bits,
            // The upper bounds are those of YT: 2106-01-01 in each unit.
            (ColumnType::Date, YsonNode::Uint64(number)) => *number < 49_673,
            (ColumnType::Datetime, YsonNode::Uint64(number)) => *number < 49_673 * 86_400,
            (ColumnType::Timestamp, YsonNode::Uint64(number)) => *number < 49_673 * DAY_US,
            (ColumnType::Utf8, YsonNode::String(text)) => std::str::from_utf8(text).is_ok(),
            (ColumnType::Json, YsonNode::String(text)) => {
                serde_json::from_slice::<serde_json::Value>(text).is_ok()
            }
            (ColumnType::Uuid, YsonNode::String(text)) => text.len() == 16,
            (ColumnType::Interval, YsonNode::Int64(number)) => number.unsigned_abs() < 49_673 * DAY_US,
            // The wide kinds: about 146,000 years in both directions.
            (ColumnType::Date32, YsonNode::Int64(number)) => wide(*number, 1),
            (ColumnType::Datetime64, YsonNode::Int64(number)) => wide(*number, 86_400),
            (ColumnType::Timestamp64, YsonNode::Int64(number)) => wide(*number, 86_400_000_000),
            (ColumnType::Interval64, YsonNode::Int64(number)) => {
                number.unsigned_abs() <= (2 * WIDE_DAYS + 1).unsigned_abs() * DAY_US
            }
            (ColumnType::Double, YsonNode::Double(_))
            | (ColumnType::Boolean, YsonNode::Boolean(_))
            | (ColumnType::String, YsonNode::String(_))
            | (ColumnType::Any, _) => true,
            _ => false,
        }
    }
}

/// Days on both sides of 1970 that the wide kinds of dates reach.
const WIDE_DAYS: i64 = 53_375_808;
pub(super) const DAY_US: u64 = 86_400_000_000;

/// Whether a moment is in the range of the wide kinds, in units of which a day has this many.
fn wide(number: i64, units_a_day: i64) -> bool {
    ((-WIDE_DAYS - 1) * units_a_day..WIDE_DAYS * units_a_day).contains(&number)
}
