//! `set`, `multiset_attributes`, `alter_table`: changes of what is there, and nodes made of values.

use std::collections::BTreeMap;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::attributes::{check_settable, is_removable, not_found};
use super::create::{Place, Recursive};
use super::node::{Content, ContentDelta, NodeType, convert_scalar, type_of_value};
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::table::TableSchema;
use super::{Change, Cypress, LockKey, LockMode, Scope, TableContent, value_path};
use crate::error::{YtError, code};
use crate::formats::unsupported;
use crate::guid::Guid;
use crate::value::YsonMap;

impl Cypress {
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

    pub(super) fn target_node(&self, path: &YPath, target: &Target) -> Result<Guid, YtError> {
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

    pub(super) fn replace_custom_attributes(
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
                entries.values().try_for_each(check_buildable)?;
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
    pub(super) fn build(
        &mut self,
        place: &Place,
        scope: Scope<'_>,
        new: &YsonValue,
    ) -> Result<Guid, YtError> {
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
