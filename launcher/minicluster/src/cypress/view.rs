//! What a transaction sees of the tree: the trunk, with the branches of its ancestors and its own laid over it.

use std::collections::BTreeMap;

use super::node::{Branch, Content, Delta, Node, State};
use super::{Cypress, escape_key};
use crate::error::YtError;
use crate::guid::Guid;

impl Cypress {
    /// A transaction and its ancestors, innermost first.
    pub(super) fn chain(&self, transaction: Option<Guid>) -> Vec<Guid> {
        let mut chain = Vec::new();
        let mut current = transaction;
        while let Some(id) = current {
            chain.push(id);
            current = self.transactions.get(&id).and_then(|transaction| transaction.parent);
        }
        chain
    }

    /// A node that this transaction may see.
    pub(super) fn node(&self, id: Guid, transaction: Option<Guid>) -> Result<&Node, YtError> {
        self.nodes
            .get(&id)
            .filter(|node| node.created_in.is_none_or(|owner| self.chain(transaction).contains(&owner)))
            .ok_or_else(|| YtError::resolve(format!("No such object {id}")))
    }

    /// A node that is known to exist, because this request has just resolved it.
    pub(super) fn existing(&self, id: Guid) -> Result<&Node, YtError> {
        self.nodes.get(&id).ok_or_else(|| YtError::resolve(format!("No such object {id}")))
    }

    /// The whole state of a node as this transaction sees it.
    pub(super) fn state(&self, node: &Node, transaction: Option<Guid>) -> State {
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
    pub(super) fn child(&self, node: &Node, transaction: Option<Guid>, key: &str) -> Option<Guid> {
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
    pub(super) fn children(&self, node: &Node, transaction: Option<Guid>) -> BTreeMap<String, Guid> {
        match self.state(node, transaction).content {
            Content::Map(children) => children,
            _ => BTreeMap::new(),
        }
    }

    /// Whether this transaction has removed the node.
    pub(super) fn is_detached(&self, node: &Node, transaction: Option<Guid>) -> bool {
        node.parent.is_none() && node.id != self.root
            || self
                .chain(transaction)
                .iter()
                .any(|level| matches!(node.branches.get(level), Some(Branch::Delta(delta)) if delta.detached))
    }

    /// The path by which a node can be found: `//a/b`, or `#id` for what hangs nowhere.
    pub(super) fn path_of(&self, id: Guid) -> String {
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
}

impl Node {
    pub(super) fn trunk_child(&self, key: &str) -> Option<Guid> {
        match &self.trunk.content {
            Content::Map(children) => children.get(key).copied(),
            _ => None,
        }
    }
}
