//! Cypress: the tree of nodes, its transactions and locks. A plain structure without IO, threads or clocks: the
//! server guards it by one mutex and tells it the time, so every rule here is testable by tables.
//!
//! A node has a trunk state, which everybody sees, and one branch for each transaction that has changed it or
//! has frozen it with a snapshot lock. A reader in a transaction sees the trunk with the branches of its
//! ancestors and its own laid over it, outermost first. A commit moves a branch one level up; at the top it
//! becomes the trunk.

mod attributes;
mod copy;
mod create;
mod data;
mod ids;
mod lock;
mod node;
mod path;
mod persist;
mod read;
mod remove;
mod resolve;
mod set;
pub mod table;
pub mod time;
mod transaction;
mod value_path;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub use attributes::AttributeFilter;
pub use copy::{CopyKind, CopyOptions};
pub use create::{CreateOptions, Existing, Recursive};
pub use data::{Append, CheckedRows, RowRange};
pub use lock::{LockKey, LockMode, LockRequest, Locked, Waitable};
pub use node::{FileContent, FileHash, NodeType, TableContent};
pub use path::{Tail, YPath, escape_key};
pub use time::Now;
pub use transaction::TransactionOptions;

use crate::error::{YtError, code};
use crate::guid::Guid;
use ids::IdSource;
use lock::Lock;
use node::{Branch, Content, Delta, Node, Stamps, State, VirtualMap};
use transaction::Transaction;
use ytsaurus_yson::YsonValue;

/// How soon the removal of an expired node is tried again that somebody has locked.
const RETRY_REMOVAL: Duration = Duration::from_secs(1);

/// On whose behalf, and in which transaction, a command runs.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The transaction of the request.
    pub transaction: Option<Guid>,
    /// The user of the request.
    pub user: &'a str,
}

/// The whole state of the master. A clone shares the bytes of files and the rows of tables.
#[derive(Debug, Clone)]
pub struct Cypress {
    nodes: HashMap<Guid, Node>,
    transactions: BTreeMap<Guid, Transaction>,
    locks: BTreeMap<Guid, Lock>,
    root: Guid,
    now: Now,
    /// Ids come from here and from nowhere else: the same commands make the same ids.
    ids: IdSource,
    revision: u64,
    last_timestamp: u64,
    /// Nodes that have `@expiration_time` or `@expiration_timeout`.
    expiring: BTreeSet<Guid>,
    /// Transactions that have ended since the last [`Cypress::take_ended`].
    ended: Vec<Guid>,
    /// Nothing expires before this moment on the monotonic clock, so that a request need not look at everything
    /// that could. Pings only move deadlines back, so it may be early, never late.
    wake_at: Option<Duration>,
}

impl Cypress {
    /// A fresh tree with what every cluster has.
    pub fn new(now: Now) -> Cypress {
        let mut ids = IdSource::random();
        let root = ids.next(NodeType::MapNode.code());
        let mut cypress = Cypress {
            nodes: HashMap::new(),
            transactions: BTreeMap::new(),
            locks: BTreeMap::new(),
            root,
            now,
            ids,
            revision: 1 << 32,
            last_timestamp: 0,
            expiring: BTreeSet::new(),
            ended: Vec::new(),
            wake_at: None,
        };
        let stamps = cypress.fresh_stamps();
        cypress.insert_node(
            root,
            NodeType::MapNode,
            None,
            "root",
            Content::initial(NodeType::MapNode),
            stamps,
        );
        for name in ["tmp", "home", "sys"] {
            cypress.plant(root, name, Content::initial(NodeType::MapNode));
        }
        if let Some(sys) = cypress.nodes[&root].trunk_child("sys") {
            cypress.plant(sys, "transactions", Content::Virtual(VirtualMap::Transactions));
            cypress.plant(sys, "topmost_transactions", Content::Virtual(VirtualMap::TopmostTransactions));
            cypress.plant(sys, "locks", Content::Virtual(VirtualMap::Locks));
            if let Some(node) = cypress.nodes.get_mut(&sys) {
                let name = crate::value::string("minicluster");
                node.trunk.attributes.insert("cluster_name".to_owned(), name);
            }
        }
        cypress
    }

    fn plant(&mut self, parent: Guid, name: &str, content: Content) {
        let id = self.ids.next(NodeType::MapNode.code());
        let stamps = self.fresh_stamps();
        self.insert_node(id, NodeType::MapNode, Some((parent, name.to_owned())), "root", content, stamps);
        if let Some(Content::Map(children)) = self.nodes.get_mut(&parent).map(|node| &mut node.trunk.content)
        {
            children.insert(name.to_owned(), id);
        }
    }

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

    fn next_deadline(&self) -> Option<Duration> {
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
    fn wake_by(&mut self, deadline: Duration) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |wake_at| wake_at.min(deadline)));
    }

    /// A node has got a time to live, or may have.
    fn watch_expiration(&mut self, id: Guid) {
        self.expiring.insert(id);
        if let Some(expires_at) = self.node_expires_at(id) {
            let left = Duration::from_micros(expires_at.saturating_sub(self.now.wall_us));
            self.wake_by(self.now.monotonic + left);
        }
    }

    /// Whether [`Cypress::take_ended`] has something to tell.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The transactions that have ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Guid> {
        std::mem::take(&mut self.ended)
    }

    /// A number that grows with every call: `generate_timestamp`. Seconds since 1970 in the upper 34 bits.
    pub fn generate_timestamp(&mut self) -> u64 {
        let from_clock = (self.now.wall_us / 1_000_000) << 30;
        self.last_timestamp = from_clock.max(self.last_timestamp + 1);
        self.last_timestamp
    }

    fn fresh_stamps(&mut self) -> Stamps {
        self.revision += 1;
        Stamps {
            modification_time: self.now.wall_us,
            attribute_revision: self.revision,
            content_revision: self.revision,
        }
    }

    fn insert_node(
        &mut self,
        id: Guid,
        node_type: NodeType,
        parent: Option<(Guid, String)>,
        owner: &str,
        content: Content,
        stamps: Stamps,
    ) {
        let node = Node {
            id,
            node_type,
            created_in: None,
            parent,
            owner: owner.to_owned(),
            creation_time: self.now.wall_us,
            access_time: self.now.wall_us,
            access_counter: 0,
            trunk: State { attributes: BTreeMap::new(), content, stamps },
            branches: BTreeMap::new(),
            frozen_in: 0,
            locks: Vec::new(),
            pending_locks: std::collections::VecDeque::new(),
        };
        self.nodes.insert(id, node);
    }

    // === views ===

    /// A transaction and its ancestors, innermost first.
    fn chain(&self, transaction: Option<Guid>) -> Vec<Guid> {
        let mut chain = Vec::new();
        let mut current = transaction;
        while let Some(id) = current {
            chain.push(id);
            current = self.transactions.get(&id).and_then(|transaction| transaction.parent);
        }
        chain
    }

    /// A node that this transaction may see.
    fn node(&self, id: Guid, transaction: Option<Guid>) -> Result<&Node, YtError> {
        self.nodes
            .get(&id)
            .filter(|node| node.created_in.is_none_or(|owner| self.chain(transaction).contains(&owner)))
            .ok_or_else(|| YtError::resolve(format!("No such object {id}")))
    }

    /// A node that is known to exist, because this request has just resolved it.
    fn existing(&self, id: Guid) -> Result<&Node, YtError> {
        self.nodes.get(&id).ok_or_else(|| YtError::resolve(format!("No such object {id}")))
    }

    /// The whole state of a node as this transaction sees it.
    fn state(&self, node: &Node, transaction: Option<Guid>) -> State {
        let mut deltas: Vec<&Delta> = Vec::new();
        let mut base = &node.trunk;
        for level in self.chain(transaction) {
            match node.branches.get(&level) {
                Some(Branch::Snapshot(frozen)) => {
                    base = frozen;
                    break;
                }
                Some(Branch::Delta(delta)) => deltas.push(delta),
                None => {}
            }
        }
        let mut state = base.clone();
        for delta in deltas.into_iter().rev() {
            state.apply(delta);
        }
        state
    }

    /// A child as this transaction sees it, without building the whole map.
    fn child(&self, node: &Node, transaction: Option<Guid>, key: &str) -> Option<Guid> {
        for level in self.chain(transaction) {
            match node.branches.get(&level) {
                Some(Branch::Snapshot(State { content: Content::Map(children), .. })) => {
                    return children.get(key).copied();
                }
                Some(Branch::Delta(delta)) => {
                    if let Some(child) = delta.children.get(key) {
                        return *child;
                    }
                }
                _ => {}
            }
        }
        node.trunk_child(key)
    }

    /// All children as this transaction sees them.
    fn children(&self, node: &Node, transaction: Option<Guid>) -> BTreeMap<String, Guid> {
        match self.state(node, transaction).content {
            Content::Map(children) => children,
            _ => BTreeMap::new(),
        }
    }

    /// Whether this transaction has removed the node.
    fn is_detached(&self, node: &Node, transaction: Option<Guid>) -> bool {
        node.parent.is_none() && node.id != self.root
            || self
                .chain(transaction)
                .iter()
                .any(|level| matches!(node.branches.get(level), Some(Branch::Delta(delta)) if delta.detached))
    }

    /// The path by which a node can be found: `//a/b`, or `#id` for what hangs nowhere.
    fn path_of(&self, id: Guid) -> String {
        let mut keys = Vec::new();
        let mut current = id;
        while let Some(node) = self.nodes.get(&current) {
            match &node.parent {
                Some((parent, key)) => {
                    keys.push(escape_key(key));
                    current = *parent;
                }
                None if current == self.root => {
                    let mut path = "/".to_owned();
                    for key in keys.iter().rev() {
                        path.push('/');
                        path.push_str(key);
                    }
                    return path;
                }
                None => break,
            }
        }
        format!("#{id}")
    }

    // === changes ===

    /// The place where a transaction's change of a node goes. Locks are the caller's matter.
    fn modify(&mut self, id: Guid, transaction: Option<Guid>, change: Change) {
        let mut stamps = self.fresh_stamps();
        if matches!(change, Change::Attribute(..)) {
            stamps.content_revision = 0;
        } else {
            stamps.attribute_revision = 0;
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(transaction) = transaction else {
            match change {
                Change::Attribute(name, Some(value)) => drop(node.trunk.attributes.insert(name, value)),
                Change::Attribute(name, None) => drop(node.trunk.attributes.remove(&name)),
                Change::Child(key, child) => {
                    if let Content::Map(children) = &mut node.trunk.content {
                        match child {
                            Some(child) => children.insert(key, child),
                            None => children.remove(&key),
                        };
                    }
                }
                Change::Content(delta) => delta.apply_to(&mut node.trunk.content),
                Change::Detach => node.parent = None,
            }
            node.trunk.stamps.merge(stamps);
            return;
        };
        if let Some(owner) = self.transactions.get_mut(&transaction) {
            owner.branched.insert(id);
        }
        let branch = node.branches.entry(transaction).or_insert_with(|| Branch::Delta(Delta::default()));
        // A snapshot branch cannot be written to: taking the lock for the change has been refused before.
        let Branch::Delta(delta) = branch else { return };
        match change {
            Change::Attribute(name, value) => drop(delta.attributes.insert(name, value)),
            Change::Child(key, child) => drop(delta.children.insert(key, child)),
            Change::Content(content) => delta.content.merge(content),
            Change::Detach => delta.detached = true,
        }
        delta.stamps.merge(stamps);
    }

    fn set_attribute(&mut self, id: Guid, transaction: Option<Guid>, name: &str, value: Option<YsonValue>) {
        self.modify(id, transaction, Change::Attribute(name.to_owned(), value));
        if matches!(name, "expiration_time" | "expiration_timeout") {
            self.watch_expiration(id);
        }
    }

    /// Forgets a node that hangs nowhere and that no branch keeps alive, with everything below it.
    fn forget_if_unreachable(&mut self, id: Guid) {
        let Some(node) = self.nodes.get(&id) else { return };
        let alive = node.parent.is_some()
            || id == self.root
            || !node.branches.is_empty()
            || node.frozen_in > 0
            || node.created_in.is_some();
        if alive {
            return;
        }
        let Some(node) = self.nodes.remove(&id) else { return };
        self.expiring.remove(&id);
        for lock in node.locks.iter().chain(&node.pending_locks) {
            self.drop_lock_record(*lock);
        }
        if let Content::Map(children) = node.trunk.content {
            for child in children.into_values() {
                if let Some(child_node) = self.nodes.get_mut(&child)
                    && child_node.parent.as_ref().is_some_and(|(parent, _)| *parent == id)
                {
                    child_node.parent = None;
                }
                self.forget_if_unreachable(child);
            }
        }
    }

    // === expiration of nodes ===

    fn node_expires_at(&self, id: Guid) -> Option<u64> {
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

    /// Fails unless these transactions are alive.
    pub fn check_prerequisites(&self, transactions: &[Guid]) -> Result<(), YtError> {
        match transactions.iter().find(|id| !self.transactions.contains_key(id)) {
            None => Ok(()),
            Some(id) => Err(YtError::new(
                code::PREREQUISITE_CHECK_FAILED,
                format!("Prerequisite check failed: transaction {id} is missing"),
            )),
        }
    }

    /// Fails unless the node at this path has this revision.
    pub fn check_prerequisite_revision(
        &self,
        path: &str,
        scope: Scope<'_>,
        revision: u64,
    ) -> Result<(), YtError> {
        let failed = |what: String| {
            YtError::new(code::PREREQUISITE_CHECK_FAILED, format!("Prerequisite check failed: {what}"))
        };
        let id = self
            .resolve_node(&YPath::parse(path)?, scope)
            .map_err(|error| failed(format!("failed to resolve path {path}")).with_inner(error))?;
        let actual = self.state(self.existing(id)?, scope.transaction).stamps.revision();
        if actual == revision {
            Ok(())
        } else {
            Err(failed(format!("node {path} revision mismatch: expected {revision}, found {actual}")))
        }
    }
}

impl Node {
    fn trunk_child(&self, key: &str) -> Option<Guid> {
        match &self.trunk.content {
            Content::Map(children) => children.get(key).copied(),
            _ => None,
        }
    }
}

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

/// One change of one node.
#[derive(Debug)]
enum Change {
    Attribute(String, Option<YsonValue>),
    Child(String, Option<Guid>),
    Content(node::ContentDelta),
    /// It is not in the tree any more.
    Detach,
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
