//! Writing the parts of an archive, as many side by side as there are cores.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tar::{EntryType, Header};
use tractorun_contract::job_spec::part_name;

use super::digest::DigestingWriter;
use super::parts::{Part, Piece};
use super::walk::{Entry, What};
use super::{Cancel, Digest, PackError, PackedPart, read_error};

/// zstd's own default: beyond it an archive of sources shrinks little and takes much longer.
const COMPRESSION_LEVEL: i32 = 3;

/// More threads than this only fight for the disk.
const MAX_THREADS: usize = 8;

/// A tar archive is a row of blocks of this size.
const BLOCK_BYTES: usize = 512;

/// Two empty blocks end a tar archive.
const TRAILER: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Writes all parts. The first error ends the others.
pub(super) fn write_all(
    entries: &[Entry],
    parts: &[Part],
    archive: &Path,
    cancel: &Cancel,
) -> Result<Vec<PackedPart>, PackError> {
    // An error of one thread ends the others, and none of it reaches the caller's own flag.
    let failed = Cancel::default();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut written = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(part) = parts.get(index)
        {
            let is_last = index + 1 == parts.len();
            let path = archive.with_file_name(part_name(&file_name(archive), index));
            let writer = PartWriter { entries, path: &path, cancels: [cancel, &failed] };
            match writer.write(part, is_last) {
                Ok(digest) => written.push((index, PackedPart { path, digest })),
                Err(error) => {
                    failed.request();
                    return Err(error);
                }
            }
        }
        Ok(written)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(parts.len());
    let results: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = others.into_iter().map(|other| {
            // What a thread panicked with goes on here as if there had been no thread.
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        std::iter::once(own).chain(others).collect()
    });
    // The error itself counts, not that others ended because of it.
    let is_followup = |result: &Result<_, _>| matches!(result, Err(PackError::Cancelled));
    let (followups, results): (Vec<_>, Vec<_>) = results.into_iter().partition(is_followup);
    let mut written = Vec::with_capacity(parts.len());
    for result in results.into_iter().chain(followups) {
        written.extend(result?);
    }
    written.sort_by_key(|(index, _)| *index);
    Ok(written.into_iter().map(|(_, part)| part).collect())
}

fn file_name(archive: &Path) -> String {
    archive.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes one part.
struct PartWriter<'a> {
    entries: &'a [Entry],
    path: &'a Path,
    cancels: [&'a Cancel; 2],
}

type Sink = zstd::Encoder<'static, DigestingWriter<io::BufWriter<File>>>;

impl PartWriter<'_> {
    fn write(&self, part: &Part, is_last: bool) -> Result<Digest, PackError> {
        let file = File::create(self.path).map_err(|error| self.failed(error))?;
        let digesting = DigestingWriter::new(io::BufWriter::new(file));
        let mut sink =
            zstd::Encoder::new(digesting, COMPRESSION_LEVEL).map_err(|error| self.failed(error))?;
        for piece in &part.pieces {
            self.write_piece(&mut sink, piece)?;
        }
        if is_last {
            sink.write_all(&TRAILER).map_err(|error| self.failed(error))?;
        }
        sink.finish().and_then(DigestingWriter::finish).map_err(|error| self.failed(error))
    }

    fn write_piece(&self, sink: &mut Sink, piece: &Piece) -> Result<(), PackError> {
        self.check_cancelled()?;
        let Entry { name, what } = &self.entries[piece.entry];
        let header = match what {
            What::Folder => header(EntryType::Directory, 0o755, 0),
            What::File { size_bytes, mode, .. } => header(EntryType::Regular, *mode, *size_bytes),
            What::Link(_) => header(EntryType::Symlink, 0o777, 0),
        };
        if piece.content.start == 0 {
            let blocks = header_blocks(header, name, what).map_err(|error| self.failed(error))?;
            sink.write_all(&blocks).map_err(|error| self.failed(error))?;
        }
        if let What::File { path, size_bytes, .. } = what
            && !piece.content.is_empty()
        {
            self.copy(sink, path, piece)?;
            if piece.content.end == *size_bytes {
                // The remainder is below a block's size, so it fits any integer.
                let filled = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or(0);
                let padding = (BLOCK_BYTES - filled) % BLOCK_BYTES;
                sink.write_all(&TRAILER[..padding]).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    /// Copies a range of a file. A file that grew is cut where the walk found its end, as a log may grow at any
    /// time; one that shrank is an error, since the rest of the archive would lie where its content was announced.
    fn copy(&self, sink: &mut Sink, path: &Path, piece: &Piece) -> Result<(), PackError> {
        let mut file = File::open(path).map_err(|error| read_error(path, error))?;
        file.seek(SeekFrom::Start(piece.content.start)).map_err(|error| read_error(path, error))?;
        let mut left = piece.content.end - piece.content.start;
        let mut buffer = vec![0; 1 << 17];
        while left > 0 {
            self.check_cancelled()?;
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match file.read(&mut buffer[..want]) {
                Ok(0) => return Err(PackError::Changed { path: path.to_owned() }),
                Ok(count) => {
                    sink.write_all(&buffer[..count]).map_err(|error| self.failed(error))?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(path, error)),
            }
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), PackError> {
        let is_requested = self.cancels.iter().any(|cancel| cancel.is_requested());
        if is_requested { Err(PackError::Cancelled) } else { Ok(()) }
    }

    fn failed(&self, error: io::Error) -> PackError {
        PackError::Write { path: self.path.to_owned(), error }
    }
}

/// The blocks in front of an entry's content: more than one where its name or target is long.
fn header_blocks(mut header: Header, name: &Path, what: &What) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    match what {
        // The content follows by itself, in this part or in the next ones.
        What::Folder | What::File { .. } => builder.append_data(&mut header, name, io::empty())?,
        What::Link(target) => builder.append_link(&mut header, name, target)?,
    }
    // The builder would end the archive here.
    Ok(std::mem::take(builder.get_mut()))
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
