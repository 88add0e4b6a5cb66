//! `/metrics`: every metric there is, registered once, filled in when somebody scrapes.
//!
//! Labels are bounded by the workers of the node, and by small closed sets. What belongs to a run as a whole is said
//! by `tractorun_info`, to be joined in queries.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::logs::LogMetrics;
use super::processes::{self, Usage};
use super::sidecars::SidecarMetrics;
use super::snapshot::{ExitKind, Kind, Phase, Snapshot, WorkerState};
use super::{Sources, StreamCounts};

/// What was read of `/proc` is not read again for so long, however many scrape.
const PROCESSES_MAX_AGE: Duration = Duration::from_secs(1);

pub(super) struct Exporter {
    registry: Registry,
    node: NodeMetrics,
    workers: WorkerMetrics,
    /// In a job only.
    job: Option<JobMetrics>,
    /// On the leader, from when it is known.
    leader: Option<LeaderMetrics>,
    /// Where there are log tables, from when they are filled.
    logs: Option<LogMetrics>,
    processes: Option<(Duration, Processes)>,
}

/// What is there in every mode.
struct NodeMetrics {
    start_time_seconds: Gauge,
    phase: IntGaugeVec,
    phase_seconds: GaugeVec,
    reaped_orphans_total: IntCounter,
    init_resident_memory_bytes: IntGauge,
    init_cpu_seconds_total: Counter,
}

struct WorkerMetrics {
    workers: IntGaugeVec,
    exits_total: IntCounterVec,
    start_time_seconds: GaugeVec,
    resident_memory_bytes: IntGaugeVec,
    processes: IntGaugeVec,
    cpu_seconds_total: CounterVec,
}

struct JobMetrics {
    info: IntGaugeVec,
    attempt: IntGauge,
    nodes: IntGauge,
    sidecars: SidecarMetrics,
    output_bytes_total: IntCounterVec,
    output_lines_total: IntCounterVec,
    heartbeat_age_seconds: Gauge,
    cypress_requests_total: IntCounter,
    cypress_request_failures_total: IntCounter,
}

struct LeaderMetrics {
    nodes_joined: IntGauge,
}

/// What the processes use.
#[derive(Debug, Clone, Default)]
struct Processes {
    by_rank: BTreeMap<u32, Usage>,
    own: Usage,
}

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(kind: Kind) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(
            Opts::new(
                "tractorun_build_info",
                "Version and processor that this init was built for; always 1.",
            ),
            &["version", "arch"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH]).set(1);
        add(&registry, build)?;
        let node = NodeMetrics::new(&registry)?;
        let workers = WorkerMetrics::new(&registry)?;
        let job = match kind {
            Kind::Job => Some(JobMetrics::new(&registry)?),
            Kind::Plain => None,
        };
        Ok(Self { registry, node, workers, job, leader: None, logs: None, processes: None })
    }

    /// The page as it is now.
    pub(super) fn render(&mut self, sources: &Sources) -> prometheus::Result<String> {
        let snapshot = sources.snapshot.borrow().clone();
        let now = sources.clock.now();
        let processes = self.processes(&snapshot, now);
        self.node.fill(&snapshot, sources, now, processes.own);
        self.workers.fill(&snapshot, sources, &processes.by_rank);
        if let Some(job) = &self.job {
            job.fill(&snapshot, sources);
        }
        if snapshot.is_leader() {
            if self.leader.is_none() {
                self.leader = Some(LeaderMetrics::new(&self.registry)?);
            }
            if let Some(leader) = &self.leader {
                // The leader is its own first node.
                leader.nodes_joined.set(count(sources.pulses.ages().len() + 1));
            }
        }
        if let Some(gauge) = sources.logs.get() {
            if self.logs.is_none() {
                self.logs = Some(LogMetrics::new(&self.registry)?);
            }
            if let Some(logs) = &self.logs {
                logs.fill(&gauge.read());
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn processes(&mut self, snapshot: &Snapshot, now: Duration) -> Processes {
        if let Some((read_at, processes)) = &self.processes
            && now.saturating_sub(*read_at) < PROCESSES_MAX_AGE
        {
            return processes.clone();
        }
        let running: Vec<(u32, i32)> = snapshot
            .workers
            .iter()
            .filter_map(|worker| match worker.state {
                WorkerState::Running(pid) => Some((worker.rank, pid.as_raw())),
                _ => None,
            })
            .collect();
        let roots: Vec<i32> = running.iter().map(|(_, pid)| *pid).collect();
        let (trees, own) = processes::usage(&roots);
        let by_rank = running.iter().map(|(rank, _)| *rank).zip(trees).collect();
        let processes = Processes { by_rank, own };
        self.processes = Some((now, processes.clone()));
        processes
    }
}

// === impl NodeMetrics ===

impl NodeMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            start_time_seconds: add(
                registry,
                Gauge::new("tractorun_start_time_seconds", "Unix time at which this init started.")?,
            )?,
            phase: gauges(
                registry,
                "phase",
                "1 for the phase that this node is in, 0 for the others.",
                "phase",
            )?,
            phase_seconds: add(
                registry,
                GaugeVec::new(
                    Opts::new("tractorun_phase_seconds", "How long each phase took, or takes so far."),
                    &["phase"],
                )?,
            )?,
            reaped_orphans_total: add(
                registry,
                IntCounter::new(
                    "tractorun_reaped_orphans_total",
                    "Processes reaped that nobody else was waiting for.",
                )?,
            )?,
            init_resident_memory_bytes: add(
                registry,
                IntGauge::new("tractorun_init_resident_memory_bytes", "Memory of this init in RAM.")?,
            )?,
            init_cpu_seconds_total: add(
                registry,
                Counter::new(
                    "tractorun_init_cpu_seconds_total",
                    "Processor time of this init and of all children that it has reaped.",
                )?,
            )?,
        })
    }

    fn fill(&self, snapshot: &Snapshot, sources: &Sources, now: Duration, own: Usage) {
        self.start_time_seconds.set(sources.unix_seconds(Duration::ZERO));
        for phase in Phase::ALL {
            let is_now = snapshot.phase() == Some(phase);
            self.phase.with_label_values(&[phase.name()]).set(i64::from(is_now));
            let length = snapshot.phases.get(&phase).map_or(Duration::ZERO, |span| span.length(now));
            self.phase_seconds.with_label_values(&[phase.name()]).set(length.as_secs_f64());
        }
        raise(&self.reaped_orphans_total, snapshot.orphans);
        self.init_resident_memory_bytes.set(signed(own.resident_bytes));
        raise_seconds(&self.init_cpu_seconds_total, own.cpu_seconds);
    }
}

// === impl WorkerMetrics ===

impl WorkerMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            workers: gauges(registry, "workers", "Workers of this node in each state.", "state")?,
            exits_total: counters(registry, "worker_exits_total", "Workers that ended, by how.", "kind")?,
            start_time_seconds: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "tractorun_worker_start_time_seconds",
                        "Unix time at which the worker was started last.",
                    ),
                    &["rank"],
                )?,
            )?,
            resident_memory_bytes: gauges(
                registry,
                "worker_resident_memory_bytes",
                "Memory in RAM of the worker and all its descendants; pages that they share count for each.",
                "rank",
            )?,
            processes: gauges(registry, "worker_processes", "The worker and all its descendants.", "rank")?,
            cpu_seconds_total: add(
                registry,
                CounterVec::new(
                    Opts::new(
                        "tractorun_worker_cpu_seconds_total",
                        "Processor time of the worker and all its descendants.",
                    ),
                    &["rank"],
                )?,
            )?,
        })
    }

    fn fill(&self, snapshot: &Snapshot, sources: &Sources, usage: &BTreeMap<u32, Usage>) {
        for state in WorkerState::NAMES {
            let workers = snapshot.workers.iter().filter(|worker| worker.state.name() == state).count();
            self.workers.with_label_values(&[state]).set(count(workers));
        }
        for kind in ExitKind::ALL {
            let exits = snapshot.exits.get(&kind).copied().unwrap_or(0);
            raise(&self.exits_total.with_label_values(&[kind.name()]), exits);
        }
        for worker in &snapshot.workers {
            let rank = worker.rank.to_string();
            if let Some(started) = worker.started {
                self.start_time_seconds.with_label_values(&[&rank]).set(sources.unix_seconds(started));
            }
            let used = usage.get(&worker.rank).copied().unwrap_or_default();
            self.resident_memory_bytes.with_label_values(&[&rank]).set(signed(used.resident_bytes));
            self.processes.with_label_values(&[&rank]).set(signed(used.processes));
            raise_seconds(&self.cpu_seconds_total.with_label_values(&[&rank]), used.cpu_seconds);
        }
    }
}

// === impl JobMetrics ===

impl JobMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            info: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "tractorun_info",
                        "What this node is part of; always 1. Empty while not known.",
                    ),
                    &["version", "incarnation", "node_rank"],
                )?,
            )?,
            attempt: add(registry, IntGauge::new("tractorun_attempt", "Restarts of all workers so far.")?)?,
            nodes: add(registry, IntGauge::new("tractorun_nodes", "Nodes that the job has.")?)?,
            sidecars: SidecarMetrics::new(registry)?,
            output_bytes_total: counters(
                registry,
                "output_bytes_total",
                "Bytes that the workers of this node wrote.",
                "stream",
            )?,
            output_lines_total: counters(
                registry,
                "output_lines_total",
                "Lines that the workers of this node wrote.",
                "stream",
            )?,
            heartbeat_age_seconds: add(
                registry,
                Gauge::new(
                    "tractorun_heartbeat_age_seconds",
                    "Since when the most silent connected node was not heard of; on the others, the leader.",
                )?,
            )?,
            cypress_requests_total: add(
                registry,
                IntCounter::new(
                    "tractorun_cypress_requests_total",
                    "Requests of this init to the cluster, repetitions included, those for log tables not.",
                )?,
            )?,
            cypress_request_failures_total: add(
                registry,
                IntCounter::new(
                    "tractorun_cypress_request_failures_total",
                    "Requests of this init that were not answered, or with an error.",
                )?,
            )?,
        })
    }

    fn fill(&self, snapshot: &Snapshot, sources: &Sources) {
        let text = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let node_rank = text(snapshot.own.as_ref().map(|own| own.node_rank));
        self.info.reset();
        self.info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), &text(snapshot.incarnation), &node_rank])
            .set(1);
        self.attempt.set(i64::from(snapshot.attempt));
        self.nodes.set(i64::from(snapshot.node_count));
        self.sidecars.fill(&snapshot.sidecars);
        let output = &sources.output;
        for (stream, counts) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let StreamCounts { bytes, lines } = counts;
            let [bytes, lines] = [bytes, lines].map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
            raise(&self.output_bytes_total.with_label_values(&[stream]), bytes);
            raise(&self.output_lines_total.with_label_values(&[stream]), lines);
        }
        let age = sources.pulses.ages().into_values().max().unwrap_or_default();
        self.heartbeat_age_seconds.set(age.as_secs_f64());
        let requests = sources.request_counts();
        raise(&self.cypress_requests_total, requests.requests);
        raise(&self.cypress_request_failures_total, requests.failures);
    }
}

// === impl LeaderMetrics ===

impl LeaderMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let nodes_joined = IntGauge::new(
            "tractorun_nodes_joined",
            "Nodes that are connected to the leader, itself included.",
        )?;
        Ok(Self { nodes_joined: add(registry, nodes_joined)? })
    }
}

pub(super) fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
    add(registry, IntGaugeVec::new(Opts::new(format!("tractorun_{name}"), help), &[label])?)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    add(registry, IntCounterVec::new(Opts::new(format!("tractorun_{name}"), help), &[label])?)
}

/// Brings a counter up to what was counted elsewhere.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// The same; processes that left the tree take their time along, but a counter never falls.
fn raise_seconds(counter: &Counter, total: f64) {
    counter.inc_by((total - counter.get()).max(0.0));
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
