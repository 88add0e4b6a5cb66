//! The lifeline: a pipe as standard input whose end means that the launcher is gone.

use std::io::Read;

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
