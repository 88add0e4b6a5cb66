//! Signals as a stream of events: signal-hook's handlers and a self-pipe on tokio.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use tokio::net::UnixStream;
use tractorun_sys::{Signal, signal};

/// The signals that this process takes.
pub(super) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

// === impl Signals ===

impl Signals {
    /// Takes SIGCHLD and everything that an init hands on. Needs a tokio runtime.
    ///
    /// Signals that come earlier are lost for PID 1, so this comes first.
    pub(super) fn take_all() -> io::Result<Self> {
        // An init that handed its terminal to its program writes to it from the background, and must be neither
        // stopped nor woken by that.
        signal::ignore(Signal::TTOU)?;
        signal::ignore(Signal::TTIN)?;
        let (reader, writer) = StdUnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let signals = Signal::forwardable().chain([Signal::CHLD]).map(Signal::number);
        let delivery = SignalDelivery::with_pipe(UnixStream::from_std(reader)?, writer, SignalOnly, signals)?;
        // Whoever started us may have blocked some, and a mask is inherited.
        signal::unblock_all_in_this_thread();
        Ok(Self { delivery })
    }

    /// The signals that came since the last call, at least one; several of one kind count once, as the kernel has
    /// it. Safe to cancel: they are taken after the only wait.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Signal>> {
        loop {
            self.delivery.get_read().readable().await?;
            // The pipe is emptied before the flags are read: a signal between the two is seen now and wakes us
            // once more for nothing, but is never missed.
            let mut bytes = [0; 256];
            while matches!(self.delivery.get_read().try_read(&mut bytes), Ok(count) if count > 0) {}
            let signals: Vec<Signal> = self.delivery.pending().filter_map(Signal::from_number).collect();
            if !signals.is_empty() {
                return Ok(signals);
            }
        }
    }
}
