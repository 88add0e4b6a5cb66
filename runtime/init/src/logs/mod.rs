//! Log tables: every line of every worker and sidecar, once and in order, in the table of its rank.
//!
//! ```text
//!  pump --Feed--> Queue (memory) --shipper thread--> tables
//!                    ^   |  ^                          |
//!        full: waits +   |  +---- not there: again ----+
//!                        v
//!                 spool (disk), then `logs.overflow`
//! ```
//!
//! Owns lines from the moment that the pump has read them until the cluster has committed them. Never touches the
//! supervisor's state: what it has to say is an [`Outcome`], once. What goes where is the contract's
//! ([`tractorun_contract::logs`]).
//!
//! Exactly once: a row's number is its place in its table, and a batch is committed whole or not at all (`cluster`).
//! Only what was not committed is lost when this process is killed, and then the table's record still says `open`.

mod block;
mod cluster;
mod cut;
mod gauge;
mod pace;
mod queue;
mod relief;
mod rows;
mod shipper;
mod spool;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;
use tractorun_contract::job_spec::LogOverflow;
use tractorun_contract::logs::spool::FOLDER;
use tractorun_yt::ClientConfig;

use crate::metrics::OutputStream;
use block::Record;
use cut::Cutter;
use gauge::Deliveries;
pub use gauge::{Batches, Gauge, Progress};
use queue::{Marks, Queue};
use shipper::{Order, Shipper};

/// How lines are shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes that are worth a batch.
    pub batch_bytes: u64,
    /// Time after which lines are worth a batch.
    pub batch_age: Duration,
    /// Bytes that memory may hold.
    pub memory_bytes: u64,
    /// Bytes that the disk may hold.
    pub spool_bytes: u64,
    /// What happens when both are full.
    pub overflow: LogOverflow,
    /// How long the end may take.
    pub drain_timeout: Duration,
}

/// Everything that the shipper must know.
#[derive(Debug)]
pub struct Plan {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// How lines are shipped.
    pub settings: Settings,
    /// Nodes that share the cluster with this one, itself included.
    pub node_count: u32,
    /// Rank of this node.
    pub node_rank: u32,
    /// Its YT job id.
    pub job_id: String,
    /// Where lines may be kept on disk.
    pub folder: PathBuf,
    /// Paths of the tables of this node.
    pub tables: Vec<String>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every line is in its table.
    Drained,
    /// Some are not.
    Left {
        /// How many.
        lines: u64,
        /// How long they are together.
        bytes: u64,
        /// Where they are kept.
        folder: PathBuf,
    },
}

/// The shipper of a node. Dropping it ends the thread without a drain.
#[derive(Debug)]
pub struct Logs {
    queue: Arc<Queue>,
    deliveries: Deliveries,
    orders: watch::Sender<Order>,
    outcome: watch::Receiver<Option<Outcome>>,
    drain_timeout: Duration,
}

/// Where lines wait for the shipper. Clones lead to the same place.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Queue>);

/// One stream on its way into its table.
#[derive(Debug)]
pub struct Feed {
    queue: Arc<Queue>,
    table: usize,
    stream: OutputStream,
    attempt: u32,
    cutter: Cutter,
}

// === impl Logs ===

impl Logs {
    /// Starts the shipper's thread.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let settings = plan.settings;
        let full = settings.memory_bytes;
        // A third for what is on its way, a third for what comes, a third in reserve while the disk works.
        let marks = Marks { batch: settings.batch_bytes.min(full / 3), high: full / 3 * 2, full };
        let queue = Queue::new(plan.tables.len(), marks);
        let (orders, receiver) = watch::channel(Order::Run);
        let (say, outcome) = watch::channel(None);
        let taken = Arc::clone(&queue);
        let deliveries = Deliveries::default();
        let noted = deliveries.clone();
        std::thread::Builder::new().name("logs".to_owned()).stack_size(1024 * 1024).spawn(move || {
            // Signals are for the main thread.
            tractorun_sys::signal::block_all_in_this_thread();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return error!("cannot ship lines: {error}"),
            };
            let outcome = runtime.block_on(async {
                match Shipper::new(plan, taken, receiver, noted) {
                    Ok(shipper) => Some(shipper.run().await),
                    // The same configuration was good enough for the rest of init.
                    Err(error) => {
                        error!("cannot ship lines: {error}");
                        None
                    }
                }
            });
            say.send_replace(outcome);
        })?;
        Ok(Self { queue, deliveries, orders, outcome, drain_timeout: settings.drain_timeout })
    }

    /// Where lines are put in.
    pub fn intake(&self) -> Intake {
        Intake(Arc::clone(&self.queue))
    }

    /// Where it is seen how far it is.
    pub fn gauge(&self) -> Gauge {
        Gauge::new(Arc::clone(&self.queue), self.deliveries.clone())
    }

    /// How long a drain may take.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// Nothing more comes: what is there is to be shipped now. Once is enough.
    pub fn drain(&self) {
        self.orders.send_if_modified(|order| {
            let first = *order == Order::Run;
            if first {
                *order = Order::Drain { deadline: Instant::now() + self.drain_timeout };
            }
            first
        });
    }

    /// No more time: what is not shipped is kept on the disk.
    pub fn leave(&self) {
        self.orders.send_replace(Order::Leave);
    }

    /// Resolves when the shipper is done, after [`Logs::drain`] or [`Logs::leave`]. Cancellation safe. `None`: it
    /// could not even begin.
    pub async fn done(&mut self) -> Option<Outcome> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        }
    }
}

// === impl Intake ===

impl Intake {
    /// The way of one stream into the table of that index in the plan.
    pub fn feed(&self, table: usize, stream: OutputStream, attempt: u32) -> Feed {
        Feed { queue: Arc::clone(&self.0), table, stream, attempt, cutter: Cutter::default() }
    }

    /// Whether more should be read now; else the waker is woken when so.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_room(context)
    }
}

// === impl Feed ===

impl Feed {
    /// Takes what was read just now.
    pub fn take(&mut self, bytes: &[u8]) {
        let Self { queue, table, stream, attempt, cutter } = self;
        let record = Record { stream: *stream, attempt: *attempt, time_us: unix_us() };
        cutter.feed(bytes, &mut |head, tail| queue.push(*table, &record, head, tail));
    }

    /// The stream has ended.
    pub fn end(&mut self) {
        let Self { queue, table, stream, attempt, cutter } = self;
        let record = Record { stream: *stream, attempt: *attempt, time_us: unix_us() };
        cutter.end(&mut |head, tail| queue.push(*table, &record, head, tail));
    }
}

/// Where lines are kept in a sandbox.
pub fn folder_in(sandbox: &Path) -> PathBuf {
    sandbox.join(FOLDER.iter().collect::<PathBuf>())
}

/// Microseconds since 1970.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A queue without a shipper.
#[cfg(test)]
pub(crate) mod testing {
    use super::store::Limit;
    use super::{Arc, Intake, Marks, Queue};
    use super::{Deliveries, Gauge};

    /// What is shown of a shipper that has done nothing yet.
    pub(crate) fn gauge() -> Gauge {
        Gauge::new(Queue::new(1, Marks { batch: 1, high: 1, full: 1 }), Deliveries::default())
    }

    /// An intake for one table that holds so many bytes, and what takes all that is in it and says how many lines
    /// it has taken so far.
    pub(crate) fn intake(full: u64) -> (Intake, impl Fn() -> u64) {
        let queue = Queue::new(1, Marks { batch: full, high: full, full });
        let taken = Arc::clone(&queue);
        let take = move || {
            taken.with(|store| {
                store.take(0, Limit { memory: u64::MAX, spooled: u64::MAX });
                store.commit(0);
                store.committed(0).lines
            })
        };
        (Intake(queue), take)
    }
}
