//! `get`, `list`, `exists`.

use ytsaurus_yson::YsonValue;

use super::attributes::{AttributeFilter, not_found};
use super::node::{Content, Node, State};
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::transaction::Opaque;
use super::{Cypress, NodeType, Scope, lock, transaction, value_path};
use crate::error::{YtError, code};
use crate::guid::Guid;
use crate::value::{self, YsonMap};

/// Something that has attributes.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Node(Guid),
    Transaction(Guid),
    Lock(Guid),
}

impl Cypress {
    /// `get`.
    pub fn get(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        filter: &AttributeFilter,
    ) -> Result<YsonValue, YtError> {
        let target = self.resolve(path, scope, LastLink::Follow)?;
        let outer = |error: YtError| YtError::resolving(path.text(), error);
        match &path.tail {
            Tail::Node => self.get_value(path, &target, scope, filter),
            Tail::Children | Tail::AllCustomAttributes => {
                Err(YtError::generic(format!("\"Get\" method does not support \"*\" in path {path}")))
            }
            Tail::Attributes => {
                let owner = self.owner_of(&target).map_err(outer)?;
                Ok(value::plain(ytsaurus_yson::YsonNode::Map(self.attributes_of(owner, scope, filter)?)))
            }
            Tail::Attribute { name, inside } => {
                let owner = self.owner_of(&target).map_err(outer)?;
                let attribute =
                    self.attribute_of(owner, scope, name)?.ok_or_else(|| outer(not_found(name)))?;
                value_path::get(&attribute, inside).cloned().map_err(outer)
            }
        }
    }

    fn get_value(
        &mut self,
        path: &YPath,
        target: &Target,
        scope: Scope<'_>,
        filter: &AttributeFilter,
    ) -> Result<YsonValue, YtError> {
        match target {
            Target::Node(id) => {
                self.touch(*id);
                self.tree(*id, scope, filter)
            }
            Target::Inside { node, path: inside } => {
                self.touch(*node);
                let state = self.state(self.existing(*node)?, scope.transaction);
                let Content::Value(content) = &state.content else { return Ok(value::entity()) };
                value_path::get(content, inside)
                    .cloned()
                    .map_err(|error| YtError::resolving(path.text(), error))
            }
            Target::Transaction(_) | Target::Lock(_) => {
                let owner = self.owner_of(target)?;
                Ok(value::with_attributes(value::entity(), self.attributes_of(owner, scope, filter)?))
            }
            Target::Missing { .. } => Err(YtError::resolving(path.text(), self.not_a_node(target))),
        }
    }

    /// A node with everything below it.
    fn tree(&self, id: Guid, scope: Scope<'_>, filter: &AttributeFilter) -> Result<YsonValue, YtError> {
        let node = self.existing(id)?;
        let state = self.state(node, scope.transaction);
        let attributes = self.filtered_attributes(node, &state, scope, filter);
        let body = match &state.content {
            Content::Map(children) => {
                let mut entries = YsonMap::new();
                for (key, child) in children {
                    entries.insert(key.clone().into_bytes(), self.child_tree(*child, scope, filter)?);
                }
                value::plain(ytsaurus_yson::YsonNode::Map(entries))
            }
            Content::Virtual(map) => {
                value::map(self.virtual_keys(*map).into_iter().map(|key| (key, value::entity())))
            }
            Content::Value(content) => content.clone(),
            Content::Link { .. } | Content::File(_) | Content::Table(_) => value::entity(),
        };
        Ok(attach(body, attributes))
    }

    fn child_tree(&self, id: Guid, scope: Scope<'_>, filter: &AttributeFilter) -> Result<YsonValue, YtError> {
        let node = self.existing(id)?;
        let opaque = self.attribute(node, &node.trunk, scope, "opaque").as_ref().and_then(value::as_bool);
        // A document shows its value only when it is asked for itself.
        let closed =
            node.node_type == NodeType::Document || matches!(node.trunk.content, Content::Virtual(_));
        if opaque != Some(true) && !closed {
            return self.tree(id, scope, filter);
        }
        let state = self.state(node, scope.transaction);
        Ok(value::with_attributes(value::entity(), self.filtered_attributes(node, &state, scope, filter)))
    }

    /// `list`.
    pub fn list(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        filter: &AttributeFilter,
        max_size: Option<usize>,
    ) -> Result<YsonValue, YtError> {
        let target = self.resolve(path, scope, LastLink::Follow)?;
        let outer = |error: YtError| YtError::resolving(path.text(), error);
        let mut items = match (&path.tail, &target) {
            (Tail::Node, Target::Node(id)) => {
                self.touch(*id);
                self.child_names(*id, scope, filter)?
            }
            (Tail::Node, Target::Inside { node, path: inside }) => {
                let state = self.state(self.existing(*node)?, scope.transaction);
                let Content::Value(content) = &state.content else { return Err(no_list()) };
                names(value_path::get(content, inside).map_err(outer)?)?
            }
            (Tail::Node, _) => return Err(outer(self.not_a_node(&target))),
            (Tail::Attributes, _) => {
                let owner = self.owner_of(&target).map_err(outer)?;
                self.attribute_names_of(owner, scope)?.into_iter().map(value::string).collect()
            }
            (Tail::Attribute { name, inside }, _) => {
                let owner = self.owner_of(&target).map_err(outer)?;
                let attribute =
                    self.attribute_of(owner, scope, name)?.ok_or_else(|| outer(not_found(name)))?;
                names(value_path::get(&attribute, inside).map_err(outer)?)?
            }
            (Tail::Children | Tail::AllCustomAttributes, _) => {
                return Err(YtError::generic(format!(
                    "\"List\" method does not support \"*\" in path {path}"
                )));
            }
        };
        let incomplete = max_size.is_some_and(|max_size| items.len() > max_size);
        items.truncate(max_size.unwrap_or(usize::MAX));
        let mut attributes = YsonMap::new();
        if incomplete {
            attributes.insert(b"incomplete".to_vec(), value::boolean(true));
        }
        Ok(value::with_attributes(value::list(items), attributes))
    }

    fn child_names(
        &self,
        id: Guid,
        scope: Scope<'_>,
        filter: &AttributeFilter,
    ) -> Result<Vec<YsonValue>, YtError> {
        let node = self.existing(id)?;
        match self.state(node, scope.transaction).content {
            Content::Map(children) => children
                .into_iter()
                .map(|(key, child)| {
                    let child = self.existing(child)?;
                    let state = self.state(child, scope.transaction);
                    let attributes = self.filtered_attributes(child, &state, scope, filter);
                    Ok(value::with_attributes(value::string(key), attributes))
                })
                .collect(),
            Content::Virtual(map) => self
                .virtual_keys(map)
                .into_iter()
                .map(|key| {
                    let object = key.parse().map_or(Target::Node(id), |id| {
                        if self.locks.contains_key(&id) { Target::Lock(id) } else { Target::Transaction(id) }
                    });
                    let attributes = match filter {
                        AttributeFilter::None => YsonMap::new(),
                        AttributeFilter::Named(_) => {
                            self.attributes_of(self.owner_of(&object)?, scope, filter)?
                        }
                    };
                    Ok(value::with_attributes(value::string(key), attributes))
                })
                .collect(),
            Content::Value(content) => names(&content),
            _ => Err(no_list()),
        }
    }

    /// `exists`: what cannot be reached does not exist.
    pub fn exists(&self, path: &YPath, scope: Scope<'_>) -> Result<bool, YtError> {
        let target = match self.resolve(path, scope, LastLink::Follow) {
            Ok(target) => target,
            Err(error) if error.contains(code::NO_SUCH_TRANSACTION) => return Err(error),
            Err(_) => return Ok(false),
        };
        let owner = self.owner_of(&target);
        Ok(match (&path.tail, &target) {
            (Tail::Node, Target::Inside { node, path: inside }) => {
                let state = self.state(self.existing(*node)?, scope.transaction);
                matches!(&state.content, Content::Value(content) if value_path::get(content, inside).is_ok())
            }
            (Tail::Node, Target::Missing { .. }) => false,
            (Tail::Node, _) => true,
            (Tail::Children, _) => return Err(YtError::generic("\"Exists\" method does not support \"*\"")),
            (Tail::Attributes | Tail::AllCustomAttributes, _) => owner.is_ok(),
            (Tail::Attribute { name, inside }, _) => match owner {
                Err(_) => false,
                Ok(owner) => self
                    .attribute_of(owner, scope, name)?
                    .is_some_and(|attribute| value_path::get(&attribute, inside).is_ok()),
            },
        })
    }

    fn touch(&mut self, id: Guid) {
        let now = self.now.wall_us;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.access_time = now;
            node.access_counter += 1;
        }
    }

    // === attributes of any object ===

    fn owner_of(&self, target: &Target) -> Result<Owner, YtError> {
        match target {
            Target::Node(id) => Ok(Owner::Node(*id)),
            Target::Transaction(id) => Ok(Owner::Transaction(*id)),
            Target::Lock(id) => Ok(Owner::Lock(*id)),
            Target::Missing { .. } => Err(self.not_a_node(target)),
            Target::Inside { .. } => {
                Err(crate::formats::unsupported("attributes of a part of a document's value"))
            }
        }
    }

    fn node_and_state(&self, id: Guid, scope: Scope<'_>) -> Result<(&Node, State), YtError> {
        let node = self.existing(id)?;
        Ok((node, self.state(node, scope.transaction)))
    }

    fn attribute_of(&self, owner: Owner, scope: Scope<'_>, name: &str) -> Result<Option<YsonValue>, YtError> {
        Ok(match owner {
            Owner::Node(id) => {
                let (node, state) = self.node_and_state(id, scope)?;
                self.attribute(node, &state, scope, name)
            }
            Owner::Transaction(id) => self.transaction_attribute(self.transaction(id)?, name),
            Owner::Lock(id) => self.lock_attribute(id, name),
        })
    }

    fn attributes_of(
        &self,
        owner: Owner,
        scope: Scope<'_>,
        filter: &AttributeFilter,
    ) -> Result<YsonMap, YtError> {
        if let AttributeFilter::Named(names) = filter {
            let mut attributes = YsonMap::new();
            for name in names {
                if let Some(value) = self.attribute_of(owner, scope, name)? {
                    attributes.insert(name.clone().into_bytes(), value);
                }
            }
            return Ok(attributes);
        }
        if let Owner::Node(id) = owner {
            let (node, state) = self.node_and_state(id, scope)?;
            return Ok(self.all_attributes(node, &state, scope));
        }
        let mut attributes = YsonMap::new();
        for name in self.attribute_names_of(owner, scope)? {
            let opaque = transaction::BUILTIN_ATTRIBUTES.contains(&(name.as_str(), Opaque::Yes));
            let value = self.attribute_of(owner, scope, &name)?.filter(|_| !opaque);
            attributes.insert(name.into_bytes(), value.unwrap_or_else(value::entity));
        }
        Ok(attributes)
    }

    fn attribute_names_of(&self, owner: Owner, scope: Scope<'_>) -> Result<Vec<String>, YtError> {
        match owner {
            Owner::Node(id) => {
                let (node, state) = self.node_and_state(id, scope)?;
                Ok(self.attribute_names(node, &state, scope))
            }
            Owner::Transaction(id) => {
                let transaction = self.transaction(id)?;
                let builtin = transaction::BUILTIN_ATTRIBUTES.iter().map(|(name, _)| (*name).to_owned());
                let builtin: Vec<String> =
                    builtin.filter(|name| self.transaction_attribute(transaction, name).is_some()).collect();
                let custom = transaction.attributes.keys().filter(|name| !builtin.contains(name)).cloned();
                Ok(custom.chain(builtin.iter().cloned()).collect())
            }
            Owner::Lock(id) => {
                let names = lock::BUILTIN_ATTRIBUTES.iter().map(|name| (*name).to_owned());
                Ok(names.filter(|name| self.lock_attribute(id, name).is_some()).collect())
            }
        }
    }
}

/// Puts attributes on a value that may have its own (a document's).
fn attach(mut body: YsonValue, attributes: YsonMap) -> YsonValue {
    let mut all = body.attributes.take().unwrap_or_default();
    all.extend(attributes);
    value::with_attributes(body, all)
}

fn no_list() -> YtError {
    YtError::new(code::NO_SUCH_METHOD, "\"List\" method is not supported")
}

fn names(value: &YsonValue) -> Result<Vec<YsonValue>, YtError> {
    value_path::keys(value).map(|keys| keys.into_iter().map(value::string).collect()).ok_or_else(no_list)
}
