//! The journal: records in the order in which they were applied, on disk before their requests are answered.
//!
//! Whoever applies a change appends its record under the same lock, which costs a copy; one thread writes what has
//! come together as one frame (and forces it to the disk) while the next records gather. Blobs that nobody refers
//! to any more are removed only when the record that let go of them is on disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::{Storage, Sync, frame, remove};

/// The journal of a running server.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Arc<Queue>,
    storage: Storage,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Records that have come together.
    records: Vec<u8>,
    /// Files of blobs to be removed when these records are on disk.
    unused: Vec<PathBuf>,
    /// How many records were ever appended.
    appended: u64,
    /// How many bytes went into the current file, with those that wait.
    file_bytes: u64,
    /// Old records, and the file that comes after them.
    rotation: Option<(Vec<u8>, PathBuf, File)>,
    ended: bool,
}

/// How far the thread has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Written(u64),
    Failed(String),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nobody can panic while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Goes on with a file, of which so many bytes are used.
    pub(super) fn start(
        path: PathBuf,
        file: File,
        used: u64,
        storage: Storage,
        sync: Sync,
    ) -> io::Result<Journal> {
        let waiting = Waiting { file_bytes: used, ..Waiting::default() };
        let queue = Arc::new(Queue { waiting: Mutex::new(waiting), changed: Condvar::new() });
        let (sender, progress) = watch::channel(Progress::Written(0));
        let shared = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(&shared, path, file, sync, &sender))?;
        Ok(Journal { queue, storage, progress, thread: Some(thread) })
    }

    /// Adds a record. Called under the lock under which the change was made. Returns how long the file is now.
    pub(crate) fn append(&self, record: &[u8]) -> u64 {
        let unused = self.storage.take_unused();
        let mut waiting = self.queue.lock();
        waiting.unused.extend(unused);
        waiting.records.extend_from_slice(&(record.len() as u64).to_le_bytes());
        waiting.records.extend_from_slice(record);
        waiting.appended += 1;
        waiting.file_bytes += record.len() as u64 + 8;
        self.queue.changed.notify_one();
        waiting.file_bytes
    }

    /// Whether an earlier rotation still waits for the disk.
    pub(super) fn is_rotating(&self) -> bool {
        self.queue.lock().rotation.is_some()
    }

    /// Later records go to another file. Called under the lock of [`Journal::append`].
    pub(super) fn rotate(&self, path: PathBuf, file: File) {
        let mut waiting = self.queue.lock();
        let records = std::mem::take(&mut waiting.records);
        waiting.rotation = Some((records, path, file));
        waiting.file_bytes = 0;
        self.queue.changed.notify_one();
    }

    /// Returns when everything that has been appended so far is safe.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let appended = self.queue.lock().appended;
        let mut progress = self.progress.clone();
        let reached = progress
            .wait_for(|progress| match progress {
                Progress::Written(count) => *count >= appended,
                Progress::Failed(_) => true,
            })
            .await;
        match reached.as_deref() {
            Ok(Progress::Written(_)) => Ok(()),
            Ok(Progress::Failed(error)) => Err(error.clone()),
            Err(_) => Err("the journal is closed".to_owned()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.lock().ended = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, it has said so.
            let _ = thread.join();
        }
        // What has lost its handles since the last record has lost them with the server: it is not unused.
    }
}

/// The thread: writes until the end, or until it cannot.
fn write_all(
    queue: &Queue,
    mut path: PathBuf,
    mut file: File,
    sync: Sync,
    progress: &watch::Sender<Progress>,
) {
    loop {
        let (batch, rotation) = {
            let mut waiting = queue.lock();
            while waiting.records.is_empty() && waiting.rotation.is_none() && !waiting.ended {
                waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let rotation = waiting.rotation.take();
            if waiting.records.is_empty() && rotation.is_none() {
                return;
            }
            let records = std::mem::take(&mut waiting.records);
            ((records, std::mem::take(&mut waiting.unused), waiting.appended), rotation)
        };
        let (records, unused, appended) = batch;
        let written = match rotation {
            None => write_frame(&mut file, &records, sync),
            Some((old, next_path, next)) => write_frame(&mut file, &old, sync).and_then(|()| {
                (path, file) = (next_path, next);
                write_frame(&mut file, &records, sync)
            }),
        };
        if let Err(error) = written {
            let error = format!("cannot write to the journal `{}`: {error}", path.display());
            tracing::error!("{error}; nothing is answered any more");
            progress.send_replace(Progress::Failed(error));
            return;
        }
        progress.send_replace(Progress::Written(appended));
        for path in &unused {
            remove(path);
        }
    }
}

fn write_frame(file: &mut File, content: &[u8], sync: Sync) -> io::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    // One call where possible: the head of a frame alone is of no use.
    let mut frame = Vec::with_capacity(content.len() + 16);
    frame.extend_from_slice(&frame::head(content));
    frame.extend_from_slice(content);
    file.write_all(&frame)?;
    if sync == Sync::Always { file.sync_data() } else { Ok(()) }
}

/// Writes a file under another name first, so that it is there whole or not at all.
pub(super) fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    sync_folder(path)
}

/// Makes a new name of a file safe.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
