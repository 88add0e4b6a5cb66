//! `create`, and `link`, which is a `create` of a link: how new nodes come into the tree.

use std::collections::BTreeMap;

use ytsaurus_yson::YsonValue;

use super::attributes::check_settable;
use super::node::{Content, NodeType, convert_scalar};
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::table::TableSchema;
use super::{Change, Cypress, LockKey, LockMode, Scope, TableContent};
use crate::error::{YtError, code};
use crate::formats::unsupported;
use crate::guid::Guid;
use crate::value::YsonMap;

/// Nodes below nodes: deeper trees are refused, so that walking one cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Whether missing parents are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursive {
    /// They are an error.
    No,
    /// They become map nodes.
    Yes,
}

/// What happens when there is a node already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// An error, code 501.
    Fail,
    /// It stays and its id is the answer.
    Ignore {
        /// A node of another type stays, too.
        any_type: bool,
        /// The node is locked exclusively.
        lock: bool,
    },
    /// It is removed first.
    Replace,
}

/// What `create` is told.
#[derive(Debug)]
pub struct CreateOptions {
    /// Missing parents.
    pub recursive: Recursive,
    /// A node in the way.
    pub existing: Existing,
    /// The new node's attributes.
    pub attributes: YsonMap,
}

/// Where a new node goes.
pub(super) struct Place {
    pub(super) parent: Guid,
    /// Map nodes to be made on the way.
    pub(super) between: Vec<String>,
    pub(super) key: String,
}

impl Cypress {
    /// `create` of a node, and `link`, which is a `create` of a link.
    pub fn create(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        node_type: NodeType,
        mut options: CreateOptions,
    ) -> Result<Guid, YtError> {
        if path.tail != Tail::Node {
            return Err(YtError::generic(format!(
                "Cannot create a node at {path}: the path must end at a node"
            )));
        }
        let target = self.resolve(path, scope, LastLink::Keep)?;
        if let Target::Node(id) = target
            && let Existing::Ignore { any_type, lock } = options.existing
        {
            return self.take_existing(id, scope, node_type, any_type, lock);
        }
        let content = initial_content(node_type, &mut options.attributes)?;
        let place = self.make_room(path, target, scope, options.recursive, options.existing)?;
        self.attach_new_node(&place, scope, node_type, options.attributes, content)
    }

    pub(super) fn take_existing(
        &mut self,
        id: Guid,
        scope: Scope<'_>,
        node_type: NodeType,
        any_type: bool,
        lock: bool,
    ) -> Result<Guid, YtError> {
        let mut id = id;
        let mut found = self.existing(id)?.node_type;
        if found == NodeType::Link && node_type != NodeType::Link {
            // An existing link stands for its target, as long as it has one.
            let path = YPath::parse(&self.path_of(id))?;
            id = self.resolve_node(&path, scope)?;
            found = self.existing(id)?.node_type;
        }
        if found != node_type && !any_type {
            let (path, found, wanted) = (self.path_of(id), found.name(), node_type.name());
            return Err(YtError::new(
                code::ALREADY_EXISTS,
                format!(
                    "{path} already exists and has type \"{found}\" while node of \"{wanted}\" type is about to be created"
                ),
            ));
        }
        if lock {
            self.lock_for_change(id, scope, LockMode::Exclusive, LockKey::None)?;
        }
        Ok(id)
    }

    /// Finds the place of a new node and clears it, if that is allowed.
    pub(super) fn make_room(
        &mut self,
        path: &YPath,
        target: Target,
        scope: Scope<'_>,
        recursive: Recursive,
        existing: Existing,
    ) -> Result<Place, YtError> {
        let Target::Node(id) = target else { return self.place(path, target, recursive) };
        if existing != Existing::Replace {
            let path = self.path_of(id);
            return Err(YtError::new(code::ALREADY_EXISTS, format!("Node {path} already exists")));
        }
        let Some((parent, key)) = self.existing(id)?.parent.clone() else {
            return Err(YtError::generic("Node / cannot be replaced"));
        };
        self.remove_subtree(id, scope)?;
        Ok(Place { parent, between: Vec::new(), key })
    }

    pub(super) fn place(&self, path: &YPath, target: Target, recursive: Recursive) -> Result<Place, YtError> {
        match target {
            Target::Missing { parent, keys } => {
                if keys.len() > 1 && recursive == Recursive::No {
                    let error = self.not_a_node(&Target::Missing { parent, keys });
                    return Err(YtError::resolving(path.text(), error));
                }
                if matches!(self.existing(parent)?.trunk.content, Content::Virtual(_)) {
                    return Err(YtError::generic(format!("Node {} cannot be changed", self.path_of(parent))));
                }
                let mut between = keys;
                let key = between.pop().unwrap_or_default();
                Ok(Place { parent, between, key })
            }
            other => Err(YtError::resolving(path.text(), self.not_a_node(&other))),
        }
    }

    /// Makes a node and hangs it in. Nobody outside the transaction sees it before the commit.
    pub(super) fn attach_new_node(
        &mut self,
        place: &Place,
        scope: Scope<'_>,
        node_type: NodeType,
        attributes: YsonMap,
        content: Content,
    ) -> Result<Guid, YtError> {
        let mut stored = BTreeMap::new();
        for (name, value) in attributes {
            let name =
                String::from_utf8(name).map_err(|_| unsupported("attribute names that are not UTF-8"))?;
            check_settable(node_type, &name, &value)?;
            stored.insert(name, value);
        }
        let first_key = place.between.first().unwrap_or(&place.key);
        if self.existing(place.parent)?.node_type != NodeType::MapNode {
            return Err(YtError::generic(format!(
                "Node {} cannot have children",
                self.path_of(place.parent)
            )));
        }
        self.lock_for_change(place.parent, scope, LockMode::Shared, LockKey::Child(first_key.clone()))?;
        let mut parent = place.parent;
        for key in &place.between {
            parent = self.hang_in(parent, key, scope, NodeType::MapNode, Content::Map(BTreeMap::new()))?;
        }
        let id = self.hang_in(parent, &place.key, scope, node_type, content)?;
        let expires = stored.contains_key("expiration_time") || stored.contains_key("expiration_timeout");
        if let Some(node) = self.nodes.get_mut(&id) {
            node.trunk.attributes = stored;
        }
        if expires {
            self.watch_expiration(id);
        }
        Ok(id)
    }

    fn hang_in(
        &mut self,
        parent: Guid,
        key: &str,
        scope: Scope<'_>,
        node_type: NodeType,
        content: Content,
    ) -> Result<Guid, YtError> {
        if self.depth_of(parent) >= MAX_DEPTH {
            return Err(YtError::generic(format!("Depth limit of {MAX_DEPTH} nodes is exceeded")));
        }
        let id = self.ids.next(node_type.code());
        let stamps = self.fresh_stamps();
        self.insert_node(id, node_type, Some((parent, key.to_owned())), scope.user, content, stamps);
        if let Some(transaction) = scope.transaction {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.created_in = Some(transaction);
            }
            if let Some(transaction) = self.transactions.get_mut(&transaction) {
                transaction.created.insert(id);
            }
        }
        self.lock_for_change(id, scope, LockMode::Exclusive, LockKey::None)?;
        self.modify(parent, scope.transaction, Change::Child(key.to_owned(), Some(id)));
        Ok(id)
    }

    fn depth_of(&self, id: Guid) -> usize {
        let mut depth = 0;
        let mut current = id;
        while let Some((parent, _)) = self.nodes.get(&current).and_then(|node| node.parent.as_ref()) {
            depth += 1;
            current = *parent;
        }
        depth
    }
}

/// Takes the attributes that make the content of a new node.
fn initial_content(node_type: NodeType, attributes: &mut YsonMap) -> Result<Content, YtError> {
    match node_type {
        NodeType::Link => {
            let target = attributes.remove(b"target_path".as_slice());
            let target = target.as_ref().and_then(YsonValue::as_str).map(str::to_owned);
            let target =
                target.ok_or_else(|| YtError::generic("A link needs the attribute \"target_path\""))?;
            YPath::parse(&target)?;
            Ok(Content::Link { target })
        }
        NodeType::Table => {
            if attributes.remove(b"dynamic".as_slice()).as_ref().and_then(crate::value::as_bool) == Some(true)
            {
                return Err(unsupported("dynamic tables"));
            }
            let schema = attributes.remove(b"schema".as_slice());
            let schema = schema.as_ref().map(TableSchema::parse).transpose()?.unwrap_or_default();
            Ok(Content::Table(TableContent { schema: schema.into(), chunks: Vec::new() }))
        }
        NodeType::Document => match attributes.remove(b"value".as_slice()) {
            Some(value) => Ok(Content::Value(value)),
            None => Ok(Content::initial(node_type)),
        },
        scalar if scalar.is_scalar() => match attributes.remove(b"value".as_slice()) {
            Some(value) => convert_scalar(scalar, &value).map(Content::Value).ok_or_else(|| {
                YtError::generic(format!(
                    "Attribute \"value\" does not fit a node of type \"{}\"",
                    scalar.name()
                ))
            }),
            None => Ok(Content::initial(node_type)),
        },
        other => Ok(Content::initial(other)),
    }
}
