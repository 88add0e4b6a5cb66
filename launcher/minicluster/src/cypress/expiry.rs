//! What passes away by itself: transactions that nobody pings, and nodes with a time to live.

use std::time::Duration;

use super::transaction::Transaction;
use super::{Cypress, Now, Scope, attributes};
use crate::guid::Guid;

/// How soon the removal of an expired node is tried again that somebody has locked.
const RETRY_REMOVAL: Duration = Duration::from_secs(1);

/// What has passed away by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Transactions that nobody has pinged, in the order in which they were aborted.
    pub transactions: Vec<Guid>,
    /// Nodes whose time was over and that nobody had locked.
    pub nodes: Vec<Guid>,
}

impl Expired {
    /// Whether nothing has.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty() && self.nodes.is_empty()
    }
}

impl Cypress {
    /// Sets the clock and lets pass away what has expired. Every request starts with it.
    pub fn advance(&mut self, now: Now) -> Expired {
        self.now = now;
        if self.wake_at.is_none_or(|wake_at| wake_at > now.monotonic) {
            return Expired::default();
        }
        let expired = Expired { transactions: self.expired_transactions(), nodes: Vec::new() };
        self.expire_transactions(&expired.transactions);
        // Which nodes may go is seen only when no transaction holds them any more.
        let nodes = self.expired_nodes();
        let nodes = self.expire_nodes(&nodes);
        self.wake_at = self.next_deadline();
        Expired { nodes, ..expired }
    }

    /// Sets the clock and nothing else: for a command that is done again from a journal.
    pub fn set_time(&mut self, now: Now) {
        self.now = now;
    }

    /// What [`Cypress::advance`] did at this moment, again.
    pub fn repeat_expiry(&mut self, now: Now, expired: &Expired) {
        self.now = now;
        self.expire_transactions(&expired.transactions);
        self.expire_nodes(&expired.nodes);
    }

    /// The first moment after a restart. The clock that timeouts run on is another one, so all timeouts begin anew.
    pub fn resume(&mut self, now: Now) {
        self.now = now;
        self.ended.clear();
        // Timestamps of the last second before the end are not given twice.
        self.last_timestamp = self.last_timestamp.max((now.wall_us / 1_000_000 + 1) << 30);
        for transaction in self.transactions.values_mut() {
            transaction.resume(now);
        }
        for id in &self.expiring {
            if let Some(node) = self.nodes.get_mut(id) {
                node.access_time = node.access_time.max(now.wall_us);
            }
        }
        self.wake_at = self.next_deadline();
    }

    /// The moment (on the monotonic clock) at which [`Cypress::advance`] may next have something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let transactions = self.transactions.values().map(Transaction::expires_at);
        let nodes = self.expiring.iter().filter_map(|id| self.node_deadline(*id));
        transactions.chain(nodes).min()
    }

    /// When to look at a node with a time to live. One whose time is over is there because somebody has locked it.
    fn node_deadline(&self, id: Guid) -> Option<Duration> {
        let left_us = self.node_expires_at(id)?.saturating_sub(self.now.wall_us);
        let left = if left_us == 0 { RETRY_REMOVAL } else { Duration::from_micros(left_us) };
        Some(self.now.monotonic + left)
    }

    /// Something new expires at this moment.
    pub(super) fn wake_by(&mut self, deadline: Duration) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |wake_at| wake_at.min(deadline)));
    }

    /// A node has got a time to live, or may have.
    pub(super) fn watch_expiration(&mut self, id: Guid) {
        self.expiring.insert(id);
        if let Some(expires_at) = self.node_expires_at(id) {
            let left = Duration::from_micros(expires_at.saturating_sub(self.now.wall_us));
            self.wake_by(self.now.monotonic + left);
        }
    }

    pub(super) fn node_expires_at(&self, id: Guid) -> Option<u64> {
        let node = self.nodes.get(&id)?;
        let attribute = |name: &str| node.trunk.attributes.get(name);
        let time = attribute("expiration_time").and_then(attributes::parse_time);
        let timeout = attribute("expiration_timeout")
            .and_then(crate::value::as_i64)
            .and_then(|timeout_ms| u64::try_from(timeout_ms).ok())
            .map(|timeout_ms| {
                let touched = node.access_time.max(node.trunk.stamps.modification_time);
                touched.saturating_add(timeout_ms.saturating_mul(1000))
            });
        time.into_iter().chain(timeout).min()
    }

    fn expired_nodes(&self) -> Vec<Guid> {
        let now = self.now.wall_us;
        let is_expired = |id: &Guid| self.node_expires_at(*id).is_some_and(|at| at <= now);
        self.expiring.iter().copied().filter(is_expired).collect()
    }

    /// Removes nodes, and returns those that are gone: one that somebody has locked stays for now.
    fn expire_nodes(&mut self, expired: &[Guid]) -> Vec<Guid> {
        let mut removed = Vec::new();
        for id in expired.iter().copied() {
            match self.remove_subtree(id, Scope { transaction: None, user: "root" }) {
                Ok(()) => removed.push(id),
                Err(error) => tracing::debug!(path = self.path_of(id), %error, "an expired node stays"),
            }
        }
        let gone: Vec<Guid> =
            self.expiring.iter().copied().filter(|id| !self.nodes.contains_key(id)).collect();
        for id in gone {
            self.expiring.remove(&id);
        }
        removed
    }
}
