//! What a Cypress node is made of: its state as everybody sees it (trunk), and beside it what each transaction
//! has changed (branches).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use md5::{Digest, Md5};
use ytsaurus_yson::{YsonNode, YsonValue};

use super::table::{RowChunk, TableSchema};
use crate::guid::{Guid, ObjectTypeCode};
use crate::storage;
use crate::value;

/// The types of nodes that can exist here.
#[allow(missing_docs, reason = "the names are YT's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeType {
    MapNode,
    Document,
    StringNode,
    Int64Node,
    Uint64Node,
    DoubleNode,
    BooleanNode,
    File,
    Table,
    Link,
}

impl NodeType {
    const ALL: [(NodeType, &'static str, ObjectTypeCode); 10] = [
        (NodeType::MapNode, "map_node", 303),
        (NodeType::Document, "document", 421),
        (NodeType::StringNode, "string_node", 300),
        (NodeType::Int64Node, "int64_node", 301),
        (NodeType::Uint64Node, "uint64_node", 306),
        (NodeType::DoubleNode, "double_node", 302),
        (NodeType::BooleanNode, "boolean_node", 305),
        (NodeType::File, "file", 400),
        (NodeType::Table, "table", 401),
        (NodeType::Link, "link", 417),
    ];

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<NodeType> {
        NodeType::ALL.iter().find(|(_, known, _)| *known == name).map(|(node_type, ..)| *node_type)
    }

    /// The type of this number.
    pub(super) fn from_code(code: u32) -> Option<NodeType> {
        NodeType::ALL.iter().find(|(.., known)| u32::from(*known) == code).map(|(node_type, ..)| *node_type)
    }

    fn entry(self) -> (NodeType, &'static str, ObjectTypeCode) {
        // Every variant is in the table, which a test checks; the first entry stands in for the impossible.
        NodeType::ALL.into_iter().find(|(node_type, ..)| *node_type == self).unwrap_or(NodeType::ALL[0])
    }

    /// YT's name of the type.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// The type's number inside an id.
    pub fn code(self) -> ObjectTypeCode {
        self.entry().2
    }

    /// Whether `set` replaces its whole value, which must be of the node's own type.
    pub fn is_scalar(self) -> bool {
        use NodeType::{BooleanNode, DoubleNode, Int64Node, StringNode, Uint64Node};
        matches!(self, StringNode | Int64Node | Uint64Node | DoubleNode | BooleanNode)
    }

    /// Whether it holds written data.
    pub fn is_chunked(self) -> bool {
        matches!(self, NodeType::File | NodeType::Table)
    }
}

/// A node with all its branches.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "`type` is a keyword")]
pub(super) struct Node {
    pub(super) id: Guid,
    pub(super) node_type: NodeType,
    /// The transaction in which it was created and that has not been committed: nobody else sees the node.
    pub(super) created_in: Option<Guid>,
    /// Where it hangs. None: the root, or removed and only kept alive by a branch.
    pub(super) parent: Option<(Guid, String)>,
    pub(super) owner: String,
    pub(super) creation_time: u64,
    pub(super) access_time: u64,
    pub(super) access_counter: u64,
    pub(super) trunk: State,
    pub(super) branches: BTreeMap<Guid, Branch>,
    /// How many frozen states of map nodes have it as a child: they keep it alive.
    pub(super) frozen_in: usize,
    /// Acquired locks, oldest first.
    pub(super) locks: Vec<Guid>,
    /// Locks that wait, in the order in which they will be served.
    pub(super) pending_locks: VecDeque<Guid>,
}

/// What a reader sees of a node.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Custom attributes, and those of the system that can be set.
    pub(super) attributes: BTreeMap<String, YsonValue>,
    pub(super) content: Content,
    pub(super) stamps: Stamps,
}

/// When and in which order something changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamps {
    pub(super) modification_time: u64,
    pub(super) attribute_revision: u64,
    pub(super) content_revision: u64,
}

impl Stamps {
    pub(super) fn revision(self) -> u64 {
        self.attribute_revision.max(self.content_revision)
    }
}

/// The content of a node.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Map(BTreeMap<String, Guid>),
    /// A scalar node or a document.
    Value(YsonValue),
    Link {
        target: String,
    },
    File(FileContent),
    Table(TableContent),
    Virtual(VirtualMap),
}

/// Maps of the system tree that list objects by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VirtualMap {
    Transactions,
    TopmostTransactions,
    Locks,
}

/// Bytes, and their hash if it was asked for.
#[derive(Debug, Clone, Default)]
pub struct FileContent {
    /// The bytes.
    pub data: storage::Content,
    /// The hash over all of them.
    pub md5: Option<FileHash>,
}

/// The hash of a file.
#[derive(Debug, Clone)]
pub enum FileHash {
    /// It can go on with more bytes.
    Growing(Md5),
    /// It was read from disk: only the result is known.
    Known([u8; 16]),
}

impl FileHash {
    /// The result.
    pub fn digest(&self) -> [u8; 16] {
        match self {
            FileHash::Growing(md5) => md5.clone().finalize().into(),
            FileHash::Known(digest) => *digest,
        }
    }
}

impl FileContent {
    /// A hash over all bytes that can go on, if one is kept. May read the whole file.
    pub fn growing_hash(&self) -> std::io::Result<Option<Md5>> {
        match &self.md5 {
            None => Ok(None),
            Some(FileHash::Growing(md5)) => Ok(Some(md5.clone())),
            Some(FileHash::Known(_)) => {
                let mut reader = self.data.reader(0, None);
                let mut md5 = Md5::default();
                let mut buffer = vec![0; 1 << 16];
                loop {
                    let count = std::io::Read::read(&mut reader, &mut buffer)?;
                    if count == 0 {
                        return Ok(Some(md5));
                    }
                    md5.update(&buffer[..count]);
                }
            }
        }
    }
}

/// Rows and their schema.
#[derive(Debug, Clone, Default)]
pub struct TableContent {
    /// The columns.
    pub schema: Arc<TableSchema>,
    /// The rows, in pieces as they were written.
    pub chunks: Vec<Arc<RowChunk>>,
}

impl TableContent {
    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.rows.len()).sum()
    }

    /// How many bytes the values take.
    pub fn data_weight(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.data_weight).sum()
    }
}

/// A transaction's view of a node.
#[derive(Debug, Clone)]
pub(super) enum Branch {
    /// As it was when a snapshot lock was taken.
    Snapshot(State),
    /// What the transaction has changed.
    Delta(Delta),
}

/// Changes that wait for a commit. `None` in a map means removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    pub(super) attributes: BTreeMap<String, Option<YsonValue>>,
    pub(super) children: BTreeMap<String, Option<Guid>>,
    pub(super) content: ContentDelta,
    /// The transaction has removed the node.
    pub(super) detached: bool,
    pub(super) stamps: Stamps,
}

/// What a transaction has done to a content that is no map.
#[derive(Debug, Clone, Default)]
pub(super) enum ContentDelta {
    #[default]
    Unchanged,
    Replaced(Content),
    AppendedFile(FileAppend),
    AppendedRows(Vec<Arc<RowChunk>>),
}

/// Bytes that go behind those of a file. Others may append at the same time, and what is committed first comes first.
#[derive(Debug, Clone)]
pub(super) struct FileAppend {
    /// The bytes, and the hash over the whole file if it was as long as it was when they were written.
    pub(super) more: FileContent,
    /// How long it was then. While somebody may append, nobody can replace: as long as then is the same as then.
    pub(super) behind_bytes: u64,
}

impl FileAppend {
    /// The hash over a file of this length and these bytes; none if they go behind another file than was hashed.
    fn md5_behind(&self, length: u64) -> Option<FileHash> {
        self.more.md5.clone().filter(|_| length == self.behind_bytes)
    }
}

impl ContentDelta {
    /// Puts a later change on top of this one.
    pub(super) fn merge(&mut self, later: ContentDelta) {
        *self = match (std::mem::take(self), later) {
            (earlier, ContentDelta::Unchanged) => earlier,
            (_, ContentDelta::Replaced(content)) => ContentDelta::Replaced(content),
            (ContentDelta::Unchanged, later) => later,
            (ContentDelta::Replaced(mut content), later) => {
                later.apply_to(&mut content);
                ContentDelta::Replaced(content)
            }
            (ContentDelta::AppendedFile(mut earlier), ContentDelta::AppendedFile(later)) => {
                let between = earlier.behind_bytes + earlier.more.data.length();
                earlier.more.md5 = later.md5_behind(between);
                earlier.more.data.append(&later.more.data);
                ContentDelta::AppendedFile(earlier)
            }
            (ContentDelta::AppendedRows(mut earlier), ContentDelta::AppendedRows(later)) => {
                earlier.extend(later);
                ContentDelta::AppendedRows(earlier)
            }
            // A node never changes its type, so files and rows do not meet.
            (earlier, _) => earlier,
        };
    }

    /// Changes a content.
    pub(super) fn apply_to(self, content: &mut Content) {
        match (self, content) {
            (ContentDelta::Replaced(new), content) => *content = new,
            (ContentDelta::AppendedFile(append), Content::File(file)) => {
                file.md5 = append.md5_behind(file.data.length());
                file.data.append(&append.more.data);
            }
            (ContentDelta::AppendedRows(chunks), Content::Table(table)) => table.chunks.extend(chunks),
            _ => {}
        }
    }

    /// The same change again, for a reader.
    pub(super) fn duplicate(&self) -> ContentDelta {
        match self {
            ContentDelta::Unchanged => ContentDelta::Unchanged,
            ContentDelta::Replaced(content) => ContentDelta::Replaced(content.clone()),
            ContentDelta::AppendedFile(append) => ContentDelta::AppendedFile(append.clone()),
            ContentDelta::AppendedRows(chunks) => ContentDelta::AppendedRows(chunks.clone()),
        }
    }
}

impl Delta {
    /// Puts a later delta on top of this one: the commit of a nested transaction.
    pub(super) fn merge(&mut self, later: Delta) {
        self.attributes.extend(later.attributes);
        self.children.extend(later.children);
        self.content.merge(later.content);
        self.detached |= later.detached;
        self.stamps.merge(later.stamps);
    }
}

impl Stamps {
    pub(super) fn merge(&mut self, later: Stamps) {
        self.modification_time = self.modification_time.max(later.modification_time);
        self.attribute_revision = self.attribute_revision.max(later.attribute_revision);
        self.content_revision = self.content_revision.max(later.content_revision);
    }
}

impl State {
    /// Applies a delta, as a reader in its transaction sees it.
    pub(super) fn apply(&mut self, delta: &Delta) {
        for (name, value) in &delta.attributes {
            match value {
                Some(value) => self.attributes.insert(name.clone(), value.clone()),
                None => self.attributes.remove(name),
            };
        }
        if let Content::Map(children) = &mut self.content {
            for (key, child) in &delta.children {
                match child {
                    Some(child) => children.insert(key.clone(), *child),
                    None => children.remove(key),
                };
            }
        }
        delta.content.duplicate().apply_to(&mut self.content);
        self.stamps.merge(delta.stamps);
    }
}

impl Content {
    /// The content of a new node that was given none.
    pub(super) fn initial(node_type: NodeType) -> Content {
        match node_type {
            NodeType::MapNode => Content::Map(BTreeMap::new()),
            NodeType::Document => Content::Value(value::entity()),
            NodeType::StringNode => Content::Value(value::string("")),
            NodeType::Int64Node => Content::Value(value::int64(0)),
            NodeType::Uint64Node => Content::Value(value::uint64(0)),
            NodeType::DoubleNode => Content::Value(value::double(0.0)),
            NodeType::BooleanNode => Content::Value(value::boolean(false)),
            NodeType::File => Content::File(FileContent::default()),
            NodeType::Table => Content::Table(TableContent::default()),
            NodeType::Link => Content::Link { target: String::new() },
        }
    }
}

/// The type of node that `set` makes of a value.
pub(super) fn type_of_value(value: &YsonValue) -> Option<NodeType> {
    match value.node {
        YsonNode::String(_) => Some(NodeType::StringNode),
        YsonNode::Int64(_) => Some(NodeType::Int64Node),
        YsonNode::Uint64(_) => Some(NodeType::Uint64Node),
        YsonNode::Double(_) => Some(NodeType::DoubleNode),
        YsonNode::Boolean(_) => Some(NodeType::BooleanNode),
        YsonNode::Map(_) => Some(NodeType::MapNode),
        YsonNode::List(_) | YsonNode::Entity => None,
    }
}

/// A value converted to what a scalar node of this type holds.
pub(super) fn convert_scalar(node_type: NodeType, value: &YsonValue) -> Option<YsonValue> {
    let node = match (node_type, &value.node) {
        (NodeType::StringNode, YsonNode::String(_))
        | (NodeType::Int64Node, YsonNode::Int64(_))
        | (NodeType::Uint64Node, YsonNode::Uint64(_))
        | (NodeType::DoubleNode, YsonNode::Double(_))
        | (NodeType::BooleanNode, YsonNode::Boolean(_)) => value.node.clone(),
        (NodeType::Int64Node, YsonNode::Uint64(number)) => YsonNode::Int64(i64::try_from(*number).ok()?),
        (NodeType::Uint64Node, YsonNode::Int64(number)) => YsonNode::Uint64(u64::try_from(*number).ok()?),
        _ => return None,
    };
    Some(value::plain(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_one_to_one() {
        for (node_type, name, code) in NodeType::ALL {
            assert_eq!(NodeType::from_name(name), Some(node_type));
            assert_eq!((node_type.name(), node_type.code()), (name, code));
            assert_eq!(NodeType::from_code(code.into()), Some(node_type));
        }
    }

    #[test]
    fn integers_convert_when_they_fit() {
        let convert = |node_type, value| convert_scalar(node_type, &value).map(|value| value.node);
        assert_eq!(convert(NodeType::Int64Node, value::uint64(5)), Some(YsonNode::Int64(5)));
        assert_eq!(convert(NodeType::Int64Node, value::uint64(u64::MAX)), None);
        assert_eq!(convert(NodeType::Uint64Node, value::int64(-1)), None);
        assert_eq!(convert(NodeType::StringNode, value::int64(1)), None);
    }
}
