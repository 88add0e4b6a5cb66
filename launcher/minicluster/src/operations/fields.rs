//! Reading a spec field by field, with errors that name the field by its path and a list of what nobody read.

use std::collections::BTreeSet;
use std::time::Duration;

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::YtError;
use crate::value::{self, YsonMap};

/// One map of a spec while it is read.
pub(super) struct Fields<'a> {
    path: String,
    map: &'a YsonMap,
    read: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// The map at this path of the spec; the outermost one has an empty path.
    pub(super) fn new(path: impl Into<String>, map: &'a YsonMap) -> Self {
        Fields { path: path.into(), map, read: BTreeSet::new() }
    }

    /// What was wrong with a field.
    pub(super) fn error(&self, name: &str, text: impl std::fmt::Display) -> YtError {
        YtError::generic(format!("Error parsing operation spec: {}/{name}: {text}", self.path))
    }

    fn wrong_type(&self, name: &str, wanted: &str, got: &YsonValue) -> YtError {
        self.error(name, format_args!("{wanted} is expected, got {}", value::type_name(got)))
    }

    /// A field as it is. `#` is the same as no field.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a YsonValue> {
        self.read.insert(name);
        self.map.get(name.as_bytes()).filter(|value| value.node != YsonNode::Entity)
    }

    /// Fields that are kept and shown, and have no other effect here.
    pub(super) fn accept(&mut self, names: &[&'static str]) {
        self.read.extend(names);
    }

    /// A field whose effect this server does not have: refused if it asks for anything.
    pub(super) fn refuse(&mut self, name: &'static str) -> Result<(), YtError> {
        let asks = self.take(name).is_some_and(|value| match &value.node {
            YsonNode::Boolean(flag) => *flag,
            YsonNode::List(items) => !items.is_empty(),
            _ => true,
        });
        if asks { Err(self.error(name, "not supported by this server")) } else { Ok(()) }
    }

    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<&'a str>, YtError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.wrong_type(name, "a string", value))?;
        if text.contains('\0') {
            return Err(self.error(name, "a string without NUL bytes is expected"));
        }
        Ok(Some(text))
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, YtError> {
        let Some(value) = self.take(name) else { return Ok(false) };
        value::as_bool(value).ok_or_else(|| self.wrong_type(name, "a boolean", value))
    }

    /// An integer between two bounds.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        least: i64,
        most: i64,
    ) -> Result<Option<u64>, YtError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value::as_i64(value).ok_or_else(|| self.wrong_type(name, "an integer", value))?;
        if !(least..=most).contains(&number) {
            return Err(self.error(name, format_args!("expected {least} to {most}, got {number}")));
        }
        Ok(u64::try_from(number).ok())
    }

    pub(super) fn milliseconds(&mut self, name: &'static str) -> Result<Option<Duration>, YtError> {
        Ok(self.integer(name, 0, i64::MAX)?.map(Duration::from_millis))
    }

    pub(super) fn map(&mut self, name: &'static str) -> Result<Option<&'a YsonMap>, YtError> {
        let Some(found) = self.take(name) else { return Ok(None) };
        value::as_map(found).map(Some).ok_or_else(|| self.wrong_type(name, "a map", found))
    }

    pub(super) fn list(&mut self, name: &'static str) -> Result<&'a [YsonValue], YtError> {
        let Some(found) = self.take(name) else { return Ok(&[]) };
        value::as_list(found).ok_or_else(|| self.wrong_type(name, "a list", found))
    }

    /// What nobody asked for.
    pub(super) fn unrecognized(&self) -> YsonMap {
        let unread = self
            .map
            .iter()
            .filter(|(name, _)| std::str::from_utf8(name).map_or(true, |name| !self.read.contains(name)));
        unread.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
