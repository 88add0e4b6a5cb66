//! All lines of a node that are not in their tables yet: a plain structure without locks, IO or clock.
//!
//! For each table a queue of blocks, oldest first. The first ones may be *pinned*: they are on their way, and nobody
//! knows what became of them, so they must neither change nor go. Blocks lie in memory or in the spool; which of them
//! does not change their order. Only the shipper takes from a queue, only the pump adds to it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::block::{Block, Content, Dropped, Extent, Record};
use super::cut;

/// A block is closed when it is this large: enough for one write to the disk.
const BLOCK_BYTES: usize = 128 * 1024;

/// The lines of a node.
#[derive(Debug)]
pub(super) struct Store {
    tables: Vec<Table>,
    /// Bytes of all blocks in memory.
    memory: u64,
    /// Bytes of all blocks in the spool.
    spooled: u64,
    next_age: u64,
}

/// The lines of one table.
#[derive(Debug, Default)]
struct Table {
    blocks: VecDeque<Block>,
    /// So many of the first blocks are on their way.
    pinned: usize,
    /// The newest block, which still grows.
    open: Vec<u8>,
    open_rows: u64,
    open_bytes: u64,
    open_attempt: u32,
    /// What is in the table.
    committed: Totals,
}

/// How much of a table there is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    /// Rows, those about dropped lines included.
    pub(super) rows: u64,
    /// Rows that hold lines.
    pub(super) lines: u64,
    /// Their bytes, ends included.
    pub(super) bytes: u64,
    /// Lines that were dropped.
    pub(super) dropped_lines: u64,
    /// Their bytes.
    pub(super) dropped_bytes: u64,
}

/// Blocks of one table that go together.
#[derive(Debug, Clone)]
pub(super) struct Lot {
    /// Index of the table.
    pub(super) table: usize,
    pub(super) blocks: Vec<Block>,
    /// Number of their first row.
    pub(super) first_seq: u64,
    /// What is in the table once they are.
    pub(super) after: Totals,
}

/// How much may be on its way at a time. At least one block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Bytes of blocks in memory: they stay there until they are in the table.
    pub(super) memory: u64,
    /// Bytes of blocks in the spool.
    pub(super) spooled: u64,
}

/// How much waits that is not on its way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) bytes: u64,
    /// Tables that it is for.
    pub(super) tables: usize,
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, block: &Block) {
        self.rows += block.rows;
        if let Content::Dropped(dropped) = &block.content {
            self.dropped_lines += dropped.lines;
            self.dropped_bytes += dropped.bytes;
        } else {
            self.lines += block.rows;
            self.bytes += block.bytes;
        }
    }
}

// === impl Store ===

impl Store {
    /// Nothing for so many tables.
    pub(super) fn new(tables: usize) -> Self {
        let tables = (0..tables).map(|_| Table::default()).collect();
        Self { tables, memory: 0, spooled: 0, next_age: 0 }
    }

    /// Bytes of all blocks in memory.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of all blocks in the spool.
    pub(super) fn spooled(&self) -> u64 {
        self.spooled
    }

    /// What is in a table.
    pub(super) fn committed(&self, table: usize) -> Totals {
        self.tables[table].committed
    }

    /// Takes whole rows, in two parts that belong together.
    pub(super) fn push(&mut self, table: usize, record: &Record, head: &[u8], tail: &[u8]) {
        let table = &mut self.tables[table];
        if table.open.is_empty() {
            table.open_attempt = record.attempt;
        }
        let before = table.open.len();
        record.write(head, tail, &mut table.open);
        let written = &table.open[table.open.len() - head.len() - tail.len()..];
        table.open_rows += cut::rows(written).count() as u64;
        table.open_bytes += written.len() as u64;
        self.memory += (table.open.len() - before) as u64;
        if table.open.len() >= BLOCK_BYTES {
            table.close_block(&mut self.next_age);
        }
    }

    /// How much waits in tables that `wanted` names.
    pub(super) fn pending(&self, wanted: impl Fn(usize) -> bool) -> Pending {
        let mut pending = Pending::default();
        for (_, table) in self.tables.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            let waiting = table.blocks.iter().skip(table.pinned);
            let bytes = table.open.len() as u64 + waiting.clone().map(Block::size).sum::<u64>();
            if bytes > 0 || waiting.count() > 0 {
                pending.tables += 1;
                pending.bytes += bytes;
            }
        }
        pending
    }

    /// Takes the oldest lines of a table, up to about so many bytes of memory and so many of the spool, to be sent;
    /// they stay pinned until [`Store::commit`] or [`Store::unpin`].
    pub(super) fn take(&mut self, index: usize, limit: Limit) -> Option<Lot> {
        let table = &mut self.tables[index];
        table.close_block(&mut self.next_age);
        let Limit { mut memory, mut spooled } = limit;
        let mut after = table.committed;
        let mut blocks = Vec::new();
        for block in &table.blocks {
            let room = match &block.content {
                Content::Memory(_) => &mut memory,
                Content::Spooled(_) | Content::Dropped(_) => &mut spooled,
            };
            if *room == 0 {
                break;
            }
            *room = room.saturating_sub(block.size());
            after.add(block);
            blocks.push(block.clone());
        }
        table.pinned = blocks.len();
        let first_seq = table.committed.rows;
        (!blocks.is_empty()).then_some(Lot { table: index, blocks, first_seq, after })
    }

    /// What was pinned is in the table; gives back what it took of the spool.
    pub(super) fn commit(&mut self, index: usize) -> Vec<Extent> {
        let table = &mut self.tables[index];
        let mut extents = Vec::new();
        for block in table.blocks.drain(..std::mem::take(&mut table.pinned)) {
            table.committed.add(&block);
            match &block.content {
                Content::Memory(bytes) => self.memory -= bytes.len() as u64,
                Content::Spooled(extent) => {
                    self.spooled -= extent.length;
                    extents.push(*extent);
                }
                Content::Dropped(_) => {}
            }
        }
        extents
    }

    /// What was pinned is not in the table.
    pub(super) fn unpin(&mut self, index: usize) {
        self.tables[index].pinned = 0;
    }

    /// The oldest block in memory that is not on its way.
    pub(super) fn oldest_in_memory(&mut self) -> Option<(usize, usize, Bytes)> {
        let in_memory = |block: &Block| matches!(block.content, Content::Memory(_));
        let mut oldest = self.oldest(in_memory);
        if oldest.is_none() {
            self.close_blocks();
            oldest = self.oldest(in_memory);
        }
        let (table, block) = oldest?;
        match &self.tables[table].blocks[block].content {
            Content::Memory(bytes) => Some((table, block, bytes.clone())),
            _ => None,
        }
    }

    /// That block is in the spool now.
    pub(super) fn moved(&mut self, table: usize, block: usize, extent: Extent) {
        self.tables[table].blocks[block].content = Content::Spooled(extent);
        self.memory -= extent.length;
        self.spooled += extent.length;
    }

    /// Drops the oldest lines that are not on their way and leaves a row in their place; gives back what they took of
    /// the spool. `None` if there are none.
    pub(super) fn drop_oldest(&mut self, time_us: u64) -> Option<Vec<Extent>> {
        let holds_lines = |block: &Block| !matches!(block.content, Content::Dropped(_));
        let mut oldest = self.oldest(holds_lines);
        if oldest.is_none() {
            self.close_blocks();
            oldest = self.oldest(holds_lines);
        }
        let (index, at) = oldest?;
        let table = &mut self.tables[index];
        let block = table.blocks.remove(at)?;
        let mut extents = Vec::new();
        match &block.content {
            Content::Memory(bytes) => self.memory -= bytes.len() as u64,
            Content::Spooled(extent) => {
                self.spooled -= extent.length;
                extents.push(*extent);
            }
            Content::Dropped(_) => {}
        }
        let mut dropped = Dropped { lines: block.rows, bytes: block.bytes, attempt: block.attempt, time_us };
        // Only what was dropped before can lie between it and what is pinned.
        let marker = at.checked_sub(1).filter(|before| *before >= table.pinned);
        if let Some(before) = marker {
            if let Content::Dropped(earlier) = &table.blocks[before].content {
                dropped.lines += earlier.lines;
                dropped.bytes += earlier.bytes;
            }
            table.blocks[before].content = Content::Dropped(dropped);
        } else {
            let content = Content::Dropped(dropped);
            table.blocks.insert(at, Block { content, rows: 1, bytes: 0, ..block });
        }
        Some(extents)
    }

    fn close_blocks(&mut self) {
        for table in &mut self.tables {
            table.close_block(&mut self.next_age);
        }
    }

    /// The oldest block that is not pinned and fits.
    fn oldest(&self, fits: impl Fn(&Block) -> bool) -> Option<(usize, usize)> {
        let firsts = self.tables.iter().enumerate().filter_map(|(index, table)| {
            let mut waiting = table.blocks.iter().enumerate().skip(table.pinned);
            let (at, block) = waiting.find(|(_, block)| fits(block))?;
            Some((block.age, index, at))
        });
        firsts.min().map(|(_, table, block)| (table, block))
    }
}

// === impl Table ===

impl Table {
    fn close_block(&mut self, next_age: &mut u64) {
        if self.open.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.open);
        // A vector grows by doubling, and what it has too much is counted nowhere.
        bytes.shrink_to_fit();
        self.blocks.push_back(Block {
            content: Content::Memory(bytes.into()),
            rows: std::mem::take(&mut self.open_rows),
            bytes: std::mem::take(&mut self.open_bytes),
            age: *next_age,
            attempt: self.open_attempt,
        });
        *next_age += 1;
    }
}

// === impl Block ===

impl Block {
    /// Bytes that it takes, wherever it is.
    fn size(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Spooled(extent) => extent.length,
            Content::Dropped(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::OutputStream;

    const ALL: Limit = limit(u64::MAX);

    const fn limit(bytes: u64) -> Limit {
        Limit { memory: bytes, spooled: bytes }
    }

    fn record() -> Record {
        Record { stream: OutputStream::Stdout, attempt: 0, time_us: 7 }
    }

    fn push(store: &mut Store, table: usize, text: &str) {
        store.push(table, &record(), text.as_bytes(), b"");
    }

    #[test]
    fn what_is_taken_stays_until_it_is_committed_and_is_numbered_from_there() {
        let mut store = Store::new(2);
        push(&mut store, 1, "a\nb\n");
        assert_eq!(store.pending(|_| true).tables, 1);
        let lot = store.take(1, ALL).unwrap();
        assert_eq!((lot.first_seq, lot.after.rows, lot.after.lines, lot.after.bytes), (0, 2, 2, 4));
        push(&mut store, 1, "c\rd");
        assert_eq!(store.pending(|_| true).tables, 1, "only what is not on its way waits");

        store.unpin(1);
        let again = store.take(1, ALL).unwrap();
        assert_eq!((again.blocks.len(), again.first_seq, again.after.rows), (2, 0, 4));
        assert_eq!(store.commit(1), []);
        assert_eq!(store.committed(1), again.after);
        assert_eq!(store.memory(), 0);
        assert!(store.take(1, ALL).is_none());
        assert!(store.take(0, ALL).is_none());
    }

    #[test]
    fn the_oldest_are_dropped_and_one_row_says_how_many() {
        let mut store = Store::new(2);
        for text in ["1\n2\n", "3\n", "4\n"] {
            push(&mut store, 0, text);
            // Closes the block.
            store.take(0, limit(0));
        }
        let pinned = store.take(0, limit(1)).unwrap();
        assert_eq!(pinned.blocks.len(), 1);
        assert_eq!(store.drop_oldest(9), Some(vec![]));
        assert_eq!(store.drop_oldest(9), Some(vec![]));
        assert_eq!(store.drop_oldest(9), None, "what is on its way is not dropped");
        push(&mut store, 0, "5\n");
        store.commit(0);
        let lot = store.take(0, ALL).unwrap();
        assert_eq!(lot.first_seq, 2);
        let dropped = Dropped { lines: 2, bytes: 4, attempt: 0, time_us: 9 };
        assert!(matches!(&lot.blocks[0].content, Content::Dropped(found) if *found == dropped));
        let after = Totals { rows: 4, lines: 3, bytes: 6, dropped_lines: 2, dropped_bytes: 4 };
        assert_eq!(lot.after, after);
    }

    proptest! {
        /// Whatever is pushed, taken, committed, undone, spooled and dropped, every line is committed or dropped, once,
        /// in order, and no byte of memory is forgotten.
        #[test]
        fn nothing_is_lost(steps in proptest::collection::vec((0..6_u8, 0..2_usize), 0..80)) {
            let mut store = Store::new(2);
            let mut next = [0_u32; 2];
            let mut seen: [Vec<Vec<u8>>; 2] = Default::default();
            let mut spool: std::collections::BTreeMap<u64, Bytes> = std::collections::BTreeMap::new();
            let mut pinned: [Option<Lot>; 2] = [None, None];
            let mut offset = 0;
            let finish = steps.len();
            let steps = steps.into_iter().chain([(1, 0), (2, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, 1), (2, 1)]);
            for (number, (step, table)) in steps.enumerate() {
                match step {
                    0 => {
                        push(&mut store, table, &format!("{}\n", next[table]));
                        next[table] += 1;
                    }
                    1 if pinned[table].is_none() => {
                        let limit = if number < finish { limit(30) } else { ALL };
                        pinned[table] = store.take(table, limit);
                    }
                    2 => if let Some(lot) = pinned[table].take() {
                        let before = store.committed(table);
                        prop_assert_eq!(lot.first_seq, before.rows);
                        for block in &lot.blocks {
                            let bytes = match &block.content {
                                Content::Memory(bytes) => bytes.clone(),
                                Content::Spooled(extent) => spool[&extent.offset].clone(),
                                Content::Dropped(dropped) => {
                                    seen[table].extend((0..dropped.lines).map(|_| b"?".to_vec()));
                                    continue;
                                }
                            };
                            let mut at = 0;
                            while let Some((_, range)) = Record::read(&bytes, at) {
                                at = range.end;
                                seen[table].extend(cut::rows(&bytes[range]).map(|(row, _)| row.to_vec()));
                            }
                        }
                        for extent in store.commit(table) {
                            spool.remove(&extent.offset).unwrap();
                        }
                        prop_assert_eq!(store.committed(table), lot.after);
                    },
                    3 => {
                        pinned[table] = None;
                        store.unpin(table);
                    }
                    4 => if let Some((table, block, bytes)) = store.oldest_in_memory() {
                        let extent = Extent { offset, length: bytes.len() as u64 };
                        offset += extent.length;
                        spool.insert(extent.offset, bytes);
                        store.moved(table, block, extent);
                    },
                    5 => for extent in store.drop_oldest(1).into_iter().flatten() {
                        spool.remove(&extent.offset).unwrap();
                    },
                    _ => {}
                }
                prop_assert_eq!(store.spooled(), spool.values().map(|bytes| bytes.len() as u64).sum::<u64>());
            }
            prop_assert_eq!((store.memory(), store.spooled()), (0, 0));
            for table in 0..2 {
                prop_assert_eq!(seen[table].len(), next[table] as usize);
                for (number, line) in seen[table].iter().enumerate() {
                    prop_assert!(line == b"?" || *line == number.to_string().as_bytes(), "{:?}", seen);
                }
            }
        }
    }
}
