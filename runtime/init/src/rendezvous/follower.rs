//! Every node but node 0: reads the notice board and joins the leader.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::info;
use tractorun_contract::topology::Topology;

use super::board::{BoardError, ControlEndpoint, NoticeBoard};
use super::dial::{Connection, Dialler};
use super::{Closer, Membership, RendezvousError, Settings};
use crate::control::link::{self, Greeting, JoinRefused, Joined};
use crate::control::message::{Link, LinkEvent};
use crate::control::wire::{Join, PROTOCOL, ReachedBy, Retry};

/// How much longer than its own deadline a node waits for the leader's word.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause between two looks at the notice board.
const POLL_PERIOD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Joins the leader of this operation's incarnation.
pub(super) async fn follow<B: NoticeBoard>(
    board: &B,
    settings: &Settings,
) -> Result<Membership, RendezvousError> {
    let mut follower = Follower {
        settings,
        state: State::NoIncarnation,
        close: watch::channel(false).0,
        tasks: JoinSet::new(),
    };
    let outcome = {
        let mut running = pin!(follower.run(board));
        match timeout_at(settings.deadline, &mut running).await {
            // The leader's time is up at about the same moment, and it knows whom everybody has waited for.
            Err(_) => timeout(LAST_WORD_TIMEOUT, running).await,
            in_time => in_time,
        }
    };
    match outcome {
        Ok(Ok((incarnation, link, topology))) => {
            let closer = Closer { close: follower.close, tasks: follower.tasks };
            let metrics_targets = Vec::new();
            Ok(Membership {
                incarnation,
                topology,
                metrics_targets,
                link,
                hub: None,
                stop_requested: None,
                closer,
            })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RendezvousError::TimedOut {
            patience: settings.patience,
            what: follower.state.to_string(),
            hint: "the one of node 0 leads, and logs whom it waits for",
        }),
    }
}

struct Follower<'a> {
    settings: &'a Settings,
    /// What kept us last, for the error when time is up.
    state: State,
    close: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// How far a follower got.
#[derive(Debug, PartialEq)]
enum State {
    NoIncarnation,
    /// The newest incarnation is of an older run: its leader must never be joined.
    OtherOperation {
        incarnation: u32,
        operation_id: String,
    },
    NoNotice {
        incarnation: u32,
    },
    BoardUnreachable(String),
    /// No address of the leader worked: each with its reason.
    LeaderUnreachable(Vec<(String, String)>),
    Refused(String),
    Waiting,
    LinkLost(String),
}

enum Attempt {
    /// All have met.
    Met(u32, Link, Topology),
    /// Look again, at once or later.
    Again(State),
}

/// Pauses that double, with jitter so that many nodes do not ask in step.
struct Backoff(Duration);

// === impl Follower ===

impl Follower<'_> {
    async fn run<B: NoticeBoard>(&mut self, board: &B) -> Result<(u32, Link, Topology), RendezvousError> {
        let mut backoff = Backoff::new();
        loop {
            match self.attempt(board).await? {
                Attempt::Met(incarnation, link, topology) => return Ok((incarnation, link, topology)),
                Attempt::Again(state) => {
                    if state != self.state {
                        info!("waiting for the leader: {state}");
                    }
                    self.state = state;
                }
            }
            sleep(backoff.next()).await;
        }
    }

    async fn attempt<B: NoticeBoard>(&mut self, board: &B) -> Result<Attempt, RendezvousError> {
        let incarnation = match board.newest().await {
            Ok(Some(incarnation)) => incarnation,
            Ok(None) => return Ok(Attempt::Again(State::NoIncarnation)),
            Err(error) => return unless_fatal(error),
        };
        if let State::OtherOperation { incarnation: other, operation_id } = &self.state
            && *other == incarnation
        {
            // Its notice does not change.
            let operation_id = operation_id.clone();
            return Ok(Attempt::Again(State::OtherOperation { incarnation, operation_id }));
        }
        let notice = match board.read(incarnation).await {
            Ok(Some(notice)) => notice,
            Ok(None) => return Ok(Attempt::Again(State::NoNotice { incarnation })),
            Err(error) => return unless_fatal(error),
        };
        if notice.operation_id != self.settings.operation_id {
            let operation_id = notice.operation_id;
            return Ok(Attempt::Again(State::OtherOperation { incarnation, operation_id }));
        }
        let Some(control) = notice.control else {
            return Ok(Attempt::Again(State::NoNotice { incarnation }));
        };
        self.join(incarnation, &control).await
    }

    /// Tries the leader's addresses until one leads to it. Connections are made side by side, but only one at a time
    /// is asked to be the node's: a second join would end the first one.
    async fn join(
        &mut self,
        incarnation: u32,
        control: &ControlEndpoint,
    ) -> Result<Attempt, RendezvousError> {
        let mut dialler = Dialler::new(control);
        while let Some(Connection { stream, way, place }) = dialler.next().await {
            match self.join_over(incarnation, control, stream, way).await {
                Ok(joined) => {
                    info!("joined the leader of incarnation {incarnation} at {}", way.address());
                    drop(dialler);
                    self.state = State::Waiting;
                    return wait_for_all(incarnation, joined).await;
                }
                Err(JoinRefused::Refused { reason, retry: Retry::Never }) => {
                    return Err(RendezvousError::Refused { reason });
                }
                // Somebody else may have that name or address here.
                Err(error) => dialler.failed(place, error.to_string()),
            }
        }
        Ok(Attempt::Again(State::LeaderUnreachable(dialler.failures())))
    }

    async fn join_over(
        &mut self,
        incarnation: u32,
        control: &ControlEndpoint,
        stream: TcpStream,
        reached_by: ReachedBy,
    ) -> Result<Joined, JoinRefused> {
        let settings = self.settings;
        let mut progress = settings.progress.clone();
        let so_far = progress.borrow_and_update().clone();
        let join = Join {
            protocol: PROTOCOL,
            key: control.join_key.clone(),
            incarnation,
            node_rank: settings.node_rank,
            job_id: settings.job_id.clone(),
            host: settings.advertise_host.clone().unwrap_or_else(|| settings.host.clone()),
            ports: settings.ports.iter().copied().take(settings.mesh.process_per_node as usize).collect(),
            metrics_port: settings.metrics_port,
            reached_by,
            progress: so_far,
        };
        let life = (settings.heartbeat, settings.pulses.clone());
        link::join(stream, &join, progress, life, self.close.subscribe(), &mut self.tasks).await
    }
}

async fn wait_for_all(incarnation: u32, joined: Joined) -> Result<Attempt, RendezvousError> {
    let Joined { mut link, mut greetings } = joined;
    match greetings.recv().await {
        Some(Greeting::Topology(topology)) => Ok(Attempt::Met(incarnation, link, topology)),
        Some(Greeting::Failed(failure)) => Err(RendezvousError::NodeFailed(Box::new(failure))),
        Some(Greeting::Refused { reason, retry: Retry::Never }) => Err(RendezvousError::Refused { reason }),
        Some(Greeting::Refused { reason, retry: Retry::Later }) => Ok(Attempt::Again(State::Refused(reason))),
        None => {
            let reason = match link.inbox.recv().await {
                Some(LinkEvent::Lost { reason }) => reason,
                Some(LinkEvent::Message(_)) | None => "connection closed".to_owned(),
            };
            Ok(Attempt::Again(State::LinkLost(reason)))
        }
    }
}

/// A cluster that does not answer may do so later; one that says no would say it again.
fn unless_fatal(error: BoardError) -> Result<Attempt, RendezvousError> {
    match error {
        BoardError::Unreachable(text) => {
            // Its hint would end up in the middle of a line.
            let line = text.lines().next().unwrap_or_default().to_owned();
            Ok(Attempt::Again(State::BoardUnreachable(line)))
        }
        error => Err(error.into()),
    }
}

// === impl Backoff ===

impl Backoff {
    fn new() -> Self {
        Self(POLL_PERIOD.0)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(POLL_PERIOD.1);
        pause
    }
}

// === impl State ===

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIncarnation => f.write_str("there is no incarnation yet"),
            Self::OtherOperation { incarnation, operation_id } => {
                write!(
                    f,
                    "the newest incarnation, {incarnation}, belongs to another operation, {operation_id}"
                )
            }
            Self::NoNotice { incarnation } => {
                write!(f, "incarnation {incarnation} does not say yet where its leader listens")
            }
            Self::BoardUnreachable(error) => write!(f, "cannot read the notice board: {error}"),
            Self::LeaderUnreachable(tried) => {
                f.write_str("cannot reach the leader: ")?;
                for (index, (address, error)) in tried.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{address}: {error}")?;
                }
                Ok(())
            }
            Self::Refused(reason) => f.write_str(reason),
            Self::Waiting => f.write_str("joined, but not all nodes are ready"),
            Self::LinkLost(reason) => write!(f, "the connection to the leader was lost: {reason}"),
        }
    }
}
