//! One pipe of a worker or sidecar: read, counted, cut, and handed on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use crate::logs::Feed;
use crate::metrics::{OutputCounts, OutputStream};
use crate::output::lines::{Splitter, Style};
use crate::output::tail::Tail;
use crate::supervisor::Member;

/// What is read at most when the worker is dead: all that the pipe can hold. Whoever else has the pipe may go on
/// writing, and must not hold up the report.
const DRAIN_BYTES: usize = 2 * super::PIPE_BYTES as usize;

/// The reading end of a pipe.
pub(super) struct Stream {
    /// Whose it is.
    pub(super) member: Member,
    source: pipe::Receiver,
    splitter: Splitter,
    /// Into its table, where there are any.
    feed: Option<Feed>,
    kind: OutputStream,
    counts: Arc<OutputCounts>,
    /// For stderr: its last lines.
    tail: Option<Tail>,
    pub(super) end: End,
}

/// Whether a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Reached,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(
        member: Member,
        kind: OutputStream,
        reader: OwnedFd,
        style: &Style,
        feed: Option<Feed>,
        counts: Arc<OutputCounts>,
    ) -> io::Result<Self> {
        let tail = (kind == OutputStream::Stderr).then(Tail::default);
        let (source, splitter) = (pipe::Receiver::from_owned_fd(reader)?, Splitter::new(style.clone()));
        Ok(Self { member, source, splitter, feed, kind, counts, tail, end: End::Open })
    }

    /// One read; pending if there is nothing to be read.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        batch: &mut Vec<u8>,
    ) -> Poll<()> {
        if self.end == End::Reached {
            return Poll::Pending;
        }
        let mut read = ReadBuf::new(buffer);
        match Pin::new(&mut self.source).poll_read(context, &mut read) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => self.take(read.filled(), batch),
            // Nothing read, or an error of a pipe, which can only mean its end.
            Poll::Ready(_) => self.reach_end(batch),
        }
        Poll::Ready(())
    }

    /// For stderr: its last lines.
    pub(super) fn last_lines(&self) -> Option<Vec<String>> {
        self.tail.as_ref().map(|tail| tail.lines(self.splitter.unfinished()))
    }

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

    /// Nothing more comes, whoever still has the pipe.
    pub(super) fn reach_end(&mut self, batch: &mut Vec<u8>) {
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
    pub(super) fn drain(&mut self, buffer: &mut [u8], batch: &mut Vec<u8>) {
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
