//! Who supervises the workers of a node: ours and its peers, each started by one command that runs
//! [`crate::worker`] eight times.

use std::process::Command;

use tractorun_tests::bench::{Figure, Row, peers};
use tractorun_tests::nodes::Particulars;
use tractorun_tests::{Cluster, Nodes, Scratch};

/// Workers of each.
pub(crate) const WORKERS: u32 = 8;

/// A peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Its agent, as newer versions look after their workers: every 0.1 s. This one's own would be 5 s.
    Torchrun,
    /// Its bootstrap.
    PythonTractorun,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Torchrun => "torchrun",
            Self::PythonTractorun => peers::PYTHON_TRACTORUN,
        }
    }

    /// Those that are installed.
    pub(crate) fn installed() -> Vec<Self> {
        let torchrun = peers::has_torchrun().then_some(Self::Torchrun);
        torchrun.into_iter().chain(peers::has_python_tractorun().then_some(Self::PythonTractorun)).collect()
    }

    /// The command that starts it, with that many restarts.
    pub(crate) fn command(self, scratch: &Scratch, cluster: &Cluster, name: &str, restarts: u32) -> Command {
        let own = own_path();
        match self {
            Self::Torchrun => {
                let restarts = format!("--max_restarts={restarts}");
                let workers = format!("--nproc_per_node={WORKERS}");
                let options = ["--standalone", "--monitor_interval=0.1", &restarts, &workers];
                peers::torchrun(scratch, name, &[&options[..], &["--no_python", &own, "worker"]].concat())
            }
            Self::PythonTractorun => {
                peers::python_bootstrap(scratch, cluster, name, WORKERS, &[&own, "worker"])
            }
        }
    }
}

/// Our init of the only node, as a job starts it.
pub(crate) fn init(scratch: &Scratch, cluster: &Cluster, name: &str) -> Command {
    let nodes = Nodes::new(scratch, cluster, name, (1, WORKERS), &[&own_path(), "worker"]);
    nodes.command(0, &Particulars::default())
}

/// This program, which is the workers too.
pub(crate) fn own_path() -> String {
    let own = std::env::current_exe().expect("a running program has a path");
    own.to_str().expect("a plain path").to_owned()
}

/// A row of the table for each peer, ours in each; ours alone where there is none.
pub(crate) fn rows(row: &Row<'_>, theirs: &[(Peer, Figure)]) {
    if theirs.is_empty() {
        row.clone().print();
    }
    for (peer, figure) in theirs {
        row.clone().beside(peer.name(), *figure);
    }
}
