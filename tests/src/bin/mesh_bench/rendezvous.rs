//! How long nodes take to meet after the last one came, and what it costs the cluster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::Signal;
use tractorun_tests::bench::{Figure, Row, heading};
use tractorun_tests::nodes::{Particulars, free_port};
use tractorun_tests::{Cluster, Nodes, Scratch};

use crate::lines::Group;
use crate::notes::send;
use crate::torchrun;

/// Followers whose requests are counted.
const SAMPLES: u32 = 8;

/// So many nodes meet, and so many of them have a peer that can do as many on a small machine.
const NODES: [u32; 5] = [16, 32, 64, 100, 1000];
const PEERS_AT_MOST: u32 = 64;

/// What the meeting of some nodes took.
struct Meeting {
    /// After the start of the last one's process.
    seconds: f64,
    /// Requests to the cluster, of the node with most and of the leader.
    requests: [u64; 2],
}

pub(crate) fn measure() {
    heading("Rendezvous: the last of the nodes comes until all have met, one machine");
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let mut requests = Vec::new();
    for count in NODES {
        let meeting = meet(&scratch, &cluster, count);
        let what = format!("{count} nodes, from the start of the last one's process");
        let row = Row::new(&what, Figure::Seconds(meeting.seconds));
        let row = if count == 1000 { row.goal("< 1 s") } else { row };
        let peer = (count <= PEERS_AT_MOST).then(|| torchrun::agents(count as usize)).flatten();
        match peer {
            Some(agents) => row.beside("torchrun, process up", Figure::Seconds(agents.meeting_seconds)),
            None => row.print(),
        }
        requests.push((count, meeting.requests));
    }
    for (count, [node, leader]) in requests.into_iter().filter(|(count, _)| *count >= 100) {
        Row::new(&format!("{count} nodes: Cypress requests of a node"), Figure::Count(node as f64))
            .goal("the same")
            .print();
        Row::new(&format!("{count} nodes: Cypress requests of the leader"), Figure::Count(leader as f64))
            .print();
    }
}

fn meet(scratch: &Scratch, cluster: &Cluster, count: u32) -> Meeting {
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
    let leader = group.start(&mut nodes.command(0, &special));
    group.wait_for("leading incarnation", 1);
    for rank in 1..count - 1 {
        start(&mut group, rank);
    }
    group.wait_for("has joined", count as usize - 2);
    let last = Instant::now();
    start(&mut group, count - 1);
    group.wait_for("nodes have met", count as usize);
    let seconds = last.elapsed().as_secs_f64();
    let most = sampled.iter().map(|(_, port)| requests(*port)).max().unwrap_or(0);
    let meeting = Meeting { seconds, requests: [most, requests(leader_port)] };
    send(leader, Signal::SIGTERM);
    group.end();
    meeting
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
