//! The configuration as JSON, for a dry run, as it was given: who prints it masks what is secret in it.

use serde_json::{Map, Value, json};
use tractorun_contract::job_spec::{EnvScope, EnvSource, EnvVar, Logs, Preemption, Restarts, Timeouts};
use tractorun_contract::placement::Placement;

use super::file::Layer;
use super::node::{Content, Node};
use super::{
    BindAttributes, BindCypress, BindLocal, Mesh, Place, ProxyStderrMode, Resources, RunMode, Settings,
    Tensorproxy, Wait, options,
};

/// The settings as a YAML file would spell them, all defaults filled in.
pub fn effective_config(settings: &Settings) -> Value {
    // Taken apart completely, so that a new setting is not forgotten here.
    let Settings {
        yt_path,
        title,
        docker_image,
        init,
        command,
        mesh: Mesh { node_count, process_per_node, gpu_per_process, placement, pool_trees, pool },
        env,
        sidecars,
        tensorproxy,
        resources: Resources { cpu_limit, memory_limit_bytes },
        restarts: Restarts { max, window_ms, backoff_ms, never },
        preemption: Preemption { signal, timeout_ms },
        timeouts: Timeouts { rendezvous_ms, heartbeat_ms, grace_period_ms },
        user_config,
        bind_local,
        bind_local_lib,
        bind_ignore,
        bind_cypress,
        proxy_stderr_mode,
        logs,
        wait,
        transaction_timeout,
        run_mode,
        place,
        docker_auth_secret,
        cluster_config_path,
        yt_operation_spec,
        yt_task_spec,
    } = settings;
    let Placement { gpu_visibility, cpu_affinity, omp_num_threads } = placement;
    json!({
        "yt_path": yt_path,
        "title": title,
        "docker_image": docker_image,
        "init": init.word(),
        "command": command,
        "mesh": {
            "node_count": node_count,
            "process_per_node": process_per_node,
            "gpu_per_process": gpu_per_process,
            "gpu_visibility": gpu_visibility,
            "cpu_affinity": cpu_affinity,
            "omp_num_threads": omp_num_threads,
            "pool_trees": pool_trees,
            "pool": pool,
        },
        "env": env.iter().map(show_variable).collect::<Value>(),
        "resources": { "cpu_limit": cpu_limit, "memory_limit": memory_limit_bytes },
        "restarts": {
            "max": max,
            "window": window_ms.map(span),
            "backoff": span(*backoff_ms),
            "never": never,
        },
        "grace_period": span(*grace_period_ms),
        "heartbeat_timeout": span(*heartbeat_ms),
        "rendezvous_timeout": span(*rendezvous_ms),
        "preemption": { "signal": signal, "timeout": span(*timeout_ms) },
        "user_config": user_config,
        "bind_local": bind_local.iter().map(show_bind_local).collect::<Value>(),
        "bind_local_lib": bind_local_lib,
        "bind_ignore": bind_ignore.word(),
        "bind_cypress": bind_cypress.iter().map(show_bind_cypress).collect::<Value>(),
        "sidecars": sidecars,
        "proxy_stderr_mode": match proxy_stderr_mode {
            ProxyStderrMode::Disabled => "disabled",
            ProxyStderrMode::Primary => "primary",
            ProxyStderrMode::All => "all",
        },
        "operation_log_mode": logs.mode,
        "logs": show_logs(logs),
        "no_wait": *wait == Wait::NotAtAll,
        "transaction_timeout": format!("{}ms", transaction_timeout.as_millis()),
        "dry_run": *run_mode == RunMode::DryRun,
        "local": *place == Place::Local,
        "docker_auth_secret": docker_auth_secret.as_ref().map(|path| json!({ "cypress_path": path })),
        "cluster_config_path": cluster_config_path,
        "yt_operation_spec": yt_operation_spec,
        "yt_task_spec": yt_task_spec,
        "tensorproxy": match tensorproxy {
            Some(Tensorproxy { yt_path, restart_policy }) => {
                json!({ "enabled": true, "yt_path": yt_path, "restart_policy": restart_policy })
            }
            None => json!({ "enabled": false }),
        },
    })
}

/// A span of time as it may be written.
fn span(ms: u64) -> String {
    format!("{ms}ms")
}

/// The options given on the command line, as JSON by their key.
pub(super) fn cli_args(layer: &Layer, command: &[String]) -> Value {
    let mut args = Map::new();
    for (key, node) in layer {
        let is_json = options::by_key(key).is_some_and(|option| {
            matches!(
                option.takes,
                options::Takes::One(_, options::Notation::Json)
                    | options::Takes::Each(_, options::Notation::Json)
            )
        });
        args.insert((*key).to_owned(), shown(node, is_json));
    }
    if !command.is_empty() {
        args.insert("command".to_owned(), command.into());
    }
    Value::Object(args)
}

/// A value of the command line as JSON: as what it says where it is a number or JSON, else as text.
fn shown(node: &Node, is_json: bool) -> Value {
    match &node.content {
        Content::List(items) => items.iter().map(|item| shown(item, is_json)).collect(),
        Content::Text(text) if is_json || text.starts_with('{') => {
            Node::from_json(text).map_or_else(|_| node.to_json(), |value| value.to_json())
        }
        _ => node.to_json(),
    }
}

fn show_logs(logs: &Logs) -> Value {
    let Logs { mode: _, batch_bytes, batch_age_ms, memory_bytes, spool_bytes, overflow, drain_timeout_ms } =
        *logs;
    json!({
        "batch_bytes": batch_bytes,
        "batch_age": span(batch_age_ms),
        "memory": memory_bytes,
        "spool": spool_bytes,
        "overflow": overflow,
        "drain_timeout": span(drain_timeout_ms),
    })
}

fn show_variable(variable: &EnvVar) -> Value {
    let mut shown = match &variable.source {
        EnvSource::Value(value) => json!({ "name": variable.name, "value": value }),
        EnvSource::CypressPath(path) => json!({ "name": variable.name, "cypress_path": path }),
    };
    if variable.scope == EnvScope::Workers {
        shown["sidecars"] = false.into();
    }
    shown
}

fn show_bind_local(bind: &BindLocal) -> Value {
    json!({ "source": bind.source, "destination": bind.destination })
}

fn show_bind_cypress(bind: &BindCypress) -> Value {
    let BindCypress { source, destination, attributes } = bind;
    let BindAttributes { executable, format, bypass_artifact_cache } = attributes;
    json!({
        "source": source,
        "destination": destination,
        "attributes": {
            "executable": executable,
            "format": format,
            "bypass_artifact_cache": bypass_artifact_cache,
        },
    })
}
