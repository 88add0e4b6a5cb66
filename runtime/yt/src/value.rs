//! Making YSON values and taking them apart.

use serde::Serialize;
use serde::de::DeserializeOwned;
use ytsaurus_yson::{YsonNode, YsonValue};

/// A value cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConvertError(pub(crate) String);

/// An entity: `#`.
pub fn entity() -> YsonValue {
    node(YsonNode::Entity)
}

/// A string.
pub fn string(text: impl AsRef<str>) -> YsonValue {
    bytes(text.as_ref().as_bytes())
}

/// A string of any bytes.
pub fn bytes(bytes: impl Into<Vec<u8>>) -> YsonValue {
    node(YsonNode::String(bytes.into()))
}

/// A signed integer.
pub fn int(value: impl Into<i64>) -> YsonValue {
    node(YsonNode::Int64(value.into()))
}

/// An unsigned integer.
pub fn uint(value: impl Into<u64>) -> YsonValue {
    node(YsonNode::Uint64(value.into()))
}

/// A double.
pub fn double(value: impl Into<f64>) -> YsonValue {
    node(YsonNode::Double(value.into()))
}

/// A boolean.
pub fn boolean(value: bool) -> YsonValue {
    node(YsonNode::Boolean(value))
}

/// A list.
pub fn list(items: impl IntoIterator<Item = YsonValue>) -> YsonValue {
    node(YsonNode::List(items.into_iter().collect()))
}

/// A map: `map([("path", string("//tmp"))])`.
pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, YsonValue)>) -> YsonValue {
    node(YsonNode::Map(
        entries.into_iter().map(|(key, value)| (key.as_ref().as_bytes().to_vec(), value)).collect(),
    ))
}

/// The same value with these attributes: `with_attributes(string("//t"), [("append", boolean(true))])`.
pub fn with_attributes<K: AsRef<str>>(
    mut value: YsonValue,
    attributes: impl IntoIterator<Item = (K, YsonValue)>,
) -> YsonValue {
    let entries = attributes.into_iter().map(|(key, value)| (key.as_ref().as_bytes().to_vec(), value));
    value.attributes.get_or_insert_default().extend(entries);
    value
}

fn node(node: YsonNode) -> YsonValue {
    YsonValue { attributes: None, node }
}

/// Any serializable value as YSON.
pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<YsonValue, ConvertError> {
    let _ = value;
    todo!()
}

/// A YSON value, its attributes dropped, as any deserializable type.
pub fn to_deserialize<T: DeserializeOwned>(value: &YsonValue) -> Result<T, ConvertError> {
    let _ = value;
    todo!()
}

/// JSON as YSON.
pub fn from_json(value: &serde_json::Value) -> YsonValue {
    let _ = value;
    todo!()
}

/// YSON as JSON: attributes are dropped, bytes that are no UTF-8 and numbers that are none are refused.
pub fn to_json(value: &YsonValue) -> Result<serde_json::Value, ConvertError> {
    let _ = value;
    todo!()
}

/// What `YsonValue` lacks to be read with ease.
pub trait ValueExt {
    /// The map's value of that key.
    fn get(&self, key: &str) -> Option<&YsonValue>;
    /// The value at the end of these keys.
    fn at(&self, keys: &[&str]) -> Option<&YsonValue>;
    /// The boolean.
    fn as_bool(&self) -> Option<bool>;
    /// The number, signed or unsigned, where it fits.
    fn as_int(&self) -> Option<i64>;
    /// The number, signed or unsigned, where it fits.
    fn as_uint(&self) -> Option<u64>;
    /// The number, of any kind.
    fn as_double(&self) -> Option<f64>;
    /// The string's bytes.
    fn as_bytes(&self) -> Option<&[u8]>;
    /// The list's items.
    fn as_list(&self) -> Option<&[YsonValue]>;
    /// Whether it is an entity.
    fn is_entity(&self) -> bool;
    /// The map's keys, those that are UTF-8.
    fn keys(&self) -> Vec<&str>;
}

impl ValueExt for YsonValue {
    fn get(&self, key: &str) -> Option<&YsonValue> {
        match &self.node {
            YsonNode::Map(map) => map.get(key.as_bytes()),
            _ => None,
        }
    }

    fn at(&self, keys: &[&str]) -> Option<&YsonValue> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    fn as_bool(&self) -> Option<bool> {
        match self.node {
            YsonNode::Boolean(value) => Some(value),
            _ => None,
        }
    }

    fn as_int(&self) -> Option<i64> {
        match self.node {
            YsonNode::Int64(value) => Some(value),
            YsonNode::Uint64(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    fn as_uint(&self) -> Option<u64> {
        match self.node {
            YsonNode::Int64(value) => u64::try_from(value).ok(),
            YsonNode::Uint64(value) => Some(value),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a double is what the caller asked for")]
    fn as_double(&self) -> Option<f64> {
        match self.node {
            YsonNode::Double(value) => Some(value),
            YsonNode::Int64(value) => Some(value as f64),
            YsonNode::Uint64(value) => Some(value as f64),
            _ => None,
        }
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match &self.node {
            YsonNode::String(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn as_list(&self) -> Option<&[YsonValue]> {
        match &self.node {
            YsonNode::List(items) => Some(items),
            _ => None,
        }
    }

    fn is_entity(&self) -> bool {
        self.node == YsonNode::Entity
    }

    fn keys(&self) -> Vec<&str> {
        match &self.node {
            YsonNode::Map(map) => map.keys().filter_map(|key| std::str::from_utf8(key).ok()).collect(),
            _ => Vec::new(),
        }
    }
}
