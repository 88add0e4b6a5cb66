//! Where a change of a node goes: to its trunk, or to the branch of a transaction. Locks are the caller's matter.

use super::Cypress;
use super::node::{Branch, Content, ContentDelta, Delta};
use crate::guid::Guid;
use ytsaurus_yson::YsonValue;

/// One change of one node.
#[derive(Debug)]
pub(super) enum Change {
    Attribute(String, Option<YsonValue>),
    Child(String, Option<Guid>),
    Content(ContentDelta),
    /// It is not in the tree any more.
    Detach,
}

impl Cypress {
    /// The place where a transaction's change of a node goes. Locks are the caller's matter.
    pub(super) fn modify(&mut self, id: Guid, transaction: Option<Guid>, change: Change) {
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

    pub(super) fn set_attribute(
        &mut self,
        id: Guid,
        transaction: Option<Guid>,
        name: &str,
        value: Option<YsonValue>,
    ) {
        self.modify(id, transaction, Change::Attribute(name.to_owned(), value));
        if matches!(name, "expiration_time" | "expiration_timeout") {
            self.watch_expiration(id);
        }
    }

    /// Forgets a node that hangs nowhere and that no branch keeps alive, with everything below it.
    pub(super) fn forget_if_unreachable(&mut self, id: Guid) {
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
}
