//! Where lines of workers and sidecars go.

use super::{
    GivenIn::Both,
    Notation::{Json, Text},
    OptionSpec,
    Takes::One,
    option,
};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 7] = [
    option(
        "operation-log-mode",
        "operation_log_mode",
        Both,
        One("MODE", Text),
        "Where lines go besides the jobs' stderr: realtime_yt_table (<yt-path>/logs/<incarnation>), or default",
    ),
    option(
        "logs.overflow",
        "logs.overflow",
        Both,
        One("POLICY", Text),
        "When memory and spool are full, since the cluster is away: drop the oldest lines and say so (default), or block, that is let the workers wait",
    ),
    option(
        "logs.spool",
        "logs.spool",
        Both,
        One("BYTES", Json),
        "Disk of each node for lines that the cluster does not take now (default: 1GiB)",
    ),
    option(
        "logs.memory",
        "logs.memory",
        Both,
        One("BYTES", Json),
        "Memory of each node for lines (default: 12MiB)",
    ),
    option(
        "logs.batch-age",
        "logs.batch_age",
        Both,
        One("TIME", Text),
        "Lines are written when the oldest is that old (default: 1s); later where many nodes write",
    ),
    option(
        "logs.batch-bytes",
        "logs.batch_bytes",
        Both,
        One("BYTES", Json),
        "Lines of a node are written as soon as there are so many bytes (default: 4MiB)",
    ),
    option(
        "logs.drain-timeout",
        "logs.drain_timeout",
        Both,
        One("TIME", Text),
        "How long a node waits at its end for its last lines to be written (default: 60s)",
    ),
];
