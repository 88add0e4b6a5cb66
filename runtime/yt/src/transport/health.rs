//! Whether the cluster answers: seen over all commands of a client, so that whoever waits can be told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::retry::{TryError, is_retriable};

/// A cluster that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// When the first request was sent that was not answered, and none since.
    pub since: Instant,
    /// Why the last try failed, in words.
    pub cause: String,
}

/// What is known of all requests.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the newest answered request was sent.
    answered: Option<Instant>,
    /// Commands whose last try failed.
    failing: BTreeMap<&'static str, Failing>,
    /// Requests on their way that should be answered at once, by number.
    waiting: BTreeMap<u64, (Instant, &'static str)>,
    next: u64,
}

/// A command that fails.
#[derive(Debug)]
struct Failing {
    silence: Silence,
    /// When it failed last.
    last: Instant,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody answers: any answer at all ends it.
    Unreached,
    /// It is answered with "not now", which another command's success says nothing about.
    Refused,
}

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    health: &'a Health,
    command: &'static str,
    at: Instant,
    number: u64,
}

/// A refused command that is not tried again for so long was given up, and nobody waits for it.
const GIVEN_UP: Duration = Duration::from_secs(30);

impl Health {
    /// Takes note of a request; the answer to a light one is expected at once.
    pub(crate) fn sent(&self, command: &'static str) -> Sent<'_> {
        let at = Instant::now();
        let number = self.with(|state| {
            let number = state.next;
            state.next += 1;
            state.waiting.insert(number, (at, command));
            number
        });
        Sent { health: self, command, at, number }
    }

    /// Takes note of what became of a request that was sent then.
    pub(crate) fn ended<T>(&self, command: &'static str, sent: Instant, result: &Result<T, TryError>) {
        let failure = result.as_ref().err().and_then(failure);
        self.with(|state| match failure {
            Some((Kind::Unreached, _)) if state.answered.is_some_and(|answered| answered > sent) => {}
            Some((kind, cause)) => {
                let since = state.failing.get(command).map_or(sent, |failing| failing.silence.since);
                let silence = Silence { since, cause };
                state.failing.insert(command, Failing { silence, last: Instant::now(), kind });
            }
            None => {
                state.answered = state.answered.max(Some(sent));
                state.failing.remove(command);
                state.failing.retain(|_, failing| failing.kind == Kind::Refused);
            }
        });
    }

    /// Whether something is not answered now: requests fail, or wait while no later one was answered.
    pub(crate) fn silence(&self) -> Option<Silence> {
        self.with(|state| {
            let lasts =
                |failing: &&Failing| failing.kind == Kind::Unreached || failing.last.elapsed() < GIVEN_UP;
            let failing = state.failing.values().filter(lasts).map(|failing| &failing.silence);
            if let Some(silence) = failing.min_by_key(|silence| silence.since) {
                return Some(silence.clone());
            }
            let (since, command) = state.waiting.values().min()?;
            if state.answered.is_some_and(|answered| answered > *since) {
                return None;
            }
            Some(Silence { since: *since, cause: format!("no answer to `{command}` yet") })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in there is left half done by a panic.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sent<'_> {
    /// Takes note of what became of it.
    pub(crate) fn ended<T>(self, result: &Result<T, TryError>) {
        self.health.ended(self.command, self.at, result);
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.health.with(|state| state.waiting.remove(&self.number));
    }
}

/// How and why the cluster does not answer now; none for an answer of whatever kind.
fn failure(error: &TryError) -> Option<(Kind, String)> {
    match error {
        TryError::Transport { cause, .. } => Some((Kind::Unreached, cause.clone())),
        TryError::Cluster { status, error } => {
            let not_now = matches!(status, 429 | 500 | 503) || is_retriable(error);
            not_now.then(|| (Kind::Refused, error.to_string()))
        }
        TryError::NotYt { status, reason } => {
            let not_now = *status == 429 || !(300..500).contains(status);
            not_now.then(|| (Kind::Refused, reason.clone()))
        }
        TryError::Ours(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{TransportKind, YtError, codes};

    fn refused() -> Result<(), TryError> {
        let cause = "connection refused".to_owned();
        Err(TryError::Transport { kind: TransportKind::Unreachable, cause })
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn busy() -> Result<(), TryError> {
        Err(TryError::NotYt { status: 503, reason: "busy".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_with_the_first_failure_and_ends_with_an_answer() {
        let health = Health::default();
        assert_eq!(health.silence(), None);
        let began = Instant::now();
        health.sent("get").ended(&refused());
        pass(3).await;
        health.sent("get").ended(&busy());
        assert_eq!(health.silence(), Some(Silence { since: began, cause: "busy".to_owned() }));
        // A refusal is an answer, too.
        let error = YtError::new(codes::RESOLVE_ERROR, "no such node");
        health.sent("get").ended(&Err::<(), _>(TryError::Cluster { status: 400, error }));
        assert_eq!(health.silence(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn any_answer_shows_that_somebody_is_there_but_not_that_everything_works() {
        let health = Health::default();
        health.sent("get").ended(&refused());
        health.sent("list").ended(&Ok(()));
        assert_eq!(health.silence(), None);
        health.sent("get").ended(&busy());
        health.sent("list").ended(&Ok(()));
        assert_eq!(health.silence().map(|silence| silence.cause), Some("busy".to_owned()));
        pass(GIVEN_UP.as_secs()).await;
        assert_eq!(health.silence(), None, "nobody tries it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_is_silence_unless_a_later_one_is_answered() {
        let health = Health::default();
        let began = Instant::now();
        let slow = health.sent("start_operation");
        pass(5).await;
        let silence = health.silence().unwrap();
        assert_eq!((silence.since, silence.cause.as_str()), (began, "no answer to `start_operation` yet"));
        health.sent("ping_transaction").ended(&Ok(()));
        assert_eq!(health.silence(), None);
        // Its failure says nothing new: the cluster has answered since.
        slow.ended(&refused());
        assert_eq!(health.silence(), None);
        drop(health.sent("get"));
        assert_eq!(health.silence(), None, "nobody waits for what was dropped");
    }
}
