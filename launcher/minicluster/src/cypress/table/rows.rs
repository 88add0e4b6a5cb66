//! Rows as they are kept, and their order.

use std::cmp::Ordering;

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::formats::rows::{self, EncodedRows};
use crate::value::YsonMap;

/// Rows that were written together.
#[derive(Debug, Default)]
pub struct RowChunk {
    /// The rows.
    pub rows: EncodedRows,
    /// The bytes that their values take.
    pub data_weight: u64,
}

impl RowChunk {
    /// Weighs the rows.
    pub fn new(rows: EncodedRows) -> RowChunk {
        let data_weight = rows.iter().flat_map(rows::entries).map(|(_, value)| rows::weight(value)).sum();
        RowChunk { rows, data_weight }
    }
}

/// Compares two rows by these columns; a missing value is null, which is smaller than all others.
pub fn compare_keys(left: &YsonMap, right: &YsonMap, columns: &[&str]) -> Ordering {
    columns
        .iter()
        .map(|column| compare_values(left.get(column.as_bytes()), right.get(column.as_bytes())))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The order of values in a sorted table: by type, then by value.
pub fn compare_values(left: Option<&YsonValue>, right: Option<&YsonValue>) -> Ordering {
    let rank = |value: Option<&YsonValue>| match value.map(|value| &value.node) {
        None | Some(YsonNode::Entity) => 0,
        Some(YsonNode::Int64(_)) => 1,
        Some(YsonNode::Uint64(_)) => 2,
        Some(YsonNode::Double(_)) => 3,
        Some(YsonNode::Boolean(_)) => 4,
        Some(YsonNode::String(_)) => 5,
        Some(YsonNode::List(_) | YsonNode::Map(_)) => 6,
    };
    match (left.map(|value| &value.node), right.map(|value| &value.node)) {
        (Some(YsonNode::Int64(left)), Some(YsonNode::Int64(right))) => left.cmp(right),
        (Some(YsonNode::Uint64(left)), Some(YsonNode::Uint64(right))) => left.cmp(right),
        (Some(YsonNode::Double(left)), Some(YsonNode::Double(right))) => left.total_cmp(right),
        (Some(YsonNode::Boolean(left)), Some(YsonNode::Boolean(right))) => left.cmp(right),
        (Some(YsonNode::String(left)), Some(YsonNode::String(right))) => left.cmp(right),
        _ => rank(left).cmp(&rank(right)),
    }
}
