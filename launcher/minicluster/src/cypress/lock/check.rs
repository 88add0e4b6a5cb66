//! Which locks collide, and the words in which that is told.

use ytsaurus_yson::YsonValue;

use super::{LockKey, LockMode, LockRequest};
use crate::cypress::{Cypress, time};
use crate::error::{YtError, code};
use crate::guid::Guid;
use crate::value;

impl Cypress {
    /// Whether this transaction itself holds this lock or a stronger one.
    pub(super) fn holds(&self, node: Guid, transaction: Guid, mode: LockMode, key: &LockKey) -> bool {
        let Some(node) = self.nodes.get(&node) else { return false };
        node.locks.iter().filter_map(|lock| self.locks.get(lock)).any(|lock| {
            lock.transaction == transaction
                && match (lock.mode, mode) {
                    (LockMode::Snapshot, LockMode::Snapshot)
                    | (LockMode::Exclusive, LockMode::Exclusive | LockMode::Shared) => true,
                    (LockMode::Shared, LockMode::Shared) => lock.key == *key,
                    _ => false,
                }
        })
    }

    /// Whether this lock may be taken now.
    pub(in crate::cypress) fn check_lock(
        &self,
        id: Guid,
        transaction: Option<Guid>,
        mode: LockMode,
        key: &LockKey,
    ) -> Result<(), YtError> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let ancestors = self.chain(transaction);
        for lock in node.locks.iter().filter_map(|lock| self.locks.get(lock)) {
            let holder = lock.transaction;
            let (what, taken) = (self.describe(id, mode, key), lock.mode.name());
            if transaction == Some(holder) {
                if (mode == LockMode::Snapshot) != (lock.mode == LockMode::Snapshot) {
                    return Err(YtError::new(
                        code::SAME_TRANSACTION_LOCK_CONFLICT,
                        format!(
                            "Cannot take {what} since \"{taken}\" lock is already taken by the same transaction"
                        ),
                    ));
                }
                continue;
            }
            if ancestors.contains(&holder) {
                if lock.mode == LockMode::Snapshot {
                    return Err(YtError::new(
                        code::SAME_TRANSACTION_LOCK_CONFLICT,
                        format!(
                            "Cannot take {what} since \"snapshot\" lock is taken by ancestor transaction {holder}"
                        ),
                    ));
                }
                continue;
            }
            let descends =
                transaction.is_some_and(|transaction| self.chain(Some(holder)).contains(&transaction));
            // A frozen node has no place for what a nested transaction would bring at its commit.
            let brings_changes = descends && mode == LockMode::Snapshot && lock.mode != LockMode::Snapshot;
            if !brings_changes && !conflict(lock.mode, &lock.key, mode, key) {
                continue;
            }
            let (number, whose) = if descends {
                (code::DESCENDANT_TRANSACTION_LOCK_CONFLICT, "descendant")
            } else {
                (code::CONCURRENT_TRANSACTION_LOCK_CONFLICT, "concurrent")
            };
            let text =
                format!("Cannot take {what} since \"{taken}\" lock is taken by {whose} transaction {holder}");
            return Err(
                YtError::new(number, text).with_attribute("winner_transaction", self.describe_winner(holder))
            );
        }
        Ok(())
    }

    fn describe(&self, id: Guid, mode: LockMode, key: &LockKey) -> String {
        let (mode, path) = (mode.name(), self.path_of(id));
        match key {
            LockKey::None => format!("\"{mode}\" lock for node {path}"),
            LockKey::Child(child) => format!("\"{mode}\" lock for child {child:?} of node {path}"),
            LockKey::Attribute(name) => format!("\"{mode}\" lock for attribute {name:?} of node {path}"),
        }
    }

    fn describe_winner(&self, holder: Guid) -> YsonValue {
        let Some(transaction) = self.transactions.get(&holder) else { return value::entity() };
        let mut entries = vec![
            ("id", value::string(holder.to_string())),
            ("owner", value::string(&transaction.owner)),
            ("start_time", value::string(time::format(transaction.start_time))),
        ];
        if let Some(title) = transaction.attributes.get("title") {
            entries.push(("title", title.clone()));
        }
        value::map(entries)
    }

    /// First come, first served: nobody overtakes those who wait.
    pub(super) fn check_no_other_waits(&self, id: Guid, request: &LockRequest) -> Result<(), YtError> {
        let waiting = self.nodes.get(&id).map_or(0, |node| node.pending_locks.len());
        if waiting == 0 || request.mode == LockMode::Snapshot {
            return Ok(());
        }
        let what = self.describe(id, request.mode, &request.key);
        Err(YtError::new(
            code::PENDING_LOCK_CONFLICT,
            format!("Cannot take {what} since there are {waiting} pending lock(s) for this node"),
        ))
    }
}

/// Whether a new lock collides with a held one of somebody else.
fn conflict(held: LockMode, held_key: &LockKey, new: LockMode, new_key: &LockKey) -> bool {
    match (held, new) {
        (LockMode::Snapshot, _) | (_, LockMode::Snapshot) => false,
        (LockMode::Exclusive, _) | (_, LockMode::Exclusive) => true,
        (LockMode::Shared, LockMode::Shared) => held_key == new_key && *new_key != LockKey::None,
    }
}
