//! `remove`.

use super::attributes::{is_removable, not_found};
use super::node::Content;
use super::path::{Tail, YPath};
use super::resolve::{LastLink, Target};
use super::{Change, Cypress, LockKey, LockMode, Scope, value_path};
use crate::error::{YtError, code};
use crate::guid::Guid;
use crate::value::YsonMap;

impl Cypress {
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

    pub(super) fn remove_children(&mut self, id: Guid, scope: Scope<'_>) -> Result<(), YtError> {
        for child in self.children(self.existing(id)?, scope.transaction).into_values() {
            self.remove_subtree(child, scope)?;
        }
        Ok(())
    }

    /// A node and everything below it, parents first.
    pub(super) fn subtree(&self, id: Guid, scope: Scope<'_>) -> Vec<Guid> {
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
}
