//! The control channel: one connection from every node to the leader, kept for the whole run.

pub mod message;

pub use message::{Hub, HubCommand, HubEvent, LeaderMessage, Link, LinkEvent, NodeMessage, Recipients};
