//! Values as they were written, each with where it stands.
//!
//! The YAML file and the command line become the same tree, so that one reader checks both. A scalar keeps its
//! text as written: where text is asked for, `1.10` in a YAML file stays `1.10` and does not become `1.1`.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::problem::{Origin, Problem};

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where it was written.
    pub origin: Origin,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Nothing: as if the key were not there.
    Null,
    /// `true` or `false`, and the word that was written for it.
    Bool(bool, String),
    /// A number, and the digits that were written for it.
    Number(Number, String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys with values, in the order written; a key may be there twice.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Where the key was written.
    pub origin: Origin,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Node,
}

// === impl Node ===

impl Node {
    /// What is not there.
    pub(crate) fn nothing() -> Self {
        Self { origin: Origin::CommandLine, content: Content::Null }
    }

    /// A word of the command line.
    pub(crate) fn word(text: impl Into<String>) -> Self {
        Self { origin: Origin::CommandLine, content: Content::Text(text.into()) }
    }

    /// Reads a YAML file's text. Faults of the YAML itself are one problem: nothing after it can be trusted.
    pub(crate) fn from_yaml(text: &str, path: &Arc<str>) -> Result<Self, Problem> {
        let at = |location: Location| Origin::File {
            path: path.clone(),
            line: location.line(),
            column: location.column(),
        };
        match parse(text) {
            Ok(tree) => Ok(Self::place(tree, text, &at)),
            Err(error) => {
                let origin = at(error.location().unwrap_or(Location::UNKNOWN));
                Err(Problem::new(&origin, format!("not valid YAML: {}", reason(&error))))
            }
        }
    }

    /// Reads a value of the command line that is written as JSON, or as Python would print it.
    ///
    /// The README of the Python tractorun shows `{'source': .., 'executable': True}`: that is not JSON, but it
    /// is a YAML flow mapping with the same meaning. The error is that of the JSON reader.
    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => Ok(Self::from_value(value)),
            Err(error) => match parse(text) {
                Ok(tree) if matches!(tree.value, Tree::Map(_)) && text.trim_start().starts_with('{') => {
                    Ok(Self::place(tree, text, &|_| Origin::CommandLine))
                }
                _ => Err(error.to_string()),
            },
        }
    }

    /// The value as JSON. Of a key that is there twice the last one counts.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value, _) => Value::Bool(*value),
            Content::Number(number, _) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// What was written, short enough for an error's text.
    pub(crate) fn show(&self) -> String {
        /// Longer values are cut: the place says where the rest is.
        const MAX_CHARS: usize = 60;
        match &self.content {
            Content::Null => "nothing".to_owned(),
            // As the dry run does: what stands beside these words may be a secret.
            Content::Text(text) if text.contains("secure_vault") => "text that is not shown".to_owned(),
            Content::Bool(_, text) | Content::Number(_, text) | Content::Text(text) => {
                let text = text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
                match text.char_indices().nth(MAX_CHARS) {
                    Some((end, _)) => format!("`{}...`", &text[..end]),
                    None => format!("`{text}`"),
                }
            }
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "keys with values".to_owned(),
        }
    }

    fn from_value(value: Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(value, value.to_string()),
            Value::Number(number) => {
                let text = number.to_string();
                Content::Number(number, text)
            }
            Value::String(text) => Content::Text(text),
            Value::Array(items) => Content::List(items.into_iter().map(Self::from_value).collect()),
            Value::Object(map) => Content::Map(
                map.into_iter()
                    .map(|(key, value)| Entry {
                        origin: Origin::CommandLine,
                        key,
                        value: Self::from_value(value),
                    })
                    .collect(),
            ),
        };
        Self { origin: Origin::CommandLine, content }
    }

    fn place(tree: Spanned<Tree>, source: &str, at: &dyn Fn(Location) -> Origin) -> Self {
        let origin = at(tree.referenced);
        // The text as written stands where the value is defined, also when it is used through an alias.
        let written = |or: String| {
            let span = tree.defined.span();
            let start = span.byte_offset().and_then(|start| usize::try_from(start).ok());
            let len = span.byte_len().and_then(|len| usize::try_from(len).ok());
            let text = start.zip(len).and_then(|(start, len)| source.get(start..start + len));
            text.filter(|text| !text.is_empty()).map_or(or, str::to_owned)
        };
        let content = match tree.value {
            Tree::Null => Content::Null,
            Tree::Bool(value) => Content::Bool(value, written(value.to_string())),
            Tree::Number(number) => {
                let text = written(number.to_string());
                Content::Number(number, text)
            }
            Tree::Text(text) => Content::Text(text),
            Tree::List(items) => {
                Content::List(items.into_iter().map(|item| Self::place(item, source, at)).collect())
            }
            Tree::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        origin: at(key.referenced),
                        key: key.value,
                        value: Self::place(value, source, at),
                    })
                    .collect(),
            ),
        };
        Self { origin, content }
    }
}

/// A YAML value as the parser hands it out.
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn parse(text: &str) -> Result<Spanned<Tree>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // Reported by us, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `007` and `1_000` are text, as in YAML 1.2.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The error's text without the place, which stands in front of our own.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    text.rsplit_once(" at line ").map_or(text, |(reason, _)| reason).to_owned()
}

// === impl Tree ===

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value).map(Tree::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Result<Node, Problem> {
        Node::from_yaml(text, &Arc::from("c.yaml"))
    }

    fn first_value(text: &str) -> Content {
        match yaml(text).unwrap().content {
            Content::Map(mut entries) => entries.remove(0).value.content,
            other => panic!("no keys: {other:?}"),
        }
    }

    #[test]
    fn scalars_keep_the_text_they_were_written_with() {
        let raw = |text: &str| match first_value(text) {
            Content::Bool(_, raw) | Content::Number(_, raw) | Content::Text(raw) => raw,
            other => panic!("no scalar: {other:?}"),
        };
        assert_eq!(raw("a: 1.10"), "1.10");
        assert_eq!(raw("a: True"), "True");
        assert_eq!(raw("a: 0x10"), "0x10");
        assert_eq!(raw("ü: 1e3"), "1e3");
        assert_eq!(raw("a: 007"), "007");
        assert_eq!(raw("a: \"1.10\" # as text"), "1.10");
        assert_eq!(raw("a: &x 1.50\nb: *x"), "1.50");
    }

    #[test]
    fn yaml_faults_say_where() {
        let text = |yaml_text: &str| yaml(yaml_text).unwrap_err().to_string();
        assert_eq!(
            text("a:\n\tb: 1"),
            "c.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)"
        );
        assert_eq!(text("a: 'b"), "c.yaml:1:4: not valid YAML: unclosed quote");
        assert!(text("a: 1\n---\nb: 2").starts_with("c.yaml:3:1: not valid YAML: multiple YAML documents"));
    }

    #[test]
    fn what_python_prints_is_read_as_json_is() {
        let python = "{'source': './a', 'attributes': {'executable': True, 'format': None}}";
        let json = r#"{"source": "./a", "attributes": {"executable": true, "format": "None"}}"#;
        assert_eq!(Node::from_json(python).unwrap().to_json(), serde_json::from_str::<Value>(json).unwrap());
        assert_eq!(
            Node::from_json(r#"{"name": "A, "value": "1"}"#).unwrap_err(),
            "expected `,` or `}` at line 1 column 15"
        );
        assert!(Node::from_json("a: b").is_err());
    }

    #[test]
    fn long_values_are_cut_when_shown() {
        assert_eq!(Node::word("ab").show(), "`ab`");
        assert_eq!(Node::word("x".repeat(80)).show(), format!("`{}...`", "x".repeat(60)));
        assert_eq!(Node::word("a\nb").show(), "`a\\nb`");
    }
}
