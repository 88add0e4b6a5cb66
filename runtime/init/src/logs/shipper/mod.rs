//! The shipper: a thread that brings lines to their tables.
//!
//! ```text
//!   waiting --pace--> shipping --there, or not--> waiting
//!      |                 |                            |
//!      +-----------------+---- drain: until all is there, or until the deadline ---> done
//! ```
//!
//! A thread with a runtime and a client of its own: neither a disk nor a cluster that is slow holds up the supervisor,
//! and nothing of its state is here. While a batch is on its way, memory that is nearly full is emptied into the
//! spool; where that is full too, the oldest lines are dropped if the user wants that, and else the pump waits
//! ([`Relief`]).

mod leaving;
mod order;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use tractorun_contract::logs::TableRecord;
use tractorun_contract::logs::spool::{self, FileHeader};
use tractorun_yt::{Client, ClientConfig};

use super::cluster::{NotShipped, Parcel, Tables, open_record};
use super::gauge::Deliveries;
use super::pace::Pace;
use super::queue::Queue;
use super::relief::Relief;
use super::spool::Spool;
use super::store::Limit;
use super::{Outcome, Plan};
pub(super) use order::Order;
use order::{at, out_of_time};
use refusals::Refusals;

/// Bytes of spooled blocks in one batch: enough to catch up, and few enough to be sent again.
const SPOOLED_IN_A_BATCH: u64 = 64 * 1024 * 1024;

/// Everything that the thread has.
pub(super) struct Shipper {
    queue: Arc<Queue>,
    relief: Relief,
    tables: Tables,
    refusals: Refusals,
    record: TableRecord,
    pace: Pace,
    began: Instant,
    orders: watch::Receiver<Order>,
    deliveries: Deliveries,
    trouble: Trouble,
    doubt: Doubt,
}

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shipped {
    /// All of it is there.
    There,
    /// Nothing of it is.
    NotThere,
    /// There was no time to find out.
    Unknown,
}

/// Whether it is unknown what became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    Some,
}

/// Whether the user has been told that it does not go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Told,
}

/// How a wait ended.
enum Woken {
    Changed,
    Due,
    Ordered,
}

// === impl Shipper ===

impl Shipper {
    pub(super) fn new(
        plan: Plan,
        queue: Arc<Queue>,
        orders: watch::Receiver<Order>,
        deliveries: Deliveries,
    ) -> Result<Self, tractorun_yt::ConfigError> {
        let Plan { client, settings, node_count, node_rank, job_id, folder, tables } = plan;
        // The shipper has its own idea of when to try again: what it asks comes back soon, whether or not it went
        // well.
        let client = ClientConfig {
            retry_budget: Duration::from_secs(5),
            first_contact_budget: Duration::from_secs(5),
            longest_pause: Duration::from_secs(1),
            ..client
        };
        let client = Client::new(client)?;
        let count = tables.len();
        let header = FileHeader {
            tractorun_spool: spool::VERSION,
            node_rank,
            job_id: job_id.clone(),
            tables: tables.clone(),
        };
        let record = open_record(node_rank, job_id);
        Ok(Self {
            queue,
            relief: Relief::new(Spool::new(folder, &header), settings.spool_bytes, settings.overflow),
            tables: Tables::new(client, tables, record.clone()),
            refusals: Refusals::new(count),
            doubt: Doubt::None,
            record,
            pace: Pace::new(node_count, count, settings.batch_bytes, settings.batch_age, rand::random()),
            began: Instant::now(),
            orders,
            deliveries,
            trouble: Trouble::None,
        })
    }

    /// Ships until it is told to drain, and drains.
    pub(super) async fn run(mut self) -> Outcome {
        loop {
            // If nobody orders any more nobody waits for us either.
            if self.orders.has_changed().is_err() {
                return self.leave().await;
            }
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Run => {}
                Order::Drain { deadline } => return self.drain(deadline).await,
                Order::Leave => return self.leave().await,
            }
            self.relief.relieve(&self.queue);
            if matches!(self.wait().await, Woken::Due) {
                let parcel = self.load();
                let _ = self.ship(parcel).await;
            }
        }
    }

    /// Ships all that is left and closes the tables.
    async fn drain(&mut self, deadline: Instant) -> Outcome {
        self.wait_for_turn(deadline).await;
        loop {
            let is_last = self.is_empty();
            let parcel = if is_last { self.closing() } else { self.load() };
            // Nothing to load: what is left was refused, and its time has not come.
            let is_idle = !is_last && parcel.lots.is_empty();
            match self.ship(parcel).await {
                Shipped::There if is_last => return self.finish(),
                Shipped::There if !is_idle => {}
                Shipped::There | Shipped::NotThere => self.pause(deadline).await,
                Shipped::Unknown => return self.leave().await,
            }
            if Instant::now() >= deadline || *self.orders.borrow() == Order::Leave {
                return self.leave().await;
            }
        }
    }

    /// Waits until the next batch is due or something happens.
    async fn wait(&mut self) -> Woken {
        let now = Instant::now();
        let ready = |table: usize| self.refusals.is_ready(table, now);
        let pending = self.queue.with(|store| store.pending(ready));
        let mut due = self.pace.next(now - self.began, pending.bytes, pending.tables);
        // What was refused is looked at again when its time has come.
        if let Some(at) = self.refusals.next(now) {
            let at = at - self.began;
            due = Some(due.map_or(at, |due| due.min(at)));
        }
        let due = due.map(|due| self.began + due);
        tokio::select! {
            biased;
            _ = self.orders.changed() => Woken::Ordered,
            () = at(due) => Woken::Due,
            () = self.queue.changed() => Woken::Changed,
        }
    }

    /// Takes what waits.
    fn load(&self) -> Parcel {
        let now = Instant::now();
        let ready = |table: usize| self.refusals.is_ready(table, now);
        let full = self.queue.marks().full;
        self.queue.with(|store| {
            let tables = store.pending(ready).tables.max(1) as u64;
            // What is on its way stays in memory, and there must be room for what comes meanwhile.
            let limit = Limit { memory: full / 3 / tables, spooled: SPOOLED_IN_A_BATCH / tables };
            let lots = (0..self.refusals.tables()).filter(|table| ready(*table));
            Parcel { lots: lots.filter_map(|table| store.take(table, limit)).collect(), records: Vec::new() }
        })
    }

    /// Ships a parcel; meanwhile keeps memory from being full.
    async fn ship(&mut self, parcel: Parcel) -> Shipped {
        if parcel.lots.is_empty() && parcel.records.is_empty() {
            return Shipped::There;
        }
        let begun = self.began.elapsed();
        self.pace.begin(begun);
        let before = self.tables.requests();
        let reader = self.relief.spool().reader();
        let result = {
            let Self { tables, queue, orders, relief, .. } = self;
            let shipping = tables.ship(&parcel, &reader);
            tokio::pin!(shipping);
            loop {
                tokio::select! {
                    biased;
                    result = &mut shipping => break Some(result),
                    () = out_of_time(orders) => break None,
                    () = queue.changed() => relief.relieve(queue),
                }
            }
        };
        let now = self.began.elapsed();
        let requests = self.tables.requests() - before;
        self.pace.spend(now, requests, rand::random());
        match result {
            None => {
                self.doubt = Doubt::Some;
                Shipped::Unknown
            }
            Some(Ok(())) => {
                self.deliveries.committed(now.saturating_sub(begun), requests);
                for lot in &parcel.lots {
                    self.refusals.taken(lot.table);
                    for extent in self.queue.with(|store| store.commit(lot.table)) {
                        self.relief.spool().release(extent);
                    }
                }
                self.pace.succeeded();
                self.tell_better();
                Shipped::There
            }
            Some(Err(failure)) => {
                self.deliveries.refused(requests);
                for lot in &parcel.lots {
                    self.queue.with(|store| store.unpin(lot.table));
                }
                self.tell_trouble(&failure);
                match failure.table {
                    // The others go on without it.
                    Some(table) => self.refusals.refused(table, Instant::now()),
                    None => self.pace.failed(now, rand::random()),
                }
                Shipped::NotThere
            }
        }
    }

    /// Until it makes sense to try again, or the deadline.
    async fn pause(&mut self, deadline: Instant) {
        let now = Instant::now();
        let refused = self.refusals.next(now);
        let again = self.pace.next(now - self.began, u64::MAX, 1).map(|at| self.began + at);
        let until = refused.into_iter().chain(again).min().unwrap_or(now).min(deadline);
        tokio::select! {
            biased;
            () = out_of_time(&mut self.orders) => {}
            () = sleep_until(until) => {}
        }
    }

    /// All nodes drain at the same time: each does it at another moment.
    async fn wait_for_turn(&mut self, deadline: Instant) {
        let now = Instant::now();
        let spread =
            self.pace.spread(self.refusals.tables()).min(deadline.saturating_duration_since(now) / 2);
        let turn = now + spread.mul_f64(rand::random());
        tokio::select! {
            biased;
            () = out_of_time(&mut self.orders) => {}
            () = sleep_until(turn) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.with(|store| store.pending(|_| true).tables == 0)
    }

    fn tell_trouble(&mut self, failure: &NotShipped) {
        let NotShipped { table, error } = failure;
        let what = table.map_or("the log tables", |table| self.tables.path(table));
        if self.trouble == Trouble::None {
            warn!("cannot write {what}, lines are kept and tried again: {error}");
            self.trouble = Trouble::Told;
        } else {
            debug!("cannot write {what}: {error}");
        }
    }

    fn tell_better(&mut self) {
        if self.trouble == Trouble::Told && self.refusals.is_over() {
            info!("the log tables can be written again");
            self.trouble = Trouble::None;
        }
    }
}
