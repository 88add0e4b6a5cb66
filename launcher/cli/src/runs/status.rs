//! `tractorun status`: what is known of a run, for people and as JSON. Pure but for the two requests at its beginning.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tractorun_contract::failure::{Failure, Fate, SidecarEnd};
use tractorun_contract::ranks::Ranks;
use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, Error, JobFilter, YsonValue};

use super::find::Run;
use super::operation::clock_of;
use super::table;
use crate::follow::is_temporary;
use crate::logs::time::Micros;

/// Lines of the one that failed: enough to see why, few enough for the rest to stay in sight.
const TAIL_LINES: usize = 10;

/// Failures that were answered by restarts, the last ones.
const SHOWN_ATTEMPTS: usize = 5;

/// What the cluster says of a node's job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Job {
    id: String,
    state: String,
    /// Where it runs.
    address: Option<String>,
    started: String,
}

/// A run as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Status {
    run: Run,
    nodes: Vec<Node>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    rank: u32,
    host: Option<String>,
    job_id: Option<String>,
    /// Of the job, in the cluster's words.
    state: Option<String>,
    phase: Phase,
    /// Ranks, addresses and states of its workers.
    workers: Vec<Worker>,
    metrics: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Worker {
    rank: u32,
    /// `host:port`, once all have met.
    address: Option<String>,
    state: WorkerState,
}

/// How far a node is, as far as it can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The cluster has not started its job.
    Waiting,
    /// Its job runs; not all nodes have met.
    Rendezvous,
    /// All have met and nothing has failed.
    Running,
    /// A failure is written down and the node has not left yet.
    Stopping,
    /// Its job is over.
    Over,
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WorkerState {
    NotStarted,
    Running,
    Stopping,
    Finished,
    Stopped,
    Failed,
    Lost,
    Unknown,
}

// === impl Status ===

impl Status {
    /// Asks for the jobs and puts everything together.
    pub(crate) async fn of(client: &Client, run: Run) -> Result<Self, Error> {
        let jobs = match client.list_jobs(&run.operation_id, JobFilter::default()).await {
            Ok(jobs) => newest_jobs(&jobs),
            Err(error) if is_temporary(&error) => return Err(error),
            // Not the cluster's operation, or one that it has forgotten the jobs of.
            Err(error) => {
                tracing::debug!("cannot list the jobs: {error}");
                BTreeMap::new()
            }
        };
        Ok(Self::assemble(run, &jobs))
    }

    fn assemble(run: Run, jobs: &BTreeMap<u32, Job>) -> Self {
        let workers =
            run.incarnation.as_ref().map(|incarnation| &incarnation.workers[..]).unwrap_or_default();
        let (node_count, per_node) = shape(&run, jobs);
        let is_over = run.operation.as_ref().is_none_or(super::operation::Operation::is_over);
        let nodes = (0..node_count).map(|rank| {
            let job = jobs.get(&rank);
            let first = rank * per_node;
            let here = |rank: u32| workers.get(rank as usize);
            let phase = phase(&run, job, is_over, workers.is_empty());
            let workers = (first..first + per_node).map(|rank| Worker {
                rank,
                address: here(rank).map(|worker| worker.address.clone()),
                state: worker_state(&run, rank, phase),
            });
            Node {
                rank,
                host: host(here(first).map(|worker| worker.address.as_str()))
                    .or_else(|| host(job.and_then(|job| job.address.as_deref()))),
                job_id: here(first)
                    .map(|worker| worker.job_id.clone())
                    .or_else(|| job.map(|job| job.id.clone())),
                state: job.map(|job| job.state.clone()),
                phase,
                workers: workers.collect(),
                metrics: run
                    .incarnation
                    .as_ref()
                    .and_then(|incarnation| incarnation.metrics.get(rank as usize).cloned().flatten()),
            }
        });
        let nodes = nodes.collect();
        Self { run, nodes }
    }

    fn failure(&self) -> Option<&Failure> {
        self.run.incarnation.as_ref()?.failure.as_ref()
    }

    fn attempts(&self) -> &[Failure] {
        self.run.incarnation.as_ref().map(|incarnation| &incarnation.attempts[..]).unwrap_or_default()
    }

    fn sidecars(&self) -> &[SidecarEnd] {
        self.run.incarnation.as_ref().map(|incarnation| &incarnation.sidecars[..]).unwrap_or_default()
    }

    /// Whether nothing of it will change any more.
    pub(crate) fn is_over(&self) -> bool {
        self.run.operation.as_ref().is_none_or(super::operation::Operation::is_over)
    }

    /// Number of the attempt: the one that failed for good, or the one after the last that was answered.
    fn attempt(&self) -> u32 {
        let after = self.attempts().last().map_or(0, |failure| failure.attempt + 1);
        self.failure().map_or(after, |failure| failure.attempt)
    }

    /// For programs.
    pub(crate) fn to_json(&self, now: Micros) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "node_rank": node.rank,
                "host": node.host,
                "job_id": node.job_id,
                "job_state": node.state,
                "phase": node.phase.name(),
                "metrics": node.metrics,
                "workers": node.workers.iter().map(|worker| json!({
                    "rank": worker.rank,
                    "address": worker.address,
                    "state": worker.state.name(),
                })).collect::<Vec<_>>(),
            })
        });
        json!({
            "yt_path": self.run.yt_path,
            "operation_id": self.run.operation_id,
            "operation": self.run.operation.as_ref().map(|operation| operation.to_json(now)),
            "incarnation": self.run.incarnation.as_ref().map(|incarnation| incarnation.number),
            "attempt": self.attempt(),
            "restarts": self.attempts().len(),
            "nodes": nodes.collect::<Vec<_>>(),
            "verdict": self.failure(),
            "verdict_text": self.failure().map(ToString::to_string),
            "failed_attempts": self.attempts(),
            "sidecars": self.sidecars(),
        })
    }

    /// For people.
    pub(crate) fn to_text(&self, now: Micros) -> String {
        let mut lines = Vec::new();
        let mut say = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
        let operation = self.run.operation.as_ref();
        if let Some(path) = &self.run.yt_path {
            say("run", path.clone());
            if self.run.incarnation.is_some() {
                say("logs", format!("tractorun logs {path}"));
            }
        }
        let state = operation.map_or("unknown to the cluster", |operation| operation.state.as_str());
        say("operation", format!("{}, {state}", self.run.operation_id));
        if let Some(started) = operation.and_then(|operation| operation.started.as_ref()) {
            let user = operation.and_then(|operation| operation.user.as_ref());
            let user = user.map(|user| format!(" by {user}")).unwrap_or_default();
            let elapsed = operation.and_then(|operation| operation.elapsed_seconds(now));
            let elapsed = elapsed.map(|seconds| format!(", {} long", clock_of(seconds))).unwrap_or_default();
            say("started", format!("{started}{user}{elapsed}"));
        }
        match &self.run.incarnation {
            Some(incarnation) => {
                let restarts = match self.attempts().len() {
                    0 => "no restarts".to_owned(),
                    1 => "1 restart".to_owned(),
                    count => format!("{count} restarts"),
                };
                say("incarnation", format!("{}, attempt {}, {restarts}", incarnation.number, self.attempt()));
            }
            None => say("incarnation", "none yet: its leader has not begun".to_owned()),
        }
        let hidden = self.attempts().len().saturating_sub(SHOWN_ATTEMPTS);
        if hidden > 0 {
            say("", format!("({hidden} more before these)"));
        }
        for failure in &self.attempts()[hidden..] {
            say("restarted", failure.to_string());
        }
        if let Some(failure) = self.failure() {
            say("verdict", format!("{failure}; exit code {}", failure.exit_code));
            if !failure.others.is_empty() {
                say("others", failure.others.to_string());
            }
        } else if let Some(error) = operation.and_then(|operation| operation.error.as_ref()) {
            say("error", error.clone());
        }
        let mut text = lines.join("\n");
        text.push('\n');
        if !self.nodes.is_empty() {
            let rows = self.nodes.iter().map(Node::cells);
            // Writing to a string does not fail.
            let _ =
                write!(text, "\n{}", table::text(["NODE", "HOST", "PHASE", "RANKS", "WORKERS", "JOB"], rows));
        }
        if let Some(failure) = self.failure().filter(|failure| !failure.stderr_tail.is_empty()) {
            let tail = &failure.stderr_tail;
            let tail = &tail[tail.len().saturating_sub(TAIL_LINES)..];
            let _ = writeln!(text, "\nits last lines:");
            for line in tail {
                let _ = writeln!(text, "  | {line}");
            }
        }
        for end in self.sidecars() {
            let _ = write!(text, "\n{end}\n");
            for line in &end.end.stderr_tail {
                let _ = writeln!(text, "  | {line}");
            }
        }
        text
    }
}

/// Nodes and workers on each: from the annotations, or from what there is.
fn shape(run: &Run, jobs: &BTreeMap<u32, Job>) -> (u32, u32) {
    let mesh = run.operation.as_ref().and_then(|operation| operation.mesh);
    if let Some(mesh) = mesh {
        return (mesh.node_count, mesh.process_per_node);
    }
    let workers = run.incarnation.as_ref().map(|incarnation| &incarnation.workers[..]).unwrap_or_default();
    let mut nodes: Vec<&str> = workers.iter().map(|worker| worker.job_id.as_str()).collect();
    nodes.dedup();
    let by_topology = u32::try_from(nodes.len()).unwrap_or(0);
    let workers = u32::try_from(workers.len()).unwrap_or(0);
    match workers.checked_div(by_topology) {
        Some(per_node) => (by_topology, per_node),
        None => (jobs.keys().next_back().map_or(0, |last| last + 1), 0),
    }
}

fn phase(run: &Run, job: Option<&Job>, is_over: bool, before_rendezvous: bool) -> Phase {
    let has_failed = run.incarnation.as_ref().is_some_and(|incarnation| incarnation.failure.is_some());
    match job.map(|job| job.state.as_str()) {
        _ if is_over => Phase::Over,
        Some("completed" | "failed" | "aborted") => Phase::Over,
        _ if has_failed => Phase::Stopping,
        Some("running") if before_rendezvous => Phase::Rendezvous,
        None | Some(_) if before_rendezvous => Phase::Waiting,
        _ => Phase::Running,
    }
}

fn worker_state(run: &Run, rank: u32, phase: Phase) -> WorkerState {
    let failure = run.incarnation.as_ref().and_then(|incarnation| incarnation.failure.as_ref());
    if let Some(failure) = failure {
        if failure.rank == Some(rank) {
            return WorkerState::Failed;
        }
        let group = failure.others.groups().iter().find(|group| group.ranks.contains(rank));
        return match group.map(|group| group.fate) {
            Some(Fate::Victim) => WorkerState::Stopped,
            Some(Fate::Finished) => WorkerState::Finished,
            Some(Fate::Failed) => WorkerState::Failed,
            Some(Fate::Lost) => WorkerState::Lost,
            Some(Fate::NotStarted) => WorkerState::NotStarted,
            Some(Fate::Unknown) => WorkerState::Unknown,
            None if phase == Phase::Over => WorkerState::Unknown,
            None => WorkerState::Stopping,
        };
    }
    match phase {
        Phase::Waiting | Phase::Rendezvous => WorkerState::NotStarted,
        Phase::Running => WorkerState::Running,
        Phase::Stopping => WorkerState::Stopping,
        Phase::Over if run.operation.as_ref().is_some_and(|operation| operation.state == "completed") => {
            WorkerState::Finished
        }
        // It was ended without a word.
        Phase::Over => WorkerState::Unknown,
    }
}

fn host(address: Option<&str>) -> Option<String> {
    address.map(|address| address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned())
}

/// The newest job of each cookie, which is the rank of its node: earlier ones were aborted.
fn newest_jobs(jobs: &[YsonValue]) -> BTreeMap<u32, Job> {
    let mut newest = BTreeMap::<u32, Job>::new();
    for job in jobs {
        let word = |name: &str| job.get(name).and_then(YsonValue::as_str).map(str::to_owned);
        let Some(cookie) = job.get("job_cookie").and_then(ValueExt::as_uint) else { continue };
        let (Ok(cookie), Some(id), Some(state)) = (u32::try_from(cookie), word("id"), word("state")) else {
            continue;
        };
        let job =
            Job { id, state, address: word("address"), started: word("start_time").unwrap_or_default() };
        if newest.get(&cookie).is_none_or(|other| other.started <= job.started) {
            newest.insert(cookie, job);
        }
    }
    newest
}

// === impl Node ===

impl Node {
    fn cells(&self) -> [String; 6] {
        let ranks: Ranks = self.workers.iter().map(|worker| worker.rank).collect();
        let mut counts = BTreeMap::<WorkerState, usize>::new();
        for worker in &self.workers {
            *counts.entry(worker.state).or_default() += 1;
        }
        let states: Vec<String> = match counts.len() {
            1 => counts.keys().map(|state| state.name().to_owned()).collect(),
            _ => counts.iter().map(|(state, count)| format!("{count} {}", state.name())).collect(),
        };
        let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
        [
            self.rank.to_string(),
            or_dash(self.host.as_ref()),
            self.phase.name().to_owned(),
            ranks.to_string(),
            states.join(", "),
            or_dash(self.job_id.as_ref()),
        ]
    }
}

// === impl Phase ===

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Rendezvous => "rendezvous",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Over => "over",
        }
    }
}

// === impl WorkerState ===

impl WorkerState {
    fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests;
