//! Small helpers on [`YsonValue`]: constructors, and reading values out of parameter maps.

use std::collections::BTreeMap;

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::YtError;

/// A map as the YSON crate holds it.
pub type YsonMap = BTreeMap<Vec<u8>, YsonValue>;

/// A value without attributes.
pub fn plain(node: YsonNode) -> YsonValue {
    YsonValue { attributes: None, node }
}

/// `#`.
pub fn entity() -> YsonValue {
    plain(YsonNode::Entity)
}

/// A string.
pub fn string(text: impl AsRef<[u8]>) -> YsonValue {
    plain(YsonNode::String(text.as_ref().to_vec()))
}

/// A signed integer.
pub fn int64(number: i64) -> YsonValue {
    plain(YsonNode::Int64(number))
}

/// An unsigned integer.
pub fn uint64(number: u64) -> YsonValue {
    plain(YsonNode::Uint64(number))
}

/// A length or count as a signed integer, which is how YT shows them.
pub fn count(number: usize) -> YsonValue {
    int64(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A floating point number.
pub fn double(number: f64) -> YsonValue {
    plain(YsonNode::Double(number))
}

/// A boolean.
pub fn boolean(value: bool) -> YsonValue {
    plain(YsonNode::Boolean(value))
}

/// A list.
pub fn list(items: impl IntoIterator<Item = YsonValue>) -> YsonValue {
    plain(YsonNode::List(items.into_iter().collect()))
}

/// A map.
pub fn map<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, YsonValue)>) -> YsonValue {
    plain(YsonNode::Map(entries.into_iter().map(|(k, v)| (k.as_ref().to_vec(), v)).collect()))
}

/// The same value with these attributes (none if the map is empty).
#[must_use]
pub fn with_attributes(mut value: YsonValue, attributes: YsonMap) -> YsonValue {
    value.attributes = if attributes.is_empty() { None } else { Some(attributes) };
    value
}

/// The value under a key of a map.
pub fn get<'a>(value: &'a YsonValue, key: &str) -> Option<&'a YsonValue> {
    match &value.node {
        YsonNode::Map(entries) => entries.get(key.as_bytes()),
        _ => None,
    }
}

/// The entries of a map.
pub fn as_map(value: &YsonValue) -> Option<&YsonMap> {
    match &value.node {
        YsonNode::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The items of a list.
pub fn as_list(value: &YsonValue) -> Option<&[YsonValue]> {
    match &value.node {
        YsonNode::List(items) => Some(items),
        _ => None,
    }
}

/// An integer of either sign that fits.
pub fn as_i64(value: &YsonValue) -> Option<i64> {
    match value.node {
        YsonNode::Int64(number) => Some(number),
        YsonNode::Uint64(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

/// A boolean, also as the text `true` or `false` (a query string has no other).
pub fn as_bool(value: &YsonValue) -> Option<bool> {
    match &value.node {
        YsonNode::Boolean(flag) => Some(*flag),
        YsonNode::String(text) if text == b"true" => Some(true),
        YsonNode::String(text) if text == b"false" => Some(false),
        _ => None,
    }
}

/// The name of a value's type, as error texts spell it.
pub fn type_name(value: &YsonValue) -> &'static str {
    match value.node {
        YsonNode::Entity => "entity",
        YsonNode::Boolean(_) => "boolean",
        YsonNode::Int64(_) => "int64",
        YsonNode::Uint64(_) => "uint64",
        YsonNode::Double(_) => "double",
        YsonNode::String(_) => "string",
        YsonNode::List(_) => "list",
        YsonNode::Map(_) => "map",
    }
}

fn wrong_type(name: &str, wanted: &str, value: &YsonValue) -> YtError {
    YtError::generic(format!(
        "Error reading parameter /{name}: {wanted} is expected, got {}",
        type_name(value)
    ))
}

fn present<'a>(parameters: &'a YsonMap, name: &str) -> Option<&'a YsonValue> {
    parameters.get(name.as_bytes()).filter(|value| value.node != YsonNode::Entity)
}

/// A parameter that must be there.
pub fn required<'a>(parameters: &'a YsonMap, name: &str) -> Result<&'a YsonValue, YtError> {
    present(parameters, name).ok_or_else(|| YtError::generic(format!("Missing required parameter /{name}")))
}

/// A string parameter that must be there.
pub fn required_str<'a>(parameters: &'a YsonMap, name: &str) -> Result<&'a str, YtError> {
    let value = required(parameters, name)?;
    value.as_str().ok_or_else(|| wrong_type(name, "a string", value))
}

/// A string parameter.
pub fn optional_str<'a>(parameters: &'a YsonMap, name: &str) -> Result<Option<&'a str>, YtError> {
    present(parameters, name)
        .map(|value| value.as_str().ok_or_else(|| wrong_type(name, "a string", value)))
        .transpose()
}

/// A boolean parameter with its default.
pub fn flag(parameters: &YsonMap, name: &str, default: bool) -> Result<bool, YtError> {
    match present(parameters, name) {
        None => Ok(default),
        Some(value) => as_bool(value).ok_or_else(|| wrong_type(name, "a boolean", value)),
    }
}

/// An integer parameter.
pub fn optional_i64(parameters: &YsonMap, name: &str) -> Result<Option<i64>, YtError> {
    present(parameters, name)
        .map(|value| as_i64(value).ok_or_else(|| wrong_type(name, "an integer", value)))
        .transpose()
}

/// A map parameter; an absent one is empty.
pub fn optional_map(parameters: &YsonMap, name: &str) -> Result<YsonMap, YtError> {
    match present(parameters, name) {
        None => Ok(YsonMap::new()),
        Some(value) => as_map(value).cloned().ok_or_else(|| wrong_type(name, "a map", value)),
    }
}

/// A parameter that is a list of strings.
pub fn optional_strings(parameters: &YsonMap, name: &str) -> Result<Option<Vec<String>>, YtError> {
    let Some(value) = present(parameters, name) else { return Ok(None) };
    let items = as_list(value).ok_or_else(|| wrong_type(name, "a list of strings", value))?;
    items
        .iter()
        .map(|item| {
            item.as_str().map(str::to_owned).ok_or_else(|| wrong_type(name, "a list of strings", item))
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}
