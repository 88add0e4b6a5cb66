//! JSON in YT's flavour: attributes as `{"$attributes": {}, "$value": ..}`, and byte strings that JSON cannot
//! hold as text of code points 0 to 255 (`encode_utf8`, on by default).

use std::fmt::Write;

use serde_json::{Map, Number, Value};
use ytsaurus_yson::{YsonNode, YsonValue};

use super::rows::EncodedRows;
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// How byte strings become JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strings {
    /// `encode_utf8=%true`: every byte is one code point.
    Bytes,
    /// `encode_utf8=%false`: the bytes are UTF-8; others are an error.
    Utf8,
}

/// Reads one JSON document.
pub fn parse(input: &[u8], strings: Strings) -> Result<YsonValue, YtError> {
    let value = serde_json::from_slice(input).map_err(|error| parse_error(&error))?;
    from_json(value, strings)
}

/// Reads JSON documents one after another: rows of a table.
pub fn parse_rows(input: &[u8], strings: Strings) -> Result<EncodedRows, YtError> {
    let mut rows = EncodedRows::default();
    for row in serde_json::Deserializer::from_slice(input).into_iter::<Value>() {
        rows.push(&from_json(row.map_err(|error| parse_error(&error))?, strings)?)?;
    }
    rows.shrink();
    Ok(rows)
}

/// Writes one JSON document on one line.
pub fn write(value: &YsonValue, strings: Strings) -> Result<Vec<u8>, YtError> {
    Ok(to_json(value, strings)?.to_string().into_bytes())
}

/// Writes a document in ASCII on one line: what fits into a header. Strings that are not UTF-8 lose the bytes
/// that are not.
pub fn to_ascii_line(value: &YsonValue) -> String {
    let text = lossy(value).to_string();
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            line.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line
}

fn parse_error(error: &serde_json::Error) -> YtError {
    YtError::generic(format!("Error parsing JSON: {error}"))
}

fn from_json(json: Value, strings: Strings) -> Result<YsonValue, YtError> {
    Ok(match json {
        Value::Null => value::entity(),
        Value::Bool(flag) => value::boolean(flag),
        Value::Number(number) => value::plain(number_node(&number)),
        Value::String(text) => value::string(bytes_of(&text, strings)?),
        Value::Array(items) => value::plain(YsonNode::List(
            items.into_iter().map(|item| from_json(item, strings)).collect::<Result<_, _>>()?,
        )),
        Value::Object(mut object) => {
            let Some(inner) = object.remove("$value") else {
                return Ok(value::plain(YsonNode::Map(map_from_json(object, strings)?)));
            };
            let attributes = match object.remove("$attributes") {
                None | Some(Value::Null) => YsonMap::new(),
                Some(Value::Object(attributes)) => map_from_json(attributes, strings)?,
                Some(_) => return Err(YtError::generic("Error parsing JSON: \"$attributes\" must be a map")),
            };
            let mut result = from_json(inner, strings)?;
            if let Some(kind) = object.remove("$type") {
                result.node = cast(&result.node, kind.as_str().unwrap_or_default())?;
            }
            if let Some(key) = object.keys().next() {
                return Err(YtError::generic(format!(
                    "Error parsing JSON: unexpected key {key:?} beside \"$value\""
                )));
            }
            value::with_attributes(result, attributes)
        }
    })
}

fn map_from_json(object: Map<String, Value>, strings: Strings) -> Result<YsonMap, YtError> {
    object
        .into_iter()
        .map(|(key, item)| {
            let key = match key.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => rest,
                Some(_) => {
                    return Err(YtError::generic(format!("Error parsing JSON: key {key:?} is reserved")));
                }
                None => &key,
            };
            Ok((bytes_of(key, strings)?, from_json(item, strings)?))
        })
        .collect()
}

fn number_node(number: &Number) -> YsonNode {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), ..) => YsonNode::Int64(number),
        (None, Some(number), _) => YsonNode::Uint64(number),
        (None, None, number) => YsonNode::Double(number.unwrap_or(f64::NAN)),
    }
}

/// Applies `"$type"`.
fn cast(node: &YsonNode, kind: &str) -> Result<YsonNode, YtError> {
    let text = match node {
        YsonNode::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
        YsonNode::Int64(number) => Some(number.to_string()),
        YsonNode::Uint64(number) => Some(number.to_string()),
        YsonNode::Double(number) => Some(number.to_string()),
        YsonNode::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    let cast = text.and_then(|text| match kind {
        "string" => matches!(node, YsonNode::String(_)).then(|| node.clone()),
        "int64" => text.parse().ok().map(YsonNode::Int64),
        "uint64" => text.parse().ok().map(YsonNode::Uint64),
        "double" => text.parse().ok().map(YsonNode::Double),
        "boolean" => text.parse().ok().map(YsonNode::Boolean),
        _ => None,
    });
    cast.ok_or_else(|| YtError::generic(format!("Error parsing JSON: value does not fit \"$type\" {kind:?}")))
}

fn bytes_of(text: &str, strings: Strings) -> Result<Vec<u8>, YtError> {
    if strings == Strings::Utf8 || text.is_ascii() {
        return Ok(text.as_bytes().to_vec());
    }
    text.chars()
        .map(|character| {
            u8::try_from(u32::from(character)).map_err(|_| {
                YtError::generic(
                    "Error parsing JSON: Unicode symbols with codes greater than 255 are not supported; \
                     use \"encode_utf8\"=%false",
                )
            })
        })
        .collect()
}

fn text_of(bytes: &[u8], strings: Strings) -> Result<String, YtError> {
    match strings {
        Strings::Bytes => Ok(bytes.iter().copied().map(char::from).collect()),
        Strings::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| {
            YtError::generic("Error writing JSON: a string is not UTF-8; use \"encode_utf8\"=%true")
        }),
    }
}

fn to_json(value: &YsonValue, strings: Strings) -> Result<Value, YtError> {
    let node = match &value.node {
        YsonNode::Entity => Value::Null,
        YsonNode::Boolean(flag) => Value::Bool(*flag),
        YsonNode::Int64(number) => Value::from(*number),
        YsonNode::Uint64(number) => Value::from(*number),
        YsonNode::Double(number) => Number::from_f64(*number)
            .map(Value::Number)
            .ok_or_else(|| YtError::generic("Error writing JSON: NaN and infinity have no form in JSON"))?,
        YsonNode::String(bytes) => Value::String(text_of(bytes, strings)?),
        YsonNode::List(items) => {
            Value::Array(items.iter().map(|item| to_json(item, strings)).collect::<Result<_, _>>()?)
        }
        YsonNode::Map(entries) => Value::Object(map_to_json(entries, strings)?),
    };
    let Some(attributes) = value.attributes.as_ref().filter(|attributes| !attributes.is_empty()) else {
        return Ok(node);
    };
    let mut object = Map::new();
    object.insert("$attributes".to_owned(), Value::Object(map_to_json(attributes, strings)?));
    object.insert("$value".to_owned(), node);
    Ok(Value::Object(object))
}

fn map_to_json(entries: &YsonMap, strings: Strings) -> Result<Map<String, Value>, YtError> {
    entries
        .iter()
        .map(|(key, item)| {
            let mut key = text_of(key, strings)?;
            if key.starts_with('$') {
                key.insert(0, '$');
            }
            Ok((key, to_json(item, strings)?))
        })
        .collect()
}

fn lossy(value: &YsonValue) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &value.node {
        YsonNode::Entity => Value::Null,
        YsonNode::Boolean(flag) => Value::Bool(*flag),
        YsonNode::Int64(number) => Value::from(*number),
        YsonNode::Uint64(number) => Value::from(*number),
        YsonNode::Double(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        YsonNode::String(bytes) => Value::String(text(bytes)),
        YsonNode::List(items) => Value::Array(items.iter().map(lossy).collect()),
        YsonNode::Map(entries) => {
            Value::Object(entries.iter().map(|(key, item)| (text(key), lossy(item))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::yson;

    #[test]
    fn attributes_and_reserved_keys_survive_the_round_trip() {
        let value = yson::parse(b"<a=1>{\"$value\"=\"x\";k=[1;2u;1.5;%true;#]}").unwrap();
        let text = write(&value, Strings::Utf8).unwrap();
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            r#"{"$attributes":{"a":1},"$value":{"$$value":"x","k":[1,2,1.5,true,null]}}"#
        );
        let back = parse(&text, Strings::Utf8).unwrap();
        assert_eq!(value::get(&back, "$value"), value::get(&value, "$value"));
        assert_eq!(back.attr("a"), value.attr("a"));
    }

    #[test]
    fn bytes_become_code_points_unless_told_otherwise() {
        let value = value::string("\u{e9}");
        assert_eq!(write(&value, Strings::Bytes).unwrap(), "\"\u{c3}\u{a9}\"".as_bytes());
        assert_eq!(write(&value, Strings::Utf8).unwrap(), "\"\u{e9}\"".as_bytes());
        assert_eq!(parse("\"\u{c3}\u{a9}\"".as_bytes(), Strings::Bytes).unwrap(), value);
        assert!(write(&value::string([0xff]), Strings::Utf8).is_err());
        assert!(parse("\"\u{100}\"".as_bytes(), Strings::Bytes).is_err());
    }

    #[test]
    fn types_can_be_named() {
        let value = parse(br#"{"$value":"5","$type":"uint64"}"#, Strings::Utf8).unwrap();
        assert_eq!(value, value::uint64(5));
        assert!(parse(br#"{"$value":"x","$type":"uint64"}"#, Strings::Utf8).is_err());
    }

    #[test]
    fn rows_follow_each_other() {
        assert_eq!(parse_rows(b"{\"a\":1}\n{\"a\":2}\n", Strings::Utf8).unwrap().len(), 2);
        assert!(parse_rows(b"{\"a\":1}\n{", Strings::Utf8).is_err());
    }
}
