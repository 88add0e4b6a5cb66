//! Who is where: ranks, endpoints, and the order of both.

use serde::{Deserialize, Serialize};

use crate::job_spec::Mesh;

/// One worker as `incarnations/<n>/@topology` lists it, by rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAddress {
    /// `host:port` of the worker; the port is its own `YT_PORT_<local rank>`.
    pub address: String,
    /// YT job id of its node.
    pub job_id: String,
}

/// What every node learns when all have met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// All workers by rank.
    pub workers: Vec<WorkerAddress>,
    /// Host of rank 0 by a name or address that every node can reach: `MASTER_ADDR`.
    pub master_host: String,
    /// Port of rank 0: `MASTER_PORT`.
    pub master_port: u16,
}

impl Mesh {
    /// Number of workers of the whole job: `WORLD_SIZE`.
    pub fn world_size(self) -> u32 {
        self.node_count * self.process_per_node
    }

    /// Global rank of a worker: nodes one after the other.
    pub fn rank(self, node_rank: u32, local_rank: u32) -> u32 {
        node_rank * self.process_per_node + local_rank
    }

    /// Number of ports each node asks the cluster for: one for each worker, one for the control channel and one
    /// for metrics.
    pub fn port_count(self) -> u32 {
        self.process_per_node + 2
    }

    /// Index of the control channel's port among the node's ports.
    pub fn control_port_index(self) -> u32 {
        self.process_per_node
    }

    /// Index of the metrics port among the node's ports. Launchers of job spec 1.0 do not ask for it: where it is
    /// missing the node has no metrics.
    pub fn metrics_port_index(self) -> u32 {
        self.process_per_node + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_node_by_node() {
        let mesh = Mesh { node_count: 3, process_per_node: 4, gpu_per_process: 1 };
        assert_eq!(mesh.world_size(), 12);
        assert_eq!(mesh.rank(2, 1), 9);
        assert_eq!(mesh.port_count(), 6);
        assert_eq!((mesh.control_port_index(), mesh.metrics_port_index()), (4, 5));
    }
}
