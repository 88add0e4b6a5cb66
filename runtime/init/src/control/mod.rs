//! The control channel: one connection from every node to the leader, kept for the whole run.
//!
//! ```text
//! driver of a node          leader's process
//!   Link  <->  link task  <-- TCP -->  connection task  <->  hub task  <->  Hub  driver of node 0
//!   Link of node 0  <-- in process -->                       hub task
//! ```
//!
//! The tasks own the sockets, the heartbeats in both directions and the failure record on the notice board;
//! they decide nothing. What they learn they report as [`LinkEvent`] and [`HubEvent`]. Messages that were
//! given to a task before it is told to close are still delivered.

pub(crate) mod acceptor;
pub(crate) mod connection;
pub(crate) mod hub;
pub(crate) mod link;
pub mod message;
pub(crate) mod progress;
pub(crate) mod pulses;
pub(crate) mod wire;

pub use message::{
    Hub, HubCommand, HubEvent, LeaderMessage, Link, LinkEvent, NodeMessage, Recipients, StopManner,
};
pub use pulses::Pulses;
