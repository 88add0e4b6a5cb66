//! Attributes of nodes. Those that the system computes are made here on demand; those of the system that can be
//! set are stored beside the custom ones, so that transactions and locks treat them alike.

mod builtin;
mod settable;

pub(super) use builtin::{is_custom, is_removable};
pub(super) use settable::check_settable;

use ytsaurus_yson::YsonValue;

use builtin::{Kind, OPAQUE, builtin, default_of};

use super::node::{Branch, Content, ContentDelta, Node, State};
use super::resolve::{LastLink, Target};
use super::{Cypress, LockMode, Scope, YPath, time};
use crate::error::YtError;
use crate::guid::Guid;
use crate::value::{self, YsonMap};
pub(super) fn not_found(name: &str) -> YtError {
    YtError::resolve(format!("Attribute {name:?} is not found"))
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
            return Some(if name == "acl" { settable::with_all_fields(stored) } else { stored.clone() });
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
                builtin::on(node.node_type)
                    .filter(|(_, kind)| *kind == OPAQUE)
                    .map(|(name, _)| value::string(name)),
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
        for (name, kind) in builtin::on(node.node_type) {
            let Some(value) = self.attribute(node, state, scope, name) else { continue };
            attributes.insert(name.into(), if kind == OPAQUE { value::entity() } else { value });
        }
        attributes
            .extend(custom(node, state).map(|(name, value)| (name.clone().into_bytes(), value.clone())));
        attributes
    }

    /// The names of all attributes: custom ones first.
    pub(super) fn attribute_names(&self, node: &Node, state: &State, scope: Scope<'_>) -> Vec<String> {
        let builtin = builtin::on(node.node_type)
            .map(|(name, _)| name)
            .filter(|name| self.attribute(node, state, scope, name).is_some());
        let custom = custom(node, state).map(|(name, _)| name.as_str());
        custom.chain(builtin).map(str::to_owned).collect()
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
    match scope.transaction.and_then(|transaction| node.branches.get(&transaction)) {
        Some(Branch::Delta(delta)) => match delta.content {
            ContentDelta::Unchanged => "none",
            ContentDelta::Replaced(_) => "overwrite",
            ContentDelta::AppendedFile(_) | ContentDelta::AppendedRows(_) => "append",
        },
        _ => "none",
    }
}
