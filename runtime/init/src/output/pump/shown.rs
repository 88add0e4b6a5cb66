//! Whether what is read is shown on stderr, and who waits for that.
//!
//! A slow stderr slows the workers down, as it would without us. One that nobody reads must not keep lines from their
//! tables, so after a while they go without it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::output::sink::Sink;

/// A stderr that takes nothing for so long is one that nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);

/// Init's stderr, as far as the pump is concerned.
pub(super) struct Shown {
    sink: Sink,
    state: State,
}

/// Whether what is read is shown.
enum State {
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

// === impl Shown ===

impl Shown {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, state: State::Yes }
    }

    /// Bytes that were read and not shown, since nobody reads stderr.
    #[cfg(test)]
    pub(super) fn missing(&self) -> Option<u64> {
        match self.state {
            State::No { bytes } => Some(bytes),
            State::Yes | State::Waiting { .. } => None,
        }
    }

    /// Whether to read, as far as stderr is concerned; `has_tables` says whether lines have anywhere else to go.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, has_tables: bool) -> Poll<()> {
        if self.sink.poll_room(context).is_ready() {
            if let State::No { bytes } = self.state {
                warn!(
                    "{bytes} bytes of output are missing here: nobody read them, they are in the log tables"
                );
            }
            self.state = State::Yes;
            return Poll::Ready(());
        }
        if !has_tables {
            return Poll::Pending;
        }
        let now = self.sink.progress();
        let waits_on = matches!(&self.state, State::Waiting { progress, .. } if *progress == now);
        if !waits_on && !matches!(self.state, State::No { .. }) {
            self.state = State::Waiting { timer: Box::pin(sleep(PATIENCE)), progress: now };
        }
        if let State::Waiting { timer, .. } = &mut self.state {
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.state = State::No { bytes: 0 };
        }
        Poll::Ready(())
    }

    /// Shows it, or counts what is not shown.
    pub(super) fn push(&mut self, batch: &[u8]) {
        match &mut self.state {
            State::No { bytes } => *bytes += batch.len() as u64,
            State::Yes | State::Waiting { .. } => self.sink.push(batch),
        }
    }
}
