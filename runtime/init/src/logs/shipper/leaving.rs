//! The end: tables that are complete are closed; of those that are not it is said and kept what is missing.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, error, warn};
use tractorun_contract::logs::{TableRecord, TableState};

use super::{Doubt, Shipper};
use crate::logs::cluster::Parcel;
use crate::logs::store::Limit;
use crate::logs::{Outcome, remains};

/// What becomes of lines that are left is said within this, if it can be said.
const LAST_WORD: Duration = Duration::from_secs(2);

// === impl Shipper ===

impl Shipper {
    /// The records of all tables, complete.
    pub(super) fn closing(&self) -> Parcel {
        let records = (0..self.names.len()).map(|table| (table, self.record_of(table))).collect();
        Parcel { lots: Vec::new(), records }
    }

    fn record_of(&self, table: usize) -> TableRecord {
        let totals = self.queue.with(|store| store.committed(table));
        TableRecord {
            state: TableState::Closed,
            rows: totals.rows,
            lines: totals.lines,
            bytes: totals.bytes,
            dropped_lines: totals.dropped_lines,
            dropped_bytes: totals.dropped_bytes,
            ..self.record.clone()
        }
    }

    /// Everything is where it belongs.
    pub(super) fn finish(&mut self) -> Outcome {
        self.relief.spool().finish();
        let lines = (0..self.names.len()).map(|table| self.queue.with(|store| store.committed(table).lines));
        debug!("all {} lines are in their tables", lines.sum::<u64>());
        Outcome::Drained
    }

    /// Something is left: keeps it on the disk and says so.
    pub(super) async fn leave(&mut self) -> Outcome {
        let lots = self.queue.with(|store| {
            let all = Limit { memory: u64::MAX, spooled: u64::MAX };
            (0..self.names.len()).filter_map(|table| store.take(table, all)).collect::<Vec<_>>()
        });
        let folder = self.relief.spool().folder().to_owned();
        let (mut lines, mut bytes) = (0, 0);
        let mut records: Vec<_> = self.closing().records;
        for lot in &lots {
            let record = &mut records[lot.table].1;
            let after = lot.after;
            record.unshipped_lines = after.lines + after.dropped_lines - record.lines - record.dropped_lines;
            record.unshipped_bytes = after.bytes + after.dropped_bytes - record.bytes - record.dropped_bytes;
            lines += record.unshipped_lines;
            bytes += record.unshipped_bytes;
        }
        if self.doubt == Doubt::None {
            // If it cannot be said the tables stay `open`, which says enough.
            let _ = timeout(LAST_WORD, self.tables.try_to_say(&records)).await;
        }
        let mut kept = true;
        for lot in lots {
            let (name, path) = (&self.names[lot.table], self.tables.path(lot.table));
            match remains::keep(&folder, name, &lot, &self.relief.spool().reader()) {
                Ok(file) => warn!(
                    "the last lines of {name} are kept in `{}`; to add them to their table: yt write-table \
                     '<append=%true>{path}' --format '<format=binary>yson' < FILE",
                    file.display()
                ),
                Err(error) => {
                    kept = false;
                    error!("cannot keep the last lines of {name}: {error}");
                }
            }
        }
        if kept {
            self.relief.spool().remove();
        }
        Outcome::Left { lines, bytes, folder }
    }
}
