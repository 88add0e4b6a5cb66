//! What people see of the run in the cluster's web interface: the part `tractorun` of the operation's description.
//!
//! The launcher fills in what it knows when it starts the operation: `training_dir` and `mesh`. Here the leader adds what
//! is known later, in the layout of the Python tractorun, which says it only of scripts that call its library:
//! `incarnation`, `logs` and `primary`; and besides the state, the attempt and the verdict. It is a courtesy: nothing waits for it longer than
//! [`PATIENCE`], nothing fails with it, and where there is no operation (a run on somebody's machine) it is given up
//! after the first try. The texts are those of the failure record's first line; no lines of workers are in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::debug;
use tractorun_contract::failure::Failure;
use tractorun_contract::job_spec::Links;
use tractorun_contract::topology::WorkerAddress;
use tractorun_yt::value;
use tractorun_yt::{Client, YsonValue, codes};

/// How long one change may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The description of one operation.
#[derive(Debug)]
pub(crate) struct Description {
    client: Client,
    operation_id: String,
    /// How links look.
    links: Links,
    /// Changes go out one after the other, so that an early one that is slow does not undo a late one.
    turn: Mutex<()>,
    /// Whether the cluster knows the operation, as far as we know.
    is_there: AtomicBool,
    /// Whether a verdict was written: then the run did not finish.
    has_failed: AtomicBool,
}

/// What there is to say.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// All nodes have met, and the workers start.
    Running {
        /// Which incarnation.
        incarnation: u32,
        /// Folder of its log tables.
        logs: &'a str,
        /// The worker of rank 0.
        primary: &'a WorkerAddress,
    },
    /// These attempts failed, and another one follows.
    Restarting { failed: &'a [Failure] },
    /// This decided the run.
    Failed(&'a Failure),
    /// The leader leaves.
    Over,
}

// === impl Description ===

impl Description {
    pub(crate) fn new(client: Client, operation_id: String, links: Links) -> Self {
        Self {
            client,
            operation_id,
            links,
            turn: Mutex::new(()),
            is_there: AtomicBool::new(true),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Of which operation.
    pub(crate) fn operation_id(&self) -> &str {
        &self.operation_id
    }

    /// Makes it known, as far as that is quickly done.
    pub(crate) async fn tell(&self, news: News<'_>) {
        if let News::Failed(_) = news {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        let Some(part) = self.part(&news) else { return };
        let change = async {
            let _turn = self.turn.lock().await;
            if !self.is_there.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.client.update_operation_parameters(&self.operation_id, &parameters(part)).await
        };
        match timeout(PATIENCE, change).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if [codes::NO_SUCH_OPERATION, codes::NO_SUCH_OPERATION_SCHEDULER]
                    .iter()
                    .any(|code| error.contains(*code))
                {
                    self.is_there.store(false, Ordering::Relaxed);
                }
                debug!("cannot change the operation's description: {error}");
            }
            Err(_) => debug!("the operation's description could not be changed in time"),
        }
    }

    fn primary(&self, WorkerAddress { address, job_id }: &WorkerAddress) -> YsonValue {
        let mut entries = vec![("address", value::string(address))];
        if let Some(url) = self.links.of_stderr(&self.operation_id, job_id) {
            entries.push(("job_stderr", value::url(url)));
        }
        value::map(entries)
    }

    /// What changes; nothing where there is nothing to say.
    fn part(&self, news: &News<'_>) -> Option<YsonValue> {
        Some(match news {
            News::Running { incarnation, logs, primary } => value::map([
                ("state", value::string("running")),
                ("incarnation", value::int(*incarnation)),
                ("attempt", value::int(0)),
                ("logs", self.links.of_node(logs).map_or_else(|| value::string(logs), value::url)),
                ("primary", self.primary(primary)),
            ]),
            News::Restarting { failed } => {
                let last = failed.last()?;
                value::map([
                    ("attempt", value::int(last.attempt + 1)),
                    ("last_failure", value::string(last.to_string())),
                ])
            }
            News::Failed(failure) => {
                let mut entries = vec![
                    ("state", value::string("failed")),
                    ("attempt", value::int(failure.attempt)),
                    ("verdict", value::string(failure.to_string())),
                ];
                if !failure.others.is_empty() {
                    entries.push(("others", value::string(failure.others.to_string())));
                }
                value::map(entries)
            }
            News::Over if self.has_failed.load(Ordering::Relaxed) => return None,
            News::Over => value::map([("state", value::string("finished"))]),
        })
    }
}

/// The cluster puts the maps of a change over those that are there, so the launcher's part stays.
fn parameters(part: YsonValue) -> YsonValue {
    let description = value::map([("tractorun", part)]);
    value::map([("annotations", value::map([("description", description)]))])
}
