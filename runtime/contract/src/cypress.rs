//! Paths and attributes under `yt_path`, as the Python tractorun lays them out.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_python_tractorun() {
        assert_eq!(incarnation("//tmp/x", 7), "//tmp/x/incarnations/00007");
        assert_eq!(primary_lock("//tmp/x"), "//tmp/x/primary_lock");
    }
}
