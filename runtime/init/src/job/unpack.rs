//! Unpacks one archive (tar + zstd, one top entry `root`, in one or more files) at its destination.
//!
//! An archive is not trusted: whatever it holds, nothing is written outside the destination. Entries are
//! written through folder descriptors, one path component at a time and never through a symbolic link, so
//! that no entry can redirect a later one; links may only lead to what is inside. Anything that is neither
//! file, folder nor symbolic link is refused. Owners and times are not restored, nor are bits above 0777.
//!
//! Blocks: call it where that is allowed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use tar::EntryType;

/// The only top entry.
const ROOT: &[u8] = b"root";

/// Longest path of an entry: no program could open a longer one.
const MAX_PATH_BYTES: usize = 4096;

/// Longest name that Linux's file systems take.
const MAX_NAME_BYTES: usize = 255;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("cannot unpack `{}`: {reason}", archive.display())]
    Archive { archive: PathBuf, reason: ArchiveError },
    #[error("cannot unpack `{}`: entry `{entry}`: {reason}", archive.display())]
    Entry { archive: PathBuf, entry: String, reason: EntryError },
}

/// What is wrong with the archive or its destination as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    #[error("its part `{}`: {source}", path.display())]
    Part { path: PathBuf, source: std::io::Error },
    #[error("it is empty")]
    Empty,
    #[error("destination `{}`: {source}", path.display())]
    Destination { path: PathBuf, source: std::io::Error },
    #[error("destination `{}` is not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("destination `{}` is a folder, and the archive holds a single file", .0.display())]
    IsAFolder(PathBuf),
    #[error("it was interrupted")]
    Cancelled,
}

/// What is wrong with one entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    #[error("its path is absolute")]
    Absolute,
    #[error("its path contains `..`")]
    DotDot,
    #[error("its path contains a NUL byte")]
    Nul,
    #[error("its path is longer than {MAX_PATH_BYTES} bytes, or a name in it than {MAX_NAME_BYTES}")]
    TooLong,
    #[error("expected `root` and what is below it")]
    NotRoot,
    #[error("`root` is a file: expected nothing besides it")]
    BesidesFile,
    #[error("it is a {0}: expected a file, a folder or a symbolic link")]
    Type(&'static str),
    #[error("`root` is a symbolic link: expected a file or a folder")]
    RootLink,
    #[error("it links to `{0}`, which is outside of the destination")]
    LinkOutside(String),
    #[error("it links to `{0}`: expected `..` only at the beginning")]
    LinkDotDot(String),
    #[error("it lies below `{0}`, which is not a folder")]
    BelowNonFolder(String),
    #[error("there is a folder in its place")]
    InPlaceOfFolder,
    #[error("there is something else than a folder in its place")]
    InPlaceOfNonFolder,
    #[error("it is cut off: {got} of {size} bytes")]
    CutOff { got: u64, size: u64 },
    #[error("{0}")]
    Io(std::io::Error),
}

/// Where the archive goes, known from its first entry.
enum Target {
    Undecided,
    Folder(OwnedFd),
    /// The single file is written.
    File,
}

/// What is written for an entry.
enum Kind {
    File,
    Folder,
    Link(Vec<u8>),
}

/// Unpacks an archive at the absolute path `destination`; `files` are its parts in order. A folder is merged into one that is there, a file
/// replaces one that is there; parents are made. Stops soon after `cancelled` becomes true.
pub(super) fn unpack(
    files: &[PathBuf],
    destination: &Path,
    cancelled: &AtomicBool,
) -> Result<(), UnpackError> {
    // Errors name the archive by its first file.
    let archive = files.first().map_or(Path::new(""), PathBuf::as_path);
    let of_archive = |reason| UnpackError::Archive { archive: archive.to_owned(), reason };
    let parts = Parts::open(files).map_err(of_archive)?;
    let decoder = zstd::Decoder::new(BufReader::new(parts)).map_err(|error| of_archive(error.into()))?;
    let mut tar = tar::Archive::new(decoder);
    let mut target = Target::Undecided;
    for entry in tar.entries().map_err(|error| of_archive(error.into()))? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(of_archive(ArchiveError::Cancelled));
        }
        let mut entry = entry.map_err(|error| of_archive(error.into()))?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let of_entry =
            |reason| UnpackError::Entry { archive: archive.to_owned(), entry: shown(&path), reason };
        let below_root = components(&path).map_err(of_entry)?;
        let kind = kind(&entry, &below_root).map_err(of_entry)?;
        if let Target::Undecided = target {
            target = match (&kind, below_root.is_empty()) {
                (Kind::File, true) => {
                    let (parent, name) = parent_of(destination).map_err(of_archive)?;
                    write_file(&parent, name, &mut entry).map_err(|error| match error {
                        EntryError::InPlaceOfFolder => {
                            of_archive(ArchiveError::IsAFolder(destination.into()))
                        }
                        error => of_entry(error),
                    })?;
                    Target::File
                }
                _ => Target::Folder(make_destination(destination).map_err(of_archive)?),
            };
            if let Target::File = target {
                continue;
            }
        }
        match &target {
            Target::Folder(root) => write(root, &below_root, &kind, &mut entry).map_err(of_entry)?,
            Target::File | Target::Undecided => return Err(of_entry(EntryError::BesidesFile)),
        }
    }
    match target {
        Target::Undecided => Err(of_archive(ArchiveError::Empty)),
        Target::Folder(_) | Target::File => Ok(()),
    }
}

/// The parts of an archive as one stream: zstd frames that follow each other are read as one.
struct Parts(VecDeque<File>);

impl Parts {
    fn open(files: &[PathBuf]) -> Result<Self, ArchiveError> {
        let open = |(index, path): (usize, &PathBuf)| {
            File::open(path).map_err(|source| match index {
                0 => ArchiveError::Unreadable(source),
                _ => ArchiveError::Part { path: path.clone(), source },
            })
        };
        files.iter().enumerate().map(open).collect::<Result<_, _>>().map(Self)
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(file) = self.0.front_mut() {
            match file.read(buffer)? {
                0 if !buffer.is_empty() => drop(self.0.pop_front()),
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

/// A path as an error shows it: on one line and not too long.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(&path[..path.len().min(200)]).escape_debug().to_string();
    if path.len() > 200 { format!("{text}...") } else { text }
}

/// The components of an entry's path below `root`.
fn components(path: &[u8]) -> Result<Vec<OsString>, EntryError> {
    if path.contains(&0) {
        return Err(EntryError::Nul);
    }
    if path.first() == Some(&b'/') {
        return Err(EntryError::Absolute);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(EntryError::TooLong);
    }
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(EntryError::DotDot),
            name if name.len() > MAX_NAME_BYTES => return Err(EntryError::TooLong),
            name => components.push(OsStr::from_bytes(name).to_owned()),
        }
    }
    if components.first().is_none_or(|first| first.as_bytes() != ROOT) {
        return Err(EntryError::NotRoot);
    }
    components.remove(0);
    Ok(components)
}

fn kind<R: Read>(entry: &tar::Entry<'_, R>, below_root: &[OsString]) -> Result<Kind, EntryError> {
    match entry.header().entry_type() {
        // A sparse file reads as the whole one.
        EntryType::Regular | EntryType::GNUSparse => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::Symlink if below_root.is_empty() => Err(EntryError::RootLink),
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            check_link(&target, below_root.len() - 1)?;
            Ok(Kind::Link(target))
        }
        EntryType::Link => Err(EntryError::Type("hard link")),
        EntryType::Char | EntryType::Block => Err(EntryError::Type("device")),
        EntryType::Fifo => Err(EntryError::Type("named pipe")),
        _ => Err(EntryError::Type("thing of an unknown kind")),
    }
}

/// Checks where a link leads that lies `depth` folders below the destination.
///
/// `..` is allowed at the beginning only: there it climbs through folders that were written as such, and
/// after a name, which may be a link itself, nobody could tell where it leads.
fn check_link(target: &[u8], depth: usize) -> Result<(), EntryError> {
    if target.contains(&0) {
        return Err(EntryError::Nul);
    }
    if target.len() >= MAX_PATH_BYTES {
        return Err(EntryError::TooLong);
    }
    if target.is_empty() || target.first() == Some(&b'/') {
        return Err(EntryError::LinkOutside(shown(target)));
    }
    let mut climbed = 0;
    let mut named = false;
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if named => return Err(EntryError::LinkDotDot(shown(target))),
            b".." => climbed += 1,
            _ => named = true,
        }
    }
    if climbed > depth { Err(EntryError::LinkOutside(shown(target))) } else { Ok(()) }
}

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Makes the destination folder, or opens the one that is there. Its own path may go through links: the
/// user wrote it, not the archive.
fn make_destination(path: &Path) -> Result<OwnedFd, ArchiveError> {
    let failed = |source| ArchiveError::Destination { path: path.to_owned(), source };
    match std::fs::create_dir_all(path) {
        Ok(()) => {}
        Err(_) if path.exists() && !path.is_dir() => return Err(ArchiveError::NotAFolder(path.to_owned())),
        Err(error) => return Err(failed(error)),
    }
    open(path, FOLDER, Mode::empty()).map_err(|errno| failed(errno.into()))
}

/// Makes and opens the folder of a destination that is a file.
fn parent_of(destination: &Path) -> Result<(OwnedFd, &OsStr), ArchiveError> {
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        return Err(ArchiveError::IsAFolder(destination.to_owned()));
    };
    Ok((make_destination(parent)?, name))
}

/// Writes one entry below the destination's folder.
fn write<R: Read>(
    root: &OwnedFd,
    below_root: &[OsString],
    kind: &Kind,
    entry: &mut tar::Entry<'_, R>,
) -> Result<(), EntryError> {
    let Some((name, folders)) = below_root.split_last() else {
        // `root` itself: it is there already.
        return match kind {
            Kind::Folder => Ok(()),
            Kind::File | Kind::Link(_) => Err(EntryError::InPlaceOfFolder),
        };
    };
    let mut parent = root.try_clone().map_err(EntryError::Io)?;
    for folder in folders {
        parent = open_or_make(&parent, folder).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => EntryError::BelowNonFolder(shown(folder.as_bytes())),
            errno => EntryError::Io(errno.into()),
        })?;
    }
    match kind {
        Kind::File => write_file(&parent, name, entry),
        Kind::Folder => write_folder(&parent, name, mode(entry)?),
        Kind::Link(target) => {
            clear(&parent, name)?;
            symlinkat(OsStr::from_bytes(target), &parent, name.as_os_str()).map_err(io)
        }
    }
}

fn open_or_make(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(&parent, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty()) {
        Err(Errno::ENOENT) => {
            mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
            openat(&parent, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty())
        }
        other => other,
    }
}

fn write_folder(parent: &OwnedFd, name: &OsStr, mode: Mode) -> Result<(), EntryError> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => {
            let folder = openat(parent, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty()).map_err(io)?;
            // Entries below it are still to come.
            fchmod(&folder, mode | Mode::S_IRWXU).map_err(io)
        }
        // A folder that is there is merged into and keeps its mode.
        Err(Errno::EEXIST) => match openat(parent, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(_) => Ok(()),
            Err(Errno::ENOTDIR | Errno::ELOOP) => Err(EntryError::InPlaceOfNonFolder),
            Err(errno) => Err(io(errno)),
        },
        Err(errno) => Err(io(errno)),
    }
}

fn write_file<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut tar::Entry<'_, R>,
) -> Result<(), EntryError> {
    let mode = mode(entry)?;
    let size = entry.size();
    clear(parent, name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io)?);
    let got = std::io::copy(entry, &mut file).map_err(EntryError::Io)?;
    if got != size {
        return Err(EntryError::CutOff { got, size });
    }
    fchmod(&file, mode).map_err(io)
}

/// Removes what is in the place of a file or link; a folder stays.
fn clear(parent: &OwnedFd, name: &OsStr) -> Result<(), EntryError> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => Err(EntryError::InPlaceOfFolder),
        Err(errno) => Err(io(errno)),
    }
}

fn mode<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Mode, EntryError> {
    let mode = entry.header().mode().map_err(EntryError::Io)?;
    // Set-user-id and its like must not come from an archive.
    Ok(Mode::from_bits_truncate(mode & 0o777))
}

fn io(errno: Errno) -> EntryError {
    EntryError::Io(errno.into())
}

#[cfg(test)]
mod tests;
