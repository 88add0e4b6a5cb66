//! What an archive holds, found by one walk before anything is written: a sorted list of entries.
//!
//! Links: one that stays inside the source is kept (an absolute one is made relative), one that leaves it is
//! followed and its content packed in its place, since its target does not exist where the archive goes.
//!
//! Reads folders and file sizes, never contents, so that whatever cannot travel is refused before any work.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use super::rules::{Ignoring, Rules};
use super::{Cancel, PackError, links, read_error};

/// Name of the single top entry of every archive.
const ROOT: &str = "root";

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path in the archive.
    pub(super) name: PathBuf,
    pub(super) what: What,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Folder,
    File { path: PathBuf, size_bytes: u64, mode: u32 },
    Link(PathBuf),
}

/// What becomes of a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinkPlan {
    /// It stays a link with this text.
    Keep(PathBuf),
    /// Its target's content takes its place.
    Follow(PathBuf),
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) entries: Vec<Entry>,
    /// What could not travel, one line each.
    pub(super) warnings: Vec<String>,
    /// What ignore files kept at home: files, and folders with all they hold.
    pub(super) ignored: Vec<PathBuf>,
}

/// Walks `source`.
pub(super) fn walk(source: &Path, rules: Rules, cancel: &Cancel) -> Result<Walked, PackError> {
    let real = fs::canonicalize(source).map_err(|error| read_error(source, error))?;
    let metadata = fs::metadata(&real).map_err(|error| read_error(source, error))?;
    let mut walker = Walker { cancel, walking: Vec::new(), found: Walked::default() };
    if metadata.is_dir() {
        walker.add_tree(&real, Path::new(ROOT), Ignoring::new(rules))?;
    } else if metadata.is_file() {
        walker.add_file(&real, PathBuf::from(ROOT), &metadata);
    } else {
        return Err(PackError::NotPackable { path: source.to_owned() });
    }
    Ok(walker.found)
}

struct Walker<'a> {
    cancel: &'a Cancel,
    /// Roots of the trees being walked right now, outermost first: the source, and the folders that links out
    /// of it led to.
    walking: Vec<PathBuf>,
    found: Walked,
}

impl Walker<'_> {
    /// Walks the folder `root` (canonical) and all below it; links are judged by whether they leave it.
    fn add_tree(&mut self, root: &Path, name: &Path, mut ignoring: Ignoring) -> Result<(), PackError> {
        self.walking.push(root.to_owned());
        let result = self.add_folder(root, root, name, &mut ignoring);
        self.walking.pop();
        result
    }

    fn add_folder(
        &mut self,
        root: &Path,
        folder: &Path,
        name: &Path,
        ignoring: &mut Ignoring,
    ) -> Result<(), PackError> {
        if self.cancel.is_requested() {
            return Err(PackError::Cancelled);
        }
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| read_error(folder, error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        self.found.entries.push(Entry { name: name.to_owned(), what: What::Folder });
        ignoring.enter(folder)?;
        for entry in entries {
            let path = entry.path();
            let file_type = entry.file_type().map_err(|error| read_error(&path, error))?;
            if ignoring.is_cache(&path) {
                continue;
            }
            if ignoring.is_ignored(&path, file_type) {
                self.found.ignored.push(path);
                continue;
            }
            let name = name.join(entry.file_name());
            if file_type.is_dir() {
                self.add_folder(root, &path, &name, ignoring)?;
            } else if file_type.is_file() {
                let metadata = entry.metadata().map_err(|error| read_error(&path, error))?;
                self.add_file(&path, name, &metadata);
            } else if file_type.is_symlink() {
                self.add_link(root, &path, name, ignoring)?;
            } else {
                self.warn_special(&path);
            }
        }
        ignoring.leave();
        Ok(())
    }

    fn add_link(
        &mut self,
        root: &Path,
        path: &Path,
        name: PathBuf,
        ignoring: &Ignoring,
    ) -> Result<(), PackError> {
        let target = match links::plan(root, path)? {
            LinkPlan::Keep(text) => {
                self.found.entries.push(Entry { name, what: What::Link(text) });
                return Ok(());
            }
            LinkPlan::Follow(target) => target,
        };
        let metadata = fs::metadata(&target).map_err(|error| read_error(path, error))?;
        if metadata.is_dir() {
            // A folder above one that is being walked holds the link again: there is no end to it.
            if self.walking.iter().any(|walked| walked.starts_with(&target)) {
                return Err(PackError::LinkLoop { path: path.to_owned(), target });
            }
            return self.add_tree(&target, &name, ignoring.anew());
        }
        if metadata.is_file() {
            self.add_file(&target, name, &metadata);
        } else {
            self.warn_special(path);
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, name: PathBuf, metadata: &Metadata) {
        let mode = if is_executable(metadata) { 0o755 } else { 0o644 };
        let what = What::File { path: path.to_owned(), size_bytes: metadata.len(), mode };
        self.found.entries.push(Entry { name, what });
    }

    fn warn_special(&mut self, path: &Path) {
        self.found.warnings.push(format!("`{}` is neither a file nor a folder: left out", path.display()));
    }
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}
