//! How a lock is shown: as an object, and in `@locks` of its node.

use ytsaurus_yson::YsonValue;

use super::{Lock, LockKey};
use crate::cypress::node::Node;
use crate::cypress::{Cypress, time};
use crate::guid::Guid;
use crate::value;

impl Cypress {
    /// `@locks` of a node: acquired ones first.
    pub(in crate::cypress) fn locks_of(&self, node: &Node) -> YsonValue {
        let locks = node.locks.iter().chain(&node.pending_locks).filter_map(|lock| self.locks.get(lock));
        value::list(locks.map(|lock| {
            let mut entries: Vec<(&str, YsonValue)> = Vec::new();
            for name in ["id", "state", "transaction_id", "mode", "child_key", "attribute_key"] {
                if let Some(value) = lock_attribute(lock, name) {
                    entries.push((name, value));
                }
            }
            value::map(entries)
        }))
    }

    /// An attribute of a lock object.
    pub(in crate::cypress) fn lock_attribute(&self, id: Guid, name: &str) -> Option<YsonValue> {
        self.locks.get(&id).and_then(|lock| lock_attribute(lock, name))
    }
}

/// Attributes that a lock object may have.
pub(in crate::cypress) const BUILTIN_ATTRIBUTES: [&str; 11] = [
    "id",
    "type",
    "state",
    "transaction_id",
    "node_id",
    "mode",
    "child_key",
    "attribute_key",
    "implicit",
    "creation_time",
    "acquisition_time",
];

fn lock_attribute(lock: &Lock, name: &str) -> Option<YsonValue> {
    let id = |id: Guid| Some(value::string(id.to_string()));
    match name {
        "id" => id(lock.id),
        "type" => Some(value::string("lock")),
        "state" => Some(value::string(if lock.acquisition_time.is_some() { "acquired" } else { "pending" })),
        "transaction_id" => id(lock.transaction),
        "node_id" => id(lock.node),
        "mode" => Some(value::string(lock.mode.name())),
        "child_key" => match &lock.key {
            LockKey::Child(key) => Some(value::string(key)),
            _ => None,
        },
        "attribute_key" => match &lock.key {
            LockKey::Attribute(key) => Some(value::string(key)),
            _ => None,
        },
        "implicit" => Some(value::boolean(lock.implicit)),
        "creation_time" => Some(value::string(time::format(lock.creation_time))),
        "acquisition_time" => lock.acquisition_time.map(|at| value::string(time::format(at))),
        _ => None,
    }
}
