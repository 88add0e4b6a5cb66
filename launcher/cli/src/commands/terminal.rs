//! Talking to the person in front of stderr: permanent lines, one status line redrawn in place, and the job's
//! own output between them.
//!
//! On a terminal the status line is redrawn; in a pipe each change of it is a plain line. Clones share the
//! line. Nothing here writes to stdout, which is for data.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Report;

/// A handle on stderr. Clones share it.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// The status line; hidden in a pipe.
    bar: ProgressBar,
    kind: Kind,
    report: Report,
    /// In a pipe: the last status that was printed.
    last: Arc<Mutex<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Interactive,
    Pipe,
}

impl Terminal {
    /// The process's stderr.
    pub fn stderr(report: Report) -> Self {
        let kind = if io::stderr().is_terminal() { Kind::Interactive } else { Kind::Pipe };
        let target = match kind {
            Kind::Interactive => ProgressDrawTarget::stderr(),
            Kind::Pipe => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar, kind, report, last: Arc::default() }
    }

    /// A line that stays.
    pub fn line(&self, text: impl Display) {
        self.bar.suspend(|| self.report.note(&text.to_string()));
    }

    /// A line that stays and says that something is not as it should be.
    pub fn warning(&self, text: impl Display) {
        self.bar.suspend(|| self.report.warning(&text.to_string()));
    }

    /// A line, perhaps with a hint, that says what failed.
    pub fn error(&self, text: impl Display) {
        self.bar.suspend(|| self.report.error(&text.to_string()));
    }

    /// What is going on now. `moving` is what changes all the time, such as seconds: a terminal shows it, a
    /// pipe would only be flooded.
    pub fn status(&self, text: &str, moving: &str) {
        match self.kind {
            Kind::Interactive => self.bar.set_message(format!("{text}{moving}")),
            Kind::Pipe => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != text {
                    text.clone_into(&mut last);
                    drop(last);
                    self.line(text);
                }
            }
        }
    }

    /// Takes the status line away.
    pub fn clear(&self) {
        if self.kind == Kind::Interactive {
            self.bar.set_message("");
            self.bar.suspend(|| ());
        }
    }

    /// Whether pieces of lines must be held back, since the status line is redrawn below them.
    pub fn wants_whole_lines(&self) -> bool {
        self.kind == Kind::Interactive
    }

    /// Bytes as they are.
    pub fn write(&self, bytes: &[u8]) {
        // Nobody can be told that stderr is gone; the job goes on and the exit code still says how it ended.
        self.bar.suspend(|| {
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(bytes);
            let _ = stderr.flush();
        });
    }
}

/// `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1:05`, `2:00:05`.
pub fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(7205)), "2:00:05");
    }
}
