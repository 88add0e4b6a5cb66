//! The checked form of everything the user asked for.
//!
//! [`Settings`] is complete: no `Option` that has a default, no text that is still to be parsed, enums instead
//! of flags. Whoever holds one need not check it again. It is made from the command line, the YAML file and
//! the environment, in this order of precedence, and all problems are reported at once, before anything is
//! touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tractorun_contract::job_spec::{EnvVar, Logs, Preemption, RestartPolicy, Restarts, Sidecar, Timeouts};
use tractorun_contract::placement::Placement;

pub use self::problem::{Origin, Problem};
pub use self::show::effective_config;
use crate::cli::CommandLine;
use crate::pack::IgnoreFiles;

pub(crate) mod check;
pub(crate) mod file;
mod items;
pub(crate) mod node;
pub(crate) mod options;
mod problem;
pub(crate) mod read;
mod show;
#[cfg(test)]
mod tests;

/// Where the cluster's tractorun configuration is looked for unless the user says where.
pub const DEFAULT_CLUSTER_CONFIG_PATH: &str = "//home/tractorun/config";

/// A laptop may be off the network for this long before its operation ends, unless the user says how long.
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Everything that one run needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Base directory of the run on the cluster: starts with `//`, does not end with `/`.
    pub yt_path: String,
    /// Title of the operation.
    pub title: String,
    /// Docker image of the job; always there unless [`Place::Local`] or [`RunMode::Examine`].
    pub docker_image: Option<String>,
    /// Whose `tractorun-init` the nodes run; without effect in [`Place::Local`].
    pub init: InitSource,
    /// The user's command, at least one element.
    pub command: Vec<String>,
    /// Shape of the job and where it is scheduled.
    pub mesh: Mesh,
    /// The user's environment variables, in order.
    pub env: Vec<EnvVar>,
    /// Processes beside the workers of every node, in order.
    pub sidecars: Vec<Sidecar>,
    /// The tensorproxy beside the workers of every node, if there is to be one.
    pub tensorproxy: Option<Tensorproxy>,
    /// What each node may use.
    pub resources: Resources,
    /// Whether workers are started again after a failure.
    pub restarts: Restarts,
    /// What workers get when the cluster takes a node away; without effect in [`Place::Local`].
    pub preemption: Preemption,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// The user's own config.
    pub user_config: Option<Map<String, Value>>,
    /// Local files and folders that travel; all sources exist.
    pub bind_local: Vec<BindLocal>,
    /// Local Python libraries that travel; all are existing folders with distinct names, see [`library_name`].
    pub bind_local_lib: Vec<PathBuf>,
    /// Which ignore files inside bound folders keep files at home.
    pub bind_ignore: IgnoreFiles,
    /// Cypress nodes that are placed in the container.
    pub bind_cypress: Vec<BindCypress>,
    /// Whose stderr is shown on the terminal.
    pub proxy_stderr_mode: ProxyStderrMode,
    /// Where the lines of workers and sidecars go besides stderr.
    pub logs: Logs,
    /// Whether to stay until the operation ends.
    pub wait: Wait,
    /// How long the operation outlives a launcher that the cluster does not hear of; without effect unless
    /// [`Wait::ForEnd`].
    pub transaction_timeout: Duration,
    /// Whether to act or only to show.
    pub run_mode: RunMode,
    /// Where the job runs.
    pub place: Place,
    /// Cypress path of the document with the Docker registry's credentials.
    pub docker_auth_secret: Option<String>,
    /// Cypress path of the cluster's tractorun configuration.
    pub cluster_config_path: String,
    /// Merged over the operation's spec.
    pub yt_operation_spec: Map<String, Value>,
    /// Merged over the task's spec.
    pub yt_task_spec: Map<String, Value>,
}

/// Shape of the job and where it is scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Nodes (jobs of the operation), at least 1.
    pub node_count: u32,
    /// Workers on each node, at least 1.
    pub process_per_node: u32,
    /// GPUs of each worker.
    pub gpu_per_process: u32,
    /// Which GPUs and CPUs of their node workers get.
    pub placement: Placement,
    /// Pool trees; empty: the cluster's default.
    pub pool_trees: Vec<String>,
    /// Pool; `None`: the cluster's default.
    pub pool: Option<String>,
}

/// What each node may use; `None`: the cluster's default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resources {
    /// CPU cores, above 0.
    pub cpu_limit: Option<f64>,
    /// Memory, at least 1 byte.
    pub memory_limit_bytes: Option<u64>,
}

/// A local file or folder that is placed in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindLocal {
    /// Existing file or folder, as the user wrote it.
    pub source: PathBuf,
    /// Path in the container; a relative one starts in the job's sandbox. Relative in [`Place::Local`].
    pub destination: String,
}

/// A Cypress node that is placed in the container.
#[derive(Debug, Clone, PartialEq)]
pub struct BindCypress {
    /// Path of a file, a map node or a link to either: starts with `//`.
    pub source: String,
    /// Path in the container; a relative one starts in the job's sandbox. Relative in [`Place::Local`].
    pub destination: String,
    /// How the cluster hands the files out.
    pub attributes: BindAttributes,
}

/// The tensorproxy of every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensorproxy {
    /// Cypress path of its program: starts with `//`.
    pub yt_path: String,
    /// What its end leads to.
    pub restart_policy: RestartPolicy,
}

/// Attributes of a Cypress bind; `None`: the cluster's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BindAttributes {
    /// Whether the file gets the executable bit.
    pub executable: Option<bool>,
    /// Format of a table.
    pub format: Option<Value>,
    /// Whether the node's artifact cache is passed by.
    pub bypass_artifact_cache: Option<bool>,
}

/// Whose `tractorun-init` the nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitSource {
    /// The launcher's, which comes with the job's files.
    Bring,
    /// The one in the job's image.
    Image,
}

/// Whose stderr is shown on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyStderrMode {
    /// Nobody's.
    Disabled,
    /// Node 0's.
    Primary,
    /// Every node's, with the node in front.
    All,
}

/// Whether the launcher stays until the operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It does, and the operation lives in a transaction of the launcher.
    ForEnd,
    /// It leaves as soon as the operation is started, and there is no transaction.
    NotAtAll,
}

/// Whether to act or only to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// Run the job.
    Submit,
    /// Print what would be submitted, without network.
    DryRun,
    /// Look whether a run would work. Image and command may be missing; `true` stands for the command then.
    Examine,
}

/// Where the job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As an operation on the cluster.
    Cluster,
    /// On this machine.
    Local,
}

/// What a command acts on: the settings, and for a dry run where they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The checked settings.
    pub settings: Settings,
    /// Content of the YAML file; `null` without one.
    pub file_config: Value,
    /// The options given on the command line, by their key in YAML.
    pub cli_args: Value,
}

/// What the settings depend on besides what the user wrote.
pub struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Makes a name that nobody else has.
    pub new_id: &'a dyn Fn() -> String,
}

// === impl InitSource ===

impl InitSource {
    /// All of them, with the words that choose them.
    pub const ALL: [(&'static str, Self); 2] = [("bring", Self::Bring), ("image", Self::Image)];

    /// The word that chooses it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bring => "bring",
            Self::Image => "image",
        }
    }
}

// === impl Invocation ===

impl Invocation {
    /// Merges the command line with its YAML file and checks everything.
    ///
    /// Reads that file and looks whether the sources of binds exist; touches nothing. The error is never
    /// empty.
    pub fn new(command_line: CommandLine, surroundings: &Surroundings<'_>) -> Result<Self, Vec<Problem>> {
        let CommandLine { options, command, command_hint, run_config_path, run_mode, problems } =
            command_line;
        let mut reader = read::Reader { problems };
        let file = match &run_config_path {
            Some(path) => file::read(path, &mut reader),
            None => Some((file::Layer::new(), node::Node::nothing())),
        };
        let cli_args = show::cli_args(&options, &command);
        let mut check = check::Check {
            command_line: &options,
            file: file.as_ref().map(|(layer, _)| layer),
            surroundings,
            reader: &mut reader,
            place: Place::Cluster,
        };
        let settings = check.settings(command, &command_hint, run_mode);
        match file {
            Some((_, root)) if reader.problems.is_empty() => {
                Ok(Self { settings, file_config: root.to_json(), cli_args })
            }
            _ => Err(reader.into_problems()),
        }
    }

    /// The `configuration` section of a dry run: `{file_config, effective_config, cli_args}`.
    pub fn configuration(&self) -> Value {
        json!({
            "file_config": self.file_config,
            "effective_config": effective_config(&self.settings),
            "cli_args": self.cli_args,
        })
    }
}

/// The name that `import` knows a library by: that of its folder.
pub fn library_name(folder: &Path) -> Option<String> {
    let name = match folder.file_name() {
        Some(name) => name.to_owned(),
        // `.` and `..` have a name only as the folders they are.
        None => folder.canonicalize().ok()?.file_name()?.to_owned(),
    };
    name.into_string().ok()
}
