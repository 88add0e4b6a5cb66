//! The notice board on Cypress, laid out as in [`tractorun_contract::cypress`].
//!
//! The leader's writes carry the transaction that holds the lock as prerequisite, so that a leader that was
//! cut off cannot write over its successor.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;
use tracing::{debug, info};
use tractorun_contract::cypress::{self, INCARNATION_ID, incarnation as attribute};
use tractorun_contract::failure::{ATTEMPTS_ATTRIBUTE, FAILURE_ATTRIBUTE, SIDECARS_ATTRIBUTE};
use tractorun_contract::job_spec::Links;
use tractorun_contract::topology::{Topology, WorkerAddress};
use tractorun_yt::error::TransportKind;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{
    BatchRequest, Client, CreateOptions, Error, JobFilter, LockMode, LockWait, NodeType, Transaction,
    TransactionId, TransactionOptions, YsonValue, codes,
};

use super::address::endpoint;
use super::board::{BoardError, ControlEndpoint, Desk, JobSight, Jobs, Notice, NoticeBoard};
use super::description::{Description, News};
use super::last_word;
use crate::control::hub::{BoxFuture, Record};
use crate::control::wire::JoinKey;

/// A leader cut off from the cluster for longer than this loses the run; a leader that was killed keeps its
/// successor waiting for as long.
const FENCE_TIMEOUT: Duration = Duration::from_mins(1);

/// How often the leader looks whether somebody has asked for the end of the run. Its transaction is pinged as often,
/// which is the same request.
const STOP_LOOK_PERIOD: Duration = Duration::from_secs(10);

/// How often a waiting leader looks whether the one that it waits for is dead.
const DEAD_LEADER_PERIOD: Duration = Duration::from_secs(2);

/// The notice board under one `yt_path`.
#[derive(Debug, Clone)]
pub(crate) struct CypressBoard {
    client: Client,
    yt_path: String,
    links: Links,
}

/// The leader's hold on it.
#[derive(Debug)]
pub(crate) struct CypressDesk {
    /// Commands that are refused once the fence is gone.
    fenced: Client,
    yt_path: String,
    transaction_id: String,
    /// Taken out when the leadership is given back.
    transaction: Mutex<Option<Transaction>>,
    /// Not fenced: the scheduler asks for no prerequisites.
    client: Client,
    links: Links,
    /// What people see of the run, from when it is known which operation it belongs to.
    description: OnceLock<Arc<Description>>,
}

// === impl CypressBoard ===

impl CypressBoard {
    /// The board of that run, on a cluster whose web interface has these links.
    pub(crate) fn new(client: Client, yt_path: String, links: Links) -> Self {
        Self { client, yt_path, links }
    }
}

impl NoticeBoard for CypressBoard {
    type Desk = CypressDesk;

    async fn take_lead(&self, patience: Duration) -> Result<Option<CypressDesk>, BoardError> {
        let options = TransactionOptions {
            timeout: FENCE_TIMEOUT,
            title: Some(format!("Tractorun leader of {}", self.yt_path)),
            ..TransactionOptions::default()
        };
        let transaction = self.client.start_transaction(options).await?;
        let path = cypress::primary_lock(&self.yt_path);
        let locked = tokio::select! {
            locked = transaction.client().lock(&path, LockMode::Exclusive, LockWait::UpTo(patience)) => locked,
            never = self.end_dead_leaders() => match never {},
        };
        match locked {
            Ok(_) => {}
            Err(error) => {
                let conflict = error.contains(codes::LOCK_CONFLICT);
                // The first error counts; an abandoned transaction ends by its timeout.
                let _ = transaction.abort().await;
                return if conflict { Ok(None) } else { Err(error.into()) };
            }
        }
        Ok(Some(CypressDesk {
            fenced: self.client.with_prerequisite(transaction.id()),
            yt_path: self.yt_path.clone(),
            transaction_id: transaction.id().to_string(),
            transaction: Mutex::new(Some(transaction)),
            client: self.client.clone(),
            links: self.links.clone(),
            description: OnceLock::new(),
        }))
    }

    async fn newest(&self) -> Result<Option<u32>, BoardError> {
        let path = format!("{}/@{INCARNATION_ID}", self.yt_path);
        let value = match self.client.get(&path).await {
            Ok(value) => value,
            Err(error) if error.contains(codes::RESOLVE_ERROR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match value.as_int() {
            Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| BoardError::Strange(format!("{path}: expected -1 or more, got {number}"))),
            None => Err(BoardError::Strange(format!("{path}: expected a number"))),
        }
    }

    async fn read(&self, incarnation: u32) -> Result<Option<Notice>, BoardError> {
        let path = format!("{}/@", cypress::incarnation(&self.yt_path, incarnation));
        let wanted = [attribute::OPERATION_ID, attribute::CONTROL_ENDPOINT];
        match self.client.get_with(&path, &wanted).await {
            Ok(attributes) => Ok(notice(&attributes)),
            Err(error) if error.contains(codes::RESOLVE_ERROR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn jobs(&self, operation_id: &str, limit: u32) -> Result<Jobs, BoardError> {
        let filter = JobFilter { limit: Some(limit), ..JobFilter::default() };
        let jobs = self.client.list_jobs(operation_id, filter).await?;
        Ok(Jobs { by_cookie: sights(&jobs), complete: jobs.len() < limit as usize })
    }
}

impl CypressBoard {
    /// While we wait for the lock: ends the transaction of an earlier leader that cannot do it any more,
    /// because its operation was aborted. It would keep us waiting until it times out.
    async fn end_dead_leaders(&self) -> Infallible {
        let mut pause = DEAD_LEADER_PERIOD / 8;
        loop {
            sleep(pause).await;
            pause = DEAD_LEADER_PERIOD;
            match self.end_dead_leader().await {
                Ok(None) => {}
                Ok(Some(operation)) => info!("ended the lead of operation {operation}, which is over"),
                // The transaction's timeout does the same, later.
                Err(error) => debug!("cannot tell whether the earlier leader lives: {error}"),
            }
        }
    }

    /// Gives the operation whose leader's transaction was ended, if there was one to end.
    async fn end_dead_leader(&self) -> Result<Option<String>, BoardError> {
        let Some(newest) = self.newest().await? else { return Ok(None) };
        let path = format!("{}/@", cypress::incarnation(&self.yt_path, newest));
        let attributes =
            self.client.get_with(&path, &[attribute::OPERATION_ID, attribute::TRANSACTION_ID]).await?;
        let (Some(operation), Some(transaction)) = (
            attributes.get(attribute::OPERATION_ID).and_then(text),
            attributes.get(attribute::TRANSACTION_ID).and_then(text),
        ) else {
            return Ok(None);
        };
        // An operation that the cluster does not know is none of its own: a run on somebody's machine, which
        // may well be alive.
        let state = self.client.get_operation(&operation, &["state"]).await?;
        match state.get("state").and_then(text).as_deref() {
            Some("completed" | "failed" | "aborted") => {
                self.client.abort_transaction(&TransactionId::new(transaction)).await?;
                Ok(Some(operation))
            }
            Some(_) | None => Ok(None),
        }
    }
}

fn text(value: &YsonValue) -> Option<String> {
    value.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// The newest job of each cookie: earlier ones were aborted.
fn sights(jobs: &[YsonValue]) -> BTreeMap<u32, JobSight> {
    let mut newest = BTreeMap::<u32, (String, JobSight)>::new();
    for job in jobs {
        let word = |name: &str| job.get(name).and_then(text);
        let cookie = job.get("job_cookie").and_then(ValueExt::as_int).and_then(|it| u32::try_from(it).ok());
        let (Some(cookie), Some(state)) = (cookie, word("state")) else { continue };
        // Times are in the one form that sorts as text.
        let started = word("start_time").unwrap_or_default();
        if newest.get(&cookie).is_none_or(|(other, _)| *other <= started) {
            newest.insert(cookie, (started, JobSight { state, address: word("address") }));
        }
    }
    newest.into_iter().map(|(cookie, (_, sight))| (cookie, sight)).collect()
}

/// Reads the attributes of an incarnation; none where something is not there (yet).
fn notice(attributes: &YsonValue) -> Option<Notice> {
    let operation_id = text(attributes.get(attribute::OPERATION_ID)?)?;
    let control = attributes.get(attribute::CONTROL_ENDPOINT).and_then(|endpoint| {
        Some(ControlEndpoint {
            addresses: endpoint.get("addresses")?.as_list()?.iter().filter_map(text).collect(),
            port: u16::try_from(endpoint.get("port")?.as_uint()?).ok()?,
            join_key: JoinKey::new(text(endpoint.get("join_key")?)?),
        })
    });
    Some(Notice { operation_id, control })
}

// === impl CypressDesk ===

impl Desk for CypressDesk {
    async fn open(&self, incarnation: u32, notice: &Notice) -> Result<(), BoardError> {
        // The number first: one that was given away is never used again, whatever happens after.
        let path = format!("{}/@{INCARNATION_ID}", self.yt_path);
        self.fenced.set(&path, &value::int(incarnation)).await?;

        let mut attributes = BTreeMap::from([
            (attribute::TRANSACTION_ID.to_owned(), value::string(&self.transaction_id)),
            (attribute::OPERATION_ID.to_owned(), value::string(&notice.operation_id)),
        ]);
        if let Some(control) = &notice.control {
            let endpoint = value::map([
                ("addresses", value::list(control.addresses.iter().map(value::string))),
                ("port", value::int(control.port)),
                ("join_key", value::string(control.join_key.expose())),
            ]);
            attributes.insert(attribute::CONTROL_ENDPOINT.to_owned(), endpoint);
        }
        // With its attributes at once: nobody sees half a notice.
        let path = cypress::incarnation(&self.yt_path, incarnation);
        let options = CreateOptions { attributes, ..CreateOptions::default() };
        self.fenced.create(NodeType::MapNode, &path, options).await?;
        self.description.get_or_init(|| {
            let operation_id = notice.operation_id.clone();
            Arc::new(Description::new(self.client.clone(), operation_id, self.links.clone()))
        });
        Ok(())
    }

    async fn publish_topology(
        &self,
        incarnation: u32,
        topology: &Topology,
        metrics: &[Option<String>],
    ) -> Result<(), BoardError> {
        let node = cypress::incarnation(&self.yt_path, incarnation);
        let set = |name: &str, value: YsonValue| {
            BatchRequest::new("set").parameter("path", value::string(format!("{node}/@{name}"))).input(value)
        };
        let primary = endpoint(&topology.master_host, topology.master_port);
        let requests = vec![
            set(attribute::PRIMARY_ENDPOINT, value::string(&primary)),
            set(attribute::TOPOLOGY, yson(&topology.workers)?),
            set(attribute::METRICS_ENDPOINTS, yson(metrics)?),
        ];
        for result in self.fenced.execute_batch(requests).await? {
            result.map_err(Error::from)?;
        }
        if let (Some(description), Some(first)) = (self.description.get().cloned(), topology.workers.first())
        {
            let primary = WorkerAddress { address: primary, ..first.clone() };
            let logs = cypress::logs(&self.yt_path, incarnation);
            // Nobody waits for it: the workers start now.
            tokio::spawn(async move {
                description.tell(News::Running { incarnation, logs: &logs, primary: &primary }).await;
            });
        }
        Ok(())
    }

    fn publish(self: Arc<Self>, incarnation: u32, mut record: Record) -> BoxFuture<Result<(), BoardError>> {
        Box::pin(async move {
            if let (Record::Failure(failure), Some(description)) = (&mut record, self.description.get())
                // The first record is to be there at once; this is the one that is completed.
                && !failure.others.is_empty()
            {
                last_word::ask(&self.client, description.operation_id(), failure).await;
            }
            let node = cypress::incarnation(&self.yt_path, incarnation);
            let (attribute, value) = match &record {
                Record::Failure(failure) => (FAILURE_ATTRIBUTE, yson(failure)?),
                Record::Attempts(failures) => (ATTEMPTS_ATTRIBUTE, yson(failures)?),
                Record::Sidecars(ends) => (SIDECARS_ATTRIBUTE, yson(ends)?),
            };
            let path = format!("{node}/@{attribute}");
            let describe = async {
                let news = match &record {
                    Record::Failure(failure) => News::Failed(failure),
                    Record::Attempts(failed) => News::Restarting { failed },
                    // That is no news of the run.
                    Record::Sidecars(_) => return,
                };
                if let Some(description) = self.description.get() {
                    description.tell(news).await;
                }
            };
            let (written, ()) = tokio::join!(self.fenced.set(&path, &value), describe);
            Ok(written?)
        })
    }

    fn stop_requested(self: Arc<Self>, incarnation: u32) -> BoxFuture<()> {
        let node = cypress::incarnation(&self.yt_path, incarnation);
        let path = format!("{node}/@{}", attribute::STOP_REQUESTED);
        let transaction = self.transaction.lock().unwrap_or_else(PoisonError::into_inner);
        match transaction.as_ref() {
            Some(transaction) => Box::pin(transaction.when_exists(path, STOP_LOOK_PERIOD)),
            None => Box::pin(std::future::pending()),
        }
    }

    fn lost(&self) -> BoxFuture<String> {
        let transaction = self.transaction.lock().unwrap_or_else(PoisonError::into_inner);
        match transaction.as_ref().map(Transaction::lost) {
            Some(lost) => Box::pin(async move { lost.await.to_string() }),
            None => Box::pin(std::future::ready("given back".to_owned())),
        }
    }

    fn end(self: Arc<Self>) -> BoxFuture<()> {
        let transaction = self.transaction.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            if let Some(description) = self.description.get() {
                description.tell(News::Over).await;
            }
            if let Some(transaction) = transaction {
                // It holds nothing but the lock, which goes either way, at the latest by its timeout.
                if let Err(error) = transaction.commit().await {
                    debug!("cannot end the leader's transaction: {error}");
                }
            }
        })
    }
}

fn yson<T: Serialize + ?Sized>(data: &T) -> Result<YsonValue, BoardError> {
    value::from_serialize(data).map_err(|error| BoardError::Strange(error.to_string()))
}

// === impl BoardError ===

impl From<Error> for BoardError {
    fn from(error: Error) -> Self {
        if error.contains(codes::PREREQUISITE_FAILED) || error.contains(codes::NO_SUCH_TRANSACTION) {
            return Self::FenceLost(error.to_string());
        }
        let text = error.to_string();
        match error {
            Error::Credentials { .. } => Self::Credentials(text),
            Error::Transport { kind: TransportKind::Untrusted, .. }
            | Error::Yt(_)
            | Error::LockTimedOut { .. } => Self::Refused(text),
            Error::Transport { .. } => Self::Unreachable(text),
            Error::Protocol { .. } | Error::LocalFile { .. } | Error::BadInput { .. } => Self::Strange(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_jobs_of_a_node_the_newest_counts() {
        let job = |cookie: i64, state: &str, started: &str| {
            value::map([
                ("job_cookie", value::int(cookie)),
                ("state", value::string(state)),
                ("start_time", value::string(started)),
                ("address", value::string("host:9012")),
            ])
        };
        let jobs = [
            job(1, "running", "2026-01-01T00:00:02.000000Z"),
            job(1, "aborted", "2026-01-01T00:00:01.000000Z"),
            job(0, "running", "2026-01-01T00:00:01.000000Z"),
            value::map([("state", value::string("running"))]),
        ];
        let running = JobSight { state: "running".into(), address: Some("host:9012".into()) };
        assert_eq!(sights(&jobs), BTreeMap::from([(0, running.clone()), (1, running)]));
    }

    #[test]
    fn a_notice_is_read_as_far_as_it_is_there() {
        assert!(notice(&value::map::<&str>([])).is_none());
        let operation = (attribute::OPERATION_ID, value::string("1-2-3-4"));
        let read = notice(&value::map([operation.clone()])).unwrap();
        assert_eq!(read.operation_id, "1-2-3-4");
        assert!(read.control.is_none());
        let control = value::map([
            ("addresses", value::list([value::string("h"), value::string("::1")])),
            ("port", value::uint(7000_u64)),
            ("join_key", value::string("k")),
        ]);
        let read = notice(&value::map([operation, (attribute::CONTROL_ENDPOINT, control)])).unwrap();
        let control = read.control.unwrap();
        assert_eq!((control.addresses, control.port), (vec!["h".to_owned(), "::1".to_owned()], 7000));
        assert_eq!(control.join_key.expose(), "k");
    }
}
