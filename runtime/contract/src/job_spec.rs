//! The job spec: the JSON document that the launcher writes and `tractorun-init` reads.
//!
//! It is the wire form: plain data without logic beyond its version. The file is readable by everybody who
//! may read the operation, so nothing secret belongs into it; tokens travel in the operation's secure vault
//! (see [`crate::env::VAULT_YT_TOKEN`]).
//!
//! Versions: a newer *minor* version only adds fields that an older init may ignore without changing what
//! the user asked for; everything else is a new *major* version, which an older init refuses by name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::failures::{Preemption, PreemptionSignal, Restarts, Timeouts};
pub use self::files::{Bind, CypressBind, Lib, PartCount, part_name};
pub use self::lines::{LinePrefix, LogMode, LogOverflow, Logs};
pub use self::links::Links;
pub use self::sidecars::{RestartPolicy, Sidecar, Tensorproxy};
pub use self::variables::{EnvScope, EnvSource, EnvVar};
pub use self::version::{SPEC_VERSION, SpecVersion};
use crate::placement::Placement;
use crate::topology::TENSORPROXY_PORT_COUNT;

mod failures;
mod files;
mod lines;
mod links;
mod sidecars;
mod variables;
mod version;

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
    /// The tensorproxy, where the job has one. It is started after the sidecars. Where it is the node has two more
    /// ports, see [`JobSpec::port_count`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorproxy: Option<Tensorproxy>,
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
         hint: use a tractorun-init of the launcher's release, or leave out `--init image`: the launcher brings its own"
    )]
    TooNew {
        /// Version of the document.
        found: SpecVersion,
    },
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

    /// Number of ports each node asks the cluster for.
    pub fn port_count(&self) -> u32 {
        match self.tensorproxy {
            Some(_) => self.mesh.port_count().saturating_add(TENSORPROXY_PORT_COUNT),
            None => self.mesh.port_count(),
        }
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
    fn a_tensorproxy_is_written_only_if_asked_for_and_has_two_ports_behind_all_others() {
        let mut spec = JobSpec::parse(GOLDEN_1_0.as_bytes()).unwrap();
        assert_eq!((&spec.tensorproxy, spec.port_count()), (&None, spec.mesh.process_per_node + 2));
        spec.tensorproxy =
            Some(Tensorproxy { file: "tensorproxy".into(), restart_policy: RestartPolicy::Always });
        assert_eq!(spec.port_count(), spec.mesh.process_per_node + 4);
        let [grpc, monitoring] = spec.mesh.tensorproxy_port_indexes();
        assert_eq!((grpc, monitoring), (spec.mesh.metrics_port_index() + 1, spec.port_count() - 1));
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
             hint: use a tractorun-init of the launcher's release, or leave out `--init image`: the launcher brings its own"
        );
        assert_eq!(text("{}"), "job spec has no `version`: expected \"1.0\"");
        assert_eq!(
            text(r#"{"version": "one"}"#),
            "job spec is not valid: version `one` is not of the form `major.minor`"
        );
        assert!(text(r#"{"version": "1.0"}"#).starts_with("job spec is not valid: missing field `cluster`"));
    }
}
