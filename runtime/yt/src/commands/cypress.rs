//! Cypress: nodes, attributes, links, locks.

use std::collections::BTreeMap;
use std::time::Duration;

use ytsaurus_yson::YsonValue;

use crate::client::Client;
use crate::error::Error;

/// Type of a node to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeType {
    /// A folder.
    MapNode,
    /// A document: any YSON.
    Document,
    /// A file.
    File,
    /// A table.
    Table,
    /// Any other, by the cluster's name for it.
    Other(String),
}

/// How a node is created.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Create missing parents.
    pub recursive: bool,
    /// An existing node of that type is fine, and left as it is.
    pub ignore_existing: bool,
    /// Replace an existing node.
    pub force: bool,
    /// Attributes of the new node.
    pub attributes: BTreeMap<String, YsonValue>,
}

/// How a node is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Remove what is below it too.
    pub recursive: bool,
    /// A missing node is fine.
    pub force: bool,
}

/// How a node is linked, copied or moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// Create missing parents of the destination.
    pub recursive: bool,
    /// An existing destination is fine, and left as it is.
    pub ignore_existing: bool,
    /// Replace an existing destination.
    pub force: bool,
}

/// What a lock keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Everything.
    Exclusive,
    /// Exclusive locks.
    Shared,
    /// Nothing; the holder sees the node as it is now.
    Snapshot,
}

/// What to do while another transaction holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    /// Fail at once with [`crate::codes::LOCK_CONFLICT`].
    No,
    /// Queue up for at most this long.
    UpTo(Duration),
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Id of the lock.
    pub lock_id: String,
    /// Id of the node.
    pub node_id: String,
}

impl Client {
    /// The value at that path.
    pub async fn get(&self, path: &str) -> Result<YsonValue, Error> {
        let _ = path;
        todo!()
    }

    /// The value at that path, with these attributes on every node.
    pub async fn get_with(&self, path: &str, attributes: &[&str]) -> Result<YsonValue, Error> {
        let _ = (path, attributes);
        todo!()
    }

    /// The names of the children, in no order, with these attributes.
    pub async fn list(&self, path: &str, attributes: &[&str]) -> Result<Vec<YsonValue>, Error> {
        let _ = (path, attributes);
        todo!()
    }

    /// Whether there is something at that path.
    pub async fn exists(&self, path: &str) -> Result<bool, Error> {
        let _ = path;
        todo!()
    }

    /// Sets the value of a node or an attribute.
    pub async fn set(&self, path: &str, value: &YsonValue) -> Result<(), Error> {
        let _ = (path, value);
        todo!()
    }

    /// Creates a node and gives its id.
    pub async fn create(
        &self,
        node_type: NodeType,
        path: &str,
        options: CreateOptions,
    ) -> Result<String, Error> {
        let _ = (node_type, path, options);
        todo!()
    }

    /// Removes a node or an attribute.
    pub async fn remove(&self, path: &str, options: RemoveOptions) -> Result<(), Error> {
        let _ = (path, options);
        todo!()
    }

    /// Makes `link` a link to `target` and gives the link's id.
    pub async fn link(&self, target: &str, link: &str, options: TransferOptions) -> Result<String, Error> {
        let _ = (target, link, options);
        todo!()
    }

    /// Copies a node and gives the copy's id.
    pub async fn copy(
        &self,
        source: &str,
        destination: &str,
        options: TransferOptions,
    ) -> Result<String, Error> {
        let _ = (source, destination, options);
        todo!()
    }

    /// Moves a node and gives its new id.
    pub async fn move_(
        &self,
        source: &str,
        destination: &str,
        options: TransferOptions,
    ) -> Result<String, Error> {
        let _ = (source, destination, options);
        todo!()
    }

    /// Locks a node inside the client's transaction.
    pub async fn lock(&self, path: &str, mode: LockMode, wait: LockWait) -> Result<Lock, Error> {
        let _ = (path, mode, wait);
        todo!()
    }
}
