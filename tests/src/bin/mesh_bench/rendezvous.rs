//! How long nodes take to meet after the last one came, and what it costs the cluster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tractorun_tests::nodes::{Particulars, free_port};
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;

/// Followers whose requests are counted.
const SAMPLES: u32 = 8;

pub(crate) fn measure() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    for count in [100, 1000] {
        meet(&scratch, &cluster, count);
    }
}

fn meet(scratch: &Scratch, cluster: &Cluster, count: u32) {
    let name = format!("meet{count}");
    let nodes = Nodes::new(scratch, cluster, &name, (count, 1), &["/bin/sleep", "600"]);
    let sampled: Vec<(u32, u16)> =
        (0..SAMPLES.min(count - 1)).map(|it| (1 + it * (count - 1) / SAMPLES, free_port())).collect();
    let mut group = Group::new();
    let start = |group: &mut Group, rank: u32| {
        let metrics_port = sampled.iter().find(|(sample, _)| *sample == rank).map(|(_, port)| *port);
        group.start(&mut nodes.command(rank, &Particulars { metrics_port, ..Particulars::default() }))
    };
    let leader_port = free_port();
    let special = Particulars { metrics_port: Some(leader_port), ..Particulars::default() };
    let begin = Instant::now();
    let leader = group.start(&mut nodes.command(0, &special));
    group.wait_for("leading incarnation", 1);
    for rank in 1..count - 1 {
        start(&mut group, rank);
    }
    group.wait_for("has joined", count as usize - 2);
    let before = begin.elapsed().as_secs_f64();
    let last = Instant::now();
    start(&mut group, count - 1);
    group.wait_for("nodes have met", count as usize);
    let seconds = last.elapsed().as_secs_f64();
    let requests: Vec<u64> = sampled.iter().map(|(_, port)| requests(*port)).collect();
    println!(
        "rendezvous of {count} nodes: {seconds:.3} s from the start of the last init until all have met \
         ({before:.1} s to start the others); Cypress requests: {} to {} of a node, {} of the leader",
        requests.iter().min().unwrap_or(&0),
        requests.iter().max().unwrap_or(&0),
        self::requests(leader_port)
    );
    kill(Pid::from_raw(i32::try_from(leader).expect("a process id fits")), Signal::SIGTERM)
        .expect("the leader is there");
    group.end();
}

/// Requests to the cluster that the init with that metrics port has made.
fn requests(port: u16) -> u64 {
    let mut page = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("init serves metrics");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("init takes the request");
    stream.read_to_string(&mut page).expect("init answers");
    let line = page.lines().find_map(|line| line.strip_prefix("tractorun_cypress_requests_total "));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no requests in {page}"))
}
