//! The folders of running jobs: `<slots>/<n>/sandbox`, where `n` is the lowest number not in use.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Artifact;
use super::task_spec::FileAccess;

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    folder: PathBuf,
    taken: Mutex<BTreeSet<usize>>,
}

/// The folder of one job. Dropping it removes the folder, so drop it when no process of the job is left.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    index: usize,
    path: PathBuf,
}

/// A file on its way into a sandbox.
#[derive(Debug, Clone)]
pub(super) struct SandboxFile {
    /// Relative path in the sandbox.
    pub(super) name: PathBuf,
    pub(super) artifact: Artifact,
    pub(super) access: FileAccess,
}

// === impl Slots ===

impl Slots {
    pub(super) fn new(folder: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(folder)?;
        // Jobs start in folders given by an absolute path.
        let folder = folder.canonicalize()?;
        Ok(Arc::new(Slots { folder, taken: Mutex::default() }))
    }

    /// A fresh slot with an empty sandbox.
    pub(super) fn take(self: &Arc<Self>) -> io::Result<Slot> {
        let index = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            // Of one number more than are taken, one is free.
            let index = (0..=taken.len()).find(|index| !taken.contains(index)).unwrap_or_default();
            taken.insert(index);
            index
        };
        let slot = Slot { slots: self.clone(), index, path: self.folder.join(index.to_string()) };
        // What an earlier server may have left there.
        remove_folder(&slot.path)?;
        for folder in [slot.sandbox(), slot.scratch()] {
            fs::create_dir_all(folder)?;
        }
        Ok(slot)
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// Where the job's private root is built. It stays empty for everybody else.
    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join("root")
    }
}

impl SandboxFile {
    /// Puts the file into a sandbox.
    pub(super) fn add_to(&self, sandbox: &Path) -> io::Result<()> {
        let target = sandbox.join(&self.name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        self.artifact.content.write_to(&target)?;
        let readable = match self.access {
            FileAccess::ReadOnly => 0o444,
            FileAccess::Writable => 0o644,
        };
        let executable = if self.artifact.executable { 0o111 } else { 0 };
        fs::set_permissions(&target, fs::Permissions::from_mode(readable | executable))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match remove_folder(&self.path) {
            Ok(()) => {}
            // The number stays taken, so that no other job gets the leftovers.
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "could not remove the folder of a job");
                return;
            }
        }
        self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.index);
    }
}

/// Removes a folder with all in it, also folders that a job has taken the write permission from.
fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_folders_removed() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(&folder.path().join("slots")).unwrap();
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((first.index(), second.index()), (0, 1));
        let locked = first.sandbox().join("a/b");
        fs::create_dir_all(&locked).unwrap();
        fs::set_permissions(locked.parent().unwrap(), fs::Permissions::from_mode(0o500)).unwrap();
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        assert_eq!(slots.take().unwrap().index(), 0);
        drop(second);
    }
}
