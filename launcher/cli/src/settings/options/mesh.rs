//! Shape of the job, what of its node each worker gets, and where it is scheduled.

use super::{
    GivenIn::Both,
    Notation::{Json, Text},
    OptionSpec,
    Takes::{Each, One},
    option,
};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 8] = [
    option("mesh.node-count", "mesh.node_count", Both, One("N", Json), "Nodes (default: 1)"),
    option(
        "mesh.process-per-node",
        "mesh.process_per_node",
        Both,
        One("N", Json),
        "Workers on each node (default: 1)",
    ),
    option(
        "mesh.gpu-per-process",
        "mesh.gpu_per_process",
        Both,
        One("N", Json),
        "GPUs for each worker (default: 0); too few on a node is an error before anything starts",
    ),
    option(
        "mesh.gpu-visibility",
        "mesh.gpu_visibility",
        Both,
        One("all|own", Text),
        "GPUs a worker sees: all of its node, its own from LOCAL_RANK * gpu-per-process on (default), or its own only",
    ),
    option(
        "mesh.cpu-affinity",
        "mesh.cpu_affinity",
        Both,
        One("numa|none", Text),
        "CPUs a worker with GPUs may run on: those of its GPUs' NUMA nodes (default), or all",
    ),
    option(
        "mesh.omp-num-threads",
        "mesh.omp_num_threads",
        Both,
        One("torchrun|auto|N", Text),
        "OMP_NUM_THREADS: 1 where a node has several workers and nothing sets it (torchrun, default), a fair share \
         of the CPUs (auto), or a number; one in --env always counts",
    ),
    option(
        "mesh.pool-trees",
        "mesh.pool_trees",
        Both,
        Each("TREE", Text),
        "Pool tree to schedule in, such as gpu_h100; repeatable",
    ),
    option("mesh.pool", "mesh.pool", Both, One("POOL", Text), "Pool to schedule in"),
];
