//! The nodes of a job one by one: real inits against a minicluster, started, killed and cut off as a test wants.
//!
//! What the launcher does before a job, this does too, with as little as there may be: folders on the notice board, a
//! job spec and the environment of a YT job. So a test decides when each node comes, and where.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::binaries;
use crate::cluster::Cluster;
use crate::process::Running;
use crate::scratch::{MARK, Scratch};

/// A job whose nodes are started by hand.
pub struct Nodes<'a> {
    scratch: &'a Scratch,
    /// Name of the run: of its folder here and on the cluster.
    name: String,
    node_count: u32,
    process_per_node: u32,
    control_port: u16,
    operation_id: String,
    spec: Value,
}

/// What is particular about one node.
#[derive(Default)]
pub struct Particulars<'a> {
    /// What starts init, such as `ip netns exec NAME`; nothing for init itself.
    pub by: &'a [&'a str],
    /// Address that others reach it by; loopback without one.
    pub host: Option<&'a str>,
    /// Port for its metrics, if it has one.
    pub metrics_port: Option<u16>,
    /// Another job id than the one of its rank.
    pub job_id: Option<&'a str>,
}

impl<'a> Nodes<'a> {
    /// Prepares a run of that name on the cluster.
    pub fn new(
        scratch: &'a Scratch,
        cluster: &Cluster,
        name: &str,
        (node_count, process_per_node): (u32, u32),
        command: &[&str],
    ) -> Self {
        let yt_path = format!("//tmp/{name}");
        cluster.create("map_node", &yt_path, &json!({ "incarnation_id": -1 }));
        for folder in tractorun_contract::cypress::DIRECTORIES {
            cluster.create("map_node", &format!("{yt_path}/{folder}"), &json!({}));
        }
        let spec = json!({
            "version": "1.0",
            "cluster": { "proxy": cluster.proxy() },
            "yt_path": yt_path,
            "mesh": { "node_count": node_count, "process_per_node": process_per_node, "gpu_per_process": 0 },
            "command": command,
            "line_prefix": "rank",
        });
        Self {
            scratch,
            name: name.to_owned(),
            node_count,
            process_per_node,
            control_port: free_port(),
            operation_id: "1-2-3e80001-4".to_owned(),
            spec,
        }
    }

    /// Sets a member of the job spec, for nodes that start after it.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.spec[member] = value;
        self
    }

    /// The same for another cluster address, such as one that network namespaces can reach.
    #[must_use]
    pub fn with_proxy(self, proxy: &str) -> Self {
        self.with("cluster", json!({ "proxy": proxy }))
    }

    /// Makes them nodes of that operation; the cluster knows none otherwise.
    #[must_use]
    pub fn of_operation(self, operation_id: &str) -> Self {
        Self { operation_id: operation_id.to_owned(), ..self }
    }

    /// Base folder of the run on the cluster.
    pub fn yt_path(&self) -> String {
        format!("//tmp/{}", self.name)
    }

    /// Its first failure record.
    pub fn failure(&self, cluster: &Cluster) -> Value {
        cluster.get(&format!("{}/incarnations/00000/@failure", self.yt_path()))
    }

    /// Init of that node in the environment of a job, in a sandbox of its own.
    pub fn command(&self, rank: u32, particulars: &Particulars<'_>) -> Command {
        let Particulars { by, host, metrics_port, job_id } = particulars;
        let sandbox = self.sandbox(rank);
        fs::write(sandbox.join("job-spec.json"), self.spec.to_string()).expect("cannot write a file");
        let init = binaries::init();
        let mut command = match by.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(init);
                command
            }
            None => Command::new(init),
        };
        let job_id = job_id.map_or_else(|| format!("1-2-3840001-{rank:x}"), str::to_owned);
        command
            .env_clear()
            .current_dir(&sandbox)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env(MARK, self.scratch.mark())
            .env("SCRATCH", self.scratch.path(&self.name))
            .env("TRACTORUN_JOB_SPEC", "job-spec.json")
            .env("TRACTORUN_ADVERTISE_HOST", host.unwrap_or("127.0.0.1"))
            .env("YT_OPERATION_ID", &self.operation_id)
            .env("YT_JOB_ID", job_id)
            .env("YT_JOB_COOKIE", rank.to_string());
        // Workers' ports are told and not used here.
        let workers = (0..self.process_per_node).map(|port| u16::try_from(20_000 + port).expect("a port"));
        let control = if rank == 0 { self.control_port } else { 19_999 };
        for (index, port) in workers.chain([control]).chain(*metrics_port).enumerate() {
            command.env(format!("YT_PORT_{index}"), port.to_string());
        }
        command
    }

    /// Starts that node.
    pub fn start(&self, rank: u32) -> Running {
        self.start_with(rank, &Particulars::default())
    }

    /// Starts that node, which is special.
    pub fn start_with(&self, rank: u32, particulars: &Particulars<'_>) -> Running {
        Running::start(&mut self.command(rank, particulars))
    }

    /// Starts all nodes, by rank.
    pub fn start_all(&self) -> Vec<Running> {
        (0..self.node_count).map(|rank| self.start(rank)).collect()
    }

    /// Folder of a node; the folder above it is `SCRATCH` of its workers.
    pub fn sandbox(&self, rank: u32) -> PathBuf {
        let sandbox = self.scratch.path(&format!("{}/node-{rank}", self.name));
        fs::create_dir_all(&sandbox).expect("cannot make a folder");
        sandbox
    }
}

/// A port of this machine that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    listener.local_addr().expect("a listener has an address").port()
}
