//! Every environment name that we read or set. No other module spells one.

/// Names that YTsaurus sets in a job and init reads.
pub mod yt {
    /// Operation id.
    pub const OPERATION_ID: &str = "YT_OPERATION_ID";
    /// Job id; its presence means "inside a job".
    pub const JOB_ID: &str = "YT_JOB_ID";
    /// Number of the job in its task, kept over restarts: the node rank.
    pub const JOB_COOKIE: &str = "YT_JOB_COOKIE";
    /// `YT_PORT_<i>`: the ports that the cluster reserved for the job.
    pub const PORT_PREFIX: &str = "YT_PORT_";
    /// Text YSON of the whole secure vault.
    pub const SECURE_VAULT: &str = "YT_SECURE_VAULT";
    /// `YT_SECURE_VAULT_<key>`: one value of the secure vault.
    pub const SECURE_VAULT_PREFIX: &str = "YT_SECURE_VAULT_";
}

/// Names that the YT clients (Python's and ours) read.
pub mod client {
    /// Proxy: a URL, `host:port` or a bare cluster name.
    pub const PROXY: &str = "YT_PROXY";
    /// Token.
    pub const TOKEN: &str = "YT_TOKEN";
    /// File that holds the token.
    pub const TOKEN_PATH: &str = "YT_TOKEN_PATH";
    /// File with the roots that the proxy's certificate is checked against.
    pub const CA_BUNDLE: &str = "YT_CA_BUNDLE";
    /// YSON map of cluster names to proxy URLs.
    pub const PROXY_URL_ALIASING_CONFIG: &str = "YT_PROXY_URL_ALIASING_CONFIG";
    /// Lets the Python client use plain HTTP inside a job.
    pub const ALLOW_HTTP_FROM_JOB: &str = "YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB";
    /// The user's config as JSON.
    pub const USER_CONFIG: &str = "YT_USER_CONFIG";
    /// Docker image the launcher falls back to first.
    pub const BASE_LAYER: &str = "YT_BASE_LAYER";
    /// Docker image the launcher falls back to second.
    pub const JOB_DOCKER_IMAGE: &str = "YT_JOB_DOCKER_IMAGE";
}

/// Names that a worker finds and any PyTorch or JAX script understands.
pub mod worker {
    /// Host of rank 0.
    pub const MASTER_ADDR: &str = "MASTER_ADDR";
    /// Port of rank 0.
    pub const MASTER_PORT: &str = "MASTER_PORT";
    /// Workers of the whole job.
    pub const WORLD_SIZE: &str = "WORLD_SIZE";
    /// Rank of the node.
    pub const NODE_RANK: &str = "NODE_RANK";
    /// Rank of the worker on its node.
    pub const LOCAL_RANK: &str = "LOCAL_RANK";
    /// Rank of the worker in the job.
    pub const RANK: &str = "RANK";
    /// torchrun: workers on this node.
    pub const LOCAL_WORLD_SIZE: &str = "LOCAL_WORLD_SIZE";
    /// torchrun: rank of the node.
    pub const GROUP_RANK: &str = "GROUP_RANK";
    /// torchrun: number of nodes.
    pub const GROUP_WORLD_SIZE: &str = "GROUP_WORLD_SIZE";
    /// torchrun: rank within the role; we have one role.
    pub const ROLE_RANK: &str = "ROLE_RANK";
    /// torchrun: size of the role.
    pub const ROLE_WORLD_SIZE: &str = "ROLE_WORLD_SIZE";
    /// torchrun: name of the role.
    pub const ROLE_NAME: &str = "ROLE_NAME";
    /// torchrun: restarts so far, our attempt.
    pub const TORCHELASTIC_RESTART_COUNT: &str = "TORCHELASTIC_RESTART_COUNT";
    /// torchrun: restarts allowed.
    pub const TORCHELASTIC_MAX_RESTARTS: &str = "TORCHELASTIC_MAX_RESTARTS";
    /// torchrun: name of the run, our operation id.
    pub const TORCHELASTIC_RUN_ID: &str = "TORCHELASTIC_RUN_ID";
    /// JAX: `host:port` of process 0.
    pub const JAX_COORDINATOR_ADDRESS: &str = "JAX_COORDINATOR_ADDRESS";
    /// JAX: number of processes.
    pub const JAX_NUM_PROCESSES: &str = "JAX_NUM_PROCESSES";
    /// JAX: rank of the process.
    pub const JAX_PROCESS_ID: &str = "JAX_PROCESS_ID";
    /// Path of the worker's own JSON: mesh, indices, endpoints, incarnation, paths.
    pub const TRACTO_CONFIG: &str = "TRACTO_CONFIG";
    /// `TensorStore` and what reads through it: `host:port` of the node's tensorproxy.
    pub const TS_GRPC_ADDRESS: &str = "TS_GRPC_ADDRESS";
    /// Python's module path, which the bound libraries are put in front of.
    pub const PYTHONPATH: &str = "PYTHONPATH";
    /// Threads of a parallel region of OpenMP, and of most libraries for numbers.
    pub const OMP_NUM_THREADS: &str = "OMP_NUM_THREADS";
    /// Keeps Python from writing `__pycache__` into folders that the job only borrows.
    pub const PYTHONDONTWRITEBYTECODE: &str = "PYTHONDONTWRITEBYTECODE";
}

/// Names that GPU drivers and libraries read.
pub mod gpu {
    /// CUDA: the GPUs to use, as numbers or UUIDs, in the order they are counted.
    pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
    /// CUDA: in which order GPUs are counted.
    pub const CUDA_DEVICE_ORDER: &str = "CUDA_DEVICE_ORDER";
    /// Value of it: as `nvidia-smi` counts.
    pub const PCI_BUS_ID: &str = "PCI_BUS_ID";
    /// NVIDIA's container runtime: the GPUs a container gets.
    pub const NVIDIA_VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
    /// AMD's HIP: the GPUs to use.
    pub const HIP_VISIBLE_DEVICES: &str = "HIP_VISIBLE_DEVICES";
    /// AMD's runtime below HIP: the GPUs there are for it.
    pub const ROCR_VISIBLE_DEVICES: &str = "ROCR_VISIBLE_DEVICES";
}

/// Path of the job spec; its presence makes `tractorun-init` a job's init.
pub const JOB_SPEC: &str = "TRACTORUN_JOB_SPEC";

/// Key of the secure vault that holds init's token.
pub const VAULT_YT_TOKEN: &str = "tractorun_yt_token";

/// Key of the secure vault that holds the Docker registry's credentials.
pub const VAULT_DOCKER_AUTH: &str = "docker_auth";

/// Host that other nodes reach this one by, instead of the host name and addresses found: set by `--local`.
pub const ADVERTISE_HOST: &str = "TRACTORUN_ADVERTISE_HOST";

/// `stdin`: init stops in order when its standard input ends, that is when its launcher is gone.
pub const LIFELINE: &str = "TRACTORUN_LIFELINE";

/// Where workers start instead of the sandbox: set by `--local` without binds, so that `python3 train.py` means
/// the file in front of the user.
pub const WORKING_DIRECTORY: &str = "TRACTORUN_WORKING_DIRECTORY";

/// Number of nodes that share this machine and its GPUs: set by `--local`.
pub const NODES_HERE: &str = "TRACTORUN_NODES_HERE";

/// Folder that stands for `/` where init looks for GPUs and NUMA nodes: in `proc`, `sys` and `dev`. For tests of
/// placement on machines without GPUs.
pub const HARDWARE_ROOT: &str = "TRACTORUN_HARDWARE_ROOT";

/// File with the environment that an image has kept for its jobs, instead of `/etc/tractorun/env`; empty: none. Set to
/// nothing by `--local`, whose jobs have the launcher's own environment.
pub const IMAGE_ENV: &str = "TRACTORUN_IMAGE_ENV";

/// `ADDRESS:PORT` that an init outside a job serves its metrics on, as `--metrics` says it.
pub const METRICS: &str = "TRACTORUN_METRICS";

/// Path of a file that the launcher writes once the operation has started, for a program that called it: the document
/// that `no_wait` prints.
pub const RUN_INFO_FILE: &str = "TRACTORUN_RUN_INFO_FILE";

/// Level of init's own log lines: `error`, `warn`, `info` (default), `debug`, `trace`.
pub const LOG_LEVEL: &str = "TRACTORUN_LOG_LEVEL";

/// Set for sidecars: which of the node's it is.
pub const SIDECAR_INDEX: &str = "TRACTORUN_SIDECAR_INDEX";

/// Set for workers and sidecars: number of the incarnation.
pub const INCARNATION_ID: &str = "TRACTORUN_INCARNATION_ID";

/// Set for workers: number of the attempt within the incarnation.
pub const ATTEMPT: &str = "TRACTORUN_ATTEMPT";

/// Set for workers: path of a file that is not there before the workers are asked to stop by a preemption, and then
/// holds the moment of their SIGKILL: seconds since 1970 as a decimal fraction, on one line. It is there before the
/// signal. A file, because the environment of a process that runs cannot be changed.
pub const STOP_DEADLINE_FILE: &str = "TRACTORUN_STOP_DEADLINE_FILE";

/// Set for workers and sidecars: the run's base directory on the cluster.
pub const YT_PATH: &str = "TRACTORUN_YT_PATH";

/// Where the launcher finds `tractorun-init` if it is not beside it.
pub const INIT_BINARY: &str = "TRACTORUN_INIT";

/// Where the launcher finds `tractorun-minicluster` if it is not beside it.
pub const MINICLUSTER_BINARY: &str = "TRACTORUN_MINICLUSTER";
