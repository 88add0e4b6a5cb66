//! The state of a running server, shared by all requests: Cypress behind its mutex, the storage, the operations
//! and the memory of answered mutations.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::commands::{self, Journaled, Mutations, Output};
use crate::cypress::{Cypress, Now, Scope, YPath};
use crate::error::YtError;
use crate::faults::FaultState;
use crate::guid::Guid;
use crate::keeper::{self, Beside, Keeper, Record};
use crate::operations::{Artifact, Artifacts, KeptOperation, Operations};
use crate::storage::codec::Malformed;
use crate::storage::{DataFolder, Journal, OpenError, Piece, Storage};

/// Who may ask.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    users: HashMap<String, String>,
}

impl Tokens {
    /// Each token with its user. With none, everybody is `root`, with any token or none.
    pub fn new(users: impl IntoIterator<Item = (String, String)>) -> Tokens {
        Tokens { users: users.into_iter().collect() }
    }

    /// The user of a token, or the text of the refusal.
    pub(crate) fn user(&self, token: Option<&str>) -> Result<String, &'static str> {
        if self.users.is_empty() {
            return Ok("root".to_owned());
        }
        let token = token.ok_or("Client is missing credentials")?;
        self.users.get(token).cloned().ok_or("Invalid credentials: the token is not known")
    }
}

/// What is behind the mutex.
#[derive(Debug)]
struct Master {
    cypress: Cypress,
    /// There is one if the state outlives the server.
    keeper: Option<Keeper>,
}

impl Master {
    /// Sets the clock, before a step.
    fn advance(&mut self, now: Now) -> Now {
        let Some(keeper) = &mut self.keeper else {
            self.cypress.advance(now);
            return now;
        };
        if let Some(moment) = keeper.replayed_moment() {
            self.cypress.set_time(moment);
            return moment;
        }
        let expired = self.cypress.advance(now);
        keeper.expired(&self.cypress, now, &expired);
        now
    }
}

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Server {
    master: Mutex<Master>,
    journal: OnceLock<Arc<Journal>>,
    pub(crate) storage: Storage,
    operations: OnceLock<Arc<Operations>>,
    pub(crate) mutations: Mutations,
    pub(crate) tokens: Tokens,
    pub(crate) faults: FaultState,
    pub(crate) address: SocketAddr,
    started: Instant,
    pub(crate) start_time: String,
    /// A transaction or node expires sooner than the timer knows, or it has to tell of a transaction that ended.
    timer_needed: Notify,
}

impl Server {
    /// A server with a fresh tree, which ends with it.
    pub(crate) fn new(storage: Storage, tokens: Tokens, address: SocketAddr) -> Server {
        Server::with_keeper(storage, None, tokens, address)
    }

    /// A server with the state that a folder keeps. Operations of earlier servers are returned beside it.
    pub(crate) fn restore(
        folder: DataFolder,
        tokens: Tokens,
        address: SocketAddr,
    ) -> Result<(Server, BTreeMap<Guid, KeptOperation>), OpenError> {
        let folder = Arc::new(folder);
        let storage = folder.storage().clone();
        let server = Server::with_keeper(storage, Some(Keeper::new(Arc::clone(&folder))), tokens, address);
        let fresh = || keeper::encode(&server.lock().cypress, &Beside::default());
        let recovered = folder.recover(fresh, |piece| server.restore_piece(piece))?;
        let mut master = server.lock();
        let Master { cypress, keeper } = &mut *master;
        cypress.resume(server.now());
        let journal = Arc::new(recovered.journal);
        let mut operations = BTreeMap::new();
        if let Some(keeper) = keeper {
            for answer in &keeper.beside.answers {
                let age = Duration::from_micros(wall_clock_us().saturating_sub(answer.given_us));
                server.mutations.remember(&answer.mutation_id, age, answer.outcome.clone());
            }
            operations.clone_from(&keeper.beside.operations);
            keeper.keep(Arc::clone(&journal));
        }
        drop(master);
        tracing::info!(records = recovered.records, "the state of an earlier server is restored");
        // The only call.
        let _ = server.journal.set(journal);
        Ok((server, operations))
    }

    fn restore_piece(&self, piece: Piece<'_, '_>) -> Result<(), Malformed> {
        match piece {
            Piece::Snapshot(reader) => {
                let (cypress, beside) = keeper::decode(reader)?;
                let mut master = self.lock();
                master.cypress = cypress;
                if let Some(keeper) = &mut master.keeper {
                    keeper.beside = beside;
                }
            }
            Piece::Record(reader) => match keeper::take_record(reader)? {
                Record::Command(wall_us) => {
                    if let Some(keeper) = &mut self.lock().keeper {
                        keeper.set_replayed_moment(wall_us);
                    }
                    commands::replay(self, reader)?;
                }
                Record::Expired(wall_us, expired) => {
                    let now = Now { wall_us, monotonic: Duration::ZERO };
                    self.lock().cypress.repeat_expiry(now, &expired);
                }
                Record::Operation(id, operation) => {
                    if let Some(keeper) = &mut self.lock().keeper {
                        keeper.beside.operations.insert(id, operation);
                    }
                }
            },
        }
        Ok(())
    }

    fn with_keeper(storage: Storage, keeper: Option<Keeper>, tokens: Tokens, address: SocketAddr) -> Server {
        let started = Instant::now();
        let now = Now { wall_us: wall_clock_us(), monotonic: Duration::ZERO };
        Server {
            master: Mutex::new(Master { cypress: Cypress::new(now), keeper }),
            journal: OnceLock::new(),
            storage,
            operations: OnceLock::new(),
            mutations: Mutations::default(),
            tokens,
            faults: FaultState::default(),
            address,
            started,
            start_time: crate::cypress::time::format(now.wall_us),
            timer_needed: Notify::new(),
        }
    }

    /// Operations need the server and the server needs operations: they come second.
    pub(crate) fn set_operations(&self, operations: Arc<Operations>) {
        // A second call would be a mistake at start-up; the first one stays.
        let _ = self.operations.set(operations);
    }

    pub(crate) fn operations(&self) -> Result<&Arc<Operations>, YtError> {
        self.operations.get().ok_or_else(|| YtError::generic("Operations are not started yet"))
    }

    /// Runs a step on Cypress under its mutex, with the clock set. A panic in an earlier step does not lock
    /// everybody out: every step leaves Cypress usable at each of its own steps.
    pub(crate) fn with_cypress<R>(&self, step: impl FnOnce(&mut Cypress) -> R) -> R {
        let (result, ended) = self.step(step, Cypress::take_ended);
        self.tell(&ended);
        result
    }

    /// The same for callers that hold a lock of the operations: who must be told of transactions that ended by the
    /// way is told later, by the timer.
    fn with_cypress_untold<R>(&self, step: impl FnOnce(&mut Cypress) -> R) -> R {
        self.step(step, |_| ()).0
    }

    fn step<R, S>(
        &self,
        step: impl FnOnce(&mut Cypress) -> R,
        then: impl FnOnce(&mut Cypress) -> S,
    ) -> (R, S) {
        self.keeping_step(|cypress, _, _| (step(cypress), then(cypress)))
    }

    /// A step that has the keeper at hand, if there is one, and knows the time.
    fn keeping_step<R>(&self, step: impl FnOnce(&mut Cypress, Option<&mut Keeper>, Now) -> R) -> R {
        let mut master = self.lock();
        let before = master.cypress.wake_at();
        let now = master.advance(self.now());
        let Master { cypress, keeper } = &mut *master;
        let result = step(cypress, keeper.as_mut(), now);
        let after = cypress.wake_at();
        let sooner = after.is_some_and(|after| before.is_none_or(|before| after < before));
        if sooner || cypress.has_ended() {
            self.timer_needed.notify_one();
        }
        result
    }

    /// The same for a step that changes something: what it leaves in the journal is written before the answer.
    pub(crate) fn change(
        &self,
        journaled: Option<&Journaled>,
        step: impl FnOnce(&mut Cypress) -> Result<Output, YtError>,
    ) -> Result<Output, YtError> {
        let (outcome, ended) = self.keeping_step(|cypress, keeper, now| {
            let outcome = step(cypress);
            if let (Some(keeper), Some(journaled)) = (keeper, journaled) {
                keeper.command(cypress, now, journaled, &outcome);
            }
            (outcome, cypress.take_ended())
        });
        self.tell(&ended);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Master> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a restart must not change, as bytes.
    #[cfg(test)]
    pub(crate) fn lasting_state(&self) -> Vec<u8> {
        let master = self.lock();
        let mut cypress = master.cypress.clone();
        cypress.forget_passing_times();
        keeper::encode(
            &cypress,
            &master.keeper.as_ref().map(|keeper| keeper.beside.clone()).unwrap_or_default(),
        )
    }

    fn now(&self) -> Now {
        Now { wall_us: wall_clock_us(), monotonic: self.started.elapsed() }
    }

    /// Whether the state outlives the server.
    pub(crate) fn keeps_state(&self) -> bool {
        self.journal.get().is_some()
    }

    /// Returns when everything that was done so far outlives the server, if anything does. Nothing is answered
    /// before.
    pub(crate) async fn settle(&self) -> Result<(), YtError> {
        match self.journal.get() {
            None => Ok(()),
            Some(journal) => journal.settle().await.map_err(YtError::generic),
        }
    }

    fn tell(&self, ended: &[Guid]) {
        let Some(operations) = self.operations.get() else { return };
        for transaction in ended {
            operations.transaction_ended(*transaction);
        }
    }

    /// Lets transactions and nodes expire on time even if nobody asks. Never returns.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = self.with_cypress(|cypress| cypress.wake_at());
            let deadline = deadline.map(|deadline| self.started + deadline);
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => {}
                () = self.timer_needed.notified() => {}
            }
        }
    }
}

fn wall_clock_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// What operations ask of the server.
#[derive(Debug)]
pub(crate) struct ServerArtifacts {
    server: Weak<Server>,
}

impl ServerArtifacts {
    pub(crate) fn new(server: &Arc<Server>) -> ServerArtifacts {
        ServerArtifacts { server: Arc::downgrade(server) }
    }

    fn server(&self) -> Result<Arc<Server>, YtError> {
        self.server.upgrade().ok_or_else(|| YtError::generic("The server is shutting down"))
    }
}

impl Artifacts for ServerArtifacts {
    fn open(&self, path: &str, transaction: Option<Guid>, user: &str) -> Result<Artifact, YtError> {
        let path = YPath::parse(path)?;
        let scope = Scope { transaction, user };
        let server = self.server()?;
        let (content, (executable, file_name)) = server.with_cypress_untold(|cypress| {
            Ok::<_, YtError>((cypress.file(&path, scope)?.2.data, cypress.file_facts(&path, scope)?))
        })?;
        Ok(Artifact { content, executable, file_name })
    }

    fn transaction_is_alive(&self, id: Guid) -> bool {
        self.server().is_ok_and(|server| server.with_cypress_untold(|cypress| cypress.is_alive(id)))
    }

    fn new_guid(&self, object_type: u16) -> Guid {
        Guid::random(object_type)
    }

    fn keep(&self, id: Guid, operation: KeptOperation) {
        let Ok(server) = self.server() else { return };
        let Master { cypress, keeper } = &mut *server.lock();
        if let Some(keeper) = keeper {
            keeper.operation(cypress, id, operation);
        }
    }
}
