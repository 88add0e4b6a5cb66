//! Packing: one local file or folder becomes one archive (tar + zstd) with a single top entry `root`.
//!
//! ```text
//! walk ──▶ entries ──▶ cut ──▶ parts ──▶ write, some side by side ──▶ files and their md5
//! ```
//!
//! The archive depends on content only: entries are sorted, times and owners are zero, modes are 644 or 755,
//! so that equal content is an equal archive and the file cache knows it again. A large one comes in parts
//! ([`parts`] says why). Nothing is held in memory but the list of entries and a buffer for each thread.
//!
//! What to pack and where it goes is decided elsewhere ([`crate::operation`]); this module never uploads.

use std::io;
use std::path::{Path, PathBuf};

pub use cancel::Cancel;
pub use digest::{Digest, digest_file};
pub use rules::{IgnoreFiles, PythonCaches, Rules};
pub use survey::{Survey, survey};

mod cancel;
mod digest;
mod links;
mod parts;
mod rules;
mod survey;
#[cfg(test)]
mod tests;
mod walk;
mod write;

/// An archive on the local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its files in order, at least one.
    pub parts: Vec<PackedPart>,
    /// What could not travel, one line each.
    pub warnings: Vec<String>,
    /// What ignore files kept at home: files, and folders with all they hold.
    pub ignored: Vec<PathBuf>,
}

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedPart {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size and md5.
    pub digest: Digest,
}

/// Why something could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or folder of the source could not be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write the archive `{}`: {error}", path.display())]
    Write {
        /// The archive.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("`{}` changed while it was packed\nhint: nothing may write to it during the start", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A link to nowhere that cannot be kept as it is.
    #[error("link `{}` points to `{}`, which does not exist", path.display(), target.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// Following a link would never end.
    #[error(
        "link `{}` leads to `{}`, a folder that it lies in itself\nhint: remove the link, or bind a folder \
         without it",
        path.display(), target.display()
    )]
    LinkLoop {
        /// The link.
        path: PathBuf,
        /// The folder it leads to.
        target: PathBuf,
    },
    /// The source is neither a file nor a folder.
    #[error("`{}` is neither a file nor a folder", path.display())]
    NotPackable {
        /// The source.
        path: PathBuf,
    },
    /// An ignore file holds a line that is no pattern.
    #[error(
        "cannot read `{}`: {reason}\nhint: mend the line, or give `--bind-ignore none` to pack everything",
        path.display()
    )]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        reason: String,
    },
    /// The user stopped it.
    #[error("packing was interrupted")]
    Cancelled,
}

/// Packs `source` into new files: the parts of the archive `archive`, named as
/// [`tractorun_contract::job_spec::part_name`] says.
///
/// Blocks: call it where that is allowed. `cancel` ends it early with [`PackError::Cancelled`].
pub fn pack(source: &Path, rules: Rules, archive: &Path, cancel: &Cancel) -> Result<Packed, PackError> {
    pack_in_parts(source, rules, archive, parts::PART_BYTES, cancel)
}

fn pack_in_parts(
    source: &Path,
    rules: Rules,
    archive: &Path,
    part_bytes: u64,
    cancel: &Cancel,
) -> Result<Packed, PackError> {
    let walk::Walked { entries, warnings, ignored } = walk::walk(source, rules, cancel)?;
    let parts = parts::cut(&entries, part_bytes);
    let parts = write::write_all(&entries, &parts, archive, cancel)?;
    Ok(Packed { parts, warnings, ignored })
}

fn read_error(path: &Path, error: io::Error) -> PackError {
    PackError::Read { path: path.to_owned(), error }
}
