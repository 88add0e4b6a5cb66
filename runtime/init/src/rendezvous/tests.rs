//! Nodes that meet in one process: real TCP on loopback, the notice board in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tractorun_contract::failure::{Cause, Failure, Fates, SidecarEnd};
use tractorun_contract::job_spec::Mesh;
use tractorun_contract::topology::Topology;

use super::board::{BoardError, ControlEndpoint, Desk, JobSight, Jobs, Notice, NoticeBoard};
use super::{Closer, Membership, RendezvousError, Settings, join};
use crate::control::Pulses;
use crate::control::hub::{BoxFuture, Record};
use crate::control::progress::{Preparations, Progress, Step};
use crate::control::wire::{Join, JoinKey, MAX_FRAME_BYTES, PROTOCOL, ReachedBy, Retry, ToNode};
use crate::control::wire::{read_frame, write_frame};
use crate::control::{HubCommand, HubEvent, LeaderMessage, LinkEvent, NodeMessage, Recipients, StopManner};

const LONG: Duration = Duration::from_mins(1);
const OPERATION: &str = "1-2-3-4";

/// A notice board in memory. Clones are the same board.
#[derive(Clone)]
struct MemoryBoard {
    state: Arc<Mutex<State>>,
    /// Number of notices that were put up, for who waits for one.
    opened: watch::Sender<usize>,
    /// Said to the leader when its leadership is taken away.
    deposed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    newest: Option<u32>,
    notices: BTreeMap<u32, Notice>,
    topologies: Vec<(u32, Topology)>,
    failures: Vec<(u32, Failure)>,
    attempts: Vec<(u32, Vec<Failure>)>,
    sidecars: Vec<(u32, Vec<SidecarEnd>)>,
    requests: usize,
    ended: usize,
    failures_hang: bool,
    jobs: Jobs,
    looks: usize,
}

struct MemoryDesk(MemoryBoard);

impl MemoryBoard {
    fn new() -> Self {
        Self { state: Arc::default(), opened: watch::channel(0).0, deposed: watch::channel(false).0 }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    fn put_up(&self, incarnation: u32, notice: Notice) {
        self.with(|state| {
            state.newest = Some(incarnation);
            state.notices.insert(incarnation, notice);
        });
        self.opened.send_modify(|count| *count += 1);
    }

    async fn endpoint(&self) -> ControlEndpoint {
        self.opened.subscribe().wait_for(|count| *count > 0).await.unwrap();
        self.with(|state| state.notices.values().last().unwrap().control.clone().unwrap())
    }
}

impl NoticeBoard for MemoryBoard {
    type Desk = MemoryDesk;

    async fn take_lead(&self, _patience: Duration) -> Result<Option<MemoryDesk>, BoardError> {
        Ok(Some(MemoryDesk(self.clone())))
    }

    async fn newest(&self) -> Result<Option<u32>, BoardError> {
        Ok(self.with(|state| {
            state.requests += 1;
            state.newest
        }))
    }

    async fn read(&self, incarnation: u32) -> Result<Option<Notice>, BoardError> {
        Ok(self.with(|state| {
            state.requests += 1;
            state.notices.get(&incarnation).cloned()
        }))
    }

    async fn jobs(&self, operation_id: &str, _limit: u32) -> Result<Jobs, BoardError> {
        assert_eq!(operation_id, OPERATION);
        Ok(self.with(|state| {
            state.looks += 1;
            state.jobs.clone()
        }))
    }
}

impl Desk for MemoryDesk {
    async fn open(&self, incarnation: u32, notice: &Notice) -> Result<(), BoardError> {
        self.0.put_up(incarnation, notice.clone());
        Ok(())
    }

    async fn publish_topology(
        &self,
        incarnation: u32,
        topology: &Topology,
        _metrics: &[Option<String>],
    ) -> Result<(), BoardError> {
        self.0.with(|state| state.topologies.push((incarnation, topology.clone())));
        Ok(())
    }

    fn stop_requested(self: Arc<Self>, _incarnation: u32) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn publish(self: Arc<Self>, incarnation: u32, record: Record) -> BoxFuture<Result<(), BoardError>> {
        let hang = self.0.with(|state| {
            match record {
                Record::Failure(failure) => state.failures.push((incarnation, failure)),
                Record::Attempts(failures) => state.attempts.push((incarnation, failures)),
                Record::Sidecars(ends) => state.sidecars.push((incarnation, ends)),
            }
            state.failures_hang
        });
        if hang { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(Ok(()))) }
    }

    fn lost(&self) -> BoxFuture<String> {
        let mut deposed = self.0.deposed.subscribe();
        Box::pin(async move {
            if deposed.wait_for(|deposed| *deposed).await.is_err() {
                std::future::pending::<()>().await;
            }
            "no such transaction".to_owned()
        })
    }

    fn end(self: Arc<Self>) -> BoxFuture<()> {
        self.0.with(|state| state.ended += 1);
        Box::pin(std::future::ready(()))
    }
}

fn settings(node_count: u32, node_rank: u32) -> Settings {
    let base = 7000 + u16::try_from(node_rank).unwrap() * 10;
    Settings {
        mesh: Mesh { node_count, process_per_node: 2, gpu_per_process: 0 },
        node_rank,
        operation_id: OPERATION.into(),
        job_id: format!("job{node_rank}"),
        // Port 0 lets the kernel choose the control port.
        ports: vec![base, base + 1, 0],
        metrics_port: Some(base + 3),
        progress: watch::channel(Progress::Ready).1,
        pulses: Pulses::default(),
        host: "localhost".into(),
        advertise_host: Some("127.0.0.1".into()),
        heartbeat: LONG,
        patience: LONG,
        deadline: Instant::now() + LONG,
    }
}

/// Port 0 is published as such, so the test's leader gets a port that was free a moment ago.
fn leader_settings(node_count: u32) -> Settings {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Settings { ports: vec![7000, 7001, free], ..settings(node_count, 0) }
}

type Meeting = JoinHandle<Result<Membership, RendezvousError>>;

fn start(board: &MemoryBoard, settings: Settings) -> Meeting {
    let board = board.clone();
    tokio::spawn(async move { join(&board, &settings).await })
}

/// All nodes of a run, met.
async fn meet(board: &MemoryBoard, node_count: u32) -> Vec<Membership> {
    let mut meetings = vec![start(board, leader_settings(node_count))];
    meetings.extend((1..node_count).map(|rank| start(board, settings(node_count, rank))));
    let mut nodes = Vec::new();
    for meeting in meetings {
        nodes.push(meeting.await.unwrap().unwrap());
    }
    nodes
}

/// Introduces a made-up node to the leader; the answer decides what it may do.
async fn introduce(endpoint: &ControlEndpoint, change: impl FnOnce(&mut Join)) -> (TcpStream, ToNode) {
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap();
    let mut join = Join {
        protocol: PROTOCOL,
        key: endpoint.join_key.clone(),
        incarnation: 0,
        node_rank: 1,
        job_id: "made-up".into(),
        host: "made-up".into(),
        ports: vec![1, 2],
        metrics_port: None,
        reached_by: ReachedBy::Address([127, 0, 0, 1].into()),
        progress: Progress::Ready,
    };
    change(&mut join);
    write_frame(&mut stream, &join).await.unwrap();
    let answer = read_frame(&mut stream, MAX_FRAME_BYTES).await.unwrap();
    (stream, answer)
}

/// Waits until a leader with these pulses has let that node in.
async fn wait_until_joined(pulses: &Pulses, node_rank: u32) {
    while !pulses.ages().contains_key(&node_rank) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn failure() -> Failure {
    Failure {
        cause: Cause::WorkerExited { code: 7 },
        rank: Some(3),
        node_rank: 1,
        host: "h".into(),
        job_id: "j".into(),
        attempt: 0,
        exit_code: 7,
        elapsed_seconds: 1.0,
        stderr_tail: vec![],
        not_restarted: None,
        oom: None,
        others: Fates::default(),
    }
}

#[tokio::test]
async fn three_nodes_meet_talk_and_leave() {
    let board = MemoryBoard::new();
    let mut nodes = meet(&board, 3).await;
    let topology = nodes[0].topology.clone();
    assert_eq!(topology.workers.len(), 6);
    assert_eq!(topology.workers[3].address, "127.0.0.1:7011");
    assert_eq!(topology.workers[5].job_id, "job2");
    assert_eq!((topology.master_host.as_str(), topology.master_port), ("127.0.0.1", 7000));
    for node in &nodes {
        assert_eq!((node.incarnation, &node.topology), (0, &topology));
    }
    board.with(|state| assert_eq!(state.topologies, [(0, topology)]));
    assert_eq!(nodes.iter().filter(|node| node.hub.is_some()).count(), 1);

    // Every node reaches the hub, node 0 by the same kind of link.
    let mut hub = nodes[0].hub.take().unwrap();
    for (rank, node) in (0..).zip(&nodes) {
        node.link.outbox.send(NodeMessage::Finished { attempt: 0 }).unwrap();
        let expected = HubEvent::Message { node_rank: rank, message: NodeMessage::Finished { attempt: 0 } };
        assert_eq!(hub.events.recv().await.unwrap(), expected);
    }
    // One order for one, one for all.
    let stop = LeaderMessage::Stop { verdict: failure(), manner: StopManner::Orderly };
    hub.commands.send(HubCommand::Send { to: Recipients::One(2), message: stop.clone() }).unwrap();
    hub.commands.send(HubCommand::PublishAttempts(vec![failure()])).unwrap();
    hub.commands.send(HubCommand::PublishAttempts(vec![failure(), failure()])).unwrap();
    hub.commands.send(HubCommand::PublishFailure(failure())).unwrap();
    assert_eq!(hub.events.recv().await.unwrap(), HubEvent::FailurePublished);
    board.with(|state| assert_eq!(state.failures, [(0, failure())]));
    assert_eq!(nodes[2].link.inbox.recv().await.unwrap(), LinkEvent::Message(stop));
    let release = LeaderMessage::Release { exit_code: 7, others: Fates::default() };
    hub.commands.send(HubCommand::Send { to: Recipients::All, message: release.clone() }).unwrap();

    // The leader closes at once: what it sent is still delivered.
    let Membership { closer, link, .. } = nodes.remove(0);
    let closing = tokio::spawn(async move {
        closer.close(LONG).await;
        (hub, link)
    });
    let mut closings = Vec::new();
    for mut node in nodes {
        assert_eq!(node.link.inbox.recv().await.unwrap(), LinkEvent::Message(release.clone()));
        closings.push(tokio::spawn(node.closer.close(LONG)));
    }
    for closing in closings {
        closing.await.unwrap();
    }
    let (_hub, mut link) = closing.await.unwrap();
    assert_eq!(link.inbox.recv().await.unwrap(), LinkEvent::Message(release));
    board.with(|state| {
        assert_eq!(state.ended, 1);
        assert_eq!(state.attempts.last(), Some(&(0, vec![failure(), failure()])));
    });
}

#[tokio::test]
async fn one_node_meets_itself_without_a_socket() {
    let board = MemoryBoard::new();
    let node = join(&board, &settings(1, 0)).await.unwrap();
    assert_eq!(node.topology.workers.len(), 2);
    assert!(node.hub.is_some());
    board.with(|state| assert!(state.notices[&0].control.is_none()));
}

#[tokio::test]
async fn a_wrong_key_a_wrong_incarnation_and_a_late_join_are_refused() {
    let board = MemoryBoard::new();
    let leader = start(&board, leader_settings(2));
    let endpoint = board.endpoint().await;
    let refusal = async |change: fn(&mut Join)| match introduce(&endpoint, change).await.1 {
        ToNode::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(|join| join.key = JoinKey::new("guess")).await, "wrong join key");
    assert_eq!(refusal(|join| join.incarnation = 5).await, "this is not incarnation 5");
    assert_eq!(
        refusal(|join| join.node_rank = 2).await,
        "node rank 2 is none of this run: expected one from 1 to 1"
    );
    assert_eq!(refusal(|join| join.protocol = 9).await, "protocol 9, expected 4");

    let _follower = start(&board, settings(2, 1)).await.unwrap().unwrap();
    let _leader = leader.await.unwrap().unwrap();
    assert_eq!(refusal(|_| ()).await, "incarnation 0 has already begun");
}

#[tokio::test]
async fn an_older_runs_incarnation_is_not_joined() {
    let board = MemoryBoard::new();
    // Its leader still listens: only the operation id tells that it is the wrong one.
    let strangers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = ControlEndpoint {
        addresses: vec!["127.0.0.1".into()],
        port: strangers.local_addr().unwrap().port(),
        join_key: JoinKey::random(),
    };
    board.put_up(4, Notice { operation_id: "old".into(), control: Some(old) });
    let follower = start(&board, settings(2, 1));
    let leader = start(&board, leader_settings(2));
    let follower = follower.await.unwrap().unwrap();
    assert_eq!(follower.incarnation, 5);
    assert_eq!(leader.await.unwrap().unwrap().incarnation, 5);
    assert!(tokio::time::timeout(Duration::ZERO, strangers.accept()).await.is_err());
}

#[tokio::test]
async fn a_job_that_lost_its_connection_replaces_its_first_join() {
    let board = MemoryBoard::new();
    let leader = start(&board, leader_settings(3));
    let endpoint = board.endpoint().await;
    let (mut first, answer) = introduce(&endpoint, |join| join.job_id = "job1".into()).await;
    assert_eq!(answer, ToNode::Joined);
    let second = start(&board, settings(3, 1));
    // The first connection of that node is closed when the second has joined.
    let end = loop {
        match read_frame::<ToNode>(&mut first, MAX_FRAME_BYTES).await {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(end, "connection closed");
    let third = start(&board, settings(3, 2));
    let leader = leader.await.unwrap().unwrap();
    assert_eq!(leader.topology.workers[2].job_id, "job1");
    second.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_second_job_of_a_rank_is_let_in_when_the_first_is_gone() {
    let board = MemoryBoard::new();
    let leader = start(&board, leader_settings(2));
    let endpoint = board.endpoint().await;
    let (first, answer) = introduce(&endpoint, |join| {
        join.job_id = "first".into();
        join.progress = Progress::Preparing([Step::Unpack].into());
    })
    .await;
    assert_eq!(answer, ToNode::Joined);
    let (_, answer) = introduce(&endpoint, |join| join.job_id = "second".into()).await;
    let reason = "node 1 is here already: job first on made-up; this is job second".to_owned();
    assert_eq!(answer, ToNode::Refused { reason, retry: Retry::Later });
    let second = start(&board, settings(2, 1));
    drop(first);
    assert_eq!(leader.await.unwrap().unwrap().topology.workers[2].job_id, "job1");
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn all_begin_when_the_last_is_ready_in_whatever_order_they_came() {
    let board = MemoryBoard::new();
    let nodes: Vec<_> = (0..3).map(|_| Preparations::of([Step::Unpack])).collect();
    let progress = |rank: usize| nodes[rank].watch();
    let leader = Settings { progress: progress(0), ..leader_settings(3) };
    let pulses = leader.pulses.clone();
    let leader = start(&board, leader);
    let first = start(&board, Settings { progress: progress(1), ..settings(3, 1) });
    let second = start(&board, Settings { progress: progress(2), ..settings(3, 2) });
    for rank in [1, 2] {
        wait_until_joined(&pulses, rank).await;
    }
    nodes[2].done(Step::Unpack);
    nodes[0].done(Step::Unpack);
    board.with(|state| assert!(state.topologies.is_empty()));
    nodes[1].done(Step::Unpack);
    for node in [leader, first, second] {
        assert_eq!(node.await.unwrap().unwrap().topology.workers.len(), 6);
    }
}

#[tokio::test]
async fn a_node_that_cannot_begin_is_everybodys_verdict() {
    for failing in 0..3_usize {
        let board = MemoryBoard::new();
        let nodes: Vec<_> = (0..3).map(|_| Preparations::of([Step::Unpack])).collect();
        let leader = Settings { progress: nodes[0].watch(), ..leader_settings(3) };
        let pulses = leader.pulses.clone();
        let mut meetings = vec![start(&board, leader)];
        for (rank, node) in (0..).zip(&nodes).skip(1) {
            meetings.push(start(&board, Settings { progress: node.watch(), ..settings(3, rank) }));
            wait_until_joined(&pulses, rank).await;
        }
        nodes[failing].fail("cannot unpack `a`: torn\nhint: pack again", 64);
        let reason = "could not begin: cannot unpack `a`: torn";
        let expected = format!("rendezvous failed: node {failing} (127.0.0.1) {reason}");
        for meeting in meetings {
            let error = meeting.await.unwrap().unwrap_err();
            assert_eq!((error.to_string(), error.exit_code()), (expected.clone(), 64));
        }
        board.with(|state| {
            let [(0, failure)] = state.failures.as_slice() else { panic!("{:?}", state.failures) };
            assert_eq!((failure.node_rank as usize, failure.exit_code), (failing, 64));
            assert_eq!(failure.job_id, format!("job{failing}"));
        });
    }
}

#[tokio::test]
async fn a_leader_that_cannot_begin_before_it_leads_leaves_its_record() {
    let board = MemoryBoard::new();
    let node = Preparations::of([Step::Unpack]);
    node.fail("cannot unpack `a`: torn", 64);
    let settings = Settings { progress: node.watch(), ..leader_settings(2) };
    let error = join(&board, &settings).await.unwrap_err();
    let expected = "rendezvous failed: node 0 (127.0.0.1) could not begin: cannot unpack `a`: torn";
    assert_eq!((error.to_string().as_str(), error.exit_code()), (expected, 64));
    board.with(|state| assert_eq!(state.failures[0].1.exit_code, 64));
}

#[tokio::test]
async fn what_a_node_says_is_heard_while_it_has_a_connection_or_leads() {
    let board = MemoryBoard::new();
    let nodes: Vec<_> = (0..2).map(|_| Preparations::of([Step::Unpack])).collect();
    let leader = Settings { progress: nodes[0].watch(), ..leader_settings(2) };
    let follower = Settings { progress: nodes[1].watch(), ..settings(2, 1) };
    let pulses = leader.pulses.clone();
    assert!(!nodes[0].are_heard() && !nodes[1].are_heard());
    let leader = start(&board, leader);
    board.endpoint().await;
    assert!(nodes[0].are_heard() && !nodes[1].are_heard());
    let follower = start(&board, follower);
    wait_until_joined(&pulses, 1).await;
    assert!(nodes[0].are_heard() && nodes[1].are_heard());
    leader.abort();
    follower.abort();
}

#[tokio::test]
async fn the_leader_names_who_is_missing_and_tells_who_waits() {
    let board = MemoryBoard::new();
    let running = JobSight { state: "running".into(), address: Some("gpu-7:9012".into()) };
    board.with(|state| state.jobs = Jobs { by_cookie: [(3, running)].into(), complete: true });
    let leader = start(&board, Settings { heartbeat: LONG * 10, ..leader_settings(5) });
    let endpoint = board.endpoint().await;
    let (mut node, answer) = introduce(&endpoint, |join| join.node_rank = 2).await;
    assert_eq!(answer, ToNode::Joined);
    let (_busy, answer) = introduce(&endpoint, |join| {
        join.node_rank = 4;
        join.progress = Progress::Preparing([Step::Unpack, Step::Secrets].into());
    })
    .await;
    assert_eq!(answer, ToNode::Joined);
    // From here on time passes as soon as everybody waits for it.
    tokio::time::pause();
    let refusal = loop {
        match read_frame::<ToNode>(&mut node, MAX_FRAME_BYTES).await.unwrap() {
            ToNode::Message(LeaderMessage::Heartbeat) => {}
            other => break other,
        }
    };
    let what = "rendezvous timed out after 60 s: 2 of 5 nodes are ready, waiting for 1 (not here, no job yet); \
                3 (not here, job running on gpu-7:9012); 4 (unpacking and fetching secrets)";
    assert_eq!(refusal, ToNode::Refused { reason: what.into(), retry: Retry::Never });
    drop(node);
    let error = leader.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{what}\nhint: look at the other jobs of the operation: those of the missing nodes did not start, \
             or cannot reach the leader"
        )
    );
    assert_eq!(error.exit_code(), 201);
    board.with(|state| {
        assert_eq!(state.failures.len(), 1);
        assert_eq!(state.failures[0].1.exit_code, 201);
        assert_eq!(state.ended, 1);
        // At 5, 10, 20 and 40 s.
        assert_eq!(state.looks, 4);
    });
}

#[tokio::test]
async fn a_follower_names_every_address_it_tried() {
    let board = MemoryBoard::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let control = ControlEndpoint {
        addresses: vec!["127.0.0.1".into(), "::1".into()],
        port: closed,
        join_key: JoinKey::random(),
    };
    board.put_up(0, Notice { operation_id: OPERATION.into(), control: Some(control) });
    tokio::time::pause();
    let text = join(&board, &settings(2, 1)).await.unwrap_err().to_string();
    let start = "rendezvous timed out after 60 s: cannot reach the leader: ";
    assert!(text.starts_with(&format!("{start}127.0.0.1:{closed}: Connection refused")), "{text}");
    assert!(text.contains(&format!("; [::1]:{closed}: ")), "{text}");
    assert!(text.contains("\nhint: "), "{text}");
}

#[tokio::test]
async fn an_address_that_is_somebody_elses_here_is_passed_over() {
    let board = MemoryBoard::new();
    let leader = start(&board, leader_settings(2));
    let endpoint = board.endpoint().await;
    // Same port on another loopback address: it closes every connection.
    let stranger = tokio::net::TcpListener::bind(("127.0.0.2", endpoint.port)).await.unwrap();
    let visited = tokio::spawn(async move {
        stranger.accept().await.unwrap();
    });
    let addresses = vec!["127.0.0.2".into(), "127.0.0.1".into()];
    board.put_up(
        0,
        Notice { operation_id: OPERATION.into(), control: Some(ControlEndpoint { addresses, ..endpoint }) },
    );
    start(&board, settings(2, 1)).await.unwrap().unwrap();
    leader.await.unwrap().unwrap();
    visited.await.unwrap();
}

#[tokio::test]
async fn a_follower_says_what_it_waited_for() {
    let board = MemoryBoard::new();
    tokio::time::pause();
    let text = join(&board, &settings(2, 1)).await.unwrap_err().to_string();
    assert!(text.starts_with("rendezvous timed out after 60 s: there is no incarnation yet\n"), "{text}");
    // Back-off keeps the number of requests small: every 1 to 2 seconds at last.
    board.with(|state| assert!((30..=70).contains(&state.requests), "{}", state.requests));
}

#[tokio::test]
async fn a_node_that_vanishes_is_reported_once() {
    let board = MemoryBoard::new();
    let mut nodes = meet(&board, 3).await;
    let mut hub = nodes[0].hub.take().unwrap();
    // Dropping everything of a node is what its death looks like.
    drop(nodes.remove(1));
    let event = hub.events.recv().await.unwrap();
    assert!(matches!(&event, HubEvent::Lost { node_rank: 1, .. }), "{event:?}");
    // The others are still served, and it is not mentioned again.
    nodes[1].link.outbox.send(NodeMessage::Stopped { fates: Fates::default() }).unwrap();
    let expected =
        HubEvent::Message { node_rank: 2, message: NodeMessage::Stopped { fates: Fates::default() } };
    assert_eq!(hub.events.recv().await.unwrap(), expected);
}

#[tokio::test]
async fn a_vanished_leader_is_reported() {
    let board = MemoryBoard::new();
    let mut nodes = meet(&board, 2).await;
    drop(nodes.remove(0));
    let event = nodes[0].link.inbox.recv().await.unwrap();
    assert!(matches!(&event, LinkEvent::Lost { .. }), "{event:?}");
    assert_eq!(nodes[0].link.inbox.recv().await, None);
}

#[tokio::test]
async fn a_silent_node_is_lost() {
    let board = MemoryBoard::new();
    let mut leader = leader_settings(2);
    leader.heartbeat = Duration::from_millis(200);
    let leader = start(&board, leader);
    // It joins and never says anything again, while its connection stays open.
    let (_mute, answer) = introduce(&board.endpoint().await, |_| ()).await;
    assert_eq!(answer, ToNode::Joined);
    let mut leader = leader.await.unwrap().unwrap();
    let event = leader.hub.as_mut().unwrap().events.recv().await.unwrap();
    assert_eq!(event, HubEvent::Lost { node_rank: 1, reason: "no heartbeat for 0.2 s".into() });
}

#[tokio::test]
async fn lost_leadership_is_reported_as_a_loss_of_node_0() {
    let board = MemoryBoard::new();
    let mut nodes = meet(&board, 2).await;
    board.deposed.send(true).unwrap();
    let event = nodes[0].hub.as_mut().unwrap().events.recv().await.unwrap();
    assert_eq!(event, HubEvent::Lost { node_rank: 0, reason: "no such transaction".into() });
}

#[tokio::test]
async fn lost_leadership_ends_the_rendezvous() {
    let board = MemoryBoard::new();
    let leader = start(&board, leader_settings(2));
    board.endpoint().await;
    board.deposed.send(true).unwrap();
    let error = leader.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "rendezvous failed: leadership is lost: no such transaction");
    assert_eq!(error.exit_code(), 203);
}

#[tokio::test]
async fn a_board_that_hangs_does_not_hold_up_the_verdict() {
    let board = MemoryBoard::new();
    board.with(|state| state.failures_hang = true);
    let mut leader = join(&board, &settings(1, 0)).await.unwrap();
    tokio::time::pause();
    let hub = leader.hub.as_mut().unwrap();
    hub.commands.send(HubCommand::PublishFailure(failure())).unwrap();
    assert_eq!(hub.events.recv().await.unwrap(), HubEvent::FailurePublished);
}

#[tokio::test]
async fn closing_gives_up_in_time() {
    let board = MemoryBoard::new();
    let nodes = meet(&board, 2).await;
    // The node does not close its side.
    let [leader, _node] = <[Membership; 2]>::try_from(nodes).unwrap();
    leader.closer.close(Duration::from_millis(50)).await;
    Closer::default().close(Duration::ZERO).await;
}
