//! `/status` and `/targets`: JSON for people and for Prometheus' `http_sd`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tractorun_contract::exit::ExitReason;
use tractorun_contract::failure::{Cause, Failure};
use tractorun_sys::Signal;

use super::Sources;
use super::logs;
use super::snapshot::{Kind, Snapshot, Worker, WorkerState};

/// The whole status.
pub(super) fn status(sources: &Sources) -> Value {
    let snapshot = sources.snapshot.borrow().clone();
    let now = sources.clock.now();
    let phases: Map<String, Value> = snapshot
        .phases
        .iter()
        .map(|(phase, span)| (phase.name().to_owned(), seconds(span.length(now))))
        .collect();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": snapshot.phase().map_or("starting", |phase| phase.name()),
        "phase_seconds": phases,
        "uptime_seconds": seconds(now),
        "workers": snapshot.workers.iter().map(|worker| show_worker(worker, &snapshot, sources)).collect::<Vec<_>>(),
    });
    if snapshot.kind == Kind::Job {
        status["incarnation"] = json!(snapshot.incarnation);
        status["attempt"] = json!(snapshot.attempt);
        status["node_count"] = json!(snapshot.node_count);
        status["node_rank"] = json!(snapshot.own.as_ref().map(|own| own.node_rank));
        status["host"] = json!(snapshot.own.as_ref().map(|own| &own.host));
        status["job_id"] = json!(snapshot.own.as_ref().map(|own| &own.job_id));
        status["sidecars"] = snapshot.sidecars.show();
        status["logs"] = sources.logs.get().map_or(Value::Null, |gauge| logs::show(&gauge.read()));
        status["verdict"] = snapshot.verdict.as_ref().map_or(Value::Null, show_verdict);
    }
    if snapshot.is_leader() {
        status["nodes"] = show_nodes(&snapshot, &sources.pulses.ages());
    }
    status
}

/// All nodes that serve metrics, in the form of Prometheus' `http_sd`; none before they have met, or if this is not
/// the leader.
pub(super) fn targets(snapshot: &Snapshot) -> Option<Value> {
    if !snapshot.is_leader() || snapshot.incarnation.is_none() {
        return None;
    }
    let group = |target: &crate::rendezvous::MetricsTarget| {
        json!({
            "targets": [target.address],
            // Not kept unless a relabel rule says so: the metrics themselves say which node it is.
            "labels": {"__meta_tractorun_node_rank": target.node_rank.to_string()},
        })
    };
    Some(snapshot.targets.iter().map(group).collect())
}

fn show_worker(worker: &Worker, snapshot: &Snapshot, sources: &Sources) -> Value {
    let placed = snapshot.placed.get(worker.local_rank as usize).cloned().unwrap_or_default();
    let exit = match worker.state {
        WorkerState::NotStarted | WorkerState::Running(_) => Value::Null,
        WorkerState::Exited(reason) => show_exit(reason),
        WorkerState::Failed { exit_code } => json!({"code": exit_code}),
    };
    json!({
        "rank": worker.rank,
        "local_rank": worker.local_rank,
        "state": worker.state.name(),
        "exit": exit,
        "started_seconds": worker.started.map(|at| sources.unix_seconds(at)),
        "gpus": placed.gpus,
        "cpus": placed.cpus,
        "omp_num_threads": placed.omp_num_threads,
    })
}

/// How a process ended.
pub(super) fn show_exit(reason: ExitReason) -> Value {
    match reason {
        ExitReason::Code(code) => json!({"code": code}),
        ExitReason::Signal(number) => {
            let signal = Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name);
            json!({"code": reason.code(), "signal": signal})
        }
    }
}

/// Who and what; none of the texts, since they may quote the command or what a worker wrote.
fn show_verdict(failure: &Failure) -> Value {
    let (cause, signal) = match &failure.cause {
        Cause::WorkerExited { .. } => ("worker_exited", None),
        Cause::WorkerKilled { signal } => ("worker_killed", Some(signal)),
        Cause::WorkerNotStarted { .. } => ("worker_not_started", None),
        Cause::SidecarExited { .. } => ("sidecar_exited", None),
        Cause::SidecarKilled { signal, .. } => ("sidecar_killed", Some(signal)),
        Cause::SidecarNotStarted { .. } => ("sidecar_not_started", None),
        Cause::NodeLost { .. } => ("node_lost", None),
        Cause::Stopped { signal } => ("stopped", Some(signal)),
        Cause::Preempted { signal } => ("preempted", Some(signal)),
        Cause::StartUpFailed { .. } => ("start_up_failed", None),
    };
    json!({
        "cause": cause,
        "signal": signal,
        "rank": failure.rank,
        "node_rank": failure.node_rank,
        "host": failure.host,
        "job_id": failure.job_id,
        "attempt": failure.attempt,
        "exit_code": failure.exit_code,
        "elapsed_seconds": failure.elapsed_seconds,
        "out_of_memory": failure.oom.is_some(),
    })
}

fn show_nodes(snapshot: &Snapshot, ages: &BTreeMap<u32, Duration>) -> Value {
    let node = |identity: &crate::supervisor::Identity| {
        // The leader itself is always here.
        let last_seen = match identity.node_rank {
            0 => Some(Duration::ZERO),
            rank => ages.get(&rank).copied(),
        };
        json!({
            "node_rank": identity.node_rank,
            "host": identity.host,
            "job_id": identity.job_id,
            "last_seen_seconds": last_seen.map(seconds),
        })
    };
    snapshot.nodes.iter().map(node).collect()
}

/// To the millisecond.
pub(super) fn seconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
