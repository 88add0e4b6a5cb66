//! Where the parameters of a request come from: the query string, headers, and the body of a POST, later ones
//! winning.

use base64::Engine;
use hyper::HeaderMap;
use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::YtError;
use crate::formats::{Format, json, yson};
use crate::value::{self, YsonMap};

const MAX_QUERY_DEPTH: usize = 64;

/// The format of parameters in headers, by `X-YT-Header-Format`. YSON in headers is always text.
pub(super) fn header_format(headers: &HeaderMap) -> Result<Format, YtError> {
    let Some(given) = header(headers, "x-yt-header-format")? else {
        return Ok(Format::Json(json::Strings::Bytes));
    };
    let format = Format::from_yson(&yson::parse(given.as_bytes())?)
        .map_err(|error| YtError::generic("Unable to parse \"X-YT-Header-Format\"").with_inner(error))?;
    Ok(if format == Format::YsonBinary { Format::YsonText } else { format })
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, YtError> {
    headers
        .get(name)
        .map(|text| std::str::from_utf8(text.as_bytes()))
        .transpose()
        .map_err(|_| YtError::generic(format!("Header {name:?} is not UTF-8")))
}

/// A header that may be split into numbered parts, which are then Base64 as a whole.
fn long_header(headers: &HeaderMap, name: &str) -> Result<Option<Vec<u8>>, YtError> {
    if let Some(whole) = headers.get(name) {
        return Ok(Some(whole.as_bytes().to_vec()));
    }
    let mut joined = Vec::new();
    for number in 0..1000 {
        let part = headers.get(format!("{name}{number}")).or_else(|| headers.get(format!("{name}-{number}")));
        let Some(part) = part else { break };
        joined.extend_from_slice(part.as_bytes());
    }
    if joined.is_empty() {
        return Ok(None);
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(&joined)
        .map_err(|error| YtError::generic(format!("Error decoding the parts of header {name:?}: {error}")))?;
    Ok(Some(decoded))
}

/// The format that headers name for the body or the answer.
pub(super) fn format_from_headers(
    headers: &HeaderMap,
    name: &str,
    mime_name: &str,
    header_format: Format,
) -> Result<Option<Format>, YtError> {
    if let Some(given) = long_header(headers, name)? {
        return Format::from_yson(&header_format.parse(&given)?).map(Some);
    }
    Ok(header(headers, mime_name)?.and_then(|given| given.split(',').find_map(Format::from_mime)))
}

/// Everything but the body.
pub(super) fn from_head(
    query: Option<&str>,
    headers: &HeaderMap,
    header_format: Format,
) -> Result<YsonMap, YtError> {
    let mut parameters = from_query(query.unwrap_or_default())?;
    if let Some(given) = long_header(headers, "x-yt-parameters")? {
        let wrong = |error| YtError::generic("Unable to parse parameters from headers").with_inner(error);
        let given = header_format.parse(&given).map_err(wrong)?;
        parameters.extend(map(given, "X-YT-Parameters")?);
    }
    Ok(parameters)
}

/// The parameters in the body of a request that has no data.
pub(super) fn from_body(body: &[u8], format: Format) -> Result<YsonMap, YtError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(YsonMap::new());
    }
    let wrong = |error| YtError::generic("Unable to parse parameters from the body").with_inner(error);
    map(format.parse(body).map_err(wrong)?, "the body of a request")
}

fn map(value: YsonValue, place: &str) -> Result<YsonMap, YtError> {
    match value.node {
        YsonNode::Map(entries) => Ok(entries),
        _ => Err(YtError::generic(format!("Parameters in {place} must be a map"))),
    }
}

/// `path=//tmp&attributes[0]=type`: numbers are recognised, brackets nest.
fn from_query(query: &str) -> Result<YsonMap, YtError> {
    let mut root = value::plain(YsonNode::Map(YsonMap::new()));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, text) = (unescape(name), unescape(text));
        let name = String::from_utf8_lossy(&name).into_owned();
        let (first, rest) = name.split_at(name.find('[').unwrap_or(name.len()));
        let mut keys = vec![first.to_owned()];
        for part in rest.split('[').skip(1) {
            let key = part
                .strip_suffix(']')
                .ok_or_else(|| YtError::generic(format!("Malformed name {name:?} in the query string")))?;
            keys.push(key.to_owned());
        }
        if keys.len() > MAX_QUERY_DEPTH {
            return Err(YtError::generic(format!(
                "Names in the query string nest at most {MAX_QUERY_DEPTH} deep"
            )));
        }
        let text = match std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok()) {
            Some(number) => value::int64(number),
            None => value::string(text),
        };
        insert(&mut root, &keys, text)?;
    }
    let root = lists(root);
    map(root, "the query string")
}

fn insert(target: &mut YsonValue, keys: &[String], text: YsonValue) -> Result<(), YtError> {
    let Some((first, rest)) = keys.split_first() else {
        *target = text;
        return Ok(());
    };
    let YsonNode::Map(entries) = &mut target.node else {
        return Err(YtError::generic(format!("Name {first:?} in the query string stands for two things")));
    };
    let child = entries
        .entry(first.clone().into_bytes())
        .or_insert_with(|| value::plain(YsonNode::Map(YsonMap::new())));
    insert(child, rest, text)
}

/// Maps with the keys 0, 1, 2, ... are lists; `$value` and `$attributes` make a value with attributes.
fn lists(mut value: YsonValue) -> YsonValue {
    let YsonNode::Map(entries) = value.node else { return value };
    let mut entries: YsonMap = entries.into_iter().map(|(key, item)| (key, lists(item))).collect();
    if let Some(mut inner) = entries.remove(b"$value".as_slice()) {
        if let Some(YsonNode::Map(attributes)) =
            entries.remove(b"$attributes".as_slice()).map(|item| item.node)
        {
            inner = value::with_attributes(inner, attributes);
        }
        return inner;
    }
    let numbered = |index: usize| entries.get(index.to_string().as_bytes()).cloned();
    let items: Vec<YsonValue> = (0..entries.len()).map_while(numbered).collect();
    value.node = if !entries.is_empty() && items.len() == entries.len() {
        YsonNode::List(items)
    } else {
        YsonNode::Map(entries)
    };
    value
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(map: YsonMap) -> String {
        String::from_utf8(yson::to_text(&value::plain(YsonNode::Map(map))).unwrap()).unwrap()
    }

    #[test]
    fn query_strings_nest() {
        for (query, wanted) in [
            ("path=//tmp&attributes[0]=type&attributes[1]=id", "{attributes=[type;id];path=\"//tmp\"}"),
            ("a%5Bb%5D=5&c=x+y%21", "{a={b=5};c=\"x y!\"}"),
            ("f[$value]=yson&f[$attributes][format]=text", "{f=<format=text>yson}"),
            ("", "{}"),
        ] {
            assert_eq!(text(from_query(query).unwrap()), wanted, "{query}");
        }
        assert!(from_query("a=1&a[b]=2").is_err());
    }

    #[test]
    fn headers_win_over_the_query_and_may_be_split() {
        let mut headers = HeaderMap::new();
        headers.insert("x-yt-header-format", "<format=text>yson".parse().unwrap());
        headers.insert("x-yt-parameters", "{path=\"//b\"}".parse().unwrap());
        let format = header_format(&headers).unwrap();
        assert_eq!(text(from_head(Some("path=//a&x=1"), &headers, format).unwrap()), "{path=\"//b\";x=1}");
        let mut headers = HeaderMap::new();
        let encoded = base64::engine::general_purpose::STANDARD.encode("{\"path\": \"//c\"}");
        headers.insert("x-yt-parameters0", encoded[..5].parse().unwrap());
        headers.insert("x-yt-parameters1", encoded[5..].parse().unwrap());
        let format = header_format(&headers).unwrap();
        assert_eq!(text(from_head(None, &headers, format).unwrap()), "{path=\"//c\"}");
    }
}
