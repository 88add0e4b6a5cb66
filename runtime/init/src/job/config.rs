//! The checked configuration of a node: job spec and job environment, read once.
//!
//! Everything that is wrong is reported at once. Values of secrets are never shown.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use tractorun_contract::env::{self, client, yt};
use tractorun_contract::job_spec::{
    self, Bind, Cluster, CypressBind, EnvSource, EnvVar, JobSpec, Lib, LinePrefix, Links, LogMode, Logs,
    Mesh, ParseError, PreemptionSignal, Sidecar, SpecVersion, Timeouts,
};
use tractorun_contract::placement::Placement;
use tractorun_contract::secret::Secret;
use tractorun_sys::Signal;
use tractorun_yt::ClientConfig;

use super::{Environment, Prefix};
use crate::logs;
use crate::supervisor::{Preemption, Restarts};

/// The launcher has just talked to the cluster: a proxy that cannot be reached may be a network that is still
/// being set up for the container.
const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// Nodes of a job: far above what a cluster runs, and few enough to be counted.
const MAX_NODES: u32 = 1_000_000;

/// Workers of a node: each has a port of its own, the control channel has one and metrics have one.
const MAX_WORKERS_PER_NODE: u32 = u16::MAX as u32 - 2;

/// Least memory for lines: a few reads and a long line must fit.
const MIN_LOG_MEMORY: u64 = 1024 * 1024;

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

/// Everything that is wrong, in the order it was found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

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
    let ports = read_ports(environment, mesh, &mut problems);
    let metrics_port = read_metrics_port(environment, mesh, &mut problems);
    let vault_token = format!("{}{}", yt::SECURE_VAULT_PREFIX, env::VAULT_YT_TOKEN);
    let token = text(environment, &vault_token, &mut problems).filter(|token| !token.is_empty());
    let advertise_host =
        text(environment, env::ADVERTISE_HOST, &mut problems).filter(|host| !host.is_empty());
    let nodes_here = read_nodes_here(environment, mesh, &mut problems);
    let working_directory = read_working_directory(environment, sandbox, &mut problems);

    // The launcher has said which cluster and who: nothing that the image or the laptop says may change it.
    let lookup = |name: &str| match name {
        client::PROXY => Some(proxy.clone()),
        client::TOKEN => token.clone(),
        client::TOKEN_PATH => None,
        _ => environment.get(name).and_then(|value| value.to_str()).map(str::to_owned),
    };
    let client = match ClientConfig::from_environment(&lookup, None) {
        Ok(client) => Some(ClientConfig { first_contact_budget: FIRST_CONTACT, ..client }),
        Err(error) => {
            problems.add("cluster", &error.to_string());
            None
        }
    };

    let Some(client) = client.filter(|_| problems.0.is_empty()) else {
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

/// Nodes that share the machine: each has its own unless a local run says otherwise.
fn read_nodes_here(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> u32 {
    let Some(text) = text(environment, env::NODES_HERE, problems) else { return 1 };
    text.parse().ok().filter(|count| (1..=mesh.node_count).contains(count)).unwrap_or_else(|| {
        let count = mesh.node_count;
        problems
            .add(env::NODES_HERE, &format!("expected a number from 1 to node_count {count}, got {text:?}"));
        1
    })
}

fn restarts_of(spec: job_spec::Restarts) -> Restarts {
    let job_spec::Restarts { max, window_ms, backoff_ms, never } = spec;
    let (window, backoff) = (window_ms.map(Duration::from_millis), Duration::from_millis(backoff_ms));
    Restarts { max, window, backoff, never }
}

fn preemption_of(spec: job_spec::Preemption) -> Preemption {
    let signal = match spec.signal {
        PreemptionSignal::Term => Signal::TERM,
        PreemptionSignal::Int => Signal::INT,
        PreemptionSignal::Hup => Signal::HUP,
        PreemptionSignal::Usr1 => Signal::USR1,
        PreemptionSignal::Usr2 => Signal::USR2,
    };
    Preemption { signal, timeout: Duration::from_millis(spec.timeout_ms) }
}

/// A path of the laptop's file system need not be UTF-8.
fn read_working_directory(environment: &Environment, sandbox: &Path, problems: &mut Problems) -> PathBuf {
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

fn check_logs(logs: Logs, problems: &mut Problems) -> Option<logs::Settings> {
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

fn check_mesh(mesh: Mesh, problems: &mut Problems) {
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

fn check_command(field: &str, command: &[String], problems: &mut Problems) {
    if command.first().is_none_or(String::is_empty) {
        problems.add(field, "expected a command, got none");
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        problems.add(field, "a NUL byte cannot be passed to a process");
    }
}

fn check_env(env: &[EnvVar], problems: &mut Problems) {
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

fn check_files(binds: &[Bind], libs: &[Lib], cypress_binds: &[CypressBind], problems: &mut Problems) {
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

fn check_sandbox_file(field: &str, name: &str, problems: &mut Problems) {
    if !is_file_name(name) {
        problems.add(field, &format!("expected the name of a file in the sandbox, got {name:?}"));
    }
}

/// A destination may be any absolute path, but a relative one may not lead out of the sandbox.
fn check_destination(destination: &str, problems: &mut Problems) {
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

fn read_node_rank(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> u32 {
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

fn read_ports(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> Vec<u16> {
    if mesh.process_per_node > MAX_WORKERS_PER_NODE {
        return Vec::new(); // already a problem, and nobody wants to read of billions of missing ports
    }
    let count = mesh.port_count();
    let mut ports = Vec::new();
    let mut missing = Vec::new();
    for index in 0..=mesh.control_port_index() {
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

fn read_metrics_port(environment: &Environment, mesh: Mesh, problems: &mut Problems) -> Option<u16> {
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

fn required(environment: &Environment, name: &str, problems: &mut Problems) -> String {
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

fn text(environment: &Environment, name: &str, problems: &mut Problems) -> Option<String> {
    let value = environment.get(name)?;
    let text = value.to_str().map(str::to_owned);
    if text.is_none() {
        problems.add(name, "is not UTF-8");
    }
    text
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

// === impl Problems ===

impl Problems {
    fn add(&mut self, name: &str, what: &str) {
        // Hints of others would break the one line.
        let what = what.lines().next().unwrap_or_default();
        self.0.push(format!("{name}: {what}"));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SPEC: &str = include_str!("../../../contract/testdata/job_spec_1_0.json");

    /// A checked configuration for tests of later phases: node 1 of 2, 4 workers each.
    pub(in crate::job) fn config() -> Config {
        config_of(&[], |_| ())
    }

    /// The same with changed variables and a changed spec.
    pub(in crate::job) fn config_of(
        variables: &[(&str, Option<&str>)],
        change: impl FnOnce(&mut JobSpec),
    ) -> Config {
        let mut spec = JobSpec::parse(SPEC.as_bytes()).unwrap();
        change(&mut spec);
        read_changed(variables, &String::from_utf8(spec.to_json()).unwrap()).unwrap()
    }

    fn job() -> Vec<(&'static str, &'static str)> {
        vec![
            ("TRACTORUN_JOB_SPEC", "job-spec.json"),
            ("YT_OPERATION_ID", "1-2-3-4"),
            ("YT_JOB_ID", "5-6-7-8"),
            ("YT_JOB_COOKIE", "1"),
            ("YT_PORT_0", "7000"),
            ("YT_PORT_1", "7001"),
            ("YT_PORT_2", "7002"),
            ("YT_PORT_3", "7003"),
            ("YT_PORT_4", "7004"),
            ("YT_PORT_5", "7005"),
            ("YT_SECURE_VAULT_tractorun_yt_token", "t0ken"),
            ("YT_TOKEN", "somebody-elses"),
            ("YT_PROXY", "http://somewhere-else"),
        ]
    }

    /// The configuration of a job whose variables and spec were changed.
    fn read_changed(change: &[(&str, Option<&str>)], spec: &str) -> Result<Config, ConfigError> {
        let sandbox = tempfile::tempdir().unwrap();
        std::fs::write(sandbox.path().join("job-spec.json"), spec).unwrap();
        let mut variables = job();
        for (name, value) in change {
            variables.retain(|(other, _)| other != name);
            variables.extend(value.map(|value| (*name, value)));
        }
        let result = read(&variables.into_iter().collect(), sandbox.path());
        if let Ok(config) = &result {
            assert_eq!(config.sandbox, sandbox.path());
        }
        result
    }

    fn error(change: &[(&str, Option<&str>)], spec: &str) -> String {
        read_changed(change, spec).unwrap_err().to_string()
    }

    #[test]
    fn a_job_is_read_from_spec_and_environment() {
        let config = read_changed(&[], SPEC).unwrap();
        assert_eq!((config.node_rank, config.mesh.node_count), (1, 2));
        assert_eq!(config.ports, [7000, 7001, 7002, 7003, 7004]);
        assert_eq!(config.metrics_port, Some(7005));
        assert_eq!(config.token, Some(Secret::new("t0ken")));
        assert_eq!(config.client.proxy, "http://127.0.0.1:8000");
        assert_eq!(config.client.token.as_ref().unwrap().expose(), "t0ken");
        assert_eq!(config.command, ["python3", "train.py", "--epochs", "3"]);
        assert_eq!(config.prefix, Prefix::Rank);
        assert_eq!(config.rendezvous_timeout, Duration::from_mins(10));
        assert_eq!(config.grace_period, Duration::from_secs(10));
        assert_eq!(config.advertise_host, None);
        assert!(!format!("{config:?}").contains("t0ken"));
    }

    #[test]
    fn without_a_token_in_the_vault_there_is_none() {
        let config = read_changed(&[("YT_SECURE_VAULT_tractorun_yt_token", None)], SPEC).unwrap();
        assert_eq!(config.token, None);
        assert!(config.client.token.is_none());
    }

    #[test]
    fn the_launcher_of_an_older_release_asks_for_no_metrics_port() {
        assert_eq!(read_changed(&[("YT_PORT_5", None)], SPEC).unwrap().metrics_port, None);
    }

    #[test]
    fn one_worker_has_no_prefix_unless_it_is_asked_for() {
        let one = SPEC.replace("\"process_per_node\": 4", "\"process_per_node\": 1");
        assert_eq!(read_changed(&[], &one).unwrap().prefix, Prefix::None);
        let rank = one.replace("\"auto\"", "\"rank\"");
        assert_eq!(read_changed(&[], &rank).unwrap().prefix, Prefix::Rank);
    }

    #[test]
    fn each_bad_variable_is_named() {
        for (name, value, expected) in [
            ("YT_JOB_COOKIE", Some("x"), r#"YT_JOB_COOKIE: expected a number below node_count 2, got "x""#),
            ("YT_JOB_COOKIE", Some("2"), r#"YT_JOB_COOKIE: expected a number below node_count 2, got "2""#),
            ("YT_JOB_COOKIE", None, "YT_JOB_COOKIE: not set: expected a number below node_count 2"),
            (
                "YT_PORT_4",
                None,
                "YT_PORT_4: not set: the operation must ask for 6 ports per job (port_count in its task)",
            ),
            ("YT_PORT_5", Some("x"), r#"YT_PORT_5: expected a port from 1 to 65535, got "x""#),
            ("YT_PORT_3", Some("0"), r#"YT_PORT_3: expected a port from 1 to 65535, got "0""#),
            ("YT_JOB_ID", None, "YT_JOB_ID: not set: expected to run as a job of an operation"),
            ("YT_OPERATION_ID", Some(""), "YT_OPERATION_ID: is empty"),
            (
                "TRACTORUN_NODES_HERE",
                Some("3"),
                r#"TRACTORUN_NODES_HERE: expected a number from 1 to node_count 2, got "3""#,
            ),
            ("TRACTORUN_JOB_SPEC", None, "TRACTORUN_JOB_SPEC: not set: expected the path of the job spec"),
        ] {
            assert_eq!(error(&[(name, value)], SPEC), format!("bad configuration: {expected}"));
        }
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let spec = SPEC
            .replace("\"//tmp/training\"", "\"tmp\"")
            .replace("\"MODE\"", "\"A=B\"")
            .replace("\"/app/train.py\"", "\"../train.py\"")
            .replace("\"bind-0.tar.zst\"", "\"../bind\"")
            .replace("\"mylib\"", "\"my/lib\"")
            .replace("\"//tmp/secret\"", "\"secret\"");
        let change = [("YT_JOB_COOKIE", Some("-1")), ("YT_PORT_3", None), ("YT_PORT_4", None)];
        assert_eq!(
            error(&change, &spec),
            "bad configuration: yt_path: expected a path that starts with //, got \"tmp\"; \
             env: \"A=B\" cannot be the name of a variable; \
             env API_KEY: expected a Cypress path that starts with //, got \"secret\"; \
             binds: expected the name of a file in the sandbox, got \"../bind\"; \
             bind: destination \"../train.py\" leaves the sandbox; \
             libs: \"my/lib\" cannot be the name of a library; \
             YT_JOB_COOKIE: expected a number below node_count 2, got \"-1\"; \
             YT_PORT_3 to YT_PORT_4: not set: the operation must ask for 6 ports per job (port_count in its task)"
        );
    }

    #[test]
    fn commands_of_sidecars_are_checked() {
        let empty = SPEC.replace("\"vector\"", "\"\"");
        assert!(error(&[], &empty).ends_with("sidecars[0].command: expected a command, got none"));
        let nul = SPEC.replace("\"--quiet\"", "\"a\\u0000b\"");
        assert!(error(&[], &nul).ends_with("sidecars[0].command: a NUL byte cannot be passed to a process"));
        let policy = error(&[], &SPEC.replace("\"on_failure\"", "\"sometimes\""));
        assert!(policy.contains("unknown variant `sometimes`, expected one of `always`"), "{policy}");
    }

    #[test]
    fn numbers_of_the_spec_are_checked() {
        let none = SPEC.replace("\"node_count\": 2", "\"node_count\": 0");
        assert!(error(&[], &none).contains("mesh.node_count: expected at least 1, got 0"));
        let many = SPEC.replace("\"node_count\": 2", "\"node_count\": 4000000000");
        assert!(error(&[], &many).contains("mesh.node_count: expected at most 1000000, got 4000000000"));
        // It must not take the time and the memory of four billion ports to say so.
        let crowded = SPEC.replace("\"process_per_node\": 4", "\"process_per_node\": 4294967295");
        assert!(
            error(&[], &crowded).contains("mesh.process_per_node: expected at most 65533, got 4294967295")
        );
        let product = SPEC
            .replace("\"process_per_node\": 4", "\"process_per_node\": 60000")
            .replace("\"node_count\": 2", "\"node_count\": 1000000");
        assert!(error(&[], &product).contains("mesh: 1000000 nodes of 60000 workers are too many"));
        let mute = SPEC.replace("\"heartbeat_ms\": 30000", "\"heartbeat_ms\": 0");
        assert!(error(&[], &mute).contains("timeouts.heartbeat_ms: expected more than 0"));
    }

    #[test]
    fn a_spec_that_is_not_there_or_too_new_is_named_with_its_path() {
        let missing = error(&[("TRACTORUN_JOB_SPEC", Some("other.json"))], SPEC);
        assert!(missing.starts_with("cannot read job spec `/"), "{missing}");
        assert!(missing.ends_with("/other.json`: No such file or directory (os error 2)"), "{missing}");

        let new = error(&[], &SPEC.replace("\"1.0\"", "\"2.0\""));
        assert!(
            new.starts_with("job spec has version 2.0, this tractorun-init reads versions up to 1.0 (in `/")
        );
        assert!(
            new.contains("job-spec.json`)\nhint: use a tractorun-init of the launcher's release"),
            "{new}"
        );
    }

    #[test]
    fn destinations_may_be_anywhere_but_relative_ones_stay_in_the_sandbox() {
        for (destination, fine) in [
            ("/anywhere/at/all", true),
            ("a/../b", true),
            ("./x", true),
            (".", true),
            ("..", false),
            ("a/../../b", false),
            ("", false),
        ] {
            let mut problems = Problems::default();
            check_destination(destination, &mut problems);
            assert_eq!(problems.0.is_empty(), fine, "{destination}");
        }
    }

    #[test]
    fn workers_start_in_the_sandbox_unless_a_local_run_says_where() {
        let in_a_job = config();
        assert_eq!(in_a_job.working_directory, in_a_job.sandbox);
        let here = config_of(&[("TRACTORUN_WORKING_DIRECTORY", Some("/"))], |_| ());
        assert_eq!(here.working_directory, Path::new("/"));
        let error = read_changed(&[("TRACTORUN_WORKING_DIRECTORY", Some("not/absolute"))], SPEC).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad configuration: TRACTORUN_WORKING_DIRECTORY: expected an absolute path of a folder, got \
             `not/absolute`"
        );
    }
}
