//! What happens when something ends that should not, and how long it may take.

use super::{
    GivenIn::Both,
    Notation::{Json, Text},
    OptionSpec,
    Takes::{Each, One},
    option,
};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 9] = [
    option(
        "restarts.max",
        "restarts.max",
        Both,
        One("N", Json),
        "Start all workers again, in the same jobs, after up to so many failures of a worker (default: 0)",
    ),
    option(
        "restarts.window",
        "restarts.window",
        Both,
        One("TIME", Text),
        "Count only the restarts of the last TIME, such as 30m (default: all of the run)",
    ),
    option(
        "restarts.backoff",
        "restarts.backoff",
        Both,
        One("TIME", Text),
        "Pause before each restart, such as 500ms (default: 1s)",
    ),
    option(
        "restarts.never",
        "restarts.never",
        Both,
        Each("CODE", Json),
        "Exit code that is never answered by a restart, such as 2, or 137 for SIGKILL; repeatable",
    ),
    option(
        "grace-period",
        "grace_period",
        Both,
        One("TIME", Text),
        "From SIGTERM to SIGKILL when workers are stopped, such as 30s (default: 10s)",
    ),
    option(
        "heartbeat-timeout",
        "heartbeat_timeout",
        Both,
        One("TIME", Text),
        "A node that is not heard of for so long is lost (default: 30s)",
    ),
    option(
        "rendezvous-timeout",
        "rendezvous_timeout",
        Both,
        One("TIME", Text),
        "How long the nodes wait for each other at the start (default: 10m)",
    ),
    option(
        "preemption.signal",
        "preemption.signal",
        Both,
        One("SIGNAL", Text),
        "What the process group of every worker gets when the cluster takes a node away: SIGTERM (default), SIGINT, SIGHUP, SIGUSR1 or SIGUSR2",
    ),
    option(
        "preemption.timeout",
        "preemption.timeout",
        Both,
        One("TIME", Text),
        "From that signal to SIGKILL (default: 30s); the moment is in the file $TRACTORUN_STOP_DEADLINE_FILE",
    ),
];
