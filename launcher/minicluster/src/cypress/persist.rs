//! The state of Cypress as bytes: for snapshots, and for comparing two of them.

use std::collections::HashMap;

use super::ids::IdSource;
use super::lock::{Lock, LockKey, LockMode};
use super::node::{
    Branch, Content, ContentDelta, Delta, FileAppend, FileContent, FileHash, Node, NodeType, Stamps, State,
    TableContent, VirtualMap,
};
use super::table::{Column, ColumnType, RowChunk, TableSchema};
use super::transaction::Transaction;
use super::{Cypress, Expired, Now};
use crate::storage::codec::{Item, Malformed, Persist, Reader, Writer, persist_enum, persist_struct};

persist_struct!(IdSource { seed, count });
persist_struct!(Now { wall_us, monotonic });
persist_struct!(Stamps { modification_time, attribute_revision, content_revision });
persist_struct!(Expired { transactions, nodes });
persist_struct!(State { attributes, content, stamps });
persist_struct!(FileContent { data, md5 });
persist_struct!(FileAppend { more, behind_bytes });
persist_struct!(RowChunk { rows, data_weight });
persist_struct!(Column { name, column_type, required, key, type_v3 });
persist_struct!(TableSchema { columns, strict, unique_keys });
persist_struct!(Delta { attributes, children, content, detached, stamps });
persist_struct!(Node {
    id,
    node_type,
    created_in,
    parent,
    owner,
    creation_time,
    access_time,
    access_counter,
    trunk,
    branches,
    frozen_in,
    locks,
    pending_locks,
});
persist_struct!(Lock { id, node, transaction, mode, key, implicit, creation_time, acquisition_time });
persist_struct!(Transaction {
    id,
    parent,
    children,
    timeout,
    deadline_us,
    pinged_at,
    last_ping_time,
    start_time,
    owner,
    attributes,
    prerequisites,
    dependents,
    locks,
    branched,
    created,
    deadline,
});
persist_enum!(LockMode { 0 => Snapshot, 1 => Shared, 2 => Exclusive });
persist_enum!(LockKey { 0 => None, 1 => Child(key), 2 => Attribute(name) });
persist_enum!(VirtualMap { 0 => Transactions, 1 => TopmostTransactions, 2 => Locks });
persist_enum!(Branch { 0 => Snapshot(state), 1 => Delta(delta) });
persist_enum!(ContentDelta {
    0 => Unchanged,
    1 => Replaced(content),
    2 => AppendedFile(append),
    3 => AppendedRows(chunks),
});

impl Item for Column {}

impl Persist for NodeType {
    fn put(&self, writer: &mut Writer) {
        u32::from(self.code()).put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = u32::take(reader)?;
        NodeType::from_code(code).ok_or_else(|| reader.malformed("node type"))
    }
}

impl Persist for ColumnType {
    fn put(&self, writer: &mut Writer) {
        self.old_name().to_owned().put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = String::take(reader)?;
        ColumnType::from_old_name(&name).ok_or_else(|| reader.malformed("column type"))
    }
}

impl Persist for Content {
    fn put(&self, writer: &mut Writer) {
        match self {
            Content::Map(children) => {
                0u8.put(writer);
                children.put(writer);
            }
            Content::Value(value) => {
                1u8.put(writer);
                value.put(writer);
            }
            Content::Link { target } => {
                2u8.put(writer);
                target.put(writer);
            }
            Content::File(file) => {
                3u8.put(writer);
                file.put(writer);
            }
            Content::Table(table) => {
                4u8.put(writer);
                table.put(writer);
            }
            Content::Virtual(map) => (5u8, *map).put(writer),
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match u8::take(reader)? {
            0 => Content::Map(Persist::take(reader)?),
            1 => Content::Value(Persist::take(reader)?),
            2 => Content::Link { target: Persist::take(reader)? },
            3 => Content::File(Persist::take(reader)?),
            4 => Content::Table(Persist::take(reader)?),
            5 => Content::Virtual(Persist::take(reader)?),
            _ => return Err(reader.malformed("content")),
        })
    }
}

impl Persist for FileHash {
    fn put(&self, writer: &mut Writer) {
        self.digest().put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Persist::take(reader).map(FileHash::Known)
    }
}

impl Persist for Vec<std::sync::Arc<RowChunk>> {
    fn put(&self, writer: &mut Writer) {
        self.len().put(writer);
        for chunk in self {
            writer.put_shared(chunk);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = usize::take(reader)?;
        (0..count).map(|_| reader.take_shared()).collect()
    }
}

impl Persist for TableContent {
    fn put(&self, writer: &mut Writer) {
        writer.put_shared(&self.schema);
        self.chunks.put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(TableContent { schema: reader.take_shared()?, chunks: Persist::take(reader)? })
    }
}

#[cfg(test)]
impl Cypress {
    /// Sets everything to zero that a restart may change.
    pub(crate) fn forget_passing_times(&mut self) {
        self.now = Now { wall_us: 0, monotonic: std::time::Duration::ZERO };
        self.last_timestamp = 0;
        for node in self.nodes.values_mut() {
            (node.access_time, node.access_counter) = (0, 0);
        }
        for transaction in self.transactions.values_mut() {
            transaction.last_ping_time = 0;
            transaction.resume(self.now);
        }
    }
}

impl Persist for Cypress {
    fn put(&self, writer: &mut Writer) {
        let Cypress {
            nodes,
            transactions,
            locks,
            root,
            now,
            ids,
            revision,
            last_timestamp,
            expiring,
            // Who was to be told of these is gone after a restart.
            ended: _,
            // Follows from the rest when time goes on.
            wake_at: _,
        } = self;
        (*root, *now).put(writer);
        ids.put(writer);
        (*revision, *last_timestamp).put(writer);
        expiring.put(writer);
        transactions.put(writer);
        locks.put(writer);
        let mut sorted: Vec<&Node> = nodes.values().collect();
        sorted.sort_unstable_by_key(|node| node.id);
        sorted.len().put(writer);
        for node in sorted {
            node.put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (root, now) = Persist::take(reader)?;
        let ids = Persist::take(reader)?;
        let (revision, last_timestamp) = Persist::take(reader)?;
        let expiring = Persist::take(reader)?;
        let transactions = Persist::take(reader)?;
        let locks = Persist::take(reader)?;
        let mut nodes = HashMap::new();
        for _ in 0..usize::take(reader)? {
            let node = Node::take(reader)?;
            nodes.insert(node.id, node);
        }
        Ok(Cypress {
            nodes,
            transactions,
            locks,
            root,
            now,
            ids,
            revision,
            last_timestamp,
            expiring,
            ended: Vec::new(),
            wake_at: None,
        })
    }
}
