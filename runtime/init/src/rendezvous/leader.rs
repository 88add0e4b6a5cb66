//! Node 0: takes the lead, puts the notice up, waits for everybody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::{debug, info, warn};
use tractorun_contract::failure::{Cause, Failure, Fates};
use tractorun_contract::topology::Topology;

use super::address::{OwnAddresses, resolve};
use super::board::{BoardError, ControlEndpoint, Desk, Jobs, Notice, NoticeBoard};
use super::gathering::{Gathering, Joined, LeaderName, Member};
use super::{Closer, Membership, MetricsTarget, RendezvousError, Settings, StopRequest};
use crate::control::acceptor::{Acceptor, Arrival, Interfaces, refuse};
use crate::control::hub::{self, BoxFuture, Leadership, PUBLISH_TIMEOUT, PeerEvent, Peers, Record};
use crate::control::progress::Progress;
use crate::control::wire::{Retry, ToNode};

/// How often the leader says whom it waits for.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

/// Longest time between two looks at the jobs of those that are not there: the first is at the first report, and
/// the time doubles after each.
const LONGEST_LOOK_PERIOD: Duration = Duration::from_mins(1);

/// What the cluster does not say within this is done without.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Jobs that are asked for at a time, however large the mesh.
const MAX_JOBS: u32 = 1000;

/// Brings all nodes together and leads them.
pub(super) async fn lead<B: NoticeBoard>(
    board: &B,
    settings: &Settings,
) -> Result<Membership, RendezvousError> {
    let (acceptor, endpoint) = listen(settings).await?;
    let desk = Arc::new(take_lead(board, settings).await?);
    let incarnation = match board.newest().await {
        Ok(newest) => newest.map_or(0, |number| number + 1),
        Err(error) => return Err(give_back(&desk, error.into()).await),
    };
    let mut lead = Lead {
        board,
        settings,
        incarnation,
        acceptor,
        peers: Peers::new(settings.heartbeat, settings.pulses.clone()),
        lost: desk.lost(),
        desk,
    };
    match lead.meet(endpoint).await {
        Ok((topology, metrics_targets)) => Ok(lead.begin(topology, metrics_targets)),
        Err(error) => Err(lead.fail(error).await),
    }
}

struct Lead<'a, B, D> {
    board: &'a B,
    settings: &'a Settings,
    incarnation: u32,
    acceptor: Acceptor,
    peers: Peers,
    lost: BoxFuture<String>,
    desk: Arc<D>,
}

/// Listens before anything is published: who reads the notice can connect.
async fn listen(settings: &Settings) -> Result<(Acceptor, Option<ControlEndpoint>), RendezvousError> {
    if settings.mesh.node_count == 1 {
        return Ok((Acceptor::deaf(), None));
    }
    // The configuration has checked that the port is there.
    let port = settings.ports.last().copied().unwrap_or_default();
    let interfaces = Interfaces::of(settings.advertise_host.as_deref());
    let acceptor = Acceptor::listen(interfaces, port)
        .await
        .map_err(|source| RendezvousError::Listen { port, source })?;
    let addresses = match &settings.advertise_host {
        Some(host) => vec![host.clone()],
        None => std::iter::once(settings.host.clone())
            .chain(OwnAddresses::of_machine().reachable().iter().map(ToString::to_string))
            .collect(),
    };
    let join_key = acceptor.key().clone();
    Ok((acceptor, Some(ControlEndpoint { addresses, port, join_key })))
}

/// Takes the lock; an earlier leader's transaction may hold it until it times out.
async fn take_lead<B: NoticeBoard>(board: &B, settings: &Settings) -> Result<B::Desk, RendezvousError> {
    let patience = settings.deadline.saturating_duration_since(Instant::now());
    let taking = board.take_lead(patience);
    tokio::pin!(taking);
    let started = Instant::now();
    let mut reports = interval_at(started + REPORT_PERIOD, REPORT_PERIOD);
    loop {
        tokio::select! {
            taken = &mut taking => match taken? {
                Some(desk) => return Ok(desk),
                None => break,
            },
            _ = reports.tick() => info!(
                "waiting for an earlier leader to end: its transaction still holds the lock after {} s",
                started.elapsed().as_secs()
            ),
            () = sleep_until(settings.deadline) => break,
        }
    }
    Err(RendezvousError::TimedOut {
        patience: settings.patience,
        what: "an earlier leader still holds the lock".to_owned(),
        hint: "another run may use the same yt_path",
    })
}

/// Ends the leadership because of an error, which is what counts.
async fn give_back<D: Desk>(desk: &Arc<D>, error: RendezvousError) -> RendezvousError {
    // Without an answer it ends by its timeout.
    let _ = timeout(PUBLISH_TIMEOUT, Arc::clone(desk).end()).await;
    error
}

// === impl Lead ===

impl<B: NoticeBoard> Lead<'_, B, B::Desk> {
    /// Puts the notice up, waits for all and publishes the topology.
    async fn meet(
        &mut self,
        control: Option<ControlEndpoint>,
    ) -> Result<(Topology, Vec<MetricsTarget>), RendezvousError> {
        self.acceptor.expect(self.incarnation);
        let notice = Notice { operation_id: self.settings.operation_id.clone(), control };
        // From here to the end of the rendezvous it is heard if this node says that it will not begin: if not before
        // all are sent off, then it is too late for that.
        let _heard = self.settings.progress.clone();
        let desk = Arc::clone(&self.desk);
        self.unless_lost(desk.open(self.incarnation, &notice)).await??;
        info!("leading incarnation {}", self.incarnation);
        // A name server that does not answer must not hold up the start after the last node has come.
        let settings = self.settings;
        let (gathering, name) = tokio::join!(self.gather(), leader_name(settings));
        let gathering = gathering?;
        let topology = gathering.topology(&name);
        let metrics_targets = gathering.metrics_targets();
        let mut metrics = vec![None; settings.mesh.node_count as usize];
        for target in &metrics_targets {
            metrics[target.node_rank as usize] = Some(target.address.clone());
        }
        self.unless_lost(desk.publish_topology(self.incarnation, &topology, &metrics)).await??;
        Ok((topology, metrics_targets))
    }

    async fn gather(&mut self) -> Result<Gathering, RendezvousError> {
        let settings = self.settings;
        let mut progress = settings.progress.clone();
        let mut gathering =
            Gathering::new(settings.mesh, own_member(settings, &progress.borrow_and_update()));
        let mut reports = interval_at(Instant::now() + REPORT_PERIOD, REPORT_PERIOD);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = Look::new(self.board, &settings.operation_id);
        // It may have failed before it led.
        if let Some(failure) = gathering.failure_of(0) {
            return Err(RendezvousError::NodeFailed(Box::new(failure)));
        }
        while !gathering.is_complete() {
            let changed = tokio::select! {
                reason = &mut self.lost => return Err(RendezvousError::LeadershipLost { reason }),
                // Without a sender it stays as it is.
                Ok(()) = progress.changed() => {
                    gathering.advance(0, progress.borrow_and_update().clone());
                    0
                }
                (node_rank, event) = self.peers.next() => {
                    match event {
                        PeerEvent::Lost(reason) => {
                            info!("node {node_rank} left before the start: {reason}");
                            gathering.leave(node_rank, reason);
                        }
                        PeerEvent::Advanced(progress) => {
                            debug!("node {node_rank}: {progress}");
                            gathering.advance(node_rank, progress);
                        }
                        PeerEvent::Said(message) => {
                            warn!("node {node_rank} spoke before the start: {message:?}");
                        }
                    }
                    node_rank
                }
                arrival = self.acceptor.next() => self.admit(arrival, &mut gathering),
                () = look.run() => {
                    info!("{}", gathering.waiting(look.seen()));
                    continue;
                }
                _ = reports.tick() => {
                    // A look at the jobs ends with a report.
                    if !gathering.lacks_nodes() || look.begin_if_due() == Due::No {
                        info!("{}", gathering.waiting(look.seen()));
                    }
                    continue;
                }
                () = sleep_until(settings.deadline) => return Err(RendezvousError::TimedOut {
                    patience: settings.patience,
                    what: gathering.waiting(look.seen()),
                    hint: "those of the missing nodes did not start, or cannot reach the leader",
                }),
            };
            if let Some(failure) = gathering.failure_of(changed) {
                return Err(RendezvousError::NodeFailed(Box::new(failure)));
            }
        }
        Ok(gathering)
    }

    /// Lets a node in, or not; gives its rank.
    fn admit(&mut self, arrival: Arrival, gathering: &mut Gathering) -> u32 {
        let Arrival { join, stream } = arrival;
        let (node_rank, host) = (join.node_rank, join.host.clone());
        if let Err((reason, retry)) = gathering.check(&join) {
            warn!("refused node {node_rank} ({host}): {reason}");
            tokio::spawn(refuse(stream, reason, retry));
            return node_rank;
        }
        let progress = join.progress.to_string();
        match gathering.join(join) {
            Joined::New => info!("node {node_rank} ({host}) has joined, {progress}"),
            Joined::Again => info!("node {node_rank} ({host}) has joined again"),
        }
        self.peers.admit(node_rank, stream);
        node_rank
    }

    /// Runs IO that is void once the leadership is lost.
    async fn unless_lost<T>(&mut self, io: impl Future<Output = T>) -> Result<T, RendezvousError> {
        tokio::select! {
            done = io => Ok(done),
            reason = &mut self.lost => Err(RendezvousError::LeadershipLost { reason }),
        }
    }

    /// Sends everybody off.
    fn begin(self, topology: Topology, metrics_targets: Vec<MetricsTarget>) -> Membership {
        let Self { board: _, settings: _, incarnation, acceptor, peers, lost, desk } = self;
        peers.send_all(&ToNode::Topology(topology.clone()));
        let publisher = Arc::clone(&desk);
        let publish = move |record| -> BoxFuture<Result<(), String>> {
            let written = Arc::clone(&publisher).publish(incarnation, record);
            Box::pin(async move { written.await.map_err(|error| error.to_string()) })
        };
        let stop_requested = Arc::clone(&desk).stop_requested(incarnation);
        // Made now, run when the hub closes.
        let end: BoxFuture<()> = Box::pin(async move { desk.end().await });
        let leadership = Leadership { lost, publish: Arc::new(publish), end };
        let (close, closing) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (hub, link) = hub::start(peers, acceptor, leadership, closing, &mut tasks);
        let closer = Closer { close, tasks };
        let stop_requested = Some(StopRequest(stop_requested));
        Membership { incarnation, topology, metrics_targets, link, hub: Some(hub), stop_requested, closer }
    }

    /// Tells those who wait, leaves a record, and gives the leadership back; each as far as it goes.
    async fn fail(self, error: RendezvousError) -> RendezvousError {
        let failure = match &error {
            RendezvousError::NodeFailed(failure) => {
                let failure = Failure::clone(failure);
                self.peers.send_all(&ToNode::Failed(failure.clone()));
                failure
            }
            error => {
                let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
                self.peers.send_all(&ToNode::Refused { reason: reason.clone(), retry: Retry::Never });
                own_failure(self.settings, reason, error.exit_code())
            }
        };
        let publish = async {
            // Without the notice there is no place for it, without the leadership no right to write it.
            if let RendezvousError::TimedOut { .. } | RendezvousError::NodeFailed(_) = error
                && let Err(error) =
                    Arc::clone(&self.desk).publish(self.incarnation, Record::Failure(failure)).await
            {
                warn!("cannot write the failure record: {error}");
            }
        };
        // Who does not listen is not waited for.
        let _ = tokio::join!(timeout(PUBLISH_TIMEOUT, publish), timeout(PUBLISH_TIMEOUT, self.peers.close()));
        give_back(&self.desk, error).await
    }
}

/// That no node but the leader can be blamed for the end of the rendezvous.
fn own_failure(settings: &Settings, reason: String, exit_code: u8) -> Failure {
    Failure {
        cause: Cause::StartUpFailed { reason },
        rank: None,
        node_rank: 0,
        host: settings.host.clone(),
        job_id: settings.job_id.clone(),
        attempt: 0,
        exit_code,
        elapsed_seconds: 0.0,
        stderr_tail: Vec::new(),
        not_restarted: None,
        oom: None,
        others: Fates::default(),
    }
}

fn own_member(settings: &Settings, progress: &Progress) -> Member {
    let workers = settings.mesh.process_per_node as usize;
    Member {
        host: settings.advertise_host.clone().unwrap_or_else(|| settings.host.clone()),
        job_id: settings.job_id.clone(),
        ports: settings.ports.iter().copied().take(workers).collect(),
        metrics_port: settings.metrics_port,
        reached_by: None,
        progress: progress.clone(),
    }
}

/// Looks now and then what the cluster knows of the jobs of an operation.
struct Look<'a, B> {
    board: &'a B,
    operation_id: &'a str,
    running: Option<Looking<'a>>,
    seen: Option<Jobs>,
    next_at: Instant,
    period: Duration,
}

/// Whether it was time for a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Yes,
    No,
}

type Looking<'a> = Pin<Box<dyn Future<Output = Result<Jobs, BoardError>> + Send + 'a>>;

// === impl Look ===

impl<'a, B: NoticeBoard> Look<'a, B> {
    fn new(board: &'a B, operation_id: &'a str) -> Self {
        let (seen, running) = (None, None);
        Self { board, operation_id, running, seen, next_at: Instant::now(), period: REPORT_PERIOD }
    }

    /// Begins one, if it is time.
    fn begin_if_due(&mut self) -> Due {
        if self.running.is_some() || self.next_at > Instant::now() {
            return Due::No;
        }
        let looking = timeout(LOOK_TIMEOUT, self.board.jobs(self.operation_id, MAX_JOBS));
        self.running = Some(Box::pin(async {
            looking.await.unwrap_or_else(|_| Err(BoardError::Unreachable("no answer in time".to_owned())))
        }));
        self.next_at = Instant::now() + self.period;
        self.period = (self.period * 2).min(LONGEST_LOOK_PERIOD);
        Due::Yes
    }

    /// Resolves when the one that runs has ended; never, if none runs. Cancellation safe.
    async fn run(&mut self) {
        let Some(looking) = &mut self.running else { return std::future::pending().await };
        match looking.await {
            Ok(jobs) => self.seen = Some(jobs),
            // A run on somebody's own machine has no jobs that the cluster knows.
            Err(error) => debug!("cannot see the jobs of the operation: {error}"),
        }
        self.running = None;
    }

    /// What the last one saw.
    fn seen(&self) -> Option<&Jobs> {
        self.seen.as_ref()
    }
}

/// Whether the leader's own workers can use its host name: it must lead to this machine.
async fn leader_name(settings: &Settings) -> LeaderName {
    if let Some(host) = &settings.advertise_host {
        return LeaderName::Given(host.clone());
    }
    match resolve(&settings.host).await {
        Ok(addresses) => {
            let own = OwnAddresses::of_machine();
            if addresses.iter().all(|address| own.include(address)) {
                return LeaderName::Host(settings.host.clone());
            }
            info!("host name {} does not lead to this machine; using an address", settings.host);
        }
        Err(error) => info!("host name {}: {error}; using an address", settings.host),
    }
    LeaderName::Unusable
}
