//! Whether a failed try is made again, and when: a plain function of what happened.

use std::time::Duration;

use crate::config::ClientConfig;
use crate::error::{TransportKind, YtError, codes};

/// Why one try failed.
#[derive(Debug)]
pub(crate) enum TryError {
    /// No complete answer.
    Transport { kind: TransportKind, cause: String },
    /// The cluster said no, with that HTTP status.
    Cluster { status: u16, error: YtError },
    /// An answer that is none of this API.
    NotYt { status: u16, reason: String },
    /// A fault on our side that no other try will mend.
    Ours(crate::error::Error),
}

/// What a command's repetition means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It reads, or a mutation id keeps it from being applied twice, or twice is as good as once.
    Freely,
    /// As `Freely`, and an answer "too many operations" only means "later".
    StartOperation,
    /// A heavy write, each try of which has a transaction of its own.
    HeavyWrite,
    /// The caller has its own idea of when to try again.
    Never,
}

/// A failed try and its circumstances.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) error: &'a TryError,
    pub(crate) repeat: Repeat,
    /// Tries made, at least 1.
    pub(crate) tries: u32,
    /// Time since the command began, or since a heavy one failed first.
    pub(crate) elapsed: Duration,
    /// Whether this client was ever answered.
    pub(crate) contacted: bool,
    /// Between -1 and 1.
    pub(crate) jitter: f64,
}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    GiveUp,
    Again { pause: Duration, mutation: Mutation },
}

/// Which mutation id the next try carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The same, so that a try that came through without our knowing is not applied twice.
    Same,
    /// A new one: the cluster would repeat its answer to the old one.
    Fresh,
}

/// A heavy write moves much data with each try, and each has its own time limits.
const HEAVY_WRITE_TRIES: u32 = 6;

/// Share of a pause by which it varies.
const JITTER: f64 = 0.3;

pub(crate) fn decide(config: &ClientConfig, situation: &Situation<'_>) -> Decision {
    let Some(mutation) = mutation_of_next_try(situation.error, situation.repeat) else {
        return Decision::GiveUp;
    };
    if situation.repeat == Repeat::HeavyWrite && situation.tries >= HEAVY_WRITE_TRIES {
        return Decision::GiveUp;
    }
    let pause = pause(config, situation.tries, situation.jitter);
    let budget = if situation.contacted { config.retry_budget } else { config.first_contact_budget };
    if situation.elapsed + pause > budget { Decision::GiveUp } else { Decision::Again { pause, mutation } }
}

/// `None` if the error would only come again.
fn mutation_of_next_try(error: &TryError, repeat: Repeat) -> Option<Mutation> {
    if repeat == Repeat::Never {
        return None;
    }
    match error {
        TryError::Ours(_) | TryError::Transport { kind: TransportKind::Untrusted, .. } => None,
        TryError::Transport { .. } | TryError::Cluster { status: 429 | 500 | 503, .. } => {
            Some(Mutation::Same)
        }
        // A web server that knows nothing of YT says so with 4xx; a broken or overloaded proxy with 5xx.
        TryError::NotYt { status, .. } => {
            (!(300..500).contains(status) || *status == 429).then_some(Mutation::Same)
        }
        TryError::Cluster { error, .. } => {
            let busy = [codes::TOO_MANY_OPERATIONS, codes::MASTER_DISCONNECTED];
            if is_retriable(error) {
                Some(Mutation::Same)
            } else if repeat == Repeat::StartOperation && busy.iter().any(|code| error.contains(*code)) {
                Some(Mutation::Fresh)
            } else {
                None
            }
        }
    }
}

/// Whether the error means "not now".
pub(crate) fn is_retriable(error: &YtError) -> bool {
    error.is_transient()
}

/// Doubles from the first to the longest pause.
pub(crate) fn pause(config: &ClientConfig, tries: u32, jitter: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    let pause = config.first_pause.saturating_mul(1 << doublings).min(config.longest_pause);
    pause.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0))
}

/// A value for [`Situation::jitter`].
pub(crate) fn random_jitter() -> f64 {
    rand::random_range(-1.0..=1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ClientConfig {
        ClientConfig::new("http://h", None).unwrap()
    }

    fn transport(kind: TransportKind) -> TryError {
        TryError::Transport { kind, cause: String::new() }
    }

    fn cluster(status: u16, code: i32) -> TryError {
        let mut error = YtError::new(1, "outer");
        error.inner_errors.push(YtError::new(code, "inner"));
        TryError::Cluster { status, error }
    }

    fn not_yt(status: u16) -> TryError {
        TryError::NotYt { status, reason: String::new() }
    }

    fn first_failure(error: &TryError, repeat: Repeat) -> Decision {
        let situation =
            Situation { error, repeat, tries: 1, elapsed: Duration::ZERO, contacted: true, jitter: 0.0 };
        decide(&config(), &situation)
    }

    #[test]
    fn what_is_tried_again() {
        use Mutation::{Fresh, Same};
        use Repeat::{Freely, HeavyWrite, Never, StartOperation};
        use TransportKind::{Broken, TimedOut, Unreachable, Untrusted};

        let table = [
            (transport(Unreachable), Freely, Some(Same)),
            (transport(TimedOut), Freely, Some(Same)),
            (transport(Broken), HeavyWrite, Some(Same)),
            (transport(Untrusted), Freely, None),
            (transport(Broken), Never, None),
            (cluster(400, 3), Freely, Some(Same)),
            (cluster(400, 100), Freely, Some(Same)),
            (cluster(400, 105), Freely, Some(Same)),
            (cluster(400, 108), Freely, Some(Same)),
            (cluster(400, 904), Freely, Some(Same)),
            (cluster(400, 2100), Freely, Some(Same)),
            (cluster(400, 500), Freely, None),
            (cluster(400, 402), HeavyWrite, None),
            (cluster(400, 11000), Freely, None),
            (cluster(401, 111), Freely, None),
            (cluster(403, 903), Freely, None),
            (cluster(500, 500), Freely, Some(Same)),
            (cluster(503, 1), Freely, Some(Same)),
            (cluster(400, 202), StartOperation, Some(Fresh)),
            (cluster(400, 218), StartOperation, Some(Fresh)),
            (cluster(400, 202), Freely, None),
            (cluster(503, 202), StartOperation, Some(Same)),
            (not_yt(502), Freely, Some(Same)),
            (not_yt(200), Freely, Some(Same)),
            (not_yt(429), Freely, Some(Same)),
            (not_yt(404), Freely, None),
            (not_yt(301), Freely, None),
        ];
        for (error, repeat, expected) in table {
            let found = match first_failure(&error, repeat) {
                Decision::GiveUp => None,
                Decision::Again { mutation, .. } => Some(mutation),
            };
            assert_eq!(found, expected, "{error:?} {repeat:?}");
        }
    }

    #[test]
    fn budgets_and_tries_end_it() {
        let error = transport(TransportKind::Unreachable);
        let gives_up = |repeat, tries, seconds, contacted| {
            let elapsed = Duration::from_secs(seconds);
            let situation = Situation { error: &error, repeat, tries, elapsed, contacted, jitter: 0.0 };
            decide(&config(), &situation) == Decision::GiveUp
        };
        assert!(!gives_up(Repeat::Freely, 1, 4, false));
        assert!(gives_up(Repeat::Freely, 1, 5, false), "nobody ever answered: give up soon");
        assert!(!gives_up(Repeat::Freely, 9, 90, true));
        assert!(gives_up(Repeat::Freely, 9, 119, true), "the pause would not fit into the budget");
        assert!(!gives_up(Repeat::HeavyWrite, 5, 1, true));
        assert!(gives_up(Repeat::HeavyWrite, 6, 1, true));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let pause = |tries, jitter| pause(&config(), tries, jitter).as_millis();
        assert_eq!([pause(1, 0.0), pause(2, 0.0), pause(4, 0.0)], [200, 400, 1600]);
        assert_eq!([pause(8, 0.0), pause(1000, 0.0)], [20_000, 20_000]);
        assert_eq!([pause(1, -1.0), pause(1, 1.0), pause(1, 9.0)], [140, 260, 260]);
    }
}
