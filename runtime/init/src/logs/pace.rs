//! When the next batch leaves: a plain calculation. Times are those since the shipper's start.
//!
//! All nodes of an operation together send at most [`OPERATION_REQUESTS_PER_SECOND`] requests for their log tables.
//! No node knows what the others do, so each has its share of them: an account that fills with time and that every
//! request is taken from. A batch waits until the account bears it, and costs up to [`STRAY`] more than it sent: nodes
//! that came to write at the same moment, say when a cluster is back, would do so for ever. One node with one worker writes
//! every second; 1,000 nodes with 8 workers each, all of them loud, write every 10 to 13 seconds.

use std::time::Duration;

/// What an operation may ask of the cluster for its log tables, however many nodes it has.
pub(super) const OPERATION_REQUESTS_PER_SECOND: f64 = 1000.0;

/// Requests of a batch besides one for each of its tables: the beginning and the end of its transaction.
const REQUESTS_OF_A_BATCH: f64 = 2.0;

/// After the first line nothing is waited for but what belongs to it.
const GATHER: Duration = Duration::from_millis(20);

/// How much more than it sent, at most, a batch costs. What a batch waited too long would come back to it in time, and
/// all would write together again; what it paid too much is gone.
const STRAY: f64 = 0.3;

/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// When the next batch leaves.
#[derive(Debug)]
pub(super) struct Pace {
    batch_bytes: u64,
    batch_age: Duration,
    /// Requests a second of this node.
    share: f64,
    /// Requests that may be sent at `counted_at`; below 0 if more were sent than there were.
    account: f64,
    most: f64,
    counted_at: Duration,
    /// When the last batch left.
    last: Option<Duration>,
    /// How often in a row it did not go well, and until when nothing is tried.
    failures: u32,
    paused_until: Duration,
}

// === impl Pace ===

impl Pace {
    /// The pace of one of `nodes` nodes, each with so many tables. `luck`, from 0 to 1, keeps the nodes from writing
    /// all at once: it says how full the account is at first.
    pub(super) fn new(nodes: u32, tables: usize, batch_bytes: u64, batch_age: Duration, luck: f64) -> Self {
        let share = OPERATION_REQUESTS_PER_SECOND / f64::from(nodes.max(1));
        let most = requests(tables).max(share);
        Self {
            batch_bytes,
            batch_age,
            share,
            account: most * luck,
            most,
            counted_at: Duration::ZERO,
            last: None,
            failures: 0,
            paused_until: Duration::ZERO,
        }
    }

    /// When what waits is to leave, if it is not to wait for more. `None` while nothing waits.
    pub(super) fn next(&self, now: Duration, bytes: u64, tables: usize) -> Option<Duration> {
        if tables == 0 {
            return None;
        }
        let wanted = match self.last {
            _ if bytes >= self.batch_bytes => now,
            Some(last) => (last + self.batch_age).max(now + GATHER.min(self.batch_age)),
            None => now + GATHER.min(self.batch_age),
        };
        let lacking = (requests(tables) - self.account).max(0.0) / self.share;
        let affordable = self.counted_at + Duration::from_secs_f64(lacking);
        Some(wanted.max(affordable).max(self.paused_until))
    }

    /// A batch leaves.
    pub(super) fn begin(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// So many requests were sent. `stray`, from 0 to 1, says how much more they cost.
    pub(super) fn spend(&mut self, now: Duration, requests: u64, stray: f64) {
        let earned = now.saturating_sub(self.counted_at).as_secs_f64() * self.share;
        // Counts of requests are far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "a batch has few requests")]
        let spent = requests as f64 * (1.0 + STRAY * stray);
        self.account = (self.account + earned).min(self.most) - spent;
        self.counted_at = now;
    }

    /// The cluster took a batch.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.paused_until = Duration::ZERO;
    }

    /// It did not. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, now: Duration, jitter: f64) {
        self.failures += 1;
        self.paused_until = now + pause(self.failures, jitter);
    }

    /// How long the last batches of all nodes are to be spread over, so that they stay within the bound.
    pub(super) fn spread(&self, tables: usize) -> Duration {
        Duration::from_secs_f64((requests(tables) + 1.0) / self.share)
    }
}

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = PAUSES;
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    pause.mul_f64(0.75 + 0.5 * jitter)
}

/// Requests of a batch for so many tables.
fn requests(tables: usize) -> f64 {
    // A node has few tables.
    REQUESTS_OF_A_BATCH + f64::from(u32::try_from(tables).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MIB: u64 = 1 << 20;

    fn pace(nodes: u32, tables: usize, luck: f64) -> Pace {
        Pace::new(nodes, tables, 4 * MIB, SECOND, luck)
    }

    /// When batches leave in so many seconds, if there is always so much.
    fn batches(pace: &mut Pace, seconds: u64, bytes: u64, tables: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut now = Duration::ZERO;
        loop {
            now = pace.next(now, bytes, tables).unwrap();
            if now > SECOND * u32::try_from(seconds).unwrap() {
                return times;
            }
            pace.begin(now);
            times.push(now);
            // The request's own time.
            now += Duration::from_millis(1);
            pace.spend(now, tables as u64 + 2, 0.0);
        }
    }

    #[test]
    fn a_line_leaves_at_once_and_the_next_ones_once_a_second() {
        let mut pace = pace(1, 1, 0.0);
        pace.spend(SECOND, 0, 0.0);
        assert_eq!(pace.next(SECOND, 0, 0), None);
        assert_eq!(pace.next(SECOND, 10, 1), Some(SECOND + GATHER));
        pace.begin(SECOND + GATHER);
        pace.spend(SECOND + GATHER, 3, 0.0);
        assert_eq!(pace.next(SECOND * 3 / 2, 10, 1), Some(SECOND * 2 + GATHER));
        assert_eq!(pace.next(SECOND * 3 / 2, 4 * MIB, 1), Some(SECOND * 3 / 2));
        assert_eq!(pace.next(SECOND * 9, 10, 1), Some(SECOND * 9 + GATHER));
    }

    #[test]
    fn a_thousand_nodes_stay_within_the_bound() {
        for (nodes, tables) in [(1, 1), (1, 8), (16, 8), (1000, 8), (1000, 1), (10_000, 8)] {
            let all = 600 * 1000_usize;
            let of_one = batches(&mut pace(nodes, tables, 0.5), 600, 5 * MIB, tables).len() * (tables + 2);
            let sent = of_one * nodes as usize;
            assert!(sent <= all + all / 10, "{nodes} nodes with {tables} tables send {sent} in 600 s");
            let quiet = batches(&mut pace(nodes, tables, 0.5), 600, 1, tables).len();
            assert!(quiet <= 601);
            if nodes <= 16 {
                assert!(quiet >= 599, "{nodes} nodes: {quiet}");
            }
        }
        let times = batches(&mut pace(1000, 8, 0.5), 600, 1, 8);
        assert_eq!(times.len(), 60, "every ten seconds");
    }

    #[test]
    fn nodes_do_not_begin_all_at_once() {
        let first = |luck| pace(1000, 8, luck).next(Duration::ZERO, 1, 8).unwrap();
        assert_eq!((first(1.0), first(0.5), first(0.0)), (GATHER, SECOND * 5, SECOND * 10));
        assert_eq!(pace(1000, 8, 0.0).spread(8), SECOND * 11);
    }

    /// All nodes write at the same moment, as they do when a cluster is back. After two minutes they no longer do.
    #[test]
    fn nodes_that_write_at_once_drift_apart() {
        let mut seconds = vec![0; 300];
        for node in 0..1000 {
            let mut pace = pace(1000, 8, 1.0);
            let mut now = pace.next(Duration::ZERO, 1, 8).unwrap();
            for batch in 0.. {
                let Some(requests) = usize::try_from(now.as_secs()).ok().and_then(|now| seconds.get_mut(now))
                else {
                    break;
                };
                *requests += 10;
                pace.begin(now);
                now += Duration::from_millis(1);
                // Any row of numbers without a pattern: the fraction of the golden ratio's multiples.
                let stray = (f64::from(node * 37 + batch * 1009) * 0.618_033_988_75).fract();
                pace.spend(now, 10, stray);
                // The line of the first worker that writes again sets the time, and those of all others come along.
                now = pace.next(now, 1, 1).unwrap();
            }
        }
        assert_eq!(seconds[0], 10_000);
        let most = seconds[120..].iter().max().unwrap();
        assert!(*most < 3000, "{most} requests in a second");
        let mean = seconds[120..].iter().sum::<usize>() / 180;
        assert!((800..=1000).contains(&mean), "{mean} a second");
    }

    #[test]
    fn pauses_after_failures_grow_to_a_limit() {
        let mut pace = pace(1, 1, 1.0);
        pace.failed(SECOND, 0.5);
        assert_eq!(pace.next(SECOND, 5 * MIB, 1), Some(SECOND + PAUSES.0));
        for _ in 0..20 {
            pace.failed(SECOND, 0.5);
        }
        assert_eq!(pace.next(SECOND, 5 * MIB, 1), Some(SECOND + PAUSES.1));
        pace.succeeded();
        assert_eq!(pace.next(SECOND, 5 * MIB, 1), Some(SECOND));
    }
}
