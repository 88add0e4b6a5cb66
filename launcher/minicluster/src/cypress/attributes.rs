//! Attributes of nodes. Those that the system computes are made here on demand; those of the system that can be
//! set are stored beside the custom ones, so that transactions and locks treat them alike.

use ytsaurus_yson::{YsonNode, YsonValue};

use super::node::{Branch, Content, Node, NodeType, State};
use super::resolve::{LastLink, Target};
use super::transaction::Opaque;
use super::{Cypress, LockMode, Scope, YPath, time};
use crate::error::YtError;
use crate::guid::Guid;
use crate::value::{self, YsonMap};

/// Which nodes have an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    Map,
    Chunked,
    File,
    Table,
    Link,
}

/// Where an attribute comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made on demand; cannot be set.
    Computed(Opaque),
    /// Can be set, and shows a default otherwise.
    Writable,
    /// Can be set and removed, and is absent otherwise.
    Removable,
}

const PLAIN: Kind = Kind::Computed(Opaque::No);
const OPAQUE: Kind = Kind::Computed(Opaque::Yes);

/// Every attribute that the system knows.
const BUILTIN: [(&str, On, Kind); 66] = [
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

const ACCOUNTS: [&str; 3] = ["sys", "tmp", "intermediate"];

fn builtin(node_type: NodeType, name: &str) -> Option<Kind> {
    BUILTIN.iter().find(|(known, on, _)| *known == name && on.includes(node_type)).map(|(.., kind)| *kind)
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

pub(super) fn not_found(name: &str) -> YtError {
    YtError::resolve(format!("Attribute {name:?} is not found"))
}

/// Whether an attribute belongs to the user.
pub(super) fn is_custom(node_type: NodeType, name: &str) -> bool {
    builtin(node_type, name).is_none()
}

/// Whether an attribute that is stored may be taken away.
pub(super) fn is_removable(node_type: NodeType, name: &str) -> bool {
    matches!(builtin(node_type, name), None | Some(Kind::Removable))
}

/// A moment, as text or in milliseconds.
pub(super) fn parse_time(value: &YsonValue) -> Option<u64> {
    match value.as_str() {
        Some(text) => time::parse(text),
        None => value::as_i64(value)
            .and_then(|milliseconds| u64::try_from(milliseconds).ok())
            .and_then(|milliseconds| milliseconds.checked_mul(1000)),
    }
}

/// How far an entry of an access control list reaches.
const INHERITANCE_MODES: &[&str] =
    &["object_only", "object_and_descendants", "descendants_only", "immediate_descendants_only"];

/// Fails if this attribute may not be set to this value.
pub(super) fn check_settable(node_type: NodeType, name: &str, new: &YsonValue) -> Result<(), YtError> {
    if name.is_empty() {
        return Err(YtError::generic("Attribute key cannot be empty"));
    }
    let wrong = |wanted: &str| {
        YtError::generic(format!("Attribute {name:?} must be {wanted}, got {}", value::type_name(new)))
    };
    match builtin(node_type, name) {
        Some(Kind::Computed(_)) => {
            return Err(YtError::generic(format!("Builtin attribute {name:?} cannot be set")));
        }
        None => match (node_type, name) {
            (NodeType::File, "executable") if value::as_bool(new).is_none() => {
                return Err(wrong("a boolean"));
            }
            (NodeType::File, "file_name") if new.as_str().is_none() => return Err(wrong("a string")),
            _ => return Ok(()),
        },
        Some(Kind::Writable | Kind::Removable) => {}
    }
    match name {
        "acl" => match value::as_list(new) {
            Some(entries) => entries.iter().try_for_each(check_acl_entry),
            None => Err(wrong("a list")),
        },
        "account" => match new.as_str() {
            Some(account) if ACCOUNTS.contains(&account) => Ok(()),
            Some(account) => Err(YtError::new(905, format!("No such account {account:?}"))),
            None => Err(wrong("a string")),
        },
        "owner" | "primary_medium" | "compression_codec" | "erasure_codec" | "optimize_for" | "atomicity"
        | "commit_ordering"
            if new.as_str().is_none() =>
        {
            Err(wrong("a string"))
        }
        "inherit_acl" | "opaque" | "vital" | "enable_skynet_sharing" if value::as_bool(new).is_none() => {
            Err(wrong("a boolean"))
        }
        "replication_factor" if !value::as_i64(new).is_some_and(|factor| (1..=20).contains(&factor)) => {
            Err(wrong("an integer from 1 to 20"))
        }
        "expiration_timeout" if value::as_i64(new).is_none_or(|timeout| timeout < 0) => {
            Err(wrong("a number of milliseconds"))
        }
        "expiration_time" if parse_time(new).is_none() => Err(wrong("a time or a number of milliseconds")),
        _ => Ok(()),
    }
}

/// Fails if this is no entry of an access control list. Entries are data here: kept and shown, not enforced.
fn check_acl_entry(entry: &YsonValue) -> Result<(), YtError> {
    let wrong = |key: &str, wanted: &str| {
        YtError::generic(format!("{key:?} in an entry of an access control list must be {wanted}"))
    };
    let one_of = |key: &str, names: &[&str]| match value::get(entry, key).map(YsonValue::as_str) {
        Some(Some(name)) => names.contains(&name),
        Some(None) => false,
        None => key != "action",
    };
    if !one_of("action", &["allow", "deny"]) {
        return Err(wrong("action", "allow or deny"));
    }
    if !one_of("inheritance_mode", INHERITANCE_MODES) {
        return Err(wrong("inheritance_mode", &INHERITANCE_MODES.join(", ")));
    }
    for key in ["subjects", "permissions"] {
        let names = value::get(entry, key).and_then(value::as_list);
        if names.is_none_or(|names| names.iter().any(|name| name.as_str().is_none())) {
            return Err(wrong(key, "a list of strings"));
        }
    }
    Ok(())
}

/// Which attributes an answer carries.
#[derive(Debug, Clone)]
pub enum AttributeFilter {
    /// None of them.
    None,
    /// Those of these names that the node has.
    Named(Vec<String>),
}

impl Cypress {
    /// An attribute of a node, if the node has it.
    pub(super) fn attribute(
        &self,
        node: &Node,
        state: &State,
        scope: Scope<'_>,
        name: &str,
    ) -> Option<YsonValue> {
        if let Some(stored) = state.attributes.get(name) {
            return Some(stored.clone());
        }
        let kind = builtin(node.node_type, name)?;
        self.common_attribute(node, state, scope, name)
            .or_else(|| self.content_attribute(node, state, scope, name))
            .or_else(|| if kind == Kind::Writable { default_of(node, name) } else { None })
    }

    fn common_attribute(
        &self,
        node: &Node,
        state: &State,
        scope: Scope<'_>,
        name: &str,
    ) -> Option<YsonValue> {
        let stamps = state.stamps;
        match name {
            "id" => Some(value::string(node.id.to_string())),
            "type" => Some(value::string(node.node_type.name())),
            "builtin" => Some(value::boolean(node.owner == "root" && node.parent.is_none())),
            "ref_counter" => Some(value::int64(1)),
            "native_cell_tag" => Some(value::uint64(u64::from(node.id.cell_tag()))),
            "life_stage" => Some(value::string("creation_committed")),
            "user_attribute_keys" => {
                Some(value::list(custom(node, state).map(|(name, _)| value::string(name))))
            }
            "user_attributes" => {
                Some(value::map(custom(node, state).map(|(name, value)| (name.as_str(), value.clone()))))
            }
            "opaque_attribute_keys" => Some(value::list(
                BUILTIN
                    .iter()
                    .filter(|(_, on, kind)| on.includes(node.node_type) && *kind == OPAQUE)
                    .map(|(name, ..)| value::string(name)),
            )),
            "parent_id" => {
                let parent = node.parent.as_ref().map_or(Guid::default(), |(parent, _)| *parent);
                Some(value::string(parent.to_string()))
            }
            "external" => Some(value::boolean(false)),
            "locks" => Some(self.locks_of(node)),
            "lock_count" => Some(value::count(node.locks.len() + node.pending_locks.len())),
            "lock_mode" => Some(value::string(self.lock_mode(node, scope))),
            "path" => Some(value::string(self.path_of(node.id))),
            "key" => node.parent.as_ref().map(|(_, key)| value::string(key)),
            "creation_time" | "estimated_creation_time" => {
                Some(value::string(time::format(node.creation_time)))
            }
            "modification_time" => Some(value::string(time::format(stamps.modification_time))),
            "access_time" => Some(value::string(time::format(node.access_time))),
            "access_counter" => Some(value::int64(i64::try_from(node.access_counter).unwrap_or(i64::MAX))),
            "revision" => Some(value::uint64(stamps.revision())),
            "attribute_revision" => Some(value::uint64(stamps.attribute_revision)),
            "content_revision" => Some(value::uint64(stamps.content_revision)),
            "resource_usage" => Some(usage(&Self::own_usage(state))),
            "recursive_resource_usage" => Some(usage(&self.usage_below(node, scope))),
            "effective_acl" => Some(value::list([])),
            _ => None,
        }
    }

    fn content_attribute(
        &self,
        node: &Node,
        state: &State,
        scope: Scope<'_>,
        name: &str,
    ) -> Option<YsonValue> {
        let size = || i64::try_from(Self::own_usage(state).bytes).unwrap_or(i64::MAX);
        let chunks = || value::count(Self::own_usage(state).chunks);
        match (name, &state.content) {
            ("count", Content::Map(children)) => Some(value::count(children.len())),
            ("count", Content::Virtual(map)) => Some(value::count(self.virtual_keys(*map).len())),
            ("value", Content::Value(content)) => Some(content.clone()),
            ("target_path", Content::Link { target }) => Some(value::string(target)),
            ("broken", Content::Link { target }) => Some(value::boolean(self.is_broken(target, scope))),
            ("md5", Content::File(file)) => file.md5.as_ref().map(|md5| value::string(super::data::hex(md5))),
            ("chunk_count", Content::File(_) | Content::Table(_)) => Some(chunks()),
            ("chunk_ids", Content::File(_) | Content::Table(_)) => Some(value::list([])),
            ("uncompressed_data_size" | "compressed_data_size", Content::File(_) | Content::Table(_)) => {
                Some(value::int64(size()))
            }
            ("compression_ratio", Content::File(_) | Content::Table(_)) => {
                Some(value::double(if size() == 0 { 0.0 } else { 1.0 }))
            }
            ("update_mode", Content::File(_) | Content::Table(_)) => {
                Some(value::string(update_mode(node, scope)))
            }
            ("row_count" | "chunk_row_count", Content::Table(table)) => Some(value::count(table.row_count())),
            ("data_weight", Content::Table(_)) => Some(value::int64(size())),
            ("sorted", Content::Table(table)) => Some(value::boolean(!table.schema.key_columns().is_empty())),
            ("sorted_by", Content::Table(table)) if table.schema.key_columns().is_empty() => None,
            ("sorted_by" | "key_columns", Content::Table(table)) => {
                Some(value::list(table.schema.key_columns().into_iter().map(value::string)))
            }
            ("schema", Content::Table(table)) => Some(table.schema.to_yson()),
            ("schema_mode", Content::Table(table)) => {
                Some(value::string(if table.schema.is_weak() { "weak" } else { "strong" }))
            }
            ("dynamic", Content::Table(_)) => Some(value::boolean(false)),
            ("chunk_format", Content::Table(_)) => {
                Some(value::string("table_unversioned_schemaless_horizontal"))
            }
            _ => None,
        }
    }

    /// `@` as a map: what is opaque is `#`.
    pub(super) fn all_attributes(&self, node: &Node, state: &State, scope: Scope<'_>) -> YsonMap {
        let mut attributes = YsonMap::new();
        for (name, on, kind) in BUILTIN {
            if !on.includes(node.node_type) {
                continue;
            }
            let Some(value) = self.attribute(node, state, scope, name) else { continue };
            attributes.insert(name.into(), if kind == OPAQUE { value::entity() } else { value });
        }
        attributes
            .extend(custom(node, state).map(|(name, value)| (name.clone().into_bytes(), value.clone())));
        attributes
    }

    /// The names of all attributes: custom ones first.
    pub(super) fn attribute_names(&self, node: &Node, state: &State, scope: Scope<'_>) -> Vec<String> {
        let builtin = BUILTIN
            .iter()
            .filter(|(name, on, _)| {
                on.includes(node.node_type) && self.attribute(node, state, scope, name).is_some()
            })
            .map(|(name, ..)| (*name).to_owned());
        custom(node, state).map(|(name, _)| name.clone()).chain(builtin).collect()
    }

    /// The attributes that were asked for and exist.
    pub(super) fn filtered_attributes(
        &self,
        node: &Node,
        state: &State,
        scope: Scope<'_>,
        filter: &AttributeFilter,
    ) -> YsonMap {
        match filter {
            AttributeFilter::None => YsonMap::new(),
            AttributeFilter::Named(names) => names
                .iter()
                .filter_map(|name| {
                    Some((name.clone().into_bytes(), self.attribute(node, state, scope, name)?))
                })
                .collect(),
        }
    }

    fn is_broken(&self, target: &str, scope: Scope<'_>) -> bool {
        let resolved = YPath::parse(target).and_then(|path| self.resolve(&path, scope, LastLink::Follow));
        !matches!(resolved, Ok(Target::Node(_)))
    }

    fn lock_mode(&self, node: &Node, scope: Scope<'_>) -> &'static str {
        let own = node.locks.iter().filter_map(|lock| self.locks.get(lock));
        let strongest =
            own.filter(|lock| Some(lock.transaction) == scope.transaction).map(|lock| lock.mode).max();
        strongest.map_or("none", LockMode::name)
    }

    fn own_usage(state: &State) -> Usage {
        let (bytes, chunks) = match &state.content {
            Content::File(file) => (file.data.length(), file.data.chunk_count()),
            Content::Table(table) => (table.data_weight(), table.chunks.len()),
            _ => (0, 0),
        };
        Usage { nodes: 1, chunks, bytes }
    }

    fn usage_below(&self, node: &Node, scope: Scope<'_>) -> Usage {
        let state = self.state(node, scope.transaction);
        let mut total = Self::own_usage(&state);
        if let Content::Map(children) = &state.content {
            for child in children.values().filter_map(|child| self.nodes.get(child)) {
                let below = self.usage_below(child, scope);
                total.nodes += below.nodes;
                total.chunks += below.chunks;
                total.bytes += below.bytes;
            }
        }
        total
    }
}

struct Usage {
    nodes: usize,
    chunks: usize,
    bytes: u64,
}

fn usage(usage: &Usage) -> YsonValue {
    let bytes = value::int64(i64::try_from(usage.bytes).unwrap_or(i64::MAX));
    value::map([
        ("node_count", value::count(usage.nodes)),
        ("chunk_count", value::count(usage.chunks)),
        ("disk_space", bytes.clone()),
        ("disk_space_per_medium", value::map([("default", bytes)])),
    ])
}

fn custom<'a>(node: &Node, state: &'a State) -> impl Iterator<Item = (&'a String, &'a YsonValue)> {
    let node_type = node.node_type;
    state.attributes.iter().filter(move |(name, _)| is_custom(node_type, name))
}

fn update_mode(node: &Node, scope: Scope<'_>) -> &'static str {
    use super::node::ContentDelta;
    match scope.transaction.and_then(|transaction| node.branches.get(&transaction)) {
        Some(Branch::Delta(delta)) => match delta.content {
            ContentDelta::Unchanged => "none",
            ContentDelta::Replaced(_) => "overwrite",
            ContentDelta::AppendedFile(_) | ContentDelta::AppendedRows(_) => "append",
        },
        _ => "none",
    }
}

/// What a writable attribute shows before it is set.
fn default_of(node: &Node, name: &str) -> Option<YsonValue> {
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
