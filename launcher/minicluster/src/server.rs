//! The state of a running server, shared by all requests: Cypress behind its mutex, the storage, the operations
//! and the memory of answered mutations.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::commands::Mutations;
use crate::cypress::{Cypress, Now, Scope, YPath};
use crate::error::YtError;
use crate::faults::FaultState;
use crate::guid::Guid;
use crate::operations::{Artifact, Artifacts, Operations};
use crate::storage::Storage;

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

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Server {
    cypress: Mutex<Cypress>,
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
    pub(crate) fn new(storage: Storage, tokens: Tokens, address: SocketAddr) -> Server {
        let started = Instant::now();
        let now = Now { wall_us: wall_clock_us(), monotonic: Duration::ZERO };
        Server {
            cypress: Mutex::new(Cypress::new(now)),
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
        let mut cypress = self.cypress.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cypress.wake_at();
        cypress.advance(Now { wall_us: wall_clock_us(), monotonic: self.started.elapsed() });
        let result = (step(&mut cypress), then(&mut cypress));
        let after = cypress.wake_at();
        let sooner = after.is_some_and(|after| before.is_none_or(|before| after < before));
        if sooner || cypress.has_ended() {
            self.timer_needed.notify_one();
        }
        result
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
}
