//! Where in a table to begin, so that `--since` and `--tail` need not read all of it.

use std::collections::VecDeque;

use tractorun_contract::logs::column;
use tractorun_yt::{Client, Error};

use super::catalog::Table;
use super::options::{Filter, Options};
use super::row::{Assembler, COLUMNS, Line};
use super::time::Micros;

/// So many rows are read rather than searched.
const FEW_ROWS: u64 = 2000;

/// Where few lines are wanted, and fewer of them than are asked for among so many rows, all rows are read, once.
const MOST_SEARCHED_ROWS: u64 = 100_000;

/// The two streams of a process are read one after the other, so that their rows are nearly in the order of time.
const DISORDER: Micros = 2_000_000;

/// The first row of a table that is needed.
pub(crate) async fn start(client: &Client, table: &Table, options: &Options) -> Result<u64, Error> {
    let since = match options.filter.since {
        Some(since) => since_row(client, table, since).await?,
        None => 0,
    };
    match options.tail {
        Some(count) => tail(client, table, since, count, &options.filter).await,
        None => Ok(since),
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

/// A row from which on there are so many whole lines that are wanted, or the row that is given.
async fn tail(
    client: &Client,
    table: &Table,
    from: u64,
    count: usize,
    filter: &Filter,
) -> Result<u64, Error> {
    // One more for each stream: the first line of each may have begun before. A line takes one row, nearly always.
    let wanted = count.saturating_add(2);
    let mut window = wanted as u64;
    // What takes all lines need not know what they say.
    let columns = if filter.takes_all() { &[column::LINE_END][..] } else { &COLUMNS };
    loop {
        let first = table.rows.saturating_sub(window);
        if first <= from || (!filter.takes_all() && window > MOST_SEARCHED_ROWS) {
            return Ok(from);
        }
        let mut rows = client.open_rows(&table.path, first..table.rows, columns);
        let (mut assembler, mut lines) = (Assembler::default(), VecDeque::new());
        let mut found = 0_usize;
        while let Some(row) = rows.next().await? {
            assembler.push(Line::of_row(row, first), &mut lines);
            found += lines.drain(..).filter(|line| filter.takes(line)).count();
        }
        if found >= wanted {
            return Ok(first);
        }
        window = window.saturating_mul(4);
    }
}
