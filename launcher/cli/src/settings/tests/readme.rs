//! Every option as the README of the Python tractorun shows it, on the command line and in YAML: both must
//! mean the same, and must differ from the default.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tractorun_contract::job_spec::{
    EnvScope, EnvSource, EnvVar, LogMode, LogOverflow, Preemption, PreemptionSignal, RestartPolicy, Restarts,
    Sidecar, Timeouts,
};
use tractorun_contract::placement::{CpuAffinity, GpuVisibility, OmpNumThreads, Placement};

use super::super::options::{GivenIn, OPTIONS};
use super::super::*;
use super::{YamlFile, settings};

/// An option on the command line, the same in YAML, and what it sets.
struct Example {
    line: &'static [&'static str],
    yaml: &'static str,
    set: fn(&mut Settings),
}

/// What no option gives, for `Settings` of the command `sh`.
fn defaults() -> Settings {
    Settings {
        yt_path: "//tmp/tractorun/an-id".to_owned(),
        title: "Tractorun //tmp/tractorun/an-id".to_owned(),
        docker_image: Some("image".to_owned()),
        init: InitSource::Bring,
        command: vec!["sh".to_owned()],
        mesh: Mesh {
            node_count: 1,
            process_per_node: 1,
            gpu_per_process: 0,
            placement: Placement::default(),
            pool_trees: Vec::new(),
            pool: None,
        },
        env: Vec::new(),
        sidecars: Vec::new(),
        tensorproxy: None,
        resources: Resources::default(),
        restarts: Restarts::default(),
        preemption: Preemption::default(),
        timeouts: Timeouts::default(),
        user_config: None,
        bind_local: Vec::new(),
        bind_local_lib: Vec::new(),
        bind_ignore: IgnoreFiles::Git,
        bind_cypress: Vec::new(),
        proxy_stderr_mode: ProxyStderrMode::Disabled,
        logs: Logs::default(),
        wait: Wait::ForEnd,
        transaction_timeout: Duration::from_mins(1),
        run_mode: RunMode::Submit,
        place: Place::Cluster,
        docker_auth_secret: None,
        cluster_config_path: "//home/tractorun/config".to_owned(),
        yt_operation_spec: Map::new(),
        yt_task_spec: Map::new(),
    }
}

fn variable(name: &str, source: EnvSource) -> EnvVar {
    EnvVar { name: name.to_owned(), source, scope: EnvScope::Everybody }
}

fn sidecar(command: &[&str], restart_policy: RestartPolicy) -> Sidecar {
    Sidecar { command: command.iter().map(ToString::to_string).collect(), restart_policy }
}

fn tensorproxy(yt_path: &str, restart_policy: RestartPolicy) -> Tensorproxy {
    Tensorproxy { yt_path: yt_path.to_owned(), restart_policy }
}

static EXAMPLES: [Example; 48] = [
    Example {
        line: &["--tensorproxy.enabled"],
        yaml: "tensorproxy: {enabled: true}",
        set: |s| s.tensorproxy = Some(tensorproxy("//sys/tractorun/tensorproxy", RestartPolicy::Always)),
    },
    Example {
        line: &[
            "--tensorproxy.enabled",
            "--tensorproxy.yt_path",
            "//tmp/proxy",
            "--tensorproxy.restart_policy",
            "never",
        ],
        yaml: "tensorproxy: {enabled: true, yt_path: //tmp/proxy, restart_policy: never}",
        set: |s| s.tensorproxy = Some(tensorproxy("//tmp/proxy", RestartPolicy::Never)),
    },
    Example { line: &["--restarts.max", "3"], yaml: "restarts: {max: 3}", set: |s| s.restarts.max = 3 },
    Example {
        line: &["--restarts.window", "10m"],
        yaml: "restarts: {window: 10m}",
        set: |s| s.restarts.window_ms = Some(600_000),
    },
    Example {
        line: &["--restarts.backoff", "0s"],
        yaml: "restarts: {backoff: 0}",
        set: |s| s.restarts.backoff_ms = 0,
    },
    Example {
        line: &["--restarts.never", "2", "--restarts.never", "138"],
        yaml: "restarts: {never: [2, 138]}",
        set: |s| s.restarts.never = vec![2, 138],
    },
    Example {
        line: &["--grace-period", "30s"],
        yaml: "grace_period: 30s",
        set: |s| s.timeouts.grace_period_ms = 30_000,
    },
    Example {
        line: &["--heartbeat-timeout", "1m"],
        yaml: "heartbeat_timeout: 1m",
        set: |s| s.timeouts.heartbeat_ms = 60_000,
    },
    Example {
        line: &["--rendezvous-timeout", "1h"],
        yaml: "rendezvous_timeout: 1h",
        set: |s| s.timeouts.rendezvous_ms = 3_600_000,
    },
    Example {
        line: &["--preemption.signal", "SIGUSR1"],
        yaml: "preemption: {signal: SIGUSR1}",
        set: |s| s.preemption.signal = PreemptionSignal::Usr1,
    },
    Example {
        line: &["--preemption.timeout", "1.5m"],
        yaml: "preemption: {timeout: 1.5m}",
        set: |s| s.preemption.timeout_ms = 90_000,
    },
    Example {
        line: &["--yt-path", "//tmp/training"],
        yaml: "yt_path: //tmp/training",
        set: |s| {
            s.yt_path = "//tmp/training".to_owned();
            s.title = "Tractorun //tmp/training".to_owned();
        },
    },
    Example {
        line: &["--docker-image", "my-docker-image"],
        yaml: "docker_image: my-docker-image",
        set: |s| s.docker_image = Some("my-docker-image".to_owned()),
    },
    Example { line: &["--init", "image"], yaml: "init: image", set: |s| s.init = InitSource::Image },
    Example {
        line: &["--title", "Operation Title"],
        yaml: "title: \"Operation Title\"",
        set: |s| s.title = "Operation Title".to_owned(),
    },
    Example {
        line: &["--mesh.node-count", "3"],
        yaml: "mesh:\n  node_count: 3",
        set: |s| s.mesh.node_count = 3,
    },
    Example {
        line: &["--mesh.process-per-node", "2"],
        yaml: "mesh:\n  process_per_node: 2",
        set: |s| s.mesh.process_per_node = 2,
    },
    Example {
        line: &["--mesh.gpu-per-process", "1"],
        yaml: "mesh:\n  gpu_per_process: 1",
        set: |s| s.mesh.gpu_per_process = 1,
    },
    Example {
        line: &["--mesh.gpu-visibility", "own"],
        yaml: "mesh:\n  gpu_visibility: own",
        set: |s| s.mesh.placement.gpu_visibility = GpuVisibility::Own,
    },
    Example {
        line: &["--mesh.cpu-affinity", "none"],
        yaml: "mesh:\n  cpu_affinity: none",
        set: |s| s.mesh.placement.cpu_affinity = CpuAffinity::None,
    },
    Example {
        line: &["--mesh.omp-num-threads", "auto"],
        yaml: "mesh:\n  omp_num_threads: auto",
        set: |s| s.mesh.placement.omp_num_threads = OmpNumThreads::Auto,
    },
    Example {
        line: &["--mesh.omp-num-threads", "4"],
        yaml: "mesh:\n  omp_num_threads: 4",
        set: |s| s.mesh.placement.omp_num_threads = OmpNumThreads::Count(4.try_into().unwrap()),
    },
    Example {
        line: &["--mesh.pool-trees", "gpu_h100"],
        yaml: "mesh:\n  pool_trees: [gpu_h100]",
        set: |s| s.mesh.pool_trees = vec!["gpu_h100".to_owned()],
    },
    Example {
        line: &["--mesh.pool", "research"],
        yaml: "mesh:\n  pool: research",
        set: |s| s.mesh.pool = Some("research".to_owned()),
    },
    Example {
        line: &[
            "--env",
            r#"{"name": "MY_VAR_1", "value": "123"}"#,
            "--env",
            r#"{"name": "ENV_VAR_2", "cypress_path": "//tmp/sec_value"}"#,
        ],
        yaml: "env:\n  - name: MY_VAR_1\n    value: \"123\"\n  - name: ENV_VAR_2\n    cypress_path: //tmp/sec_value",
        set: |s| {
            s.env = vec![
                variable("MY_VAR_1", EnvSource::Value("123".to_owned())),
                variable("ENV_VAR_2", EnvSource::CypressPath("//tmp/sec_value".to_owned())),
            ];
        },
    },
    Example {
        line: &["--resources.cpu-limit", "4"],
        yaml: "resources:\n  cpu_limit: 4",
        set: |s| s.resources.cpu_limit = Some(4.0),
    },
    Example {
        line: &["--resources.memory-limit", "17179869184"],
        yaml: "resources:\n  memory_limit: 17179869184  # 16GiB",
        set: |s| s.resources.memory_limit_bytes = Some(17_179_869_184),
    },
    Example {
        line: &["--user-config", r#"{"a": "b"}"#],
        yaml: "user_config:\n  a: \"b\"",
        set: |s| s.user_config = json!({"a": "b"}).as_object().cloned(),
    },
    Example {
        line: &["--bind-local", "./src:/path/in/container"],
        yaml: "bind_local:\n  - source: ./src\n    destination: /path/in/container",
        set: |s| {
            s.bind_local = vec![BindLocal {
                source: PathBuf::from("./src"),
                destination: "/path/in/container".to_owned(),
            }];
        },
    },
    Example {
        line: &["--bind-local", "{'source': './src', 'destination': '/path/in/container'}"],
        yaml: "bind_local: [\"./src:/path/in/container\"]",
        set: |s| {
            s.bind_local = vec![BindLocal {
                source: PathBuf::from("./src"),
                destination: "/path/in/container".to_owned(),
            }];
        },
    },
    Example {
        line: &["--bind-local-lib", "./src"],
        yaml: "bind_local_lib:\n  - \"./src\"",
        set: |s| s.bind_local_lib = vec![PathBuf::from("./src")],
    },
    Example {
        line: &["--bind-ignore", "none"],
        yaml: "bind_ignore: none",
        set: |s| s.bind_ignore = IgnoreFiles::None,
    },
    Example {
        line: &["--bind-cypress", "//tmp/path:/path/in/container"],
        yaml: "bind_cypress:\n  - source: //tmp/path\n    destination: /path/in/container",
        set: |s| {
            s.bind_cypress = vec![BindCypress {
                source: "//tmp/path".to_owned(),
                destination: "/path/in/container".to_owned(),
                attributes: BindAttributes::default(),
            }];
        },
    },
    Example {
        line: &[
            "--bind-cypress",
            "{'source': '//tmp/path', 'destination': '/path/in/container', 'attributes': \
                 {'executable': True, 'format': None, 'bypass_artifact_cache': False}}",
        ],
        yaml: "bind_cypress:\n  - source: //tmp/path\n    destination: /path/in/container\n    attributes:\n      \
                   executable: True\n      format: None\n      bypass_artifact_cache: False",
        set: |s| {
            s.bind_cypress = vec![BindCypress {
                source: "//tmp/path".to_owned(),
                destination: "/path/in/container".to_owned(),
                attributes: BindAttributes {
                    executable: Some(true),
                    format: None,
                    bypass_artifact_cache: Some(false),
                },
            }];
        },
    },
    Example {
        line: &["--sidecar", r#"{"command": ["python", "script.py"], "restart_policy": "always"}"#],
        yaml: "sidecars:\n  - command: [\"python\", \"script.py\"]\n    restart_policy: always",
        set: |s| s.sidecars = vec![sidecar(&["python", "script.py"], RestartPolicy::Always)],
    },
    Example {
        line: &[
            "--sidecar",
            r#"{"command": ["a", ""], "restart_policy": "on_failure"}"#,
            "--sidecar",
            r#"{"command": ["b"], "restart_policy": "never"}"#,
            "--sidecar",
            r#"{"command": ["c"], "restart_policy": "fail"}"#,
        ],
        yaml: "sidecars:\n- {command: [a, ''], restart_policy: on_failure}\n- {command: [b], restart_policy: never}\n\
               - {command: [c], restart_policy: fail}",
        set: |s| {
            s.sidecars = vec![
                sidecar(&["a", ""], RestartPolicy::OnFailure),
                sidecar(&["b"], RestartPolicy::Never),
                sidecar(&["c"], RestartPolicy::Fail),
            ];
        },
    },
    Example {
        line: &[
            "--env",
            r#"{"name": "KEY", "value": "1", "sidecars": false}"#,
            "--env",
            r#"{"name": "MODE", "value": "2", "sidecars": true}"#,
        ],
        yaml: "env:\n- {name: KEY, value: 1, sidecars: false}\n- {name: MODE, value: 2, sidecars: true}",
        set: |s| {
            let value = |value: &str| EnvSource::Value(value.to_owned());
            let key = variable("KEY", value("1"));
            s.env = vec![EnvVar { scope: EnvScope::Workers, ..key }, variable("MODE", value("2"))];
        },
    },
    Example {
        line: &["--proxy-stderr-mode", "primary"],
        yaml: "proxy_stderr_mode: primary",
        set: |s| s.proxy_stderr_mode = ProxyStderrMode::Primary,
    },
    Example {
        line: &["--operation-log-mode", "realtime_yt_table"],
        yaml: "operation_log_mode: realtime_yt_table",
        set: |s| s.logs.mode = LogMode::RealtimeYtTable,
    },
    Example {
        line: &["--logs.overflow", "block", "--logs.spool", "0", "--logs.memory", "32MiB"],
        yaml: "logs:\n  overflow: block\n  spool: 0\n  memory: 32MiB",
        set: |s| {
            s.logs.overflow = LogOverflow::Block;
            s.logs.spool_bytes = 0;
            s.logs.memory_bytes = 32 << 20;
        },
    },
    Example {
        line: &["--logs.batch-bytes", "1000000", "--logs.batch-age", "250ms", "--logs.drain-timeout", "1.5m"],
        yaml: "logs: {batch_bytes: 1000000, batch_age: 250ms, drain_timeout: 1.5m}",
        set: |s| {
            s.logs.batch_bytes = 1_000_000;
            s.logs.batch_age_ms = 250;
            s.logs.drain_timeout_ms = 90_000;
        },
    },
    Example {
        line: &["--transaction-timeout", "10m"],
        yaml: "transaction_timeout: 10m",
        set: |s| s.transaction_timeout = Duration::from_mins(10),
    },
    Example { line: &["--no-wait"], yaml: "no_wait: true", set: |s| s.wait = Wait::NotAtAll },
    Example {
        line: &["--docker-auth-secret.cypress-path", "//path/to/secret"],
        yaml: "docker_auth_secret:\n  cypress_path: //path/to/secret",
        set: |s| s.docker_auth_secret = Some("//path/to/secret".to_owned()),
    },
    Example {
        line: &["--cluster-config-path", "//home/other/config"],
        yaml: "cluster_config_path: //home/other/config",
        set: |s| s.cluster_config_path = "//home/other/config".to_owned(),
    },
    Example {
        line: &["--yt-operation-spec", r#"{"title": "custom title"}"#],
        yaml: "yt_operation_spec:\n  title: \"custom title\"",
        set: |s| s.yt_operation_spec = json!({"title": "custom title"}).as_object().cloned().unwrap(),
    },
    Example {
        line: &["--yt-task-spec", r#"{"title": "custom title"}"#],
        yaml: "yt_task_spec:\n  title: \"custom title\"",
        set: |s| s.yt_task_spec = json!({"title": "custom title"}).as_object().cloned().unwrap(),
    },
    Example { line: &["--local", "True"], yaml: "local: true", set: |s| s.place = Place::Local },
];

#[test]
fn nothing_given_gives_the_defaults() {
    assert_eq!(settings(&["sh"]), defaults());
}

#[test]
fn every_example_means_the_same_on_the_command_line_and_in_yaml() {
    for Example { line, yaml, set } in &EXAMPLES {
        let mut expected = defaults();
        set(&mut expected);
        assert_ne!(expected, defaults(), "{line:?} shows nothing");
        assert_eq!(settings(&[*line, &["sh"]].concat()), expected, "{line:?}");
        assert_eq!(YamlFile::new(yaml).settings(&["sh"]), expected, "{yaml}");
    }
}

/// The values that ask for nothing.
#[test]
fn what_is_not_wanted_may_be_said() {
    let line = ["--operation-log-mode", "default", "--tensorproxy.enabled", "false", "sh"];
    assert_eq!(settings(&line), defaults());
    let file = "operation_log_mode: default\nsidecars: []\ntensorproxy:\n  enabled: false\n  yt_path: //tmp/p\n  \
                restart_policy: always";
    assert_eq!(YamlFile::new(file).settings(&["sh"]), defaults());
}

#[test]
fn no_option_is_missing_from_the_examples() {
    for option in OPTIONS.iter().filter(|option| option.given_in == GivenIn::Both) {
        let name = format!("--{}", option.name);
        assert!(EXAMPLES.iter().any(|example| example.line.contains(&&*name)), "no example gives {name}");
    }
}

/// What is shown as the effective configuration is itself a file that means the same.
#[test]
fn the_effective_configuration_is_a_file_of_the_same_meaning() {
    for Example { line, .. } in &EXAMPLES {
        let settings = settings(&[*line, &["sh"]].concat());
        let mut config = effective_config(&settings);
        config.as_object_mut().unwrap().remove("dry_run");
        let file = YamlFile::new(&config.to_string());
        assert_eq!(file.settings(&[]), settings, "{config}");
    }
}

#[test]
fn the_readmes_first_example_is_understood() {
    let settings = settings(&[
        "--yt-path",
        "//tmp/me/tractorun_getting_started",
        "--bind-local",
        "./src/main.rs:/lightning_mnist_ddp_script.py",
        "--bind-local-lib",
        "./src",
        "--docker-image",
        "cr.ai.nebius.cloud/crnf2coti090683j5ssi/tractorun/examples_runtime:2024-11-20-20-00-05",
        "python3",
        "/lightning_mnist_ddp_script.py",
    ]);
    assert_eq!(settings.command, ["python3", "/lightning_mnist_ddp_script.py"]);
    assert_eq!(settings.bind_local[0].destination, "/lightning_mnist_ddp_script.py");
}
