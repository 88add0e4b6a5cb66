//! The tables that `operation_log_mode: realtime_yt_table` fills: one for each worker and each sidecar.
//!
//! A table lives at [`crate::cypress::worker_log`] or [`crate::cypress::sidecar_log`] and is written by one init
//! only. A row is a line of the process, in the order in which init read stdout and stderr. Its columns are
//! [`SCHEMA`]: the first three are those of the Python tractorun, so that its users' scripts read them.
//!
//! * `seq` is the number of the row, from 0 without a gap: row `i` of the table has `seq` `i`. A batch of rows and
//!   with it its last `seq` are committed in one transaction, so after a try of unknown outcome the number of the
//!   table's rows tells what is there.
//! * `message` is what the process wrote, without the end of the line, whatever bytes these are. `line_end` is null
//!   for `\n`, which is nearly always; else it is what ended the row: `\r` (a progress bar), `\r\n`, or nothing,
//!   where a line longer than [`MAX_MESSAGE_BYTES`] goes on in the next row of the same `fd` and `attempt`, or where
//!   the stream ended without a newline. `message` and `line_end` of all rows of one `fd`, joined, are what the
//!   process wrote to it.
//! * Where `dropped_lines` is not null the row is none of the process: it stands where so many lines of both its
//!   streams are missing, and `message` says so to people; `fd` is `stderr`.
//!
//! Every table has the attribute [`TABLE_ATTRIBUTE`], a [`TableRecord`]. It is created as `open` and set to `closed`
//! together with the last rows. A table that is `open` though nobody writes any more belongs to an init that was
//! killed: what it had read and not committed is missing, and nobody knows how much that was. Some of it may be in
//! its [`spool`].

mod row;
pub mod spool;

pub use row::{LineEnd, Stream, first_row, rows};
use serde::{Deserialize, Serialize};

/// Name of the attribute of a log table that holds its [`TableRecord`].
pub const TABLE_ATTRIBUTE: &str = "tractorun_log";

/// A longer line takes several rows; the cluster bears 16 MiB in one value.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Names of the columns.
pub mod column {
    /// When init read the end of the line, in seconds since 1970 (type `datetime`).
    pub const DATETIME: &str = "datetime";
    /// The line.
    pub const MESSAGE: &str = "message";
    /// `stdout` or `stderr`.
    pub const FD: &str = "fd";
    /// As `datetime`, in microseconds (type `timestamp`).
    pub const TIMESTAMP: &str = "timestamp";
    /// Number of the row.
    pub const SEQ: &str = "seq";
    /// Which attempt of the incarnation wrote it.
    pub const ATTEMPT: &str = "attempt";
    /// What ended the row, if it was not `\n`.
    pub const LINE_END: &str = "line_end";
    /// How many lines are missing here.
    pub const DROPPED_LINES: &str = "dropped_lines";
    /// How many bytes, ends of lines included, are missing here.
    pub const DROPPED_BYTES: &str = "dropped_bytes";
}

/// One column of a log table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The cluster's name of its type.
    pub column_type: &'static str,
    /// Whether it is never null.
    pub required: bool,
}

/// The columns of a log table, in their order. The schema is strict.
pub const SCHEMA: [Column; 9] = [
    required(column::DATETIME, "datetime"),
    required(column::MESSAGE, "string"),
    required(column::FD, "string"),
    optional(column::TIMESTAMP, "timestamp"),
    optional(column::SEQ, "uint64"),
    optional(column::ATTEMPT, "uint32"),
    optional(column::LINE_END, "string"),
    optional(column::DROPPED_LINES, "uint64"),
    optional(column::DROPPED_BYTES, "uint64"),
];

const fn required(name: &'static str, column_type: &'static str) -> Column {
    Column { name, column_type, required: true }
}

const fn optional(name: &'static str, column_type: &'static str) -> Column {
    Column { name, column_type, required: false }
}

/// What init says of a log table, in [`TABLE_ATTRIBUTE`]. All counts are those of the whole table, and 0 while it is
/// `open`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableRecord {
    /// Whether more may come.
    pub state: TableState,
    /// Rows of the table: the last `seq` and one. Rows about dropped lines are counted too.
    pub rows: u64,
    /// Rows that hold lines of the process.
    pub lines: u64,
    /// Bytes of their `message` and `line_end`.
    pub bytes: u64,
    /// Lines that the process wrote and that were dropped; the sum over `dropped_lines`.
    pub dropped_lines: u64,
    /// Their bytes; the sum over `dropped_bytes`.
    pub dropped_bytes: u64,
    /// Lines that could not be shipped before init had to end.
    pub unshipped_lines: u64,
    /// Their bytes.
    pub unshipped_bytes: u64,
    /// Rank of the node that wrote it.
    pub node_rank: u32,
    /// YT job id of that node.
    pub job_id: String,
}

/// Whether more may come into a log table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Its init runs, or was killed.
    #[default]
    Open,
    /// Its init has ended in order.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_columns_are_those_of_the_python_tractorun() {
        let columns: Vec<_> = SCHEMA.iter().map(|column| (column.name, column.column_type)).collect();
        assert_eq!(columns[..3], [("datetime", "datetime"), ("message", "string"), ("fd", "string")]);
        assert!(SCHEMA.iter().enumerate().all(|(index, column)| column.required == (index < 3)));
    }

    #[test]
    fn a_record_reads_back_and_bears_what_it_does_not_know() {
        let record = TableRecord { state: TableState::Closed, rows: 3, ..TableRecord::default() };
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["state"], "closed");
        assert_eq!(serde_json::from_value::<TableRecord>(json).unwrap(), record);
        let open: TableRecord = serde_json::from_str(r#"{"state": "open", "novelty": 1}"#).unwrap();
        assert_eq!(open, TableRecord::default());
    }
}
