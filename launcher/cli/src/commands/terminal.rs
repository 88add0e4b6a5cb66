//! Talking to the person in front of stderr: permanent lines, one status line redrawn in place, and the job's
//! own output between them.
//!
//! On a terminal the status line is redrawn; in a pipe each change of it is a plain line. Clones share the
//! line. Nothing here writes to stdout, which is for data.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// What is drawn on a terminal now; empty where nothing is.
    drawn: String,
    /// When it was.
    drawn_at: Option<Instant>,
    /// What was printed last in a pipe.
    printed: String,
}

/// To the start of the line, and nothing on it.
const ERASE: &str = "\r\x1b[K";

/// Nobody reads faster than this.
const LEAST_BETWEEN_PROGRESS: Duration = Duration::from_millis(50);

impl Terminal {
    /// The process's stderr.
    pub fn stderr(report: Report) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let kind = if io::stderr().is_terminal() && !is_dumb { Kind::Interactive } else { Kind::Pipe };
        Self { kind, report, status: Arc::default() }
    }

    /// A line that stays.
    pub fn line(&self, text: impl Display) {
        self.lock().above(|| self.report.note(&text.to_string()));
    }

    /// A line that answers to a key such as Ctrl-C: it covers what the terminal shows of that key.
    pub fn answer(&self, text: impl Display) {
        self.lock().above(|| {
            if self.kind == Kind::Interactive {
                put(ERASE);
            }
            self.report.note(&text.to_string());
        });
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
                status.draw(&format!("{text}{moving}"));
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
        let mut status = self.lock();
        let is_time = status.drawn_at.is_none_or(|at| at.elapsed() >= LEAST_BETWEEN_PROGRESS);
        if self.kind == Kind::Interactive && is_time {
            status.draw(&text.to_string());
        }
    }

    /// Takes the status line away.
    pub fn clear(&self) {
        self.lock().draw("");
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
    /// Replaces what is drawn.
    fn draw(&mut self, text: &str) {
        let text = fit(text);
        if text != self.drawn {
            put(&format!("{ERASE}{text}"));
        }
        self.drawn = text;
        self.drawn_at = Some(Instant::now());
    }

    /// Writes above the status line.
    fn above(&self, write: impl FnOnce()) {
        if self.drawn.is_empty() {
            return write();
        }
        put(ERASE);
        write();
        put(&self.drawn);
    }
}

/// Writes to the terminal. That it is gone is no reason to fail.
fn put(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// As much of a text as fits on one line, with room for the `^C` that a terminal shows behind it: on a line of its own
/// that would push the status line out of reach.
fn fit(text: &str) -> String {
    let columns = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
    cut(text, usize::from(columns).saturating_sub(4))
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// `1.50 MiB`.
pub fn size(bytes: u64) -> String {
    let unit = ["KiB", "MiB", "GiB", "TiB"]
        .into_iter()
        .zip(1..)
        .take_while(|(_, power)| bytes >> (10 * power) > 0)
        .last();
    let Some((unit, power)) = unit else { return format!("{bytes} B") };
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let value = bytes as f64 / (1_u64 << (10 * power)) as f64;
    format!("{value:.2} {unit}")
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
    fn what_does_not_fit_on_the_status_line_is_cut() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let sizes = [0, 1023, 1024, 3 << 29, 3 << 30, 5 << 50].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.00 KiB", "1.50 GiB", "3.00 GiB", "5120.00 TiB"]);
    }

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(7205)), "2:00:05");
    }
}
