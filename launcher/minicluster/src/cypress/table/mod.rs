//! Static tables: schemas, and the check of rows against them.

mod column;
mod column_type;
mod rows;
mod schema;

pub use column::Column;
pub use column_type::ColumnType;
pub use rows::{RowChunk, compare_keys, compare_values};
pub use schema::TableSchema;

use crate::error::{YtError, code};

fn invalid(what: impl Into<String>) -> YtError {
    YtError::new(code::INVALID_SCHEMA_VALUE, what)
}

#[cfg(test)]
mod tests;
