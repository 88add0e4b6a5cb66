//! `copy` and `move`.

use std::collections::BTreeMap;

use super::create::{Existing, Place, Recursive};
use super::node::Content;
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::{Cypress, LockKey, LockMode, Scope};
use crate::error::YtError;
use crate::formats::unsupported;
use crate::guid::Guid;

/// Whether the source stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// It stays.
    Copy,
    /// It goes.
    Move,
}

/// What `copy` and `move` are told.
#[derive(Debug)]
pub struct CopyOptions {
    /// Missing parents.
    pub recursive: Recursive,
    /// A node in the way.
    pub existing: Existing,
    /// Whether the new node keeps the creation time of the old one.
    pub preserve_creation_time: bool,
    /// Whether the new node keeps the time of the last change.
    pub preserve_modification_time: bool,
    /// Whether `@expiration_time` and `@expiration_timeout` are kept.
    pub preserve_expiration: bool,
}

impl Cypress {
    /// `copy` and `move`. The new node has a new id in both cases.
    pub fn copy(
        &mut self,
        source: &YPath,
        destination: &YPath,
        scope: Scope<'_>,
        kind: CopyKind,
        options: &CopyOptions,
    ) -> Result<Guid, YtError> {
        let from = self.resolve_node(source, scope)?;
        if source.tail != Tail::Node || destination.tail != Tail::Node {
            return Err(YtError::generic("Only whole nodes can be copied and moved"));
        }
        let target = self.resolve(destination, scope, LastLink::Keep)?;
        if let (Target::Node(id), Existing::Ignore { any_type, lock }) = (&target, options.existing) {
            let node_type = self.existing(from)?.node_type;
            return self.take_existing(*id, scope, node_type, any_type, lock);
        }
        let below = match &target {
            Target::Node(id) => *id,
            Target::Missing { parent, .. } => *parent,
            other => return Err(YtError::resolving(destination.text(), self.not_a_node(other))),
        };
        if self.subtree(from, scope).contains(&below) {
            return Err(YtError::generic(format!(
                "Cannot copy or move node {} to itself or to its descendant",
                self.path_of(from)
            )));
        }
        if let Target::Node(id) = &target
            && self.subtree(*id, scope).contains(&from)
        {
            return Err(YtError::generic(format!(
                "Cannot copy or move node {} over its own ancestor",
                self.path_of(from)
            )));
        }
        if kind == CopyKind::Move {
            for node in self.subtree(from, scope) {
                self.check_lock(node, scope.transaction, LockMode::Exclusive, &LockKey::None)?;
            }
        }
        let place = self.make_room(destination, target, scope, options.recursive, options.existing)?;
        let id = self.duplicate(from, &place, scope, options)?;
        if kind == CopyKind::Move {
            self.remove_subtree(from, scope)?;
        }
        Ok(id)
    }

    fn duplicate(
        &mut self,
        from: Guid,
        place: &Place,
        scope: Scope<'_>,
        options: &CopyOptions,
    ) -> Result<Guid, YtError> {
        let node = self.existing(from)?;
        let (node_type, creation_time) = (node.node_type, node.creation_time);
        let mut state = self.state(node, scope.transaction);
        if !options.preserve_expiration {
            state.attributes.remove("expiration_time");
            state.attributes.remove("expiration_timeout");
        }
        let (content, children) = match state.content {
            Content::Map(children) => (Content::Map(BTreeMap::new()), children),
            Content::Virtual(_) => return Err(unsupported("copying a virtual node")),
            other => (other, BTreeMap::new()),
        };
        let attributes =
            state.attributes.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        let id = self.attach_new_node(place, scope, node_type, attributes, content)?;
        for (key, child) in children {
            self.duplicate(child, &Place { parent: id, between: Vec::new(), key }, scope, options)?;
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            if options.preserve_creation_time {
                node.creation_time = creation_time;
            }
            if options.preserve_modification_time {
                node.trunk.stamps.modification_time = state.stamps.modification_time;
            }
        }
        Ok(id)
    }
}
