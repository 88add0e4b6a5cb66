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

/// What the process is, as far as its signals are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A node of a job, with connections of its own.
    Job,
    /// The init of a program, without.
    Plain,
}

// === impl Kind ===

impl Kind {
    /// What is handed on. A job's init writes to sockets, and the kernel sends SIGPIPE to whoever does so after
    /// the peer is gone: handed on, a cluster's proxy that closes a connection would kill the workers. So there it
    /// stays ignored, as Rust has set it.
    fn forwarded(self) -> impl Iterator<Item = Signal> {
        Signal::forwardable().filter(move |signal| self == Self::Plain || *signal != Signal::PIPE)
    }
}

// === impl Signals ===

impl Signals {
    /// Takes SIGCHLD and everything that an init hands on. Needs a tokio runtime.
    ///
    /// The calling thread's mask is open from then on: what came since `main` blocked everything is taken too.
    pub(super) fn take_all(kind: Kind) -> io::Result<Self> {
        // An init that handed its terminal to its program writes to it from the background, and must be neither
        // stopped nor woken by that.
        signal::ignore(Signal::TTOU)?;
        signal::ignore(Signal::TTIN)?;
        let (reader, writer) = StdUnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let signals = kind.forwarded().chain([Signal::CHLD]).map(Signal::number);
        let delivery = SignalDelivery::with_pipe(UnixStream::from_std(reader)?, writer, SignalOnly, signals)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_hands_on_everything_but_what_its_own_sockets_cause() {
        let handed_on = |kind: Kind| kind.forwarded().collect::<Vec<_>>();
        let (job, plain) = (handed_on(Kind::Job), handed_on(Kind::Plain));
        assert!(plain.contains(&Signal::PIPE));
        assert!(plain.iter().all(|signal| job.contains(signal) != (*signal == Signal::PIPE)));
    }
}
