//! The checked configuration of a node: job spec and job environment, read once.
//!
//! Everything that is wrong is reported at once. Values of secrets are never shown.

mod problems;
mod spec;
mod variables;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use tractorun_contract::env::{self, client, yt};
use tractorun_contract::job_spec::{
    self, Bind, Cluster, CypressBind, EnvVar, JobSpec, Lib, LinePrefix, Links, Mesh, ParseError, Sidecar,
    SpecVersion, Timeouts,
};
use tractorun_contract::placement::Placement;
use tractorun_contract::secret::Secret;
use tractorun_yt::ClientConfig;

use self::problems::Problems;
use self::spec::{
    check_command, check_env, check_files, check_logs, check_mesh, check_sandbox_file, preemption_of,
    restarts_of,
};
use self::variables::{
    read_metrics_port, read_node_rank, read_nodes_here, read_ports, read_tensorproxy_ports,
    read_working_directory, required, text,
};
use super::tensorproxy::Tensorproxy;
use super::{Environment, Prefix};
use crate::logs;
use crate::supervisor::{Preemption, Restarts};

/// The launcher has just talked to the cluster: a proxy that cannot be reached may be a network that is still
/// being set up for the container.
const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// What a node runs and with whom. There is no value in it that a later phase has to doubt.
#[derive(Debug)]
pub(super) struct Config {
    /// How to reach the cluster.
    pub(super) client: ClientConfig,
    /// The proxy as the launcher wrote it, for the workers.
    pub(super) proxy: String,
    /// Token of init and its workers.
    pub(super) token: Option<Secret>,
    pub(super) yt_path: String,
    pub(super) mesh: Mesh,
    pub(super) node_rank: u32,
    pub(super) operation_id: String,
    pub(super) job_id: String,
    /// One port for each worker, the last one for the control channel.
    pub(super) ports: Vec<u16>,
    /// Port for metrics; launchers before there were any do not ask for one.
    pub(super) metrics_port: Option<u16>,
    pub(super) advertise_host: Option<String>,
    /// Nodes of the job that share this machine and its GPUs.
    pub(super) nodes_here: u32,
    pub(super) placement: Placement,
    /// Absolute path of the sandbox.
    pub(super) sandbox: PathBuf,
    /// Absolute path that workers start in: the sandbox, or where a local run was called.
    pub(super) working_directory: PathBuf,
    pub(super) command: Vec<OsString>,
    pub(super) env: Vec<EnvVar>,
    pub(super) sidecars: Vec<Sidecar>,
    pub(super) tensorproxy: Option<Tensorproxy>,
    #[expect(clippy::struct_field_names, reason = "the user knows it by this name")]
    pub(super) user_config: Option<Map<String, Value>>,
    pub(super) binds: Vec<Bind>,
    pub(super) libs: Vec<Lib>,
    pub(super) cypress_binds: Vec<CypressBind>,
    pub(super) prefix: Prefix,
    pub(super) rendezvous_timeout: Duration,
    pub(super) heartbeat_timeout: Duration,
    pub(super) grace_period: Duration,
    /// How links to the cluster's web interface look, for the workers.
    pub(super) links: Links,
    /// `None`: there are no log tables.
    pub(super) logs: Option<logs::Settings>,
    pub(super) restarts: Restarts,
    pub(super) preemption: Option<Preemption>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("cannot read job spec `{}`: {source}", path.display())]
    SpecUnreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", with_path(path, source))]
    SpecInvalid { path: PathBuf, source: ParseError },
    #[error("bad configuration: {0}")]
    Settings(Problems),
}

/// Reads the configuration of a job whose sandbox is the absolute path `sandbox`.
pub(super) fn read(environment: &Environment, sandbox: &Path) -> Result<Config, ConfigError> {
    let mut problems = Problems::default();
    let Some(path) = environment.get(env::JOB_SPEC).filter(|path| !path.is_empty()) else {
        problems.add(env::JOB_SPEC, "not set: expected the path of the job spec");
        return Err(ConfigError::Settings(problems));
    };
    let path = sandbox.join(path);
    let document = match std::fs::read(&path) {
        Ok(document) => document,
        Err(source) => return Err(ConfigError::SpecUnreadable { path, source }),
    };
    let spec = match JobSpec::parse(&document) {
        Ok(spec) => spec,
        Err(source) => return Err(ConfigError::SpecInvalid { path, source }),
    };
    check(spec, environment, sandbox)
}

/// Checks a spec against itself and the job it meets.
fn check(spec: JobSpec, environment: &Environment, sandbox: &Path) -> Result<Config, ConfigError> {
    let port_count = spec.port_count();
    // Complete on purpose: a new field does not build until it is handled here.
    let JobSpec {
        version: SpecVersion { major: _, minor: _ },
        cluster: Cluster { proxy },
        yt_path,
        mesh,
        command,
        env,
        user_config,
        sidecars,
        tensorproxy,
        binds,
        libs,
        cypress_binds,
        line_prefix,
        timeouts: Timeouts { rendezvous_ms, heartbeat_ms, grace_period_ms },
        links,
        logs,
        restarts,
        preemption,
        placement,
    } = spec;
    let mut problems = Problems::default();

    if !yt_path.starts_with("//") {
        problems.add("yt_path", &format!("expected a path that starts with //, got {yt_path:?}"));
    }
    check_mesh(mesh, &mut problems);
    check_command("command", &command, &mut problems);
    for (index, sidecar) in sidecars.iter().enumerate() {
        check_command(&format!("sidecars[{index}].command"), &sidecar.command, &mut problems);
    }
    check_env(&env, &mut problems);
    check_files(&binds, &libs, &cypress_binds, &mut problems);
    if heartbeat_ms == 0 {
        problems.add("timeouts.heartbeat_ms", "expected more than 0");
    }

    let logs = check_logs(logs, &mut problems);

    let node_rank = read_node_rank(environment, mesh, &mut problems);
    let operation_id = required(environment, yt::OPERATION_ID, &mut problems);
    let job_id = required(environment, yt::JOB_ID, &mut problems);
    let ports = read_ports(environment, mesh, port_count, &mut problems);
    let tensorproxy =
        tensorproxy.and_then(|spec| read_tensorproxy(spec, environment, mesh, port_count, &mut problems));
    let metrics_port = read_metrics_port(environment, mesh, &mut problems);
    let vault_token = format!("{}{}", yt::SECURE_VAULT_PREFIX, env::VAULT_YT_TOKEN);
    let token = text(environment, &vault_token, &mut problems).filter(|token| !token.is_empty());
    let advertise_host =
        text(environment, env::ADVERTISE_HOST, &mut problems).filter(|host| !host.is_empty());
    let nodes_here = read_nodes_here(environment, mesh, &mut problems);
    let working_directory = read_working_directory(environment, sandbox, &mut problems);

    let client = read_client(environment, &proxy, token.as_deref(), &mut problems);
    let Some(client) = client.filter(|_| problems.is_empty()) else {
        return Err(ConfigError::Settings(problems));
    };
    let prefix = match line_prefix {
        LinePrefix::Auto if mesh.process_per_node == 1 => Prefix::None,
        LinePrefix::Auto | LinePrefix::Rank => Prefix::Rank,
    };
    Ok(Config {
        client,
        proxy,
        token: token.map(Secret::new),
        yt_path,
        mesh,
        node_rank,
        operation_id,
        job_id,
        ports,
        metrics_port,
        advertise_host,
        nodes_here,
        placement,
        sandbox: sandbox.to_owned(),
        working_directory,
        command: command.into_iter().map(OsString::from).collect(),
        env,
        sidecars,
        tensorproxy,
        user_config,
        binds,
        libs,
        cypress_binds,
        prefix,
        rendezvous_timeout: Duration::from_millis(rendezvous_ms),
        heartbeat_timeout: Duration::from_millis(heartbeat_ms),
        grace_period: Duration::from_millis(grace_period_ms),
        links,
        logs,
        restarts: restarts_of(restarts),
        preemption: preemption.map(preemption_of),
    })
}

/// How to reach the cluster. The launcher has said which, and who we are there: nothing that the image or the laptop
/// says may change it.
fn read_client(
    environment: &Environment,
    proxy: &str,
    token: Option<&str>,
    problems: &mut Problems,
) -> Option<ClientConfig> {
    let lookup = |name: &str| match name {
        client::PROXY => Some(proxy.to_owned()),
        client::TOKEN => token.map(str::to_owned),
        client::TOKEN_PATH => None,
        _ => environment.get(name).and_then(|value| value.to_str()).map(str::to_owned),
    };
    match ClientConfig::from_environment(&lookup, None) {
        Ok(client) => Some(ClientConfig { first_contact_budget: FIRST_CONTACT, ..client }),
        Err(error) => {
            problems.add("cluster", &error.to_string());
            None
        }
    }
}

fn read_tensorproxy(
    spec: job_spec::Tensorproxy,
    environment: &Environment,
    mesh: Mesh,
    port_count: u32,
    problems: &mut Problems,
) -> Option<Tensorproxy> {
    let job_spec::Tensorproxy { file, restart_policy } = spec;
    check_sandbox_file("tensorproxy", &file, problems);
    let [grpc_port, monitoring_port] = read_tensorproxy_ports(environment, mesh, port_count, problems)?;
    Some(Tensorproxy { file, restart_policy, grpc_port, monitoring_port })
}

/// The parser's own words, with the file on their first line.
fn with_path(path: &Path, error: &ParseError) -> String {
    let text = error.to_string();
    let (line, rest) = match text.split_once('\n') {
        Some((line, rest)) => (line, format!("\n{rest}")),
        None => (text.as_str(), String::new()),
    };
    format!("{line} (in `{}`){rest}", path.display())
}

#[cfg(test)]
pub(super) mod tests;
