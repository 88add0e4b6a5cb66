//! The supervisor core: what to do next, decided by plain functions.
//!
//! Owns all state of a run: which workers live, who failed first, what a node owes its leader and the leader its
//! nodes. It does no IO, reads no clock and starts no task: [`Node::step`] and [`Leader::step`] take what
//! happened and push what is to be done, and the driver ([`crate::driver`]) does it. So every race is a table or
//! property test. Times are [`Duration`]s since init's start.
//!
//! A node (job mode):
//!
//! ```text
//!              all exited 0 / Finished
//!   Running ------------------------------> Stopping(Succeeded) --empty--> Waiting(Succeeded)
//!     |  |                                          | Stop, SIGTERM              | Stop, SIGTERM
//!     |  | worker failed, SIGTERM / Failed;  Stop   v                            v / Stopped
//!     |  +----------------------------------> Stopping(Failed) ---empty--> Waiting(Failed)
//!     |                                             | Release, link lost         | Release, link lost,
//!     | Release, link lost                          v            / Stopped       | timer, 2nd SIGTERM
//!     +-------------------------------------> Stopping(Leaving)                  |
//!                                                   | empty                      |
//!                                                   v                            v
//!                                                 Done <-------------------------+
//! ```
//!
//! `Stopping` is SIGTERM to the node's whole tree (the sidecars last, in reverse), the grace period, then SIGKILL
//! until nobody is left (or, after a limit, until we give up on what the kernel cannot kill). What workers leave behind
//! that ended with 0 has the whole grace period too; a person is told who that is. `Done` is the one terminal state: `Exit` was
//! pushed, and nothing is pushed after it. A link lost while `Waiting(Succeeded)` leads to `Done` too.
//!
//! The leader: `Running -> Stopping -> Released`, or `Running -> Released` if all finish; `Released` is terminal.
//!
//! A guard that is gone leads from every state to `Stopping(Leaving)` with SIGKILL at once, or from `Waiting` to
//! `Done`: the node behaves as if it had been killed itself, but for its tree.
//!
//! A sidecar, while its node is `Running` (there are no restarts after that):
//!
//! ```text
//!   NotStarted --> Running --its policy says so--> BackingOff --timer--> Running
//!                     |
//!                     +----it does not-----------> Ended       (`fail`: the node fails as by a worker)
//! ```
//!
//! Plain-init mode is a node with one process and no leader: `Running -> Stopping(Leaving) -> Done`; its signals,
//! SIGTERM too, go to the process.

use std::time::Duration;

use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Failure, OutOfMemory};
use tractorun_sys::{Pid, Signal};

use crate::control::{LeaderMessage, NodeMessage};

#[cfg(test)]
mod job_model;
pub mod leader;
pub mod node;
#[cfg(test)]
mod races;

pub use leader::{Leader, LeaderAction, LeaderEvent, Restarts, Rules};
pub use node::{Attempts, Mode, Node, Preemption, Setup, Sidecar, Status};

/// A node of the job, as failure records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Rank of the node.
    pub node_rank: u32,
    /// Name of its host.
    pub host: String,
    /// Its YT job id.
    pub job_id: String,
}

/// What happened to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Everything is ready for the sidecars and workers: always the first event, once.
    Begun,
    /// The program of this member runs: answer to [`Action::Spawn`], before anything else is told.
    Spawned {
        /// Which.
        member: Member,
        /// Its process.
        pid: Pid,
    },
    /// The program of this member could not be started: the other answer to [`Action::Spawn`].
    SpawnFailed {
        /// Which.
        member: Member,
        /// Command and reason, on one line.
        reason: String,
        /// What a shell would exit with.
        exit_code: u8,
    },
    /// A child ended and was reaped: a worker, a sidecar or some orphan.
    ChildExited {
        /// Its process id.
        pid: Pid,
        /// How it ended.
        reason: ExitReason,
        /// When it was reaped, from init's start. All that have ended are reaped before any of them is told of, so of
        /// those that ended together none comes after what the first one leads to.
        reaped_at: Duration,
        /// What it left, if it was no orphan.
        traces: Traces,
    },
    /// The kernel says that this process has no children, and so no descendants.
    TreeEmpty,
    /// Nobody but the sidecars that were to be spared, and what descends from them, is alive: answer to
    /// [`Action::LookForOthers`], or none if it is not so.
    OthersGone,
    /// Somebody sent init a signal.
    SignalReceived(Signal),
    /// The launcher that started init is gone.
    LifelineEnded,
    /// Somebody outside asked the leader for the end of the run; comes to the leader's own node only.
    StopRequested,
    /// The guard above init was killed: whoever did that meant all of us.
    GuardLost,
    /// A timer that was started ran out.
    TimerFired(Timer),
    /// The leader said something.
    Told(LeaderMessage),
    /// The leader is not reachable any more.
    LinkLost {
        /// How that was noticed.
        reason: String,
    },
}

/// What a worker or sidecar leaves behind when it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traces {
    /// The last lines that it wrote to its stderr, oldest first.
    pub stderr_tail: Vec<String>,
    /// The kernel's word that memory ran out, if it has said so.
    pub oom: Option<OutOfMemory>,
}

/// What the driver is to do for a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start this member; answer with `Spawned` or `SpawnFailed` before anything else.
    Spawn(Member),
    /// Send a signal to one process or to its group.
    Signal {
        /// The process.
        pid: Pid,
        /// It alone or all of its group.
        target: Target,
        /// The signal.
        signal: Signal,
    },
    /// Send a signal to every descendant, orphans included.
    SignalTree {
        /// The signal.
        signal: Signal,
        /// These do not get it, nor what descends from them or is of their session.
        spared: Vec<Pid>,
    },
    /// Send a signal to a sidecar, what descends from it and what is of its session.
    SignalBranch {
        /// The sidecar.
        root: Pid,
        /// The signal.
        signal: Signal,
    },
    /// Send SIGKILL to every descendant in a way that forking does not help against.
    KillTree,
    /// The same to every descendant that is not of these sidecars.
    KillOthers {
        /// Sidecars.
        spared: Vec<Pid>,
    },
    /// Write down for the workers when they will be killed.
    PublishDeadline {
        /// From now.
        after: Duration,
    },
    /// Reap, and say `TreeEmpty` if nobody is left.
    LookAtTree,
    /// Say `OthersGone` if nobody lives but these, what descends from them and what is of their session.
    LookForOthers {
        /// Sidecars.
        spared: Vec<Pid>,
    },
    /// Start a timer; one of the same name that runs is replaced.
    StartTimer {
        /// Which.
        timer: Timer,
        /// When it fires, from now.
        after: Duration,
    },
    /// Send this to the leader.
    Tell(NodeMessage),
    /// Say something to a person.
    Announce(Announcement),
    /// End the process with this. Nothing follows it.
    Exit(Conclusion),
}

/// A process that the node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// The worker of this index.
    Worker(usize),
    /// The sidecar of this index.
    Sidecar(usize),
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The process alone.
    Process,
    /// Every member of the group that it leads.
    Group,
}

/// Timers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// SIGTERM was sent; SIGKILL follows.
    Grace,
    /// What workers have left behind that ended with 0 has had the time to end by itself.
    Linger,
    /// Sidecars whose turn has not come must be told now.
    LastCall,
    /// SIGKILL was sent; it is time to look for who escaped.
    KillAgain,
    /// Even SIGKILL does not help.
    GiveUp,
    /// Everything is stopped, and the leader says nothing.
    Release,
    /// A sidecar is to be started again.
    Restart {
        /// Its index.
        sidecar: usize,
    },
}

/// What a person should know as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Announcement {
    /// All workers run.
    WorkersStarted,
    /// The workers are being stopped because of this.
    Stopping(Failure),
    /// The workers are asked to save what they have.
    Saving {
        /// Which node is taken away.
        verdict: Failure,
        /// What they are asked with.
        signal: Signal,
        /// How long they have.
        remaining: Duration,
    },
    /// All workers of all nodes are started again.
    Restarting {
        /// The attempt that begins.
        attempt: u32,
    },
    /// A sidecar ended, and that is no failure of the job.
    SidecarExited {
        /// Its index.
        sidecar: usize,
        /// How it ended.
        reason: ExitReason,
        /// The last lines of its stderr, oldest first.
        last_lines: Vec<String>,
        /// When it is started again, if it is.
        restart_after: Option<Duration>,
    },
    /// A sidecar could not be started, and that is no failure of the job.
    SidecarNotStarted {
        /// Its index.
        sidecar: usize,
        /// When that is tried again, if it is.
        restart_after: Option<Duration>,
    },
    /// All workers have ended with 0, and something that they left behind has not, though it was asked to: it has this
    /// much time more.
    Lingering {
        /// These, and what descends from them and is of their session, are no part of it.
        sidecars: Vec<Pid>,
        /// Until SIGKILL.
        remaining: Duration,
    },
    /// The grace period is over for whoever is left.
    Killing {
        /// These, and what descends from them and is of their session, are spared.
        spared: Vec<Pid>,
    },
    /// Some processes outlive SIGKILL.
    GaveUp,
}

/// How the run ended on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// Exit code of init.
    pub code: u8,
    /// What it is because of, where something failed; `None` in plain-init mode.
    pub verdict: Option<Failure>,
}
