//! How far the shipping is, for metrics: read when somebody looks, from any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::queue::Queue;
use super::unix_us;

/// Whoever looks at a shipper. Clones look at the same one.
#[derive(Debug, Clone)]
pub struct Gauge {
    queue: Arc<Queue>,
    deliveries: Deliveries,
}

/// How far a node's log tables are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Rows that are in the tables.
    pub rows: u64,
    /// Bytes of output that are in the tables.
    pub bytes: u64,
    /// Bytes that wait in memory or are on their way from there.
    pub memory_bytes: u64,
    /// The same of the spool.
    pub spool_bytes: u64,
    /// Lines that were dropped.
    pub dropped_lines: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// For how long the oldest line has been waiting; zero if none is.
    pub oldest_age: Duration,
    /// What became of the batches.
    pub batches: Batches,
}

/// What became of the batches so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Batches {
    /// Those that the cluster took.
    pub commits: u64,
    /// Those that it did not take, and that are sent again.
    pub retries: u64,
    /// Requests for all of them.
    pub requests: u64,
    /// How long the last one that was taken took, from its first request to the answer to its commit.
    pub last_commit_took: Duration,
    /// When that was, in seconds since 1970.
    pub last_commit_seconds: Option<f64>,
}

/// Where the shipper notes what became of its batches.
#[derive(Debug, Clone, Default)]
pub(super) struct Deliveries(Arc<Mutex<Batches>>);

// === impl Gauge ===

impl Gauge {
    pub(super) fn new(queue: Arc<Queue>, deliveries: Deliveries) -> Self {
        Self { queue, deliveries }
    }

    /// How far it is now.
    pub fn read(&self) -> Progress {
        let batches = *self.deliveries.lock();
        self.queue.with(|store| {
            let (committed, dropped) = (store.committed_to_all(), store.dropped());
            let age_us = store.oldest_us().map_or(0, |oldest| unix_us().saturating_sub(oldest));
            Progress {
                rows: committed.rows,
                bytes: committed.bytes,
                memory_bytes: store.memory(),
                spool_bytes: store.spooled(),
                dropped_lines: dropped.lines,
                dropped_bytes: dropped.bytes,
                oldest_age: Duration::from_micros(age_us),
                batches,
            }
        })
    }
}

// === impl Deliveries ===

impl Deliveries {
    /// A batch is there, after so long.
    pub(super) fn committed(&self, took: Duration, requests: u64) {
        let mut batches = self.lock();
        batches.commits += 1;
        batches.requests += requests;
        batches.last_commit_took = took;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        batches.last_commit_seconds = Some(now.as_secs_f64());
    }

    /// A batch is not there.
    pub(super) fn refused(&self, requests: u64) {
        let mut batches = self.lock();
        batches.retries += 1;
        batches.requests += requests;
    }

    /// Nothing in here can panic, so poison cannot matter.
    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Record;
    use super::super::queue::Marks;
    use super::super::store::Limit;
    use super::*;
    use crate::metrics::OutputStream;

    #[test]
    fn what_waits_what_is_there_and_what_is_gone() {
        let queue = Queue::new(2, Marks { batch: 1 << 20, high: 1 << 20, full: 1 << 20 });
        let deliveries = Deliveries::default();
        let gauge = Gauge::new(Arc::clone(&queue), deliveries.clone());
        assert_eq!(gauge.read(), Progress::default());

        let an_hour_ago = unix_us() - 3_600_000_000;
        for (table, time_us) in [(0, unix_us()), (1, an_hour_ago)] {
            let record = Record { stream: OutputStream::Stdout, attempt: 0, time_us };
            queue.push(table, &record, b"one\ntwo\n", b"");
        }
        let waiting = gauge.read();
        assert!(waiting.oldest_age >= Duration::from_hours(1) && waiting.memory_bytes > 16, "{waiting:?}");
        queue.with(|store| {
            store.take(1, Limit { memory: u64::MAX, spooled: u64::MAX });
            store.commit(1);
        });
        deliveries.committed(Duration::from_millis(5), 4);
        deliveries.refused(2);
        let shipped = gauge.read();
        assert!(shipped.oldest_age < Duration::from_hours(1));
        assert_eq!((shipped.rows, shipped.bytes), (2, 8));
        let Batches { commits, retries, requests, last_commit_took, last_commit_seconds } = shipped.batches;
        assert_eq!((commits, retries, requests, last_commit_took), (1, 1, 6, Duration::from_millis(5)));
        assert!(last_commit_seconds.is_some());

        queue.with(|store| store.drop_oldest(unix_us()));
        let dropped = gauge.read();
        assert_eq!((dropped.dropped_lines, dropped.dropped_bytes, dropped.memory_bytes), (2, 8, 0));
    }
}
