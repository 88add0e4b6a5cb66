//! Which values an attribute may be given.

use ytsaurus_yson::{YsonNode, YsonValue};

use super::builtin::{Kind, builtin};
use super::parse_time;
use crate::cypress::node::NodeType;
use crate::error::YtError;
use crate::value;

const ACCOUNTS: [&str; 3] = ["sys", "tmp", "intermediate"];

/// How far an entry of an access control list reaches.
const INHERITANCE_MODES: &[&str] =
    &["object_only", "object_and_descendants", "descendants_only", "immediate_descendants_only"];

const DEFAULT_INHERITANCE_MODE: &str = "object_and_descendants";

/// Fails if this attribute may not be set to this value.
pub(in crate::cypress) fn check_settable(
    node_type: NodeType,
    name: &str,
    new: &YsonValue,
) -> Result<(), YtError> {
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

/// An access control list as it is shown: with the fields that an entry may leave out.
pub(super) fn with_all_fields(acl: &YsonValue) -> YsonValue {
    let mut acl = acl.clone();
    if let YsonNode::List(entries) = &mut acl.node {
        for entry in entries {
            if let YsonNode::Map(entry) = &mut entry.node {
                let mode = || value::string(DEFAULT_INHERITANCE_MODE);
                entry.entry(b"inheritance_mode".to_vec()).or_insert_with(mode);
            }
        }
    }
    acl
}
