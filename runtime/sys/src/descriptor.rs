//! Descriptors: pipes, non-blocking reads, sizes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Opens a pipe; both ends are close-on-exec. The reading end is non-blocking, the writing end, which a
/// program gets as its stdout, is not.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    todo!()
}

/// Asks the kernel for a pipe buffer of this many bytes. It may refuse (`EPERM` beyond the user's limit), which
/// costs speed only.
pub fn set_pipe_size(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let _ = (fd, bytes);
    todo!()
}
