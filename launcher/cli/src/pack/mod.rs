//! Packing: one local file or folder becomes one archive (tar + zstd) with a single top entry `root`.
//!
//! The archive depends on content only: entries are sorted, times and owners are zero, modes are 644 or 755,
//! so that equal content is an equal archive and the file cache knows it again. Nothing is held in memory but
//! one buffer; the md5 is taken on the way to the disk.
//!
//! Links: one that stays inside the source is kept (an absolute one is made relative), one that leaves it is
//! followed and its content packed in its place, since its target does not exist where the archive goes.
//!
//! What to pack and where it goes is decided elsewhere ([`crate::operation`]); this module never uploads.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

pub use cancel::Cancel;
pub use digest::{Digest, digest_file};

use digest::DigestingWriter;

mod cancel;
mod digest;
mod links;
#[cfg(test)]
mod tests;

/// Name of the single top entry of every archive.
const ROOT: &str = "root";

/// zstd's own default: beyond it an archive of sources shrinks little and takes much longer.
const COMPRESSION_LEVEL: i32 = 3;

/// What is left out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Nothing: the user named the folder, the user gets it.
    Nothing,
    /// `__pycache__` and `*.pyc`: they depend on the machine, and would change the archive at every run.
    PythonCaches,
}

/// An archive on the local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its size and md5.
    pub digest: Digest,
    /// What could not travel, one line each.
    pub warnings: Vec<String>,
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
    /// The user stopped it.
    #[error("packing was interrupted")]
    Cancelled,
}

/// Packs `source` into the new file `archive`.
///
/// Blocks: call it where that is allowed. `cancel` ends it early with [`PackError::Cancelled`].
pub fn pack(source: &Path, skip: Skip, archive: &Path, cancel: &Cancel) -> Result<Packed, PackError> {
    let write_error = |error| PackError::Write { path: archive.to_owned(), error };
    let real = fs::canonicalize(source).map_err(|error| read_error(source, error))?;
    let file = File::create(archive).map_err(write_error)?;
    let digesting = DigestingWriter::new(io::BufWriter::new(file));
    let compressing = zstd::Encoder::new(digesting, COMPRESSION_LEVEL).map_err(write_error)?;
    let mut packer = Packer {
        tar: tar::Builder::new(compressing),
        archive: archive.to_owned(),
        skip,
        cancel: cancel.clone(),
        walking: Vec::new(),
        warnings: Vec::new(),
    };
    let metadata = fs::metadata(&real).map_err(|error| read_error(source, error))?;
    if metadata.is_dir() {
        packer.add_tree(&real, Path::new(ROOT))?;
    } else if metadata.is_file() {
        packer.add_file(&real, Path::new(ROOT))?;
    } else {
        return Err(PackError::NotPackable { path: source.to_owned() });
    }
    let digest = packer
        .tar
        .into_inner()
        .and_then(zstd::Encoder::finish)
        .and_then(DigestingWriter::finish)
        .map_err(write_error)?;
    Ok(Packed { digest, warnings: packer.warnings })
}

/// One archive in the making.
struct Packer<W: io::Write> {
    tar: tar::Builder<W>,
    archive: PathBuf,
    skip: Skip,
    cancel: Cancel,
    /// Roots of the trees being walked right now, outermost first: the source, and the folders that links out
    /// of it led to.
    walking: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// What becomes of a link.
#[derive(Debug, PartialEq, Eq)]
enum LinkPlan {
    /// It stays a link with this text.
    Keep(PathBuf),
    /// Its target's content takes its place.
    Follow(PathBuf),
}

impl<W: io::Write> Packer<W> {
    /// Packs the folder `root` (canonical) and all below it; links are judged by whether they leave it.
    fn add_tree(&mut self, root: &Path, name: &Path) -> Result<(), PackError> {
        self.walking.push(root.to_owned());
        let result = self.add_folder(root, root, name);
        self.walking.pop();
        result
    }

    fn add_folder(&mut self, root: &Path, folder: &Path, name: &Path) -> Result<(), PackError> {
        let mut header = header(EntryType::Directory, 0o755, 0);
        self.append(&mut header, name, io::empty())?;
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| read_error(folder, error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if self.skip == Skip::PythonCaches && is_python_cache(&path) {
                continue;
            }
            let name = name.join(entry.file_name());
            let file_type = entry.file_type().map_err(|error| read_error(&path, error))?;
            if file_type.is_dir() {
                self.add_folder(root, &path, &name)?;
            } else if file_type.is_file() {
                self.add_file(&path, &name)?;
            } else if file_type.is_symlink() {
                self.add_link(root, &path, &name)?;
            } else {
                self.warn_special(&path);
            }
        }
        Ok(())
    }

    fn add_link(&mut self, root: &Path, path: &Path, name: &Path) -> Result<(), PackError> {
        match links::plan(root, path)? {
            LinkPlan::Keep(text) => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                let result = self.tar.append_link(&mut header, name, &text);
                result.map_err(|error| PackError::Write { path: self.archive.clone(), error })
            }
            LinkPlan::Follow(target) => {
                let metadata = fs::metadata(&target).map_err(|error| read_error(path, error))?;
                if metadata.is_dir() {
                    // A folder above one that is being walked holds the link again: there is no end to it.
                    if self.walking.iter().any(|walked| walked.starts_with(&target)) {
                        return Err(PackError::LinkLoop { path: path.to_owned(), target });
                    }
                    return self.add_tree(&target, name);
                }
                if metadata.is_file() {
                    return self.add_file(&target, name);
                }
                self.warn_special(path);
                Ok(())
            }
        }
    }

    fn add_file(&mut self, path: &Path, name: &Path) -> Result<(), PackError> {
        let file = File::open(path).map_err(|error| read_error(path, error))?;
        let metadata = file.metadata().map_err(|error| read_error(path, error))?;
        let mode = if is_executable(&metadata) { 0o755 } else { 0o644 };
        let mut header = header(EntryType::Regular, mode, metadata.len());
        let mut source = ExactReader { file, left: metadata.len(), state: ReadState::Fine };
        let result = self.append_from(&mut header, name, &mut source);
        match source.state {
            ReadState::Fine => result,
            ReadState::Short => Err(PackError::Changed { path: path.to_owned() }),
            ReadState::Failed(error) => Err(read_error(path, error)),
        }
    }

    fn append(&mut self, header: &mut Header, name: &Path, data: impl Read) -> Result<(), PackError> {
        self.append_from(header, name, data)
    }

    fn append_from(&mut self, header: &mut Header, name: &Path, data: impl Read) -> Result<(), PackError> {
        if self.cancel.is_requested() {
            return Err(PackError::Cancelled);
        }
        let data = self.cancel.reader(data);
        let result = self.tar.append_data(header, name, data);
        if self.cancel.is_requested() {
            return Err(PackError::Cancelled);
        }
        result.map_err(|error| PackError::Write { path: self.archive.clone(), error })
    }

    fn warn_special(&mut self, path: &Path) {
        self.warnings.push(format!("`{}` is neither a file nor a folder: left out", path.display()));
    }
}

/// Reads exactly as many bytes as the entry's header announced. A file that grew is cut there, as a log may
/// grow at any time; one that shrank fails, and its error is told apart from one of the archive.
struct ExactReader {
    file: File,
    left: u64,
    state: ReadState,
}

enum ReadState {
    Fine,
    Short,
    Failed(io::Error),
}

impl Read for ExactReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..want]) {
            Ok(0) => {
                self.state = ReadState::Short;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.state = ReadState::Failed(error);
                Err(kind.into())
            }
        }
    }
}

fn header(entry_type: EntryType, mode: u32, size_bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    header
}

fn is_python_cache(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "__pycache__")
        || path.extension().is_some_and(|extension| extension == "pyc")
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

fn read_error(path: &Path, error: io::Error) -> PackError {
    PackError::Read { path: path.to_owned(), error }
}
