//! Where the bytes of files live: one file on disk for each write, removed when nobody refers to it any more.
//! Cypress holds only handles.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The folder that holds all written bytes.
#[derive(Debug)]
pub struct Storage {
    folder: PathBuf,
    next: AtomicU64,
}

impl Storage {
    /// Makes the folder if it is missing.
    pub fn open(folder: PathBuf) -> io::Result<Storage> {
        fs::create_dir_all(&folder)?;
        Ok(Storage { folder, next: AtomicU64::new(0) })
    }

    /// Starts a new blob. What is not finished is removed when the writer is dropped.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}.blob"));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(BlobWriter { blob: Blob { path, length: 0 }, file })
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter {
    blob: Blob,
    file: fs::File,
}

impl BlobWriter {
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
    path: PathBuf,
    length: u64,
}

impl Blob {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a blob");
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
