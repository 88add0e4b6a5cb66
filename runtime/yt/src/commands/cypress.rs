//! Cypress: nodes, attributes, links, locks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use ytsaurus_yson::{YsonFormat, YsonNode, YsonValue};

use crate::client::Client;
use crate::error::Error;
use crate::transport::call::{Call, Method, binary_yson};
use crate::value::{ValueExt, boolean, list, map, string};

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

impl NodeType {
    /// The cluster's name for it.
    pub fn name(&self) -> &str {
        match self {
            Self::MapNode => "map_node",
            Self::Document => "document",
            Self::File => "file",
            Self::Table => "table",
            Self::Other(name) => name,
        }
    }
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

impl LockMode {
    fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
            Self::Snapshot => "snapshot",
        }
    }
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

/// First and longest pause between two looks at a lock that is waited for.
const LOCK_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Client {
    /// The value at that path.
    pub async fn get(&self, path: &str) -> Result<YsonValue, Error> {
        self.execute_for(self.path_call(Call::read("get"), path), "value").await
    }

    /// The value at that path, with these attributes on every node.
    pub async fn get_with(&self, path: &str, attributes: &[&str]) -> Result<YsonValue, Error> {
        let call = self.path_call(Call::read("get"), path).with("attributes", strings(attributes));
        self.execute_for(call, "value").await
    }

    /// The names of the children, in no order, with these attributes.
    pub async fn list(&self, path: &str, attributes: &[&str]) -> Result<Vec<YsonValue>, Error> {
        let call = self.path_call(Call::read("list"), path).with("attributes", strings(attributes));
        match self.execute_for(call, "value").await?.node {
            YsonNode::List(names) => Ok(names),
            _ => Err(self.protocol_error("list", "its answer is not a list")),
        }
    }

    /// Whether there is something at that path.
    pub async fn exists(&self, path: &str) -> Result<bool, Error> {
        let answer = self.execute_for(self.path_call(Call::read("exists"), path), "value").await?;
        answer.as_bool().ok_or_else(|| self.protocol_error("exists", "its answer is not a boolean"))
    }

    /// Sets the value of a node or an attribute.
    pub async fn set(&self, path: &str, value: &YsonValue) -> Result<(), Error> {
        let input = ytsaurus_yson::to_vec(value, YsonFormat::Binary)
            .map_err(|error| Error::BadInput { command: "set", reason: error.to_string() })?;
        let mut call = self.path_call(Call::mutate("set"), path).with("input_format", binary_yson());
        call.method = Method::Put;
        call.input = Some(Bytes::from(input));
        self.execute(call).await.map(drop)
    }

    /// Creates a node and gives its id.
    pub async fn create(
        &self,
        node_type: NodeType,
        path: &str,
        options: CreateOptions,
    ) -> Result<String, Error> {
        let mut call = self
            .path_call(Call::mutate("create"), path)
            .with("type", string(node_type.name()))
            .with_flag("recursive", options.recursive)
            .with_flag("ignore_existing", options.ignore_existing)
            .with_flag("force", options.force);
        if !options.attributes.is_empty() {
            call = call.with("attributes", map(options.attributes));
        }
        self.execute_for_string(call, "node_id").await
    }

    /// Removes a node or an attribute.
    pub async fn remove(&self, path: &str, options: RemoveOptions) -> Result<(), Error> {
        let call = self
            .path_call(Call::mutate("remove"), path)
            // The cluster's own default is to remove recursively.
            .with("recursive", boolean(options.recursive))
            .with_flag("force", options.force);
        self.execute(call).await.map(drop)
    }

    /// Makes `link` a link to `target` and gives the link's id.
    pub async fn link(&self, target: &str, link: &str, options: TransferOptions) -> Result<String, Error> {
        self.transfer("link", ("target_path", target), ("link_path", link), options).await
    }

    /// Copies a node and gives the copy's id.
    pub async fn copy(
        &self,
        source: &str,
        destination: &str,
        options: TransferOptions,
    ) -> Result<String, Error> {
        self.transfer("copy", ("source_path", source), ("destination_path", destination), options).await
    }

    /// Moves a node and gives its new id. `ignore_existing` is refused by the cluster.
    pub async fn move_(
        &self,
        source: &str,
        destination: &str,
        options: TransferOptions,
    ) -> Result<String, Error> {
        self.transfer("move", ("source_path", source), ("destination_path", destination), options).await
    }

    async fn transfer(
        &self,
        command: &'static str,
        from: (&str, &str),
        to: (&str, &str),
        options: TransferOptions,
    ) -> Result<String, Error> {
        let call = Call::mutate(command)
            .scoped(self.scope())
            .with(from.0, string(from.1))
            .with(to.0, string(to.1))
            .with_flag("recursive", options.recursive)
            .with_flag("ignore_existing", options.ignore_existing)
            .with_flag("force", options.force);
        self.execute_for_string(call, "node_id").await
    }

    /// Locks a node inside the client's transaction.
    ///
    /// Dropping the future while it waits leaves the lock queued until the transaction ends.
    pub async fn lock(&self, path: &str, mode: LockMode, wait: LockWait) -> Result<Lock, Error> {
        let call = self
            .path_call(Call::mutate("lock"), path)
            .with("mode", string(mode.name()))
            .with_flag("waitable", wait != LockWait::No);
        let answer = self.execute(call).await?;
        let field = |name| {
            let text = answer.get(name).and_then(YsonValue::as_str).map(str::to_owned);
            text.ok_or_else(|| self.protocol_error("lock", &format!("its answer has no `{name}`")))
        };
        let lock = Lock { lock_id: field("lock_id")?, node_id: field("node_id")? };
        if let LockWait::UpTo(limit) = wait {
            self.wait_for_lock(path, &lock, limit).await?;
        }
        Ok(lock)
    }

    async fn wait_for_lock(&self, path: &str, lock: &Lock, limit: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let state_path = format!("#{}/@state", lock.lock_id);
        let (mut pause, longest) = LOCK_PAUSES;
        loop {
            if self.get(&state_path).await?.as_str() == Some("acquired") {
                return Ok(());
            }
            let rest = limit.saturating_sub(began.elapsed());
            if rest.is_zero() {
                break;
            }
            sleep(pause.min(rest)).await;
            pause = (pause * 2).min(longest);
        }
        // Leave the queue; if that fails, the end of the transaction will do.
        let _ = self.execute(self.path_call(Call::mutate("unlock"), path)).await;
        Err(Error::LockTimedOut { path: path.to_owned(), waited: began.elapsed() })
    }

    fn path_call(&self, call: Call, path: &str) -> Call {
        call.scoped(self.scope()).with("path", string(path))
    }
}

fn strings(texts: &[&str]) -> YsonValue {
    list(texts.iter().map(string))
}
