//! Paths inside a value: `@topology/3/address`, `//document/key/0`.

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::YtError;

/// What the parser of values allows, too: deeper values could exhaust the stack.
const MAX_DEPTH: usize = 128;

fn depth(value: &YsonValue) -> usize {
    let inner = match &value.node {
        YsonNode::Map(entries) => entries.values().map(depth).max(),
        YsonNode::List(items) => items.iter().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// The part of a value that a path leads to.
pub(super) fn get<'a>(value: &'a YsonValue, path: &[String]) -> Result<&'a YsonValue, YtError> {
    let mut current = value;
    for key in path {
        current = match &current.node {
            YsonNode::Map(entries) => entries.get(key.as_bytes()).ok_or_else(|| no_key(key))?,
            YsonNode::List(items) => &items[index(items.len(), key)?],
            _ => return Err(no_children(key)),
        };
    }
    Ok(current)
}

/// Puts a new part into a value. Its parent must exist.
pub(super) fn set(value: &mut YsonValue, path: &[String], new: YsonValue) -> Result<(), YtError> {
    if path.len() + depth(&new) > MAX_DEPTH {
        return Err(YtError::generic(format!("Depth limit of {MAX_DEPTH} is exceeded")));
    }
    let Some((last, way)) = path.split_last() else {
        *value = new;
        return Ok(());
    };
    match &mut get_mut(value, way)?.node {
        YsonNode::Map(entries) => {
            entries.insert(last.clone().into_bytes(), new);
        }
        YsonNode::List(items) => {
            if let Some(at) = insertion(items.len(), last)? {
                items.insert(at, new);
            } else {
                let at = index(items.len(), last)?;
                items[at] = new;
            }
        }
        _ => return Err(no_children(last)),
    }
    Ok(())
}

/// Takes a part out of a value. An empty path is the caller's mistake and an error.
pub(super) fn remove(value: &mut YsonValue, path: &[String]) -> Result<(), YtError> {
    let Some((last, way)) = path.split_last() else {
        return Err(YtError::generic("A value cannot be removed from itself"));
    };
    match &mut get_mut(value, way)?.node {
        YsonNode::Map(entries) => entries.remove(last.as_bytes()).map(drop).ok_or_else(|| no_key(last)),
        YsonNode::List(items) => {
            let at = index(items.len(), last)?;
            items.remove(at);
            Ok(())
        }
        _ => Err(no_children(last)),
    }
}

/// The keys of a map, or nothing for other values.
pub(super) fn keys(value: &YsonValue) -> Option<Vec<Vec<u8>>> {
    match &value.node {
        YsonNode::Map(entries) => Some(entries.keys().cloned().collect()),
        _ => None,
    }
}

fn get_mut<'a>(value: &'a mut YsonValue, path: &[String]) -> Result<&'a mut YsonValue, YtError> {
    let mut current = value;
    for key in path {
        current = match &mut current.node {
            YsonNode::Map(entries) => entries.get_mut(key.as_bytes()).ok_or_else(|| no_key(key))?,
            YsonNode::List(items) => {
                let at = index(items.len(), key)?;
                &mut items[at]
            }
            _ => return Err(no_children(key)),
        };
    }
    Ok(current)
}

fn no_key(key: &str) -> YtError {
    YtError::resolve(format!("Value has no child with key {key:?}"))
}

fn no_children(key: &str) -> YtError {
    YtError::resolve(format!("Value is neither a map nor a list, so it has no child {key:?}"))
}

/// `0`, `-1` as an index into a list of this length.
fn index(length: usize, text: &str) -> Result<usize, YtError> {
    let number: i64 = text.parse().map_err(|_| {
        YtError::resolve(format!("Error parsing list index {text:?}: an integer is expected"))
    })?;
    let at =
        if number < 0 { i64::try_from(length).unwrap_or(i64::MAX).checked_add(number) } else { Some(number) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < length).ok_or_else(|| {
        YtError::resolve(format!("Index {number} is out of range: the list has {length} items"))
    })
}

/// `begin`, `end`, `before:0`, `after:-1`: where to insert; an index is none of these.
fn insertion(length: usize, text: &str) -> Result<Option<usize>, YtError> {
    Ok(match text {
        "begin" => Some(0),
        "end" => Some(length),
        _ => match text.split_once(':') {
            Some(("before", at)) => Some(index(length, at)?),
            Some(("after", at)) => Some(index(length, at)? + 1),
            _ => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::yson;

    fn path(text: &str) -> Vec<String> {
        text.split('/').filter(|key| !key.is_empty()).map(str::to_owned).collect()
    }

    fn after_set(value: &str, at: &str, new: &str) -> Result<String, YtError> {
        let mut value = yson::parse(value.as_bytes())?;
        set(&mut value, &path(at), yson::parse(new.as_bytes())?)?;
        Ok(String::from_utf8(yson::to_text(&value)?).unwrap())
    }

    #[test]
    fn parts_are_replaced_and_inserted() {
        for (value, at, new, wanted) in [
            ("{a=1}", "b", "2", "{a=1;b=2}"),
            ("{a={b=1}}", "a/b", "2", "{a={b=2}}"),
            ("[1;2]", "1", "3", "[1;3]"),
            ("[1;2]", "-2", "3", "[3;2]"),
            ("[1;2]", "end", "3", "[1;2;3]"),
            ("[1;2]", "begin", "3", "[3;1;2]"),
            ("[1;2]", "before:1", "3", "[1;3;2]"),
            ("[1;2]", "after:0", "3", "[1;3;2]"),
            ("1", "", "2", "2"),
        ] {
            assert_eq!(after_set(value, at, new).unwrap(), wanted, "{value} {at}");
        }
        for (value, at) in [("{a=1}", "b/c"), ("[1]", "1"), ("[1]", "-2"), ("[1]", "x"), ("1", "a")] {
            assert!(after_set(value, at, "2").is_err(), "{value} {at}");
        }
    }

    #[test]
    fn parts_are_removed() {
        let mut value = yson::parse(b"{a=[1;2];b=3}").unwrap();
        remove(&mut value, &path("a/0")).unwrap();
        remove(&mut value, &path("b")).unwrap();
        assert_eq!(yson::to_text(&value).unwrap(), b"{a=[2]}");
        assert!(remove(&mut value, &path("b")).is_err());
        assert!(remove(&mut value, &[]).is_err());
        assert_eq!(get(&value, &path("a/-1")).unwrap(), &crate::value::int64(2));
    }
}
