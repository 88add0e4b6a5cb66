//! How the launcher behaves.

use super::{
    GivenIn::{Both, CommandLineOnly},
    Notation::Text,
    OptionSpec,
    Takes::{Nothing, One, Switch},
    option,
};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 10] = [
    option(
        "run-config-path",
        "run_config_path",
        CommandLineOnly,
        One("FILE", Text),
        "YAML file with these options, underscores for dashes; the command line wins",
    ),
    option(
        "local",
        "local",
        Both,
        Switch,
        "Run on this machine: no cluster, no account, any number of nodes",
    ),
    option(
        "proxy-stderr-mode",
        "proxy_stderr_mode",
        Both,
        One("MODE", Text),
        "Show the stderr of node 0 here: primary; of every node: all; or disabled (default)",
    ),
    option("no-wait", "no_wait", Both, Switch, "Leave when the operation is started"),
    option(
        "transaction-timeout",
        "transaction_timeout",
        Both,
        One("TIME", Text),
        "A run that is waited for ends when the cluster has not heard of this process for so long (default: 60s)",
    ),
    option(
        "dry-run",
        "dry_run",
        CommandLineOnly,
        Switch,
        "Print what would be submitted, as JSON, without touching anything",
    ),
    option(
        "cluster-config-path",
        "cluster_config_path",
        Both,
        One("PATH", Text),
        "tractorun's configuration on the cluster (default: //home/tractorun/config)",
    ),
    option(
        "completions",
        "completions",
        CommandLineOnly,
        One("SHELL", Text),
        "Print completions for bash, zsh or fish",
    ),
    option("man", "man", CommandLineOnly, Nothing, "Print the man page: tractorun --man | man -l -"),
    option("version", "version", CommandLineOnly, Nothing, "Print the version"),
];
