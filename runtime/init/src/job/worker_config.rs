//! The JSON that `TRACTO_CONFIG` names: who the worker is, for libraries inside it.
//!
//! The names of the fields are those of the Python tractorun's worker config; `self_endpoint`,
//! `primary_endpoint` and `incarnation_id` are ours, so that nobody needs to ask the cluster for them, as are `attempt` and
//! `stop_deadline_file`. Two
//! things differ on purpose: it is a JSON object and not JSON text inside a JSON string, and there is no
//! `yt_client_config`, which was a pickle that held the token; the token is in `YT_TOKEN`.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use tractorun_contract::job_spec::Links;
use tractorun_contract::topology::Topology;

use super::config::Config;
use crate::rendezvous::address::endpoint;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WorkerConfig {
    command: Vec<String>,
    mesh: Mesh,
    port: u16,
    node_index: u32,
    proc_index: u32,
    self_index: u32,
    self_endpoint: String,
    primary_endpoint: String,
    incarnation_id: u32,
    /// Which start of the workers it is, from 0.
    pub(super) attempt: u32,
    /// See [`tractorun_contract::env::STOP_DEADLINE_FILE`].
    stop_deadline_file: String,
    training_dir: TrainingDir,
    operation_id: String,
    job_id: String,
    cluster_config: Links,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Mesh {
    node_count: u32,
    process_per_node: u32,
    gpu_per_process: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the names that Python code reads")]
struct TrainingDir {
    base_path: String,
    primary_lock_path: String,
    incarnations_path: String,
    models_path: String,
    checkpoints_path: String,
    logs_path: String,
    worker_logs_path: String,
    sidecar_logs_path: String,
}

impl WorkerConfig {
    /// The config of one worker.
    pub(super) fn new(
        config: &Config,
        incarnation: u32,
        topology: &Topology,
        local_rank: u32,
        stop_deadline_file: &Path,
    ) -> Self {
        let rank = config.mesh.rank(config.node_rank, local_rank);
        let base = &config.yt_path;
        let self_endpoint = topology.workers.get(rank as usize).map(|worker| worker.address.clone());
        Self {
            command: config.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            mesh: Mesh {
                node_count: config.mesh.node_count,
                process_per_node: config.mesh.process_per_node,
                gpu_per_process: config.mesh.gpu_per_process,
            },
            port: config.ports.get(local_rank as usize).copied().unwrap_or_default(),
            node_index: config.node_rank,
            proc_index: local_rank,
            self_index: rank,
            self_endpoint: self_endpoint.unwrap_or_default(),
            primary_endpoint: endpoint(&topology.master_host, topology.master_port),
            incarnation_id: incarnation,
            attempt: 0,
            stop_deadline_file: stop_deadline_file.to_string_lossy().into_owned(),
            training_dir: TrainingDir {
                base_path: base.clone(),
                primary_lock_path: format!("{base}/primary_lock"),
                incarnations_path: format!("{base}/incarnations"),
                models_path: format!("{base}/models"),
                checkpoints_path: format!("{base}/checkpoints"),
                logs_path: format!("{base}/logs"),
                worker_logs_path: format!("{base}/logs/{incarnation}/workers"),
                sidecar_logs_path: format!("{base}/logs/{incarnation}/sidecars"),
            },
            operation_id: config.operation_id.clone(),
            job_id: config.job_id.clone(),
            cluster_config: config.links.clone(),
        }
    }

    /// Writes it for the worker's user alone.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // An older file keeps its mode otherwise.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&json)
    }
}

#[cfg(test)]
mod tests {
    use tractorun_contract::topology::WorkerAddress;

    use super::*;
    use crate::job::config::tests::config_of;

    #[test]
    fn it_is_a_private_file_with_the_python_names_and_no_token() {
        let workers = (0..8)
            .map(|rank| WorkerAddress { address: format!("h:{rank}"), job_id: String::new() })
            .collect();
        let topology = Topology { workers, master_host: "::1".into(), master_port: 7000 };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let config = config_of(&[], |spec| {
            spec.links.cypress_link_template = Some("https://ui/navigation?path={path}".into());
        });
        WorkerConfig::new(&config, 3, &topology, 2, Path::new("/s/stop")).write(&path).unwrap();

        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("t0ken"));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "command": ["python3", "train.py", "--epochs", "3"],
                "mesh": {"node_count": 2, "process_per_node": 4, "gpu_per_process": 1},
                "port": 7002,
                "node_index": 1,
                "proc_index": 2,
                "self_index": 6,
                "self_endpoint": "h:6",
                "primary_endpoint": "[::1]:7000",
                "incarnation_id": 3,
                "attempt": 0,
                "stop_deadline_file": "/s/stop",
                "training_dir": {
                    "base_path": "//tmp/training",
                    "primary_lock_path": "//tmp/training/primary_lock",
                    "incarnations_path": "//tmp/training/incarnations",
                    "models_path": "//tmp/training/models",
                    "checkpoints_path": "//tmp/training/checkpoints",
                    "logs_path": "//tmp/training/logs",
                    "worker_logs_path": "//tmp/training/logs/3/workers",
                    "sidecar_logs_path": "//tmp/training/logs/3/sidecars",
                },
                "operation_id": "1-2-3-4",
                "job_id": "5-6-7-8",
                "cluster_config": {
                    "cypress_link_template": "https://ui/navigation?path={path}",
                    "job_stderr_link_template": null,
                },
            })
        );
    }
}
