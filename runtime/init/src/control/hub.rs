//! The leader's side of the control channel: the connections of all nodes, and the task that serves them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use tractorun_contract::failure::{Failure, SidecarEnd};

use super::acceptor::{Acceptor, refuse};
use super::connection::{self, Closing, closing};
use super::message::{Hub, HubCommand, HubEvent, LeaderMessage, Link, LinkEvent, NodeMessage, Recipients};
use super::progress::Progress;
use super::pulses::Pulses;
use super::wire::{Frame, Outgoing, Retry, ToLeader, ToNode};

/// The failure record is worth a short wait only: everybody waits with it.
pub(crate) const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two writes of a list that nobody waits for: sidecars of a thousand nodes may fail again and again.
const LIST_PAUSE: Duration = Duration::from_secs(1);

/// A future that a task owns.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Writes a record.
pub(crate) type Publish = Arc<dyn Fn(Record) -> BoxFuture<Result<(), String>> + Send + Sync>;

/// What the hub needs of the notice board; it does not know the board itself.
pub(crate) struct Leadership {
    /// Resolves when the fence is gone, with the reason.
    pub(crate) lost: BoxFuture<String>,
    /// Writes a record.
    pub(crate) publish: Publish,
    /// Gives the fence back.
    pub(crate) end: BoxFuture<()>,
}

/// What is left behind for those who ask later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// What decided the run.
    Failure(Failure),
    /// What the attempts before the last one failed of.
    Attempts(Vec<Failure>),
    /// Sidecars that ended badly.
    Sidecars(Vec<SidecarEnd>),
}

/// The connections of the nodes that have joined, each served by a task.
#[derive(Debug)]
pub(crate) struct Peers {
    by_rank: BTreeMap<u32, Peer>,
    tasks: JoinSet<()>,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: mpsc::UnboundedSender<Report>,
    heartbeat: Duration,
    pulses: Pulses,
    next_connection: u64,
    /// Connections close when their outbox ends, never by the signal that closes the hub: it may still have
    /// orders to put into their outboxes.
    open: watch::Sender<bool>,
}

#[derive(Debug)]
struct Peer {
    /// Tells this connection from an earlier one of the same node.
    connection: u64,
    outbox: mpsc::UnboundedSender<Frame>,
}

#[derive(Debug)]
struct Report {
    node_rank: u32,
    connection: u64,
    event: PeerEvent,
}

/// What a node's connection reports.
#[derive(Debug, PartialEq)]
pub(crate) enum PeerEvent {
    /// The node is so far now.
    Advanced(Progress),
    /// The node said something.
    Said(NodeMessage),
    /// The connection ended.
    Lost(String),
}

/// The leader's own node, in process.
#[derive(Debug)]
struct OwnNode {
    outgoing: mpsc::UnboundedReceiver<NodeMessage>,
    incoming: mpsc::UnboundedSender<LinkEvent>,
}

struct HubTask {
    peers: Peers,
    acceptor: Acceptor,
    own: OwnNode,
    events: mpsc::UnboundedSender<HubEvent>,
    commands: mpsc::UnboundedReceiver<HubCommand>,
    leadership: Leadership,
    publishing: JoinSet<()>,
    /// To the tasks that write these lists, once there are any.
    attempts: Option<watch::Sender<Vec<Failure>>>,
    sidecars: Option<watch::Sender<Vec<SidecarEnd>>>,
    closing: Closing,
}

/// Starts the hub's task. From now on late joins are refused.
pub(crate) fn start(
    peers: Peers,
    acceptor: Acceptor,
    leadership: Leadership,
    closing: Closing,
    tasks: &mut JoinSet<()>,
) -> (Hub, Link) {
    let (event_sender, events) = mpsc::unbounded_channel();
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (outbox, outgoing) = mpsc::unbounded_channel();
    let (incoming, inbox) = mpsc::unbounded_channel();
    let task = HubTask {
        peers,
        acceptor,
        own: OwnNode { outgoing, incoming },
        events: event_sender,
        commands: command_receiver,
        leadership,
        publishing: JoinSet::new(),
        attempts: None,
        sidecars: None,
        closing,
    };
    tasks.spawn(task.run());
    (Hub { events, commands }, Link { outbox, inbox })
}

// === impl Peers ===

impl Peers {
    pub(crate) fn new(heartbeat: Duration, pulses: Pulses) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        Self {
            by_rank: BTreeMap::new(),
            tasks: JoinSet::new(),
            reports,
            reporter,
            heartbeat,
            pulses,
            next_connection: 0,
            open: watch::channel(false).0,
        }
    }

    /// Lets a node in. An earlier connection of the same node is closed.
    pub(crate) fn admit(&mut self, node_rank: u32, stream: TcpStream) {
        let connection = self.next_connection;
        self.next_connection += 1;
        let (outbox, outgoing) = mpsc::unbounded_channel();
        self.by_rank.insert(node_rank, Peer { connection, outbox });
        self.send(node_rank, &ToNode::Joined);
        let reporter = self.reporter.clone();
        let (heartbeat, closing) = (self.heartbeat, self.open.subscribe());
        let pulses = self.pulses.clone();
        pulses.heard(node_rank);
        self.tasks.spawn(async move {
            let report = |event| {
                // Nobody listens any more once the leader is leaving.
                let _ = reporter.send(Report { node_rank, connection, event });
            };
            let said = |message| {
                report(match message {
                    ToLeader::Progress(progress) => PeerEvent::Advanced(progress),
                    ToLeader::Message(message) => PeerEvent::Said(message),
                });
            };
            let reason =
                connection::run(stream, outgoing, said, || pulses.heard(node_rank), heartbeat, closing).await;
            report(PeerEvent::Lost(reason));
        });
    }

    /// Tells one node something; one that is not there is not told.
    pub(crate) fn send(&self, node_rank: u32, message: &ToNode) {
        Self::send_to(self.by_rank.get(&node_rank), message);
    }

    /// Tells every node something. It is written down once, however many there are.
    pub(crate) fn send_all(&self, message: &ToNode) {
        Self::send_to(self.by_rank.values(), message);
    }

    fn send_to<'a>(peers: impl IntoIterator<Item = &'a Peer>, message: &ToNode) {
        match message.frame() {
            Ok(frame) => {
                for peer in peers {
                    // A connection that just ended has already reported it.
                    let _ = peer.outbox.send(frame.clone());
                }
            }
            Err(error) => warn!("cannot tell the nodes: {error}"),
        }
    }

    /// The next report of a connection that counts. Cancellation safe.
    pub(crate) async fn next(&mut self) -> (u32, PeerEvent) {
        loop {
            // The set's own sender keeps the channel open.
            let Some(Report { node_rank, connection, event }) = self.reports.recv().await else {
                return std::future::pending().await;
            };
            if self.by_rank.get(&node_rank).is_none_or(|peer| peer.connection != connection) {
                continue;
            }
            if let PeerEvent::Lost(_) = event {
                self.by_rank.remove(&node_rank);
                self.pulses.gone(node_rank);
            }
            return (node_rank, event);
        }
    }

    /// Delivers what was sent and waits until all connections are closed.
    pub(crate) async fn close(mut self) {
        self.by_rank.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

// === impl HubTask ===

impl HubTask {
    async fn run(mut self) {
        let mut leading = true;
        let mut commanded = true;
        let mut own_node_speaks = true;
        loop {
            tokio::select! {
                // Orders before news, news before the wish to leave: what was sent is delivered.
                biased;
                command = self.commands.recv(), if commanded => match command {
                    Some(command) => self.obey(command),
                    None => commanded = false,
                },
                message = self.own.outgoing.recv(), if own_node_speaks => match message {
                    Some(NodeMessage::Heartbeat) => {}
                    Some(message) => self.report(HubEvent::Message { node_rank: 0, message }),
                    None => own_node_speaks = false,
                },
                (node_rank, event) = self.peers.next() => match event {
                    // All were ready before the hub was.
                    PeerEvent::Advanced(_) => {}
                    PeerEvent::Said(message) => self.report(HubEvent::Message { node_rank, message }),
                    PeerEvent::Lost(reason) => self.report(HubEvent::Lost { node_rank, reason }),
                },
                reason = &mut self.leadership.lost, if leading => {
                    leading = false;
                    warn!("leadership is lost: {reason}");
                    self.report(HubEvent::Lost { node_rank: 0, reason });
                }
                arrival = self.acceptor.next() => {
                    let node_rank = arrival.join.node_rank;
                    info!("refused a late join of node {node_rank} ({})", arrival.join.host);
                    let reason = format!("incarnation {} has already begun", arrival.join.incarnation);
                    // In a task of its own: a peer that does not read keeps nobody waiting.
                    self.publishing.spawn(refuse(arrival.stream, reason, Retry::Never));
                }
                Some(_) = self.publishing.join_next() => {}
                () = closing(&mut self.closing) => break,
            }
        }
        debug!("hub is closing");
        self.peers.close().await;
        drop((self.attempts, self.sidecars));
        while self.publishing.join_next().await.is_some() {}
        self.leadership.end.await;
    }

    fn obey(&mut self, command: HubCommand) {
        match command {
            HubCommand::Send { to: Recipients::All, message } => {
                self.peers.send_all(&ToNode::Message(message.clone()));
                self.tell_own_node(message);
            }
            HubCommand::Send { to: Recipients::One(0), message } => self.tell_own_node(message),
            HubCommand::Send { to: Recipients::One(node_rank), message } => {
                self.peers.send(node_rank, &ToNode::Message(message));
            }
            HubCommand::PublishFailure(failure) => {
                let publish = (self.leadership.publish)(Record::Failure(failure));
                let events = self.events.clone();
                self.publishing.spawn(async move {
                    match timeout(PUBLISH_TIMEOUT, publish).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => warn!("cannot write the failure record: {error}"),
                        Err(_) => {
                            warn!("cannot write the failure record within {} s", PUBLISH_TIMEOUT.as_secs());
                        }
                    }
                    let _ = events.send(HubEvent::FailurePublished);
                });
            }
            HubCommand::PublishAttempts(failures) => {
                let list = (failures, Record::Attempts as fn(_) -> _);
                write_newest(
                    &mut self.attempts,
                    list,
                    &mut self.publishing,
                    &self.leadership.publish,
                    &self.closing,
                );
            }
            HubCommand::PublishSidecars(ends) => {
                let list = (ends, Record::Sidecars as fn(_) -> _);
                write_newest(
                    &mut self.sidecars,
                    list,
                    &mut self.publishing,
                    &self.leadership.publish,
                    &self.closing,
                );
            }
        }
    }

    fn tell_own_node(&self, message: LeaderMessage) {
        if message != LeaderMessage::Heartbeat {
            // A driver that dropped its link is leaving.
            let _ = self.own.incoming.send(LinkEvent::Message(message));
        }
    }

    fn report(&self, event: HubEvent) {
        let _ = self.events.send(event);
    }
}

/// Has a list written by the task of its kind, which is started with the first one.
fn write_newest<T: Clone + Send + Sync + 'static>(
    task: &mut Option<watch::Sender<T>>,
    (list, record): (T, fn(T) -> Record),
    tasks: &mut JoinSet<()>,
    publish: &Publish,
    closing: &Closing,
) {
    if let Some(task) = task {
        task.send_replace(list);
    } else {
        let (sender, receiver) = watch::channel(list);
        tasks.spawn(write_lists(receiver, record, Arc::clone(publish), closing.clone()));
        *task = Some(sender);
    }
}

/// Writes the newest list again and again until no more can come. One after the other: two writes at a time could
/// arrive in the wrong order.
async fn write_lists<T: Clone + Send + Sync>(
    mut lists: watch::Receiver<T>,
    record: fn(T) -> Record,
    publish: Publish,
    mut hub_closing: Closing,
) {
    lists.mark_changed();
    while lists.changed().await.is_ok() {
        let list = lists.borrow_and_update().clone();
        if let Err(error) = publish(record(list)).await {
            warn!("cannot write down what has failed so far: {error}");
        }
        tokio::select! {
            () = sleep(LIST_PAUSE) => {}
            // The last list is written at once.
            () = closing(&mut hub_closing) => {}
        }
    }
}
