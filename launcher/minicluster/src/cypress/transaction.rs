//! Cypress transactions: their life, and what their end does to branches and locks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ytsaurus_yson::YsonValue;

use super::node::{Branch, Delta, NodeType};
use super::{Cypress, Now, Scope, time};
use crate::error::{YtError, code};
use crate::guid::Guid;
use crate::value;

/// The type number of a topmost transaction's id.
const TRANSACTION_TYPE: u16 = 1;
/// The type number of a nested transaction's id.
const NESTED_TRANSACTION_TYPE: u16 = 4;
/// What a transaction gets that names no timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest timeout there is; longer ones are cut, as the cluster does.
const MAX_TIMEOUT: Duration = Duration::from_hours(1);

/// Transactions in transactions.
const MAX_NESTING: usize = 64;

/// What a new transaction is given.
#[derive(Debug, Default)]
pub struct TransactionOptions {
    /// How long it lives after a ping.
    pub timeout: Option<Duration>,
    /// When it ends in any case, in microseconds since 1970.
    pub deadline_us: Option<u64>,
    /// `title` and custom attributes.
    pub attributes: BTreeMap<String, YsonValue>,
    /// Transactions whose end is its end.
    pub prerequisites: Vec<Guid>,
}

/// A living transaction.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) id: Guid,
    pub(super) parent: Option<Guid>,
    pub(super) children: BTreeSet<Guid>,
    pub(super) timeout: Duration,
    pub(super) deadline_us: Option<u64>,
    pub(super) pinged_at: Duration,
    pub(super) last_ping_time: u64,
    pub(super) start_time: u64,
    pub(super) owner: String,
    pub(super) attributes: BTreeMap<String, YsonValue>,
    pub(super) prerequisites: Vec<Guid>,
    pub(super) dependents: BTreeSet<Guid>,
    pub(super) locks: BTreeSet<Guid>,
    pub(super) branched: BTreeSet<Guid>,
    pub(super) created: BTreeSet<Guid>,
    /// `deadline_us` on the monotonic clock.
    pub(super) deadline: Option<Duration>,
}

impl Transaction {
    /// Begins all its times anew, at this moment.
    pub(super) fn resume(&mut self, now: Now) {
        self.pinged_at = now.monotonic;
        self.deadline = self.deadline_us.map(|deadline_us| {
            now.monotonic + Duration::from_micros(deadline_us.saturating_sub(now.wall_us))
        });
    }

    pub(super) fn expires_at(&self) -> Duration {
        let expires_at = self.pinged_at + self.timeout;
        self.deadline.map_or(expires_at, |deadline| deadline.min(expires_at))
    }
}

pub(super) fn no_such_transaction(id: Guid) -> YtError {
    YtError::new(code::NO_SUCH_TRANSACTION, format!("No such transaction {id}"))
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
}

impl Cypress {
    /// Whether this transaction may still be used.
    pub fn is_alive(&self, id: Guid) -> bool {
        self.transactions.contains_key(&id)
    }

    /// The transaction, or code 11000.
    pub(super) fn transaction(&self, id: Guid) -> Result<&Transaction, YtError> {
        if !id.is_of_this_cell() {
            return Err(YtError::generic(format!("Unknown cell tag {}", id.cell_tag())));
        }
        self.transactions.get(&id).ok_or_else(|| no_such_transaction(id))
    }

    /// Fails if the transaction of a request is gone.
    pub fn check_transaction(&self, id: Option<Guid>) -> Result<(), YtError> {
        id.map_or(Ok(()), |id| self.transaction(id).map(drop))
    }

    /// Starts a transaction, nested if the scope has one.
    pub fn start_transaction(
        &mut self,
        scope: Scope<'_>,
        options: TransactionOptions,
    ) -> Result<Guid, YtError> {
        if let Some(parent) = scope.transaction {
            self.transaction(parent)?;
        }
        if self.chain(scope.transaction).len() >= MAX_NESTING {
            return Err(YtError::new(
                11002,
                format!("Nested transaction depth limit of {MAX_NESTING} is reached"),
            ));
        }
        self.check_prerequisites(&options.prerequisites)?;
        for name in options.attributes.keys() {
            if is_builtin_attribute(name) && name != "title" {
                return Err(YtError::generic(format!(
                    "Builtin attribute {name:?} of a transaction cannot be set"
                )));
            }
        }
        let object_type =
            if scope.transaction.is_some() { NESTED_TRANSACTION_TYPE } else { TRANSACTION_TYPE };
        let id = self.ids.next(object_type);
        let deadline = options.deadline_us.map(|deadline_us| {
            self.now.monotonic + Duration::from_micros(deadline_us.saturating_sub(self.now.wall_us))
        });
        let transaction = Transaction {
            id,
            parent: scope.transaction,
            children: BTreeSet::new(),
            timeout: options.timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT),
            deadline_us: options.deadline_us,
            pinged_at: self.now.monotonic,
            last_ping_time: self.now.wall_us,
            start_time: self.now.wall_us,
            owner: scope.user.to_owned(),
            attributes: options.attributes,
            prerequisites: options.prerequisites.clone(),
            dependents: BTreeSet::new(),
            locks: BTreeSet::new(),
            branched: BTreeSet::new(),
            created: BTreeSet::new(),
            deadline,
        };
        self.wake_by(transaction.expires_at());
        self.transactions.insert(id, transaction);
        for other in scope.transaction.iter().chain(&options.prerequisites) {
            if let Some(other_transaction) = self.transactions.get_mut(other) {
                if Some(*other) == scope.transaction {
                    other_transaction.children.insert(id);
                }
                if options.prerequisites.contains(other) {
                    other_transaction.dependents.insert(id);
                }
            }
        }
        Ok(id)
    }

    /// Restarts the clock of a transaction, and of its ancestors if asked to.
    pub fn ping_transaction(&mut self, id: Guid, with_ancestors: bool) -> Result<(), YtError> {
        self.transaction(id)?;
        let levels = if with_ancestors { self.chain(Some(id)) } else { vec![id] };
        for level in levels {
            if let Some(transaction) = self.transactions.get_mut(&level) {
                transaction.pinged_at = self.now.monotonic;
                transaction.last_ping_time = self.now.wall_us;
            }
        }
        Ok(())
    }

    /// Ends a transaction and keeps what it did. Living nested ones are aborted.
    pub fn commit_transaction(&mut self, id: Guid) -> Result<(), YtError> {
        self.transaction(id)?;
        self.end_transaction(id, End::Commit);
        Ok(())
    }

    /// Ends a transaction and undoes what it did. One that is gone is no error.
    pub fn abort_transaction(&mut self, id: Guid) -> Result<(), YtError> {
        match self.transaction(id) {
            Err(error) if error.code != code::NO_SUCH_TRANSACTION => Err(error),
            Err(_) => Ok(()),
            Ok(_) => {
                self.end_transaction(id, End::Abort);
                Ok(())
            }
        }
    }

    /// What was not pinged in time.
    pub(super) fn expired_transactions(&self) -> Vec<Guid> {
        let now = self.now.monotonic;
        self.transactions
            .values()
            .filter(|transaction| transaction.expires_at() <= now)
            .map(|transaction| transaction.id)
            .collect()
    }

    /// Aborts what was not pinged in time.
    pub(super) fn expire_transactions(&mut self, expired: &[Guid]) {
        for id in expired.iter().copied() {
            if self.transactions.contains_key(&id) {
                tracing::info!(transaction = %id, "transaction expired");
                self.end_transaction(id, End::Abort);
            }
        }
    }

    /// Ends a transaction, and aborts those that depended on it and those that depended on them.
    fn end_transaction(&mut self, id: Guid, end: End) {
        let mut dependents = Vec::new();
        self.end_tree(id, end, &mut dependents);
        while let Some(dependent) = dependents.pop() {
            self.end_tree(dependent, End::Abort, &mut dependents);
        }
    }

    fn end_tree(&mut self, id: Guid, end: End, dependents: &mut Vec<Guid>) {
        let nested = self.transactions.get(&id).map(|transaction| transaction.children.clone());
        for child in nested.unwrap_or_default() {
            self.end_tree(child, End::Abort, dependents);
        }
        let Some(transaction) = self.transactions.remove(&id) else { return };
        self.ended.push(id);
        if let Some(parent) = transaction.parent.and_then(|parent| self.transactions.get_mut(&parent)) {
            parent.children.remove(&id);
        }
        for prerequisite in &transaction.prerequisites {
            if let Some(other) = self.transactions.get_mut(prerequisite) {
                other.dependents.remove(&id);
            }
        }
        let mut touched = transaction.branched.clone();
        for node in &transaction.branched {
            self.end_branch(*node, &transaction, end);
        }
        for node in &transaction.created {
            touched.insert(*node);
            self.end_creation(*node, &transaction, end);
        }
        touched.extend(self.end_locks(&transaction, end == End::Commit));
        for node in &touched {
            self.forget_if_unreachable(*node);
        }
        for node in touched {
            self.grant_pending_locks(node);
        }
        dependents.extend(transaction.dependents);
    }

    /// Moves a branch one level up, or drops it.
    fn end_branch(&mut self, id: Guid, transaction: &Transaction, end: End) {
        let Some(Branch::Delta(delta)) = self.take_branch(id, transaction.id) else { return };
        if end == End::Abort {
            return;
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(parent) = transaction.parent {
            let mut replaced = Vec::new();
            match node.branches.entry(parent).or_insert_with(|| Branch::Delta(Delta::default())) {
                Branch::Delta(parent_delta) => {
                    // Children that the parent has created under the same keys: a lock that it holds already lets
                    // it do so, and the nested transaction's are put in their place.
                    replaced.extend(delta.children.iter().filter_map(|(key, new)| {
                        let old = parent_delta.children.get(key).copied().flatten();
                        old.filter(|old| Some(*old) != *new)
                    }));
                    parent_delta.merge(delta);
                }
                // Checked when either of the locks was taken: a frozen node has no changes below.
                Branch::Snapshot(_) => {}
            }
            for child in replaced {
                if let Some(child) = self.nodes.get_mut(&child) {
                    child.parent = None;
                }
            }
            if let Some(parent) = self.transactions.get_mut(&parent) {
                parent.branched.insert(id);
            }
            return;
        }
        let gone: Vec<Guid> = match &node.trunk.content {
            super::node::Content::Map(children) => delta
                .children
                .iter()
                .filter_map(|(key, new)| children.get(key).filter(|old| Some(**old) != *new).copied())
                .collect(),
            _ => Vec::new(),
        };
        node.trunk.apply(&delta);
        if delta.detached {
            node.parent = None;
        }
        if self.expiring.contains(&id) {
            self.watch_expiration(id);
        }
        for child in gone {
            if let Some(child_node) = self.nodes.get_mut(&child)
                && child_node.parent.as_ref().is_some_and(|(parent, _)| *parent == id)
            {
                child_node.parent = None;
            }
            self.forget_if_unreachable(child);
        }
    }

    /// Gives a created node to the parent transaction or to everybody, or forgets it.
    fn end_creation(&mut self, id: Guid, transaction: &Transaction, end: End) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match (end, transaction.parent) {
            (End::Commit, Some(parent)) => {
                node.created_in = Some(parent);
                if let Some(parent) = self.transactions.get_mut(&parent) {
                    parent.created.insert(id);
                }
            }
            (End::Commit, None) => node.created_in = None,
            (End::Abort, _) => {
                node.created_in = None;
                node.parent = None;
                // What hung below it was created in the same transaction (or a nested one) and goes by itself.
                node.trunk.content = super::node::Content::initial(NodeType::Document);
            }
        }
    }

    // === attributes ===

    /// An attribute of a transaction, if it has it.
    pub(super) fn transaction_attribute(&self, transaction: &Transaction, name: &str) -> Option<YsonValue> {
        let ids = |ids: &mut dyn Iterator<Item = Guid>| {
            Some(value::list(ids.map(|id| value::string(id.to_string()))))
        };
        let nodes = |implicit_too: bool| {
            let mut nodes = BTreeSet::new();
            for lock in transaction.locks.iter().filter_map(|lock| self.locks.get(lock)) {
                if implicit_too || !lock.implicit {
                    nodes.insert(lock.node);
                }
            }
            nodes
        };
        match name {
            "id" => Some(value::string(transaction.id.to_string())),
            "type" => Some(value::string(match transaction.parent {
                Some(_) => "nested_transaction",
                None => "transaction",
            })),
            "state" => Some(value::string("active")),
            "timeout" => {
                Some(value::int64(i64::try_from(transaction.timeout.as_millis()).unwrap_or(i64::MAX)))
            }
            "last_ping_time" => Some(value::string(time::format(transaction.last_ping_time))),
            "start_time" => Some(value::string(time::format(transaction.start_time))),
            "deadline" => transaction.deadline_us.map(|deadline_us| value::string(time::format(deadline_us))),
            "owner" => Some(value::string(&transaction.owner)),
            "parent_id" => Some(value::string(transaction.parent.unwrap_or_default().to_string())),
            "depth" => Some(value::count(self.chain(transaction.parent).len())),
            "cypress_transaction" => Some(value::boolean(true)),
            "nested_transaction_ids" => ids(&mut transaction.children.iter().copied()),
            "branched_node_ids" => ids(&mut transaction.branched.iter().copied()),
            "staged_object_ids" | "staged_node_ids" => ids(&mut transaction.created.iter().copied()),
            "locked_node_ids" => ids(&mut nodes(true).into_iter()),
            "lock_ids" => ids(&mut transaction.locks.iter().copied()),
            "prerequisite_transaction_ids" => ids(&mut transaction.prerequisites.iter().copied()),
            "dependent_transaction_ids" => ids(&mut transaction.dependents.iter().copied()),
            _ => transaction.attributes.get(name).cloned(),
        }
    }

    /// Sets an attribute of a transaction: its timeout, its title or a custom one.
    pub(super) fn set_transaction_attribute(
        &mut self,
        id: Guid,
        name: &str,
        new: Option<YsonValue>,
    ) -> Result<(), YtError> {
        self.transaction(id)?;
        let Some(transaction) = self.transactions.get_mut(&id) else { return Err(no_such_transaction(id)) };
        match (name, new) {
            ("timeout", Some(new)) => {
                let timeout_ms = value::as_i64(&new).and_then(|timeout_ms| u64::try_from(timeout_ms).ok());
                let timeout_ms = timeout_ms.ok_or_else(|| {
                    YtError::generic("Transaction timeout must be a number of milliseconds")
                })?;
                transaction.timeout = Duration::from_millis(timeout_ms).min(MAX_TIMEOUT);
                let expires_at = transaction.expires_at();
                self.wake_by(expires_at);
                Ok(())
            }
            (name, _) if is_builtin_attribute(name) && name != "title" => {
                Err(YtError::generic(format!("Builtin attribute {name:?} cannot be set")))
            }
            (name, Some(new)) => {
                transaction.attributes.insert(name.to_owned(), new);
                Ok(())
            }
            (name, None) => match transaction.attributes.remove(name) {
                Some(_) => Ok(()),
                None => Err(super::attributes::not_found(name)),
            },
        }
    }
}

/// Attributes that every transaction has, in the order in which they are listed.
pub(super) const BUILTIN_ATTRIBUTES: [(&str, Opaque); 21] = [
    ("id", Opaque::No),
    ("type", Opaque::No),
    ("state", Opaque::No),
    ("timeout", Opaque::No),
    ("last_ping_time", Opaque::No),
    ("title", Opaque::No),
    ("parent_id", Opaque::No),
    ("start_time", Opaque::No),
    ("deadline", Opaque::No),
    ("depth", Opaque::No),
    ("owner", Opaque::No),
    ("cypress_transaction", Opaque::No),
    ("prerequisite_transaction_ids", Opaque::No),
    ("dependent_transaction_ids", Opaque::No),
    ("nested_transaction_ids", Opaque::Yes),
    ("staged_object_ids", Opaque::Yes),
    ("staged_node_ids", Opaque::Yes),
    ("branched_node_ids", Opaque::Yes),
    ("locked_node_ids", Opaque::Yes),
    ("lock_ids", Opaque::Yes),
    ("resource_usage", Opaque::Yes),
];

/// Whether an attribute is shown only when it is asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opaque {
    Yes,
    No,
}

fn is_builtin_attribute(name: &str) -> bool {
    BUILTIN_ATTRIBUTES.iter().any(|(known, _)| *known == name)
}
