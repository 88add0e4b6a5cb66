//! Who has joined, who is ready, who is missing, and how all will call rank 0. No IO.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tractorun_contract::failure::{Failure, Fates};
use tractorun_contract::job_spec::Mesh;
use tractorun_contract::topology::{Topology, WorkerAddress};

use super::MetricsTarget;
use super::address::endpoint;
use super::board::Jobs;
use super::missing::{LastSeen, describe};
use crate::control::progress::Progress;
use crate::control::wire::{Join, ReachedBy, Retry};

/// The nodes that have joined so far; node 0 from the beginning.
#[derive(Debug)]
pub(super) struct Gathering {
    mesh: Mesh,
    members: BTreeMap<u32, Member>,
    /// What was last seen of nodes that were here and are not.
    left: BTreeMap<u32, LastSeen>,
}

/// A node that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Host, as the node calls itself.
    pub(super) host: String,
    pub(super) job_id: String,
    /// Ports of its workers.
    pub(super) ports: Vec<u16>,
    /// Port of its metrics, if it serves any.
    pub(super) metrics_port: Option<u16>,
    /// How it reached the leader; none for the leader.
    pub(super) reached_by: Option<ReachedBy>,
    /// How far it is.
    pub(super) progress: Progress,
}

/// How the leader may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeaderName {
    /// By this and nothing else: somebody said so.
    Given(String),
    /// By its host name, which the leader itself can use.
    Host(String),
    /// Its host name does not lead to it, at least not from itself.
    Unusable,
}

/// What a join did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// The node is new.
    New,
    /// The same job was here before: it lost its connection.
    Again,
}

// === impl Gathering ===

impl Gathering {
    pub(super) fn new(mesh: Mesh, leader: Member) -> Self {
        Self { mesh, members: BTreeMap::from([(0, leader)]), left: BTreeMap::new() }
    }

    /// Whether a join may be accepted; else why not.
    pub(super) fn check(&self, join: &Join) -> Result<(), (String, Retry)> {
        let Mesh { node_count, process_per_node, .. } = self.mesh;
        if join.node_rank == 0 || join.node_rank >= node_count {
            let rank = join.node_rank;
            return Err((
                format!("node rank {rank} is none of this run: expected one from 1 to {}", node_count - 1),
                Retry::Never,
            ));
        }
        if join.ports.len() != process_per_node as usize {
            let count = join.ports.len();
            return Err((format!("{count} ports: expected {process_per_node}"), Retry::Never));
        }
        // Whoever came first may be dead without our knowing: then its connection ends by its heartbeats, and the
        // other one, which tries again, is let in.
        if let Some(member) = self.members.get(&join.node_rank).filter(|member| member.job_id != join.job_id)
        {
            let Member { job_id, host, .. } = member;
            let rank = join.node_rank;
            let reason =
                format!("node {rank} is here already: job {job_id} on {host}; this is job {}", join.job_id);
            return Err((reason, Retry::Later));
        }
        Ok(())
    }

    /// Counts a node in. A second join of the same job replaces its first.
    pub(super) fn join(&mut self, join: Join) -> Joined {
        let Join {
            protocol: _,
            key: _,
            incarnation: _,
            node_rank,
            job_id,
            host,
            ports,
            metrics_port,
            reached_by,
            progress,
        } = join;
        self.left.remove(&node_rank);
        let member = Member { host, job_id, ports, metrics_port, reached_by: Some(reached_by), progress };
        match self.members.insert(node_rank, member) {
            None => Joined::New,
            Some(_) => Joined::Again,
        }
    }

    /// Notes how far a node is.
    pub(super) fn advance(&mut self, node_rank: u32, progress: Progress) {
        if let Some(member) = self.members.get_mut(&node_rank) {
            member.progress = progress;
        }
    }

    /// Counts a node out, whose connection ended for that reason.
    pub(super) fn leave(&mut self, node_rank: u32, reason: String) {
        if let Some(member) = self.members.remove(&node_rank) {
            let doing = member.progress.to_string();
            self.left.insert(node_rank, LastSeen::Left { doing, reason });
        }
    }

    /// What a node that cannot begin makes of the run.
    pub(super) fn failure_of(&self, node_rank: u32) -> Option<Failure> {
        let Member { host, job_id, progress: Progress::Failed { cause, exit_code }, .. } =
            self.members.get(&node_rank)?
        else {
            return None;
        };
        Some(Failure {
            cause: cause.clone(),
            rank: None,
            node_rank,
            host: host.clone(),
            job_id: job_id.clone(),
            attempt: 0,
            exit_code: *exit_code,
            elapsed_seconds: 0.0,
            stderr_tail: Vec::new(),
            not_restarted: None,
            oom: None,
            others: Fates::default(),
        })
    }

    /// Whether all are here and ready.
    pub(super) fn is_complete(&self) -> bool {
        self.members.len() == self.mesh.node_count as usize
            && self.members.values().all(|member| member.progress == Progress::Ready)
    }

    /// Whether some nodes are not here.
    pub(super) fn lacks_nodes(&self) -> bool {
        self.members.len() < self.mesh.node_count as usize
    }

    /// Who is waited for: `2 of 4 nodes are ready, waiting for 1 (unpacking); 3 (not here)`.
    pub(super) fn waiting(&self, jobs: Option<&Jobs>) -> String {
        let node_count = self.mesh.node_count;
        let waited_for = (0..node_count).filter_map(|rank| match self.members.get(&rank) {
            Some(Member { progress: Progress::Ready, .. }) => None,
            Some(Member { progress, .. }) => Some((rank, LastSeen::Here(progress.to_string()))),
            None => Some((rank, self.left.get(&rank).cloned().unwrap_or(LastSeen::Never))),
        });
        let ready = self.members.values().filter(|member| member.progress == Progress::Ready).count();
        format!("{ready} of {node_count} nodes are ready, waiting for {}", describe(waited_for, jobs))
    }

    /// Where the nodes that have joined serve their metrics.
    pub(super) fn metrics_targets(&self) -> Vec<MetricsTarget> {
        let target = |(node_rank, member): (&u32, &Member)| {
            let address = endpoint(&member.host, member.metrics_port?);
            Some(MetricsTarget { node_rank: *node_rank, address })
        };
        self.members.iter().filter_map(target).collect()
    }

    /// The topology of a complete gathering.
    pub(super) fn topology(&self, leader: &LeaderName) -> Topology {
        let workers = self
            .members
            .values()
            .flat_map(|member| {
                member.ports.iter().map(|port| WorkerAddress {
                    address: endpoint(&member.host, *port),
                    job_id: member.job_id.clone(),
                })
            })
            .collect();
        let master_port = self.members.get(&0).and_then(|leader| leader.ports.first()).copied().unwrap_or(0);
        Topology { workers, master_host: self.master_host(leader), master_port }
    }

    /// By what name or address every worker, those of node 0 included, can reach rank 0.
    fn master_host(&self, leader: &LeaderName) -> String {
        let reached: Vec<ReachedBy> = self.members.values().filter_map(|member| member.reached_by).collect();
        let by_name = reached.iter().all(|reached| matches!(reached, ReachedBy::Name(_)));
        match leader {
            LeaderName::Given(host) => return host.clone(),
            LeaderName::Host(name) if by_name => return name.clone(),
            LeaderName::Host(_) | LeaderName::Unusable => {}
        }
        // A node that came by an address could not use the name, so its address counts before those that
        // the name led others to; among equals the one that most used.
        let mut votes: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
        for way in reached {
            let (needed, used) = votes.entry(way.address()).or_default();
            match way {
                ReachedBy::Address(_) => *needed += 1,
                ReachedBy::Name(_) => *used += 1,
            }
        }
        let best = votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(address, _)| address);
        best.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use tractorun_contract::failure::Cause;

    use super::*;
    use crate::control::progress::Step;
    use crate::control::wire::{JoinKey, PROTOCOL};

    const NAME: &str = "host0";

    fn mesh(node_count: u32) -> Mesh {
        Mesh { node_count, process_per_node: 2, gpu_per_process: 0 }
    }

    fn join(node_rank: u32, reached_by: ReachedBy) -> Join {
        let port = 7000 + u16::try_from(node_rank).unwrap() * 10;
        Join {
            protocol: PROTOCOL,
            key: JoinKey::new(""),
            incarnation: 0,
            node_rank,
            job_id: format!("job{node_rank}"),
            host: format!("host{node_rank}"),
            ports: vec![port, port + 1],
            metrics_port: Some(port + 3),
            reached_by,
            progress: Progress::Ready,
        }
    }

    fn gathering(ways: &[ReachedBy]) -> Gathering {
        let leader = Member {
            host: NAME.into(),
            job_id: "job0".into(),
            ports: vec![7000, 7001],
            metrics_port: None,
            reached_by: None,
            progress: Progress::Ready,
        };
        let mut gathering = Gathering::new(mesh(u32::try_from(ways.len()).unwrap() + 1), leader);
        for (rank, way) in (1..).zip(ways) {
            assert_eq!(gathering.join(join(rank, *way)), Joined::New);
        }
        gathering
    }

    fn name(last: u8) -> ReachedBy {
        ReachedBy::Name(IpAddr::from([10, 0, 0, last]))
    }

    fn address(last: u8) -> ReachedBy {
        ReachedBy::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn master_host_is_one_that_all_can_use() {
        let host = || LeaderName::Host(NAME.into());
        let cases: &[(LeaderName, &[ReachedBy], &str)] = &[
            // One node: its name if it leads to it.
            (host(), &[], NAME),
            (LeaderName::Unusable, &[], "127.0.0.1"),
            (LeaderName::Given("127.0.0.1".into()), &[], "127.0.0.1"),
            // All by name.
            (host(), &[name(1), name(1)], NAME),
            // All by name, but the leader itself could not: the address behind it.
            (LeaderName::Unusable, &[name(1), name(1)], "10.0.0.1"),
            // Some could not use the name.
            (host(), &[name(1), address(1)], "10.0.0.1"),
            (host(), &[name(1), name(1), address(2)], "10.0.0.2"),
            (host(), &[address(1), address(2), address(2)], "10.0.0.2"),
            // What was said counts.
            (LeaderName::Given("gpu0.svc".into()), &[address(1), name(1)], "gpu0.svc"),
        ];
        for (leader, ways, expected) in cases {
            assert_eq!(gathering(ways).topology(leader).master_host, *expected, "{leader:?} {ways:?}");
        }
    }

    #[test]
    fn topology_lists_workers_by_rank_whatever_order_they_came_in() {
        let mut gathering = gathering(&[name(1), name(1)]);
        gathering.leave(1, "closed".into());
        assert!(!gathering.is_complete());
        assert_eq!(gathering.join(join(1, name(1))), Joined::New);
        assert!(gathering.is_complete());
        let topology = gathering.topology(&LeaderName::Host(NAME.into()));
        let addresses: Vec<_> = topology.workers.iter().map(|worker| worker.address.as_str()).collect();
        assert_eq!(
            addresses,
            ["host0:7000", "host0:7001", "host1:7010", "host1:7011", "host2:7020", "host2:7021"]
        );
        assert_eq!(topology.workers[3].job_id, "job1");
        assert_eq!(topology.master_port, 7000);
    }

    #[test]
    fn metrics_are_where_nodes_say_they_serve_them() {
        let target = |node_rank, address: &str| MetricsTarget { node_rank, address: address.into() };
        assert_eq!(
            gathering(&[name(1), name(1)]).metrics_targets(),
            [target(1, "host1:7013"), target(2, "host2:7023")]
        );
    }

    #[test]
    fn a_job_that_joins_again_replaces_itself_and_another_one_waits_until_it_is_gone() {
        let mut gathering = gathering(&[name(1)]);
        let again = Join { host: "renamed".into(), ..join(1, name(1)) };
        assert_eq!(gathering.check(&again), Ok(()));
        assert_eq!(gathering.join(again), Joined::Again);
        let other = Join { job_id: "other".into(), ..join(1, name(1)) };
        let reason = "node 1 is here already: job job1 on renamed; this is job other";
        assert_eq!(gathering.check(&other), Err((reason.into(), Retry::Later)));
        gathering.leave(1, "connection closed".into());
        assert_eq!(gathering.check(&other), Ok(()));
        assert_eq!(gathering.join(other), Joined::New);
        let topology = gathering.topology(&LeaderName::Unusable);
        assert_eq!(topology.workers[2].job_id, "other");
        assert_eq!(topology.workers.len(), 4);
    }

    #[test]
    fn who_is_not_ready_is_named_with_what_it_does() {
        let mut gathering = gathering(&[name(1); 4]);
        assert!(gathering.is_complete());
        gathering.advance(2, Progress::Preparing([Step::Unpack].into()));
        assert!(!gathering.is_complete() && !gathering.lacks_nodes());
        assert_eq!(gathering.waiting(None), "4 of 5 nodes are ready, waiting for 2 (unpacking)");
        gathering.leave(2, "connection closed".into());
        gathering.leave(4, "no heartbeat for 30 s".into());
        assert!(gathering.lacks_nodes());
        assert_eq!(
            gathering.waiting(None),
            "3 of 5 nodes are ready, waiting for 2 (left while unpacking: connection closed); \
             4 (left while ready: no heartbeat for 30 s)"
        );
        // What was last seen of a node is over when it comes again.
        gathering.join(join(2, name(1)));
        gathering.leave(2, "connection closed".into());
        assert!(gathering.waiting(None).contains("2 (left while ready: connection closed)"));
    }

    #[test]
    fn a_node_that_cannot_begin_is_the_verdict() {
        let mut gathering = gathering(&[name(1)]);
        assert_eq!(gathering.failure_of(1), None);
        let cause = Cause::StartUpFailed { reason: "cannot unpack `a`".into() };
        gathering.advance(1, Progress::Failed { cause, exit_code: 64 });
        let failure = gathering.failure_of(1).unwrap();
        assert_eq!(failure.to_string(), "node 1 (host1) could not begin: cannot unpack `a`");
        assert_eq!((failure.exit_code, failure.job_id.as_str()), (64, "job1"));
        assert_eq!(gathering.failure_of(7), None);
    }

    #[test]
    fn joins_that_cannot_be_are_refused() {
        let gathering = gathering(&[name(1)]);
        let text = |join: &Join| gathering.check(join).unwrap_err().0;
        assert_eq!(text(&join(0, name(1))), "node rank 0 is none of this run: expected one from 1 to 1");
        assert_eq!(text(&join(2, name(1))), "node rank 2 is none of this run: expected one from 1 to 1");
        let few = Join { ports: vec![1], ..join(1, name(1)) };
        assert_eq!(text(&few), "1 ports: expected 2");
        assert_eq!(gathering.check(&join(1, name(1))), Ok(()));
    }
}
