//! The table of options: the only place that spells their names.
//!
//! Command line, YAML file, `--help` and shell completions all go by it, so that none of them can know an
//! option that the others do not.

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// Name on the command line, without the dashes in front.
    pub name: &'static str,
    /// Key in the YAML file, sections joined by a dot; also the option's identity.
    pub key: &'static str,
    /// Where it may be given.
    pub given_in: GivenIn,
    /// What follows it on the command line.
    pub takes: Takes,
    /// Heading in `--help`.
    pub group: Group,
    /// What it does, for `--help`; empty: not shown there.
    pub help: &'static str,
}

/// Where an option may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenIn {
    /// On the command line and in the YAML file.
    Both,
    /// On the command line only: it is about the invocation and not about the job.
    CommandLineOnly,
}

/// What follows an option on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One value; the last one given counts. The name stands for it in `--help`.
    One(&'static str, Notation),
    /// One value each time it is given; all of them count.
    Each(&'static str, Notation),
    /// `true` or `false`, or nothing for `true`.
    Switch,
    /// Nothing: the option is the whole request.
    Nothing,
}

/// How a value is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// Text for what it says.
    Text,
    /// A number or JSON.
    Json,
}

/// Headings of `--help`, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// What runs, and where its traces are.
    Job,
    /// Shape of the job.
    Mesh,
    /// What a node may use.
    Resources,
    /// What happens when something ends that should not.
    Failures,
    /// What the command finds around it.
    Container,
    /// Where lines go.
    Logs,
    /// How the launcher behaves.
    Launcher,
    /// For administrators.
    Expert,
}

impl Group {
    /// All of them, in the order they are shown.
    pub(crate) const ALL: [Self; 8] = [
        Self::Job,
        Self::Mesh,
        Self::Resources,
        Self::Failures,
        Self::Container,
        Self::Logs,
        Self::Launcher,
        Self::Expert,
    ];

    /// The heading.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Mesh => "Mesh",
            Self::Resources => "Resources of each node",
            Self::Failures => "Failures and preemption",
            Self::Container => "What the command finds",
            Self::Logs => "Lines of workers and sidecars",
            Self::Launcher => "Launcher",
            Self::Expert => "Merged over what is submitted (ask your administrator first)",
        }
    }
}

use GivenIn::{Both, CommandLineOnly};
use Notation::{Json, Text};
use Takes::{Each, Nothing, One, Switch};

/// The user's command: in the YAML file a key as any other, on the command line what follows the options.
pub(crate) static COMMAND: OptionSpec = option("", "command", Both, Nothing, Group::Job, "");

/// Every option, in the order `--help` shows them within their groups.
pub(crate) static OPTIONS: [OptionSpec; 50] = [
    option(
        "yt-path",
        "yt_path",
        Both,
        One("PATH", Text),
        Group::Job,
        "Directory on the cluster for all runs of one model (default: a new one in //tmp/tractorun)",
    ),
    option(
        "docker-image",
        "docker_image",
        Both,
        One("IMAGE", Text),
        Group::Job,
        "Docker image of the job (default: $YT_BASE_LAYER, then $YT_JOB_DOCKER_IMAGE)",
    ),
    option(
        "docker-auth-secret.cypress-path",
        "docker_auth_secret.cypress_path",
        Both,
        One("PATH", Text),
        Group::Job,
        "Cypress document with the credentials for a private registry",
    ),
    option(
        "title",
        "title",
        Both,
        One("TEXT", Text),
        Group::Job,
        "Operation's title (default: Tractorun <yt-path>)",
    ),
    option("mesh.node-count", "mesh.node_count", Both, One("N", Json), Group::Mesh, "Nodes (default: 1)"),
    option(
        "mesh.process-per-node",
        "mesh.process_per_node",
        Both,
        One("N", Json),
        Group::Mesh,
        "Workers on each node (default: 1)",
    ),
    option(
        "mesh.gpu-per-process",
        "mesh.gpu_per_process",
        Both,
        One("N", Json),
        Group::Mesh,
        "GPUs for each worker (default: 0); too few on a node is an error before anything starts",
    ),
    option(
        "mesh.gpu-visibility",
        "mesh.gpu_visibility",
        Both,
        One("all|own", Text),
        Group::Mesh,
        "GPUs a worker sees: all of its node, its own from LOCAL_RANK * gpu-per-process on (default), or its own only",
    ),
    option(
        "mesh.cpu-affinity",
        "mesh.cpu_affinity",
        Both,
        One("numa|none", Text),
        Group::Mesh,
        "CPUs a worker with GPUs may run on: those of its GPUs' NUMA nodes (default), or all",
    ),
    option(
        "mesh.omp-num-threads",
        "mesh.omp_num_threads",
        Both,
        One("torchrun|auto|N", Text),
        Group::Mesh,
        "OMP_NUM_THREADS: 1 where a node has several workers and nothing sets it (torchrun, default), a fair share \
         of the CPUs (auto), or a number; one in --env always counts",
    ),
    option(
        "mesh.pool-trees",
        "mesh.pool_trees",
        Both,
        Each("TREE", Text),
        Group::Mesh,
        "Pool tree to schedule in, such as gpu_h100; repeatable",
    ),
    option("mesh.pool", "mesh.pool", Both, One("POOL", Text), Group::Mesh, "Pool to schedule in"),
    option(
        "resources.cpu-limit",
        "resources.cpu_limit",
        Both,
        One("CORES", Json),
        Group::Resources,
        "CPU cores, such as 4 or 0.5",
    ),
    option(
        "resources.memory-limit",
        "resources.memory_limit",
        Both,
        One("BYTES", Json),
        Group::Resources,
        "Memory in bytes, or a size such as 16GiB",
    ),
    option(
        "restarts.max",
        "restarts.max",
        Both,
        One("N", Json),
        Group::Failures,
        "Start all workers again, in the same jobs, after up to so many failures of a worker (default: 0)",
    ),
    option(
        "restarts.window",
        "restarts.window",
        Both,
        One("TIME", Text),
        Group::Failures,
        "Count only the restarts of the last TIME, such as 30m (default: all of the run)",
    ),
    option(
        "restarts.backoff",
        "restarts.backoff",
        Both,
        One("TIME", Text),
        Group::Failures,
        "Pause before each restart, such as 500ms (default: 1s)",
    ),
    option(
        "restarts.never",
        "restarts.never",
        Both,
        Each("CODE", Json),
        Group::Failures,
        "Exit code that is never answered by a restart, such as 2, or 137 for SIGKILL; repeatable",
    ),
    option(
        "grace-period",
        "grace_period",
        Both,
        One("TIME", Text),
        Group::Failures,
        "From SIGTERM to SIGKILL when workers are stopped, such as 30s (default: 10s)",
    ),
    option(
        "heartbeat-timeout",
        "heartbeat_timeout",
        Both,
        One("TIME", Text),
        Group::Failures,
        "A node that is not heard of for so long is lost (default: 30s)",
    ),
    option(
        "rendezvous-timeout",
        "rendezvous_timeout",
        Both,
        One("TIME", Text),
        Group::Failures,
        "How long the nodes wait for each other at the start (default: 10m)",
    ),
    option(
        "preemption.signal",
        "preemption.signal",
        Both,
        One("SIGNAL", Text),
        Group::Failures,
        "What the process group of every worker gets when the cluster takes a node away: SIGTERM (default), SIGINT, SIGHUP, SIGUSR1 or SIGUSR2",
    ),
    option(
        "preemption.timeout",
        "preemption.timeout",
        Both,
        One("TIME", Text),
        Group::Failures,
        "From that signal to SIGKILL (default: 30s); the moment is in the file $TRACTORUN_STOP_DEADLINE_FILE",
    ),
    option(
        "bind-local",
        "bind_local",
        Both,
        Each("SRC:DST", Text),
        Group::Container,
        "Local file or folder to place in the container; also as JSON; repeatable",
    ),
    option(
        "bind-local-lib",
        "bind_local_lib",
        Both,
        Each("FOLDER", Text),
        Group::Container,
        "Local Python library to put on PYTHONPATH; repeatable",
    ),
    option(
        "bind-ignore",
        "bind_ignore",
        Both,
        One("FILES", Text),
        Group::Container,
        "Ignore files in bound folders that count: gitignore (and .tractorunignore; default), tractorunignore, none; libraries heed only .tractorunignore",
    ),
    option(
        "bind-cypress",
        "bind_cypress",
        Both,
        Each("SRC:DST", Text),
        Group::Container,
        "Cypress file or map node to place in the container; also as JSON; repeatable",
    ),
    option(
        "env",
        "env",
        Both,
        Each("JSON", Json),
        Group::Container,
        r#"Variable: {"name": .., "value": ..} or, for a secret, {"name": .., "cypress_path": ..}; with "sidecars": false for the workers alone; repeatable"#,
    ),
    option(
        "user-config",
        "user_config",
        Both,
        One("JSON", Json),
        Group::Container,
        "Config of your own, handed to every worker in YT_USER_CONFIG",
    ),
    option(
        "sidecar",
        "sidecars",
        Both,
        Each("JSON", Json),
        Group::Container,
        r#"Process beside the workers of each node: {"command": [..], "restart_policy": ..}, the policy one of always, on_failure, never, fail; repeatable"#,
    ),
    option(
        "operation-log-mode",
        "operation_log_mode",
        Both,
        One("MODE", Text),
        Group::Logs,
        "Where lines go besides the jobs' stderr: realtime_yt_table (<yt-path>/logs/<incarnation>), or default",
    ),
    option(
        "logs.overflow",
        "logs.overflow",
        Both,
        One("POLICY", Text),
        Group::Logs,
        "When memory and spool are full, since the cluster is away: drop the oldest lines and say so (default), or block, that is let the workers wait",
    ),
    option(
        "logs.spool",
        "logs.spool",
        Both,
        One("BYTES", Json),
        Group::Logs,
        "Disk of each node for lines that the cluster does not take now (default: 1GiB)",
    ),
    option(
        "logs.memory",
        "logs.memory",
        Both,
        One("BYTES", Json),
        Group::Logs,
        "Memory of each node for lines (default: 12MiB)",
    ),
    option(
        "logs.batch-age",
        "logs.batch_age",
        Both,
        One("TIME", Text),
        Group::Logs,
        "Lines are written when the oldest is that old (default: 1s); later where many nodes write",
    ),
    option(
        "logs.batch-bytes",
        "logs.batch_bytes",
        Both,
        One("BYTES", Json),
        Group::Logs,
        "Lines of a node are written as soon as there are so many bytes (default: 4MiB)",
    ),
    option(
        "logs.drain-timeout",
        "logs.drain_timeout",
        Both,
        One("TIME", Text),
        Group::Logs,
        "How long a node waits at its end for its last lines to be written (default: 60s)",
    ),
    option("tensorproxy.enabled", "tensorproxy.enabled", Both, Switch, Group::Container, ""),
    option("tensorproxy.yt_path", "tensorproxy.yt_path", Both, One("PATH", Text), Group::Container, ""),
    option(
        "tensorproxy.restart_policy",
        "tensorproxy.restart_policy",
        Both,
        One("POLICY", Text),
        Group::Container,
        "",
    ),
    option(
        "run-config-path",
        "run_config_path",
        CommandLineOnly,
        One("FILE", Text),
        Group::Launcher,
        "YAML file with these options, underscores for dashes; the command line wins",
    ),
    option(
        "local",
        "local",
        Both,
        Switch,
        Group::Launcher,
        "Run on this machine: no cluster, no account, any number of nodes",
    ),
    option(
        "proxy-stderr-mode",
        "proxy_stderr_mode",
        Both,
        One("MODE", Text),
        Group::Launcher,
        "Show the stderr of node 0 here: primary; of every node: all; or disabled (default)",
    ),
    option("no-wait", "no_wait", Both, Switch, Group::Launcher, "Leave when the operation is started"),
    option(
        "dry-run",
        "dry_run",
        CommandLineOnly,
        Switch,
        Group::Launcher,
        "Print what would be submitted, as JSON, without touching anything",
    ),
    option(
        "cluster-config-path",
        "cluster_config_path",
        Both,
        One("PATH", Text),
        Group::Launcher,
        "tractorun's configuration on the cluster (default: //home/tractorun/config)",
    ),
    option(
        "completions",
        "completions",
        CommandLineOnly,
        One("SHELL", Text),
        Group::Launcher,
        "Print completions for bash, zsh or fish",
    ),
    option("version", "version", CommandLineOnly, Nothing, Group::Launcher, "Print the version"),
    option(
        "yt-operation-spec",
        "yt_operation_spec",
        Both,
        One("JSON", Json),
        Group::Expert,
        "Over the operation's spec",
    ),
    option("yt-task-spec", "yt_task_spec", Both, One("JSON", Json), Group::Expert, "Over the task's spec"),
];

/// Keys whose effect comes in a later version; a name that ends in a dot stands for a whole section.
pub(crate) static LATER: [&str; 3] = ["mesh.gang", "mesh.spare_nodes", "metrics."];

const fn option(
    name: &'static str,
    key: &'static str,
    given_in: GivenIn,
    takes: Takes,
    group: Group,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { name, key, given_in, takes, group, help }
}

/// The option of that YAML key. The key must be in the table.
pub(crate) fn by_key(key: &str) -> Option<&'static OptionSpec> {
    std::iter::once(&COMMAND).chain(&OPTIONS).find(|option| option.key == key)
}

/// The option of that name on the command line.
pub(crate) fn by_name(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// Whether `key` is, or lies in, what a later version brings.
pub(crate) fn comes_later(key: &str) -> bool {
    LATER.iter().any(|later| match later.strip_suffix('.') {
        Some(section) => key == section || key.starts_with(later),
        None => key == *later,
    })
}

/// The candidate nearest to what was written, if one is near enough to be meant.
///
/// Dashes and underscores count as equal, and a candidate also matches by its last part alone
/// (`node_count` for `mesh.node_count`).
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace('-', "_").to_lowercase();
    let written = plain(written);
    // One typing mistake in a short word, one more for every four letters.
    let reach = 1 + written.len() / 4;
    candidates
        .into_iter()
        .map(|candidate| {
            let whole = plain(candidate);
            let last = whole.rsplit('.').next().unwrap_or(&whole);
            let distance = |name: &str| strsim::damerau_levenshtein(&written, name);
            // The whole name is preferred where both are as near.
            ((2 * distance(&whole)).min(2 * distance(last) + 1), candidate)
        })
        .filter(|(distance, _)| distance / 2 <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_differ_only_in_dashes() {
        for option in &OPTIONS {
            let name = if option.name == "sidecar" { "sidecars" } else { option.name };
            assert_eq!(name.replace('-', "_"), option.key);
            assert_eq!(by_name(option.name), Some(option));
            assert_eq!(by_key(option.key), Some(option));
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let keys = || OPTIONS.iter().map(|option| option.key);
        assert_eq!(nearest("mesh.node_conut", keys()), Some("mesh.node_count"));
        assert_eq!(nearest("node-count", keys()), Some("mesh.node_count"));
        assert_eq!(nearest("yt-path", keys()), Some("yt_path"));
        assert_eq!(nearest("bind_locl", keys()), Some("bind_local"));
        assert_eq!(nearest("sidecar", keys()), Some("sidecars"));
        assert_eq!(nearest("colour", keys()), None);
        assert_eq!(nearest("x", keys()), None);
    }

    #[test]
    fn later_sections_are_known_with_all_they_hold() {
        assert!(comes_later("mesh.gang"));
        assert!(comes_later("metrics"));
        assert!(comes_later("metrics.port"));
        assert!(!comes_later("mesh"));
        assert!(!comes_later("logsx"));
    }
}
