//! Files, tables and the file cache: what is written and read in bulk. The bytes themselves are in `storage`.

use std::sync::Arc;

use ytsaurus_yson::YsonValue;

use super::copy::{CopyKind, CopyOptions};
use super::create::{Existing, Recursive};
use super::node::{Content, ContentDelta, FileAppend, FileContent, FileHash, NodeType, TableContent};
use super::path::YPath;
use super::table::{RowChunk, TableSchema};
use super::{Change, Cypress, LockKey, LockMode, Scope, escape_key};
use crate::error::YtError;
use crate::formats::rows::EncodedRows;
use crate::guid::Guid;
use crate::value;

/// Whether a write keeps what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// It replaces it.
    No,
    /// It goes behind it.
    Yes,
}

/// Rows that fit a schema.
#[derive(Debug)]
pub struct CheckedRows {
    chunk: Arc<RowChunk>,
    schema: Arc<TableSchema>,
}

impl CheckedRows {
    /// Holds rows against a schema.
    pub fn new(rows: EncodedRows, schema: Arc<TableSchema>) -> Result<CheckedRows, YtError> {
        let chunk = Arc::new(RowChunk::new(schema.check_rows(rows)?));
        Ok(CheckedRows { chunk, schema })
    }

    fn against(self, schema: &Arc<TableSchema>) -> Result<Arc<RowChunk>, YtError> {
        if Arc::ptr_eq(&self.schema, schema) || self.schema == *schema {
            return Ok(self.chunk);
        }
        Ok(CheckedRows::new(self.chunk.rows.clone(), Arc::clone(schema))?.chunk)
    }
}

/// A hash as lower-case hexadecimal text.
pub(super) fn hex(md5: &FileHash) -> String {
    use std::fmt::Write;
    md5.digest().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Cypress {
    // === files ===

    /// The content of a file.
    pub fn file(&self, path: &YPath, scope: Scope<'_>) -> Result<(Guid, u64, FileContent), YtError> {
        let id = self.resolve_node(path, scope)?;
        let state = self.state(self.existing(id)?, scope.transaction);
        match state.content {
            Content::File(file) => Ok((id, state.stamps.revision(), file)),
            _ => Err(self.wrong_type(id, "file")),
        }
    }

    /// What a job needs to know about a file besides its bytes: `@executable`, and its name.
    pub fn file_facts(&self, path: &YPath, scope: Scope<'_>) -> Result<(bool, String), YtError> {
        let id = self.resolve_node(path, scope)?;
        let node = self.existing(id)?;
        let state = self.state(node, scope.transaction);
        let executable = state.attributes.get("executable").and_then(value::as_bool).unwrap_or(false);
        let own_name = state.attributes.get("file_name").and_then(YsonValue::as_str).map(str::to_owned);
        let last_key = path.steps.last().map(|step| step.key.clone());
        let key = node.parent.as_ref().map(|(_, key)| key.clone());
        let name = own_name.or(last_key).or(key).unwrap_or_else(|| id.to_string());
        Ok((executable, name))
    }

    /// Fails if a write would be refused, before its bytes are read.
    pub fn check_write(
        &self,
        path: &YPath,
        scope: Scope<'_>,
        append: Append,
        node_type: NodeType,
    ) -> Result<Guid, YtError> {
        let id = self.resolve_node(path, scope).map_err(|error| {
            YtError::new(error.code, "Error getting basic attributes of user objects").with_inner(error)
        })?;
        if self.existing(id)?.node_type != node_type {
            return Err(self.wrong_type(id, node_type.name()));
        }
        self.check_lock(id, scope.transaction, write_mode(append), &LockKey::None)?;
        Ok(id)
    }

    /// Puts written bytes into a file. Their hash is that over everything that the file holds afterwards; with an
    /// append it is kept only if the file still has the revision that it went on from.
    pub fn write_file(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        append: Append,
        written: FileContent,
        hashed_revision: u64,
    ) -> Result<(), YtError> {
        let id = self.check_write(path, scope, append, NodeType::File)?;
        self.lock_for_change(id, scope, write_mode(append), LockKey::None)?;
        let delta = match append {
            Append::No => ContentDelta::Replaced(Content::File(written)),
            Append::Yes => {
                let (_, revision, old) = self.file(path, scope)?;
                let md5 = written.md5.filter(|_| revision == hashed_revision);
                let more = FileContent { data: written.data, md5 };
                ContentDelta::AppendedFile(FileAppend { more, behind_bytes: old.data.length() })
            }
        };
        self.modify(id, scope.transaction, Change::Content(delta));
        Ok(())
    }

    // === tables ===

    /// A table as it is now.
    pub fn table(&self, path: &YPath, scope: Scope<'_>) -> Result<TableContent, YtError> {
        let id = self.resolve_node(path, scope).map_err(|error| {
            YtError::new(error.code, "Error getting basic attributes of user objects").with_inner(error)
        })?;
        match self.state(self.existing(id)?, scope.transaction).content {
            Content::Table(table) => Ok(table),
            _ => Err(self.wrong_type(id, "table")),
        }
    }

    /// Puts rows into a table. They were held against its schema outside the mutex; if it has changed since then,
    /// they are again.
    pub fn write_table(
        &mut self,
        path: &YPath,
        scope: Scope<'_>,
        append: Append,
        rows: CheckedRows,
    ) -> Result<(), YtError> {
        let id = self.check_write(path, scope, append, NodeType::Table)?;
        let table = self.table(path, scope)?;
        let chunk = rows.against(&table.schema)?;
        if append == Append::Yes {
            let last_chunk = table.chunks.iter().rev().find(|chunk| !chunk.rows.is_empty());
            if let Some(last_chunk) = last_chunk.filter(|_| !table.schema.key_columns().is_empty()) {
                let last = last_chunk.rows.decode(last_chunk.rows.len() - 1);
                table.schema.check_order(last.as_ref(), chunk.rows.decode(0).as_ref())?;
            }
        }
        let chunks = if chunk.rows.is_empty() { Vec::new() } else { vec![chunk] };
        if chunks.is_empty() && append == Append::Yes {
            return Ok(());
        }
        self.lock_for_change(id, scope, write_mode(append), LockKey::None)?;
        let delta = match append {
            Append::Yes => ContentDelta::AppendedRows(chunks),
            Append::No => {
                ContentDelta::Replaced(Content::Table(TableContent { schema: table.schema.clone(), chunks }))
            }
        };
        self.modify(id, scope.transaction, Change::Content(delta));
        Ok(())
    }

    /// `concatenate`: the contents of all sources, one behind the other.
    pub fn concatenate(
        &mut self,
        sources: &[YPath],
        destination: &YPath,
        scope: Scope<'_>,
        append: Append,
    ) -> Result<(), YtError> {
        let into = self.resolve_node(destination, scope)?;
        match self.existing(into)?.node_type {
            NodeType::File => {
                let mut all = FileContent::default();
                for source in sources {
                    all.data.append(&self.file(source, scope)?.2.data);
                }
                self.write_file(destination, scope, append, all, 0)
            }
            NodeType::Table => {
                let mut rows = EncodedRows::default();
                for source in sources {
                    for chunk in self.table(source, scope)?.chunks {
                        chunk.rows.iter().for_each(|row| rows.push_encoded(row));
                    }
                }
                let schema = self.table(destination, scope)?.schema;
                self.write_table(destination, scope, append, CheckedRows::new(rows, schema)?)
            }
            _ => Err(self.wrong_type(into, "file or table")),
        }
    }

    fn wrong_type(&self, id: Guid, wanted: &str) -> YtError {
        let found = self.nodes.get(&id).map_or("nothing", |node| node.node_type.name());
        YtError::generic(format!(
            "Invalid type of {}: expected \"{wanted}\", actual \"{found}\"",
            self.path_of(id)
        ))
    }

    // === the file cache ===

    fn cache_place(cache: &str, md5: &str) -> Result<YPath, YtError> {
        let hash_is_fine = md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hash_is_fine {
            return Err(YtError::generic(format!(
                "Invalid MD5 hash {md5:?}: 32 hexadecimal digits are expected"
            )));
        }
        YPath::parse(&format!("{cache}/{}/{}", escape_key(&md5[30..]), escape_key(md5)))
    }

    /// `get_file_from_cache`: the path, or nothing if the cache has no such file.
    pub fn file_from_cache(
        &mut self,
        cache: &str,
        md5: &str,
        scope: Scope<'_>,
    ) -> Result<Option<String>, YtError> {
        let place = Self::cache_place(cache, md5)?;
        let Ok((id, _, file)) = self.file(&place, scope) else { return Ok(None) };
        if file.md5.as_ref().map(hex).as_deref() != Some(md5) {
            return Ok(None);
        }
        self.set_attribute(id, None, "touched", Some(value::boolean(true)));
        Ok(Some(place.text().to_owned()))
    }

    /// `put_file_to_cache`: copies a file to its place and returns the path.
    pub fn put_file_to_cache(
        &mut self,
        path: &YPath,
        cache: &str,
        md5: &str,
        preserve_expiration: bool,
        scope: Scope<'_>,
    ) -> Result<String, YtError> {
        let place = Self::cache_place(cache, md5)?;
        let (source, _, file) = self.file(path, scope)?;
        let actual = file.md5.as_ref().map(hex).ok_or_else(|| {
            YtError::generic(format!("File {path} has no MD5 hash: write it with \"compute_md5\"=%true"))
        })?;
        if actual != md5 {
            return Err(YtError::generic(format!("MD5 hash mismatch: expected {md5}, actual {actual}")));
        }
        self.check_lock(source, scope.transaction, LockMode::Exclusive, &LockKey::None)?;
        // The cache itself must be there; only the folder of two digits is made.
        let cache_path = YPath::parse(cache)?;
        self.resolve_node(&cache_path, scope)?;
        let options = CopyOptions {
            recursive: Recursive::Yes,
            existing: Existing::Ignore { any_type: false, lock: false },
            preserve_creation_time: false,
            preserve_modification_time: false,
            preserve_expiration,
        };
        // A file of another content at this place is a damaged cache: it is replaced.
        let damaged =
            self.file(&place, scope).is_ok_and(|(_, _, old)| old.md5.as_ref().map(hex) != Some(actual));
        if damaged {
            self.remove(&place, scope, true, true)?;
        }
        let id = self.copy(path, &place, scope, CopyKind::Copy, &options)?;
        self.set_attribute(id, scope.transaction, "touched", Some(value::boolean(true)));
        Ok(place.text().to_owned())
    }
}

fn write_mode(append: Append) -> LockMode {
    match append {
        Append::No => LockMode::Exclusive,
        Append::Yes => LockMode::Shared,
    }
}
