//! All lines of a node that are not in their tables yet: a plain structure without locks, IO or clock.
//!
//! For each table a queue of blocks, oldest first. The first ones may be *pinned*: they are on their way, and nobody
//! knows what became of them, so they must neither change nor go. Blocks lie in memory or in the spool; which of them
//! does not change their order. Only the shipper takes from a queue, only the pump adds to it.

mod lot;

use std::collections::VecDeque;

use super::block::{Block, Content, Dropped, Extent, Record, Written};
use super::cut;
pub(super) use lot::{Limit, Loss, Lot, Pending, Totals};

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
    /// All that was dropped so far.
    dropped: Loss,
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
    open_since_us: u64,
    /// What all blocks that were closed hold.
    closed: Written,
    /// What is in the table.
    committed: Totals,
}

// === impl Store ===

impl Store {
    /// Nothing for so many tables.
    pub(super) fn new(tables: usize) -> Self {
        let tables = (0..tables).map(|_| Table::default()).collect();
        Self { tables, memory: 0, spooled: 0, next_age: 0, dropped: Loss::default() }
    }

    /// Bytes of all blocks in memory.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of all blocks in the spool.
    pub(super) fn spooled(&self) -> u64 {
        self.spooled
    }

    /// All that was dropped so far.
    pub(super) fn dropped(&self) -> Loss {
        self.dropped
    }

    /// When the oldest line was read that is in no table yet, in microseconds since 1970.
    pub(super) fn oldest_us(&self) -> Option<u64> {
        self.tables.iter().filter_map(Table::oldest_us).min()
    }

    /// What is in all tables taken together.
    pub(super) fn committed_to_all(&self) -> Totals {
        self.tables.iter().fold(Totals::default(), |sum, table| sum.and(table.committed))
    }

    /// All that the process of a table has written, in whole blocks.
    pub(super) fn written(&mut self, table: usize) -> Written {
        self.tables[table].close_block(&mut self.next_age);
        self.tables[table].closed
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
            table.open_since_us = record.time_us;
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
    pub(super) fn oldest_in_memory(&mut self) -> Option<(usize, usize, Block)> {
        let in_memory = |block: &Block| matches!(block.content, Content::Memory(_));
        let mut oldest = self.oldest(in_memory);
        if oldest.is_none() {
            self.close_blocks();
            oldest = self.oldest(in_memory);
        }
        oldest.map(|(table, block)| (table, block, self.tables[table].blocks[block].clone()))
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
        self.dropped.lines += block.rows;
        self.dropped.bytes += block.bytes;
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
    fn oldest_us(&self) -> Option<u64> {
        let open = (!self.open.is_empty()).then_some(self.open_since_us);
        self.blocks.front().map(|block| block.since_us).or(open)
    }

    fn close_block(&mut self, next_age: &mut u64) {
        if self.open.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.open);
        // A vector grows by doubling, and what it has too much is counted nowhere.
        bytes.shrink_to_fit();
        let before = self.closed;
        self.closed = Written { rows: before.rows + self.open_rows, bytes: before.bytes + self.open_bytes };
        self.blocks.push_back(Block {
            content: Content::Memory(bytes.into()),
            rows: std::mem::take(&mut self.open_rows),
            bytes: std::mem::take(&mut self.open_bytes),
            before,
            age: *next_age,
            attempt: self.open_attempt,
            since_us: self.open_since_us,
        });
        *next_age += 1;
    }
}

#[cfg(test)]
mod tests;
