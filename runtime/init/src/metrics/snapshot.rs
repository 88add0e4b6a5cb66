//! What is known of a node at one moment: plain data, changed by what the driver tells, read by the server.

use std::collections::BTreeMap;
use std::time::Duration;

use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::Failure;
use tractorun_contract::sidecar::SidecarId;
use tractorun_sys::Pid;

use super::sidecars::Sidecars;
use crate::control::LeaderMessage;
use crate::rendezvous::MetricsTarget;
use crate::supervisor::{Action, Announcement, Event, Identity, Member};

/// What init is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node of a job.
    Job,
    /// The init of one program.
    Plain,
}

/// Phases of a node's life. Unpacking and secrets overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Files are put where they belong.
    Unpack,
    /// Secrets are fetched.
    Secrets,
    /// The nodes meet.
    Rendezvous,
    /// Workers run.
    Running,
    /// Workers are being stopped, or all nodes wait for the last one.
    Stopping,
}

/// Something that becomes known once.
#[derive(Debug, Clone)]
pub enum Facts {
    /// Which node this is.
    Node {
        /// Rank, host and job.
        own: Identity,
        /// Nodes of the job.
        node_count: u32,
    },
    /// All nodes have met.
    Met {
        /// Number of the incarnation.
        incarnation: u32,
        /// The nodes by rank, on the leader.
        nodes: Vec<Identity>,
        /// Where they serve metrics, on the leader.
        targets: Vec<MetricsTarget>,
    },
    /// Global ranks of the workers, by local rank.
    Workers(Vec<u32>),
    /// The sidecars, in the order they are started.
    Sidecars(Vec<SidecarId>),
    /// What the workers have of the machine, by local rank.
    Placed(Vec<Placed>),
}

/// What a worker has of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its GPUs, as `CUDA_VISIBLE_DEVICES` spells them.
    pub gpus: Vec<String>,
    /// The CPUs that it may run on, as the kernel writes them.
    pub cpus: String,
    /// Its `OMP_NUM_THREADS`, where that is a number.
    pub omp_num_threads: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) kind: Kind,
    pub(super) phases: BTreeMap<Phase, Span>,
    pub(super) own: Option<Identity>,
    pub(super) node_count: u32,
    pub(super) incarnation: Option<u32>,
    pub(super) attempt: u32,
    /// All nodes, on the leader once they have met.
    pub(super) nodes: Vec<Identity>,
    pub(super) targets: Vec<MetricsTarget>,
    pub(super) workers: Vec<Worker>,
    /// By local rank.
    pub(super) placed: Vec<Placed>,
    pub(super) sidecars: Sidecars,
    pub(super) exits: BTreeMap<ExitKind, u64>,
    pub(super) orphans: u64,
    pub(super) verdict: Option<Failure>,
}

/// When a phase was, counted from init's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begun: Duration,
    pub(super) ended: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worker {
    pub(super) rank: u32,
    pub(super) local_rank: u32,
    pub(super) state: WorkerState,
    /// When it was started last, counted from init's start.
    pub(super) started: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum WorkerState {
    NotStarted,
    Running(Pid),
    Exited(ExitReason),
    /// Its program could not be started.
    Failed {
        exit_code: u8,
    },
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExitKind {
    Success,
    Code,
    Signal,
    NotStarted,
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            phases: BTreeMap::new(),
            own: None,
            node_count: 0,
            incarnation: None,
            attempt: 0,
            nodes: Vec::new(),
            targets: Vec::new(),
            workers: Vec::new(),
            placed: Vec::new(),
            sidecars: Sidecars::default(),
            exits: BTreeMap::new(),
            orphans: 0,
            verdict: None,
        }
    }

    /// Whether this is node 0 of a job.
    pub(super) fn is_leader(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.node_rank == 0)
    }

    /// The phase that the node is in: the first that is not over; none before the first one.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.phases.iter().find(|(_, span)| span.ended.is_none()).map(|(phase, _)| *phase)
    }

    pub(super) fn know(&mut self, fact: Facts) {
        match fact {
            Facts::Node { own, node_count } => {
                self.own = Some(own);
                self.node_count = node_count;
            }
            Facts::Met { incarnation, nodes, targets } => {
                self.incarnation = Some(incarnation);
                self.nodes = nodes;
                self.targets = targets;
            }
            Facts::Placed(placed) => self.placed = placed,
            Facts::Sidecars(ids) => self.sidecars = Sidecars::new(&ids),
            Facts::Workers(ranks) => {
                let worker = |(local_rank, rank)| Worker {
                    rank,
                    local_rank,
                    state: WorkerState::NotStarted,
                    started: None,
                };
                self.workers = (0..).zip(ranks).map(worker).collect();
            }
        }
    }

    pub(super) fn begin(&mut self, phase: Phase, now: Duration) {
        self.phases.entry(phase).or_insert(Span { begun: now, ended: None });
    }

    pub(super) fn end(&mut self, phase: Phase, now: Duration) {
        if let Some(span) = self.phases.get_mut(&phase) {
            span.ended.get_or_insert(now);
        }
    }

    pub(super) fn note_event(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Begun => self.begin(Phase::Running, now),
            Event::Spawned { member: Member::Sidecar(index), pid } => self.sidecars.started(*index, *pid),
            Event::SpawnFailed { member: Member::Sidecar(index), .. } => self.sidecars.not_started(*index),
            Event::Spawned { member: Member::Worker(worker), pid } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.state = WorkerState::Running(*pid);
                    worker.started = Some(now);
                }
            }
            Event::SpawnFailed { member: Member::Worker(worker), exit_code, .. } => {
                self.count_exit(ExitKind::NotStarted);
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.state = WorkerState::Failed { exit_code: *exit_code };
                }
            }
            Event::ChildExited { pid, reason, .. } => self.on_exit(*pid, *reason),
            Event::Told(LeaderMessage::StopAttempt(failure)) => self.verdict = Some(failure.clone()),
            Event::Told(LeaderMessage::Stop { verdict, .. }) => self.verdict = Some(verdict.clone()),
            _ => {}
        }
    }

    pub(super) fn note_action(&mut self, action: &Action, now: Duration) {
        match action {
            Action::SignalTree { .. } | Action::KillTree | Action::PublishDeadline { .. } => {
                self.end(Phase::Running, now);
                self.begin(Phase::Stopping, now);
            }
            Action::Announce(Announcement::Restarting { attempt }) => self.on_restart(*attempt, now),
            Action::Announce(Announcement::Saving { verdict, .. }) => self.verdict = Some(verdict.clone()),
            Action::Announce(Announcement::Stopping(failure)) => {
                // What the leader says counts more.
                self.verdict.get_or_insert_with(|| failure.clone());
            }
            Action::Announce(announcement) => self.sidecars.announced(announcement),
            _ => {}
        }
    }

    /// The workers are started again: what the last attempt ended with is past.
    fn on_restart(&mut self, attempt: u32, now: Duration) {
        self.attempt = attempt;
        self.verdict = None;
        self.phases.remove(&Phase::Stopping);
        self.phases.insert(Phase::Running, Span { begun: now, ended: None });
        for worker in &mut self.workers {
            worker.state = WorkerState::NotStarted;
        }
    }

    fn on_exit(&mut self, pid: Pid, reason: ExitReason) {
        let running = WorkerState::Running(pid);
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.state == running) else {
            if !self.sidecars.exited(pid, reason) {
                self.orphans += 1;
            }
            return;
        };
        worker.state = WorkerState::Exited(reason);
        self.count_exit(ExitKind::of(reason));
    }

    fn count_exit(&mut self, kind: ExitKind) {
        *self.exits.entry(kind).or_default() += 1;
    }
}

// === impl Span ===

impl Span {
    /// How long it was, or is so far.
    pub(super) fn length(self, now: Duration) -> Duration {
        self.ended.unwrap_or(now).saturating_sub(self.begun)
    }
}

// === impl Phase ===

impl Phase {
    pub(super) const ALL: [Self; 5] =
        [Self::Unpack, Self::Secrets, Self::Rendezvous, Self::Running, Self::Stopping];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unpack => "unpack",
            Self::Secrets => "secrets",
            Self::Rendezvous => "rendezvous",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

// === impl WorkerState ===

impl WorkerState {
    pub(super) const NAMES: [&'static str; 4] = ["not_started", "running", "exited", "failed_to_start"];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NotStarted => Self::NAMES[0],
            Self::Running(_) => Self::NAMES[1],
            Self::Exited(_) => Self::NAMES[2],
            Self::Failed { .. } => Self::NAMES[3],
        }
    }
}

// === impl ExitKind ===

impl ExitKind {
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::Code, Self::Signal, Self::NotStarted];

    pub(super) fn of(reason: ExitReason) -> Self {
        match reason {
            ExitReason::Code(0) => Self::Success,
            ExitReason::Code(_) => Self::Code,
            ExitReason::Signal(_) => Self::Signal,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Code => "code",
            Self::Signal => "signal",
            Self::NotStarted => "not_started",
        }
    }
}
