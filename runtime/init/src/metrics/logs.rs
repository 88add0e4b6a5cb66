//! What is shown of the log tables: how much of the output is there, how much waits, how much is gone.
//!
//! There are no labels but the two places where lines wait, however many workers write.

use prometheus::{Gauge, IntCounter, IntGaugeVec, Opts, Registry};
use serde_json::{Value, json};

use super::exporter::{add, raise, signed};
use super::status::seconds;
use crate::logs::{Batches, Progress};

/// The metrics of the log tables.
pub(super) struct LogMetrics {
    rows_total: IntCounter,
    bytes_total: IntCounter,
    dropped_lines_total: IntCounter,
    dropped_bytes_total: IntCounter,
    waiting_bytes: IntGaugeVec,
    oldest_waiting_age_seconds: Gauge,
    commits_total: IntCounter,
    retries_total: IntCounter,
    requests_total: IntCounter,
    last_commit_duration_seconds: Gauge,
    last_commit_timestamp_seconds: Gauge,
}

// === impl LogMetrics ===

impl LogMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter =
            |name: &str, help: &str| add(registry, IntCounter::new(format!("tractorun_log_{name}"), help)?);
        let gauge =
            |name: &str, help: &str| add(registry, Gauge::new(format!("tractorun_log_{name}"), help)?);
        Ok(Self {
            rows_total: counter("rows_total", "Rows of this node that are in its log tables.")?,
            bytes_total: counter("bytes_total", "Bytes of output of this node that are in its log tables.")?,
            dropped_lines_total: counter("dropped_lines_total", "Lines that there was no room for.")?,
            dropped_bytes_total: counter(
                "dropped_bytes_total",
                "Bytes of the lines that there was no room for.",
            )?,
            waiting_bytes: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "tractorun_log_waiting_bytes",
                        "Bytes that are not in the log tables yet, by where they wait.",
                    ),
                    &["place"],
                )?,
            )?,
            oldest_waiting_age_seconds: gauge(
                "oldest_waiting_age_seconds",
                "For how long the oldest line has been waiting that is in no log table yet; 0 if none is.",
            )?,
            commits_total: counter("commits_total", "Batches that the cluster took.")?,
            retries_total: counter(
                "retries_total",
                "Batches that the cluster did not take; they are sent again.",
            )?,
            requests_total: counter("requests_total", "Requests for the log tables, repetitions included.")?,
            last_commit_duration_seconds: gauge(
                "last_commit_duration_seconds",
                "How long the last batch took that the cluster took.",
            )?,
            last_commit_timestamp_seconds: gauge(
                "last_commit_timestamp_seconds",
                "Unix time at which the cluster took a batch last; 0 before the first one.",
            )?,
        })
    }

    pub(super) fn fill(&self, progress: &Progress) {
        raise(&self.rows_total, progress.rows);
        raise(&self.bytes_total, progress.bytes);
        raise(&self.dropped_lines_total, progress.dropped_lines);
        raise(&self.dropped_bytes_total, progress.dropped_bytes);
        for (place, bytes) in [("memory", progress.memory_bytes), ("spool", progress.spool_bytes)] {
            self.waiting_bytes.with_label_values(&[place]).set(signed(bytes));
        }
        self.oldest_waiting_age_seconds.set(progress.oldest_age.as_secs_f64());
        let Batches { commits, retries, requests, last_commit_took, last_commit_seconds } = progress.batches;
        raise(&self.commits_total, commits);
        raise(&self.retries_total, retries);
        raise(&self.requests_total, requests);
        self.last_commit_duration_seconds.set(last_commit_took.as_secs_f64());
        self.last_commit_timestamp_seconds.set(last_commit_seconds.unwrap_or(0.0));
    }
}

/// The same for people.
pub(super) fn show(progress: &Progress) -> Value {
    let Batches { commits, retries, requests, last_commit_took, last_commit_seconds } = progress.batches;
    json!({
        "rows": progress.rows,
        "bytes": progress.bytes,
        "waiting_memory_bytes": progress.memory_bytes,
        "waiting_spool_bytes": progress.spool_bytes,
        "dropped_lines": progress.dropped_lines,
        "dropped_bytes": progress.dropped_bytes,
        "oldest_waiting_age_seconds": seconds(progress.oldest_age),
        "commits": commits,
        "retries": retries,
        "requests": requests,
        "last_commit_duration_seconds": seconds(last_commit_took),
        "last_commit_timestamp_seconds": last_commit_seconds,
    })
}
