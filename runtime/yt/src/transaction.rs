//! A transaction that pings itself.

use std::fmt;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::Client;
use crate::error::{Error, YtError, codes};
use crate::transport::call::Call;
use crate::transport::retry::{Repeat, random_jitter};
use crate::value::{ValueExt, int, list, map, string};

/// Id of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionId(String);

impl TransactionId {
    /// Wraps an id that somebody wrote down.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a transaction is started.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// It dies when it was not pinged for this long.
    pub timeout: Duration,
    /// Text for people.
    pub title: Option<String>,
    /// The transaction it is nested in, if not the client's own.
    pub parent: Option<TransactionId>,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), title: None, parent: None }
    }
}

/// Why a transaction is no longer held.
#[derive(Debug, Clone, PartialEq)]
pub enum LostReason {
    /// The cluster says that it does not exist.
    Gone(YtError),
    /// No ping came through within its timeout.
    NotPinged {
        /// How long ago the last ping came through.
        silence: Duration,
        /// Why the last ping failed.
        last_error: String,
    },
    /// It was committed or aborted by this very client, or dropped.
    Ended,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(error) => write!(f, "the cluster does not know it any more: {error}"),
            Self::NotPinged { silence, last_error } => {
                write!(f, "no ping came through for {:.1} s: {last_error}", silence.as_secs_f64())
            }
            Self::Ended => f.write_str("it was ended by its owner"),
        }
    }
}

/// A transaction that is pinged by a task of its own until it is committed, aborted or dropped.
///
/// Dropping it only stops the pings: it dies when its timeout has passed.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    client: Client,
    phase: watch::Sender<Phase>,
    lost: watch::Receiver<Option<LostReason>>,
    /// To the pinger.
    questions: mpsc::UnboundedSender<Question>,
}

/// What a ping asks besides.
#[derive(Debug)]
struct Question {
    /// Whether this exists.
    path: String,
    /// From one ping to the next at most.
    period: Duration,
    yes: oneshot::Sender<()>,
}

/// What the owner does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Held,
    /// Commit or abort is under way, so that a ping may find it gone.
    Ending,
    Ended,
}

impl Client {
    /// Starts a transaction and its pings.
    pub async fn start_transaction(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        let milliseconds = i64::try_from(options.timeout.as_millis()).unwrap_or(i64::MAX);
        let mut call = Call::mutate("start_transaction").with("timeout", int(milliseconds));
        if let Some(parent) = &options.parent {
            call = call.with("transaction_id", string(parent.as_str()));
        }
        if let Some(title) = &options.title {
            call = call.with("attributes", map([("title", string(title))]));
        }
        // Its life begins when the cluster starts it, which is after this.
        let asked = Instant::now();
        let id = TransactionId(self.execute_for_string(call.scoped(self.scope()), "transaction_id").await?);

        let (phase, owner) = watch::channel(Phase::Held);
        let (tell_lost, lost) = watch::channel(None);
        let (questions, questions_asked) = mpsc::unbounded_channel();
        let pinger = Pinger {
            client: self.clone(),
            asked: questions_asked,
            question: None,
            id: id.clone(),
            timeout: options.timeout,
            last_success: asked,
            owner,
        };
        tokio::spawn(async move {
            let reason = pinger.run().await;
            tell_lost.send_replace(Some(reason));
        });
        Ok(Transaction { client: self.in_transaction(&id), id, phase, lost, questions })
    }

    /// Aborts a transaction that somebody else may have started. One that is gone already is fine.
    pub async fn abort_transaction(&self, id: &TransactionId) -> Result<(), Error> {
        match self.execute(id.call("abort_transaction")).await {
            Err(error) if error.contains(codes::NO_SUCH_TRANSACTION) => Ok(()),
            result => result.map(drop),
        }
    }
}

impl TransactionId {
    fn call(&self, command: &'static str) -> Call {
        Call::mutate(command).with("transaction_id", string(&self.0))
    }
}

impl Transaction {
    /// Its id.
    pub fn id(&self) -> &TransactionId {
        &self.id
    }

    /// The client whose commands run inside it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves when the transaction is no longer held, and why. Does not borrow the transaction.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        let mut lost = self.lost.clone();
        async move {
            match lost.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(LostReason::Ended),
                // The pinger's task is gone with its runtime.
                Err(_) => LostReason::Ended,
            }
        }
    }

    /// Resolves when the node or attribute of this path exists (seen from outside the transaction); never, if that
    /// never happens while the transaction lives. It is looked for by the pings, each of which asks for it besides, and
    /// which come once in `period` at least: so that costs neither a request nor a wake-up of its own. A later question
    /// takes the place of an earlier one. Does not borrow the transaction.
    pub fn when_exists(&self, path: String, period: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (yes, answer) = oneshot::channel();
        // A pinger that is gone will not answer.
        let _ = self.questions.send(Question { path, period, yes });
        async move {
            if answer.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Commits it. It is pinged until the cluster has answered.
    pub async fn commit(self) -> Result<(), Error> {
        self.phase.send_replace(Phase::Ending);
        let mut call = self.id.call("commit_transaction");
        call.parameters.enter(&crate::client::Scope {
            transaction: None,
            prerequisites: self.client.scope().prerequisites.clone(),
        });
        self.client.execute(call).await.map(drop)
    }

    /// Aborts it. One that is gone already is fine.
    pub async fn abort(self) -> Result<(), Error> {
        self.phase.send_replace(Phase::Ending);
        self.client.abort_transaction(&self.id).await
    }

    /// Asks once for its abort, so that its locks are free at once. If that fails, its timeout will do.
    pub(crate) async fn abort_once(self) {
        self.phase.send_replace(Phase::Ended);
        let patience = self.client.transport().config.connect_timeout;
        let call = self.id.call("abort_transaction").repeat(Repeat::Never).timeout(patience);
        if let Err(error) = self.client.execute(call).await {
            tracing::debug!(%error, transaction = %self.id, "not aborted, it will time out");
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ended);
    }
}

/// With the minute of a launcher's transaction, a network may be away for 50 s.
const LONGEST_PING_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps a transaction alive.
struct Pinger {
    client: Client,
    id: TransactionId,
    timeout: Duration,
    /// When the last ping that came through was sent.
    last_success: Instant,
    owner: watch::Receiver<Phase>,
    asked: mpsc::UnboundedReceiver<Question>,
    question: Option<Question>,
}

impl Pinger {
    async fn run(mut self) -> LostReason {
        let mut next = self.last_success + self.interval();
        let mut last_error = "no ping was sent in time".to_owned();
        loop {
            let deadline = self.last_success + self.timeout;
            tokio::select! {
                biased;
                () = ended(&mut self.owner) => return LostReason::Ended,
                Some(question) = self.asked.recv() => {
                    self.question = Some(question);
                    next = next.min(self.last_success + self.interval());
                    continue;
                }
                () = sleep_until(next.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return LostReason::NotPinged { silence: self.last_success.elapsed(), last_error };
            }
            let sent = Instant::now();
            let path = self.question.as_ref().map(|question| question.path.as_str());
            let ping = ping(&self.client, &self.id, path, self.timeout / 3);
            let ping = tokio::select! {
                biased;
                () = ended(&mut self.owner) => return LostReason::Ended,
                ping = timeout_at(deadline, ping) => ping,
            };
            match ping {
                Ok(Ok(answer)) => {
                    if answer == Answer::Yes
                        && let Some(Question { yes, .. }) = self.question.take()
                    {
                        // Who asked may have gone.
                        let _ = yes.send(());
                    }
                    self.last_success = sent;
                    next = sent + self.interval();
                }
                Ok(Err(Error::Yt(error))) if error.contains(codes::NO_SUCH_TRANSACTION) => {
                    let held = *self.owner.borrow() == Phase::Held;
                    return if held { LostReason::Gone(error) } else { LostReason::Ended };
                }
                Ok(Err(error)) => {
                    error.to_string().lines().next().unwrap_or_default().clone_into(&mut last_error);
                    // Soon again: several tries must fit into what is left of the timeout.
                    next = Instant::now() + (self.interval() / 4).mul_f64(1.0 + 0.3 * random_jitter());
                    tracing::debug!(%error, transaction = %self.id, "a ping failed");
                }
                Err(_) => "the last ping was not answered".clone_into(&mut last_error),
            }
        }
    }
}

impl Pinger {
    /// From one ping to the next.
    fn interval(&self) -> Duration {
        let usual = ping_interval(self.timeout);
        self.question.as_ref().map_or(usual, |question| question.period.min(usual))
    }
}

/// Pause between two pings. A network that goes away takes along what has passed since the last one, so a long timeout
/// is no reason for few.
fn ping_interval(timeout: Duration) -> Duration {
    (timeout / 3).min(LONGEST_PING_INTERVAL)
}

/// Sends one ping, with the question whether that exists if there is one.
async fn ping(
    client: &Client,
    id: &TransactionId,
    path: Option<&str>,
    limit: Duration,
) -> Result<Answer, Error> {
    let id = string(id.as_str());
    let Some(path) = path else {
        // A ping needs no mutation id: twice is as good as once.
        let call = Call::assign("ping_transaction").with("transaction_id", id);
        return client.execute(call.repeat(Repeat::Never).timeout(limit)).await.map(|_| Answer::No);
    };
    let part = |command: &str, parameter: &str, value| {
        map([("command", string(command)), ("parameters", map([(parameter, value)]))])
    };
    let parts = [part("ping_transaction", "transaction_id", id), part("exists", "path", string(path))];
    let call = Call::mutate("execute_batch").with("requests", list(parts));
    let results = client.execute_for(call.repeat(Repeat::Never).timeout(limit), "results").await?;
    let result = |index: usize| results.as_list().and_then(|results| results.get(index));
    if let Some(error) = result(0).and_then(|ping| ping.get("error")).and_then(YtError::from_value) {
        return Err(Error::Yt(error));
    }
    // An error of the question is none of the ping's: the next one asks again.
    let exists = result(1).and_then(|answer| answer.get("output"));
    let exists = exists.map(|output| output.get("value").unwrap_or(output));
    let is_yes = exists.is_some_and(|exists| exists.as_bool() == Some(true));
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}

/// What a ping's question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    /// Or not asked.
    No,
}

/// Resolves when the owner is done with it.
async fn ended(owner: &mut watch::Receiver<Phase>) {
    // An error means that the owner is gone.
    let _ = owner.wait_for(|phase| *phase == Phase::Ended).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_pings_fit_into_a_timeout_and_more_into_a_long_one() {
        assert_eq!(ping_interval(Duration::from_secs(6)), Duration::from_secs(2));
        assert_eq!(ping_interval(Duration::from_mins(1)), Duration::from_secs(5));
    }
}
