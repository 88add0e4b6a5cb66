//! What of a folder stays at home: Python's caches, and what the folder's own ignore files name.
//!
//! Only ignore files inside the packed folder count. Those above it, and the user's global ones, would make the
//! archive depend on where the folder lies and on whose laptop that is; and a folder that its repository ignores
//! (`data/`) but that the user names as a bind is wanted.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::PackError;

/// Ours: the syntax of `.gitignore`, and the last word where both say something.
const OWN_IGNORE_FILE: &str = ".tractorunignore";

/// Git's.
const GIT_IGNORE_FILE: &str = ".gitignore";

/// What is left out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether Python's caches travel.
    pub python_caches: PythonCaches,
    /// Which ignore files count.
    pub ignore_files: IgnoreFiles,
}

/// Whether `__pycache__` and `*.pyc` travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonCaches {
    /// They do: the user named the folder, the user gets it.
    Keep,
    /// They do not: they depend on the machine, and would change the archive at every run.
    LeaveOut,
}

/// Which ignore files inside a packed folder count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgnoreFiles {
    /// None: everything travels.
    None,
    /// `.tractorunignore`.
    Own,
    /// `.gitignore` and `.tractorunignore`; `.git` itself does not travel either.
    Git,
}

/// The rules, and the ignore files of all folders from the root of the walk to the one being walked.
pub(super) struct Ignoring {
    rules: Rules,
    /// One for each folder on the way; `None` where it has no ignore file.
    matchers: Vec<Option<Gitignore>>,
}

// === impl IgnoreFiles ===

impl IgnoreFiles {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 3] =
        [("gitignore", Self::Git), ("tractorunignore", Self::Own), ("none", Self::None)];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Git => "gitignore",
            Self::Own => "tractorunignore",
            Self::None => "none",
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Own => &[OWN_IGNORE_FILE],
            // Later lines win, so ours come last.
            Self::Git => &[GIT_IGNORE_FILE, OWN_IGNORE_FILE],
        }
    }
}

// === impl Ignoring ===

impl Ignoring {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, matchers: Vec::new() }
    }

    /// A walk of its own, such as of a folder that a link led to.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.rules)
    }

    /// The walk goes into `folder`; its ignore files count until [`Self::leave`].
    pub(super) fn enter(&mut self, folder: &Path) -> Result<(), PackError> {
        let mut builder = GitignoreBuilder::new(folder);
        let mut found = false;
        for name in self.rules.ignore_files.names() {
            let path = folder.join(name);
            // A folder or a dangling link of that name says nothing; git thinks so too.
            if path.is_file() {
                found = true;
                if let Some(error) = builder.add(&path) {
                    return Err(bad_file(&path, &error));
                }
            }
        }
        let matcher = found.then(|| builder.build().map_err(|error| bad_file(folder, &error))).transpose()?;
        self.matchers.push(matcher);
        Ok(())
    }

    /// The walk leaves the folder it entered last.
    pub(super) fn leave(&mut self) {
        self.matchers.pop();
    }

    /// Whether a Python cache is to be left out; nobody is told of those.
    pub(super) fn is_cache(&self, path: &Path) -> bool {
        self.rules.python_caches == PythonCaches::LeaveOut
            && (path.file_name().is_some_and(|name| name == "__pycache__")
                || path.extension().is_some_and(|extension| extension == "pyc"))
    }

    /// Whether an ignore file says that the entry stays at home. The nearest file that says anything decides.
    pub(super) fn is_ignored(&self, path: &Path, file_type: FileType) -> bool {
        if self.rules.ignore_files == IgnoreFiles::Git && path.file_name().is_some_and(|name| name == ".git")
        {
            return true;
        }
        for matcher in self.matchers.iter().rev().flatten() {
            match matcher.matched(path, file_type.is_dir()) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

fn bad_file(path: &Path, error: &ignore::Error) -> PackError {
    PackError::IgnoreFile { path: PathBuf::from(path), reason: error.to_string() }
}
