//! The connection as faults see it: it counts what passes, and can be cut at an exact place.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::counters::Tally;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere.
    None,
    /// At the next byte.
    Now,
    /// So many bytes behind the head of the answer.
    BehindHead {
        /// How many bytes of its end, `\r\n\r\n`, have passed.
        matched: u8,
        /// How many bytes of the body pass.
        body: u64,
    },
    /// This many bytes from here.
    Behind(u64),
    /// When the whole answer has passed, which [`WireControl::answer_ended`] tells.
    AfterAnswer,
    /// When what is in buffers has passed.
    AtFlush,
}

const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";

impl Cut {
    /// How many of these bytes may pass, and where the cut is when they have.
    fn pass(self, bytes: &[u8]) -> (usize, Cut) {
        match self {
            Cut::None | Cut::AfterAnswer | Cut::AtFlush => (bytes.len(), self),
            Cut::Now => (0, Cut::Now),
            Cut::Behind(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - most as u64;
                (most, if left == 0 { Cut::Now } else { Cut::Behind(left) })
            }
            Cut::BehindHead { mut matched, body } => {
                for (index, byte) in bytes.iter().enumerate() {
                    matched = match (matched, byte) {
                        (matched, byte) if *byte == END_OF_HEAD[usize::from(matched)] => matched + 1,
                        (_, b'\r') => 1,
                        _ => 0,
                    };
                    if usize::from(matched) == END_OF_HEAD.len() {
                        let (rest, cut) = match body {
                            0 => (0, Cut::Now),
                            body => Cut::Behind(body).pass(&bytes[index + 1..]),
                        };
                        return (index + 1 + rest, cut);
                    }
                }
                (bytes.len(), Cut::BehindHead { matched, body })
            }
        }
    }
}

#[derive(Debug)]
struct State {
    cut: Cut,
    /// Whose bytes go out.
    tally: Option<Arc<Tally>>,
}

/// The part of a connection that its requests hold.
#[derive(Debug)]
pub(crate) struct WireControl {
    state: Mutex<State>,
    bytes_in: AtomicU64,
}

impl WireControl {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans the end of this connection.
    pub(crate) fn cut(&self, cut: Cut) {
        self.state().cut = cut;
    }

    /// Nothing of the answer is left but what is in buffers.
    pub(crate) fn answer_ended(&self) {
        let mut state = self.state();
        if state.cut == Cut::AfterAnswer {
            state.cut = Cut::AtFlush;
        }
    }

    /// What came since the last request is this one's, and what goes from here on is its answer.
    pub(crate) fn account(&self, tally: Arc<Tally>) {
        tally.add_request(self.bytes_in.swap(0, Ordering::Relaxed));
        self.state().tally = Some(tally);
    }
}

/// A stream that can end with a reset instead of an orderly end.
pub(crate) trait Resettable {
    /// Makes its end a reset.
    fn reset_at_end(&self);
}

impl Resettable for TcpStream {
    fn reset_at_end(&self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "a connection cannot be reset and is closed instead");
        }
    }
}

/// A stream that does what its control says.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    control: Arc<WireControl>,
}

impl<S: Resettable> Wire<S> {
    pub(crate) fn new(stream: S) -> (Wire<S>, Arc<WireControl>) {
        let state = State { cut: Cut::None, tally: None };
        let control = Arc::new(WireControl { state: Mutex::new(state), bytes_in: AtomicU64::new(0) });
        (Wire { stream, control: Arc::clone(&control) }, control)
    }

    fn reset(&self) -> io::Error {
        self.stream.reset_at_end();
        io::Error::new(io::ErrorKind::ConnectionReset, "reset by a planned fault")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = target.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, target))?;
        let count = target.filled().len() - before;
        self.control.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Resettable + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let cut = this.control.state().cut;
        let (allowed, _) = cut.pass(bytes);
        if allowed == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(this.reset()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..allowed]))?;
        let mut state = this.control.state();
        if state.cut == cut {
            state.cut = cut.pass(&bytes[..written]).1;
        }
        if let Some(tally) = &state.tally {
            tally.add_sent(written as u64);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.control.state().cut != Cut::None {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return Pin::new(this).poll_write(context, first.map_or(&[], |first| first));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, pieces))?;
        if let Some(tally) = &this.control.state().tally {
            tally.add_sent(written as u64);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // Flushing comes behind the last write, so that an ended answer has passed.
        let cut = self.control.state().cut;
        Poll::Ready(if matches!(cut, Cut::AtFlush | Cut::Now) { Err(self.reset()) } else { Ok(()) })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_behind_the_head_is_exact_however_the_bytes_come() {
        let answer = b"HTTP/1.1 200 OK\r\nA: \r\r\n\r\nbody";
        let head = answer.len() - 4;
        for (body, wanted) in [(0, head), (2, head + 2), (4, head + 4), (9, answer.len())] {
            for piece in 1..answer.len() {
                let mut cut = Cut::BehindHead { matched: 0, body };
                let mut passed = 0;
                for bytes in answer.chunks(piece) {
                    let (count, next) = cut.pass(bytes);
                    cut = next;
                    passed += count;
                    if count < bytes.len() {
                        break;
                    }
                }
                assert_eq!(passed, wanted, "{body} {piece}");
                assert_eq!(cut == Cut::Now, body <= 4, "{body} {piece}");
            }
        }
    }
}
