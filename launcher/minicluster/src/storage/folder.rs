//! The folder that keeps a state over restarts.
//!
//! ```text
//! lock            held by the server that uses the folder; its process id is in it
//! snapshot.<n>    a whole state
//! journal.<n>     what has happened since snapshot <n>; journal.<n+1> goes on from there
//! blobs/          the bytes of files
//! slots/          folders of running jobs, of no use after a restart
//! ```
//! A new snapshot is made when the journal has grown beyond the last one. While it is written the journal goes on
//! in its next file; what is older is removed when the snapshot is whole. So at any moment the newest snapshot and
//! the journals from its number on are the whole state.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::codec::{Context, Malformed, Persist, Reader};
use super::frame::{self, Next};
use super::journal::{Journal, sync_folder, write_whole};
use super::{Storage, Sync};

const SNAPSHOT_HEADER: &[u8] = b"tractorun-minicluster snapshot, version 2\n";
const JOURNAL_HEADER: &[u8] = b"tractorun-minicluster journal, version 2\n";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system does not let us.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has it.
    #[error(
        "the folder `{path}` is in use by process {pid}\nhint: stop that server, or give this one another folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, as far as it is known.
        pid: String,
    },
    /// It was changed after it was written.
    #[error(
        "`{path}` is damaged at byte {offset}, and sound data follows\nhint: the state cannot be restored from it; \
         use a backup or another folder"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first piece starts that is not what was written.
        offset: usize,
    },
    /// It is of another version.
    #[error(
        "`{path}` was not written by this version: its first line is not {expected:?}\nhint: start the version that \
         wrote it, or use another folder"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What the line should be.
        expected: String,
    },
    /// It cannot be understood.
    #[error("cannot read the state in `{path}`, frame at byte {offset}: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the frame starts.
        offset: usize,
        /// What is wrong in it.
        what: String,
    },
    /// Something of it is not there.
    #[error(
        "the folder is incomplete: `{path}` is missing or too short\nhint: use a backup or another folder"
    )]
    Missing {
        /// What.
        path: PathBuf,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { path: path.to_owned(), source }
}

/// How a folder is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderConfig {
    /// When bytes are forced to the disk.
    pub sync: Sync,
    /// A new snapshot is made when the journal is longer than this and than the last snapshot.
    pub snapshot_after_bytes: u64,
}

impl Default for FolderConfig {
    fn default() -> Self {
        FolderConfig { sync: Sync::default(), snapshot_after_bytes: 64 << 20 }
    }
}

/// A folder that this process has for itself.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    config: FolderConfig,
    storage: Storage,
    growth: Mutex<Growth>,
    /// Dropping it lets others in.
    _lock: File,
}

#[derive(Debug)]
struct Growth {
    generation: u64,
    /// The size at which the current journal calls for a snapshot.
    limit: u64,
    snapshot: Snapshot,
}

#[derive(Debug, PartialEq, Eq)]
enum Snapshot {
    None,
    /// One is being written.
    Written,
}

/// A piece of a state that is read back, oldest first.
#[derive(Debug)]
pub(crate) enum Piece<'a, 'b> {
    /// A whole state: comes first, once.
    Snapshot(&'a mut Reader<'b>),
    /// One record.
    Record(&'a mut Reader<'b>),
}

/// What was found in a folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Goes on where the last one stopped.
    pub(crate) journal: Journal,
    /// How many records were read.
    pub(crate) records: u64,
}

impl DataFolder {
    /// Makes the folder if it is missing, and locks it.
    pub(crate) fn open(path: &Path, config: FolderConfig) -> Result<DataFolder, OpenError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))?;
        let path = path.canonicalize().map_err(io_error(path))?;
        let lock = lock(&path)?;
        let slots = path.join("slots");
        match fs::remove_dir_all(&slots) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&slots)(error)),
            _ => {}
        }
        let storage = Storage::open_kept(path.join("blobs"), config.sync).map_err(io_error(&path))?;
        let growth = Growth { generation: 0, limit: config.snapshot_after_bytes, snapshot: Snapshot::None };
        Ok(DataFolder { path, config, storage, growth: Mutex::new(growth), _lock: lock })
    }

    /// Where the bytes of files go.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn snapshot_path(&self, generation: u64) -> PathBuf {
        self.path.join(format!("snapshot.{generation}"))
    }

    fn journal_path(&self, generation: u64) -> PathBuf {
        self.path.join(format!("journal.{generation}"))
    }

    /// The numbers of files `<kind>.<number>`, in order. Drafts that were not finished are removed.
    fn generations(&self, kind: &str) -> Result<Vec<u64>, OpenError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error(&self.path))? {
            let name = entry.map_err(io_error(&self.path))?.file_name();
            let Some((before, number)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if before != kind {
                continue;
            }
            match number.parse() {
                Ok(number) => found.push(number),
                Err(_) if number == "new" => {
                    let draft = self.path.join(&name);
                    fs::remove_file(&draft).map_err(io_error(&draft))?;
                }
                Err(_) => {}
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    // === reading ===

    /// Reads everything back, piece by piece; in a new folder what `fresh` gives becomes the first snapshot.
    pub(crate) fn recover(
        &self,
        fresh: impl FnOnce() -> Vec<u8>,
        mut restore: impl FnMut(Piece<'_, '_>) -> Result<(), Malformed>,
    ) -> Result<Recovered, OpenError> {
        let snapshots = self.generations("snapshot")?;
        let journals = self.generations("journal")?;
        let first = match snapshots.last() {
            Some(newest) => *newest,
            None if journals.is_empty() => {
                let path = self.snapshot_path(0);
                let state = fresh();
                let parts: [&[u8]; 3] = [SNAPSHOT_HEADER, &frame::head(&state), &state];
                write_whole(&path, &parts).map_err(io_error(&path))?;
                0
            }
            None => return Err(OpenError::Missing { path: self.snapshot_path(journals[0]) }),
        };
        let mut context = Context::new(self.storage.clone());
        let snapshot_bytes = self.read_snapshot(first, &mut context, &mut restore)?;
        let mut records = 0;
        let mut last = (first, 0);
        let numbers: Vec<u64> = journals.iter().copied().filter(|number| *number >= first).collect();
        for (index, number) in numbers.iter().enumerate() {
            if *number != first + index as u64 {
                return Err(OpenError::Missing { path: self.journal_path(first + index as u64) });
            }
            let read = self.read_journal(*number, &mut context, &mut restore)?;
            records += read.records;
            last = (*number, read.used);
            if read.torn {
                // The end of a journal may be torn only if nothing was written after it.
                for later in &numbers[index + 1..] {
                    let path = self.journal_path(*later);
                    if fs::metadata(&path).map_err(io_error(&path))?.len() > JOURNAL_HEADER.len() as u64 {
                        return Err(OpenError::Damaged {
                            path: self.journal_path(*number),
                            offset: read.used,
                        });
                    }
                    fs::remove_file(&path).map_err(io_error(&path))?;
                }
                break;
            }
        }
        self.drop_older_than(first);
        self.check_blobs(&mut context)?;
        let (generation, used) = last;
        let path = self.journal_path(generation);
        let file = open_journal(&path, used as u64).map_err(io_error(&path))?;
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        *growth = Growth {
            generation,
            limit: snapshot_bytes.max(self.config.snapshot_after_bytes),
            snapshot: Snapshot::None,
        };
        let journal = Journal::start(path.clone(), file, used as u64, self.storage.clone(), self.config.sync)
            .map_err(io_error(&path))?;
        Ok(Recovered { journal, records })
    }

    fn read_snapshot(
        &self,
        generation: u64,
        context: &mut Context,
        restore: &mut impl FnMut(Piece<'_, '_>) -> Result<(), Malformed>,
    ) -> Result<u64, OpenError> {
        let path = self.snapshot_path(generation);
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        check_header(&path, &bytes, SNAPSHOT_HEADER)?;
        let offset = SNAPSHOT_HEADER.len();
        // It was renamed when it was whole: anything else is damage.
        let Next::Frame(state, _) = frame::next(&bytes, offset) else {
            return Err(OpenError::Damaged { path, offset });
        };
        let mut reader = Reader::new(state, context);
        restore(Piece::Snapshot(&mut reader)).map_err(|error| malformed(&path, offset, &error))?;
        Ok(bytes.len() as u64)
    }

    fn read_journal(
        &self,
        generation: u64,
        context: &mut Context,
        restore: &mut impl FnMut(Piece<'_, '_>) -> Result<(), Malformed>,
    ) -> Result<JournalRead, OpenError> {
        let path = self.journal_path(generation);
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        if bytes.len() < JOURNAL_HEADER.len() && JOURNAL_HEADER.starts_with(&bytes) {
            return Ok(JournalRead { records: 0, used: 0, torn: true });
        }
        check_header(&path, &bytes, JOURNAL_HEADER)?;
        let mut offset = JOURNAL_HEADER.len();
        let mut records = 0;
        loop {
            match frame::next(&bytes, offset) {
                Next::End => return Ok(JournalRead { records, used: offset, torn: false }),
                Next::Torn => {
                    tracing::warn!(
                        path = %path.display(),
                        offset,
                        bytes = bytes.len() - offset,
                        "the end of the journal was not written whole, so it was never acknowledged: it is cut off"
                    );
                    return Ok(JournalRead { records, used: offset, torn: true });
                }
                Next::Damaged => return Err(OpenError::Damaged { path, offset }),
                Next::Frame(group, behind) => {
                    records += read_records(group, context, restore)
                        .map_err(|error| malformed(&path, offset, &error))?;
                    offset = behind;
                }
            }
        }
    }

    /// Every blob that is referred to must be there; others are of no use.
    fn check_blobs(&self, context: &mut Context) -> Result<(), OpenError> {
        let folder = self.path.join("blobs");
        let on_disk: std::collections::BTreeMap<u64, u64> =
            self.storage.numbers().map_err(io_error(&folder))?.into_iter().collect();
        let used = context.used_blobs();
        for (number, length) in &used {
            if on_disk.get(number) != Some(length) {
                return Err(OpenError::Missing { path: self.storage.path(*number) });
            }
        }
        context.forget();
        for number in on_disk.keys().filter(|number| !used.contains_key(number)) {
            super::remove(&self.storage.path(*number));
        }
        self.storage.take_unused();
        Ok(())
    }

    // === new snapshots ===

    /// Begins a snapshot if the journal has grown to this size and none is being made: from here on the journal
    /// goes on in its next file. Called under the lock under which records are appended; the state of this moment
    /// belongs into [`DataFolder::finish_snapshot`].
    pub(crate) fn begin_snapshot(&self, journal: &Journal, journal_bytes: u64) -> Option<u64> {
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        if journal_bytes < growth.limit || growth.snapshot == Snapshot::Written || journal.is_rotating() {
            return None;
        }
        let generation = growth.generation + 1;
        let path = self.journal_path(generation);
        match open_journal(&path, 0) {
            Ok(file) => {
                journal.rotate(path, file);
                growth.generation = generation;
                growth.snapshot = Snapshot::Written;
                Some(generation)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot begin a new journal; the old one grows");
                growth.limit = growth.limit.saturating_mul(2);
                None
            }
        }
    }

    /// Writes a snapshot and removes what is older.
    pub(crate) fn finish_snapshot(&self, generation: u64, state: &[u8]) {
        let path = self.snapshot_path(generation);
        let written = write_whole(&path, &[SNAPSHOT_HEADER, &frame::head(state), state]);
        if written.is_ok() {
            self.drop_older_than(generation);
        }
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        growth.snapshot = Snapshot::None;
        growth.limit = self.config.snapshot_after_bytes.max(state.len() as u64);
        if let Err(error) = written {
            // The journals still hold everything.
            tracing::warn!(path = %path.display(), %error, "cannot write a snapshot");
        }
    }

    fn drop_older_than(&self, generation: u64) {
        for (kind, path_of) in [
            ("journal", Self::journal_path as fn(&Self, u64) -> PathBuf),
            ("snapshot", Self::snapshot_path as fn(&Self, u64) -> PathBuf),
        ] {
            // What cannot be removed now is removed at the next start.
            let known = self.generations_to_drop(kind, generation);
            for path in known.into_iter().map(|old| path_of(self, old)) {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an old file");
                }
            }
        }
    }

    fn generations_to_drop(&self, kind: &str, generation: u64) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let number = name.to_str()?.strip_prefix(kind)?.strip_prefix('.')?.parse().ok()?;
                (number < generation).then_some(number)
            })
            .collect()
    }
}

struct JournalRead {
    records: u64,
    /// How many bytes of the file are sound.
    used: usize,
    torn: bool,
}

fn malformed(path: &Path, offset: usize, error: &Malformed) -> OpenError {
    OpenError::Malformed { path: path.to_owned(), offset, what: error.to_string() }
}

fn check_header(path: &Path, bytes: &[u8], header: &[u8]) -> Result<(), OpenError> {
    if bytes.starts_with(header) {
        return Ok(());
    }
    let expected = String::from_utf8_lossy(header).trim_end().to_owned();
    Err(OpenError::Version { path: path.to_owned(), expected })
}

fn read_records(
    group: &[u8],
    context: &mut Context,
    restore: &mut impl FnMut(Piece<'_, '_>) -> Result<(), Malformed>,
) -> Result<u64, Malformed> {
    let (mut offset, mut count) = (0, 0);
    while offset < group.len() {
        let length = usize::take(&mut Reader::new(&group[offset..], context))?;
        let start = offset + 8;
        let record = start.checked_add(length).and_then(|end| group.get(start..end));
        let record = record.ok_or(Malformed { what: "record", offset })?;
        restore(Piece::Record(&mut Reader::new(record, context)))?;
        offset = start + length;
        count += 1;
    }
    Ok(count)
}

/// A journal, cut to what is sound in it, ready for more.
fn open_journal(path: &Path, used: u64) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(used)?;
    if used == 0 {
        (&file).write_all(JOURNAL_HEADER)?;
    }
    file.sync_all()?;
    sync_folder(path)?;
    Ok(file)
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => {
            let told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            told.map_err(io_error(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Who it is only helps; that there is somebody is known.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
            Err(OpenError::InUse { path: folder.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}
