//! Reading YSON as YT reads it: text in which binary markers may be mixed, which is what the official clients
//! send. (The parser of the `ytsaurus-yson` crate takes one or the other, and folds attributes into map keys.)
//! Writing is the crate's.

use ytsaurus_yson::{YsonFormat, YsonNode, YsonValue};

use super::rows::{self, EncodedRows};
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// Deeper values are refused, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Reads one value; nothing but whitespace may follow it.
pub fn parse(input: &[u8]) -> Result<YsonValue, YtError> {
    let mut parser = Parser::new(input);
    let value = parser.value(0)?;
    parser.end()?;
    Ok(value)
}

/// Reads a list fragment, `value; value; ...`: rows of a table.
pub fn parse_list_fragment(input: &[u8]) -> Result<Vec<YsonValue>, YtError> {
    let mut parser = Parser::new(input);
    let mut items = Vec::new();
    while parser.peek().is_some() {
        items.push(parser.value(0)?);
        match parser.peek() {
            None => break,
            Some(b';') => parser.position += 1,
            Some(_) => return Err(parser.unexpected("`;` between values")),
        }
    }
    Ok(items)
}

/// Reads a list fragment of maps and keeps them encoded. Attributes of a row itself are passed over.
pub fn encode_rows(input: &[u8]) -> Result<EncodedRows, YtError> {
    let mut parser = Parser::new(input);
    let mut rows = EncodedRows::with_capacity(input.len());
    while parser.peek().is_some() {
        if parser.peek() == Some(b'<') {
            parser.position += 1;
            parser.entries(b'>', 1)?;
        }
        if parser.peek() != Some(b'{') {
            parser.node(0)?;
            return Err(rows::not_a_map());
        }
        rows.push_with(|output| parser.copy_node(0, output))?;
        match parser.peek() {
            None => break,
            Some(b';') => parser.position += 1,
            Some(_) => return Err(parser.unexpected("`;` between values")),
        }
    }
    rows.shrink();
    Ok(rows)
}

/// Reads the attributes in front of a text such as `<append=%true>//tmp/t` and returns the rest of it.
pub fn parse_leading_attributes(input: &[u8]) -> Result<(YsonMap, &[u8]), YtError> {
    let mut parser = Parser::new(input);
    if parser.peek() != Some(b'<') {
        return Ok((YsonMap::new(), input));
    }
    parser.position += 1;
    let attributes = parser.entries(b'>', 0)?;
    Ok((attributes, &input[parser.position..]))
}

/// Reads a value at the start of a text and returns the rest of it.
pub fn parse_prefix(input: &[u8]) -> Result<(YsonValue, &[u8]), YtError> {
    let mut parser = Parser::new(input);
    let value = parser.value(0)?;
    Ok((value, &input[parser.position..]))
}

/// A value as text on one line.
pub fn to_text(value: &YsonValue) -> Result<Vec<u8>, YtError> {
    write(value, YsonFormat::Text)
}

/// A value in the binary form.
pub fn to_binary(value: &YsonValue) -> Result<Vec<u8>, YtError> {
    write(value, YsonFormat::Binary)
}

fn write(value: &YsonValue, format: YsonFormat) -> Result<Vec<u8>, YtError> {
    ytsaurus_yson::to_vec(value, format)
        .map_err(|error| YtError::generic(format!("Error writing YSON: {error}")))
}

struct Parser<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Parser<'a> {
    fn new(input: &'a [u8]) -> Self {
        Parser { input, position: 0 }
    }

    fn error(&self, what: impl std::fmt::Display) -> YtError {
        YtError::generic(format!("Error parsing YSON at offset {}: {what}", self.position))
    }

    fn unexpected(&self, wanted: &str) -> YtError {
        match self.input.get(self.position) {
            None => self.error(format_args!("{wanted} is expected, got the end of the input")),
            Some(byte) => self.error(format_args!("{wanted} is expected, got {:?}", char::from(*byte))),
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            // Nearly always there is nothing to skip.
            match self.input.get(self.position) {
                Some(b'\t'..=b'\r' | b' ' | b'/') => {}
                _ => return,
            }
            let rest = &self.input[self.position..];
            let skipped = if rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == 0x0b) {
                1
            } else if rest.starts_with(b"/*") {
                rest.windows(2).skip(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 4)
            } else {
                return;
            };
            self.position += skipped;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.input.get(self.position).copied()
    }

    fn end(&mut self) -> Result<(), YtError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected("the end of the input")) }
    }

    fn value(&mut self, depth: usize) -> Result<YsonValue, YtError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format_args!("depth limit of {MAX_DEPTH} is exceeded")));
        }
        let mut attributes = YsonMap::new();
        if self.peek() == Some(b'<') {
            self.position += 1;
            attributes = self.entries(b'>', depth + 1)?;
        }
        let node = self.node(depth)?;
        Ok(value::with_attributes(value::plain(node), attributes))
    }

    fn node(&mut self, depth: usize) -> Result<YsonNode, YtError> {
        let Some(byte) = self.peek() else { return Err(self.unexpected("a value")) };
        match byte {
            b'{' => {
                self.position += 1;
                Ok(YsonNode::Map(self.entries(b'}', depth + 1)?))
            }
            b'[' => {
                self.position += 1;
                Ok(YsonNode::List(self.items(depth + 1)?))
            }
            b'#' => {
                self.position += 1;
                Ok(YsonNode::Entity)
            }
            b'%' => self.special(),
            b'0'..=b'9' | b'-' | b'+' => self.number(),
            0x02 => {
                self.position += 1;
                Ok(YsonNode::Int64(self.zigzag()?))
            }
            0x03 => {
                self.position += 1;
                let bytes = self.take(8)?;
                let bytes: [u8; 8] = bytes.try_into().map_err(|_| self.error("a double has 8 bytes"))?;
                Ok(YsonNode::Double(f64::from_le_bytes(bytes)))
            }
            0x04 | 0x05 => {
                self.position += 1;
                Ok(YsonNode::Boolean(byte == 0x05))
            }
            0x06 => {
                self.position += 1;
                Ok(YsonNode::Uint64(self.varint()?))
            }
            _ => Ok(YsonNode::String(self.string("a value")?)),
        }
    }

    // === from any form to the binary one, without building values ===

    fn copy_value(&mut self, depth: usize, output: &mut Vec<u8>) -> Result<(), YtError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format_args!("depth limit of {MAX_DEPTH} is exceeded")));
        }
        if self.peek() == Some(b'<') {
            self.position += 1;
            if self.peek() == Some(b'>') {
                self.position += 1;
            } else {
                output.push(b'<');
                self.copy_entries(b'>', depth + 1, output)?;
            }
        }
        self.copy_node(depth, output)
    }

    fn copy_node(&mut self, depth: usize, output: &mut Vec<u8>) -> Result<(), YtError> {
        let start = self.peek().map(|byte| (byte, self.position));
        match start {
            Some((b'{', _)) => {
                self.position += 1;
                output.push(b'{');
                self.copy_entries(b'}', depth + 1, output)
            }
            Some((b'[', _)) => {
                self.position += 1;
                output.push(b'[');
                self.copy_items(depth + 1, output)
            }
            Some((0x02 | 0x06, start)) => {
                self.position += 1;
                self.varint()?;
                output.extend_from_slice(&self.input[start..self.position]);
                Ok(())
            }
            Some((0x03, start)) => {
                self.take(9)?;
                output.extend_from_slice(&self.input[start..self.position]);
                Ok(())
            }
            Some((0x04 | 0x05 | b'#', start)) => {
                self.position += 1;
                output.push(self.input[start]);
                Ok(())
            }
            Some((b'%' | b'0'..=b'9' | b'-' | b'+', _)) => {
                let node = self.node(depth)?;
                output.extend_from_slice(&to_binary(&value::plain(node))?);
                Ok(())
            }
            Some(_) => self.copy_string("a value", output),
            None => Err(self.unexpected("a value")),
        }
    }

    fn copy_string(&mut self, wanted: &str, output: &mut Vec<u8>) -> Result<(), YtError> {
        if self.peek() == Some(0x01) {
            let start = self.position;
            self.position += 1;
            let length = self.zigzag()?;
            let length = usize::try_from(length)
                .map_err(|_| self.error(format_args!("negative string length {length}")))?;
            self.take(length)?;
            output.extend_from_slice(&self.input[start..self.position]);
        } else {
            let text = self.string(wanted)?;
            output.extend_from_slice(&to_binary(&value::string(text))?);
        }
        Ok(())
    }

    fn copy_items(&mut self, depth: usize, output: &mut Vec<u8>) -> Result<(), YtError> {
        loop {
            if self.peek() == Some(b']') {
                self.position += 1;
                output.push(b']');
                return Ok(());
            }
            self.copy_value(depth, output)?;
            match self.peek() {
                Some(b';') => self.position += 1,
                Some(b']') => {}
                _ => return Err(self.unexpected("`;` or `]`")),
            }
            output.push(b';');
        }
    }

    fn copy_entries(&mut self, end: u8, depth: usize, output: &mut Vec<u8>) -> Result<(), YtError> {
        loop {
            if self.peek() == Some(end) {
                self.position += 1;
                output.push(end);
                return Ok(());
            }
            self.copy_string("a key", output)?;
            if self.peek() != Some(b'=') {
                return Err(self.unexpected("`=`"));
            }
            self.position += 1;
            output.push(b'=');
            self.copy_value(depth, output)?;
            match self.peek() {
                Some(b';') => self.position += 1,
                Some(byte) if byte == end => {}
                _ => return Err(self.unexpected("`;` or the end of the map")),
            }
            output.push(b';');
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<YsonValue>, YtError> {
        let mut items = Vec::new();
        loop {
            if self.peek() == Some(b']') {
                self.position += 1;
                return Ok(items);
            }
            items.push(self.value(depth)?);
            match self.peek() {
                Some(b';') => self.position += 1,
                Some(b']') => {}
                _ => return Err(self.unexpected("`;` or `]`")),
            }
        }
    }

    fn entries(&mut self, end: u8, depth: usize) -> Result<YsonMap, YtError> {
        let mut entries = YsonMap::new();
        loop {
            if self.peek() == Some(end) {
                self.position += 1;
                return Ok(entries);
            }
            let key = self.string("a key")?;
            if self.peek() != Some(b'=') {
                return Err(self.unexpected("`=`"));
            }
            self.position += 1;
            let value = self.value(depth)?;
            entries.insert(key, value);
            match self.peek() {
                Some(b';') => self.position += 1,
                Some(byte) if byte == end => {}
                _ => return Err(self.unexpected("`;` or the end of the map")),
            }
        }
    }

    fn string(&mut self, wanted: &str) -> Result<Vec<u8>, YtError> {
        match self.peek() {
            Some(0x01) => {
                self.position += 1;
                let length = self.zigzag()?;
                let length = usize::try_from(length)
                    .map_err(|_| self.error(format_args!("negative string length {length}")))?;
                Ok(self.take(length)?.to_vec())
            }
            Some(b'"') => self.quoted(),
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                let rest = &self.input[self.position..];
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
                let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                Ok(self.take(length)?.to_vec())
            }
            _ => Err(self.unexpected(wanted)),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, YtError> {
        self.position += 1;
        let mut text = Vec::new();
        loop {
            let Some(byte) = self.input.get(self.position).copied() else {
                return Err(self.unexpected("`\"`"));
            };
            self.position += 1;
            match byte {
                b'"' => return Ok(text),
                b'\\' => text.push(self.escape()?),
                _ => text.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, YtError> {
        let byte = self.take(1)?[0];
        Ok(match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'x' => self.digits(16, 2)?,
            b'0'..=b'7' => {
                self.position -= 1;
                self.digits(8, 3)?
            }
            other => other,
        })
    }

    /// Up to `most` digits of a character code, at least one.
    fn digits(&mut self, radix: u32, most: usize) -> Result<u8, YtError> {
        let mut code = 0u32;
        let mut seen = 0;
        while seen < most {
            let digit = self.input.get(self.position).and_then(|byte| char::from(*byte).to_digit(radix));
            let Some(digit) = digit else { break };
            code = code * radix + digit;
            self.position += 1;
            seen += 1;
        }
        match u8::try_from(code) {
            Ok(code) if seen > 0 => Ok(code),
            _ => Err(self.unexpected("the code of a character")),
        }
    }

    fn special(&mut self) -> Result<YsonNode, YtError> {
        const SPECIAL: [(&[u8], YsonNode); 6] = [
            (b"%true", YsonNode::Boolean(true)),
            (b"%false", YsonNode::Boolean(false)),
            (b"%nan", YsonNode::Double(f64::NAN)),
            (b"%inf", YsonNode::Double(f64::INFINITY)),
            (b"%+inf", YsonNode::Double(f64::INFINITY)),
            (b"%-inf", YsonNode::Double(f64::NEG_INFINITY)),
        ];
        for (text, node) in SPECIAL {
            if self.input[self.position..].starts_with(text) {
                self.position += text.len();
                return Ok(node);
            }
        }
        Err(self.unexpected("%true, %false, %nan, %inf or %-inf"))
    }

    fn number(&mut self) -> Result<YsonNode, YtError> {
        let rest = &self.input[self.position..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eEuU".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        let node = if let Some(digits) = text.strip_suffix(['u', 'U']) {
            digits.parse().ok().map(YsonNode::Uint64)
        } else if text.contains(['.', 'e', 'E']) {
            text.parse().ok().map(YsonNode::Double)
        } else {
            text.parse().ok().map(YsonNode::Int64)
        };
        let node = node.ok_or_else(|| self.error(format_args!("{text:?} is not a number")))?;
        self.position += length;
        Ok(node)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], YtError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.input.len());
        let Some(end) = end else { return Err(self.error("the input ends inside a value")) };
        let bytes = &self.input[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, YtError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.error("an integer is longer than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64, YtError> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_mix_in_one_document() {
        let value = parse(
            b"{\x01\x02a=[\x02\x02;\x01\x02b;\x05;#;\x03\x00\x00\x00\x00\x00\x00\xf8?;];b=%true;c=\x06\x07}",
        )
        .unwrap();
        assert_eq!(to_text(&value).unwrap(), b"{a=[1;b;%true;#;1.5];b=%true;c=7u}");
    }

    #[test]
    fn attributes_stay_apart_from_keys() {
        let value = parse(b"<format=text;x={\"@a\"=1}>{\"@a\"=2;\"$value\"=3}").unwrap();
        assert_eq!(value.attr("format").and_then(YsonValue::as_str), Some("text"));
        assert_eq!(value::get(&value, "@a").and_then(value::as_i64), Some(2));
        assert_eq!(value::get(&value, "$value").and_then(value::as_i64), Some(3));
        assert_eq!(parse(&to_binary(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn escapes_and_numbers() {
        let cases: [(&[u8], YsonNode); 8] = [
            (br#""a\x00\n\"\\\101""#, YsonNode::String(b"a\0\n\"\\A".to_vec())),
            (b"-5", YsonNode::Int64(-5)),
            (b"5u", YsonNode::Uint64(5)),
            (b"1e3", YsonNode::Double(1000.0)),
            (b"%-inf", YsonNode::Double(f64::NEG_INFINITY)),
            (b" /* c */ # ", YsonNode::Entity),
            (b"18446744073709551615u", YsonNode::Uint64(u64::MAX)),
            (b"\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", YsonNode::Uint64(u64::MAX)),
        ];
        for (text, node) in cases {
            assert_eq!(parse(text).unwrap().node, node, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn broken_input_is_an_error_and_never_a_panic() {
        let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
        let cases: [&[u8]; 14] = [
            b"",
            b"{",
            b"{a}",
            b"{a=1",
            b"[1 2]",
            b"\x01\x08ab",
            b"\x01\x01",
            b"\x03\x00",
            b"%yes",
            b"1 2",
            b"-",
            b"\"abc",
            b"\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            &deep,
        ];
        for text in cases {
            assert!(parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn fragments_and_prefixes() {
        assert_eq!(parse_list_fragment(b"{a=1};{a=2};\n").unwrap().len(), 2);
        assert_eq!(parse_list_fragment(b" ").unwrap().len(), 0);
        assert!(parse_list_fragment(b"{a=1}{a=2}").is_err());
        let (attributes, rest) = parse_leading_attributes(b"<append=%true;>//tmp/t").unwrap();
        assert_eq!((attributes.len(), rest), (1, &b"//tmp/t"[..]));
    }
}
