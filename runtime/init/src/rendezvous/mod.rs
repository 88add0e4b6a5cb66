//! How the nodes of one incarnation find each other.

use std::time::Duration;

use tractorun_contract::topology::Topology;

use crate::control::{Hub, Link};

/// What rendezvous gives the driver on every node.
#[derive(Debug)]
pub struct Membership {
    /// Number of the incarnation.
    pub incarnation: u32,
    /// Who is where.
    pub topology: Topology,
    /// This node's end of the control channel.
    pub link: Link,
    /// The leader's end of all control channels; on node 0 only.
    pub hub: Option<Hub>,
    /// What must be ended in order before the process exits.
    pub closer: Closer,
}

/// Ends the control channel and, on the leader, the incarnation's transaction.
#[derive(Debug)]
pub struct Closer {}

impl Closer {
    /// Delivers what was already sent, closes the connections and ends the transaction; gives up after
    /// `limit`. Drop or keep the [`Link`] and [`Hub`] as you like: what is in their channels is still sent.
    pub async fn close(self, limit: Duration) {
        todo!("{limit:?}")
    }
}
