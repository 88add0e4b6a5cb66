//! What a job spec must hold to be one that can be run.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

use tractorun_contract::job_spec::{
    self, Bind, CypressBind, EnvSource, EnvVar, Lib, LogMode, Logs, Mesh, PreemptionSignal,
};
use tractorun_sys::Signal;

use super::Problems;
use crate::logs;
use crate::supervisor::{Preemption, Restarts};

/// Nodes of a job: far above what a cluster runs, and few enough to be counted.
const MAX_NODES: u32 = 1_000_000;

/// Workers of a node: each has a port of its own, the control channel has one and metrics have one.
pub(super) const MAX_WORKERS_PER_NODE: u32 = u16::MAX as u32 - 2;

/// Least memory for lines: a few reads and a long line must fit.
const MIN_LOG_MEMORY: u64 = 1024 * 1024;

pub(super) fn restarts_of(spec: job_spec::Restarts) -> Restarts {
    let job_spec::Restarts { max, window_ms, backoff_ms, never } = spec;
    let (window, backoff) = (window_ms.map(Duration::from_millis), Duration::from_millis(backoff_ms));
    Restarts { max, window, backoff, never }
}

pub(super) fn preemption_of(spec: job_spec::Preemption) -> Preemption {
    let signal = match spec.signal {
        PreemptionSignal::Term => Signal::TERM,
        PreemptionSignal::Int => Signal::INT,
        PreemptionSignal::Hup => Signal::HUP,
        PreemptionSignal::Usr1 => Signal::USR1,
        PreemptionSignal::Usr2 => Signal::USR2,
    };
    Preemption { signal, timeout: Duration::from_millis(spec.timeout_ms) }
}

pub(super) fn check_logs(logs: Logs, problems: &mut Problems) -> Option<logs::Settings> {
    let Logs { mode, batch_bytes, batch_age_ms, memory_bytes, spool_bytes, overflow, drain_timeout_ms } =
        logs;
    for (name, value, least) in [
        ("logs.batch_bytes", batch_bytes, 1),
        ("logs.batch_age_ms", batch_age_ms, 1),
        ("logs.memory_bytes", memory_bytes, MIN_LOG_MEMORY),
    ] {
        if value < least {
            problems.add(name, &format!("expected at least {least}, got {value}"));
        }
    }
    (mode == LogMode::RealtimeYtTable).then(|| logs::Settings {
        batch_bytes,
        batch_age: Duration::from_millis(batch_age_ms),
        memory_bytes,
        spool_bytes,
        overflow,
        drain_timeout: Duration::from_millis(drain_timeout_ms),
    })
}

pub(super) fn check_mesh(mesh: Mesh, problems: &mut Problems) {
    let Mesh { node_count, process_per_node, gpu_per_process: _ } = mesh;
    for (name, value, limit) in [
        ("mesh.node_count", node_count, MAX_NODES),
        ("mesh.process_per_node", process_per_node, MAX_WORKERS_PER_NODE),
    ] {
        if value == 0 {
            problems.add(name, "expected at least 1, got 0");
        } else if value > limit {
            problems.add(name, &format!("expected at most {limit}, got {value}"));
        }
    }
    if node_count.checked_mul(process_per_node).is_none() {
        problems.add("mesh", &format!("{node_count} nodes of {process_per_node} workers are too many"));
    }
}

pub(super) fn check_command(field: &str, command: &[String], problems: &mut Problems) {
    if command.first().is_none_or(String::is_empty) {
        problems.add(field, "expected a command, got none");
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        problems.add(field, "a NUL byte cannot be passed to a process");
    }
}

pub(super) fn check_env(env: &[EnvVar], problems: &mut Problems) {
    for EnvVar { name, source, scope: _ } in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            problems.add("env", &format!("{name:?} cannot be the name of a variable"));
        }
        match source {
            EnvSource::Value(value) if value.contains('\0') => {
                problems.add(&format!("env {name}"), "a NUL byte cannot be passed to a process");
            }
            EnvSource::CypressPath(path) if !path.starts_with("//") && !path.starts_with('#') => {
                let what = format!("expected a Cypress path that starts with //, got {path:?}");
                problems.add(&format!("env {name}"), &what);
            }
            EnvSource::Value(_) | EnvSource::CypressPath(_) => {}
        }
    }
}

pub(super) fn check_files(
    binds: &[Bind],
    libs: &[Lib],
    cypress_binds: &[CypressBind],
    problems: &mut Problems,
) {
    for Bind { archive, destination, parts: _ } in binds {
        check_sandbox_file("binds", archive, problems);
        check_destination(destination, problems);
    }
    for CypressBind { file, destination } in cypress_binds {
        check_sandbox_file("cypress_binds", file, problems);
        check_destination(destination, problems);
    }
    let mut names = BTreeSet::new();
    for Lib { archive, name, parts: _ } in libs {
        check_sandbox_file("libs", archive, problems);
        if !is_file_name(name) {
            problems.add("libs", &format!("{name:?} cannot be the name of a library"));
        } else if !names.insert(name) {
            problems.add("libs", &format!("two libraries are called {name:?}"));
        }
    }
}

pub(super) fn check_sandbox_file(field: &str, name: &str, problems: &mut Problems) {
    if !is_file_name(name) {
        problems.add(field, &format!("expected the name of a file in the sandbox, got {name:?}"));
    }
}

/// A destination may be any absolute path, but a relative one may not lead out of the sandbox.
pub(super) fn check_destination(destination: &str, problems: &mut Problems) {
    let path = Path::new(destination);
    if destination.is_empty() || destination.contains('\0') {
        problems.add("bind", &format!("{destination:?} cannot be a destination"));
    } else if path.is_relative() {
        let mut depth = 0_i32;
        for component in path.components() {
            depth += match component {
                Component::ParentDir => -1,
                Component::Normal(_) => 1,
                Component::CurDir | Component::RootDir | Component::Prefix(_) => 0,
            };
            if depth < 0 {
                problems.add("bind", &format!("destination {destination:?} leaves the sandbox"));
                return;
            }
        }
    }
}

fn is_file_name(name: &str) -> bool {
    !name.contains('\0')
        && matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(only)] if only == name)
}
