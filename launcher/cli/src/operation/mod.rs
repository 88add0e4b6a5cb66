//! What is handed to the cluster: the job spec for `tractorun-init` and the spec of the vanilla operation.
//!
//! Pure: from checked settings and known paths to values, without network, files or environment. The secure
//! vault is kept apart from the rest of the spec ([`Vault`]), so that whoever shows a spec cannot show it.

use serde_json::{Map, Value};
use tractorun_contract::env;
use tractorun_contract::exit::InitExit;
use tractorun_contract::job_spec::{
    Bind, Cluster, CypressBind, JobSpec, Lib, LinePrefix, Links, Mesh, PartCount, SPEC_VERSION, Tensorproxy,
};
use tractorun_contract::topology::TENSORPROXY_PORT_COUNT;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{YsonNode, YsonValue};

use crate::settings::{BindAttributes, InitSource, Place, Settings};
use crate::tensorproxy;

pub use vault::Vault;

pub mod docker_auth;
mod merge;
#[cfg(test)]
mod tests;
mod vault;

/// Name of the init binary in the sandbox.
pub const INIT_FILE: &str = "tractorun-init";

/// Name of the job spec in the sandbox.
pub const JOB_SPEC_FILE: &str = "job-spec.json";

/// Type of the operation.
pub const OPERATION_TYPE: &str = "vanilla";

/// Name of the operation's only task.
const TASK: &str = "task";

/// The most jobs that a cluster keeps the stderr of.
const MAX_STDERR_COUNT: i64 = 150;

/// Name of the archive of the bind with that index.
pub fn bind_archive(index: usize) -> String {
    format!("bind-{index}.tar.zst")
}

/// Name of the archive of the library with that index.
pub fn lib_archive(index: usize) -> String {
    format!("lib-{index}.tar.zst")
}

/// Name of the Cypress file with that index.
pub fn cypress_file(index: usize) -> String {
    format!("cypress-{index}")
}

/// A file that the cluster puts into every sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxFile {
    /// Its name there.
    pub name: String,
    /// Cypress path of its content.
    pub path: String,
    /// How the cluster hands it out.
    pub attributes: BindAttributes,
}

/// A Cypress file to place, found by expanding the user's Cypress binds.
#[derive(Debug, Clone, PartialEq)]
pub struct CypressFile {
    /// Its Cypress path.
    pub path: String,
    /// Where it goes.
    pub destination: String,
    /// How the cluster hands it out.
    pub attributes: BindAttributes,
}

/// Spec of the operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationSpec {
    /// Everything that may be shown.
    pub open: YsonValue,
    /// The rest.
    pub vault: Vault,
}

/// Why no spec can be built.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The user's own secure vault has the wrong shape.
    #[error("yt_operation_spec: `secure_vault` is not a map")]
    VaultIsNoMap,
}

/// The job spec, every archive in one part. `cypress` is what the Cypress binds were expanded to.
pub fn job_spec(settings: &Settings, proxy: &str, cypress: &[CypressFile], links: Links) -> JobSpec {
    let mesh = mesh(settings);
    JobSpec {
        version: SPEC_VERSION,
        cluster: Cluster { proxy: proxy.to_owned() },
        yt_path: settings.yt_path.clone(),
        mesh,
        command: settings.command.clone(),
        env: settings.env.clone(),
        sidecars: settings.sidecars.clone(),
        tensorproxy: settings.tensorproxy.as_ref().map(|tensorproxy| Tensorproxy {
            file: tensorproxy::FILE.to_owned(),
            restart_policy: tensorproxy.restart_policy,
        }),
        user_config: settings.user_config.clone(),
        binds: settings
            .bind_local
            .iter()
            .enumerate()
            .map(|(index, bind)| Bind {
                archive: bind_archive(index),
                destination: bind.destination.clone(),
                parts: PartCount::ONE,
            })
            .collect(),
        libs: settings
            .bind_local_lib
            .iter()
            .enumerate()
            .map(|(index, path)| Lib {
                archive: lib_archive(index),
                name: lib_name(path),
                parts: PartCount::ONE,
            })
            .collect(),
        cypress_binds: cypress
            .iter()
            .enumerate()
            .map(|(index, file)| CypressBind {
                file: cypress_file(index),
                destination: file.destination.clone(),
            })
            .collect(),
        line_prefix: match settings.place {
            Place::Local if mesh.node_count > 1 => LinePrefix::Rank,
            Place::Local | Place::Cluster => LinePrefix::Auto,
        },
        timeouts: settings.timeouts,
        logs: settings.logs,
        restarts: settings.restarts.clone(),
        preemption: match settings.place {
            Place::Cluster => Some(settings.preemption),
            // Nobody takes this machine away, and SIGTERM is how the launcher stops its nodes.
            Place::Local => None,
        },
        placement: settings.mesh.placement,
        links,
    }
}

/// The sandbox's files that lie on the cluster: those of Cypress binds, and the tensorproxy.
pub fn cypress_files(settings: &Settings, cypress: &[CypressFile]) -> Vec<SandboxFile> {
    let binds = cypress.iter().enumerate().map(|(index, file)| SandboxFile {
        name: cypress_file(index),
        path: file.path.clone(),
        attributes: file.attributes.clone(),
    });
    binds.chain(settings.tensorproxy.as_ref().map(tensorproxy::sandbox_file)).collect()
}

/// Number of ports of each node.
pub fn port_count(settings: &Settings) -> u32 {
    let own = mesh(settings).port_count();
    if settings.tensorproxy.is_some() { own + TENSORPROXY_PORT_COUNT } else { own }
}

/// What `import` knows a library by: the last part of its path, with `.` and `..` resolved where that part has
/// no name of its own.
pub fn lib_name(path: &std::path::Path) -> String {
    let named = path.file_name().map(std::ffi::OsStr::to_owned);
    let name = named.or_else(|| path.canonicalize().ok()?.file_name().map(std::ffi::OsStr::to_owned));
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Variables that every job's init finds, on the cluster and in `--local`.
pub fn task_environment(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        (env::JOB_SPEC, JOB_SPEC_FILE.to_owned()),
        (env::client::ALLOW_HTTP_FROM_JOB, "1".to_owned()),
        (env::worker::PYTHONDONTWRITEBYTECODE, "1".to_owned()),
    ];
    if let Some(user_config) = &settings.user_config {
        environment.push((env::client::USER_CONFIG, Value::Object(user_config.clone()).to_string()));
    }
    environment
}

/// The operation's spec: ours, with the user's `yt_task_spec` and `yt_operation_spec` merged over it.
pub fn operation_spec(
    settings: &Settings,
    files: &[SandboxFile],
    links: &Links,
    vault: Vault,
) -> Result<OperationSpec, SpecError> {
    let mut vault = vault;
    let mut user_operation = settings.yt_operation_spec.clone();
    match user_operation.remove("secure_vault") {
        None => {}
        Some(Value::Object(secrets)) => {
            for (key, secret) in secrets {
                vault.insert(&key, value::from_json(&secret));
            }
        }
        Some(_) => return Err(SpecError::VaultIsNoMap),
    }
    let task = task_spec(settings, files);
    let mut entries = vec![
        ("tasks", value::map([(TASK, task)])),
        ("title", value::string(&settings.title)),
        ("fail_on_job_restart", value::boolean(true)),
        ("is_gang", value::boolean(true)),
        ("max_stderr_count", value::int(MAX_STDERR_COUNT)),
        ("annotations", annotations(settings, links)),
    ];
    if !settings.mesh.pool_trees.is_empty() {
        entries.push(("pool_trees", value::list(settings.mesh.pool_trees.iter().map(value::string))));
    }
    if let Some(pool) = &settings.mesh.pool {
        entries.push(("pool", value::string(pool)));
    }
    let mut open = value::map(entries);
    merge::merge(&mut open, yson_map(&user_operation));
    Ok(OperationSpec { open, vault })
}

impl OperationSpec {
    /// The whole spec as the cluster wants it, secrets included.
    pub fn to_yson(&self) -> YsonValue {
        let mut spec = self.open.clone();
        if let (YsonNode::Map(entries), false) = (&mut spec.node, self.vault.is_empty()) {
            entries.insert(b"secure_vault".to_vec(), self.vault.expose());
        }
        spec
    }
}

fn mesh(settings: &Settings) -> Mesh {
    Mesh {
        node_count: settings.mesh.node_count,
        process_per_node: settings.mesh.process_per_node,
        gpu_per_process: settings.mesh.gpu_per_process,
    }
}

/// What the job's bash runs: it becomes `tractorun-init`.
///
/// An image's is looked for by bash, where its default `PATH` leads, and where our images have it. One that is missing
/// is said in the job's stderr, and the code is that of bad configuration.
fn start_command(init: InitSource) -> String {
    match init {
        InitSource::Bring => format!("exec ./{INIT_FILE}"),
        InitSource::Image => format!(
            "init=$(type -P {INIT_FILE} || echo /usr/local/bin/{INIT_FILE}); [ ! -x \"$init\" ] || exec \"$init\"; \
             echo 'tractorun: init: the image has no {INIT_FILE}, neither on PATH nor in /usr/local/bin' >&2; \
             echo 'hint: build one into the image, or leave out `--init image`: the launcher brings its own' >&2; \
             exit {}",
            InitExit::BadConfig.code()
        ),
    }
}

fn task_spec(settings: &Settings, files: &[SandboxFile]) -> YsonValue {
    let mesh = mesh(settings);
    let environment = task_environment(settings);
    let gpu_limit = i64::from(mesh.gpu_per_process) * i64::from(mesh.process_per_node);
    let mut entries = vec![
        ("command", value::string(start_command(settings.init))),
        ("job_count", value::int(mesh.node_count)),
        ("port_count", value::int(port_count(settings))),
        ("gpu_limit", value::int(gpu_limit)),
        ("environment", value::map(environment.iter().map(|(name, text)| (name, value::string(text))))),
    ];
    // Preemption, announced to init alone: it tells all nodes.
    entries.push(("interruption_signal", value::string("SIGTERM")));
    entries.push(("signal_root_process_only", value::boolean(true)));
    if let Some(cpu_limit) = settings.resources.cpu_limit {
        entries.push(("cpu_limit", value::double(cpu_limit)));
    }
    if let Some(bytes) = settings.resources.memory_limit_bytes {
        entries.push(("memory_limit", value::from_json(&Value::from(bytes))));
    }
    if let Some(image) = &settings.docker_image {
        entries.push(("docker_image", value::string(image)));
    }
    let mut task = value::map(entries);
    let mut user_task = settings.yt_task_spec.clone();
    // Files of the user's own come besides ours: without init there would be no job.
    let user_files = user_task.remove("file_paths").map(|files| value::from_json(&files));
    merge::merge(&mut task, yson_map(&user_task));
    let user_files = user_files.as_ref().and_then(ValueExt::as_list).unwrap_or_default();
    let file_paths = files.iter().map(file_path).chain(user_files.iter().cloned());
    if let YsonNode::Map(entries) = &mut task.node {
        entries.insert(b"file_paths".to_vec(), value::list(file_paths));
    }
    task
}

fn file_path(file: &SandboxFile) -> YsonValue {
    let BindAttributes { executable, format, bypass_artifact_cache } = &file.attributes;
    let mut attributes = vec![("file_name", value::string(&file.name))];
    attributes.extend(executable.map(|executable| ("executable", value::boolean(executable))));
    attributes.extend(format.as_ref().map(|format| ("format", value::from_json(format))));
    attributes.extend(bypass_artifact_cache.map(|bypass| ("bypass_artifact_cache", value::boolean(bypass))));
    value::with_attributes(value::string(&file.path), attributes)
}

/// Texts for the cluster's web interface, laid out as the Python tractorun does.
fn annotations(settings: &Settings, links: &Links) -> YsonValue {
    let training_dir = match links.of_node(&settings.yt_path) {
        Some(url) => value::url(url),
        None => value::string(&settings.yt_path),
    };
    let pool_trees = &settings.mesh.pool_trees;
    let mesh = value::map([
        ("node_count", value::int(settings.mesh.node_count)),
        ("process_per_node", value::int(settings.mesh.process_per_node)),
        ("gpu_per_process", value::int(settings.mesh.gpu_per_process)),
        (
            "pool_trees",
            // The Python tractorun tells what was not given from what is empty.
            if pool_trees.is_empty() {
                value::entity()
            } else {
                value::list(pool_trees.iter().map(value::string))
            },
        ),
        ("pool", settings.mesh.pool.as_ref().map_or_else(value::entity, value::string)),
    ]);
    let description = value::map([("training_dir", training_dir), ("mesh", mesh)]);
    value::map([
        ("is_tractorun", value::boolean(true)),
        // As it is, for programs: in the description it may be a link.
        ("yt_path", value::string(&settings.yt_path)),
        ("description", value::map([("tractorun", description)])),
    ])
}

fn yson_map(map: &Map<String, Value>) -> YsonValue {
    value::map(map.iter().map(|(key, item)| (key, value::from_json(item))))
}
