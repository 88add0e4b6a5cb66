//! `set`, `create`, `remove`, `copy`, `move`, `link`: everything that changes the tree.

use std::collections::BTreeMap;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::attributes::{check_settable, is_removable, not_found};
use super::node::{Content, ContentDelta, NodeType, convert_scalar, type_of_value};
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::table::TableSchema;
use super::{Change, Cypress, LockKey, LockMode, Scope, TableContent, value_path};
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

/// Where a new node goes.
struct Place {
    parent: Guid,
    /// Map nodes to be made on the way.
    between: Vec<String>,
    key: String,
}

impl Cypress {
    // === set ===

    /// `set`.
    pub fn set(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        new: YsonValue,
        recursive: Recursive,
        force: bool,
    ) -> Result<(), YtError> {
        let target = self.resolve(path, scope, LastLink::Follow)?;
        match (&path.tail, target) {
            (Tail::Attribute { name, inside }, target) => {
                self.set_one_attribute(path, &target, scope, name, inside, new)
            }
            (Tail::Attributes, target) => {
                let YsonNode::Map(attributes) = new.node else {
                    return Err(YtError::generic("Attributes can be set to a map only"));
                };
                let id = self.target_node(path, &target)?;
                self.replace_custom_attributes(id, scope, attributes)
            }
            (Tail::Children | Tail::AllCustomAttributes, _) => {
                Err(YtError::generic(format!("\"Set\" method does not support \"*\" in path {path}")))
            }
            (Tail::Node, Target::Node(id)) => self.set_value(id, scope, new, force),
            (Tail::Node, Target::Inside { node, path: inside }) => {
                self.lock_for_change(node, scope, LockMode::Exclusive, LockKey::None)?;
                let Content::Value(mut content) = self.state(self.existing(node)?, scope.transaction).content
                else {
                    return Ok(());
                };
                value_path::set(&mut content, &inside, new)
                    .map_err(|error| YtError::resolving(path.text(), error))?;
                self.replace_content(node, scope, Content::Value(content));
                Ok(())
            }
            (Tail::Node, target @ Target::Missing { .. }) => {
                let place = self.place(path, target, recursive)?;
                self.build(&place, scope, &new).map(drop)
            }
            (Tail::Node, other) => Err(YtError::resolving(path.text(), self.not_a_node(&other))),
        }
    }

    fn target_node(&self, path: &YPath, target: &Target) -> Result<Guid, YtError> {
        match target {
            Target::Node(id) => Ok(*id),
            other => Err(YtError::resolving(path.text(), self.not_a_node(other))),
        }
    }

    fn set_one_attribute(
        &mut self,
        path: &YPath,
        target: &Target,
        scope: Scope<'_>,
        name: &str,
        inside: &[String],
        new: YsonValue,
    ) -> Result<(), YtError> {
        if let Target::Transaction(id) = target {
            if inside.is_empty() {
                return self.set_transaction_attribute(*id, name, Some(new));
            }
            return Err(unsupported("setting a part of a transaction's attribute"));
        }
        let id = self.target_node(path, target)?;
        let node = self.existing(id)?;
        let node_type = node.node_type;
        let state = self.state(node, scope.transaction);
        let outer = |error: YtError| YtError::resolving(path.text(), error);
        let new = if inside.is_empty() {
            new
        } else {
            let mut whole = state.attributes.get(name).cloned().ok_or_else(|| outer(not_found(name)))?;
            value_path::set(&mut whole, inside, new).map_err(outer)?;
            whole
        };
        if name == "value" && matches!(state.content, Content::Value(_)) {
            return self.set_value(id, scope, new, false);
        }
        check_settable(node_type, name, &new)?;
        self.lock_for_change(id, scope, LockMode::Shared, LockKey::Attribute(name.to_owned()))?;
        if scope.transaction.is_some() && matches!(name, "acl" | "inherit_acl" | "owner" | "opaque") {
            return Err(YtError::generic("Operation cannot be performed in transaction"));
        }
        self.set_attribute(id, scope.transaction, name, Some(new));
        Ok(())
    }

    /// `multiset_attributes`.
    pub fn set_attributes(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        attributes: YsonMap,
    ) -> Result<(), YtError> {
        let target = self.resolve(path, scope, LastLink::Follow)?;
        if path.tail != Tail::Attributes {
            return Err(YtError::generic(format!(
                "\"multiset_attributes\" needs a path that ends with \"/@\", got {path}"
            )));
        }
        for (name, new) in attributes {
            let name =
                String::from_utf8(name).map_err(|_| unsupported("attribute names that are not UTF-8"))?;
            self.set_one_attribute(path, &target, scope, &name, &[], new)?;
        }
        Ok(())
    }

    fn replace_custom_attributes(
        &mut self,
        id: Guid,
        scope: Scope<'_>,
        attributes: YsonMap,
    ) -> Result<(), YtError> {
        let node = self.existing(id)?;
        let node_type = node.node_type;
        let mut new = BTreeMap::new();
        for (name, value) in attributes {
            let name =
                String::from_utf8(name).map_err(|_| unsupported("attribute names that are not UTF-8"))?;
            check_settable(node_type, &name, &value)?;
            new.insert(name, Some(value));
        }
        for name in self.state(node, scope.transaction).attributes.into_keys() {
            if is_removable(node_type, &name) {
                new.entry(name).or_insert(None);
            }
        }
        for name in new.keys() {
            self.lock_for_change(id, scope, LockMode::Shared, LockKey::Attribute(name.clone()))?;
        }
        for (name, value) in new {
            self.set_attribute(id, scope.transaction, &name, value);
        }
        Ok(())
    }

    fn set_value(
        &mut self,
        id: Guid,
        scope: Scope<'_>,
        mut new: YsonValue,
        force: bool,
    ) -> Result<(), YtError> {
        let node_type = self.existing(id)?.node_type;
        let path = self.path_of(id);
        let attributes = if node_type == NodeType::Document { None } else { new.attributes.take() };
        match node_type {
            NodeType::MapNode => {
                let YsonNode::Map(entries) = new.node else {
                    return Err(YtError::generic(format!(
                        "Node {path} is a map_node and cannot be set to a value of another type"
                    )));
                };
                if !force {
                    return Err(YtError::generic(
                        "\"set\" command without \"force\" flag is forbidden; use \"create\" instead",
                    ));
                }
                self.remove_children(id, scope)?;
                for (key, child) in entries {
                    let key = String::from_utf8(key).map_err(|_| unsupported("keys that are not UTF-8"))?;
                    self.build(&Place { parent: id, between: Vec::new(), key }, scope, &child)?;
                }
            }
            NodeType::File | NodeType::Table | NodeType::Link => {
                return Err(YtError::new(code::NO_SUCH_METHOD, "\"Set\" method is not supported"));
            }
            NodeType::Document => {
                self.lock_for_change(id, scope, LockMode::Exclusive, LockKey::None)?;
                self.replace_content(id, scope, Content::Value(new));
            }
            scalar => {
                let converted = convert_scalar(scalar, &new).ok_or_else(|| {
                    YtError::generic(format!(
                        "Cannot set node {path} of type \"{}\" to a value of type \"{}\"",
                        scalar.name(),
                        crate::value::type_name(&new)
                    ))
                })?;
                self.lock_for_change(id, scope, LockMode::Exclusive, LockKey::None)?;
                self.replace_content(id, scope, Content::Value(converted));
            }
        }
        match attributes {
            Some(attributes) if !attributes.is_empty() => {
                self.replace_custom_attributes(id, scope, attributes)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn replace_content(&mut self, id: Guid, scope: Scope<'_>, content: Content) {
        self.modify(id, scope.transaction, Change::Content(ContentDelta::Replaced(content)));
    }

    /// Makes nodes of a value.
    fn build(&mut self, place: &Place, scope: Scope<'_>, new: &YsonValue) -> Result<Guid, YtError> {
        check_buildable(new)?;
        let id = self.attach_new_node(
            place,
            scope,
            type_of_value(new).unwrap_or(NodeType::MapNode),
            new.attributes.clone().unwrap_or_default(),
            match &new.node {
                YsonNode::Map(_) => Content::Map(BTreeMap::new()),
                _ => Content::Value(crate::value::plain(new.node.clone())),
            },
        )?;
        if let YsonNode::Map(entries) = &new.node {
            for (key, child) in entries {
                let key =
                    String::from_utf8(key.clone()).map_err(|_| unsupported("keys that are not UTF-8"))?;
                self.build(&Place { parent: id, between: Vec::new(), key }, scope, child)?;
            }
        }
        Ok(id)
    }

    // === create ===

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

    fn take_existing(
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
    fn make_room(
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

    fn place(&self, path: &YPath, target: Target, recursive: Recursive) -> Result<Place, YtError> {
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
    fn attach_new_node(
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
        if stored.contains_key("expiration_time") || stored.contains_key("expiration_timeout") {
            self.expiring.insert(id);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.trunk.attributes = stored;
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
        let id = Guid::random(node_type.code());
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

    // === remove ===

    /// `remove`.
    pub fn remove(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        recursive: bool,
        force: bool,
    ) -> Result<(), YtError> {
        let target = match self.resolve(path, scope, LastLink::Keep) {
            Err(error)
                if force
                    && !error.contains(code::NO_SUCH_TRANSACTION)
                    && error.code == code::RESOLVE_ERROR =>
            {
                return Ok(());
            }
            other => other?,
        };
        let outer = |error: YtError| YtError::resolving(path.text(), error);
        let removed = match (&path.tail, target) {
            (_, Target::Missing { .. }) if force => return Ok(()),
            (_, target @ Target::Missing { .. }) => return Err(outer(self.not_a_node(&target))),
            (Tail::Node, Target::Node(id)) => {
                let has_children = !self.children(self.existing(id)?, scope.transaction).is_empty();
                if has_children && !recursive {
                    return Err(YtError::generic(format!(
                        "Cannot remove non-empty composite node {} when \"recursive\" option is not set",
                        self.path_of(id)
                    )));
                }
                self.remove_subtree(id, scope)
            }
            (Tail::Node, Target::Inside { node, path: inside }) => {
                self.lock_for_change(node, scope, LockMode::Exclusive, LockKey::None)?;
                let Content::Value(mut content) = self.state(self.existing(node)?, scope.transaction).content
                else {
                    return Ok(());
                };
                value_path::remove(&mut content, &inside)
                    .map(|()| self.replace_content(node, scope, Content::Value(content)))
            }
            (Tail::Children, Target::Node(id)) => self.remove_children(id, scope),
            (Tail::Attribute { name, inside }, target) => {
                self.remove_attribute(path, &target, scope, name, inside)
            }
            (Tail::Attributes | Tail::AllCustomAttributes, Target::Node(id)) => {
                self.replace_custom_attributes(id, scope, YsonMap::new())
            }
            (_, Target::Transaction(id)) => return self.abort_transaction(id),
            (_, other) => return Err(outer(self.not_a_node(&other))),
        };
        match removed {
            Err(error) if error.code == code::RESOLVE_ERROR && force => Ok(()),
            Err(error) if error.code == code::RESOLVE_ERROR => Err(outer(error)),
            other => other,
        }
    }

    fn remove_attribute(
        &mut self,
        path: &YPath,
        target: &Target,
        scope: Scope<'_>,
        name: &str,
        inside: &[String],
    ) -> Result<(), YtError> {
        if let Target::Transaction(id) = target {
            return self.set_transaction_attribute(*id, name, None);
        }
        let id = self.target_node(path, target)?;
        let node = self.existing(id)?;
        let node_type = node.node_type;
        let state = self.state(node, scope.transaction);
        if !is_removable(node_type, name) {
            return Err(YtError::generic(format!("Builtin attribute {name:?} cannot be removed")));
        }
        let Some(mut whole) = state.attributes.get(name).cloned() else { return Err(not_found(name)) };
        let new = if inside.is_empty() {
            None
        } else {
            value_path::remove(&mut whole, inside)?;
            Some(whole)
        };
        self.lock_for_change(id, scope, LockMode::Shared, LockKey::Attribute(name.to_owned()))?;
        self.set_attribute(id, scope.transaction, name, new);
        Ok(())
    }

    fn remove_children(&mut self, id: Guid, scope: Scope<'_>) -> Result<(), YtError> {
        for child in self.children(self.existing(id)?, scope.transaction).into_values() {
            self.remove_subtree(child, scope)?;
        }
        Ok(())
    }

    /// A node and everything below it, parents first.
    fn subtree(&self, id: Guid, scope: Scope<'_>) -> Vec<Guid> {
        let mut all = vec![id];
        let mut next = 0;
        while let Some(node) = all.get(next).and_then(|id| self.nodes.get(id)) {
            all.extend(self.children(node, scope.transaction).into_values());
            next += 1;
        }
        all
    }

    pub(super) fn remove_subtree(&mut self, id: Guid, scope: Scope<'_>) -> Result<(), YtError> {
        let Some((parent, key)) = self.existing(id)?.parent.clone() else {
            return Err(YtError::generic("Node / cannot be removed"));
        };
        let is_system = self.nodes.get(&parent).is_some_and(|node| node.owner == "root")
            && self.existing(id)?.owner == "root"
            && matches!(self.path_of(id).as_str(), "//tmp" | "//sys" | "//home")
            || matches!(self.existing(id)?.trunk.content, Content::Virtual(_));
        if is_system {
            return Err(YtError::generic(format!("Node {} cannot be removed", self.path_of(id))));
        }
        let all = self.subtree(id, scope);
        // Check everything before anything is changed, so that a conflict leaves no trace.
        self.check_lock(parent, scope.transaction, LockMode::Shared, &LockKey::Child(key.clone()))?;
        for node in &all {
            self.check_lock(*node, scope.transaction, LockMode::Exclusive, &LockKey::None)?;
        }
        self.lock_for_change(parent, scope, LockMode::Shared, LockKey::Child(key.clone()))?;
        for node in &all {
            self.lock_for_change(*node, scope, LockMode::Exclusive, LockKey::None)?;
        }
        self.modify(parent, scope.transaction, Change::Child(key, None));
        if scope.transaction.is_some() {
            for node in all {
                self.modify(node, scope.transaction, Change::Detach);
            }
        } else {
            self.modify(id, None, Change::Detach);
            self.forget_if_unreachable(id);
        }
        Ok(())
    }

    // === copy, move ===

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

    // === tables ===

    /// `alter_table`.
    pub fn alter_table(&mut self, path: &YPath, scope: Scope<'_>, schema: &YsonValue) -> Result<(), YtError> {
        let id = self.resolve_node(path, scope)?;
        let Content::Table(table) = self.state(self.existing(id)?, scope.transaction).content else {
            return Err(YtError::generic(format!("Node {} is not a table", self.path_of(id))));
        };
        let schema = TableSchema::parse(schema)?;
        if table.row_count() > 0 {
            table.schema.check_alter_to(&schema)?;
        }
        self.lock_for_change(id, scope, LockMode::Exclusive, LockKey::None)?;
        self.replace_content(id, scope, Content::Table(TableContent { schema: schema.into(), ..table }));
        Ok(())
    }
}

/// Fails if no nodes can be made of this value, before any is.
fn check_buildable(new: &YsonValue) -> Result<(), YtError> {
    match &new.node {
        YsonNode::List(_) => Err(unsupported("creating a list_node (deprecated); create a document instead")),
        YsonNode::Entity => Err(YtError::generic("Entity nodes cannot be created inside Cypress")),
        YsonNode::Map(entries) => entries.values().try_for_each(check_buildable),
        _ => Ok(()),
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
