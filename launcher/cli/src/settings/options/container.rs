//! What the command finds around it: files, variables, processes beside it.

use super::{
    GivenIn::Both,
    Notation::{Json, Text},
    OptionSpec,
    Takes::{Each, One, Switch},
    option,
};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 10] = [
    option(
        "bind-local",
        "bind_local",
        Both,
        Each("SRC:DST", Text),
        "Local file or folder to place in the container; also as JSON; repeatable",
    ),
    option(
        "bind-local-lib",
        "bind_local_lib",
        Both,
        Each("FOLDER", Text),
        "Local Python library to put on PYTHONPATH; repeatable",
    ),
    option(
        "bind-ignore",
        "bind_ignore",
        Both,
        One("FILES", Text),
        "Ignore files in bound folders that count: gitignore (and .tractorunignore; default), tractorunignore, none; libraries heed only .tractorunignore",
    ),
    option(
        "bind-cypress",
        "bind_cypress",
        Both,
        Each("SRC:DST", Text),
        "Cypress file or map node to place in the container; also as JSON; repeatable",
    ),
    option(
        "env",
        "env",
        Both,
        Each("JSON", Json),
        r#"Variable: {"name": .., "value": ..} or, for a secret, {"name": .., "cypress_path": ..}; with "sidecars": false for the workers alone; repeatable"#,
    ),
    option(
        "user-config",
        "user_config",
        Both,
        One("JSON", Json),
        "Config of your own, handed to every worker in YT_USER_CONFIG",
    ),
    option(
        "sidecar",
        "sidecars",
        Both,
        Each("JSON", Json),
        r#"Process beside the workers of each node: {"command": [..], "restart_policy": ..}, the policy one of always, on_failure, never, fail; repeatable"#,
    ),
    option(
        "tensorproxy.enabled",
        "tensorproxy.enabled",
        Both,
        Switch,
        "Run the cluster's tensorproxy beside the workers of each node; they find it in TS_GRPC_ADDRESS",
    ),
    option(
        "tensorproxy.yt_path",
        "tensorproxy.yt_path",
        Both,
        One("PATH", Text),
        "Its program on the cluster (default: //sys/tractorun/tensorproxy)",
    ),
    option(
        "tensorproxy.restart_policy",
        "tensorproxy.restart_policy",
        Both,
        One("POLICY", Text),
        "What its end leads to: always (started again; default), on_failure, never, or fail",
    ),
];
