//! What a dry run and `no_wait` print: one JSON document on stdout, in the layout of the Python tractorun.
//!
//! Nothing secret gets here: the secure vault is shown by its keys, and a `secure_vault` that the user wrote
//! into their own configuration is masked as well.

use serde_json::{Map, Value, json};
use tractorun_contract::env::worker;
use tractorun_contract::job_spec::{EnvSource, JobSpec};
use tractorun_contract::placement::{CpuAffinity, OmpNumThreads, Placement};
use tractorun_yt::{YsonNode, YsonValue};

use crate::operation::OperationSpec;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// The document: `configuration`, `run_info` and `errors` as the Python tractorun has them, and the job spec.
pub fn document(
    configuration: Value,
    spec: &OperationSpec,
    job_spec: &JobSpec,
    operation_id: Option<&str>,
) -> Value {
    let mut configuration = configuration;
    mask_vaults(&mut configuration);
    json!({
        "configuration": configuration,
        "run_info": {
            "operation_spec": shown_spec(spec),
            "operation_id": operation_id,
            "job_spec": job_spec,
            "placement": placement(job_spec),
        },
        "errors": [],
    })
}

/// What every worker of a node will get, as far as that is known without the node: which of its GPUs, counted in its
/// own order; the CPUs only it knows.
fn placement(job_spec: &JobSpec) -> Value {
    let JobSpec { mesh, placement: Placement { gpu_visibility, cpu_affinity, omp_num_threads }, env, .. } =
        job_spec;
    let of_user = env.iter().rfind(|variable| variable.name == worker::OMP_NUM_THREADS);
    let threads = match (of_user.map(|variable| &variable.source), omp_num_threads) {
        (Some(EnvSource::Value(value)), _) => json!(value),
        (Some(EnvSource::CypressPath(path)), _) => json!({ "cypress_path": path }),
        (None, OmpNumThreads::Torchrun) if mesh.process_per_node > 1 => json!(1),
        // What the image says, or one for each CPU.
        (None, OmpNumThreads::Torchrun) => Value::Null,
        (None, OmpNumThreads::Auto | OmpNumThreads::Count(_)) => json!(omp_num_threads),
    };
    let has_gpus = mesh.gpu_per_process > 0;
    let show = |local_rank| {
        json!({
            "local_rank": local_rank,
            "gpus": mesh.gpus_of(local_rank).collect::<Vec<_>>(),
            "gpu_visibility": has_gpus.then_some(gpu_visibility),
            "cpu_affinity": if has_gpus { *cpu_affinity } else { CpuAffinity::None },
            "omp_num_threads": threads,
        })
    };
    json!({
        "gpus_per_node": mesh.gpus_per_node(),
        "workers": (0..mesh.process_per_node).map(show).collect::<Vec<_>>(),
    })
}

fn shown_spec(spec: &OperationSpec) -> Value {
    let mut shown = to_json(&spec.open);
    if let (Value::Object(entries), false) = (&mut shown, spec.vault.is_empty()) {
        let vault = spec.vault.keys().map(|key| (key.to_owned(), Value::from(MASK))).collect();
        entries.insert("secure_vault".to_owned(), Value::Object(vault));
    }
    shown
}

/// YSON as the cluster writes it in JSON: a value with attributes is `{"$attributes": .., "$value": ..}`.
fn to_json(value: &YsonValue) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let plain = match &value.node {
        YsonNode::Entity => Value::Null,
        YsonNode::Boolean(value) => Value::from(*value),
        YsonNode::Int64(value) => Value::from(*value),
        YsonNode::Uint64(value) => Value::from(*value),
        YsonNode::Double(value) => Value::from(*value),
        YsonNode::String(bytes) => Value::from(text(bytes)),
        YsonNode::List(items) => items.iter().map(to_json).collect(),
        YsonNode::Map(entries) => {
            Value::Object(entries.iter().map(|(key, item)| (text(key), to_json(item))).collect())
        }
    };
    match &value.attributes {
        Some(attributes) if !attributes.is_empty() => {
            let attributes: Map<_, _> =
                attributes.iter().map(|(key, item)| (text(key), to_json(item))).collect();
            json!({"$attributes": attributes, "$value": plain})
        }
        _ => plain,
    }
}

/// Masks every value of every `secure_vault`, wherever it stands.
fn mask_vaults(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (key, item) in entries {
                match item {
                    Value::Object(secrets) if key == "secure_vault" => {
                        secrets.values_mut().for_each(|secret| *secret = Value::from(MASK));
                    }
                    _ if key == "secure_vault" => *item = Value::from(MASK),
                    // A spec given on the command line may still be the text that the user typed.
                    Value::String(text) if text.contains("secure_vault") => MASK.clone_into(text),
                    _ => mask_vaults(item),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_vaults),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vaults_are_masked_wherever_they_stand() {
        let mut value = json!({
            "a": {"yt_operation_spec": {"secure_vault": {"key": {"deep": "t0p"}, "other": 1}, "title": "x"}},
            "b": [{"yt_operation_spec": "{\"secure_vault\": {\"key\": \"t0p\"}}"}],
            "secure_vault": "t0p",
        });
        mask_vaults(&mut value);
        assert!(!value.to_string().contains("t0p"), "{value}");
        assert_eq!(value["a"]["yt_operation_spec"]["secure_vault"], json!({"key": "***", "other": "***"}));
        assert_eq!(value["a"]["yt_operation_spec"]["title"], "x");
    }

    #[test]
    fn every_worker_is_shown_with_what_it_will_get() {
        let shown = |more: Value| {
            let mut spec = json!({
                "version": "1.0", "cluster": {"proxy": "h"}, "yt_path": "//x", "command": ["sh"],
                "mesh": {"node_count": 1, "process_per_node": 2, "gpu_per_process": 2},
            });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            placement(&JobSpec::parse(spec.to_string().as_bytes()).unwrap())
        };
        let worker = |local_rank: u32, gpus: [u32; 2]| json!({"local_rank": local_rank, "gpus": gpus, "gpu_visibility": "all", "cpu_affinity": "numa", "omp_num_threads": 1});
        let expected = json!({"gpus_per_node": 4, "workers": [worker(0, [0, 1]), worker(1, [2, 3])]});
        assert_eq!(shown(json!({})), expected);

        let given =
            json!({"placement": {"gpu_visibility": "own", "cpu_affinity": "none", "omp_num_threads": 7}});
        let worker = &shown(given)["workers"][1];
        assert_eq!((&worker["gpu_visibility"], &worker["cpu_affinity"]), (&json!("own"), &json!("none")));
        assert_eq!(worker["omp_num_threads"], 7);

        let bare = json!({
            "mesh": {"node_count": 1, "process_per_node": 1, "gpu_per_process": 0},
            "placement": {"gpu_visibility": "own"},
        });
        let worker = json!({
            "local_rank": 0, "gpus": [], "gpu_visibility": null, "cpu_affinity": "none", "omp_num_threads": null,
        });
        assert_eq!(shown(bare), json!({"gpus_per_node": 0, "workers": [worker]}));

        let threads = |placement: &str, env: Value| {
            let given = json!({"placement": {"omp_num_threads": placement}, "env": env});
            shown(given)["workers"][0]["omp_num_threads"].clone()
        };
        assert_eq!(threads("auto", json!([])), "auto");
        assert_eq!(threads("auto", json!([{"name": "OMP_NUM_THREADS", "value": "3"}])), "3");
        let secret = json!([{"name": "OMP_NUM_THREADS", "cypress_path": "//s"}]);
        assert_eq!(threads("auto", secret), json!({"cypress_path": "//s"}));
    }

    #[test]
    fn attributes_are_shown_as_yt_writes_them() {
        let path = tractorun_yt::value::with_attributes(
            tractorun_yt::value::string("//x"),
            [("executable", tractorun_yt::value::boolean(true))],
        );
        assert_eq!(to_json(&path), json!({"$attributes": {"executable": true}, "$value": "//x"}));
    }
}
