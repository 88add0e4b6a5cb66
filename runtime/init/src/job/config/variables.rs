//! What the job's own variables say: which node this is, and which ports it has.

use std::path::{Path, PathBuf};

use tractorun_contract::env::{self, yt};
use tractorun_contract::job_spec::Mesh;
use tractorun_contract::topology::TENSORPROXY_PORT_COUNT;

use super::Problems;
use super::spec::MAX_WORKERS_PER_NODE;
use crate::job::Environment;

pub(super) fn read_node_rank(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> u32 {
    let count = mesh.node_count;
    let Some(text) = text(environment, yt::JOB_COOKIE, problems) else {
        problems.add(yt::JOB_COOKIE, &format!("not set: expected a number below node_count {count}"));
        return 0;
    };
    match text.parse() {
        Ok(rank) if rank < count => rank,
        Ok(_) | Err(_) => {
            problems
                .add(yt::JOB_COOKIE, &format!("expected a number below node_count {count}, got {text:?}"));
            0
        }
    }
}

/// Nodes that share the machine: each has its own unless a local run says otherwise.
pub(super) fn read_nodes_here(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> u32 {
    let Some(text) = text(environment, env::NODES_HERE, problems) else { return 1 };
    text.parse().ok().filter(|count| (1..=mesh.node_count).contains(count)).unwrap_or_else(|| {
        let count = mesh.node_count;
        problems
            .add(env::NODES_HERE, &format!("expected a number from 1 to node_count {count}, got {text:?}"));
        1
    })
}

/// A path of the laptop's file system need not be UTF-8.
pub(super) fn read_working_directory(
    environment: &Environment,
    sandbox: &Path,
    problems: &mut Problems,
) -> PathBuf {
    let Some(folder) = environment.get(env::WORKING_DIRECTORY).map(Path::new) else {
        return sandbox.to_owned();
    };
    if !folder.is_absolute() || !folder.is_dir() {
        problems.add(
            env::WORKING_DIRECTORY,
            &format!("expected an absolute path of a folder, got `{}`", folder.display()),
        );
    }
    folder.to_owned()
}

/// The ports of the workers and the control channel, of a job that asks for `count` in all.
pub(super) fn read_ports(
    environment: &Environment,
    mesh: Mesh,
    count: u32,
    problems: &mut Problems,
) -> Vec<u16> {
    if mesh.process_per_node > MAX_WORKERS_PER_NODE {
        return Vec::new(); // already a problem, and nobody wants to read of billions of missing ports
    }
    read_needed_ports(environment, 0..=mesh.control_port_index(), count, problems)
}

/// The ports of the tensorproxy, of a job that asks for `count` in all.
pub(super) fn read_tensorproxy_ports(
    environment: &Environment,
    mesh: Mesh,
    count: u32,
    problems: &mut Problems,
) -> Option<[u16; TENSORPROXY_PORT_COUNT as usize]> {
    if mesh.process_per_node > MAX_WORKERS_PER_NODE {
        return None;
    }
    read_needed_ports(environment, mesh.tensorproxy_port_indexes(), count, problems).try_into().ok()
}

/// The ports of these indexes; those that are not there are a problem.
fn read_needed_ports(
    environment: &Environment,
    indexes: impl IntoIterator<Item = u32>,
    count: u32,
    problems: &mut Problems,
) -> Vec<u16> {
    let mut ports = Vec::new();
    let mut missing = Vec::new();
    for index in indexes {
        match read_port(environment, index, problems) {
            Ok(port) => ports.push(port),
            Err(NoPort::Missing(name)) => missing.push(name),
            Err(NoPort::Bad) => {}
        }
    }
    if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
        let names = if missing.len() == 1 { first.clone() } else { format!("{first} to {last}") };
        problems.add(
            &names,
            &format!("not set: the operation must ask for {count} ports per job (port_count in its task)"),
        );
    }
    ports
}

pub(super) fn read_metrics_port(
    environment: &Environment,
    mesh: Mesh,
    problems: &mut Problems,
) -> Option<u16> {
    if mesh.process_per_node > MAX_WORKERS_PER_NODE {
        return None;
    }
    read_port(environment, mesh.metrics_port_index(), problems).ok()
}

/// Why there is no port.
enum NoPort {
    /// The variable of this name is not set.
    Missing(String),
    /// It is a problem already.
    Bad,
}

fn read_port(environment: &Environment, index: u32, problems: &mut Problems) -> Result<u16, NoPort> {
    let name = format!("{}{index}", yt::PORT_PREFIX);
    let Some(text) = text(environment, &name, problems) else { return Err(NoPort::Missing(name)) };
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => {
            problems.add(&name, &format!("expected a port from 1 to 65535, got {text:?}"));
            Err(NoPort::Bad)
        }
    }
}

pub(super) fn required(environment: &Environment, name: &str, problems: &mut Problems) -> String {
    match text(environment, name, problems) {
        Some(value) if !value.is_empty() => value,
        Some(_) => {
            problems.add(name, "is empty");
            String::new()
        }
        None => {
            problems.add(name, "not set: expected to run as a job of an operation");
            String::new()
        }
    }
}

pub(super) fn text(environment: &Environment, name: &str, problems: &mut Problems) -> Option<String> {
    let value = environment.get(name)?;
    let text = value.to_str().map(str::to_owned);
    if text.is_none() {
        problems.add(name, "is not UTF-8");
    }
    text
}
