//! The job spec: the JSON document that the launcher writes and `tractorun-init` reads.
//!
//! It is the wire form: plain data without logic beyond its version. The file is readable by everybody who
//! may read the operation, so nothing secret belongs into it; tokens travel in the operation's secure vault
//! (see [`crate::env::VAULT_YT_TOKEN`]).
//!
//! Versions: a newer *minor* version only adds fields that an older init may ignore without changing what
//! the user asked for; everything else is a new *major* version, which an older init refuses by name.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::placement::Placement;

/// The version that this build writes and the newest that it reads.
pub const SPEC_VERSION: SpecVersion = SpecVersion { major: 1, minor: 0 };

/// Version of a job spec, written as `"major.minor"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecVersion {
    /// Changes when an older init could misread the spec.
    pub major: u32,
    /// Changes when fields are added that may be ignored.
    pub minor: u32,
}

/// Everything one `tractorun-init` needs to know that is the same on every node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Version of this document.
    pub version: SpecVersion,
    /// The cluster the run keeps its notice board on.
    pub cluster: Cluster,
    /// Base directory of the run on the cluster, absolute (`//...`).
    pub yt_path: String,
    /// Shape of the job.
    pub mesh: Mesh,
    /// The user's command, at least one element; the first is looked up in the worker's `PATH`.
    pub command: Vec<String>,
    /// The user's environment variables, in order; a later one of the same name wins.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The user's own config, handed to workers as JSON in `YT_USER_CONFIG`; `null` when none was given.
    #[serde(default)]
    pub user_config: Option<Map<String, Value>>,
    /// Processes beside the workers of every node, in the order they are started.
    #[serde(default)]
    pub sidecars: Vec<Sidecar>,
    /// Archives (tar + zstd) in the sandbox to unpack.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Python libraries: archives to unpack and put on `PYTHONPATH`, in order.
    #[serde(default)]
    pub libs: Vec<Lib>,
    /// Cypress files that the cluster put into the sandbox, to be placed at their destination.
    #[serde(default)]
    pub cypress_binds: Vec<CypressBind>,
    /// When lines of workers carry their rank in front.
    #[serde(default)]
    pub line_prefix: LinePrefix,
    /// How long each thing may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where the workers' and sidecars' lines go besides init's stderr.
    #[serde(default, skip_serializing_if = "Logs::is_default")]
    pub logs: Logs,
    /// Whether workers are started again after a failure, without a new job.
    #[serde(default, skip_serializing_if = "Restarts::is_default")]
    pub restarts: Restarts,
    /// What SIGTERM to init means where the cluster announces a preemption with it; without it SIGTERM is a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// Which GPUs and CPUs workers get.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// How links to the cluster's web interface look.
    #[serde(default, skip_serializing_if = "Links::is_empty")]
    pub links: Links,
}

/// How to reach the cluster from inside the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Proxy as `YT_PROXY` takes it: a URL, `host:port` or a bare cluster name.
    pub proxy: String,
}

/// Shape of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Nodes (jobs of the operation), at least 1.
    pub node_count: u32,
    /// Workers on each node, at least 1.
    pub process_per_node: u32,
    /// GPUs of each worker.
    pub gpu_per_process: u32,
}

/// One environment variable of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub source: EnvSource,
    /// Who gets it: `"sidecars": false` keeps it from them.
    #[serde(rename = "sidecars", default, skip_serializing_if = "EnvScope::is_everybody")]
    pub scope: EnvScope,
}

/// Who gets an [`EnvVar`]; in JSON whether sidecars do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum EnvScope {
    /// Workers and sidecars.
    #[default]
    Everybody,
    /// Workers alone, such as for a secret that is not a sidecar's business.
    Workers,
}

/// Where the value of an [`EnvVar`] comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvSource {
    /// `{"name": .., "value": ..}`: the value itself, readable by all.
    Value(String),
    /// `{"name": .., "cypress_path": ..}`: a Cypress string node or document read inside the job.
    CypressPath(String),
}

/// A process beside the workers of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its command, at least one element; the first is looked up in its `PATH`.
    pub command: Vec<String>,
    /// What its end leads to.
    pub restart_policy: RestartPolicy,
}

/// What the end of a sidecar leads to. That it cannot be started counts as an end with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again.
    Always,
    /// It is started again unless it exited with 0.
    OnFailure,
    /// Nothing.
    Never,
    /// The operation fails, even if it exited with 0.
    Fail,
}

/// A local file or folder that travelled as an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Name of the archive (tar + zstd) in the sandbox.
    pub archive: String,
    /// Where its single top entry goes: a path in the container; a relative one starts in the sandbox.
    /// The archive's top entry is called `root` and is a file or a folder.
    pub destination: String,
    /// In how many files the archive comes.
    #[serde(default, skip_serializing_if = "PartCount::is_one")]
    pub parts: PartCount,
}

/// A local Python library that travelled as an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lib {
    /// Name of the archive (tar + zstd) in the sandbox; its single top entry is called `root`.
    pub archive: String,
    /// Name of the library: the folder that `import` looks for.
    pub name: String,
    /// In how many files the archive comes.
    #[serde(default, skip_serializing_if = "PartCount::is_one")]
    pub parts: PartCount,
}

/// In how many files of the sandbox an archive comes, at least one. Their contents, in order, are one stream of
/// zstd frames; their names are those of [`part_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartCount(pub NonZeroU32);

/// Name of the part of that index of the archive `archive`: the first has the archive's own name.
pub fn part_name(archive: &str, index: usize) -> String {
    if index == 0 { archive.to_owned() } else { format!("{archive}.{index}") }
}

/// A Cypress file that the cluster put into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CypressBind {
    /// Name of the file in the sandbox.
    pub file: String,
    /// Where it is to appear; a relative path starts in the sandbox.
    pub destination: String,
}

/// When lines of workers carry `[rank] ` in front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinePrefix {
    /// Where a node has several workers.
    #[default]
    Auto,
    /// Always: several nodes share one terminal.
    Rank,
}

/// Time limits of a run, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From init's start until every node has joined.
    pub rendezvous_ms: u64,
    /// A node not heard of for this long is lost.
    pub heartbeat_ms: u64,
    /// From SIGTERM to SIGKILL when workers are stopped.
    pub grace_period_ms: u64,
}

/// How links to the cluster's web interface look, as the cluster's tractorun configuration says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    /// URL of a Cypress node, `{path}` standing for its path.
    pub cypress_link_template: Option<String>,
    /// URL of a job's stderr, `{operation_id}` and `{job_id}` standing for these.
    pub job_stderr_link_template: Option<String>,
}

impl Default for Timeouts {
    /// Ten minutes for nodes that the scheduler starts one by one; heartbeats survive a long pause of a
    /// loaded machine; ten seconds of grace are what container engines give.
    fn default() -> Self {
        Self { rendezvous_ms: 600_000, heartbeat_ms: 30_000, grace_period_ms: 10_000 }
    }
}

/// Where the lines of workers and sidecars go besides init's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logs {
    /// Whether there are tables.
    pub mode: LogMode,
    /// Lines of a node leave as soon as there are so many bytes of them, where the cluster's share allows it.
    pub batch_bytes: u64,
    /// Lines of a node leave when the oldest is that old, in milliseconds; later on where many nodes share the
    /// cluster.
    pub batch_age_ms: u64,
    /// Bytes of lines that a node keeps in memory until they are in their tables.
    pub memory_bytes: u64,
    /// Bytes of lines that a node keeps on its disk where memory does not hold them; 0 for none.
    pub spool_bytes: u64,
    /// What happens when both are full.
    pub overflow: LogOverflow,
    /// How long the end of a node waits for its lines to be in their tables, in milliseconds.
    pub drain_timeout_ms: u64,
}

/// Whether lines go into tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogMode {
    /// They do not.
    #[default]
    Default,
    /// Into the tables of [`crate::logs`], as they come.
    RealtimeYtTable,
}

/// What happens to lines that there is no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOverflow {
    /// Nothing is read until there is room, so that whoever writes waits.
    Block,
    /// The oldest lines are dropped, and a row says how many.
    #[default]
    Drop,
}

/// Restarts in place: after a failed worker all workers of all nodes are stopped and started again as the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// How many, at most; 0 for none.
    pub max: u32,
    /// Only restarts of the last so many milliseconds count against `max`; `null`: all of the run.
    pub window_ms: Option<u64>,
    /// From the end of the last worker to the start of the next attempt, in milliseconds.
    pub backoff_ms: u64,
    /// Exit codes of the failure record that are never answered by a restart, such as 137 for a worker killed by
    /// SIGKILL.
    pub never: Vec<u8>,
}

impl Default for Restarts {
    /// None. The pause is for what the failure left behind elsewhere, such as a peer's connection.
    fn default() -> Self {
        Self { max: 0, window_ms: None, backoff_ms: 1_000, never: Vec::new() }
    }
}

/// What a preemption is to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preemption {
    /// What every worker of every node gets.
    pub signal: PreemptionSignal,
    /// From that signal to SIGKILL, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Preemption {
    /// Long enough to save a checkpoint of some size, short enough to be over before an impatient cluster is.
    fn default() -> Self {
        Self { signal: PreemptionSignal::Term, timeout_ms: 30_000 }
    }
}

/// A signal that asks a worker to save what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreemptionSignal {
    /// As every other stop.
    #[serde(rename = "SIGTERM")]
    Term,
    /// As Ctrl-C: Python raises `KeyboardInterrupt`.
    #[serde(rename = "SIGINT")]
    Int,
    /// A user's own meaning.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// A user's own meaning; what Slurm's users choose most.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// A user's own meaning.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

/// Why a job spec was not understood.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of the spec's shape.
    #[error("job spec is not valid: {0}")]
    Invalid(#[from] serde_json::Error),
    /// The document says no version.
    #[error("job spec has no `version`: expected \"{SPEC_VERSION}\"")]
    NoVersion,
    /// Written by a newer launcher.
    #[error(
        "job spec has version {found}, this tractorun-init reads versions up to {SPEC_VERSION}\n\
         hint: use a tractorun-init of the launcher's release, or leave it to the launcher to bring its own"
    )]
    TooNew {
        /// Version of the document.
        found: SpecVersion,
    },
}

// === impl Restarts ===

impl Restarts {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl PartCount ===

impl PartCount {
    /// One file: the archive itself.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// Whether there is only one file.
    pub fn is_one(&self) -> bool {
        *self == Self::ONE
    }

    /// The names of an archive's files, in order.
    pub fn names(self, archive: &str) -> impl Iterator<Item = String> {
        (0..self.0.get() as usize).map(move |index| part_name(archive, index))
    }
}

impl Default for PartCount {
    fn default() -> Self {
        Self::ONE
    }
}

// === impl PreemptionSignal ===

impl PreemptionSignal {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("SIGTERM", Self::Term),
        ("SIGINT", Self::Int),
        ("SIGHUP", Self::Hup),
        ("SIGUSR1", Self::Usr1),
        ("SIGUSR2", Self::Usr2),
    ];
}

// === impl EnvScope ===

impl EnvScope {
    /// Whether sidecars get the variable too.
    pub fn is_everybody(&self) -> bool {
        *self == Self::Everybody
    }
}

impl From<bool> for EnvScope {
    fn from(sidecars: bool) -> Self {
        if sidecars { Self::Everybody } else { Self::Workers }
    }
}

impl From<EnvScope> for bool {
    fn from(scope: EnvScope) -> Self {
        scope.is_everybody()
    }
}

// === impl RestartPolicy ===

impl RestartPolicy {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("always", Self::Always),
        ("on_failure", Self::OnFailure),
        ("never", Self::Never),
        ("fail", Self::Fail),
    ];
}

// === impl Links ===

impl Links {
    /// Whether the cluster says nothing about links.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Logs ===

impl Default for Logs {
    /// A line is in its table a second after it was written. What a worker writes in a minute or two while the
    /// cluster is away fits on the disk; that a training stands still because of its logs is what nobody wants.
    fn default() -> Self {
        Self {
            mode: LogMode::Default,
            batch_bytes: 4 * 1024 * 1024,
            batch_age_ms: 1000,
            memory_bytes: 12 * 1024 * 1024,
            spool_bytes: 1024 * 1024 * 1024,
            overflow: LogOverflow::Drop,
            drain_timeout_ms: 60_000,
        }
    }
}

impl Logs {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl LogMode ===

impl LogMode {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 2] =
        [("default", Self::Default), ("realtime_yt_table", Self::RealtimeYtTable)];
}

// === impl LogOverflow ===

impl LogOverflow {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 2] = [("block", Self::Block), ("drop", Self::Drop)];
}

// === impl SpecVersion ===

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpecVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| {
            serde::de::Error::custom(format!("version `{text}` is not of the form `major.minor`"))
        })
    }
}

// === impl JobSpec ===

impl JobSpec {
    /// Reads a job spec.
    ///
    /// The version is looked at first: a document of a newer major version is refused as such, whatever
    /// else it holds.
    pub fn parse(document: &[u8]) -> Result<Self, ParseError> {
        let value: Value = serde_json::from_slice(document)?;
        let version = value.get("version").ok_or(ParseError::NoVersion)?;
        let found = SpecVersion::deserialize(version)?;
        if found.major > SPEC_VERSION.major {
            return Err(ParseError::TooNew { found });
        }
        Ok(serde_json::from_value(value)?)
    }

    /// Writes the spec as JSON. Equal specs give equal bytes, so that the file cache knows them again.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with string keys: there is nothing in it that serde_json could refuse.
        serde_json::to_vec_pretty(self).expect("a job spec is always valid JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spec as version 1.0 wrote it. It never changes: old launchers must work with new inits.
    const GOLDEN_1_0: &str = include_str!("../testdata/job_spec_1_0.json");

    #[test]
    fn reads_version_1_0_and_writes_it_back() {
        let spec = JobSpec::parse(GOLDEN_1_0.as_bytes()).unwrap();
        assert_eq!(spec.mesh.node_count, 2);
        assert_eq!(spec.env[0].scope, EnvScope::Everybody);
        assert_eq!(spec.env[1].source, EnvSource::CypressPath("//tmp/secret".into()));
        assert_eq!(spec.env[1].scope, EnvScope::Workers);
        assert_eq!(spec.sidecars[0].restart_policy, RestartPolicy::OnFailure);
        assert_eq!(JobSpec::parse(&spec.to_json()).unwrap(), spec);
        assert_eq!(String::from_utf8(spec.to_json()).unwrap(), GOLDEN_1_0.trim_end());
    }

    #[test]
    fn optional_fields_have_defaults() {
        let spec = JobSpec::parse(
            br#"{"version": "1.0", "cluster": {"proxy": "http://h:1"}, "yt_path": "//tmp/x",
                 "mesh": {"node_count": 1, "process_per_node": 1, "gpu_per_process": 0}, "command": ["true"]}"#,
        )
        .unwrap();
        assert_eq!(spec.timeouts, Timeouts::default());
        assert_eq!(spec.line_prefix, LinePrefix::Auto);
        assert_eq!(spec.sidecars, []);
        assert!(spec.links.is_empty());
        assert_eq!(spec.placement, Placement::default());
    }

    #[test]
    fn restarts_and_preemption_are_written_only_if_asked_for() {
        let mut spec = JobSpec::parse(GOLDEN_1_0.as_bytes()).unwrap();
        assert_eq!((&spec.restarts, &spec.preemption), (&Restarts::default(), &None));
        spec.restarts = Restarts { max: 3, window_ms: Some(600_000), backoff_ms: 0, never: vec![2, 137] };
        spec.preemption = Some(Preemption::default());
        assert_eq!(JobSpec::parse(&spec.to_json()).unwrap(), spec);
    }

    #[test]
    fn policies_are_written_as_the_words_for_them() {
        for (word, policy) in RestartPolicy::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), word);
        }
        for (name, signal) in PreemptionSignal::ALL {
            assert_eq!(serde_json::to_value(signal).unwrap(), name);
        }
        for (word, mode) in LogMode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), word);
        }
        for (word, overflow) in LogOverflow::ALL {
            assert_eq!(serde_json::to_value(overflow).unwrap(), word);
        }
    }

    #[test]
    fn log_settings_are_written_only_if_there_are_any() {
        let mut spec = JobSpec::parse(GOLDEN_1_0.as_bytes()).unwrap();
        assert_eq!(spec.logs, Logs::default());
        assert!(!String::from_utf8(spec.to_json()).unwrap().contains("logs"));
        spec.logs.mode = LogMode::RealtimeYtTable;
        assert_eq!(JobSpec::parse(&spec.to_json()).unwrap(), spec);
        let partly = GOLDEN_1_0.replacen('{', r#"{"logs": {"overflow": "block"},"#, 1);
        let logs = JobSpec::parse(partly.as_bytes()).unwrap().logs;
        assert_eq!(logs, Logs { overflow: LogOverflow::Block, ..Logs::default() });
    }

    #[test]
    fn a_newer_minor_version_is_read_and_its_new_fields_ignored() {
        let document = GOLDEN_1_0.replacen("\"1.0\"", "\"1.9\", \"novelty\": true", 1);
        assert_eq!(JobSpec::parse(document.as_bytes()).unwrap().version, SpecVersion { major: 1, minor: 9 });
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = |document: &str| JobSpec::parse(document.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"version": "2.3", "anything": []}"#),
            "job spec has version 2.3, this tractorun-init reads versions up to 1.0\n\
             hint: use a tractorun-init of the launcher's release, or leave it to the launcher to bring its own"
        );
        assert_eq!(text("{}"), "job spec has no `version`: expected \"1.0\"");
        assert_eq!(
            text(r#"{"version": "one"}"#),
            "job spec is not valid: version `one` is not of the form `major.minor`"
        );
        assert!(text(r#"{"version": "1.0"}"#).starts_with("job spec is not valid: missing field `cluster`"));
    }
}
