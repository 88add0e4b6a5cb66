//! `--verify`: whether the tables hold all that init counted.

use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};
use tractorun_contract::logs::{TableRecord, TableState, column};
use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, Error};

use super::LogsError;
use super::catalog::{Incarnation, Table};
use super::options::{Options, Wanted};
use super::render::Process;
use crate::commands::terminal::size;

/// Tables that are counted at the same time.
const AT_ONCE: usize = 8;

/// What is found in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows.
    pub(crate) rows: u64,
    /// Rows that hold lines of the process.
    pub(crate) lines: u64,
    /// Bytes of these.
    pub(crate) bytes: u64,
    /// Lines that rows name as dropped.
    pub(crate) dropped_lines: u64,
    /// Their bytes.
    pub(crate) dropped_bytes: u64,
    /// The first row whose `seq` is not its number.
    pub(crate) out_of_order: Option<u64>,
}

/// What is to be said of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// All that init counted is there.
    Whole(Counts),
    /// Something is not.
    Missing(Vec<String>),
    /// Init counted nothing: it runs, or it was killed.
    Unfinished {
        /// What there is.
        counts: Counts,
        /// Whether the run is over.
        end: End,
    },
    /// The table says nothing of itself: the Python tractorun wrote it.
    Uncounted(Counts),
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing.
    Over,
    /// The run goes on.
    GoesOn,
}

/// How many tables of each kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    whole: usize,
    missing: usize,
    unfinished: usize,
    running: usize,
    uncounted: usize,
}

/// Looks at every table that is wanted, and at those that should be there. Tables come in order, findings too.
pub(crate) async fn run(
    client: &Client,
    incarnation: &Incarnation,
    tables: &[Table],
    options: &Options,
    end: End,
    mut say: impl FnMut(&str) -> Result<(), LogsError>,
) -> Result<Summary, LogsError> {
    let mut summary = Summary::default();
    let absent = absent(incarnation, tables, options);
    let wanted = tables.iter().filter(|table| options.selection.contains(table));
    let mut found = stream::iter(wanted.map(|table| async move {
        let counts = count(client, table).await?;
        Ok::<_, Error>((table.process, judge(table.record.as_ref(), counts, end)))
    }))
    .buffered(AT_ONCE);
    while let Some((process, finding)) = found.try_next().await? {
        summary.add(&finding);
        say(&format!("{process}: {finding}"))?;
    }
    for process in absent {
        let finding = match end {
            End::Over => Finding::Missing(vec!["there is no table".to_owned()]),
            End::GoesOn => Finding::Unfinished { counts: Counts::default(), end },
        };
        summary.add(&finding);
        say(&format!("{process}: {finding}"))?;
    }
    say(&summary.to_string())?;
    Ok(summary)
}

/// Workers that have no table. Those of certain nodes are not known.
fn absent(incarnation: &Incarnation, tables: &[Table], options: &Options) -> Vec<Process> {
    let count = incarnation.worker_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let mut wanted: Vec<u32> = match (&options.selection.workers, &options.selection.nodes) {
        (Wanted::None, _) | (_, Some(_)) => Vec::new(),
        (workers, None) => (0..count).filter(|rank| workers.contains(*rank)).collect(),
    };
    wanted.retain(|rank| !tables.iter().any(|table| table.process == Process::Worker(*rank)));
    wanted.into_iter().map(Process::Worker).collect()
}

pub(super) async fn count(client: &Client, table: &Table) -> Result<Counts, Error> {
    let columns =
        [column::MESSAGE, column::SEQ, column::LINE_END, column::DROPPED_LINES, column::DROPPED_BYTES];
    let mut rows = client.open_rows(&table.path, 0..table.rows, &columns);
    let mut counts = Counts::default();
    while let Some(row) = rows.next().await? {
        let length = |name: &str| row.get(name).and_then(ValueExt::as_bytes).map(<[u8]>::len);
        if row.get(column::SEQ).and_then(ValueExt::as_uint).is_some_and(|seq| seq != counts.rows) {
            counts.out_of_order.get_or_insert(counts.rows);
        }
        counts.rows += 1;
        if let Some(lines) = row.get(column::DROPPED_LINES).and_then(ValueExt::as_uint) {
            counts.dropped_lines += lines;
            counts.dropped_bytes += row.get(column::DROPPED_BYTES).and_then(ValueExt::as_uint).unwrap_or(0);
        } else {
            counts.lines += 1;
            // Null stands for a newline, which is a byte too.
            let bytes = length(column::MESSAGE).unwrap_or(0) + length(column::LINE_END).unwrap_or(1);
            counts.bytes += bytes as u64;
        }
    }
    Ok(counts)
}

/// Compares what is there with what init counted.
pub(crate) fn judge(record: Option<&TableRecord>, counts: Counts, end: End) -> Finding {
    let Some(record) = record else { return Finding::Uncounted(counts) };
    let mut missing = Vec::new();
    if let Some(row) = counts.out_of_order {
        missing.push(format!("row {row} is not the one with that number"));
    }
    if record.state == TableState::Open {
        return if missing.is_empty() {
            Finding::Unfinished { counts, end }
        } else {
            Finding::Missing(missing)
        };
    }
    if counts.rows != record.rows {
        missing.push(format!("{} rows are in the table, init wrote {}", counts.rows, record.rows));
    } else if counts.bytes != record.bytes || counts.lines != record.lines {
        missing.push(format!(
            "{} lines of {} bytes are in the table, init wrote {} of {}",
            counts.lines, counts.bytes, record.lines, record.bytes
        ));
    }
    if record.dropped_lines > 0 {
        let bytes = size(record.dropped_bytes);
        missing.push(format!("{} lines ({bytes}) were dropped: there was no room", record.dropped_lines));
    }
    if record.unshipped_lines > 0 {
        let bytes = size(record.unshipped_bytes);
        missing.push(format!(
            "{} lines ({bytes}) could not be shipped before init had to end",
            record.unshipped_lines
        ));
    }
    if missing.is_empty() { Finding::Whole(counts) } else { Finding::Missing(missing) }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {}", self.rows, size(self.bytes))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(counts) => write!(f, "ok, {counts}"),
            Self::Missing(what) => write!(f, "missing: {}", what.join("; ")),
            Self::Unfinished { counts, end: End::GoesOn } => {
                write!(f, "unfinished, {counts} so far: the run goes on")
            }
            Self::Unfinished { counts, end: End::Over } => {
                write!(f, "unfinished, {counts}: init was killed before it could say how much it had read")
            }
            Self::Uncounted(counts) => {
                write!(f, "uncounted, {counts}: the table does not say what should be in it")
            }
        }
    }
}

// === impl Summary ===

impl Summary {
    fn add(&mut self, finding: &Finding) {
        match finding {
            Finding::Whole(_) => self.whole += 1,
            Finding::Missing(_) => self.missing += 1,
            Finding::Unfinished { end: End::Over, .. } => self.unfinished += 1,
            Finding::Unfinished { end: End::GoesOn, .. } => self.running += 1,
            Finding::Uncounted(_) => self.uncounted += 1,
        }
    }

    /// Whether something is missing, or may be.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.missing + self.unfinished > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whole, missing, unfinished, running, uncounted } = self;
        let total = whole + missing + unfinished + running + uncounted;
        write!(f, "{total} tables: {whole} ok")?;
        for (count, what) in
            [(missing, "missing"), (&(unfinished + running), "unfinished"), (uncounted, "uncounted")]
        {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> TableRecord {
        TableRecord { state: TableState::Closed, rows: 3, lines: 3, bytes: 30, ..TableRecord::default() }
    }

    const WHOLE: Counts =
        Counts { rows: 3, lines: 3, bytes: 30, dropped_lines: 0, dropped_bytes: 0, out_of_order: None };

    fn said(record: Option<&TableRecord>, counts: Counts, end: End) -> String {
        judge(record, counts, end).to_string()
    }

    #[test]
    fn what_init_counted_is_what_must_be_there() {
        assert_eq!(said(Some(&closed()), WHOLE, End::Over), "ok, 3 rows, 30 B");
        let fewer = Counts { rows: 2, ..WHOLE };
        assert_eq!(said(Some(&closed()), fewer, End::Over), "missing: 2 rows are in the table, init wrote 3");
        let shorter = Counts { bytes: 29, ..WHOLE };
        assert_eq!(
            said(Some(&closed()), shorter, End::Over),
            "missing: 3 lines of 29 bytes are in the table, init wrote 3 of 30"
        );
        let doubled = Counts { out_of_order: Some(1), ..WHOLE };
        assert_eq!(
            said(Some(&closed()), doubled, End::Over),
            "missing: row 1 is not the one with that number"
        );
    }

    #[test]
    fn what_was_dropped_or_not_shipped_is_missing() {
        let record = TableRecord {
            dropped_lines: 5,
            dropped_bytes: 2048,
            unshipped_lines: 7,
            unshipped_bytes: 10,
            ..closed()
        };
        assert_eq!(
            said(Some(&record), WHOLE, End::Over),
            "missing: 5 lines (2.00 KiB) were dropped: there was no room; \
             7 lines (10 B) could not be shipped before init had to end"
        );
    }

    #[test]
    fn without_counts_nobody_knows() {
        let open = TableRecord::default();
        assert_eq!(
            said(Some(&open), WHOLE, End::Over),
            "unfinished, 3 rows, 30 B: init was killed before it could say how much it had read"
        );
        assert_eq!(said(Some(&open), WHOLE, End::GoesOn), "unfinished, 3 rows, 30 B so far: the run goes on");
        assert_eq!(
            said(None, WHOLE, End::Over),
            "uncounted, 3 rows, 30 B: the table does not say what should be in it"
        );
    }

    #[test]
    fn the_sum_says_whether_something_may_be_missing() {
        let mut summary = Summary::default();
        summary.add(&Finding::Whole(WHOLE));
        summary.add(&Finding::Unfinished { counts: WHOLE, end: End::GoesOn });
        assert!(!summary.is_incomplete());
        assert_eq!(summary.to_string(), "2 tables: 1 ok, 1 unfinished");
        summary.add(&Finding::Unfinished { counts: WHOLE, end: End::Over });
        assert!(summary.is_incomplete());
        summary.add(&Finding::Missing(vec![]));
        assert_eq!(summary.to_string(), "4 tables: 1 ok, 1 missing, 2 unfinished");
    }
}
