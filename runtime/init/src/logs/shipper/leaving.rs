//! The end: tables that are complete are closed; of those that are not it is said and kept what is missing.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, error, warn};
use tractorun_contract::logs::{TableRecord, TableState};

use super::{Doubt, Shipper};
use crate::logs::Outcome;
use crate::logs::cluster::Parcel;
use crate::logs::store::{Limit, Store};

/// What becomes of lines that are left is said within this, if it can be said.
const LAST_WORD: Duration = Duration::from_secs(2);

// === impl Shipper ===

impl Shipper {
    /// The records of all tables, complete.
    pub(super) fn closing(&self) -> Parcel {
        let records = (0..self.refusals.tables()).map(|table| (table, self.record_of(table))).collect();
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

    /// Brings all that is still in memory to the disk, whatever budget it has, and says what each table has in all.
    fn keep_all(&mut self) -> std::io::Result<()> {
        let spool = self.relief.spool();
        // What was on its way is kept too: whoever adds it to the table sees there whether it came.
        (0..self.refusals.tables()).for_each(|table| self.queue.with(|store| store.unpin(table)));
        while let Some((table, at, block)) = self.queue.with(Store::oldest_in_memory) {
            let extent = spool.append(table, &block)?;
            self.queue.with(|store| store.moved(table, at, extent));
        }
        for table in 0..self.refusals.tables() {
            let written = self.queue.with(|store| store.written(table));
            spool.append_end(table, written)?;
        }
        Ok(())
    }

    /// Everything is where it belongs.
    pub(super) fn finish(&mut self) -> Outcome {
        self.relief.spool().finish();
        let lines =
            (0..self.refusals.tables()).map(|table| self.queue.with(|store| store.committed(table).lines));
        debug!("all {} lines are in their tables", lines.sum::<u64>());
        Outcome::Drained
    }

    /// Something is left: keeps it on the disk and says so.
    pub(super) async fn leave(&mut self) -> Outcome {
        let lots = self.queue.with(|store| {
            let all = Limit { memory: u64::MAX, spooled: u64::MAX };
            (0..self.refusals.tables()).filter_map(|table| store.take(table, all)).collect::<Vec<_>>()
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
        match self.keep_all() {
            Ok(()) => {
                let file = self.relief.spool().path();
                let file = file.display();
                warn!(
                    "the last lines are kept; to add them to their tables: tractorun logs --spool {file} --ship"
                );
            }
            Err(error) => error!("cannot keep the last lines in `{}`: {error}", folder.display()),
        }
        Outcome::Left { lines, bytes, folder }
    }
}
