//! What a node may use.

use super::{GivenIn::Both, Notation::Json, OptionSpec, Takes::One, option};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 2] = [
    option(
        "resources.cpu-limit",
        "resources.cpu_limit",
        Both,
        One("CORES", Json),
        "CPU cores, such as 4 or 0.5",
    ),
    option(
        "resources.memory-limit",
        "resources.memory_limit",
        Both,
        One("BYTES", Json),
        "Memory in bytes, or a size such as 16GiB",
    ),
];
