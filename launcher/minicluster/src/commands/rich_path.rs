//! Rich paths: a path with attributes in front of it or beside it, and columns and ranges behind it.

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::cypress::{Append, YPath};
use crate::error::YtError;
use crate::formats::yson;
use crate::value::{self, YsonMap};

/// A path as commands on data take it.
#[derive(Debug, Clone, PartialEq)]
pub struct RichPath {
    /// The path itself.
    pub path: YPath,
    /// `append`, `columns`, `ranges` and whatever else came with it.
    pub attributes: YsonMap,
}

impl RichPath {
    /// Reads a parameter: attributes beside the text win over a prefix, and a prefix over a suffix.
    pub fn parse(parameter: &YsonValue) -> Result<RichPath, YtError> {
        let YsonNode::String(text) = &parameter.node else {
            return Err(YtError::generic(format!(
                "A path must be a string, got {}",
                value::type_name(parameter)
            )));
        };
        let (mut attributes, rest) = yson::parse_leading_attributes(text)?;
        let rest = std::str::from_utf8(rest).map_err(|_| YtError::generic("A path must be UTF-8"))?;
        let (path, suffix) = rest.split_at(end_of_path(rest));
        let mut suffix = Suffix { text: suffix.as_bytes() };
        let columns = suffix.columns()?;
        let ranges = suffix.ranges()?;
        suffix.end()?;
        for (name, given) in [("columns", columns), ("ranges", ranges)] {
            if let Some(given) = given {
                attributes.entry(name.into()).or_insert(given);
            }
        }
        attributes.extend(parameter.attributes.clone().unwrap_or_default());
        Ok(RichPath { path: YPath::parse(path)?, attributes })
    }

    /// Whether a write goes behind what is there.
    pub fn append(&self) -> Result<Append, YtError> {
        Ok(if value::flag(&self.attributes, "append", false)? { Append::Yes } else { Append::No })
    }

    /// The path with all its attributes, as `parse_ypath` answers.
    pub fn to_yson(&self) -> YsonValue {
        value::with_attributes(value::string(self.path.text()), self.attributes.clone())
    }
}

/// Where the columns or ranges begin: at the first `{` or `[` that is not escaped.
fn end_of_path(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' | b'[' => return index,
            _ => {}
        }
    }
    text.len()
}

struct Suffix<'a> {
    text: &'a [u8],
}

impl Suffix<'_> {
    fn peek(&mut self) -> Option<u8> {
        let blanks = self.text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text = &self.text[blanks..];
        self.text.first().copied()
    }

    fn skip(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.text = &self.text[1..];
        }
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), YtError> {
        if self.skip(wanted) { Ok(()) } else { Err(self.unexpected(&format!("{:?}", char::from(wanted)))) }
    }

    fn unexpected(&self, wanted: &str) -> YtError {
        YtError::generic(format!(
            "Error parsing rich path: {wanted} is expected at {:?}",
            String::from_utf8_lossy(self.text)
        ))
    }

    fn end(&mut self) -> Result<(), YtError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected("the end of the path")) }
    }

    fn value(&mut self) -> Result<YsonValue, YtError> {
        let (value, rest) = yson::parse_prefix(self.text)?;
        self.text = rest;
        Ok(value)
    }

    fn columns(&mut self) -> Result<Option<YsonValue>, YtError> {
        if !self.skip(b'{') {
            return Ok(None);
        }
        let mut columns = Vec::new();
        while !self.skip(b'}') {
            columns.push(self.value()?);
            if self.peek() != Some(b'}') {
                self.expect(b',')?;
            }
        }
        Ok(Some(value::list(columns)))
    }

    fn ranges(&mut self) -> Result<Option<YsonValue>, YtError> {
        if !self.skip(b'[') {
            return Ok(None);
        }
        let mut ranges = Vec::new();
        while !self.skip(b']') {
            ranges.push(self.range()?);
            if self.peek() != Some(b']') {
                self.expect(b',')?;
            }
        }
        Ok(Some(value::list(ranges)))
    }

    fn range(&mut self) -> Result<YsonValue, YtError> {
        let lower = self.limit()?;
        if !self.skip(b':') {
            let exact = lower.ok_or_else(|| self.unexpected("a limit"))?;
            return Ok(value::map([("exact", exact)]));
        }
        let upper = self.limit()?;
        let ends = [("lower_limit", lower), ("upper_limit", upper)];
        Ok(value::map(ends.into_iter().filter_map(|(name, limit)| Some((name, limit?)))))
    }

    fn limit(&mut self) -> Result<Option<YsonValue>, YtError> {
        match self.peek() {
            None | Some(b':' | b',' | b']') => Ok(None),
            Some(b'#') => {
                self.skip(b'#');
                Ok(Some(value::map([("row_index", self.value()?)])))
            }
            Some(b'(') => {
                self.skip(b'(');
                let mut key = Vec::new();
                while !self.skip(b')') {
                    key.push(self.value()?);
                    if self.peek() != Some(b')') {
                        self.expect(b',')?;
                    }
                }
                Ok(Some(value::map([("key", value::list(key))])))
            }
            Some(_) => {
                let key = self.value()?;
                Ok(Some(value::map([("key", value::list([key]))])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(parameter: &YsonValue) -> String {
        let path = RichPath::parse(parameter).unwrap();
        let map = value::plain(YsonNode::Map(path.attributes));
        String::from_utf8(yson::to_text(&map).unwrap()).unwrap()
    }

    #[test]
    fn suffixes_become_attributes() {
        for (text, wanted) in [
            ("//t", "{}"),
            ("<append=%true>//t", "{append=%true}"),
            ("//t{a,\"b c\"}", "{columns=[a;\"b c\"]}"),
            ("//t{}", "{columns=[]}"),
            ("//t[#0:#10]", "{ranges=[{lower_limit={row_index=0};upper_limit={row_index=10}}]}"),
            ("//t[#5]", "{ranges=[{exact={row_index=5}}]}"),
            (
                "//t[a:b,(c,1):]",
                "{ranges=[{lower_limit={key=[a]};upper_limit={key=[b]}};{lower_limit={key=[c;1]}}]}",
            ),
            ("//t{a}[:#2]", "{columns=[a];ranges=[{upper_limit={row_index=2}}]}"),
            (r"//t\[x\{y", "{}"),
        ] {
            assert_eq!(attributes(&value::string(text)), wanted, "{text}");
        }
    }

    #[test]
    fn attributes_beside_the_text_win() {
        let parameter = yson::parse(b"<append=%true;columns=[x]>\"<append=%false>//t{a}\"").unwrap();
        assert_eq!(attributes(&parameter), "{append=%true;columns=[x]}");
        assert_eq!(RichPath::parse(&parameter).unwrap().append(), Ok(Append::Yes));
    }

    #[test]
    fn broken_suffixes_are_errors() {
        for text in ["//t{a", "//t[#0", "//t[#0:#1]x", "//t{a}b", "//t[#0 #1]", "<a=1//t"] {
            assert!(RichPath::parse(&value::string(text)).is_err(), "{text}");
        }
    }
}
