//! Puts a Cypress file, which the cluster has placed in the sandbox, where the user wants it.
//!
//! A symbolic link, so that a large file is not copied; a copy where a link cannot be made. What is at the
//! destination already is never replaced: it may be part of the image. Blocks.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Why a file is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("cannot place `{file}` at `{}`: it is not in the sandbox", destination.display())]
    Missing { file: String, destination: PathBuf },
    #[error("cannot place `{file}` at `{}`: there is something else already", destination.display())]
    Occupied { file: String, destination: PathBuf },
    #[error("cannot place `{file}` at `{}`: {source}", destination.display())]
    Io { file: String, destination: PathBuf, source: std::io::Error },
}

/// Makes `file` of the absolute path `sandbox` appear at the absolute path `destination`.
pub(super) fn place(sandbox: &Path, file: &str, destination: &Path) -> Result<(), PlaceError> {
    place_with(sandbox, file, destination, |source, link| symlink(source, link))
}

fn place_with(
    sandbox: &Path,
    file: &str,
    destination: &Path,
    link: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<(), PlaceError> {
    let failed =
        |source| PlaceError::Io { file: file.to_owned(), destination: destination.to_owned(), source };
    let source = sandbox.join(file);
    if !source.exists() {
        return Err(PlaceError::Missing { file: file.to_owned(), destination: destination.to_owned() });
    }
    if let Some(parent) = destination.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match link(&source, destination) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if is_ours(&source, destination).map_err(failed)? {
                Ok(())
            } else {
                Err(PlaceError::Occupied { file: file.to_owned(), destination: destination.to_owned() })
            }
        }
        // Some file systems have no links.
        Err(_) => copy(&source, destination).map_err(failed),
    }
}

/// Whether the destination is the file already: itself, our link to it, or an equal copy.
fn is_ours(source: &Path, destination: &Path) -> std::io::Result<bool> {
    // A link that leads nowhere is somebody else's.
    let Ok(resolved) = destination.canonicalize() else { return Ok(false) };
    if resolved == source.canonicalize()? {
        return Ok(true);
    }
    let there = resolved.metadata()?;
    if !there.is_file() || there.len() != source.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (File::open(source)?, File::open(resolved)?);
    let (mut our_part, mut their_part) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = ours.read(&mut our_part)?;
        if count == 0 {
            return Ok(true);
        }
        if theirs.read_exact(&mut their_part[..count]).is_err() || our_part[..count] != their_part[..count] {
            return Ok(false);
        }
    }
}

fn copy(source: &Path, destination: &Path) -> std::io::Result<()> {
    let mut from = File::open(source)?;
    let mode = from.metadata()?.permissions().mode() & 0o777;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(destination)?;
    std::io::copy(&mut from, &mut to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cypress-0"), "weights").unwrap();
        folder
    }

    #[test]
    fn a_link_is_made_with_its_parents_and_again_is_fine() {
        let sandbox = sandbox();
        let destination = sandbox.path().join("data/deep/weights.bin");
        for _ in 0..2 {
            place(sandbox.path(), "cypress-0", &destination).unwrap();
            assert_eq!(std::fs::read_link(&destination).unwrap(), sandbox.path().join("cypress-0"));
        }
        // The destination may be the file itself.
        place(sandbox.path(), "cypress-0", &sandbox.path().join("cypress-0")).unwrap();
        assert_eq!(std::fs::read_to_string(sandbox.path().join("cypress-0")).unwrap(), "weights");
    }

    #[test]
    fn where_links_cannot_be_made_it_is_copied() {
        let sandbox = sandbox();
        let destination = sandbox.path().join("data/weights.bin");
        let no_links = |_: &Path, link: &Path| {
            Err(if link.exists() { ErrorKind::AlreadyExists } else { ErrorKind::PermissionDenied }.into())
        };
        for _ in 0..2 {
            place_with(sandbox.path(), "cypress-0", &destination, no_links).unwrap();
            assert!(!destination.is_symlink());
            assert_eq!(std::fs::read_to_string(&destination).unwrap(), "weights");
        }
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let sandbox = sandbox();
        let path = |name: &str| sandbox.path().join(name);
        std::fs::write(path("other"), "another").unwrap();
        std::fs::write(path("shorter"), "x").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        for name in ["other", "shorter", "folder", "dangling"] {
            assert_eq!(
                place(sandbox.path(), "cypress-0", &path(name)).unwrap_err().to_string(),
                format!(
                    "cannot place `cypress-0` at `{}`: there is something else already",
                    path(name).display()
                )
            );
        }
        assert_eq!(std::fs::read_to_string(path("other")).unwrap(), "another");
    }

    #[test]
    fn a_file_that_the_cluster_did_not_bring_is_named() {
        let sandbox = sandbox();
        assert_eq!(
            place(sandbox.path(), "cypress-7", Path::new("/nowhere/x")).unwrap_err().to_string(),
            "cannot place `cypress-7` at `/nowhere/x`: it is not in the sandbox"
        );
        assert!(!Path::new("/nowhere").exists());
    }
}
