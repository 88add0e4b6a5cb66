//! What becomes of the lines that workers and sidecars write.

use serde::{Deserialize, Serialize};

/// When lines of workers carry `[rank] ` in front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinePrefix {
    /// Where a node has several workers.
    #[default]
    Auto,
    /// Always: several nodes share one terminal.
    Rank,
}

/// Where the lines of workers and sidecars go besides init's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logs {
    /// Whether there are tables.
    pub mode: LogMode,
    /// Lines of a node leave as soon as there are so many bytes of them, where the cluster's share allows it.
    pub batch_bytes: u64,
    /// Lines of a node leave when the oldest is that old, in milliseconds; later on where many nodes share the
    /// cluster.
    pub batch_age_ms: u64,
    /// Bytes of lines that a node keeps in memory until they are in their tables.
    pub memory_bytes: u64,
    /// Bytes of lines that a node keeps on its disk where memory does not hold them; 0 for none.
    pub spool_bytes: u64,
    /// What happens when both are full.
    pub overflow: LogOverflow,
    /// How long the end of a node waits for its lines to be in their tables, in milliseconds.
    pub drain_timeout_ms: u64,
}

/// Whether lines go into tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogMode {
    /// They do not.
    #[default]
    Default,
    /// Into the tables of [`crate::logs`], as they come.
    RealtimeYtTable,
}

/// What happens to lines that there is no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOverflow {
    /// Nothing is read until there is room, so that whoever writes waits.
    Block,
    /// The oldest lines are dropped, and a row says how many.
    #[default]
    Drop,
}

// === impl Logs ===

impl Default for Logs {
    /// A line is in its table a second after it was written. What a worker writes in a minute or two while the
    /// cluster is away fits on the disk; that a training stands still because of its logs is what nobody wants.
    fn default() -> Self {
        Self {
            mode: LogMode::Default,
            batch_bytes: 4 * 1024 * 1024,
            batch_age_ms: 1000,
            memory_bytes: 12 * 1024 * 1024,
            spool_bytes: 1024 * 1024 * 1024,
            overflow: LogOverflow::Drop,
            drain_timeout_ms: 60_000,
        }
    }
}

impl Logs {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl LogMode ===

impl LogMode {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 2] =
        [("default", Self::Default), ("realtime_yt_table", Self::RealtimeYtTable)];
}

// === impl LogOverflow ===

impl LogOverflow {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, Self); 2] = [("block", Self::Block), ("drop", Self::Drop)];
}
