//! Reading the pipes of workers and sidecars.

mod shown;
mod stream;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use tractorun_sys::descriptor;

use super::lines::Style;
use super::sink::Sink;
use crate::logs::Intake;
use crate::metrics::{OutputCounts, OutputStream};
use crate::supervisor::Member;
use shown::Shown;
use stream::{End, Stream};

/// Room in each pipe, where the kernel allows it: a worker that writes a burst is not held up by us.
const PIPE_BYTES: u32 = 1024 * 1024;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// All streams of all workers and sidecars of a node.
pub struct Pump {
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

// === impl Pump ===

impl Pump {
    /// A pump without streams.
    pub fn new(sink: Sink) -> Self {
        let buffer = vec![0; READ_BYTES].into();
        Self {
            shown: Shown::new(sink),
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

    /// Whoever is started from now on belongs to this attempt. Nobody of the one before is alive: what its pipes
    /// still hold comes before all that the next ones write.
    pub fn begin_attempt(&mut self, attempt: u32) {
        if attempt != self.attempt {
            self.attempt = attempt;
            self.end_streams(|member| matches!(member, Member::Worker(_)));
        }
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
        let stdout = self.open_one(member, style, OutputStream::Stdout)?;
        let stderr = self.open_one(member, style, OutputStream::Stderr)?;
        Ok((stdout, stderr))
    }

    fn open_one(&mut self, member: Member, style: &Style, kind: OutputStream) -> io::Result<OwnedFd> {
        let (reader, writer) = descriptor::pipe()?;
        // Refused where the user has many pipes already: a smaller one does too.
        let _ = descriptor::set_pipe_size(writer.as_fd(), PIPE_BYTES);
        let feed = self.tables.as_ref().map(|Tables { intake, workers }| {
            let table = match member {
                Member::Worker(index) => index,
                Member::Sidecar(index) => workers + index,
            };
            intake.feed(table, kind, self.attempt)
        });
        let counts = Arc::clone(&self.counts);
        self.streams.push(Stream::new(member, kind, reader, style, feed, counts)?);
        Ok(writer)
    }

    /// Passes on what is readable; pending if nothing is or the sink is full. Safe to cancel: nothing is held
    /// between two calls that is not also in `self`.
    pub async fn pump(&mut self) {
        std::future::poll_fn(|context| self.poll_pump(context)).await;
    }

    fn poll_pump(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.shown.poll(context, self.tables.is_some()).is_pending() {
            return Poll::Pending;
        }
        if let Some(tables) = &self.tables
            && tables.intake.poll_room(context).is_pending()
        {
            return Poll::Pending;
        }
        let mut did_something = false;
        // One read each, so that a loud worker does not hold up the others.
        for stream in &mut self.streams {
            did_something |= stream.poll(context, &mut self.buffer, &mut self.batch).is_ready();
        }
        self.flush_batch();
        if did_something { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Passes on all that a dead member has left in its pipes, whoever else holds them; returns the last lines of
    /// its stderr.
    pub fn drain(&mut self, member: Member) -> Vec<String> {
        let mut last_lines = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.member == member) {
            stream.drain(&mut self.buffer, &mut self.batch);
            if let Some(lines) = stream.last_lines() {
                last_lines = lines;
            }
        }
        self.flush_batch();
        last_lines
    }

    /// Passes on all that is left of everybody: the tree is dead.
    pub fn finish(&mut self) {
        self.end_streams(|_| true);
    }

    fn end_streams(&mut self, whose: impl Fn(Member) -> bool) {
        for stream in self.streams.iter_mut().filter(|stream| whose(stream.member)) {
            stream.drain(&mut self.buffer, &mut self.batch);
            if stream.end == End::Open {
                stream.reach_end(&mut self.batch);
            }
        }
        self.flush_batch();
    }

    fn flush_batch(&mut self) {
        self.shown.push(&self.batch);
        self.batch.clear();
        self.batch.shrink_to(2 * READ_BYTES);
    }
}

#[cfg(test)]
mod tests;
