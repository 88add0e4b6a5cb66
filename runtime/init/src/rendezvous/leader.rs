//! Node 0: takes the lead, puts the notice up, waits for everybody.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::{info, warn};
use tractorun_contract::failure::{Cause, Failure};
use tractorun_contract::topology::Topology;

use super::address::{OwnAddresses, resolve};
use super::board::{ControlEndpoint, Desk, Notice, NoticeBoard};
use super::gathering::{Gathering, Joined, LeaderName, Member};
use super::{Closer, Membership, MetricsTarget, RendezvousError, Settings};
use crate::control::acceptor::{Acceptor, Arrival, Interfaces, refuse};
use crate::control::hub::{self, BoxFuture, Leadership, PUBLISH_TIMEOUT, PeerEvent, Peers, Record};
use crate::control::wire::{Retry, ToNode};

/// How often the leader says whom it waits for.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

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

struct Lead<'a, D> {
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

impl<D: Desk> Lead<'_, D> {
    /// Puts the notice up, waits for all and publishes the topology.
    async fn meet(
        &mut self,
        control: Option<ControlEndpoint>,
    ) -> Result<(Topology, Vec<MetricsTarget>), RendezvousError> {
        self.acceptor.expect(self.incarnation);
        let notice = Notice { operation_id: self.settings.operation_id.clone(), control };
        let desk = Arc::clone(&self.desk);
        self.unless_lost(desk.open(self.incarnation, &notice)).await??;
        info!("leading incarnation {}", self.incarnation);
        // A name server that does not answer must not hold up the start after the last node has come.
        let settings = self.settings;
        let (gathering, name) = tokio::join!(self.gather(), leader_name(settings));
        let gathering = gathering?;
        let topology = gathering.topology(&name);
        self.unless_lost(desk.publish_topology(self.incarnation, &topology)).await??;
        Ok((topology, gathering.metrics_targets()))
    }

    async fn gather(&mut self) -> Result<Gathering, RendezvousError> {
        let settings = self.settings;
        let mut gathering = Gathering::new(settings.mesh, own_member(settings));
        let mut reports = interval_at(Instant::now() + REPORT_PERIOD, REPORT_PERIOD);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !gathering.is_complete() {
            tokio::select! {
                reason = &mut self.lost => return Err(RendezvousError::LeadershipLost { reason }),
                (node_rank, event) = self.peers.next() => match event {
                    PeerEvent::Lost(reason) => {
                        info!("node {node_rank} left before the start: {reason}");
                        gathering.leave(node_rank);
                    }
                    PeerEvent::Said(message) => warn!("node {node_rank} spoke before the start: {message:?}"),
                },
                arrival = self.acceptor.next() => self.admit(arrival, &mut gathering),
                _ = reports.tick() => info!(
                    "{} of {} nodes have joined, waiting for {}",
                    gathering.count(), settings.mesh.node_count, gathering.missing()
                ),
                () = sleep_until(settings.deadline) => return Err(RendezvousError::TimedOut {
                    patience: settings.patience,
                    what: format!(
                        "{} of {} nodes joined, missing: {}",
                        gathering.count(), settings.mesh.node_count, gathering.missing()
                    ),
                    hint: "those of the missing nodes did not start, or cannot reach the leader",
                }),
            }
        }
        Ok(gathering)
    }

    fn admit(&mut self, arrival: Arrival, gathering: &mut Gathering) {
        let Arrival { join, stream } = arrival;
        let (node_rank, host) = (join.node_rank, join.host.clone());
        if let Err((reason, retry)) = gathering.check(&join) {
            warn!("refused node {node_rank} ({host}): {reason}");
            tokio::spawn(refuse(stream, reason, retry));
            return;
        }
        match gathering.join(join) {
            Joined::New => info!("node {node_rank} ({host}) has joined"),
            Joined::Again => info!("node {node_rank} ({host}) has joined again"),
        }
        self.peers.admit(node_rank, stream);
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
        let Self { settings: _, incarnation, acceptor, peers, lost, desk } = self;
        peers.send_all(&ToNode::Topology(topology.clone()));
        let publisher = Arc::clone(&desk);
        let publish = move |record| -> BoxFuture<Result<(), String>> {
            let written = Arc::clone(&publisher).publish(incarnation, record);
            Box::pin(async move { written.await.map_err(|error| error.to_string()) })
        };
        // Made now, run when the hub closes.
        let end: BoxFuture<()> = Box::pin(async move { desk.end().await });
        let leadership = Leadership { lost, publish: Arc::new(publish), end };
        let (close, closing) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (hub, link) = hub::start(peers, acceptor, leadership, closing, &mut tasks);
        let closer = Closer { close, tasks };
        Membership { incarnation, topology, metrics_targets, link, hub: Some(hub), closer }
    }

    /// Tells those who wait, leaves a record, and gives the leadership back; each as far as it goes.
    async fn fail(self, error: RendezvousError) -> RendezvousError {
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        self.peers.send_all(&ToNode::Refused { reason: reason.clone(), retry: Retry::Never });
        let failure = Failure {
            cause: Cause::StartUpFailed { reason },
            rank: None,
            node_rank: 0,
            host: self.settings.host.clone(),
            job_id: self.settings.job_id.clone(),
            attempt: 0,
            exit_code: error.exit().code(),
            elapsed_seconds: 0.0,
            stderr_tail: Vec::new(),
            not_restarted: None,
        };
        let publish = async {
            // Without the notice there is no place for it, without the leadership no right to write it.
            if let RendezvousError::TimedOut { .. } = error
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

fn own_member(settings: &Settings) -> Member {
    let workers = settings.mesh.process_per_node as usize;
    Member {
        host: settings.advertise_host.clone().unwrap_or_else(|| settings.host.clone()),
        job_id: settings.job_id.clone(),
        ports: settings.ports.iter().copied().take(workers).collect(),
        metrics_port: settings.metrics_port,
        reached_by: None,
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
