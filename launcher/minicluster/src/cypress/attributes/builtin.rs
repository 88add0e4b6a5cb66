//! Every attribute that the system knows: on which nodes it is, where it comes from, what it shows before it is set.

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::cypress::node::{Node, NodeType};
use crate::cypress::transaction::Opaque;
use crate::value;

/// Which nodes have an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    All,
    Map,
    Chunked,
    File,
    Table,
    Link,
}

/// Where an attribute comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Made on demand; cannot be set.
    Computed(Opaque),
    /// Can be set, and shows a default otherwise.
    Writable,
    /// Can be set and removed, and is absent otherwise.
    Removable,
}

const PLAIN: Kind = Kind::Computed(Opaque::No);
pub(super) const OPAQUE: Kind = Kind::Computed(Opaque::Yes);

/// Every attribute that the system knows.
pub(super) const BUILTIN: [(&str, On, Kind); 66] = [
    ("id", On::All, PLAIN),
    ("type", On::All, PLAIN),
    ("builtin", On::All, PLAIN),
    ("ref_counter", On::All, PLAIN),
    ("native_cell_tag", On::All, PLAIN),
    ("life_stage", On::All, PLAIN),
    ("user_attribute_keys", On::All, PLAIN),
    ("opaque_attribute_keys", On::All, OPAQUE),
    ("user_attributes", On::All, OPAQUE),
    ("parent_id", On::All, PLAIN),
    ("external", On::All, PLAIN),
    ("locks", On::All, OPAQUE),
    ("lock_count", On::All, PLAIN),
    ("lock_mode", On::All, PLAIN),
    ("path", On::All, OPAQUE),
    ("key", On::All, PLAIN),
    ("creation_time", On::All, PLAIN),
    ("modification_time", On::All, PLAIN),
    ("access_time", On::All, PLAIN),
    ("access_counter", On::All, PLAIN),
    ("revision", On::All, PLAIN),
    ("attribute_revision", On::All, PLAIN),
    ("content_revision", On::All, PLAIN),
    ("resource_usage", On::All, PLAIN),
    ("recursive_resource_usage", On::All, OPAQUE),
    ("effective_acl", On::All, OPAQUE),
    ("owner", On::All, Kind::Writable),
    ("acl", On::All, Kind::Writable),
    ("inherit_acl", On::All, Kind::Writable),
    ("account", On::All, Kind::Writable),
    ("opaque", On::All, Kind::Writable),
    ("annotation", On::All, Kind::Removable),
    ("expiration_time", On::All, Kind::Removable),
    ("expiration_timeout", On::All, Kind::Removable),
    ("count", On::Map, PLAIN),
    ("chunk_count", On::Chunked, PLAIN),
    ("uncompressed_data_size", On::Chunked, PLAIN),
    ("compressed_data_size", On::Chunked, PLAIN),
    ("compression_ratio", On::Chunked, PLAIN),
    ("update_mode", On::Chunked, PLAIN),
    ("chunk_ids", On::Chunked, OPAQUE),
    ("replication_factor", On::Chunked, Kind::Writable),
    ("vital", On::Chunked, Kind::Writable),
    ("primary_medium", On::Chunked, Kind::Writable),
    ("compression_codec", On::Chunked, Kind::Writable),
    ("erasure_codec", On::Chunked, Kind::Writable),
    ("enable_skynet_sharing", On::Chunked, Kind::Writable),
    ("security_tags", On::Chunked, Kind::Writable),
    ("md5", On::File, PLAIN),
    ("row_count", On::Table, PLAIN),
    ("chunk_row_count", On::Table, PLAIN),
    ("sorted", On::Table, PLAIN),
    ("sorted_by", On::Table, PLAIN),
    ("key_columns", On::Table, PLAIN),
    ("schema", On::Table, PLAIN),
    ("schema_mode", On::Table, PLAIN),
    ("dynamic", On::Table, PLAIN),
    ("data_weight", On::Table, PLAIN),
    ("chunk_format", On::Table, PLAIN),
    ("optimize_for", On::Table, Kind::Writable),
    ("atomicity", On::Table, Kind::Writable),
    ("commit_ordering", On::Table, Kind::Writable),
    ("target_path", On::Link, PLAIN),
    ("broken", On::Link, PLAIN),
    // Only scalars and documents have it; `attribute` answers nothing for the others.
    ("value", On::All, OPAQUE),
    ("estimated_creation_time", On::All, OPAQUE),
];

/// Those that nodes of this type may have.
pub(super) fn on(node_type: NodeType) -> impl Iterator<Item = (&'static str, Kind)> {
    BUILTIN.iter().filter(move |(_, on, _)| on.includes(node_type)).map(|(name, _, kind)| (*name, *kind))
}

/// Where this attribute of such a node comes from; nothing if the user made it.
pub(super) fn builtin(node_type: NodeType, name: &str) -> Option<Kind> {
    on(node_type).find(|(known, _)| *known == name).map(|(_, kind)| kind)
}

impl On {
    fn includes(self, node_type: NodeType) -> bool {
        match self {
            On::All => true,
            On::Map => node_type == NodeType::MapNode,
            On::Chunked => node_type.is_chunked(),
            On::File => node_type == NodeType::File,
            On::Table => node_type == NodeType::Table,
            On::Link => node_type == NodeType::Link,
        }
    }
}

/// Whether an attribute belongs to the user.
pub(in crate::cypress) fn is_custom(node_type: NodeType, name: &str) -> bool {
    builtin(node_type, name).is_none()
}

/// Whether an attribute that is stored may be taken away.
pub(in crate::cypress) fn is_removable(node_type: NodeType, name: &str) -> bool {
    matches!(builtin(node_type, name), None | Some(Kind::Removable))
}

/// What a writable attribute shows before it is set.
pub(super) fn default_of(node: &Node, name: &str) -> Option<YsonValue> {
    let node = match name {
        "owner" => return Some(value::string(&node.owner)),
        "acl" | "security_tags" => YsonNode::List(Vec::new()),
        "inherit_acl" | "vital" => YsonNode::Boolean(true),
        "opaque" | "enable_skynet_sharing" => YsonNode::Boolean(false),
        "account" => YsonNode::String(b"tmp".to_vec()),
        "replication_factor" => YsonNode::Int64(1),
        "primary_medium" => YsonNode::String(b"default".to_vec()),
        "compression_codec" | "erasure_codec" => YsonNode::String(b"none".to_vec()),
        "optimize_for" => YsonNode::String(b"lookup".to_vec()),
        "atomicity" => YsonNode::String(b"full".to_vec()),
        "commit_ordering" => YsonNode::String(b"weak".to_vec()),
        _ => return None,
    };
    Some(value::plain(node))
}
