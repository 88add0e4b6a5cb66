//! Paths and attributes under `yt_path`, as the Python tractorun lays them out.

use crate::sidecar::SidecarId;

/// Attribute of `yt_path` with the number of the newest incarnation; -1 before the first.
pub const INCARNATION_ID: &str = "incarnation_id";

/// Attributes of an incarnation's node.
pub mod incarnation {
    /// Id of the transaction that fences the incarnation.
    pub const TRANSACTION_ID: &str = "incarnation_transaction_id";
    /// Id of the operation it belongs to.
    pub const OPERATION_ID: &str = "incarnation_operation_id";
    /// `host:port` of rank 0.
    pub const PRIMARY_ENDPOINT: &str = "primary_endpoint";
    /// List over all ranks of `{address; job_id}`, written once when all nodes have met.
    pub const TOPOLOGY: &str = "topology";
    /// Ours: list over all nodes of the `host:port` where each serves its metrics, an entity for one that does not;
    /// written with the topology.
    pub const METRICS_ENDPOINTS: &str = "metrics_endpoints";
    /// Ours: set from outside, to whatever value, it asks the leader to stop the run in order. The leader looks for it
    /// every ten seconds once all nodes have met.
    pub const STOP_REQUESTED: &str = "stop_requested";
    /// Ours: where the leader listens, `{addresses=[..]; port; join_key}`.
    pub const CONTROL_ENDPOINT: &str = "control_endpoint";
}

/// Folders that exist under `yt_path` before the operation starts.
pub const DIRECTORIES: [&str; 5] = ["primary_lock", "incarnations", "models", "checkpoints", "logs"];

/// Node whose exclusive lock makes a node the leader.
pub fn primary_lock(yt_path: &str) -> String {
    format!("{yt_path}/primary_lock")
}

/// Node of one incarnation: `incarnations/00000`.
pub fn incarnation(yt_path: &str, id: u32) -> String {
    format!("{yt_path}/incarnations/{id:05}")
}

/// Folder with the log tables of one incarnation. The Python tractorun writes the number as it is.
pub fn logs(yt_path: &str, incarnation: u32) -> String {
    format!("{yt_path}/logs/{incarnation}")
}

/// Log table of the worker of that global rank.
pub fn worker_log(yt_path: &str, incarnation: u32, rank: u32) -> String {
    format!("{}/workers/{rank}", logs(yt_path, incarnation))
}

/// Log table of a sidecar of the node of that rank, in a job of `node_count` nodes with `sidecar_count` sidecars of the
/// user's each: these are counted node by node, and behind all of them come the tensorproxies by node.
pub fn sidecar_log(
    yt_path: &str,
    incarnation: u32,
    (node_rank, node_count): (u32, u32),
    sidecar_count: u32,
    sidecar: SidecarId,
) -> String {
    // So many sidecars that these do not fit would not fit into memory either.
    let number = match sidecar {
        SidecarId::Index(index) => u64::from(node_rank) * u64::from(sidecar_count) + u64::from(index),
        SidecarId::Tensorproxy => u64::from(node_count) * u64::from(sidecar_count) + u64::from(node_rank),
    };
    format!("{}/sidecars/{number}", logs(yt_path, incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_python_tractorun() {
        assert_eq!(incarnation("//tmp/x", 7), "//tmp/x/incarnations/00007");
        assert_eq!(primary_lock("//tmp/x"), "//tmp/x/primary_lock");
        assert_eq!(worker_log("//tmp/x", 7, 12), "//tmp/x/logs/7/workers/12");
        let sidecar = |sidecar| sidecar_log("//tmp/x", 0, (3, 5), 2, sidecar);
        assert_eq!(sidecar(SidecarId::Index(1)), "//tmp/x/logs/0/sidecars/7");
        // The last of the user's is 9.
        assert_eq!(sidecar(SidecarId::Tensorproxy), "//tmp/x/logs/0/sidecars/13");
    }
}
