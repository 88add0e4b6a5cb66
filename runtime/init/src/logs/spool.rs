//! The spool: a file in the sandbox for blocks that memory has no room for. Its form is the contract's
//! ([`tractorun_contract::logs::spool`]), so that what a killed init leaves can be read.
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
use tractorun_contract::logs::spool::{FILE_NAME, FileHeader, FrameHeader};

use super::block::{Block, Content, Extent, Written};

/// The spool file, made when it is first needed.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    file: Reader,
    /// What the file begins with.
    header: Vec<u8>,
    /// Where the next block goes.
    end: u64,
    /// Bytes of blocks that are still needed.
    live: u64,
}

/// Reads blocks; clones read the same file.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader(Arc<OnceLock<File>>);

// === impl Spool ===

impl Spool {
    /// A spool that will lie in that folder.
    pub(super) fn new(folder: PathBuf, header: &FileHeader) -> Self {
        // Plain data: there is nothing in it that could be refused.
        let mut header = serde_json::to_vec(header).unwrap_or_default();
        header.push(b'\n');
        Self { folder, file: Reader::default(), header, end: 0, live: 0 }
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// Whoever reads what is in it.
    pub(super) fn reader(&self) -> Reader {
        self.file.clone()
    }

    /// Appends a block that is in memory.
    pub(super) fn append(&mut self, table: usize, block: &Block) -> io::Result<Extent> {
        let Content::Memory(payload) = &block.content else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.live == 0 && self.end > 0 {
            self.begin_anew()?;
        }
        let extent = self.write_frame(table, block.before, block.rows, block.bytes, payload)?;
        self.live += extent.length;
        Ok(extent)
    }

    /// Says that the process of a table has written so much and no more.
    pub(super) fn append_end(&mut self, table: usize, written: Written) -> io::Result<()> {
        self.write_frame(table, written, 0, 0, b"").map(drop)
    }

    /// A block is not needed any more.
    pub(super) fn release(&mut self, extent: Extent) {
        self.live -= extent.length;
        let Some(file) = self.file.0.get() else { return };
        let header = FrameHeader::BYTES as u64;
        let begin = i64::try_from(extent.offset - header);
        let (Ok(begin), Ok(length)) = (begin, i64::try_from(header + extent.length)) else { return };
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Where the file system makes no holes the file only becomes larger than it need be, and says more than it
        // need say.
        let _ = fallocate(file, hole, begin, length);
    }

    /// Nothing more comes: removes the file if nothing in it is needed.
    pub(super) fn finish(&mut self) {
        if self.live == 0 {
            self.remove();
        }
    }

    /// Removes the file, and its folder if there is nothing else in it.
    fn remove(&mut self) {
        if self.file.0.get().is_some() {
            let _ = std::fs::remove_file(self.path());
            let _ = std::fs::remove_dir(&self.folder);
        }
    }

    fn write_frame(
        &mut self,
        table: usize,
        before: Written,
        rows: u64,
        bytes: u64,
        payload: &[u8],
    ) -> io::Result<Extent> {
        let too_much = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let frame = FrameHeader {
            table: u32::try_from(table).map_err(too_much)?,
            lines_before: before.rows,
            bytes_before: before.bytes,
            lines: rows,
            bytes,
            length: u32::try_from(payload.len()).map_err(too_much)?,
        };
        if self.end == 0 {
            self.begin()?;
        }
        let extent = Extent { offset: self.end + FrameHeader::BYTES as u64, length: payload.len() as u64 };
        let file = self.open()?;
        file.write_all_at(&frame.encode(payload), extent.offset - FrameHeader::BYTES as u64)?;
        file.write_all_at(payload, extent.offset)?;
        self.end = extent.offset + extent.length;
        Ok(extent)
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.open()?.set_len(0)?;
        self.end = 0;
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let header = self.header.clone();
        self.open()?.write_all_at(&header, 0)?;
        self.end = header.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&File> {
        if self.file.0.get().is_none() {
            std::fs::create_dir_all(&self.folder)?;
            let mut options = OpenOptions::new();
            // Lines may say what is nobody else's business.
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(self.path())?;
            // Whoever finds the file sees that it is in use. It works all the same where there are no locks.
            let _ = file.try_lock();
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
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// What the file of one table begins with.
    pub(in crate::logs) fn header() -> FileHeader {
        let tables = vec!["//x".to_owned()];
        FileHeader { tractorun_spool: 1, node_rank: 0, job_id: "job".to_owned(), tables }
    }

    fn block(payload: Vec<u8>, before: u64) -> Block {
        let bytes = payload.len() as u64;
        let before = Written { rows: before, bytes: 2 * before };
        let content = Content::Memory(payload.into());
        Block { content, rows: 1, bytes, before, age: 0, attempt: 0, since_us: 0 }
    }

    #[test]
    fn blocks_are_read_back_and_their_room_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs");
        let mut spool = Spool::new(path.clone(), &header());
        assert!(!path.exists());
        let blocks: Vec<Vec<u8>> = (1..=8_u8).map(|byte| vec![byte; 256 * 1024]).collect();
        let append = |spool: &mut Spool, block_bytes: &Vec<u8>| {
            spool.append(0, &block(block_bytes.clone(), 0)).unwrap()
        };
        let extents: Vec<Extent> = blocks.iter().map(|block| append(&mut spool, block)).collect();
        let reader = spool.reader();
        for (block, extent) in blocks.iter().zip(&extents) {
            assert_eq!(reader.read(*extent).unwrap(), block[..]);
        }
        assert!(File::open(spool.path()).unwrap().try_lock().is_err(), "others see that it is in use");
        for extent in &extents[..7] {
            spool.release(*extent);
        }
        let data = std::fs::metadata(spool.path()).unwrap();
        assert!(data.blocks() * 512 <= 512 * 1024, "{} blocks are left", data.blocks());
        assert_eq!(reader.read(extents[7]).unwrap(), blocks[7][..]);
        spool.release(extents[7]);
        let first = (spool.header.len() + FrameHeader::BYTES) as u64;
        assert_eq!(append(&mut spool, &b"again".to_vec()).offset, first);
        assert_eq!(std::fs::metadata(spool.path()).unwrap().len(), first + 5);
        spool.finish();
        assert!(spool.path().exists(), "it is needed");
        spool.release(Extent { offset: first, length: 5 });
        spool.finish();
        assert!(!path.exists());
    }

    #[test]
    fn the_file_has_the_form_of_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().to_owned(), &header());
        let gone = spool.append(0, &block(b"gone".to_vec(), 0)).unwrap();
        spool.append(0, &block(b"kept".to_vec(), 7)).unwrap();
        spool.append_end(0, Written { rows: 8, bytes: 18 }).unwrap();
        spool.release(gone);
        let file = std::fs::read(spool.path()).unwrap();
        let line = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(serde_json::from_slice::<FileHeader>(&file[..line]).unwrap(), header());
        let (released, rest) = file[line..].split_at(FrameHeader::BYTES + 4);
        assert!(released.iter().all(|byte| *byte == 0), "{released:?}");
        let (frame, rest) = rest.split_first_chunk().unwrap();
        let expected =
            FrameHeader { table: 0, lines_before: 7, bytes_before: 14, lines: 1, bytes: 4, length: 4 };
        assert_eq!(FrameHeader::decode(frame), Some(expected));
        let (payload, rest) = rest.split_at(4);
        assert!(payload == b"kept" && FrameHeader::is_whole(frame, payload));
        let (frame, rest) = rest.split_first_chunk().unwrap();
        let end = FrameHeader::decode(frame).unwrap();
        assert_eq!((end.lines_before, end.bytes_before, end.lines, end.length), (8, 18, 0, 0));
        assert!(FrameHeader::is_whole(frame, b"") && rest.is_empty());
    }
}
