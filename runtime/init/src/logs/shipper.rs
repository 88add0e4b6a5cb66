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
//! spool; where that is full too, the oldest lines are dropped if the user wants that, and else the pump waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};
use tractorun_contract::job_spec::LogOverflow;
use tractorun_contract::logs::{TableRecord, TableState};
use tractorun_yt::{Client, ClientConfig};

use super::cluster::{NotShipped, Parcel, Tables, open_record};
use super::pace::{self, Pace};
use super::queue::Queue;
use super::remains;
use super::spool::Spool;
use super::store::Limit;
use super::{Outcome, Plan, unix_us};

/// Bytes of spooled blocks in one batch: enough to catch up, and few enough to be sent again.
const SPOOLED_IN_A_BATCH: u64 = 64 * 1024 * 1024;

/// What becomes of lines that are left is said within this, if it can be said.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What the shipper is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Ship what comes.
    Run,
    /// Nothing more comes: ship all that is there, until then.
    Drain { deadline: Instant },
    /// Leave now.
    Leave,
}

/// Everything that the thread has.
pub(super) struct Shipper {
    queue: Arc<Queue>,
    spool: Spool,
    spool_bytes: u64,
    overflow: LogOverflow,
    tables: Tables,
    /// By table: how often in a row the cluster refused to write to it, and until when it is left alone.
    refusals: Vec<u32>,
    not_before: Vec<Option<Instant>>,
    record: TableRecord,
    names: Vec<String>,
    pace: Pace,
    began: Instant,
    orders: watch::Receiver<Order>,
    trouble: Trouble,
    disk: Disk,
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

/// Whether the spool takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Usable,
    /// It does not, and the user has been told.
    Unusable,
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
        let names = tables.iter().map(|table| table.name.clone()).collect();
        let paths = tables.into_iter().map(|table| table.path).collect();
        let record = open_record(node_rank, job_id);
        Ok(Self {
            queue,
            spool: Spool::new(folder),
            spool_bytes: settings.spool_bytes,
            overflow: settings.overflow,
            tables: Tables::new(client, paths, record.clone()),
            refusals: vec![0; count],
            not_before: vec![None; count],
            doubt: Doubt::None,
            record,
            names,
            pace: Pace::new(node_count, count, settings.batch_bytes, settings.batch_age, rand::random()),
            began: Instant::now(),
            orders,
            trouble: Trouble::None,
            disk: Disk::Usable,
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
            self.relieve();
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
        let ready = |table: usize| self.not_before[table].is_none_or(|at| at <= now);
        let pending = self.queue.with(|store| store.pending(ready));
        let mut due = self.pace.next(now - self.began, pending.bytes, pending.tables);
        // What was refused is looked at again when its time has come.
        if let Some(at) = self.not_before.iter().flatten().filter(|at| **at > now).min() {
            let at = *at - self.began;
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
        let ready = |table: usize| self.not_before[table].is_none_or(|at| at <= now);
        let full = self.queue.marks().full;
        self.queue.with(|store| {
            let tables = store.pending(ready).tables.max(1) as u64;
            // What is on its way stays in memory, and there must be room for what comes meanwhile.
            let limit = Limit { memory: full / 3 / tables, spooled: SPOOLED_IN_A_BATCH / tables };
            let lots = (0..self.not_before.len()).filter(|table| ready(*table));
            Parcel { lots: lots.filter_map(|table| store.take(table, limit)).collect(), records: Vec::new() }
        })
    }

    /// Ships a parcel; meanwhile keeps memory from being full.
    async fn ship(&mut self, parcel: Parcel) -> Shipped {
        if parcel.lots.is_empty() && parcel.records.is_empty() {
            return Shipped::There;
        }
        self.pace.begin(self.began.elapsed());
        let before = self.tables.requests();
        let reader = self.spool.reader();
        let result = {
            let Self { tables, queue, orders, spool, overflow, spool_bytes, disk, .. } = self;
            let shipping = tables.ship(&parcel, &reader);
            tokio::pin!(shipping);
            loop {
                tokio::select! {
                    biased;
                    result = &mut shipping => break Some(result),
                    () = out_of_time(orders) => break None,
                    () = queue.changed() => relieve(queue, spool, *spool_bytes, *overflow, disk),
                }
            }
        };
        let now = self.began.elapsed();
        self.pace.spend(now, self.tables.requests() - before);
        match result {
            None => {
                self.doubt = Doubt::Some;
                Shipped::Unknown
            }
            Some(Ok(())) => {
                for lot in &parcel.lots {
                    self.refusals[lot.table] = 0;
                    self.not_before[lot.table] = None;
                    for extent in self.queue.with(|store| store.commit(lot.table)) {
                        self.spool.release(extent);
                    }
                }
                self.pace.succeeded();
                self.tell_better();
                Shipped::There
            }
            Some(Err(failure)) => {
                for lot in &parcel.lots {
                    self.queue.with(|store| store.unpin(lot.table));
                }
                self.tell_trouble(&failure);
                match failure.table {
                    // The others go on without it.
                    Some(table) => {
                        self.refusals[table] += 1;
                        let pause = pace::pause(self.refusals[table], rand::random());
                        self.not_before[table] = Some(Instant::now() + pause);
                    }
                    None => self.pace.failed(now, rand::random()),
                }
                Shipped::NotThere
            }
        }
    }

    /// Until it makes sense to try again, or the deadline.
    async fn pause(&mut self, deadline: Instant) {
        let now = Instant::now();
        let refused = self.not_before.iter().flatten().filter(|at| **at > now).min().copied();
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
        let spread = self.pace.spread(self.names.len()).min(deadline.saturating_duration_since(now) / 2);
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

    /// The records of all tables, complete.
    fn closing(&self) -> Parcel {
        let records = (0..self.names.len()).map(|table| (table, self.record_of(table))).collect();
        Parcel { lots: Vec::new(), records }
    }

    fn record_of(&self, table: usize) -> TableRecord {
        let totals = self.queue.with(|store| store.committed(table));
        TableRecord {
            state: TableState::Closed,
            rows: totals.rows,
            lines: totals.lines,
            bytes: totals.bytes,
            dropped_lines: totals.dropped_lines,
            dropped_bytes: totals.dropped_bytes,
            ..self.record.clone()
        }
    }

    /// Everything is where it belongs.
    fn finish(&mut self) -> Outcome {
        self.spool.finish();
        let lines = (0..self.names.len()).map(|table| self.queue.with(|store| store.committed(table).lines));
        debug!("all {} lines are in their tables", lines.sum::<u64>());
        Outcome::Drained
    }

    /// Something is left: keeps it on the disk and says so.
    async fn leave(&mut self) -> Outcome {
        let lots = self.queue.with(|store| {
            let all = Limit { memory: u64::MAX, spooled: u64::MAX };
            (0..self.names.len()).filter_map(|table| store.take(table, all)).collect::<Vec<_>>()
        });
        let folder = self.spool.folder().to_owned();
        let (mut lines, mut bytes) = (0, 0);
        let mut records: Vec<_> = self.closing().records;
        for lot in &lots {
            let record = &mut records[lot.table].1;
            let after = lot.after;
            record.unshipped_lines = after.lines + after.dropped_lines - record.lines - record.dropped_lines;
            record.unshipped_bytes = after.bytes + after.dropped_bytes - record.bytes - record.dropped_bytes;
            lines += record.unshipped_lines;
            bytes += record.unshipped_bytes;
        }
        if self.doubt == Doubt::None {
            // If it cannot be said the tables stay `open`, which says enough.
            let _ = timeout(LAST_WORD, self.tables.try_to_say(&records)).await;
        }
        let mut kept = true;
        for lot in lots {
            let (name, path) = (&self.names[lot.table], self.tables.path(lot.table));
            match remains::keep(&folder, name, &lot, &self.spool.reader()) {
                Ok(file) => warn!(
                    "the last lines of {name} are kept in `{}`; to add them to their table: yt write-table \
                     '<append=%true>{path}' --format '<format=binary>yson' < FILE",
                    file.display()
                ),
                Err(error) => {
                    kept = false;
                    error!("cannot keep the last lines of {name}: {error}");
                }
            }
        }
        if kept {
            self.spool.remove();
        }
        Outcome::Left { lines, bytes, folder }
    }

    fn relieve(&mut self) {
        relieve(&self.queue, &mut self.spool, self.spool_bytes, self.overflow, &mut self.disk);
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
        if self.trouble == Trouble::Told && self.not_before.iter().all(Option::is_none) {
            info!("the log tables can be written again");
            self.trouble = Trouble::None;
        }
    }
}

/// Keeps memory from being full: what is oldest goes to the spool, or goes.
fn relieve(queue: &Queue, spool: &mut Spool, spool_bytes: u64, overflow: LogOverflow, disk: &mut Disk) {
    let marks = queue.marks();
    while queue.with(|store| store.memory()) >= marks.high {
        let (block, spooled) = queue.with(|store| (store.oldest_in_memory(), store.spooled()));
        // All of it is on its way.
        let Some((table, at, bytes)) = block else { return };
        if *disk == Disk::Usable && spooled + bytes.len() as u64 <= spool_bytes {
            match spool.append(&bytes) {
                Ok(extent) => queue.with(|store| store.moved(table, at, extent)),
                Err(error) => {
                    warn!("cannot keep lines on disk in `{}`: {error}", spool.folder().display());
                    *disk = Disk::Unusable;
                }
            }
            continue;
        }
        match overflow {
            // The pump waits once memory is full.
            LogOverflow::Block => return,
            LogOverflow::Drop if queue.with(|store| store.memory()) < marks.full => return,
            LogOverflow::Drop => match queue.with(|store| store.drop_oldest(unix_us())) {
                Some(extents) => extents.into_iter().for_each(|extent| spool.release(extent)),
                None => return,
            },
        }
    }
}

/// At that time; never, if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves when there is an order to leave, when the deadline of a drain has passed, or when nobody orders any more.
async fn out_of_time(orders: &mut watch::Receiver<Order>) {
    loop {
        let order = *orders.borrow_and_update();
        let deadline = match order {
            Order::Run => None,
            Order::Drain { deadline } => Some(deadline),
            Order::Leave => return,
        };
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() { return },
            () = at(deadline) => return,
        }
    }
}

/// Where the shipper keeps what it cannot ship.
pub(super) fn folder_in(sandbox: &Path) -> PathBuf {
    sandbox.join(".tractorun").join("logs")
}
