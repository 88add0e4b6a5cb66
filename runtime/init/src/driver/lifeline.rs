//! Pipes whose end means that somebody is gone: the launcher (standard input), the guard (see
//! [`tractorun_sys::guard`]).

use std::io::Read;
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Watches standard input.
#[derive(Debug)]
pub struct Lifeline {
    ended: Option<oneshot::Receiver<()>>,
}

// === impl Lifeline ===

impl Lifeline {
    /// No lifeline: it never ends.
    pub fn none() -> Self {
        Self { ended: None }
    }

    /// Reads the source to its end on a thread of its own. A thread, because standard input may be anything (a
    /// file, a terminal) and is shared with others, so that it can be neither polled nor made non-blocking.
    pub fn watch(mut source: impl Read + Send + 'static) -> std::io::Result<Self> {
        let (sender, ended) = oneshot::channel();
        std::thread::Builder::new().name("lifeline".to_owned()).stack_size(64 * 1024).spawn(move || {
            tractorun_sys::signal::block_all_in_this_thread();
            let mut buffer = [0; 64];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // Nobody listens any more: then it does not matter.
            let _ = sender.send(());
        })?;
        Ok(Self { ended: Some(ended) })
    }

    /// Returns when it has ended, once. Safe to cancel.
    pub async fn end(&mut self) {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        // An error means that the thread is gone without a word, which comes to the same.
        let _ = ended.await;
        self.ended = None;
    }
}

/// Watches the guard.
#[derive(Debug)]
pub struct GuardLine(Guard);

#[derive(Debug)]
enum Guard {
    /// There is none.
    None,
    Alive(pipe::Receiver),
    Gone,
}

// === impl GuardLine ===

impl GuardLine {
    /// No guard: it never ends.
    pub fn none() -> Self {
        Self(Guard::None)
    }

    /// Watches the reading end of a pipe that only the guard holds. Needs a tokio runtime.
    pub fn watch(line: OwnedFd) -> std::io::Result<Self> {
        Ok(Self(Guard::Alive(pipe::Receiver::from_owned_fd(line)?)))
    }

    /// Returns when the guard is gone, once. Safe to cancel.
    pub async fn end(&mut self) {
        let Guard::Alive(line) = &mut self.0 else { return std::future::pending().await };
        // Nobody writes; an error of a pipe can only be its end.
        while matches!(line.read(&mut [0; 8]).await, Ok(count) if count > 0) {}
        self.0 = Guard::Gone;
    }

    /// Whether that has happened.
    pub fn is_gone(&self) -> bool {
        matches!(self.0, Guard::Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn it_ends_with_the_pipe_and_only_once() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut lifeline = Lifeline::watch(reader).unwrap();
        writer.write_all(b"not the end").unwrap();
        drop(writer);
        lifeline.end().await;
        tokio::select! {
            biased;
            () = lifeline.end() => panic!("it ended twice"),
            () = std::future::ready(()) => {}
        }
    }
}
