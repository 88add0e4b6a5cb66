//! Descriptors: pipes, sizes, places above the standard three.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens a pipe for a program's output; both ends are close-on-exec. The reading end is non-blocking, the
/// writing end, which the program gets, is not.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = blocking_pipe()?;
    // SAFETY: fcntl with F_SETFL takes numbers only, and the descriptor is open. A new pipe has no other flags.
    if unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((reader, writer))
}

/// Asks the kernel for a pipe buffer of this many bytes. It may refuse (`EPERM` beyond the user's limit), which
/// costs speed only.
pub fn set_pipe_size(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: fcntl with F_SETPIPE_SZ takes numbers only, and the descriptor is open.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many descriptors a process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    soft: libc::rlim_t,
    hard: libc::rlim_t,
}

/// More than this is of no use to anybody here, and some programs close all that they may have.
const ENOUGH: libc::rlim_t = 65_536;

impl Limit {
    /// Of the calling process.
    pub fn current() -> io::Result<Self> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` outlives the call.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { soft: limit.rlim_cur, hard: limit.rlim_max })
    }

    /// How many that is.
    pub fn descriptors(self) -> u64 {
        self.soft
    }

    /// Makes it the calling process's. A system call and nothing else.
    pub(crate) fn apply(self) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: self.soft, rlim_max: self.hard };
        // SAFETY: `limit` outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Allows the calling process as many descriptors as it may have, within reason; returns what it was allowed
/// before, which programs that it starts should get back (some cannot bear a high limit).
pub fn raise_limit() -> io::Result<Limit> {
    let before = Limit::current()?;
    if before.soft < ENOUGH {
        Limit { soft: before.hard.min(ENOUGH), ..before }.apply()?;
    }
    Ok(before)
}

/// A pipe whose ends both block; both are close-on-exec.
pub(crate) fn blocking_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors into an array of two.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are fresh and nobody else's.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// `/dev/null` for reading and writing.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// Moves a descriptor above 2, if it is not there: a program started with a closed stdin opens files as 0.
pub(crate) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate_above_standard(&fd) }
}

/// A close-on-exec duplicate above 2.
pub(crate) fn duplicate_above_standard(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC takes numbers only, and the descriptor is open.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is fresh and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn reading_an_empty_pipe_does_not_block() {
        let (reader, writer) = pipe().unwrap();
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"abc").unwrap();
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn a_pipe_takes_the_size_it_is_given() {
        let (_reader, writer) = pipe().unwrap();
        set_pipe_size(writer.as_fd(), 128 * 1024).unwrap();
        // SAFETY: fcntl with F_GETPIPE_SZ takes numbers only.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) }, 128 * 1024);
    }

    #[test]
    fn a_raised_limit_is_given_back_to_programs() {
        let ask = |limit: Option<Limit>| {
            let (reader, writer) = blocking_pipe().unwrap();
            let mut command = crate::spawn::Command::new("/bin/sh");
            command.args = vec!["-c".into(), "ulimit -Sn".into()];
            command.stdout = crate::spawn::Stdio::Fd(writer);
            command.descriptor_limit = limit;
            let child = crate::spawn::spawn(&command).unwrap();
            drop(command);
            let mut text = String::new();
            File::from(reader).read_to_string(&mut text).unwrap();
            crate::reap::wait_pid(child).unwrap();
            text.trim().parse::<u64>().unwrap()
        };
        let low = Limit { soft: 100, ..Limit::current().unwrap() };
        assert_eq!(ask(Some(low)), 100);
        low.apply().unwrap();
        assert_eq!(raise_limit().unwrap(), low);
        let raised = Limit::current().unwrap().descriptors();
        assert!(raised > 100, "{raised}");
        assert_eq!((ask(None), ask(Some(low))), (raised, 100));
    }

    #[test]
    fn duplicates_are_above_the_standard_three() {
        let (reader, _writer) = pipe().unwrap();
        assert!(duplicate_above_standard(&reader).unwrap().as_raw_fd() > 2);
    }
}
