//! The complete environment of a worker or sidecar. No IO.
//!
//! Layers, a later one wins:
//! 1. what the job inherited (over what its image has saved, see [`crate::image_env`]), without what is init's own (its token above all);
//! 2. what the launcher promised: proxy, token, the user's config, a `PATH`, the tensorproxy's address;
//! 3. the user's variables;
//! 4. who the worker is: ranks, endpoints, paths. Nobody overrides these.
//!
//! A sidecar gets the job's environment as a worker does, and is told which node and sidecar it is. It gets no rank
//! and no world size: a library that finds those would take it for a worker.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use tractorun_contract::env::{self, client, worker, yt};
use tractorun_contract::sidecar::SidecarId;
use tractorun_contract::topology::Topology;

use super::Environment;
use super::config::Config;
use super::placement::{Allotment, Weight};
use crate::rendezvous::address::endpoint;

/// What bash gives a process that has no `PATH`; the job's command runs under bash, which does not export it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name that torchrun gives to the only role of a job.
const ROLE: &str = "default";

/// What is the same for all workers of a node.
pub(super) struct NodeContext<'a> {
    pub(super) config: &'a Config,
    pub(super) inherited: &'a Environment,
    /// The user's variables with their values.
    pub(super) user: &'a [(OsString, OsString)],
    /// Folders to put in front of `PYTHONPATH`.
    pub(super) python_path: &'a [PathBuf],
    pub(super) incarnation: u32,
    pub(super) topology: &'a Topology,
    /// Path of the file that tells workers when they will be killed.
    pub(super) stop_deadline_file: &'a Path,
}

impl NodeContext<'_> {
    /// The environment of one worker, sorted by name; `worker_config` is the file that `TRACTO_CONFIG` names.
    pub(super) fn worker(
        &self,
        local_rank: u32,
        worker_config: &Path,
        allotment: &Allotment,
    ) -> Vec<(OsString, OsString)> {
        let mut variables = self.inherited();
        let placed = |of: Weight| allotment.variables.iter().filter(move |(weight, ..)| *weight == of);
        for (_, name, value) in placed(Weight::Default) {
            variables.entry(name.into()).or_insert_with(|| value.into());
        }
        for (_, name, value) in placed(Weight::Option) {
            variables.insert(name.into(), value.into());
        }
        self.promised(&mut variables);
        if let Some(tensorproxy) = &self.config.tensorproxy {
            variables.insert(worker::TS_GRPC_ADDRESS.into(), tensorproxy.address().into());
        }
        variables.extend(self.user.iter().cloned());
        for (_, name, value) in placed(Weight::Duty) {
            variables.insert(name.into(), value.into());
        }
        self.extend_python_path(&mut variables);
        for (name, value) in self.identity(local_rank) {
            variables.insert(name.into(), value.into());
        }
        variables.insert(worker::TRACTO_CONFIG.into(), worker_config.into());
        variables.insert(env::STOP_DEADLINE_FILE.into(), self.stop_deadline_file.into());
        variables.into_iter().collect()
    }

    /// The environment of one sidecar, sorted by name; `self.user` holds what is for sidecars too.
    pub(super) fn sidecar(&self, id: SidecarId) -> Vec<(OsString, OsString)> {
        let mut variables = self.inherited();
        self.promised(&mut variables);
        variables.extend(self.user.iter().cloned());
        self.extend_python_path(&mut variables);
        let Topology { workers: _, master_host, master_port } = self.topology;
        for (name, value) in [
            (worker::MASTER_ADDR, master_host.clone()),
            (worker::MASTER_PORT, master_port.to_string()),
            (worker::NODE_RANK, self.config.node_rank.to_string()),
            (env::INCARNATION_ID, self.incarnation.to_string()),
            (env::YT_PATH, self.config.yt_path.clone()),
        ] {
            variables.insert(name.into(), value.into());
        }
        if let SidecarId::Index(index) = id {
            variables.insert(env::SIDECAR_INDEX.into(), index.to_string().into());
        }
        variables.into_iter().collect()
    }

    /// What the job inherited, without what is init's own.
    fn inherited(&self) -> BTreeMap<OsString, OsString> {
        let mut variables: BTreeMap<OsString, OsString> = self
            .inherited
            .iter()
            .filter(|(name, _)| !is_init_own(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        variables.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        // The Python client refuses plain HTTP in a job otherwise, and these are in one.
        variables.entry(client::ALLOW_HTTP_FROM_JOB.into()).or_insert_with(|| "1".into());
        variables
    }

    fn promised(&self, variables: &mut BTreeMap<OsString, OsString>) {
        variables.insert(client::PROXY.into(), (&self.config.proxy).into());
        if let Some(token) = &self.config.token {
            variables.insert(client::TOKEN.into(), token.expose().into());
        }
        if let Some(user_config) = &self.config.user_config {
            let json = serde_json::Value::Object(user_config.clone()).to_string();
            variables.insert(client::USER_CONFIG.into(), json.into());
        }
    }

    fn extend_python_path(&self, variables: &mut BTreeMap<OsString, OsString>) {
        if self.python_path.is_empty() {
            return;
        }
        let mut path = OsString::new();
        for folder in self.python_path {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(folder);
        }
        // An empty element would mean the working directory.
        if let Some(rest) = variables.get(OsStr::new(worker::PYTHONPATH)).filter(|rest| !rest.is_empty()) {
            path.push(":");
            path.push(rest);
        }
        variables.insert(worker::PYTHONPATH.into(), path);
    }

    fn identity(&self, local_rank: u32) -> Vec<(&'static str, String)> {
        let Config { mesh, node_rank, operation_id, yt_path, .. } = self.config;
        let rank = mesh.rank(*node_rank, local_rank).to_string();
        let world_size = mesh.world_size().to_string();
        let Topology { workers: _, master_host, master_port } = self.topology;
        vec![
            (worker::MASTER_ADDR, master_host.clone()),
            (worker::MASTER_PORT, master_port.to_string()),
            (worker::WORLD_SIZE, world_size.clone()),
            (worker::NODE_RANK, node_rank.to_string()),
            (worker::LOCAL_RANK, local_rank.to_string()),
            (worker::RANK, rank.clone()),
            (worker::LOCAL_WORLD_SIZE, mesh.process_per_node.to_string()),
            (worker::GROUP_RANK, node_rank.to_string()),
            (worker::GROUP_WORLD_SIZE, mesh.node_count.to_string()),
            (worker::ROLE_RANK, rank.clone()),
            (worker::ROLE_WORLD_SIZE, world_size.clone()),
            (worker::ROLE_NAME, ROLE.to_owned()),
            (worker::TORCHELASTIC_RESTART_COUNT, "0".to_owned()),
            (worker::TORCHELASTIC_MAX_RESTARTS, self.config.restarts.max.to_string()),
            (worker::TORCHELASTIC_RUN_ID, operation_id.clone()),
            (worker::JAX_COORDINATOR_ADDRESS, endpoint(master_host, *master_port)),
            (worker::JAX_NUM_PROCESSES, world_size),
            (worker::JAX_PROCESS_ID, rank),
            (env::INCARNATION_ID, self.incarnation.to_string()),
            (env::ATTEMPT, "0".to_owned()),
            (env::YT_PATH, yt_path.clone()),
        ]
    }
}

/// Whether a variable of the job is for init alone.
fn is_init_own(name: &OsStr) -> bool {
    // The whole vault as one text would hand on what is taken out one by one.
    let own = [
        env::JOB_SPEC,
        env::ADVERTISE_HOST,
        env::LIFELINE,
        env::WORKING_DIRECTORY,
        env::LOG_LEVEL,
        env::NODES_HERE,
        env::HARDWARE_ROOT,
        env::IMAGE_ENV,
        yt::SECURE_VAULT,
    ];
    if own.iter().any(|own| name == *own) {
        return true;
    }
    let key = name.to_str().and_then(|name| name.strip_prefix(yt::SECURE_VAULT_PREFIX));
    key.is_some_and(|key| key == env::VAULT_YT_TOKEN || key == env::VAULT_DOCKER_AUTH)
}

#[cfg(test)]
mod tests {
    use tractorun_contract::job_spec::{self, Mesh, RestartPolicy};
    use tractorun_contract::placement::OmpNumThreads;
    use tractorun_sys::CpuSet;

    use super::super::placement::{self, Machine, Request};
    use super::*;
    use crate::job::config::tests::{config, config_of};

    fn topology() -> Topology {
        Topology { workers: Vec::new(), master_host: "gpu0".into(), master_port: 7000 }
    }

    type Variables = BTreeMap<String, String>;

    /// What a machine without GPUs gives.
    fn allotment(config: &Config) -> Allotment {
        let mesh = Mesh { gpu_per_process: 0, ..config.mesh };
        let request = Request { mesh, node_rank: 0, nodes_here: 1, placement: config.placement };
        placement::plan(request, &Machine::default(), &CpuSet::new(), &|_| None).unwrap().remove(0)
    }

    fn environment(
        config: &Config,
        inherited: &[(&str, &str)],
        user: &[(&str, &str)],
        python_path: &[PathBuf],
        topology: &Topology,
    ) -> Variables {
        let inherited: Environment = inherited.iter().copied().collect();
        let user: Vec<(OsString, OsString)> =
            user.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let context = NodeContext {
            config,
            inherited: &inherited,
            user: &user,
            python_path,
            incarnation: 5,
            topology,
            stop_deadline_file: Path::new("/s/stop"),
        };
        let text = |value: OsString| value.into_string().unwrap();
        context
            .worker(3, Path::new("/w.json"), &allotment(config))
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    #[test]
    fn a_bare_job_gives_exactly_this() {
        let variables = environment(&config(), &[], &[], &[], &topology());
        let expected: Variables = [
            ("GROUP_RANK", "1"),
            ("GROUP_WORLD_SIZE", "2"),
            ("JAX_COORDINATOR_ADDRESS", "gpu0:7000"),
            ("JAX_NUM_PROCESSES", "8"),
            ("JAX_PROCESS_ID", "7"),
            ("LOCAL_RANK", "3"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "gpu0"),
            ("MASTER_PORT", "7000"),
            ("NODE_RANK", "1"),
            ("OMP_NUM_THREADS", "1"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("RANK", "7"),
            ("ROLE_NAME", "default"),
            ("ROLE_RANK", "7"),
            ("ROLE_WORLD_SIZE", "8"),
            ("TORCHELASTIC_MAX_RESTARTS", "0"),
            ("TORCHELASTIC_RESTART_COUNT", "0"),
            ("TORCHELASTIC_RUN_ID", "1-2-3-4"),
            ("TRACTORUN_ATTEMPT", "0"),
            ("TRACTORUN_INCARNATION_ID", "5"),
            ("TRACTORUN_STOP_DEADLINE_FILE", "/s/stop"),
            ("TRACTORUN_YT_PATH", "//tmp/training"),
            ("TRACTO_CONFIG", "/w.json"),
            ("WORLD_SIZE", "8"),
            ("YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB", "1"),
            ("YT_PROXY", "http://127.0.0.1:8000"),
            ("YT_TOKEN", "t0ken"),
            ("YT_USER_CONFIG", r#"{"a":"b"}"#),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(variables, expected);
    }

    #[test]
    fn what_is_inits_own_does_not_reach_workers() {
        let inherited = [
            ("YT_SECURE_VAULT", "{tractorun_yt_token=x}"),
            ("YT_SECURE_VAULT_tractorun_yt_token", "x"),
            ("YT_SECURE_VAULT_docker_auth", "x"),
            ("TRACTORUN_JOB_SPEC", "x"),
            ("TRACTORUN_LIFELINE", "x"),
            ("TRACTORUN_ADVERTISE_HOST", "x"),
            ("TRACTORUN_WORKING_DIRECTORY", "/x"),
            ("TRACTORUN_NODES_HERE", "2"),
            ("TRACTORUN_HARDWARE_ROOT", "/x"),
            ("TRACTORUN_IMAGE_ENV", "/x"),
        ];
        let variables = environment(&config(), &inherited, &[], &[], &topology());
        for (name, _) in inherited {
            assert!(!variables.contains_key(name), "{name}");
        }
        // The user's own secrets do.
        let inherited = [("YT_SECURE_VAULT_wandb", "w"), ("YT_JOB_ID", "j")];
        let variables = environment(&config(), &inherited, &[], &[], &topology());
        assert_eq!(
            (variables["YT_SECURE_VAULT_wandb"].as_str(), variables["YT_JOB_ID"].as_str()),
            ("w", "j")
        );
    }

    #[test]
    fn later_layers_win_and_ranks_always() {
        // Name, inherited, the user's, what the worker sees.
        for (name, inherited, user, expected) in [
            ("PATH", Some("/opt/bin"), None, "/opt/bin"),
            ("PATH", Some("/opt/bin"), Some("/my/bin"), "/my/bin"),
            ("MODE", Some("slow"), Some("fast"), "fast"),
            ("YT_PROXY", Some("http://other"), None, "http://127.0.0.1:8000"),
            ("YT_PROXY", None, Some("http://mine"), "http://mine"),
            ("YT_TOKEN", Some("laptop"), None, "t0ken"),
            ("OMP_NUM_THREADS", Some("4"), None, "4"),
            ("OMP_NUM_THREADS", None, Some("8"), "8"),
            ("RANK", Some("99"), Some("98"), "7"),
            ("MASTER_ADDR", None, Some("evil"), "gpu0"),
            ("TRACTO_CONFIG", Some("x"), Some("y"), "/w.json"),
            ("YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB", Some("0"), None, "0"),
        ] {
            let inherited: Vec<_> = inherited.map(|value| (name, value)).into_iter().collect();
            let user: Vec<_> = user.map(|value| (name, value)).into_iter().collect();
            let variables = environment(&config(), &inherited, &user, &[], &topology());
            assert_eq!(variables[name], expected, "{name} {inherited:?} {user:?}");
        }
    }

    #[test]
    fn the_tensorproxys_address_is_there_with_it_and_the_user_may_have_another() {
        let address = |config: &Config, user: &[(&str, &str)]| {
            let inherited = [("TS_GRPC_ADDRESS", "the image's")];
            environment(config, &inherited, user, &[], &topology())["TS_GRPC_ADDRESS"].clone()
        };
        assert_eq!(address(&config(), &[]), "the image's");
        let ports = [("YT_PORT_6", Some("9100")), ("YT_PORT_7", Some("9101"))];
        let with = config_of(&ports, |spec| {
            let restart_policy = RestartPolicy::Always;
            spec.tensorproxy = Some(job_spec::Tensorproxy { file: "p".into(), restart_policy });
        });
        assert_eq!(address(&with, &[]), "localhost:9100");
        assert_eq!(address(&with, &[("TS_GRPC_ADDRESS", "mine")]), "mine");
    }

    #[test]
    fn threads_that_were_asked_for_win_over_the_image_and_lose_to_the_user() {
        let config = config_of(&[], |spec| {
            spec.placement.omp_num_threads = OmpNumThreads::Count(2.try_into().unwrap());
        });
        for (inherited, user, expected) in
            [(None, None, "2"), (Some("4"), None, "2"), (Some("4"), Some("8"), "8"), (None, Some("8"), "8")]
        {
            let inherited: Vec<_> = inherited.map(|value| ("OMP_NUM_THREADS", value)).into_iter().collect();
            let user: Vec<_> = user.map(|value| ("OMP_NUM_THREADS", value)).into_iter().collect();
            let variables = environment(&config, &inherited, &user, &[], &topology());
            assert_eq!(variables["OMP_NUM_THREADS"], expected);
        }
    }

    #[test]
    fn what_a_worker_must_see_wins_over_the_user() {
        let config = config();
        let variables = vec![
            (Weight::Duty, "CUDA_VISIBLE_DEVICES", "3".to_owned()),
            (Weight::Default, "CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ];
        let allotment = Allotment { variables, ..Allotment::default() };
        let user = [("CUDA_VISIBLE_DEVICES", "0,3"), ("CUDA_DEVICE_ORDER", "FASTEST_FIRST")];
        let user = user.map(|(name, value)| (name.into(), value.into()));
        let context = NodeContext {
            config: &config,
            inherited: &Environment::default(),
            user: &user,
            python_path: &[],
            incarnation: 5,
            topology: &topology(),
            stop_deadline_file: Path::new("/s/stop"),
        };
        let seen: BTreeMap<_, _> = context.worker(3, Path::new("/w"), &allotment).into_iter().collect();
        assert_eq!(seen[OsStr::new("CUDA_VISIBLE_DEVICES")], "3");
        assert_eq!(seen[OsStr::new("CUDA_DEVICE_ORDER")], "FASTEST_FIRST");
    }

    #[test]
    fn a_sidecar_of_a_bare_job_gets_exactly_this() {
        let (config, topology) = (config(), topology());
        let inherited: Environment =
            [("YT_JOB_ID", "j"), ("YT_SECURE_VAULT", "s"), ("TRACTORUN_JOB_SPEC", "f")].into_iter().collect();
        let user = [("MODE", "fast"), ("NODE_RANK", "9")].map(|(name, value)| (name.into(), value.into()));
        let context = NodeContext {
            config: &config,
            inherited: &inherited,
            user: &user,
            python_path: &[PathBuf::from("/lib")],
            incarnation: 5,
            topology: &topology,
            stop_deadline_file: Path::new("/s/stop"),
        };
        let expected = [
            ("MASTER_ADDR", "gpu0"),
            ("MASTER_PORT", "7000"),
            ("MODE", "fast"),
            ("NODE_RANK", "1"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("PYTHONPATH", "/lib"),
            ("TRACTORUN_INCARNATION_ID", "5"),
            ("TRACTORUN_SIDECAR_INDEX", "2"),
            ("TRACTORUN_YT_PATH", "//tmp/training"),
            ("YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB", "1"),
            ("YT_JOB_ID", "j"),
            ("YT_PROXY", "http://127.0.0.1:8000"),
            ("YT_TOKEN", "t0ken"),
            ("YT_USER_CONFIG", r#"{"a":"b"}"#),
        ]
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(context.sidecar(SidecarId::Index(2)), expected);
        // The tensorproxy has no number, and no use for its own address.
        let index = OsString::from("TRACTORUN_SIDECAR_INDEX");
        let rest: Vec<_> = expected.into_iter().filter(|(name, _)| *name != index).collect();
        assert_eq!(context.sidecar(SidecarId::Tensorproxy), rest);
    }

    #[test]
    fn libraries_come_first_on_the_python_path() {
        let lib = [PathBuf::from("/s/.tractorun/lib")];
        let python_path = |inherited: &[(&str, &str)], user: &[(&str, &str)], lib: &[PathBuf]| {
            environment(&config(), inherited, user, lib, &topology()).get("PYTHONPATH").cloned()
        };
        assert_eq!(python_path(&[], &[], &[]), None);
        assert_eq!(python_path(&[], &[], &lib).unwrap(), "/s/.tractorun/lib");
        let inherited = [("PYTHONPATH", "/image")];
        assert_eq!(python_path(&inherited, &[], &[]).unwrap(), "/image");
        assert_eq!(python_path(&inherited, &[], &lib).unwrap(), "/s/.tractorun/lib:/image");
        let user = [("PYTHONPATH", "/user")];
        assert_eq!(python_path(&inherited, &user, &lib).unwrap(), "/s/.tractorun/lib:/user");
        assert_eq!(python_path(&[("PYTHONPATH", "")], &[], &lib).unwrap(), "/s/.tractorun/lib");
    }

    #[test]
    fn a_single_worker_may_use_all_cores_and_no_token_is_no_variable() {
        let one = config_of(&[("YT_SECURE_VAULT_tractorun_yt_token", None)], |spec| {
            spec.mesh.process_per_node = 1;
            spec.user_config = None;
        });
        let variables = environment(&one, &[], &[], &[], &topology());
        for name in ["OMP_NUM_THREADS", "YT_TOKEN", "YT_USER_CONFIG"] {
            assert!(!variables.contains_key(name), "{name}");
        }
    }

    #[test]
    fn an_ipv6_master_has_brackets_only_in_endpoints() {
        let topology = Topology { master_host: "2001:db8::7".into(), ..topology() };
        let variables = environment(&config(), &[], &[], &[], &topology);
        assert_eq!(variables["MASTER_ADDR"], "2001:db8::7");
        assert_eq!(variables["JAX_COORDINATOR_ADDRESS"], "[2001:db8::7]:7000");
    }
}
