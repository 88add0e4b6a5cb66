//! The tensorproxy: its configuration, its command line, and the address that workers find.
//!
//! The configuration is, value by value, what the Python tractorun 0.62.0 writes; the ports are those that the cluster
//! gave to this very job.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};
use tractorun_contract::job_spec::RestartPolicy;
use tractorun_yt::value;
use ytsaurus_yson::YsonFormat;

/// The tensorproxy of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensorproxy {
    /// Name of its program in the sandbox.
    pub(super) file: String,
    pub(super) restart_policy: RestartPolicy,
    /// Where workers talk to it.
    pub(super) grpc_port: u16,
    /// Where it tells of itself.
    pub(super) monitoring_port: u16,
}

// === impl Tensorproxy ===

impl Tensorproxy {
    /// What the workers of the node find in `TS_GRPC_ADDRESS`.
    pub(super) fn address(&self) -> String {
        format!("localhost:{}", self.grpc_port)
    }

    /// How it is started in that sandbox, with its configuration in that file.
    pub(super) fn command(&self, sandbox: &Path, config: &Path) -> Vec<OsString> {
        vec![sandbox.join(&self.file).into(), "--config".into(), config.into()]
    }

    /// Writes its configuration, for a cluster behind that proxy. There is nothing secret in it: the token is in its
    /// environment.
    pub(super) fn write_config(&self, path: &Path, proxy: &str) -> std::io::Result<()> {
        let config = value::from_json(&self.config(proxy));
        let text = ytsaurus_yson::to_vec(&config, YsonFormat::Text).map_err(std::io::Error::other)?;
        std::fs::write(path, text)
    }

    fn config(&self, proxy: &str) -> Value {
        let log_file = |name: &str| {
            json!({
                "type": "file",
                "file_name": name,
                "format": "plain_text",
                "enable_system_messages": true,
                "rotation_policy": {
                    "max_segment_count_to_keep": 1000,
                    "max_total_size_to_keep": 130_000_000_000_u64,
                    "rotation_period": 900_000,
                },
            })
        };
        let rule = |level: &str| json!({ "family": "plain_text", "min_level": level, "writers": [level] });
        let mut debug = rule("debug");
        debug["exclude_categories"] = json!(["Bus"]);
        json!({
            "grpc_port": self.grpc_port,
            "monitoring_port": self.monitoring_port,
            "store_kind": "cypress",
            "cypress_store": { "cluster_url": proxy, "file_writer": { "block_size": 262_144 } },
            "logging": {
                "flush_period": 100,
                "rules": [debug, rule("info"), rule("error")],
                "writers": {
                    "debug": log_file("./tensorproxy.debug.log"),
                    "info": log_file("./tensorproxy.info.log"),
                    "error": { "type": "stderr", "format": "plain_text", "enable_system_messages": true },
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the Python tractorun 0.62.0 writes it for the ports 1 and 2 (`tractorun.private.tensorproxy.get_config`).
    const OF_PYTHON: &str = include_str!("../../testdata/tensorproxy_0_62_0.yson");

    #[test]
    fn the_configuration_is_that_of_the_python_tractorun() {
        let tensorproxy = Tensorproxy {
            file: "tensorproxy".into(),
            restart_policy: RestartPolicy::Always,
            grpc_port: 1,
            monitoring_port: 2,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yson");
        tensorproxy.write_config(&path, "http://cluster:80").unwrap();
        let read = |text: &[u8]| -> tractorun_yt::YsonValue {
            ytsaurus_yson::from_slice(text, YsonFormat::Text).unwrap()
        };
        assert_eq!(read(&std::fs::read(&path).unwrap()), read(OF_PYTHON.as_bytes()));
        assert_eq!(
            tensorproxy.command(Path::new("/s"), &path),
            [OsString::from("/s/tensorproxy"), "--config".into(), path.into()]
        );
    }
}
