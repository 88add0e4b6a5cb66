//! Walking from a path to what it means, through links and into values.

use super::node::{Content, Node, VirtualMap};
use super::path::{Links, Root, YPath};
use super::{Cypress, Scope};
use crate::error::YtError;
use crate::guid::Guid;

/// More links than this on one way are taken for a circle.
const MAX_LINKS: usize = 256;

/// Where a path ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// At a node.
    Node(Guid),
    /// At a transaction.
    Transaction(Guid),
    /// At a lock.
    Lock(Guid),
    /// Inside the value of a document.
    Inside {
        /// The document.
        node: Guid,
        /// The way inside its value.
        path: Vec<String>,
    },
    /// At a map node that has no such child.
    Missing {
        /// The last map node that exists.
        parent: Guid,
        /// The keys that are missing, at least one.
        keys: Vec<String>,
    },
}

/// Whether a link at the very end of a path stands for its target. `&` says no in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLink {
    Follow,
    Keep,
}

impl Cypress {
    /// Walks a path. What is missing at its end is no error yet.
    pub(super) fn resolve(&self, path: &YPath, scope: Scope<'_>, last: LastLink) -> Result<Target, YtError> {
        let outer = |error: YtError| YtError::resolving(path.text(), error);
        if let Some(transaction) = scope.transaction {
            self.transaction(transaction).map_err(outer)?;
        }
        let mut links = 0;
        self.walk(path, scope, last, &mut links).map_err(outer)
    }

    /// The node at a path, or code 500.
    pub(super) fn resolve_node(&self, path: &YPath, scope: Scope<'_>) -> Result<Guid, YtError> {
        self.resolve_node_keeping(path, scope, LastLink::Follow)
    }

    pub(super) fn resolve_node_keeping(
        &self,
        path: &YPath,
        scope: Scope<'_>,
        last: LastLink,
    ) -> Result<Guid, YtError> {
        match self.resolve(path, scope, last)? {
            Target::Node(id) => Ok(id),
            other => Err(YtError::resolving(path.text(), self.not_a_node(&other))),
        }
    }

    /// Why a path does not end at a node.
    pub(super) fn not_a_node(&self, target: &Target) -> YtError {
        match target {
            Target::Missing { parent, keys } => {
                let key = keys.first().map_or("", String::as_str);
                YtError::resolve(format!("Node {} has no child with key {key:?}", self.path_of(*parent)))
            }
            Target::Inside { node, .. } => YtError::resolve(format!(
                "Node {} is a document, and this is a part of its value",
                self.path_of(*node)
            )),
            Target::Transaction(id) | Target::Lock(id) => {
                YtError::resolve(format!("Object {id} is not a Cypress node"))
            }
            Target::Node(id) => YtError::resolve(format!("Unexpected node {id}")),
        }
    }

    fn walk(
        &self,
        path: &YPath,
        scope: Scope<'_>,
        last: LastLink,
        links: &mut usize,
    ) -> Result<Target, YtError> {
        let mut current = match path.root {
            Root::Cypress => self.root,
            Root::Object(id) => match self.object(id, scope)? {
                Target::Node(id) => id,
                other if path.steps.is_empty() => return Ok(other),
                other => return Err(self.not_a_node(&other)),
            },
        };
        for (index, step) in path.steps.iter().enumerate() {
            // What is before the step is followed if it is a link; it was kept only if the path said `&`.
            let node = self.node(current, scope.transaction)?;
            match Self::kind(node) {
                Kind::Map => {}
                Kind::Virtual(map) => {
                    let target = self.virtual_child(current, map, &step.key);
                    if index + 1 == path.steps.len() {
                        return Ok(target);
                    }
                    return Err(self.not_a_node(&target));
                }
                Kind::Document => {
                    let inside = path.steps[index..].iter().map(|step| step.key.clone()).collect();
                    return Ok(Target::Inside { node: current, path: inside });
                }
                Kind::Leaf => {
                    return Err(YtError::resolve(format!(
                        "Node {} cannot have children",
                        self.path_of(current)
                    )));
                }
            }
            let Some(child) = self.child(node, scope.transaction, &step.key) else {
                let keys = path.steps[index..].iter().map(|step| step.key.clone()).collect();
                return Ok(Target::Missing { parent: current, keys });
            };
            let at_the_end = index + 1 == path.steps.len() && path.tail == super::path::Tail::Node;
            let follow = step.links == Links::Follow && !(at_the_end && last == LastLink::Keep);
            current = if follow { self.follow(child, scope, links)? } else { child };
        }
        Ok(Target::Node(current))
    }

    /// The end of a chain of links.
    fn follow(&self, id: Guid, scope: Scope<'_>, links: &mut usize) -> Result<Guid, YtError> {
        // The target of a link never changes after its creation, so the trunk has it from the start.
        let Content::Link { target } = &self.existing(id)?.trunk.content else { return Ok(id) };
        *links += 1;
        if *links > MAX_LINKS {
            return Err(YtError::resolve(format!("Too many links on the way to {}", self.path_of(id))));
        }
        match self.walk(&YPath::parse(target)?, scope, LastLink::Follow, links)? {
            Target::Node(id) => Ok(id),
            other => {
                let broken = YtError::resolve(format!("Link {} is broken", self.path_of(id)));
                Err(broken.with_inner(self.not_a_node(&other)))
            }
        }
    }

    /// An object by its id.
    pub(super) fn object(&self, id: Guid, scope: Scope<'_>) -> Result<Target, YtError> {
        if !id.is_of_this_cell() {
            return Err(YtError::generic(format!("Unknown cell tag {}", id.cell_tag())));
        }
        if self.transactions.contains_key(&id) {
            return Ok(Target::Transaction(id));
        }
        if self.locks.contains_key(&id) {
            return Ok(Target::Lock(id));
        }
        let node = self.node(id, scope.transaction)?;
        let frozen = self
            .chain(scope.transaction)
            .iter()
            .any(|level| matches!(node.branches.get(level), Some(super::node::Branch::Snapshot(_))));
        if self.is_detached(node, scope.transaction) && !frozen {
            return Err(YtError::resolve(format!("No such object {id}")));
        }
        Ok(Target::Node(id))
    }

    fn virtual_child(&self, parent: Guid, map: VirtualMap, key: &str) -> Target {
        let missing = Target::Missing { parent, keys: vec![key.to_owned()] };
        let Ok(id) = key.parse::<Guid>() else { return missing };
        let found = match map {
            VirtualMap::Transactions => {
                self.transactions.contains_key(&id).then_some(Target::Transaction(id))
            }
            VirtualMap::TopmostTransactions => self
                .transactions
                .get(&id)
                .filter(|transaction| transaction.parent.is_none())
                .map(|_| Target::Transaction(id)),
            VirtualMap::Locks => self.locks.contains_key(&id).then_some(Target::Lock(id)),
        };
        found.unwrap_or(missing)
    }

    /// The keys of a virtual map.
    pub(super) fn virtual_keys(&self, map: VirtualMap) -> Vec<String> {
        match map {
            VirtualMap::Transactions => self.transactions.keys().map(Guid::to_string).collect(),
            VirtualMap::TopmostTransactions => self
                .transactions
                .values()
                .filter(|transaction| transaction.parent.is_none())
                .map(|transaction| transaction.id.to_string())
                .collect(),
            VirtualMap::Locks => self.locks.keys().map(Guid::to_string).collect(),
        }
    }

    fn kind(node: &Node) -> Kind {
        match (&node.trunk.content, node.node_type) {
            (Content::Virtual(map), _) => Kind::Virtual(*map),
            (_, super::NodeType::MapNode) => Kind::Map,
            (_, super::NodeType::Document) => Kind::Document,
            _ => Kind::Leaf,
        }
    }
}

/// What a node means to a path that goes on.
enum Kind {
    Map,
    Document,
    Virtual(VirtualMap),
    Leaf,
}
