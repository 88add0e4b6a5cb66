//! A cluster that does not answer is waited for, and whoever waits is told: once that it does not, once that it does
//! again. Commands try again by themselves; nothing here does.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tractorun_yt::{Client, Silence};

use crate::commands::terminal::{Terminal, clock};
use crate::report::Report;

/// Shorter silences are nobody's business.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// Pause between two looks. A look costs nothing: it asks only our own client.
const LOOKS: Duration = Duration::from_millis(250);

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub enum Listener<'a> {
    /// A terminal, which may have a status line.
    Terminal(&'a Terminal),
    /// Plain lines on stderr.
    Lines(Report),
}

/// Does the work, and tells while it lasts whether the cluster leaves it waiting.
pub fn telling<'a, T>(
    client: &'a Client,
    listener: Listener<'a>,
    work: impl Future<Output = T> + 'a,
) -> impl Future<Output = T> + 'a {
    // It stands around much else, and would be copied into each.
    let mut work = Box::pin(work);
    async move {
        let mut told = Told::default();
        loop {
            tokio::select! {
                biased;
                result = &mut work => {
                    told.look(client, listener);
                    return result;
                }
                () = sleep(LOOKS) => told.look(client, listener),
            }
        }
    }
}

/// What was told: when the silence began that is not over.
#[derive(Debug, Default)]
struct Told(Option<Instant>);

impl Told {
    fn look(&mut self, client: &Client, listener: Listener<'_>) {
        let silence = client.silence().filter(|silence| silence.since.elapsed() >= TOLD_AFTER);
        match (silence, self.0) {
            (Some(Silence { since, cause }), None) => {
                self.0 = Some(since);
                let seconds = since.elapsed().as_secs();
                listener
                    .warn(&format!("the cluster has not answered for {seconds} s: {cause}; trying again"));
            }
            (Some(_), Some(since)) => listener.still(since.elapsed()),
            (None, Some(since)) => {
                self.0 = None;
                listener.note(&format!("the cluster answers again, after {} s", since.elapsed().as_secs()));
            }
            (None, None) => {}
        }
    }
}

impl Listener<'_> {
    fn warn(self, text: &str) {
        match self {
            Self::Terminal(terminal) => terminal.warning(text),
            Self::Lines(report) => report.warning(text),
        }
    }

    fn note(self, text: &str) {
        match self {
            Self::Terminal(terminal) => terminal.line(text),
            Self::Lines(report) => report.note(text),
        }
    }

    fn still(self, silent: Duration) {
        if let Self::Terminal(terminal) = self {
            terminal.progress(format_args!("waiting for the cluster, {}", clock(silent)));
        }
    }
}
