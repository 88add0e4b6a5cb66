//! Lines of many tables in the order of time.
//!
//! The memory it takes is bounded whatever the tables hold: every table has an equal share of [`BUDGET_BYTES`]
//! for lines read ahead, but at least one line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt, stream};
use tractorun_yt::{Client, Error};

use super::options::Filter;
use super::row::Line;
use super::source::Source;
use super::time::Micros;

/// Bytes of lines that are read ahead, all tables taken together.
const BUDGET_BYTES: usize = 64 << 20;

/// The most for one table.
const MOST_BYTES: usize = 8 << 20;

/// Tables that are read at the same time.
const AT_ONCE: usize = 8;

/// Tables that are being read together.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// First lines of the sources that have one.
    firsts: BinaryHeap<Reverse<(Micros, usize)>>,
    /// Sources without a first line.
    waiting: Vec<usize>,
}

impl Merge {
    /// Adds a table; its index is the number of those before it.
    pub(crate) fn add(&mut self, source: Source) {
        self.waiting.push(self.sources.len());
        self.sources.push(source);
    }

    /// All tables.
    pub(crate) fn sources(&mut self) -> &mut [Source] {
        &mut self.sources
    }

    /// The next line and the index of its table; `None` when all rows are read. After an error it goes on with
    /// the same line.
    pub(crate) async fn next(
        &mut self,
        client: &Client,
        filter: &Filter,
    ) -> Result<Option<(usize, Line)>, Error> {
        // What comes next is known only once every table that has a line shows its first.
        if self.waiting.iter().any(|index| self.sources[*index].has_more()) {
            self.read(client, filter).await?;
        }
        self.wake();
        let Some(Reverse((_, index))) = self.firsts.pop() else { return Ok(None) };
        let line = self.sources[index].pop();
        match self.sources[index].first() {
            Some(first) => self.firsts.push(Reverse((first.timestamp, index))),
            None => self.waiting.push(index),
        }
        Ok(line.map(|line| (index, line)))
    }

    /// Reads for all tables that have little left, not only for those that have nothing: tables that are read
    /// alike run dry one after the other.
    async fn read(&mut self, client: &Client, filter: &Filter) -> Result<(), Error> {
        let share = (BUDGET_BYTES / self.sources.len().max(1)).min(MOST_BYTES);
        let thirsty =
            self.sources.iter_mut().filter(|source| source.has_more() && source.weight() < share / 2);
        stream::iter(thirsty.map(|source| source.fill(client, filter, share)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    fn wake(&mut self) {
        let (sources, firsts) = (&self.sources, &mut self.firsts);
        self.waiting.retain(|index| match sources[*index].first() {
            Some(first) => {
                firsts.push(Reverse((first.timestamp, *index)));
                false
            }
            None => true,
        });
    }
}
