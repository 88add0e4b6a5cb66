//! `--ship`: adds to tables the lines of spools that they lack.
//!
//! A table says how many of its process' lines it holds and how many it names as dropped; a frame says how many lines
//! come before it. So whatever init had shipped is seen to be there, and doing it again adds nothing. What neither the
//! table nor the spool has is named by a row, as what init drops. All of that is one transaction with an exclusive
//! lock on the table.

use std::time::Duration;

use tractorun_contract::logs::{
    Column, LineEnd, SCHEMA, Stream, TABLE_ATTRIBUTE, TableRecord, TableState, column,
};
use tractorun_yt::value::{self, ValueExt, boolean, bytes, list, map, string, uint, with_attributes};
use tractorun_yt::{
    Append, Client, CreateOptions, Error, LockMode, LockWait, NodeType, TransactionOptions, YsonValue, codes,
};

use super::file::SpoolFile;
use super::{Place, SpoolError};
use crate::commands::terminal::size;
use crate::logs::catalog::{self, Table};
use crate::logs::options::Options;
use crate::logs::row::{Content, Line};
use crate::logs::verify::{self, Counts};
use crate::logs::{LogsError, print};
use crate::report::Report;

/// Rows of about so many bytes are written at a time.
const BATCH_BYTES: usize = 8 << 20;

/// A table whose writer is gone holds its lock for so long.
const LOCK_WAIT: Duration = Duration::from_mins(1);

/// How much of something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Amount {
    lines: u64,
    bytes: u64,
}

/// What is to be done with one table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Lines that were there.
    there: Amount,
    /// Lines that were added.
    added: Amount,
    /// Lines that nobody has.
    missing: Amount,
}

/// Adds what is missing of all that is selected, table by table, and says so.
pub(super) async fn run(
    client: &Client,
    files: &[SpoolFile],
    options: &Options,
    report: Report,
) -> Result<(), LogsError> {
    let mut is_any = false;
    for file in files {
        file.check_unused(&file.file)?;
        for (index, place) in file.places()?.into_iter().enumerate() {
            let table = file.table(index, &place);
            let is_empty = file.frames(index).count() == 0 && file.end(index).is_none();
            if is_empty || !options.selection.contains(&table) {
                continue;
            }
            is_any = true;
            check_over(client, &place, &table).await?;
            let outcome = ship(client, file, index, &table).await?;
            print(&format!("{}: {}", place.process, outcome.text()))?;
        }
    }
    if !is_any {
        report.note("there is nothing to add");
    }
    Ok(())
}

/// An init on another machine may still write; the lock on the file says nothing of a copy.
async fn check_over(client: &Client, place: &Place, table: &Table) -> Result<(), LogsError> {
    let incarnation = match catalog::read(client, &place.yt_path, place.incarnation).await {
        Ok(incarnation) => incarnation,
        // Nothing is left of the run but its logs.
        Err(error) if error.contains(codes::RESOLVE_ERROR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if incarnation.is_over(client).await? {
        return Ok(());
    }
    Err(SpoolError::RunGoesOn { table: table.path.clone() }.into())
}

async fn ship(client: &Client, file: &SpoolFile, index: usize, table: &Table) -> Result<Outcome, LogsError> {
    create(client, table).await?;
    let options = TransactionOptions {
        title: Some(format!("tractorun logs --ship {}", table.path)),
        ..TransactionOptions::default()
    };
    let transaction = client.start_transaction(options).await?;
    let result = fill(transaction.client(), file, index, table).await;
    match result {
        Ok(_) => transaction.commit().await?,
        // What went wrong before is what is to be told.
        Err(_) => drop(transaction.abort().await),
    }
    result
}

async fn fill(client: &Client, file: &SpoolFile, index: usize, table: &Table) -> Result<Outcome, LogsError> {
    client.lock(&table.path, LockMode::Exclusive, LockWait::UpTo(LOCK_WAIT)).await?;
    let node = client.get_with(&table.path, &["row_count", TABLE_ATTRIBUTE]).await?;
    let attribute = |name: &str| node.attributes.as_ref().and_then(|all| all.get(name.as_bytes()));
    let rows = attribute("row_count").and_then(ValueExt::as_uint).unwrap_or(0);
    let counts = verify::count(client, &Table { rows, ..table.clone() }).await?;
    if let Some(row) = counts.out_of_order {
        return Err(SpoolError::Disorder { table: table.path.clone(), row }.into());
    }
    let mut plan = Plan::new(&counts);
    let frames = file.frames(index);
    let mut batch = Batch::default();
    for (number, header) in frames.headers().enumerate() {
        let end = header.lines_before + header.lines;
        if end <= plan.covered.lines {
            continue;
        }
        let failed = |source| SpoolError::Read { path: file.path.clone(), source };
        let lines = frames.lines(number).map_err(failed)?;
        let before = Amount { lines: header.lines_before, bytes: header.bytes_before };
        if let Some(gap) = plan.gap_before(before) {
            // Its time is that of the line behind it.
            let first = lines.first().map_or((0, 0), |line| (line.timestamp, line.attempt));
            batch.push(gap_row(gap, first, plan.rows));
            plan.pass_gap(gap);
        }
        for line in lines {
            if line.seq >= plan.covered.lines {
                batch.push(line_row(&line, plan.rows));
                plan.pass_line(&line);
            }
            if batch.weight >= BATCH_BYTES {
                batch.write(client, &table.path).await?;
            }
        }
    }
    batch.write(client, &table.path).await?;
    let record = attribute(TABLE_ATTRIBUTE).and_then(|record| value::to_deserialize(record).ok());
    // A killed init has not said how much it had read, so the table stays open.
    if let (Some((lines, bytes)), Some(record)) = (file.end(index), record) {
        let record = plan.record(Amount { lines, bytes }, record);
        let record = value::from_serialize(&record).unwrap_or_else(|_| value::entity());
        client.set(&format!("{}/@{TABLE_ATTRIBUTE}", table.path), &record).await?;
    }
    let there = Amount { lines: counts.lines, bytes: counts.bytes };
    Ok(Outcome { there, added: plan.added, missing: plan.missing })
}

/// Makes the table that init could not make, as init makes it.
async fn create(client: &Client, table: &Table) -> Result<(), Error> {
    let columns = SCHEMA.iter().map(|Column { name, column_type, required }| {
        map([("name", string(name)), ("type", string(column_type)), ("required", boolean(*required))])
    });
    let schema = with_attributes(list(columns), [("strict", boolean(true)), ("unique_keys", boolean(false))]);
    let record = value::from_serialize(&table.record).unwrap_or_else(|_| value::entity());
    let attributes = [("schema", schema), (TABLE_ATTRIBUTE, record)];
    let options = CreateOptions {
        recursive: true,
        ignore_existing: true,
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
        ..CreateOptions::default()
    };
    client.create(NodeType::Table, &table.path, options).await.map(drop)
}

/// How far the table is, and what comes to it.
#[derive(Debug)]
struct Plan {
    /// Of what the process wrote: what the table holds or names as missing.
    covered: Amount,
    /// Rows of the table.
    rows: u64,
    counts: Counts,
    added: Amount,
    missing: Amount,
}

// === impl Plan ===

impl Plan {
    fn new(counts: &Counts) -> Self {
        Self {
            covered: Amount {
                lines: counts.lines + counts.dropped_lines,
                bytes: counts.bytes + counts.dropped_bytes,
            },
            rows: counts.rows,
            counts: *counts,
            added: Amount::default(),
            missing: Amount::default(),
        }
    }

    /// What neither the table nor the spool has in front of a frame.
    fn gap_before(&self, frame: Amount) -> Option<Amount> {
        let lines = frame.lines.checked_sub(self.covered.lines).filter(|lines| *lines > 0)?;
        Some(Amount { lines, bytes: frame.bytes.saturating_sub(self.covered.bytes) })
    }

    fn pass_gap(&mut self, gap: Amount) {
        self.rows += 1;
        self.covered.add(gap);
        self.missing.add(gap);
    }

    fn pass_line(&mut self, line: &Line) {
        self.rows += 1;
        let Content::Text { message, end } = &line.content else { return };
        let amount = Amount { lines: 1, bytes: (message.len() + end.bytes().len()) as u64 };
        self.covered.add(amount);
        self.added.add(amount);
    }

    /// The record of the table, complete as far as it can be, when its process wrote so much in all.
    fn record(&self, written: Amount, record: TableRecord) -> TableRecord {
        TableRecord {
            state: TableState::Closed,
            rows: self.rows,
            lines: self.counts.lines + self.added.lines,
            bytes: self.counts.bytes + self.added.bytes,
            dropped_lines: self.counts.dropped_lines + self.missing.lines,
            dropped_bytes: self.counts.dropped_bytes + self.missing.bytes,
            unshipped_lines: written.lines.saturating_sub(self.covered.lines),
            unshipped_bytes: written.bytes.saturating_sub(self.covered.bytes),
            ..record
        }
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
    }

    fn text(self) -> String {
        format!("{} {} ({})", self.lines, if self.lines == 1 { "line" } else { "lines" }, size(self.bytes))
    }
}

impl Outcome {
    fn text(&self) -> String {
        let Self { there, added, missing } = self;
        let lost = if missing.lines > 0 { format!("; {} are lost", missing.text()) } else { String::new() };
        format!("{} added, {} there before{lost}", added.text(), there.lines)
    }
}

/// Rows on their way.
#[derive(Debug, Default)]
struct Batch {
    rows: Vec<YsonValue>,
    weight: usize,
}

// === impl Batch ===

impl Batch {
    fn push(&mut self, (row, weight): (YsonValue, usize)) {
        self.rows.push(row);
        self.weight += weight;
    }

    async fn write(&mut self, client: &Client, path: &str) -> Result<(), Error> {
        if !self.rows.is_empty() {
            client.write_table(path, Append::Yes, &self.rows).await?;
        }
        *self = Self::default();
        Ok(())
    }
}

fn line_row(line: &Line, seq: u64) -> (YsonValue, usize) {
    let Line { timestamp, attempt, stream, content, .. } = line;
    let Content::Text { message, end } = content else { return (map::<&str>([]), 0) };
    let mut columns = columns(*timestamp, *attempt, *stream, seq);
    columns.push((column::MESSAGE, bytes(message.clone())));
    if *end != LineEnd::Newline {
        columns.push((column::LINE_END, bytes(end.bytes())));
    }
    (map(columns), line.weight())
}

fn gap_row(gap: Amount, (timestamp, attempt): (i64, u32), seq: u64) -> (YsonValue, usize) {
    let mut columns = columns(timestamp, attempt, Stream::Stderr, seq);
    let Amount { lines, bytes } = gap;
    let text = format!("tractorun: {lines} lines ({bytes} bytes) are missing here: init was killed");
    columns.extend([
        (column::MESSAGE, string(&text)),
        (column::DROPPED_LINES, uint(lines)),
        (column::DROPPED_BYTES, uint(bytes)),
    ]);
    (map(columns), text.len())
}

fn columns(timestamp: i64, attempt: u32, stream: Stream, seq: u64) -> Vec<(&'static str, YsonValue)> {
    let timestamp = u64::try_from(timestamp).unwrap_or(0);
    vec![
        (column::DATETIME, uint(timestamp / 1_000_000)),
        (column::FD, string(stream.name())),
        (column::TIMESTAMP, uint(timestamp)),
        (column::SEQ, uint(seq)),
        (column::ATTEMPT, uint(attempt)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lines: u64, dropped_lines: u64) -> Counts {
        Counts {
            rows: lines + u64::from(dropped_lines > 0),
            lines,
            bytes: 2 * lines,
            dropped_lines,
            dropped_bytes: 2 * dropped_lines,
            out_of_order: None,
        }
    }

    #[test]
    fn what_neither_has_is_a_gap_and_what_both_have_is_none() {
        let mut plan = Plan::new(&counts(5, 3));
        assert_eq!(plan.gap_before(Amount { lines: 8, bytes: 16 }), None);
        assert_eq!(plan.gap_before(Amount { lines: 3, bytes: 6 }), None);
        let gap = plan.gap_before(Amount { lines: 10, bytes: 20 }).unwrap();
        assert_eq!(gap, Amount { lines: 2, bytes: 4 });
        plan.pass_gap(gap);
        let line = Line { seq: 10, ..crate::logs::row::tests::line(7, "x") };
        plan.pass_line(&line);
        assert_eq!(plan.rows, 8);
        let record = plan.record(Amount { lines: 12, bytes: 24 }, TableRecord::default());
        assert_eq!((record.rows, record.lines, record.bytes), (8, 6, 12));
        assert_eq!((record.dropped_lines, record.dropped_bytes), (5, 10));
        assert_eq!((record.unshipped_lines, record.unshipped_bytes), (1, 2));
        let outcome =
            Outcome { there: Amount { lines: 5, bytes: 10 }, added: plan.added, missing: plan.missing };
        assert_eq!(outcome.text(), "1 line (2 B) added, 5 there before; 2 lines (4 B) are lost");
    }
}
