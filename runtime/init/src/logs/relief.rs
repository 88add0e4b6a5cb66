//! What happens when memory is nearly full: what is oldest goes to the spool, and where that is full too, it goes.

use tracing::warn;
use tractorun_contract::job_spec::LogOverflow;

use super::queue::Queue;
use super::spool::Spool;
use super::unix_us;

/// Keeps memory from being full.
#[derive(Debug)]
pub(super) struct Relief {
    spool: Spool,
    /// Bytes that the spool may hold.
    spool_bytes: u64,
    /// What happens when it holds them.
    overflow: LogOverflow,
    disk: Disk,
}

/// Whether the spool takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Usable,
    /// It does not, and the user has been told.
    Unusable,
}

// === impl Relief ===

impl Relief {
    pub(super) fn new(spool: Spool, spool_bytes: u64, overflow: LogOverflow) -> Self {
        Self { spool, spool_bytes, overflow, disk: Disk::Usable }
    }

    /// Where blocks are put.
    pub(super) fn spool(&mut self) -> &mut Spool {
        &mut self.spool
    }

    /// Makes room in memory, if it is nearly full and that can be.
    pub(super) fn relieve(&mut self, queue: &Queue) {
        let marks = queue.marks();
        while queue.with(|store| store.memory()) >= marks.high {
            let (block, spooled) = queue.with(|store| (store.oldest_in_memory(), store.spooled()));
            // All of it is on its way.
            let Some((table, at, block)) = block else { return };
            if self.disk == Disk::Usable && spooled + block.size() <= self.spool_bytes {
                match self.spool.append(table, &block) {
                    Ok(extent) => queue.with(|store| store.moved(table, at, extent)),
                    Err(error) => {
                        warn!("cannot keep lines on disk in `{}`: {error}", self.spool.folder().display());
                        self.disk = Disk::Unusable;
                    }
                }
                continue;
            }
            match self.overflow {
                // The pump waits once memory is full.
                LogOverflow::Block => return,
                LogOverflow::Drop if queue.with(|store| store.memory()) < marks.full => return,
                LogOverflow::Drop => match queue.with(|store| store.drop_oldest(unix_us())) {
                    Some(extents) => extents.into_iter().for_each(|extent| self.spool.release(extent)),
                    None => return,
                },
            }
        }
    }
}
