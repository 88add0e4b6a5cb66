//! Reading what a job writes, until nobody of it is left.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tractorun_sys::jobroot::Job;

use super::memory::{MemoryUsage, MemoryWatch};

/// Longest single wait: the kernel counts milliseconds in 31 bits.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collected {
    /// The job has ended and all that it wrote is read.
    Ended,
    /// It was still there at its deadline and was killed.
    TimeIsUp,
    /// It used more memory than it may and was killed.
    OutOfMemory(MemoryUsage),
}

/// What takes bytes.
type Sink<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// One output of a job and where its bytes go.
pub(super) struct Stream<'a> {
    reader: File,
    state: StreamState,
    sink: Sink<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Open,
    Ended,
}

impl<'a> Stream<'a> {
    pub(super) fn new(reader: OwnedFd, sink: impl FnMut(&[u8]) + 'a) -> Self {
        Stream { reader: File::from(reader), state: StreamState::Open, sink: Box::new(sink) }
    }

    fn read_available(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while self.state == StreamState::Open {
            match self.reader.read(&mut buffer) {
                Ok(0) => self.state = StreamState::Ended,
                Ok(count) => (self.sink)(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads the job's outputs until the job has ended. One that is still there at the deadline, or uses too much
/// memory, is killed.
pub(super) fn collect_all(
    job: &Job,
    streams: &mut [Stream<'_>],
    deadline: Option<Instant>,
    memory: Option<MemoryWatch>,
) -> io::Result<Collected> {
    for stream in &mut *streams {
        fcntl(&stream.reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let collected = collect(job, streams, deadline, memory)?;
    if collected != Collected::Ended {
        job.killer().kill();
        collect(job, streams, None, None)?;
    }
    Ok(collected)
}

/// Reads the job's outputs until the job has ended, the deadline has come, or too much memory is in use.
fn collect(
    job: &Job,
    streams: &mut [Stream<'_>],
    deadline: Option<Instant>,
    mut memory: Option<MemoryWatch>,
) -> io::Result<Collected> {
    loop {
        if let Some(usage) = memory.as_mut().and_then(MemoryWatch::too_much) {
            return Ok(Collected::OutOfMemory(usage));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(Collected::TimeIsUp);
        }
        let next = [deadline, memory.as_ref().map(MemoryWatch::next)].into_iter().flatten().min();
        let timeout = match next.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // Rounded up, so that the last millisecond is not spent in a busy loop.
            Some(left) => PollTimeout::try_from(left.min(LONGEST_WAIT) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::MAX),
        };
        let mut watched = vec![PollFd::new(job.ended(), PollFlags::POLLIN)];
        // A stream that has ended is always readable, so it must not be polled again.
        let open = streams.iter().filter(|stream| stream.state == StreamState::Open);
        watched.extend(open.map(|stream| PollFd::new(stream.reader.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // Asked before reading: what is read after the end of the job is all there is.
        let ended = watched[0].any().unwrap_or(false);
        drop(watched);
        for stream in &mut *streams {
            stream.read_available()?;
        }
        if ended {
            return Ok(Collected::Ended);
        }
    }
}
