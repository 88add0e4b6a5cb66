//! For administrators: merged over what is submitted.

use super::{GivenIn::Both, Notation::Json, OptionSpec, Takes::One, option};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 2] = [
    option("yt-operation-spec", "yt_operation_spec", Both, One("JSON", Json), "Over the operation's spec"),
    option("yt-task-spec", "yt_task_spec", Both, One("JSON", Json), "Over the task's spec"),
];
