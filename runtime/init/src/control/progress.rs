//! How far a node is before the start: what it tells the leader while the others come.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tractorun_contract::failure::Cause;

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// It still does these.
    Preparing(BTreeSet<Step>),
    /// Its workers may start as soon as all have met.
    Ready,
    /// It could not begin, and is about to leave.
    Failed {
        /// Why.
        cause: Cause,
        /// What it exits with.
        exit_code: u8,
    },
}

/// What a node does before its workers may start. Steps overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Files are put where they belong.
    Unpack,
    /// Secrets are fetched.
    Secrets,
}

/// The node's own end: whoever prepares it says here what is done.
#[derive(Debug)]
pub(crate) struct Preparations(watch::Sender<Progress>);

// === impl Preparations ===

impl Preparations {
    /// Everything is still to be done.
    pub(crate) fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(watch::Sender::new(Progress::Preparing(steps.into_iter().collect())))
    }

    /// Where others see it.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    /// A step is done; after the last one the node is ready.
    pub(crate) fn done(&self, step: Step) {
        self.0.send_modify(|progress| {
            if let Progress::Preparing(steps) = progress {
                steps.remove(&step);
                if steps.is_empty() {
                    *progress = Progress::Ready;
                }
            }
        });
    }

    /// The node cannot begin; of a text with several lines the first one counts.
    pub(crate) fn fail(&self, text: &str, exit_code: u8) {
        let reason = text.lines().next().unwrap_or_default().to_owned();
        self.end(Cause::StartUpFailed { reason }, exit_code);
    }

    /// The node will not begin.
    pub(crate) fn end(&self, cause: Cause, exit_code: u8) {
        self.0.send_replace(Progress::Failed { cause, exit_code });
    }

    /// Whether somebody takes what is said here to the leader at this moment: besides the one of whom all others are
    /// made, a receiver is held by the connection to the leader, and by the leader for its own node.
    pub(crate) fn are_heard(&self) -> bool {
        self.0.receiver_count() > 1
    }
}

// === impl Progress ===

impl fmt::Display for Progress {
    /// What the node is doing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preparing(steps) => {
                for (index, step) in steps.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " and " })?;
                    f.write_str(match step {
                        Step::Unpack => "unpacking",
                        Step::Secrets => "fetching secrets",
                    })?;
                }
                Ok(())
            }
            Self::Ready => f.write_str("ready"),
            Self::Failed { cause: Cause::StartUpFailed { reason }, .. } => write!(f, "failed: {reason}"),
            Self::Failed { .. } => f.write_str("stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_all_its_steps_are_done_in_whatever_order() {
        let preparations = Preparations::of([Step::Unpack, Step::Secrets]);
        let progress = preparations.watch();
        assert_eq!(progress.borrow().to_string(), "unpacking and fetching secrets");
        preparations.done(Step::Unpack);
        assert_eq!(progress.borrow().to_string(), "fetching secrets");
        preparations.done(Step::Unpack);
        preparations.done(Step::Secrets);
        assert_eq!(*progress.borrow(), Progress::Ready);
    }

    #[test]
    fn a_failure_is_one_line_and_final() {
        let preparations = Preparations::of([Step::Unpack]);
        preparations.fail("cannot unpack `a`: torn\nhint: pack again", 64);
        preparations.done(Step::Unpack);
        let cause = Cause::StartUpFailed { reason: "cannot unpack `a`: torn".into() };
        assert_eq!(*preparations.watch().borrow(), Progress::Failed { cause, exit_code: 64 });
    }
}
