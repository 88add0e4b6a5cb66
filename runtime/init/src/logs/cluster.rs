//! What the shipper asks of the cluster: tables, and rows that are there once or not at all.
//!
//! All that goes into a batch (rows of several tables, and at the end the tables' records) goes into one transaction.
//! As long as no commit was sent it is certain that nothing of it is there. If a commit's outcome is unknown the
//! transaction is aborted until the cluster has answered to that: from then on it cannot be committed any more. Then
//! the number of a table's rows says whether it was, since nobody else writes into a table of this incarnation.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::debug;
use tractorun_contract::logs::{Column, SCHEMA, TABLE_ATTRIBUTE, TableRecord, TableState};
use tractorun_yt::value::{ValueExt, boolean, from_serialize, list, map, string, with_attributes};
use tractorun_yt::{
    BatchRequest, Client, Error, TransactionId, TransactionOptions, YsonValue, YtError, codes,
};

use super::pace;
use super::rows::Encoder;
use super::spool::Reader;
use super::store::Lot;

/// A batch whose node is gone holds its locks for so long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Tables that are written at a time: each needs buffers.
const AT_A_TIME: usize = 4;

/// The cluster, and the tables of this node there.
#[derive(Debug)]
pub(super) struct Tables {
    client: Client,
    /// Paths, by index.
    paths: Vec<String>,
    /// What a new table's record says.
    record: TableRecord,
    created: bool,
}

/// What goes together.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// Rows.
    pub(super) lots: Vec<Lot>,
    /// Records of tables that are complete with it.
    pub(super) records: Vec<(usize, TableRecord)>,
}

/// Why a parcel is not there.
#[derive(Debug)]
pub(super) struct NotShipped {
    /// The table that the cluster refuses to write to, where it is one table's own fault.
    pub(super) table: Option<usize>,
    pub(super) error: Error,
}

// === impl Tables ===

impl Tables {
    pub(super) fn new(client: Client, paths: Vec<String>, record: TableRecord) -> Self {
        Self { client, paths, record, created: false }
    }

    pub(super) fn path(&self, table: usize) -> &str {
        &self.paths[table]
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.client.request_counts().requests
    }

    /// Puts a parcel into its tables: when this returns, all of it is there or nothing. Do not drop the future but to
    /// end it all: nobody would know which.
    pub(super) async fn ship(&mut self, parcel: &Parcel, reader: &Reader) -> Result<(), NotShipped> {
        let whole = |error| NotShipped { table: None, error };
        if !self.created {
            self.create().await.map_err(whole)?;
            self.created = true;
        }
        let options = TransactionOptions {
            timeout: TRANSACTION_TIMEOUT,
            title: Some("tractorun: log tables".to_owned()),
            parent: None,
        };
        let transaction = self.client.start_transaction(options).await.map_err(whole)?;
        let written = async {
            self.append(transaction.client(), &parcel.lots, reader).await?;
            self.write_records(transaction.client(), &parcel.records).await
        };
        if let Err(error) = written.await {
            // It is never committed, so nothing waits for this but the locks.
            if let Err(error) = transaction.abort().await {
                debug!("a transaction of the log tables is left to time out: {error}");
            }
            return Err(error);
        }
        let id = transaction.id().clone();
        match transaction.commit().await {
            Ok(()) => Ok(()),
            Err(error) => {
                debug!("commit of transaction {id} failed: {error}");
                if self.is_there(&id, parcel).await { Ok(()) } else { Err(whole(error)) }
            }
        }
    }

    /// Whether a parcel is there whose commit failed in whatever way.
    async fn is_there(&self, id: &TransactionId, parcel: &Parcel) -> bool {
        let mut failures = 0;
        while let Err(error) = self.client.abort_transaction(id).await {
            debug!("cannot abort transaction {id}: {error}");
            failures += 1;
            sleep(pace::pause(failures, rand::random())).await;
        }
        // Records alone may be written again.
        let Some(lot) = parcel.lots.first() else { return false };
        let path = format!("{}/@row_count", self.paths[lot.table]);
        loop {
            match self.client.get(&path).await {
                Ok(count) => return count.as_uint().is_some_and(|count| count >= lot.after.rows),
                // The table is gone, and the rows with it.
                Err(Error::Yt(error)) if error.contains(codes::RESOLVE_ERROR) => return false,
                Err(error) => debug!("cannot see what became of transaction {id}: {error}"),
            }
            failures += 1;
            sleep(pace::pause(failures, rand::random())).await;
        }
    }

    /// Makes all tables that are not there. What somebody else has made is left as it is.
    async fn create(&self) -> Result<(), Error> {
        let parts = self.paths.iter().map(|path| {
            BatchRequest::new("create")
                .parameter("type", string("table"))
                .parameter("path", string(path))
                .parameter("recursive", boolean(true))
                .parameter("ignore_existing", boolean(true))
                .parameter("attributes", map([("schema", schema()), (TABLE_ATTRIBUTE, record(&self.record))]))
        });
        for result in self.client.execute_batch(parts.collect()).await? {
            result?;
        }
        Ok(())
    }

    async fn append(&self, client: &Client, lots: &[Lot], reader: &Reader) -> Result<(), NotShipped> {
        let mut writes = JoinSet::new();
        let mut lots = lots.iter();
        loop {
            while writes.len() < AT_A_TIME
                && let Some(lot) = lots.next()
            {
                let (client, path, table) = (client.clone(), self.paths[lot.table].clone(), lot.table);
                let rows = Encoder::new(lot.blocks.clone(), reader.clone(), lot.first_seq);
                writes.spawn(async move { (table, client.append_rows(&path, rows).await) });
            }
            match writes.join_next().await {
                None => return Ok(()),
                Some(Ok((_, Ok(())))) => {}
                Some(Ok((table, Err(error)))) => {
                    let table = is_own_fault(&error).then_some(table);
                    return Err(NotShipped { table, error });
                }
                // A panic ends the process, and nobody aborts the task.
                Some(Err(_)) => {
                    let reason = "the write was cut short".to_owned();
                    let error = Error::BadInput { command: "write_table", reason };
                    return Err(NotShipped { table: None, error });
                }
            }
        }
    }

    async fn write_records(
        &self,
        client: &Client,
        records: &[(usize, TableRecord)],
    ) -> Result<(), NotShipped> {
        let parts = records.iter().map(|(table, content)| {
            BatchRequest::new("set")
                .parameter("path", string(format!("{}/@{TABLE_ATTRIBUTE}", self.paths[*table])))
                .input(record(content))
        });
        let whole = |error| NotShipped { table: None, error };
        let results = client.execute_batch(parts.collect()).await.map_err(whole)?;
        for ((table, _), result) in records.iter().zip(results) {
            result.map_err(|error| {
                let error = Error::Yt(error);
                NotShipped { table: is_own_fault(&error).then_some(*table), error }
            })?;
        }
        Ok(())
    }

    /// Says in the tables' records what is missing, if that can be done at once.
    pub(super) async fn try_to_say(&self, records: &[(usize, TableRecord)]) -> Result<(), NotShipped> {
        self.write_records(&self.client, records).await
    }
}

/// Whether the fault may be that of one table, so that the others need not wait for it.
fn is_own_fault(error: &Error) -> bool {
    let is_everybodys = |error: &YtError| error.is_transient() || error.contains(codes::NO_SUCH_TRANSACTION);
    matches!(error, Error::Yt(error) if !is_everybodys(error))
}

fn schema() -> YsonValue {
    let columns = SCHEMA.iter().map(|Column { name, column_type, required }| {
        map([("name", string(name)), ("type", string(column_type)), ("required", boolean(*required))])
    });
    with_attributes(list(columns), [("strict", boolean(true)), ("unique_keys", boolean(false))])
}

fn record(record: &TableRecord) -> YsonValue {
    // Plain data: there is nothing in it that could be refused.
    from_serialize(record).unwrap_or_else(|_| map([("state", string("open"))]))
}

/// The record of a new table.
pub(super) fn open_record(node_rank: u32, job_id: String) -> TableRecord {
    TableRecord { state: TableState::Open, node_rank, job_id, ..TableRecord::default() }
}
