//! Metrics and status over HTTP: what a node shows of itself to Prometheus and to people.
//!
//! ```text
//! driver, start-up --Monitor--> watch channel --Snapshot--> server task: /metrics /status /targets
//! driver  <------ questions, answered at once ------------- server task: /healthz
//! ```
//!
//! The supervisor is never asked for its state: the driver publishes a [`Snapshot`], and the server, a task of its
//! own, reads the newest. Nothing here wakes up by itself; `/proc` is read when somebody scrapes. Nothing here
//! decides anything, and nothing shows an environment, an argument, a line of output or any other text that a user
//! wrote.

mod exporter;
mod logs;
mod processes;
mod server;
mod sidecars;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tractorun_yt::{Client, RequestCounts};

use crate::control::Pulses;
use crate::driver::Clock;
use crate::logs::Gauge;
use crate::supervisor::{Action, Event};

use snapshot::Snapshot;
pub use snapshot::{Facts, Kind, Phase, Placed};
pub use tractorun_contract::logs::Stream as OutputStream;

/// Questions that wait at a time; more than the server has connections would be pointless.
const QUESTIONS: usize = 32;

/// Where everything that is worth showing is told. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Monitor {
    sources: Arc<Sources>,
    questions: mpsc::Sender<Question>,
}

/// Whether the supervisor's loop still turns: asked by the server, answered by the loop.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

type Question = oneshot::Sender<()>;

/// What the server reads.
#[derive(Debug)]
struct Sources {
    clock: Clock,
    /// When the clock began.
    started_at: SystemTime,
    snapshot: watch::Sender<Snapshot>,
    output: Arc<OutputCounts>,
    pulses: Pulses,
    client: OnceLock<Client>,
    logs: OnceLock<Gauge>,
}

/// What was read from the workers' pipes.
#[derive(Debug, Default)]
pub struct OutputCounts {
    stdout: StreamCounts,
    stderr: StreamCounts,
}

/// What was read from one kind of stream.
#[derive(Debug, Default)]
struct StreamCounts {
    bytes: AtomicU64,
    lines: AtomicU64,
}

// === impl Monitor ===

impl Monitor {
    /// A monitor that nobody reads yet, and the end of it that belongs to the supervisor's loop.
    pub fn new(kind: Kind, clock: Clock) -> (Self, Questions) {
        let (questions, receiver) = mpsc::channel(QUESTIONS);
        let sources = Arc::new(Sources {
            clock,
            started_at: SystemTime::now().checked_sub(clock.now()).unwrap_or(UNIX_EPOCH),
            snapshot: watch::Sender::new(Snapshot::new(kind)),
            output: Arc::default(),
            pulses: Pulses::default(),
            client: OnceLock::new(),
            logs: OnceLock::new(),
        });
        (Self { sources, questions }, Questions(receiver))
    }

    /// Serves it to whoever comes, in a task.
    pub fn serve(&self, listener: TcpListener) {
        tokio::spawn(server::serve(listener, Arc::clone(&self.sources), self.questions.clone()));
    }

    /// Where output is to be counted.
    pub fn output(&self) -> Arc<OutputCounts> {
        Arc::clone(&self.sources.output)
    }

    /// Where it is to be noted when other nodes were heard of.
    pub fn pulses(&self) -> Pulses {
        self.sources.pulses.clone()
    }

    /// The client whose requests count.
    pub fn watch_client(&self, client: &Client) {
        // A second one would be a second start-up, which there is none of.
        let _ = self.sources.client.set(client.clone());
    }

    /// The shipper of log tables whose progress is shown.
    pub fn watch_logs(&self, logs: Gauge) {
        // A second one would be a second run, which there is none of.
        let _ = self.sources.logs.set(logs);
    }

    /// Something more is known of the run.
    pub fn know(&self, fact: Facts) {
        self.change(|snapshot, _| snapshot.know(fact));
    }

    /// A phase begins.
    pub fn begin(&self, phase: Phase) {
        self.change(|snapshot, now| snapshot.begin(phase, now));
    }

    /// A phase is over.
    pub fn end(&self, phase: Phase) {
        self.change(|snapshot, now| snapshot.end(phase, now));
    }

    /// Somebody whom nobody else waits for was reaped.
    pub fn reaped_orphan(&self) {
        self.change(|snapshot, _| snapshot.orphans += 1);
    }

    /// Something happened to the node.
    pub(crate) fn note_event(&self, event: &Event) {
        self.change(|snapshot, now| snapshot.note_event(event, now));
    }

    /// The node wants something done.
    pub(crate) fn note_action(&self, action: &Action) {
        self.change(|snapshot, now| snapshot.note_action(action, now));
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot, Duration)) {
        let now = self.sources.clock.now();
        self.sources.snapshot.send_modify(|snapshot| change(snapshot, now));
    }
}

// === impl Questions ===

impl Questions {
    /// Answers the next question; pending while there is none. Cancellation safe.
    pub async fn answer(&mut self) {
        match self.0.recv().await {
            // Who does not wait any more needs no answer.
            Some(question) => drop(question.send(())),
            // No monitor, no questions.
            None => std::future::pending().await,
        }
    }
}

// === impl Sources ===

impl Sources {
    /// Seconds of Unix time.
    fn unix_seconds(&self, at: Duration) -> f64 {
        self.started_at.duration_since(UNIX_EPOCH).map_or(0.0, |start| (start + at).as_secs_f64())
    }

    fn request_counts(&self) -> RequestCounts {
        self.client.get().map(Client::request_counts).unwrap_or_default()
    }
}

// === impl OutputCounts ===

impl OutputCounts {
    /// Takes note of what was read.
    pub fn count(&self, stream: OutputStream, bytes: &[u8]) {
        let counts = match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        };
        let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
        counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        counts.lines.fetch_add(lines, Ordering::Relaxed);
    }
}
