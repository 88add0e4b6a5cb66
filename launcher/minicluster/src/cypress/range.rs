//! Parts of tables: the ranges of rich paths.

use ytsaurus_yson::YsonValue;

use super::node::TableContent;
use super::table::compare_values;
use crate::error::YtError;
use crate::formats::unsupported;
use crate::value::{self, YsonMap};

/// A part of a table, as a rich path names it.
#[derive(Debug, Clone, Default)]
pub struct RowRange {
    /// The first row.
    pub lower: Limit,
    /// The row behind the last.
    pub upper: Limit,
}

/// One end of a range. All parts of it hold at once.
#[derive(Debug, Clone, Default)]
pub struct Limit {
    /// By number.
    pub row_index: Option<i64>,
    /// By key.
    pub key: Option<KeyLimit>,
}

/// An end of a range by key.
#[derive(Debug, Clone)]
pub struct KeyLimit {
    values: Vec<YsonValue>,
    comparison: Comparison,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// The short key as it is: a shorter equal prefix is smaller.
    Plain,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl RowRange {
    /// Reads `{lower_limit=..; upper_limit=..}` or `{exact=..}`.
    pub fn parse(range: &YsonValue) -> Result<RowRange, YtError> {
        let entries = value::as_map(range).ok_or_else(|| YtError::generic("A range must be a map"))?;
        let mut parsed = RowRange::default();
        for (name, limit) in entries {
            match name.as_slice() {
                b"lower_limit" => parsed.lower = Limit::parse(limit)?,
                b"upper_limit" => parsed.upper = Limit::parse(limit)?,
                b"exact" => {
                    parsed.lower = Limit::parse(limit)?;
                    parsed.upper = parsed.lower.clone();
                    if let Some(index) = parsed.upper.row_index {
                        parsed.upper.row_index = Some(index.saturating_add(1));
                    }
                    for (end, comparison) in [
                        (&mut parsed.lower, Comparison::GreaterOrEqual),
                        (&mut parsed.upper, Comparison::LessOrEqual),
                    ] {
                        if let Some(key) = &mut end.key {
                            key.comparison = comparison;
                        }
                    }
                }
                other => {
                    return Err(unsupported(&format!(
                        "range attribute {:?}",
                        String::from_utf8_lossy(other)
                    )));
                }
            }
        }
        Ok(parsed)
    }

    /// The numbers of the rows of a table in this range.
    pub fn rows(&self, table: &TableContent) -> Result<std::ops::Range<usize>, YtError> {
        let count = table.row_count();
        let keys = table.schema.key_columns();
        let clamp = |index: i64| usize::try_from(index.max(0)).unwrap_or(usize::MAX).min(count);
        let mut start = self.lower.row_index.map_or(0, clamp);
        let mut end = self.upper.row_index.map_or(count, clamp);
        if keys.is_empty() && (self.lower.key.is_some() || self.upper.key.is_some()) {
            return Err(YtError::generic("Cannot use key ranges with an unsorted table"));
        }
        let by_key = self.lower.key.is_some() || self.upper.key.is_some();
        let rows: Vec<&[u8]> = if by_key {
            table.chunks.iter().flat_map(|chunk| chunk.rows.iter()).collect()
        } else {
            Vec::new()
        };
        let decode = crate::formats::rows::decode;
        if let Some(limit) = &self.lower.key {
            start = start.max(rows.partition_point(|row| !limit.is_at_or_behind_lower(&decode(row), &keys)));
        }
        if let Some(limit) = &self.upper.key {
            end = end.min(rows.partition_point(|row| limit.is_before_upper(&decode(row), &keys)));
        }
        Ok(start..end.max(start))
    }
}

impl Limit {
    fn parse(limit: &YsonValue) -> Result<Limit, YtError> {
        let entries =
            value::as_map(limit).ok_or_else(|| YtError::generic("A limit of a range must be a map"))?;
        let mut parsed = Limit::default();
        for (name, value) in entries {
            let list =
                || value::as_list(value).ok_or_else(|| YtError::generic("A key of a range must be a list"));
            match name.as_slice() {
                b"row_index" => {
                    let index = value::as_i64(value);
                    parsed.row_index =
                        Some(index.ok_or_else(|| YtError::generic("\"row_index\" must be an integer"))?);
                }
                b"key" => {
                    parsed.key = Some(KeyLimit { values: list()?.to_vec(), comparison: Comparison::Plain });
                }
                b"key_bound" => {
                    let [comparison, values] = list()? else {
                        return Err(YtError::generic(
                            "\"key_bound\" must be a pair of a comparison and a key",
                        ));
                    };
                    let comparison = match comparison.as_str() {
                        Some("<") => Comparison::Less,
                        Some("<=") => Comparison::LessOrEqual,
                        Some(">") => Comparison::Greater,
                        Some(">=") => Comparison::GreaterOrEqual,
                        _ => return Err(YtError::generic("\"key_bound\" must start with <, <=, > or >=")),
                    };
                    let values = value::as_list(values)
                        .ok_or_else(|| YtError::generic("The key of a \"key_bound\" must be a list"))?;
                    parsed.key = Some(KeyLimit { values: values.to_vec(), comparison });
                }
                other => {
                    return Err(unsupported(&format!("range limit {:?}", String::from_utf8_lossy(other))));
                }
            }
        }
        Ok(parsed)
    }
}

impl KeyLimit {
    /// The row against the limit, by as many columns as the limit has.
    fn compare(&self, row: &YsonMap, keys: &[&str]) -> std::cmp::Ordering {
        let columns = keys.iter().map(|key| row.get(key.as_bytes()));
        let order = columns
            .zip(&self.values)
            .map(|(left, right)| compare_values(left, Some(right)))
            .find(|order| order.is_ne());
        match order {
            Some(order) => order,
            None if self.comparison != Comparison::Plain => std::cmp::Ordering::Equal,
            None => keys.len().cmp(&self.values.len()),
        }
    }

    fn is_at_or_behind_lower(&self, row: &YsonMap, keys: &[&str]) -> bool {
        let order = self.compare(row, keys);
        if self.comparison == Comparison::Greater { order.is_gt() } else { order.is_ge() }
    }

    fn is_before_upper(&self, row: &YsonMap, keys: &[&str]) -> bool {
        let order = self.compare(row, keys);
        if self.comparison == Comparison::LessOrEqual { order.is_le() } else { order.is_lt() }
    }
}
