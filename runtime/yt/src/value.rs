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

/// A URL, which the cluster's web interface shows as a link.
pub fn url(url: impl AsRef<str>) -> YsonValue {
    with_attributes(string(url), [("_type_tag", string("url"))])
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

/// Any serializable value as YSON, by way of its JSON.
pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<YsonValue, ConvertError> {
    serde_json::to_value(value).map(|json| from_json(&json)).map_err(|error| ConvertError(error.to_string()))
}

/// A YSON value, its attributes dropped, as any deserializable type, by way of its JSON.
pub fn to_deserialize<T: DeserializeOwned>(value: &YsonValue) -> Result<T, ConvertError> {
    serde_json::from_value(to_json(value)?).map_err(|error| ConvertError(error.to_string()))
}

/// JSON as YSON. Integers are signed where they fit, as the official client sends them.
pub fn from_json(value: &serde_json::Value) -> YsonValue {
    use serde_json::Value;

    match value {
        Value::Null => entity(),
        Value::Bool(value) => boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => int(value),
            (None, Some(value)) => uint(value),
            // What is no integer is a double: serde_json knows no other number.
            (None, None) => double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => string(text),
        Value::Array(items) => list(items.iter().map(from_json)),
        Value::Object(entries) => map(entries.iter().map(|(key, value)| (key, from_json(value)))),
    }
}

/// YSON as JSON. Attributes are dropped; bytes that are no UTF-8 and numbers that JSON lacks are refused.
pub fn to_json(value: &YsonValue) -> Result<serde_json::Value, ConvertError> {
    use serde_json::Value;

    Ok(match &value.node {
        YsonNode::Entity => Value::Null,
        YsonNode::Boolean(value) => Value::Bool(*value),
        YsonNode::Int64(value) => Value::from(*value),
        YsonNode::Uint64(value) => Value::from(*value),
        YsonNode::Double(value) => serde_json::Number::from_f64(*value)
            .map(Value::Number)
            .ok_or_else(|| ConvertError(format!("JSON has no number `{value}`")))?,
        YsonNode::String(bytes) => Value::String(utf8(bytes)?),
        YsonNode::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        YsonNode::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((utf8(key)?, to_json(value)?)));
            Value::Object(entries.collect::<Result<_, _>>()?)
        }
    })
}

fn utf8(bytes: &[u8]) -> Result<String, ConvertError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ConvertError(format!(
            "a string of {} bytes is not UTF-8 from byte {} on, and JSON has no other",
            bytes.len(),
            error.valid_up_to()
        ))),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_goes_there_and_back() {
        let json = json!({"a": [1, -2, 2.5, u64::MAX], "b": null, "c": true, "d": "caf\u{e9}"});
        let value = from_json(&json);
        assert_eq!(value.get("a").unwrap().as_list().unwrap()[0], int(1));
        assert_eq!(value.at(&["a"]).unwrap().as_list().unwrap()[3], uint(u64::MAX));
        assert_eq!(to_json(&value).unwrap(), json);
    }

    #[test]
    fn attributes_are_dropped_and_bytes_refused() {
        let value = with_attributes(string("x"), [("append", boolean(true))]);
        assert_eq!(to_json(&value).unwrap(), json!("x"));
        assert_eq!(
            to_json(&list([bytes(*b"ok\xff")])).unwrap_err().to_string(),
            "a string of 3 bytes is not UTF-8 from byte 2 on, and JSON has no other"
        );
        assert_eq!(to_json(&double(f64::INFINITY)).unwrap_err().to_string(), "JSON has no number `inf`");
    }

    #[test]
    fn types_of_serde_go_there_and_back() {
        let value = from_serialize(&[(7_u32, "x")]).unwrap();
        assert_eq!(value, list([list([int(7), string("x")])]));
        assert_eq!(to_deserialize::<Vec<(u32, String)>>(&value).unwrap(), [(7, "x".to_owned())]);
        assert!(to_deserialize::<u8>(&value).is_err());
    }

    #[test]
    fn numbers_are_read_whatever_their_sign_bit() {
        assert_eq!(uint(5_u64).as_int(), Some(5));
        assert_eq!(uint(u64::MAX).as_int(), None);
        assert_eq!(int(-1).as_uint(), None);
        assert_eq!(int(3).as_double(), Some(3.0));
    }

    #[test]
    fn maps_are_read_by_key() {
        let value = map([("a", map([("b", boolean(true))]))]);
        assert_eq!(value.at(&["a", "b"]).unwrap().as_bool(), Some(true));
        assert_eq!(value.at(&["a", "c"]), None);
        assert_eq!(value.keys(), ["a"]);
        assert!(entity().is_entity() && entity().get("a").is_none());
    }
}
