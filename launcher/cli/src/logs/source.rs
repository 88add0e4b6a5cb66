//! Lines of one table, read ahead in bounded pieces from the row where it is.
//!
//! The position is a row number, which rows of a log table keep for ever. It moves with each row that came, so
//! that a broken connection, or a future that was dropped, loses no line and doubles none.

use std::collections::VecDeque;
use std::io;

use tractorun_yt::{Client, Error};

use super::LogsError;
use super::options::Filter;
use super::row::{Assembler, COLUMNS, Content, Line};
use super::spool::Frames;

/// Rows that are asked for at first, when nobody knows how long they are.
const FIRST_ROWS: u64 = 1000;

/// The most rows that are asked for at once.
const MOST_ROWS: u64 = 50_000;

/// A table that is being read.
#[derive(Debug)]
pub(crate) struct Source {
    origin: Origin,
    /// The next row, or frame of a spool, to read.
    position: u64,
    /// As far as there are any now.
    end: u64,
    assembler: Assembler,
    lines: VecDeque<Line>,
    weight: usize,
    /// Rows and their weight so far: how long a row is.
    seen: (u64, u64),
}

/// Where lines come from.
#[derive(Debug)]
enum Origin {
    /// The table of that path.
    Table(String),
    /// What an init has left of one.
    Spool(Frames),
}

impl Source {
    /// Reads the table from that row on.
    pub(crate) fn new(path: String, position: u64) -> Self {
        Self::of(Origin::Table(path), position, position)
    }

    /// Reads what an init has left of a table.
    pub(crate) fn of_spool(frames: Frames) -> Self {
        let count = frames.count() as u64;
        Self::of(Origin::Spool(frames), 0, count)
    }

    fn of(origin: Origin, position: u64, end: u64) -> Self {
        Self {
            origin,
            position,
            end,
            assembler: Assembler::default(),
            lines: VecDeque::new(),
            weight: 0,
            seen: (0, 0),
        }
    }

    /// The table has grown up to there.
    pub(crate) fn grow(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Whether there are rows that were not read.
    pub(crate) fn has_more(&self) -> bool {
        self.position < self.end
    }

    /// The next line that was read.
    pub(crate) fn first(&self) -> Option<&Line> {
        self.lines.front()
    }

    /// Takes the next line.
    pub(crate) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.weight -= line.weight();
        Some(line)
    }

    /// Bytes that its lines take.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Gives the lines that have begun and will never end: nothing more is written.
    pub(crate) fn finish(&mut self, filter: &Filter) {
        let mut lines = VecDeque::new();
        self.assembler.finish(&mut lines);
        self.take(lines, filter);
    }

    /// Reads on until there are lines of so many bytes, or all rows are read.
    pub(crate) async fn fill(
        &mut self,
        client: Option<&Client>,
        filter: &Filter,
        budget: usize,
    ) -> Result<(), LogsError> {
        match (&self.origin, client) {
            (Origin::Table(path), Some(client)) => {
                let path = path.clone();
                self.fill_from_table(client, &path, filter, budget).await.map_err(LogsError::Cluster)
            }
            (Origin::Spool(frames), _) => {
                let frames = frames.clone();
                self.fill_from_spool(&frames, filter, budget).map_err(LogsError::ReadSpool)
            }
            // Nobody reads tables without a cluster.
            (Origin::Table(_), None) => Ok(()),
        }
    }

    fn fill_from_spool(&mut self, frames: &Frames, filter: &Filter, budget: usize) -> io::Result<()> {
        while self.has_more() && self.weight < budget {
            let rows = frames.lines(usize::try_from(self.position).unwrap_or(usize::MAX))?;
            self.position += 1;
            let mut lines = VecDeque::new();
            for row in rows {
                self.assembler.push(row, &mut lines);
            }
            self.take(lines, filter);
        }
        Ok(())
    }

    async fn fill_from_table(
        &mut self,
        client: &Client,
        path: &str,
        filter: &Filter,
        budget: usize,
    ) -> Result<(), Error> {
        while self.has_more() && self.weight < budget {
            let wanted = self.rows_for(budget - self.weight);
            let end = self.end.min(self.position.saturating_add(wanted));
            let mut rows = client.open_rows(path, self.position..end, &COLUMNS);
            let first = self.position;
            while self.weight < budget
                && let Some(row) = rows.next().await?
            {
                let line = Line::of_row(row, self.position);
                self.seen = (self.seen.0 + 1, self.seen.1 + line.weight() as u64);
                self.position += 1;
                let mut lines = VecDeque::new();
                self.assembler.push(line, &mut lines);
                self.take(lines, filter);
            }
            if self.position == first {
                // The table is shorter than it was: somebody has replaced it.
                self.end = self.position;
            }
        }
        Ok(())
    }

    fn take(&mut self, lines: VecDeque<Line>, filter: &Filter) {
        for line in lines.into_iter().filter(|line| filter.accepts(line)) {
            self.hold(line);
        }
    }

    pub(super) fn hold(&mut self, line: Line) {
        self.weight += line.weight();
        self.lines.push_back(line);
    }

    fn rows_for(&self, budget: usize) -> u64 {
        match self.seen {
            (0, _) => FIRST_ROWS,
            (rows, weight) => (budget as u64 * rows / weight.max(1)).clamp(1, MOST_ROWS),
        }
    }
}

impl Filter {
    /// Whether the line is shown. A gap is, whatever it may have held.
    pub(crate) fn accepts(&self, line: &Line) -> bool {
        self.since.is_none_or(|since| line.timestamp >= since) && self.takes(line)
    }

    /// Whether it is shown whenever it was written.
    pub(crate) fn takes(&self, line: &Line) -> bool {
        match &line.content {
            Content::Gap { .. } => true,
            Content::Text { message, .. } => {
                self.stream.is_none_or(|stream| line.stream == stream)
                    && self.grep.as_ref().is_none_or(|grep| grep.is_match(message))
            }
        }
    }

    /// Whether every line is shown, whatever it says.
    pub(crate) fn takes_all(&self) -> bool {
        self.stream.is_none() && self.grep.is_none()
    }
}
