//! The end of the log tables: when the last lines are shipped, and what waits for that.
//!
//! A node that stops ships its last lines before it says `Stopped`, since the cluster kills all jobs of an operation
//! once one of them has failed; one whose workers have all succeeded does it before it exits.

use std::time::Duration;

use tracing::{error, warn};
use tractorun_contract::exit::InitExit;
use tractorun_sys::Signal;

use super::Driver;
use crate::control::NodeMessage;
use crate::logs::{Gauge, Intake, Logs, Outcome};
use crate::supervisor::Conclusion;

/// How long a shipper that was told to leave may take to keep on the disk what is left.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// The shipper, and who waits for it.
#[derive(Debug)]
pub(super) struct Draining {
    logs: Option<Logs>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Lines may still come.
    Running,
    /// The last lines are being shipped; this is said when they are.
    Draining { held: Option<NodeMessage> },
    /// The shipper is done, or there is none.
    Done(Option<Outcome>),
}

// === impl Draining ===

impl Draining {
    /// There are no tables.
    pub(super) fn none() -> Self {
        Self { logs: None, state: State::Done(Some(Outcome::Drained)) }
    }

    /// These are filled.
    pub(super) fn of(logs: Logs) -> Self {
        Self { logs: Some(logs), state: State::Running }
    }

    /// Where lines are put in.
    pub(super) fn intake(&self) -> Option<Intake> {
        self.logs.as_ref().map(Logs::intake)
    }

    /// Where it is seen how far they are.
    pub(super) fn gauge(&self) -> Option<Gauge> {
        self.logs.as_ref().map(Logs::gauge)
    }

    /// How long the last lines may take.
    pub(super) fn limit(&self) -> Duration {
        self.logs.as_ref().map_or(Duration::ZERO, Logs::drain_timeout)
    }

    /// Keeps a message back until the last lines are shipped; `false` if nothing is to be waited for.
    pub(super) fn hold(&mut self, message: NodeMessage) -> bool {
        match &mut self.state {
            State::Running => self.state = State::Draining { held: Some(message) },
            State::Draining { held } => *held = Some(message),
            State::Done(_) => return false,
        }
        true
    }

    /// Nothing more comes.
    pub(super) fn begin(&mut self) {
        if let Some(logs) = &self.logs {
            logs.drain();
        }
        if matches!(self.state, State::Running) {
            self.state = State::Draining { held: None };
        }
    }

    /// Resolves when the last lines are shipped or given up; never while nobody waits for that. Cancellation safe.
    pub(super) async fn done(&mut self) -> Option<Outcome> {
        match (&mut self.logs, &self.state) {
            (Some(logs), State::Draining { .. }) => logs.done().await,
            _ => std::future::pending().await,
        }
    }

    /// They are; gives the message that was kept back.
    pub(super) fn on_done(&mut self, outcome: Option<Outcome>) -> Option<NodeMessage> {
        match std::mem::replace(&mut self.state, State::Done(outcome)) {
            State::Draining { held } => held,
            State::Running | State::Done(_) => None,
        }
    }

    /// No more time.
    fn leave(&self) {
        if let Some(logs) = &self.logs {
            logs.leave();
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Ships what is left, after everything else; gives what init ends with then. Whoever sends SIGTERM now wants it
    /// to end without that.
    pub(super) async fn drain(&mut self, conclusion: Conclusion) -> Conclusion {
        self.draining.begin();
        if self.guard.is_gone() {
            // Whoever killed it meant us too.
            self.leave_logs().await;
        }
        while matches!(self.draining.state, State::Draining { .. }) {
            tokio::select! {
                biased;
                outcome = self.draining.done() => drop(self.draining.on_done(outcome)),
                signals = self.signals.next() => {
                    let stops = |signal: &Signal| *signal == Signal::TERM || *signal == Signal::INT;
                    if signals.is_ok_and(|signals| signals.iter().any(stops)) {
                        warn!("told to stop while the last lines are shipped");
                        self.leave_logs().await;
                    }
                }
                () = self.guard.end() => self.leave_logs().await,
                () = self.questions.answer() => {}
            }
        }
        let State::Done(outcome) = &self.draining.state else { return conclusion };
        match outcome {
            Some(Outcome::Drained) => return conclusion,
            Some(Outcome::Left { lines, bytes, folder }) => error!(
                "{lines} lines ({bytes} bytes) could not be written to the log tables; they are kept in `{}`",
                folder.display()
            ),
            None => error!("no lines could be written to the log tables"),
        }
        if conclusion.code == 0 {
            return Conclusion { code: InitExit::LogDrainFailed.code(), ..conclusion };
        }
        conclusion
    }

    async fn leave_logs(&mut self) {
        // Where no lines are on their way nothing would ever be done.
        if !matches!(self.draining.state, State::Draining { .. }) {
            return;
        }
        self.draining.leave();
        let outcome = tokio::time::timeout(LEAVE_LIMIT, self.draining.done()).await.unwrap_or(None);
        let _ = self.draining.on_done(outcome);
    }
}
