//! The [`Store`] between two threads: the pump's, which adds, and the shipper's, which takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::block::Record;
use super::store::Store;

/// What memory may hold, and when whom to wake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// So much is worth a batch of its own.
    pub(super) batch: u64,
    /// From here on blocks go to the spool.
    pub(super) high: u64,
    /// Here the pump stops.
    pub(super) full: u64,
}

/// Both ends share it.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Wakes the shipper: there is something, or a mark is reached.
    changed: Notify,
    marks: Marks,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// The pump, where it waits for room.
    waiter: Option<Waker>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(tables: usize, marks: Marks) -> Arc<Self> {
        let inner = Mutex::new(Inner { store: Store::new(tables), waiter: None });
        Arc::new(Self { inner, changed: Notify::new(), marks })
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    /// Takes whole rows, in two parts that belong together. Never blocks for long, whatever is there already.
    pub(super) fn push(&self, table: usize, record: &Record, head: &[u8], tail: &[u8]) {
        let mut inner = self.lock();
        let before = inner.store.memory();
        inner.store.push(table, record, head, tail);
        let after = inner.store.memory();
        drop(inner);
        let crossed = |mark: u64| before < mark && mark <= after;
        let Marks { batch, high, full } = self.marks;
        // What is on its way counts too, so it may be woken for nothing, but is never left asleep: what it does not
        // see when it wakes up it sees when it is done with that.
        if before == 0 || crossed(batch) || after >= high || crossed(full) {
            self.changed.notify_one();
        }
    }

    /// Whether more should be pushed now; else the waker is woken when so.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.store.memory() < self.marks.full {
            return Poll::Ready(());
        }
        inner.waiter = Some(context.waker().clone());
        drop(inner);
        self.changed.notify_one();
        Poll::Pending
    }

    /// Looks at the store or changes it, and lets the pump go on if there is room.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        let mut inner = self.lock();
        let result = act(&mut inner.store);
        let waiter = if inner.store.memory() < self.marks.full { inner.waiter.take() } else { None };
        drop(inner);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        result
    }

    /// Resolves when there is something to look at. Cancellation safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A panic while the lock was held ended the process, so poison cannot matter.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
