//! What a dry run and `no_wait` print: one JSON document on stdout, in the layout of the Python tractorun.
//!
//! Nothing secret gets here: the secure vault is shown by its keys, and a `secure_vault` that the user wrote
//! into their own configuration is masked as well.

use serde_json::{Map, Value, json};
use tractorun_contract::job_spec::JobSpec;
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
        },
        "errors": [],
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
    fn attributes_are_shown_as_yt_writes_them() {
        let path = tractorun_yt::value::with_attributes(
            tractorun_yt::value::string("//x"),
            [("executable", tractorun_yt::value::boolean(true))],
        );
        assert_eq!(to_json(&path), json!({"$attributes": {"executable": true}, "$value": "//x"}));
    }
}
