//! Paths: where a request points. Only the text is looked at here; `resolve` walks the tree.

use std::fmt;

use crate::error::YtError;
use crate::guid::Guid;

/// A plain path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YPath {
    /// Where it starts.
    pub root: Root,
    /// Names from there on.
    pub steps: Vec<Step>,
    /// What of the last node is meant.
    pub tail: Tail,
    text: String,
}

/// The first node of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// `/`.
    Cypress,
    /// `#id`.
    Object(Guid),
}

/// One name of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The key in its parent.
    pub key: String,
    /// Whether the node may be replaced by what it points to.
    pub links: Links,
}

/// What happens when a step ends at a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The target is meant.
    Follow,
    /// `&`: the link itself is meant.
    Keep,
}

/// What of a node is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// The node itself.
    Node,
    /// `/*`: all its children.
    Children,
    /// `/@`: all its attributes.
    Attributes,
    /// `/@*`: all its custom attributes.
    AllCustomAttributes,
    /// `/@name/key/0`: an attribute, or a part of its value.
    Attribute {
        /// The attribute.
        name: String,
        /// The way inside its value.
        inside: Vec<String>,
    },
}

impl YPath {
    /// Reads a plain path.
    pub fn parse(text: &str) -> Result<YPath, YtError> {
        Parser { text, rest: text }.path()
    }

    /// The path as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the path ends with `&` and so means a link itself.
    pub fn keeps_last_link(&self) -> bool {
        self.steps.last().is_some_and(|step| step.links == Links::Keep)
    }

    /// Whether the path means an attribute or several.
    pub fn is_attribute(&self) -> bool {
        matches!(self.tail, Tail::Attributes | Tail::AllCustomAttributes | Tail::Attribute { .. })
    }
}

impl fmt::Display for YPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A key as a path spells it.
pub fn escape_key(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for character in key.chars() {
        if matches!(character, '\\' | '/' | '@' | '&' | '*' | '[' | '{') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn error(&self, what: impl fmt::Display) -> YtError {
        YtError::generic(format!("Error parsing path {:?}: {what}", self.text))
    }

    fn unexpected(&self) -> YtError {
        let Some(character) = self.rest.chars().next() else {
            return self.error("unexpected end of the path");
        };
        let kind = match character {
            '/' => "Slash",
            '@' => "At",
            '&' => "Ampersand",
            '*' => "Asterisk",
            '{' => "Left-brace",
            '[' => "Left-bracket",
            _ => "Literal",
        };
        self.error(format_args!("Unexpected token \"{character}\" of type {kind}"))
    }

    fn skip(&mut self, character: char) -> bool {
        let stripped = self.rest.strip_prefix(character);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn path(mut self) -> Result<YPath, YtError> {
        let root = if self.skip('#') {
            let end = self.rest.find(['/', '&']).unwrap_or(self.rest.len());
            let id = self.rest[..end].parse().map_err(|error| self.error(error))?;
            self.rest = &self.rest[end..];
            Root::Object(id)
        } else if self.skip('/') {
            Root::Cypress
        } else if self.text.is_empty() {
            return Err(YtError::generic("YPath cannot be empty"));
        } else {
            return Err(self.error("YPath must start with \"/\" or \"#\""));
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut tail = Tail::Node;
        if root != Root::Cypress || !self.rest.is_empty() {
            self.ampersand(&mut steps);
        }
        while tail == Tail::Node && !self.rest.is_empty() {
            if !self.skip('/') {
                return Err(self.unexpected());
            }
            if self.skip('@') {
                tail = self.attribute()?;
            } else if self.skip('*') {
                tail = Tail::Children;
            } else {
                let key = self.key()?;
                steps.push(Step { key, links: Links::Follow });
                self.ampersand(&mut steps);
            }
        }
        if self.rest.is_empty() {
            Ok(YPath { root, steps, tail, text: self.text.to_owned() })
        } else {
            Err(self.unexpected())
        }
    }

    fn ampersand(&mut self, steps: &mut [Step]) {
        if self.skip('&')
            && let Some(last) = steps.last_mut()
        {
            last.links = Links::Keep;
        }
    }

    fn attribute(&mut self) -> Result<Tail, YtError> {
        if self.rest.is_empty() {
            return Ok(Tail::Attributes);
        }
        if self.skip('*') {
            return Ok(Tail::AllCustomAttributes);
        }
        if self.rest.starts_with('/') {
            return Err(self.error("Attribute key cannot be empty"));
        }
        let name = self.key()?;
        let mut inside = Vec::new();
        while self.skip('/') {
            inside.push(self.key()?);
        }
        Ok(Tail::Attribute { name, inside })
    }

    fn key(&mut self) -> Result<String, YtError> {
        let mut bytes = Vec::new();
        while let Some(character) = self.rest.chars().next() {
            match character {
                '/' | '@' | '&' | '*' | '[' | '{' => break,
                '\\' => {
                    self.rest = &self.rest[1..];
                    self.escape(&mut bytes)?;
                }
                _ => {
                    let length = character.len_utf8();
                    bytes.extend_from_slice(&self.rest.as_bytes()[..length]);
                    self.rest = &self.rest[length..];
                }
            }
        }
        if bytes.is_empty() {
            return Err(self.unexpected());
        }
        String::from_utf8(bytes).map_err(|_| self.error("keys that are not UTF-8 are not supported here"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), YtError> {
        let mut characters = self.rest.chars();
        match characters.next() {
            Some(special @ ('\\' | '/' | '@' | '&' | '*' | '[' | '{')) => {
                bytes.extend_from_slice(special.encode_utf8(&mut [0; 4]).as_bytes());
                self.rest = characters.as_str();
                Ok(())
            }
            Some('x') => {
                let code = self.rest.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(code.ok_or_else(|| self.error("\"\\x\" needs two hexadecimal digits"))?);
                self.rest = &self.rest[3..];
                Ok(())
            }
            other => Err(self.error(format_args!("illegal escape sequence \\{}", other.unwrap_or(' ')))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        YPath::parse(text).unwrap().steps.into_iter().map(|step| step.key).collect()
    }

    #[test]
    fn names_and_escapes() {
        assert_eq!(keys("/"), Vec::<String>::new());
        assert_eq!(keys("//a/b-c/0"), ["a", "b-c", "0"]);
        assert_eq!(keys(r"//a\/b\@\*\\\x41/\[c"), [r"a/b@*\A", "[c"]);
        assert_eq!(keys(&format!("//{}", escape_key(r"a/b@&*\[{"))), [r"a/b@&*\[{"]);
    }

    #[test]
    fn tails() {
        let tail = |text: &str| YPath::parse(text).unwrap().tail;
        assert_eq!(tail("//a/@"), Tail::Attributes);
        assert_eq!(tail("//a/@*"), Tail::AllCustomAttributes);
        assert_eq!(tail("//a/*"), Tail::Children);
        let attribute = Tail::Attribute { name: "b".into(), inside: vec!["c".into(), "0".into()] };
        assert_eq!(tail("//a/@b/c/0"), attribute);
        assert_eq!(tail("#1-2-10001-3/@b/c/0"), attribute);
        assert_eq!(tail("//a&/@b/c/0"), attribute);
        assert!(YPath::parse("//a&/@b").unwrap().keeps_last_link());
        assert_eq!(tail("//@x"), Tail::Attribute { name: "x".into(), inside: vec![] });
    }

    #[test]
    fn bad_paths_say_what_is_wrong() {
        for (text, wanted) in [
            ("", "YPath cannot be empty"),
            ("tmp", "must start with"),
            ("//tmp/", "unexpected end"),
            ("//tmp//x", "of type Slash"),
            ("//a{b}", "Unexpected token \"{\" of type Left-brace"),
            ("//a[#1]", "of type Left-bracket"),
            ("//a@b", "of type At"),
            ("//a/@/b", "Attribute key cannot be empty"),
            ("//a/*/b", "of type Slash"),
            (r"//a\q", "illegal escape"),
            ("#12/x", "GUID"),
        ] {
            let error = YPath::parse(text).unwrap_err().message;
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
