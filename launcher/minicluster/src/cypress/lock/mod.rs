//! Locks: who may change what at the same time, and who waits.
//!
//! Two locks conflict only if neither holder is an ancestor of the other. Writes outside any transaction take no
//! lock, but they check like everybody else.

mod check;
mod show;

pub(super) use show::BUILTIN_ATTRIBUTES;

use super::node::{Branch, Content, State};
use super::transaction::Transaction;
use super::{Cypress, Scope, YPath};
use crate::error::YtError;
use crate::guid::Guid;

/// The type number of a lock's id.
const LOCK_TYPE: u16 = 200;

/// How strong a lock is.
#[allow(missing_docs, reason = "the names are YT's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    Snapshot,
    Shared,
    Exclusive,
}

impl LockMode {
    /// YT's name.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Snapshot => "snapshot",
            LockMode::Shared => "shared",
            LockMode::Exclusive => "exclusive",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<LockMode> {
        [LockMode::Snapshot, LockMode::Shared, LockMode::Exclusive]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// What of a node a shared lock covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockKey {
    /// Appending to it.
    None,
    /// This child.
    Child(String),
    /// This attribute.
    Attribute(String),
}

/// Whether a request that conflicts is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waitable {
    /// It fails.
    No,
    /// It waits its turn.
    Yes,
}

/// What `lock` asks for.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// How strong.
    pub mode: LockMode,
    /// Of what.
    pub key: LockKey,
    /// What to do on a conflict.
    pub waitable: Waitable,
}

#[derive(Debug, Clone)]
pub(super) struct Lock {
    pub(super) id: Guid,
    pub(super) node: Guid,
    pub(super) transaction: Guid,
    pub(super) mode: LockMode,
    pub(super) key: LockKey,
    pub(super) implicit: bool,
    pub(super) creation_time: u64,
    /// None: it waits.
    pub(super) acquisition_time: Option<u64>,
}

/// What `lock` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    /// The lock.
    pub lock: Guid,
    /// The node, after links.
    pub node: Guid,
    /// The node's revision; 0 while the lock waits.
    pub revision: u64,
}

impl Cypress {
    /// `lock`: takes a lock, or queues the request.
    pub fn lock(&mut self, path: &YPath, scope: Scope<'_>, request: LockRequest) -> Result<Locked, YtError> {
        let Some(transaction) = scope.transaction else {
            return Err(YtError::generic("A valid master transaction is required"));
        };
        let node = self.resolve_node(path, scope)?;
        if request.key != LockKey::None && request.mode != LockMode::Shared {
            return Err(YtError::generic("\"child_key\" and \"attribute_key\" need \"mode\"=\"shared\""));
        }
        let held = self.holds(node, transaction, request.mode, &request.key);
        let verdict = if held {
            Ok(())
        } else {
            self.check_lock(node, Some(transaction), request.mode, &request.key)
                .and_then(|()| self.check_no_other_waits(node, &request))
        };
        match (verdict, request.waitable) {
            (Ok(()), _) => {
                let lock = self.grant(node, transaction, request.mode, request.key, false);
                let state = self.state(self.existing(node)?, Some(transaction));
                Ok(Locked { lock, node, revision: state.stamps.revision() })
            }
            (Err(_), Waitable::Yes) => {
                let lock = self.insert_lock(node, transaction, request.mode, request.key, false, None);
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.pending_locks.push_back(lock);
                }
                Ok(Locked { lock, node, revision: 0 })
            }
            (Err(error), Waitable::No) => Err(error),
        }
    }

    /// `unlock`: gives up the explicit locks of this transaction on a node.
    pub fn unlock(&mut self, path: &YPath, scope: Scope<'_>) -> Result<(), YtError> {
        let Some(transaction) = scope.transaction else {
            return Err(YtError::generic("A valid master transaction is required"));
        };
        let id = self.resolve_node(path, scope)?;
        let node = self.existing(id)?;
        let explicit: Vec<Guid> = node
            .locks
            .iter()
            .chain(&node.pending_locks)
            .copied()
            .filter(|lock| {
                self.locks.get(lock).is_some_and(|lock| lock.transaction == transaction && !lock.implicit)
            })
            .collect();
        if explicit.is_empty() {
            return Ok(());
        }
        if let Some(Branch::Delta(_)) = node.branches.get(&transaction) {
            return Err(YtError::generic(format!(
                "Node {} is modified by transaction {transaction} and cannot be unlocked",
                self.path_of(id)
            )));
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.locks.retain(|lock| !explicit.contains(lock));
            node.pending_locks.retain(|lock| !explicit.contains(lock));
        }
        self.take_branch(id, transaction);
        for lock in explicit {
            self.drop_lock_record(lock);
        }
        if let Some(transaction) = self.transactions.get_mut(&transaction) {
            transaction.branched.remove(&id);
        }
        self.forget_if_unreachable(id);
        self.grant_pending_locks(id);
        Ok(())
    }

    /// The lock that a change needs: checked, and taken if there is a transaction.
    pub(super) fn lock_for_change(
        &mut self,
        node: Guid,
        scope: Scope<'_>,
        mode: LockMode,
        key: LockKey,
    ) -> Result<(), YtError> {
        if let Some(transaction) = scope.transaction
            && self.holds(node, transaction, mode, &key)
        {
            return Ok(());
        }
        self.check_lock(node, scope.transaction, mode, &key)?;
        if let Some(transaction) = scope.transaction {
            self.grant(node, transaction, mode, key, true);
        }
        Ok(())
    }

    fn insert_lock(
        &mut self,
        node: Guid,
        transaction: Guid,
        mode: LockMode,
        key: LockKey,
        implicit: bool,
        acquisition_time: Option<u64>,
    ) -> Guid {
        let id = self.ids.next(LOCK_TYPE);
        let creation_time = self.now.wall_us;
        self.locks
            .insert(id, Lock { id, node, transaction, mode, key, implicit, creation_time, acquisition_time });
        if let Some(transaction) = self.transactions.get_mut(&transaction) {
            transaction.locks.insert(id);
        }
        id
    }

    fn grant(&mut self, id: Guid, transaction: Guid, mode: LockMode, key: LockKey, implicit: bool) -> Guid {
        let now = self.now.wall_us;
        let lock = self.insert_lock(id, transaction, mode, key, implicit, Some(now));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.locks.push(lock);
        }
        self.freeze(id, transaction, mode);
        lock
    }

    /// A snapshot lock keeps the node as its holder sees it now.
    fn freeze(&mut self, id: Guid, transaction: Guid, mode: LockMode) {
        if mode != LockMode::Snapshot {
            return;
        }
        let Some(node) = self.nodes.get(&id) else { return };
        if node.branches.contains_key(&transaction) {
            return;
        }
        let frozen = self.state(node, Some(transaction));
        if let Content::Map(children) = &frozen.content {
            for child in children.values() {
                if let Some(child) = self.nodes.get_mut(child) {
                    child.frozen_in += 1;
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.branches.insert(transaction, Branch::Snapshot(frozen));
        }
        if let Some(transaction) = self.transactions.get_mut(&transaction) {
            transaction.branched.insert(id);
        }
    }

    /// Takes a branch away from its node. Children that only a frozen state kept alive are gone then.
    pub(super) fn take_branch(&mut self, id: Guid, transaction: Guid) -> Option<Branch> {
        let branch = self.nodes.get_mut(&id)?.branches.remove(&transaction)?;
        if let Branch::Snapshot(State { content: Content::Map(children), .. }) = &branch {
            for child in children.values() {
                if let Some(child) = self.nodes.get_mut(child) {
                    child.frozen_in -= 1;
                }
                self.forget_if_unreachable(*child);
            }
        }
        Some(branch)
    }

    /// Serves those who wait, in order, until one cannot be served.
    pub(super) fn grant_pending_locks(&mut self, id: Guid) {
        while let Some(first) = self.nodes.get(&id).and_then(|node| node.pending_locks.front().copied()) {
            let Some(lock) = self.locks.get(&first) else {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.pending_locks.pop_front();
                }
                continue;
            };
            let (transaction, mode, key) = (lock.transaction, lock.mode, lock.key.clone());
            if self.check_lock(id, Some(transaction), mode, &key).is_err() {
                return;
            }
            if let Some(node) = self.nodes.get_mut(&id) {
                node.pending_locks.pop_front();
                node.locks.push(first);
            }
            let now = self.now.wall_us;
            if let Some(lock) = self.locks.get_mut(&first) {
                lock.acquisition_time = Some(now);
            }
            self.freeze(id, transaction, mode);
        }
    }

    /// Passes the locks of an ended transaction to its parent, or drops them. Returns the nodes concerned.
    pub(super) fn end_locks(&mut self, transaction: &Transaction, commit: bool) -> Vec<Guid> {
        let mut nodes = Vec::new();
        for id in &transaction.locks {
            let Some(lock) = self.locks.get_mut(id) else { continue };
            nodes.push(lock.node);
            let kept = commit && lock.acquisition_time.is_some() && lock.mode != LockMode::Snapshot;
            if let Some(parent) = transaction.parent.filter(|_| kept) {
                lock.transaction = parent;
                let (node, mode, key, implicit) = (lock.node, lock.mode, lock.key.clone(), lock.implicit);
                let doubled = self.nodes.get(&node).is_some_and(|node| {
                    node.locks
                        .iter()
                        .filter(|other| *other != id)
                        .filter_map(|other| self.locks.get(other))
                        .any(|other| {
                            other.transaction == parent
                                && other.mode >= mode
                                && (other.mode == LockMode::Exclusive || other.key == key)
                        })
                });
                if !(implicit && doubled) {
                    if let Some(parent) = self.transactions.get_mut(&parent) {
                        parent.locks.insert(*id);
                    }
                    continue;
                }
            }
            let Some(lock) = self.locks.remove(id) else { continue };
            if let Some(node) = self.nodes.get_mut(&lock.node) {
                node.locks.retain(|other| other != id);
                node.pending_locks.retain(|other| other != id);
            }
        }
        nodes
    }

    /// Forgets a lock whose node is gone or has let it go.
    pub(super) fn drop_lock_record(&mut self, id: Guid) {
        if let Some(lock) = self.locks.remove(&id)
            && let Some(transaction) = self.transactions.get_mut(&lock.transaction)
        {
            transaction.locks.remove(&id);
        }
    }
}
