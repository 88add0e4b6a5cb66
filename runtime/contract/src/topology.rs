//! Who is where: ranks, endpoints, and the order of both.

use serde::{Deserialize, Serialize};

use crate::job_spec::Mesh;

/// Ports of a tensorproxy.
pub const TENSORPROXY_PORT_COUNT: u32 = 2;

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

    /// Number of ports each node needs: one for each worker, one for the control channel and one for metrics. What
    /// it asks the cluster for is [`JobSpec::port_count`](crate::job_spec::JobSpec::port_count).
    pub fn port_count(self) -> u32 {
        // Whoever asks may not have checked the number yet.
        self.process_per_node.saturating_add(2)
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

    /// Indexes of the tensorproxy's ports among the node's ports, where there is one: for gRPC and for monitoring.
    /// They come last, so that no other port moves with them.
    pub fn tensorproxy_port_indexes(self) -> [u32; TENSORPROXY_PORT_COUNT as usize] {
        [self.port_count(), self.port_count() + 1]
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
