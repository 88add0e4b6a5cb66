//! Where in a table to begin, so that `--since` and `--tail` need not read all of it.

use tractorun_contract::logs::column;
use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, Error};

use super::catalog::Table;
use super::options::Options;
use super::row::Line;
use super::time::Micros;

/// So many rows are read rather than searched.
const FEW_ROWS: u64 = 2000;

/// The two streams of a process are read one after the other, so that their rows are nearly in the order of time.
const DISORDER: Micros = 2_000_000;

/// The first row of a table that is needed.
pub(crate) async fn start(client: &Client, table: &Table, options: &Options) -> Result<u64, Error> {
    match (options.filter.since, options.tail) {
        (None, Some(count)) if options.filter.is_open() => tail(client, table, count).await,
        (Some(since), _) => since_row(client, table, since).await,
        (None, _) => Ok(0),
    }
}

/// A row before which there is none of that time or later.
async fn since_row(client: &Client, table: &Table, since: Micros) -> Result<u64, Error> {
    let (mut first, mut last) = (0, table.rows);
    while last - first > FEW_ROWS {
        let middle = first + (last - first) / 2;
        let columns = [column::TIMESTAMP, column::DATETIME];
        let row = client.open_rows(&table.path, middle..middle + 1, &columns).next().await?;
        let Some(row) = row else { break };
        if Line::of_row(row, middle).timestamp < since.saturating_sub(DISORDER) {
            first = middle;
        } else {
            last = middle;
        }
    }
    Ok(first)
}

/// A row from which on there are so many whole lines. A line takes one row, nearly always.
async fn tail(client: &Client, table: &Table, count: usize) -> Result<u64, Error> {
    // One more for each stream: the first line of each may have begun before.
    let mut window = (count as u64).saturating_add(2);
    loop {
        let first = table.rows.saturating_sub(window);
        if first == 0 {
            return Ok(0);
        }
        let mut rows = client.open_rows(&table.path, first..table.rows, &[column::LINE_END]);
        let mut lines = 0_usize;
        while let Some(row) = rows.next().await? {
            let goes_on = row.get(column::LINE_END).and_then(ValueExt::as_bytes) == Some(b"");
            lines += usize::from(!goes_on);
        }
        if lines >= count.saturating_add(2) {
            return Ok(first);
        }
        window = window.saturating_mul(4);
    }
}
