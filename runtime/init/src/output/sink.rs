//! The one place that writes to init's stderr: a thread with a bounded queue in front of it.
//!
//! A thread, because the descriptor is shared with whoever started init, so that it must not be made
//! non-blocking, and a blocking write must block nobody else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes that may wait before the pump stops reading.
const CAPACITY: usize = 4 * 1024 * 1024;

/// The largest write to anything else: one that is larger might be under way for long, and nobody could tell a slow
/// reader from none.
const WRITE_LIMIT: usize = 256 * 1024;

/// The largest write that a pipe takes whole, by POSIX (Linux: `PIPE_BUF`).
const PIPE_ATOM: usize = 4096;

/// Pause before another try where somebody else has made the descriptor non-blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How much is written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// As much as there is.
    Any,
    /// Whole lines up to what a pipe takes whole: others write into the same pipe, such as another node's init.
    PipeAtoms,
}

/// Handle of the writer; clones share it.
#[derive(Clone)]
pub struct Sink {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something was pushed.
    filled: Condvar,
    /// Everything is written.
    drained: Condvar,
    /// Writes so far.
    writes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    writing: Writing,
    /// The byte pushed last.
    last: Option<u8>,
    /// Who waits for room.
    waiter: Option<Waker>,
}

/// Whether the thread is in a write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writing {
    #[default]
    No,
    Yes,
}

// === impl Sink ===

impl Sink {
    /// Starts the writer thread.
    pub fn start(target: impl Write + Send + 'static, pieces: Pieces) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            filled: Condvar::new(),
            drained: Condvar::new(),
            writes: AtomicU64::new(0),
        });
        let sink = Self { shared: Arc::clone(&shared) };
        // It lives as long as the process: nothing is ever to be written after it.
        std::thread::Builder::new().name("stderr".to_owned()).stack_size(64 * 1024).spawn(move || {
            // A SIGPIPE of its own must not be handed to the workers as if somebody had sent it.
            tractorun_sys::signal::block_all_in_this_thread();
            shared.write_for_ever(target, pieces);
        })?;
        Ok(sink)
    }

    /// Queues bytes: whole lines, or what a sole worker wrote. Never blocks, whatever the capacity.
    pub fn push(&self, bytes: &[u8]) {
        let mut queue = self.shared.lock();
        queue.bytes.extend_from_slice(bytes);
        queue.last = bytes.last().copied().or(queue.last);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Whether more should be pushed now; else the waker is woken when so.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.shared.lock();
        if queue.bytes.len() < CAPACITY {
            return Poll::Ready(());
        }
        queue.waiter = Some(context.waker().clone());
        Poll::Pending
    }

    /// A number that grows as long as somebody reads what is written.
    pub fn progress(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Waits until all is written, or until the limit. Blocks the thread.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        while !queue.bytes.is_empty() || queue.writing == Writing::Yes {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let result = self.shared.drained.wait_timeout(queue, left);
            queue = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for Sink {
    /// One log line each. It begins a line of its own, even if a worker has left one unfinished.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shared.lock().last.is_some_and(|last| last != b'\n') {
            self.push(b"\n");
        }
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Shared ===

impl Shared {
    /// A panic while the lock was held ended the process, so poison cannot matter.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, mut target: impl Write, pieces: Pieces) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.lock();
            queue.writing = Writing::No;
            while queue.bytes.is_empty() {
                self.drained.notify_all();
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            batch.clear();
            std::mem::swap(&mut batch, &mut queue.bytes);
            queue.writing = Writing::Yes;
            let waiter = queue.waiter.take();
            drop(queue);
            if let Some(waiter) = waiter {
                waiter.wake();
            }
            write_batch(&mut target, &batch, pieces, &self.writes);
            // After a burst the memory goes back.
            batch.shrink_to(CAPACITY);
        }
    }
}

/// Writes a batch. If nobody can read it any more it is dropped: the workers must go on.
fn write_batch(target: &mut impl Write, batch: &[u8], pieces: Pieces, writes: &AtomicU64) {
    let mut rest = batch;
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(match pieces {
            Pieces::Any => rest.len().min(WRITE_LIMIT),
            Pieces::PipeAtoms => piece_length(rest),
        });
        if write_all(target, piece).is_err() {
            return;
        }
        writes.fetch_add(1, Ordering::Relaxed);
        rest = others;
    }
}

/// Length of the next piece: as many whole lines as a pipe takes whole, or one longer line.
fn piece_length(bytes: &[u8]) -> usize {
    let window = &bytes[..bytes.len().min(PIPE_ATOM)];
    if window.len() == bytes.len() {
        return bytes.len();
    }
    match window.iter().rposition(|byte| *byte == b'\n') {
        Some(index) => index + 1,
        None => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |index| index + 1),
    }
}

/// `write_all` that bears with a descriptor that somebody else made non-blocking.
fn write_all(target: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::task::Waker;

    use super::*;

    /// A sink into a blocking pipe, and the pipe's other end.
    fn piped(pieces: Pieces) -> (Sink, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Sink::start(writer, pieces).unwrap(), reader)
    }

    #[test]
    fn a_target_that_nobody_reads_blocks_no_one_and_loses_nothing() {
        let (sink, mut reader) = piped(Pieces::Any);
        let mut context = Context::from_waker(Waker::noop());
        let block = vec![b'x'; 1024 * 1024];
        let mut pushed = 0;
        while sink.poll_room(&mut context).is_ready() {
            sink.push(&block);
            pushed += block.len();
        }
        assert!(pushed >= CAPACITY);
        // The limit is all that this waits for.
        sink.flush(Duration::ZERO);
        let mut read = vec![0; pushed];
        reader.read_exact(&mut read).unwrap();
        sink.flush(Duration::from_mins(1));
        assert!(sink.poll_room(&mut context).is_ready());
    }

    #[test]
    fn a_target_that_is_gone_is_no_obstacle() {
        let (sink, reader) = piped(Pieces::Any);
        drop(reader);
        sink.push(b"into the void\n");
        sink.flush(Duration::from_mins(1));
        sink.push(b"again\n");
        sink.flush(Duration::from_mins(1));
    }

    #[test]
    fn pieces_are_whole_lines_that_a_pipe_takes_whole() {
        struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);
        impl Write for Writes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writes = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink::start(Writes(Arc::clone(&writes)), Pieces::PipeAtoms).unwrap();
        let text = ["short\n".repeat(1000), "long".repeat(3000), "\nend".to_owned()].concat();
        sink.push(text.as_bytes());
        sink.flush(Duration::from_mins(1));
        let writes = writes.lock().unwrap();
        assert_eq!(writes.concat(), text.as_bytes());
        let (last, others) = writes.split_last().unwrap();
        assert_eq!(last, b"end");
        assert!(others.iter().all(|piece| piece.ends_with(b"\n")));
        assert!(others.iter().all(|piece| piece.len() <= PIPE_ATOM || piece.starts_with(b"long")));
        assert!(others.len() < 10, "{}", others.len());
    }

    #[test]
    fn log_lines_go_the_same_way() {
        let (sink, reader) = piped(Pieces::Any);
        let mut log = sink.clone();
        log.write_all(b"first\n").unwrap();
        sink.push(b"10%\r");
        log.write_all(b"second\n").unwrap();
        let mut buffer = [0; 18];
        File::from(std::os::fd::OwnedFd::from(reader)).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"first\n10%\r\nsecond\n");
    }
}
