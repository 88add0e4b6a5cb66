//! Lines of many tables in the order of time.
//!
//! The memory it takes is bounded whatever the tables hold: every table has an equal share of [`BUDGET_BYTES`]
//! for lines read ahead, but at least one line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt, stream};
use tractorun_yt::Client;

use super::LogsError;
use super::options::Filter;
use super::row::Line;
use super::source::Source;
use super::time::Micros;

/// Bytes of lines that are read ahead, all tables taken together.
const BUDGET_BYTES: usize = 64 << 20;

/// The least and the most for one table: it is the least at first, so that the first lines come at once, and grows
/// with every reading.
const LEAST_BYTES: usize = 64 << 10;
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
    /// How often was read.
    readings: u32,
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
    /// the same line. Tables are asked of the client; spools need none.
    pub(crate) async fn next(
        &mut self,
        client: Option<&Client>,
        filter: &Filter,
    ) -> Result<Option<(usize, Line)>, LogsError> {
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
    async fn read(&mut self, client: Option<&Client>, filter: &Filter) -> Result<(), LogsError> {
        let most = (BUDGET_BYTES / self.sources.len().max(1)).min(MOST_BYTES);
        let share = LEAST_BYTES.saturating_mul(1 << self.readings.min(16)).min(most);
        self.readings += 1;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::tests::line;
    use super::*;

    /// All lines of tables that were read already, in the order they come: table and text.
    fn merged(tables: &[Vec<Micros>]) -> Vec<(Micros, usize, usize)> {
        let mut merge = Merge::default();
        for times in tables {
            let mut source = Source::new(String::new(), 0);
            for (number, time) in times.iter().enumerate() {
                source.hold(line(*time, &number.to_string()));
            }
            merge.add(source);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Vec::new();
            while let Some((index, line)) = merge.next(None, &Filter::default()).await.unwrap() {
                let super::super::row::Content::Text { message, .. } = &line.content else { panic!("a gap") };
                let number = String::from_utf8_lossy(message).parse().unwrap();
                lines.push((line.timestamp, index, number));
            }
            lines
        })
    }

    #[test]
    fn lines_of_the_same_time_come_by_table_and_those_of_a_table_in_its_order() {
        let found = merged(&[vec![5, 5, 9], vec![], vec![1, 5, 3]]);
        assert_eq!(found, [(1, 2, 0), (5, 0, 0), (5, 0, 1), (5, 2, 1), (3, 2, 2), (9, 0, 2)]);
    }

    proptest! {
        #[test]
        fn every_line_comes_once_and_in_the_order_of_time(
            mut tables in prop::collection::vec(prop::collection::vec(0..50_i64, 0..20), 0..6),
        ) {
            for times in &mut tables {
                times.sort_unstable();
            }
            let mut expected: Vec<(Micros, usize, usize)> = tables
                .iter()
                .enumerate()
                .flat_map(|(table, times)| times.iter().enumerate().map(move |(number, time)| (*time, table, number)))
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(merged(&tables), expected);
        }
    }
}
