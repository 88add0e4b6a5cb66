//! Stopping work on another thread: packing and hashing read through a flag.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that ends blocking work early. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks all work that holds a clone to end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A reader that fails once cancelling is requested.
    pub(super) fn reader<R: Read>(&self, inner: R) -> CancelReader<R> {
        CancelReader { inner, cancel: self.clone() }
    }
}

/// See [`Cancel::reader`].
pub(super) struct CancelReader<R> {
    inner: R,
    cancel: Cancel,
}

impl<R: Read> Read for CancelReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            // Not `Interrupted`: that kind is retried by every reading loop.
            return Err(io::Error::other("cancelled"));
        }
        self.inner.read(buffer)
    }
}
