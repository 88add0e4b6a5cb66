//! Reading the pipes of workers and sidecars.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::time::{Sleep, sleep};
use tracing::warn;
use tractorun_sys::descriptor;

use super::lines::{Splitter, Style};
use super::sink::Sink;
use super::tail::Tail;
use crate::logs::{Feed, Intake};
use crate::metrics::{OutputCounts, OutputStream};
use crate::supervisor::Member;

/// Room in each pipe, where the kernel allows it: a worker that writes a burst is not held up by us.
const PIPE_BYTES: u32 = 1024 * 1024;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// What is read at most of one stream when its worker is dead: all that the pipe can hold. Whoever else has the
/// pipe may go on writing, and must not hold up the report.
const DRAIN_BYTES: usize = 2 * PIPE_BYTES as usize;

/// A stderr that takes nothing for so long is one that nobody reads. What goes into tables does not wait for it then.
const PATIENCE: Duration = Duration::from_secs(2);

/// All streams of all workers and sidecars of a node.
pub struct Pump {
    sink: Sink,
    shown: Shown,
    tables: Option<Tables>,
    streams: Vec<Stream>,
    buffer: Box<[u8]>,
    /// What is ready for the sink.
    batch: Vec<u8>,
    counts: Arc<OutputCounts>,
    attempt: u32,
}

/// Where lines go besides stderr.
struct Tables {
    intake: Intake,
    /// Workers have the first tables, sidecars those behind them.
    workers: usize,
}

/// Whether what is read is shown.
enum Shown {
    Yes,
    /// Stderr is full since this timer was started, and has not moved since.
    Waiting {
        timer: Pin<Box<Sleep>>,
        progress: u64,
    },
    /// Nobody reads stderr, and all goes into tables: so many bytes were not shown.
    No {
        bytes: u64,
    },
}

struct Stream {
    /// Whose it is.
    member: Member,
    source: pipe::Receiver,
    splitter: Splitter,
    /// Into its table, where there are any.
    feed: Option<Feed>,
    kind: OutputStream,
    counts: Arc<OutputCounts>,
    /// For stderr: its last lines.
    tail: Option<Tail>,
    end: End,
}

/// Whether a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Reached,
}

// === impl Pump ===

impl Pump {
    /// A pump without streams.
    pub fn new(sink: Sink) -> Self {
        let buffer = vec![0; READ_BYTES].into();
        Self {
            sink,
            shown: Shown::Yes,
            tables: None,
            streams: Vec::new(),
            buffer,
            batch: Vec::new(),
            counts: Arc::default(),
            attempt: 0,
        }
    }

    /// The same, whose lines go into tables too: the first so many are those of the workers.
    #[must_use]
    pub fn feeding(self, intake: Intake, workers: usize) -> Self {
        Self { tables: Some(Tables { intake, workers }), ..self }
    }

    /// Whoever is started from now on belongs to this attempt.
    pub fn begin_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    /// The same, which counts there what it reads.
    #[must_use]
    pub fn counting(self, counts: Arc<OutputCounts>) -> Self {
        Self { counts, ..self }
    }

    /// Opens the pipes of a member; returns the ends that it gets as stdout and stderr. Needs a tokio runtime.
    pub fn open(&mut self, member: Member, style: &Style) -> io::Result<(OwnedFd, OwnedFd)> {
        // Of an earlier life, if it is a sidecar that starts again.
        self.streams.retain(|stream| stream.member != member || stream.end == End::Open);
        let stdout = self.open_one(member, style, None)?;
        let stderr = self.open_one(member, style, Some(Tail::default()))?;
        Ok((stdout, stderr))
    }

    fn open_one(&mut self, member: Member, style: &Style, tail: Option<Tail>) -> io::Result<OwnedFd> {
        let (reader, writer) = descriptor::pipe()?;
        // Refused where the user has many pipes already: a smaller one does too.
        let _ = descriptor::set_pipe_size(writer.as_fd(), PIPE_BYTES);
        let source = pipe::Receiver::from_owned_fd(reader)?;
        let kind = if tail.is_some() { OutputStream::Stderr } else { OutputStream::Stdout };
        let feed = self.tables.as_ref().map(|Tables { intake, workers }| {
            let table = match member {
                Member::Worker(index) => index,
                Member::Sidecar(index) => workers + index,
            };
            intake.feed(table, kind, self.attempt)
        });
        self.streams.push(Stream {
            member,
            source,
            splitter: Splitter::new(style.clone()),
            feed,
            kind,
            counts: Arc::clone(&self.counts),
            tail,
            end: End::Open,
        });
        Ok(writer)
    }

    /// Passes on what is readable; pending if nothing is or the sink is full. Safe to cancel: nothing is held
    /// between two calls that is not also in `self`.
    pub async fn pump(&mut self) {
        std::future::poll_fn(|context| self.poll_pump(context)).await;
    }

    fn poll_pump(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_shown(context).is_pending() {
            return Poll::Pending;
        }
        if let Some(tables) = &self.tables
            && tables.intake.poll_room(context).is_pending()
        {
            return Poll::Pending;
        }
        let mut did_something = false;
        for stream in &mut self.streams {
            if stream.end == End::Reached {
                continue;
            }
            // One read each, so that a loud worker does not hold up the others.
            let mut read = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut stream.source).poll_read(context, &mut read) {
                Poll::Pending => continue,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    stream.take(read.filled(), &mut self.batch);
                }
                // Nothing read, or an error of a pipe, which can only mean its end.
                Poll::Ready(_) => stream.reach_end(&mut self.batch),
            }
            did_something = true;
        }
        self.flush_batch();
        if did_something { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether to read, as far as stderr is concerned. A slow stderr slows the workers down, as it would without us. One
    /// that nobody reads must not keep lines from their tables, so after a while it goes without.
    fn poll_shown(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sink.poll_room(context).is_ready() {
            if let Shown::No { bytes } = self.shown {
                warn!(
                    "{bytes} bytes of output are missing here: nobody read them, they are in the log tables"
                );
            }
            self.shown = Shown::Yes;
            return Poll::Ready(());
        }
        if self.tables.is_none() {
            return Poll::Pending;
        }
        let now = self.sink.progress();
        let waits_on = matches!(&self.shown, Shown::Waiting { progress, .. } if *progress == now);
        if !waits_on && !matches!(self.shown, Shown::No { .. }) {
            self.shown = Shown::Waiting { timer: Box::pin(sleep(PATIENCE)), progress: now };
        }
        if let Shown::Waiting { timer, .. } = &mut self.shown {
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.shown = Shown::No { bytes: 0 };
        }
        Poll::Ready(())
    }

    /// Passes on all that a dead member has left in its pipes, whoever else holds them; returns the last lines of
    /// its stderr.
    pub fn drain(&mut self, member: Member) -> Vec<String> {
        let mut last_lines = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.member == member) {
            stream.drain(&mut self.buffer, &mut self.batch);
            if let Some(tail) = &stream.tail {
                last_lines = tail.lines(stream.splitter.unfinished());
            }
        }
        self.flush_batch();
        last_lines
    }

    /// Passes on all that is left of everybody: the tree is dead.
    pub fn finish(&mut self) {
        for stream in &mut self.streams {
            stream.drain(&mut self.buffer, &mut self.batch);
            if stream.end == End::Open {
                stream.reach_end(&mut self.batch);
            }
        }
        self.flush_batch();
    }

    fn flush_batch(&mut self) {
        match &mut self.shown {
            Shown::No { bytes } => *bytes += self.batch.len() as u64,
            Shown::Yes | Shown::Waiting { .. } => self.sink.push(&self.batch),
        }
        self.batch.clear();
        self.batch.shrink_to(2 * READ_BYTES);
    }
}

// === impl Stream ===

impl Stream {
    fn take(&mut self, bytes: &[u8], batch: &mut Vec<u8>) {
        self.counts.count(self.kind, bytes);
        if let Some(feed) = &mut self.feed {
            feed.take(bytes);
        }
        let tail = &mut self.tail;
        self.splitter.feed(bytes, batch, &mut |complete| {
            if let Some(tail) = tail {
                tail.push(complete);
            }
        });
    }

    fn reach_end(&mut self, batch: &mut Vec<u8>) {
        self.end = End::Reached;
        if let Some(feed) = &mut self.feed {
            feed.end();
        }
        let tail = &mut self.tail;
        self.splitter.end(batch, &mut |complete| {
            if let Some(tail) = tail {
                tail.push(complete);
            }
        });
    }

    /// Reads until the pipe is empty. Past tokio, which would say "nothing there" until its reactor has looked.
    fn drain(&mut self, buffer: &mut [u8], batch: &mut Vec<u8>) {
        let mut left = DRAIN_BYTES;
        while self.end == End::Open && left > 0 {
            match nix::unistd::read(self.source.as_fd(), buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => self.reach_end(batch),
                Ok(count) => {
                    self.take(&buffer[..count], batch);
                    left = left.saturating_sub(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;
    use crate::output::sink::Pieces;

    struct Harness {
        pump: Pump,
        sink: Sink,
        shown: std::io::PipeReader,
    }

    impl Harness {
        fn new() -> Self {
            let (shown, target) = std::io::pipe().unwrap();
            let sink = Sink::start(target, Pieces::Any).unwrap();
            Self { pump: Pump::new(sink.clone()), sink, shown }
        }

        fn open(&mut self, worker: usize) -> (File, File) {
            let style = Style::Shared { prefix: format!("[{worker}] ").into_bytes() };
            let (stdout, stderr) = self.pump.open(Member::Worker(worker), &style).unwrap();
            (stdout.into(), stderr.into())
        }

        /// What has been shown; all of it fits into the pipe.
        fn shown(&mut self, count: usize) -> String {
            self.sink.flush(Duration::from_mins(1));
            let mut bytes = vec![0; count];
            self.shown.read_exact(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_shown_as_soon_as_they_are_written() {
        let mut harness = Harness::new();
        let (mut stdout, mut stderr) = harness.open(0);
        stdout.write_all(b"one\nhalf").unwrap();
        harness.pump.pump().await;
        assert_eq!(harness.shown(8), "[0] one\n");
        stderr.write_all(b"error\n").unwrap();
        harness.pump.pump().await;
        assert_eq!(harness.shown(10), "[0] error\n");
        stdout.write_all(b" line\n").unwrap();
        harness.pump.pump().await;
        assert_eq!(harness.shown(14), "[0] half line\n");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_dead_worker_is_drained_though_somebody_else_holds_its_pipes() {
        let mut harness = Harness::new();
        let (mut stdout, mut stderr) = harness.open(0);
        let _grandchild = (stdout.try_clone().unwrap(), stderr.try_clone().unwrap());
        stdout.write_all(b"to stdout\n").unwrap();
        stderr.write_all(b"Traceback\nboom").unwrap();
        drop((stdout, stderr));
        assert_eq!(harness.pump.drain(Member::Worker(0)), ["Traceback", "boom"]);
        assert_eq!(harness.shown(28), "[0] to stdout\n[0] Traceback\n");
        harness.pump.finish();
        assert_eq!(harness.shown(9), "[0] boom\n");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_starts_again_leaves_no_streams_behind() {
        let mut harness = Harness::new();
        for life in 0..3 {
            let (stdout, mut stderr) = harness.open(0);
            stderr.write_all(format!("life {life}\n").as_bytes()).unwrap();
            drop((stdout, stderr));
            assert_eq!(harness.pump.drain(Member::Worker(0)), [format!("life {life}")]);
            assert_eq!(harness.pump.streams.len(), 2);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_burst_larger_than_a_pipe_comes_out_whole() {
        let mut harness = Harness::new();
        let (mut stdout, stderr) = harness.open(7);
        drop(stderr);
        let text = "0123456789\n".repeat(500_000);
        let expected = "[7] 0123456789\n".repeat(500_000);
        let mut shown = harness.shown.try_clone().unwrap();
        let writer = std::thread::spawn(move || stdout.write_all(text.as_bytes()).unwrap());
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; expected.len()];
            shown.read_exact(&mut bytes).unwrap();
            assert!(bytes == expected.as_bytes());
        });
        while harness.pump.streams.iter().any(|stream| stream.end == End::Open) {
            harness.pump.pump().await;
        }
        writer.join().unwrap();
        reader.join().unwrap();
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_nobody_reads_on_stderr_goes_into_its_table_all_the_same() {
        let mut harness = Harness::new();
        let (intake, taken) = crate::logs::testing::intake(u64::MAX);
        harness.pump = Pump::new(harness.sink.clone()).feeding(intake, 1);
        let (mut stdout, stderr) = harness.open(0);
        drop(stderr);
        let text = "0123456789\n".repeat(1_000_000);
        let writer = std::thread::spawn(move || stdout.write_all(text.as_bytes()).unwrap());
        while harness.pump.streams.iter().any(|stream| stream.end == End::Open) {
            // Nobody reads: time passes only where the pump waits for it.
            harness.pump.pump().await;
        }
        writer.join().unwrap();
        assert_eq!(taken(), 1_000_000);
        assert!(matches!(harness.pump.shown, Shown::No { bytes } if bytes > 1_000_000));

        // Who reads again sees whole lines.
        let mut shown = harness.shown.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut chunk = vec![0; 1 << 16];
            while !bytes.ends_with(b"the end\n") {
                let count = shown.read(&mut chunk).unwrap();
                bytes.extend_from_slice(&chunk[..count]);
            }
            String::from_utf8(bytes).unwrap()
        });
        std::future::poll_fn(|context| harness.sink.poll_room(context)).await;
        let (mut stdout, _stderr) = harness.open(0);
        stdout.write_all(b"the end\n").unwrap();
        harness.pump.pump().await;
        assert!(matches!(harness.pump.shown, Shown::Yes));
        let lines = reader.join().unwrap();
        assert!(lines.lines().all(|line| line == "[0] 0123456789" || line == "[0] the end"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_table_stops_the_reading_until_there_is_room() {
        let mut harness = Harness::new();
        let (intake, taken) = crate::logs::testing::intake(1 << 20);
        harness.pump = Pump::new(harness.sink.clone()).feeding(intake, 1);
        let (mut stdout, _stderr) = harness.open(0);
        let shown = harness.shown.try_clone().unwrap();
        std::thread::spawn(move || {
            std::io::copy(&mut File::from(OwnedFd::from(shown)), &mut std::io::sink())
        });
        let writer = std::thread::spawn(move || stdout.write_all(&vec![b'\n'; 4 << 20]).unwrap());
        let mut context = Context::from_waker(std::task::Waker::noop());
        // The intake holds a mebibyte, and a read is at most this much more.
        let mut lines = 0;
        while lines < 4 << 20 {
            while harness.pump.poll_pump(&mut context).is_ready() {}
            let now = taken();
            assert!(now - lines <= (1 << 20) + READ_BYTES as u64, "{}", now - lines);
            lines = now;
            tokio::task::yield_now().await;
        }
        writer.join().unwrap();
    }
}
