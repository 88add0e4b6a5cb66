//! Cypress: the tree of nodes, its transactions and locks. A plain structure without IO, threads or clocks: the
//! server guards it by one mutex and tells it the time, so every rule here is testable by tables.
//!
//! A node has a trunk state, which everybody sees, and one branch for each transaction that has changed it or
//! has frozen it with a snapshot lock. A reader in a transaction sees the trunk with the branches of its
//! ancestors and its own laid over it, outermost first. A commit moves a branch one level up; at the top it
//! becomes the trunk.

mod attributes;
mod change;
mod copy;
mod create;
mod data;
mod expiry;
mod ids;
mod lock;
mod node;
mod path;
mod permission;
mod persist;
mod prerequisites;
mod range;
mod read;
mod remove;
mod resolve;
mod set;
pub mod table;
pub mod time;
mod transaction;
mod value_path;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub use attributes::AttributeFilter;
pub use copy::{CopyKind, CopyOptions};
pub use create::{CreateOptions, Existing, Recursive};
pub use data::{Append, CheckedRows};
pub use expiry::Expired;
pub use lock::{LockKey, LockMode, LockRequest, Locked, Waitable};
pub use node::{FileContent, FileHash, NodeType, TableContent};
pub use path::{Tail, YPath, escape_key};
pub use permission::Permission;
pub use range::RowRange;
pub use time::Now;
pub use transaction::TransactionOptions;

use crate::guid::Guid;
use change::Change;
use ids::IdSource;
use lock::Lock;
use node::{Content, Node, Stamps, State, VirtualMap};
use transaction::Transaction;

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
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
