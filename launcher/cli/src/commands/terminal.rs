//! Talking to the person in front of stderr: permanent lines, one status line redrawn in place, and the job's
//! own output between them.
//!
//! On a terminal the status line is redrawn; in a pipe each change of it is a plain line. Clones share the
//! line. Nothing here writes to stdout, which is for data.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Report;

/// A handle on stderr. Clones share it.
#[derive(Debug, Clone)]
pub struct Terminal {
    kind: Kind,
    report: Report,
    status: Arc<Mutex<Status>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Interactive,
    Pipe,
}

/// The status line.
#[derive(Debug, Default)]
struct Status {
    /// What is drawn on a terminal now.
    bar: Option<ProgressBar>,
    /// What was printed last in a pipe.
    printed: String,
}

impl Terminal {
    /// The process's stderr.
    pub fn stderr(report: Report) -> Self {
        let kind = if io::stderr().is_terminal() { Kind::Interactive } else { Kind::Pipe };
        Self { kind, report, status: Arc::default() }
    }

    /// A line that stays.
    pub fn line(&self, text: impl Display) {
        self.lock().above(|| self.report.note(&text.to_string()));
    }

    /// A line that stays and says that something is not as it should be.
    pub fn warning(&self, text: impl Display) {
        self.lock().above(|| self.report.warning(&text.to_string()));
    }

    /// A line, perhaps with a hint, that says what failed.
    pub fn error(&self, text: impl Display) {
        self.lock().above(|| self.report.error(&text.to_string()));
    }

    /// What may help.
    pub fn hint(&self, text: impl Display) {
        self.lock().above(|| self.report.hint(&text.to_string()));
    }

    /// What is going on now. `moving` is what changes all the time, such as seconds: a terminal shows it, a
    /// pipe would only be flooded.
    pub fn status(&self, text: &str, moving: &str) {
        let mut status = self.lock();
        match self.kind {
            Kind::Interactive => {
                status.bar.get_or_insert_with(new_bar).set_message(format!("{text}{moving}"));
            }
            Kind::Pipe if status.printed != text => {
                text.clone_into(&mut status.printed);
                self.report.note(text);
            }
            Kind::Pipe => {}
        }
    }

    /// How far something is: for a terminal only.
    pub fn progress(&self, text: impl Display) {
        if self.kind == Kind::Interactive {
            self.lock().bar.get_or_insert_with(new_bar).set_message(text.to_string());
        }
    }

    /// Takes the status line away.
    pub fn clear(&self) {
        if let Some(bar) = self.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Whether pieces of lines must be held back, since the status line is redrawn below them.
    pub fn wants_whole_lines(&self) -> bool {
        self.kind == Kind::Interactive
    }

    /// Bytes as they are.
    pub fn write(&self, bytes: &[u8]) {
        self.lock().above(|| {
            // Nobody can be told that stderr is gone; the job goes on and the exit code still says how it ended.
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(bytes);
            let _ = stderr.flush();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// Writes above the status line.
    fn above(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is ours and has no mistake.
    ProgressStyle::with_template("{wide_msg}").map_or(bar.clone(), |style| bar.with_style(style))
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
