//! Which GPUs and CPUs workers get: the part of the job spec about it, and what follows from that alone.
//!
//! What a machine has only its own init knows; see `tractorun-init`'s module `job::placement`.

use std::num::NonZeroU32;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::job_spec::Mesh;

/// How workers are placed on their node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Which GPUs a worker sees.
    pub gpu_visibility: GpuVisibility,
    /// Which CPUs it may run on.
    pub cpu_affinity: CpuAffinity,
    /// What its `OMP_NUM_THREADS` is, where the user does not set that variable.
    pub omp_num_threads: OmpNumThreads,
}

/// Which GPUs a worker sees. Without GPUs in the mesh it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuVisibility {
    /// All of its node; it uses those at `LOCAL_RANK * gpu_per_process` on, as under torchrun.
    #[default]
    All,
    /// Its own, by `CUDA_VISIBLE_DEVICES` and its like.
    Own,
}

/// Which CPUs a worker may run on. Without GPUs in the mesh it says nothing: all that init may run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuAffinity {
    /// Those of the NUMA nodes of its GPUs, where these are known.
    #[default]
    Numa,
    /// All that init may run on.
    None,
}

/// What `OMP_NUM_THREADS` is for workers. A value in the user's own variables always wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmpNumThreads {
    /// As torchrun has it (`torch/distributed/run.py`): 1 where a node has several workers and the environment
    /// says nothing; else the variable is left as it is.
    #[default]
    Torchrun,
    /// The CPUs that a worker may run on, divided by the workers that share them, at least 1.
    Auto,
    /// This many.
    #[serde(untagged)]
    Count(NonZeroU32),
}

impl Placement {
    /// Whether it asks for nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Mesh {
    /// GPUs that a node needs.
    pub fn gpus_per_node(self) -> u32 {
        self.process_per_node.saturating_mul(self.gpu_per_process)
    }

    /// Which of its node's GPUs a worker uses, counted in the node's order.
    pub fn gpus_of(self, local_rank: u32) -> Range<u32> {
        let first = local_rank.saturating_mul(self.gpu_per_process);
        first..first.saturating_add(self.gpu_per_process)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_written_by_words_and_numbers() {
        let placement = |json| serde_json::from_value::<Placement>(json);
        assert_eq!(placement(json!({})).unwrap(), Placement::default());
        for (written, omp_num_threads) in [
            (json!("torchrun"), OmpNumThreads::Torchrun),
            (json!("auto"), OmpNumThreads::Auto),
            (json!(4), OmpNumThreads::Count(NonZeroU32::new(4).unwrap())),
        ] {
            let json = json!({"gpu_visibility": "own", "cpu_affinity": "none", "omp_num_threads": written});
            let expected = Placement {
                gpu_visibility: GpuVisibility::Own,
                cpu_affinity: CpuAffinity::None,
                omp_num_threads,
            };
            assert_eq!(placement(json.clone()).unwrap(), expected);
            assert_eq!(serde_json::to_value(expected).unwrap(), json);
        }
        assert!(placement(json!({"omp_num_threads": 0})).is_err());
    }

    #[test]
    fn gpus_go_worker_by_worker() {
        let mesh = Mesh { node_count: 2, process_per_node: 4, gpu_per_process: 2 };
        assert_eq!(mesh.gpus_per_node(), 8);
        assert_eq!(mesh.gpus_of(3), 6..8);
        assert_eq!(Mesh { gpu_per_process: 0, ..mesh }.gpus_of(3), 0..0);
    }
}
