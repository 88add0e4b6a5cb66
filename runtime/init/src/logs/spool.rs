//! The spool: a file in the sandbox for blocks that memory has no room for.
//!
//! Blocks are appended and read where they are. What is shipped is given back to the file system at once (a hole in
//! the file), and when all is shipped the file begins anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};

use super::block::Extent;

/// Name of the file in its folder.
const FILE_NAME: &str = "spool";

/// The spool file, made when it is first needed.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    file: Reader,
    /// Where the next block goes.
    end: u64,
    /// Bytes that are still needed.
    live: u64,
}

/// Reads blocks; clones read the same file.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader(Arc<OnceLock<File>>);

// === impl Spool ===

impl Spool {
    /// A spool that will lie in that folder.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, file: Reader::default(), end: 0, live: 0 }
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whoever reads what is in it.
    pub(super) fn reader(&self) -> Reader {
        self.file.clone()
    }

    /// Appends a block.
    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<Extent> {
        if self.live == 0 && self.end > 0 {
            self.begin_anew()?;
        }
        let extent = Extent { offset: self.end, length: block.len() as u64 };
        self.open()?.write_all_at(block, extent.offset)?;
        self.end += extent.length;
        self.live += extent.length;
        Ok(extent)
    }

    /// A block is not needed any more.
    pub(super) fn release(&mut self, extent: Extent) {
        self.live -= extent.length;
        let Some(file) = self.file.0.get() else { return };
        let (Ok(offset), Ok(length)) = (i64::try_from(extent.offset), i64::try_from(extent.length)) else {
            return;
        };
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Where the file system makes no holes the file only becomes larger than it need be.
        let _ = fallocate(file, hole, offset, length);
    }

    /// Nothing more comes: removes the file if nothing in it is needed.
    pub(super) fn finish(&mut self) {
        if self.live == 0 {
            self.remove();
        }
    }

    /// Removes the file, and its folder if there is nothing else in it.
    pub(super) fn remove(&mut self) {
        if self.file.0.get().is_some() {
            let _ = std::fs::remove_file(self.folder.join(FILE_NAME));
            let _ = std::fs::remove_dir(&self.folder);
        }
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.open()?.set_len(0)?;
        self.end = 0;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&File> {
        if self.file.0.get().is_none() {
            std::fs::create_dir_all(&self.folder)?;
            let mut options = OpenOptions::new();
            // Lines may say what is nobody else's business.
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(self.folder.join(FILE_NAME))?;
            // Nobody else sets it.
            let _ = self.file.0.set(file);
        }
        self.file.0.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

// === impl Reader ===

impl Reader {
    /// Reads a block.
    pub(super) fn read(&self, extent: Extent) -> io::Result<Bytes> {
        let file = self.0.get().ok_or(io::ErrorKind::NotFound)?;
        // It was written by this process from memory, so it fits there.
        let mut bytes = vec![0; usize::try_from(extent.length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, extent.offset)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn blocks_are_read_back_and_their_room_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs");
        let mut spool = Spool::new(path.clone());
        assert!(!path.exists());
        let blocks: Vec<Vec<u8>> = (1..=8_u8).map(|byte| vec![byte; 256 * 1024]).collect();
        let extents: Vec<Extent> = blocks.iter().map(|block| spool.append(block).unwrap()).collect();
        let reader = spool.reader();
        for (block, extent) in blocks.iter().zip(&extents) {
            assert_eq!(reader.read(*extent).unwrap(), block[..]);
        }
        for extent in &extents[..7] {
            spool.release(*extent);
        }
        let data = std::fs::metadata(path.join(FILE_NAME)).unwrap();
        assert!(data.blocks() * 512 <= 512 * 1024, "{} blocks are left", data.blocks());
        assert_eq!(reader.read(extents[7]).unwrap(), blocks[7][..]);
        spool.release(extents[7]);
        assert_eq!(spool.append(b"again").unwrap().offset, 0);
        assert_eq!(std::fs::metadata(path.join(FILE_NAME)).unwrap().len(), 5);
        spool.finish();
        assert!(path.join(FILE_NAME).exists(), "it is needed");
        spool.release(Extent { offset: 0, length: 5 });
        spool.finish();
        assert!(!path.exists());
    }
}
