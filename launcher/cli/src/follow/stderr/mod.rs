//! The stderr of an operation's jobs as it grows, from the first byte on: only what is new is fetched, all of it
//! is given, in order, node by node.
//!
//! However many nodes there are, the cluster sees at most [`REQUESTS_PER_SECOND`] requests a second because of
//! this while the operation runs, and [`LAST_REQUESTS_PER_SECOND`] at its end. It knows nothing of terminals.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tractorun_yt::{Client, Error, JobFilter, StderrRange};

use super::is_temporary;

use cursor::{Gap, Next, Offsets};
use jobs::{Jobs, Told};

mod cursor;
mod jobs;

/// Requests while the operation runs: of a thousand nodes that all write, each is read every two minutes; where
/// the cluster says how long each stderr is, only those that have grown are asked.
pub const REQUESTS_PER_SECOND: f64 = 10.0;

/// Requests when it is over and the rest is read.
pub const LAST_REQUESTS_PER_SECOND: f64 = 50.0;

/// How long the rest may take.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// How often the jobs are listed: often enough to see one that is started again.
const LIST_PERIOD: Duration = Duration::from_secs(2);

/// The least that a list of jobs may hold: jobs that were started again are in it too.
const LISTED_JOBS: u32 = 1000;

/// No stderr is that long: a cluster that sends something from there on ignores the offset.
const BEYOND_ANY_END: u64 = 1 << 48;

/// Whose stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Node 0's.
    Primary,
    /// Everybody's.
    All,
}

/// Whether pieces of lines are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// As they come.
    AsTheyCome,
    /// Only with the end of their line.
    WholeLines,
}

/// What is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Bytes of a node's stderr.
    Bytes {
        /// The node.
        node: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Something to say about a node's stderr.
    Note(String),
}

/// Reads the stderr of an operation's jobs.
#[derive(Debug)]
pub struct JobStderrs {
    client: Client,
    operation_id: String,
    node_count: u32,
    whose: Whose,
    pieces: Pieces,
    jobs: Jobs,
    offsets: Offsets,
    listed: Option<Instant>,
    allowance: Allowance,
    /// Jobs whose stderr the cluster does not give any more.
    forgotten: usize,
}

impl JobStderrs {
    /// Nothing is fetched yet.
    pub fn new(client: Client, operation_id: String, node_count: u32, whose: Whose, pieces: Pieces) -> Self {
        Self {
            client,
            operation_id,
            node_count,
            whose,
            pieces,
            jobs: Jobs::default(),
            offsets: Offsets::default(),
            listed: None,
            allowance: Allowance::new(Instant::now()),
            forgotten: 0,
        }
    }

    /// What is new, as far as requests may be made now. What an error has left undone is done the next time.
    pub async fn poll(&mut self, take: &mut impl FnMut(News)) -> Result<(), Error> {
        self.allowance.grow(Instant::now(), REQUESTS_PER_SECOND);
        self.list_if_due(take).await?;
        let began = self.jobs.readings();
        while self.allowance.is_left()
            && let Some(index) = self.jobs.next(began)
        {
            self.read(index, take).await?;
        }
        Ok(())
    }

    /// All that is left, when the operation is over: lines without an end too. Errors that may pass are waited
    /// out, up to a limit; the rest is told.
    pub async fn finish(&mut self, take: &mut impl FnMut(News)) {
        let deadline = Instant::now() + FINISH_LIMIT;
        let mut failed: Option<Error> = None;
        let mut is_listed = false;
        self.listed = None;
        while Instant::now() < deadline {
            self.allowance.grow(Instant::now(), LAST_REQUESTS_PER_SECOND);
            if !self.allowance.is_left() {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let result = if is_listed {
                match self.jobs.next(u64::MAX) {
                    None => break,
                    Some(index) => self.read(index, take).await,
                }
            } else {
                self.list_if_due(take).await
            };
            match result {
                Err(error) if is_temporary(&error) => {
                    failed = Some(error);
                    sleep(Duration::from_millis(200)).await;
                    continue;
                }
                // Jobs of an operation that has ended are listed for a while only: those that are known are read.
                Err(error) => tracing::debug!("cannot list the jobs: {error}"),
                Ok(()) => failed = None,
            }
            if !is_listed {
                self.jobs.end_all();
                is_listed = true;
            }
        }
        for job in self.jobs.all() {
            let mut bytes = std::mem::take(&mut job.held_back);
            if !bytes.is_empty() {
                bytes.push(b'\n');
                take(News::Bytes { node: job.node, bytes });
            }
        }
        if self.forgotten > 0 {
            take(News::Note(format!(
                "the end of the stderr of {} jobs is gone: the cluster keeps that of at most 150",
                self.forgotten
            )));
        }
        match (self.jobs.unread(), failed) {
            (_, Some(error)) => take(News::Note(format!("cannot read the end of the jobs' stderr: {error}"))),
            (0, None) => {}
            (count, None) => take(News::Note(format!("the end of the stderr of {count} jobs was not read"))),
        }
    }

    async fn list_if_due(&mut self, take: &mut impl FnMut(News)) -> Result<(), Error> {
        if self.listed.is_some_and(|listed| listed.elapsed() < LIST_PERIOD) {
            return Ok(());
        }
        self.allowance.spend();
        let limit = self.node_count.saturating_mul(2).max(LISTED_JOBS);
        let filter = JobFilter { limit: Some(limit), ..JobFilter::default() };
        let listed = self.client.list_jobs(&self.operation_id, filter).await?;
        self.listed = Some(Instant::now());
        for told in self.jobs.update(&listed, self.whose) {
            take(News::Note(match told {
                Told::Restarted { node } => format!("node {node} was started again"),
                Told::NeverBegan { node, error } => format!("the job of node {node} was aborted: {error}"),
            }));
        }
        Ok(())
    }

    /// Reads one job's stderr as far as it goes, or as requests may be made.
    async fn read(&mut self, index: usize, take: &mut impl FnMut(News)) -> Result<(), Error> {
        let (id, node) = {
            let job = self.jobs.read(index);
            (job.id.clone(), job.node)
        };
        loop {
            let offsets = self.ask_for_offsets(index, &id).await?;
            let wanted = self.jobs.get(index).cursor.wanted(offsets);
            self.allowance.spend();
            let answer = match self.client.get_job_stderr(&self.operation_id, &id, wanted).await {
                Ok(answer) => answer,
                Err(error) if is_temporary(&error) => return Err(error),
                // A job that never began has no stderr, and that of an old one is forgotten.
                Err(error) => {
                    tracing::debug!("cannot read the stderr of job {id}: {error}");
                    let job = self.jobs.get(index);
                    self.forgotten += usize::from(job.is_read() && job.may_have_more());
                    return Ok(());
                }
            };
            let job = self.jobs.get(index);
            let news = job.cursor.accept(&answer, wanted);
            if news.gap == Gap::Here {
                let rest = job.release(b"", false);
                if !rest.is_empty() {
                    take(News::Bytes { node, bytes: [&rest[..], b"\n"].concat() });
                }
                take(News::Note(format!(
                    "some of the stderr of node {node} is missing here: the cluster keeps its beginning and its end"
                )));
            }
            let bytes = job.release(&news.bytes, self.pieces == Pieces::WholeLines);
            if !bytes.is_empty() {
                take(News::Bytes { node, bytes });
            }
            match news.next {
                Next::Wait => {
                    job.is_read();
                    return Ok(());
                }
                // Others wait too. It is the first to be read again, since its cursor is behind.
                Next::Ask if !self.allowance.is_left() => return Ok(()),
                Next::Ask => {}
            }
        }
    }

    /// Finds out once, as soon as there is something to send.
    async fn ask_for_offsets(&mut self, index: usize, id: &str) -> Result<Offsets, Error> {
        if self.offsets == Offsets::Unknown {
            if self.jobs.get(index).cursor.offset() == 0 {
                // Whatever is sent, it is sent from the beginning.
                return Ok(Offsets::Ignored);
            }
            self.allowance.spend();
            let range = StderrRange { offset: BEYOND_ANY_END, limit: 1 };
            self.offsets = match self.client.get_job_stderr(&self.operation_id, id, Some(range)).await {
                Ok(bytes) if !bytes.is_empty() => Offsets::Ignored,
                Err(error) if is_temporary(&error) => return Err(error),
                Ok(_) | Err(_) => Offsets::Honoured,
            };
        }
        Ok(self.offsets)
    }
}

/// Requests that may be made now: they add up while none is made, up to those of a second.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: f64,
    grown: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: REQUESTS_PER_SECOND, grown: now }
    }

    fn grow(&mut self, now: Instant, per_second: f64) {
        let elapsed = now.duration_since(self.grown).as_secs_f64();
        self.left = (self.left + elapsed * per_second).min(per_second);
        self.grown = now;
    }

    fn is_left(&self) -> bool {
        self.left >= 1.0
    }

    fn spend(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_however_often_it_is_asked() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut made = 0;
        for tick in 0..1000_u32 {
            allowance.grow(start + Duration::from_millis(10) * tick, REQUESTS_PER_SECOND);
            while allowance.is_left() {
                allowance.spend();
                made += 1;
            }
        }
        // Ten seconds, and what had added up before.
        assert!((109..=110).contains(&made), "{made}");
    }

    #[test]
    fn requests_that_were_made_in_advance_are_paid_for() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        for _ in 0..30 {
            allowance.spend();
        }
        allowance.grow(start + Duration::from_secs(2), REQUESTS_PER_SECOND);
        assert!(!allowance.is_left());
        allowance.grow(start + Duration::from_millis(2200), REQUESTS_PER_SECOND);
        assert!(allowance.is_left());
    }
}
