//! Where the bytes of files live: one file on disk for each write, removed when nobody refers to it any more.
//! Cypress holds only handles. Beside it what keeps a state over restarts: the journal, snapshots and the folder
//! that they lie in.

pub(crate) mod codec;
mod folder;
mod frame;
mod journal;

pub(crate) use folder::{DataFolder, Piece};
pub use folder::{FolderConfig, OpenError};
pub(crate) use journal::Journal;

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// When written bytes are forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Before a write is answered: it survives a loss of power.
    #[default]
    Always,
    /// When the system likes: it survives the end of the process only, `kill -9` included.
    Never,
}

/// The folder that holds all written bytes. Clones share it.
#[derive(Debug, Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    next: AtomicU64,
    removal: Removal,
    sync: Sync,
}

/// When blobs without a handle are removed.
#[derive(Debug)]
enum Removal {
    AtOnce,
    /// When whoever keeps the journal says so: what a crash would bring back must still find them.
    Deferred(Mutex<Vec<PathBuf>>),
}

impl Storage {
    /// Makes the folder if it is missing.
    pub fn open(folder: PathBuf) -> io::Result<Storage> {
        Storage::with(folder, Removal::AtOnce, Sync::Never)
    }

    /// The same for bytes that outlive the process: nothing is removed before [`Storage::take_unused`] says which.
    pub(crate) fn open_kept(folder: PathBuf, sync: Sync) -> io::Result<Storage> {
        let storage = Storage::with(folder, Removal::Deferred(Mutex::default()), sync)?;
        let next = storage.numbers()?.into_iter().map(|(number, _)| number + 1).max();
        storage.shared.next.store(next.unwrap_or(0), Ordering::Relaxed);
        Ok(storage)
    }

    fn with(folder: PathBuf, removal: Removal, sync: Sync) -> io::Result<Storage> {
        fs::create_dir_all(&folder)?;
        Ok(Storage { shared: Arc::new(Shared { folder, next: AtomicU64::new(0), removal, sync }) })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.shared.folder.join(format!("{number}.blob"))
    }

    /// The blobs on disk, with their lengths.
    fn numbers(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.shared.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".blob")?.parse().ok());
            if let Some(number) = number {
                numbers.push((number, entry.metadata()?.len()));
            }
        }
        Ok(numbers)
    }

    /// Starts a new blob. What is not finished is removed when the writer is dropped.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path(number);
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(BlobWriter { blob: Blob { number, path, length: 0, shared: Arc::clone(&self.shared) }, file })
    }

    /// A handle of a blob that an earlier process has written.
    fn adopt(&self, number: u64, length: u64) -> Blob {
        self.shared.next.fetch_max(number + 1, Ordering::Relaxed);
        Blob { number, path: self.path(number), length, shared: Arc::clone(&self.shared) }
    }

    /// The files of blobs that have lost their last handle since the last call.
    fn take_unused(&self) -> Vec<PathBuf> {
        match &self.shared.removal {
            Removal::AtOnce => Vec::new(),
            Removal::Deferred(unused) => {
                std::mem::take(&mut *unused.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not remove a blob");
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter {
    blob: Blob,
    file: fs::File,
}

impl BlobWriter {
    /// Forces the bytes to the disk, if that is asked for. Comes before [`BlobWriter::finish`].
    pub fn sync(&self) -> io::Result<()> {
        match self.blob.shared.sync {
            Sync::Never => Ok(()),
            Sync::Always => {
                self.file.sync_data()?;
                fs::File::open(&self.blob.shared.folder)?.sync_all()
            }
        }
    }

    /// Ends the blob; from here on it never changes.
    pub fn finish(self) -> Arc<Blob> {
        Arc::new(self.blob)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.blob.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes on disk that never change. Dropping the last handle removes them.
#[derive(Debug)]
pub struct Blob {
    number: u64,
    path: PathBuf,
    length: u64,
    shared: Arc<Shared>,
}

impl Blob {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        match &self.shared.removal {
            Removal::AtOnce => remove(&self.path),
            Removal::Deferred(unused) => {
                unused.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.path));
            }
        }
    }
}

/// The content of a file node: blobs one after another. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Content {
    blobs: Vec<Arc<Blob>>,
}

impl Content {
    /// One blob, or nothing if it is empty.
    pub fn from_blob(blob: Arc<Blob>) -> Content {
        Content { blobs: if blob.length == 0 { Vec::new() } else { vec![blob] } }
    }

    /// The file on disk, if there is exactly one. It is there for as long as this content is held.
    pub fn single_file(&self) -> Option<&Path> {
        match self.blobs.as_slice() {
            [one] => Some(&one.path),
            _ => None,
        }
    }

    /// Adds another content behind this one.
    pub fn append(&mut self, other: &Content) {
        self.blobs.extend(other.blobs.iter().cloned());
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.length).sum()
    }

    /// How many writes it was made of.
    pub fn chunk_count(&self) -> usize {
        self.blobs.len()
    }

    /// Writes the bytes to a new file, or over an old one. The copy is nobody else's: a job may change it.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        match self.blobs.as_slice() {
            [one] => fs::copy(&one.path, path).map(drop),
            blobs => {
                let mut target = fs::File::create(path)?;
                for blob in blobs {
                    io::copy(&mut fs::File::open(&blob.path)?, &mut target)?;
                }
                Ok(())
            }
        }
    }

    /// A reader of a part of the bytes. Parts behind the end are empty.
    pub fn reader(&self, offset: u64, length: Option<u64>) -> ContentReader {
        let end = length.map_or(u64::MAX, |length| offset.saturating_add(length)).min(self.length());
        ContentReader { content: self.clone(), position: offset, end, open: None }
    }

    /// All bytes.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader(0, None).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a content from an offset to an end.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    position: u64,
    end: u64,
    /// The open blob and the offset in the content at which it ends.
    open: Option<(fs::File, u64)>,
}

impl ContentReader {
    /// How many bytes are left.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    fn open_at_position(&self) -> io::Result<Option<(fs::File, u64)>> {
        let mut start = 0;
        for blob in &self.content.blobs {
            let blob_end = start + blob.length;
            if self.position < blob_end {
                let mut file = fs::File::open(&blob.path)?;
                file.seek(SeekFrom::Start(self.position - start))?;
                return Ok(Some((file, blob_end)));
            }
            start = blob_end;
        }
        Ok(None)
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.remaining() == 0 {
            return Ok(0);
        }
        if self.open.as_ref().is_none_or(|(_, blob_end)| self.position >= *blob_end) {
            self.open = self.open_at_position()?;
        }
        let Some((file, blob_end)) = &mut self.open else { return Ok(0) };
        let most = (*blob_end).min(self.end) - self.position;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a blob is shorter than it was"));
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(storage: &Storage, parts: &[&str]) -> Content {
        let mut content = Content::default();
        for part in parts {
            let mut writer = storage.writer().unwrap();
            writer.write_all(part.as_bytes()).unwrap();
            content.append(&Content::from_blob(writer.finish()));
        }
        content
    }

    #[test]
    fn reads_any_part_over_blob_borders() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().join("blobs")).unwrap();
        let content = content(&storage, &["abc", "", "de", "f"]);
        let whole = b"abcdef";
        assert_eq!((content.length(), content.chunk_count()), (6, 3));
        for offset in 0..8u8 {
            for length in 0..8u8 {
                let mut bytes = Vec::new();
                content.reader(offset.into(), Some(length.into())).read_to_end(&mut bytes).unwrap();
                let start = usize::from(offset).min(6);
                let end = usize::from(offset + length).clamp(start, 6);
                assert_eq!(bytes, &whole[start..end], "{offset} {length}");
            }
        }
        let target = folder.path().join("copy");
        content.write_to(&target).unwrap();
        assert_eq!(fs::read(target).unwrap(), whole);
    }

    #[test]
    fn bytes_go_with_their_last_handle() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().to_owned()).unwrap();
        let first = content(&storage, &["abc"]);
        let second = first.clone();
        drop(first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(second);
        drop(storage.writer().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
