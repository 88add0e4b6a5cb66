//! The user's variables whose values are read from the cluster.
//!
//! All are read side by side. A value is held as it is sent to the worker and is never shown, not even in
//! an error.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use tokio::task::JoinSet;
use tractorun_contract::job_spec::{EnvSource, EnvVar};
use tractorun_yt::{Client, YsonNode, YsonValue};

/// Why a variable has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("variable {name}: cannot read `{path}`: {reason}")]
    Unreadable { name: String, path: String, reason: String },
    #[error("variable {name}: `{path}` holds a {found}: expected a string or a number")]
    WrongType { name: String, path: String, found: &'static str },
    #[error("variable {name}: `{path}` holds a NUL byte, which cannot be passed to a process")]
    Nul { name: String, path: String },
    #[error("variable {name}: reading it failed: {reason}")]
    Aborted { name: String, reason: String },
}

/// Where values are read from.
pub(super) trait Source: Clone + Send + Sync + 'static {
    /// The value at that path; the error is its text.
    fn read(&self, path: &str) -> impl Future<Output = Result<YsonValue, String>> + Send;
}

impl Source for Client {
    async fn read(&self, path: &str) -> Result<YsonValue, String> {
        self.get(path).await.map_err(|error| error.to_string())
    }
}

/// The user's variables with their values, in the user's order.
pub(super) async fn resolve(
    variables: &[EnvVar],
    source: &impl Source,
) -> Result<Vec<(OsString, OsString)>, SecretError> {
    let mut values: Vec<Option<OsString>> = vec![None; variables.len()];
    let mut reads = JoinSet::new();
    for (index, EnvVar { name, source: from, scope: _ }) in variables.iter().enumerate() {
        match from {
            EnvSource::Value(value) => values[index] = Some(value.into()),
            EnvSource::CypressPath(path) => {
                let (source, name, path) = (source.clone(), name.clone(), path.clone());
                reads.spawn(async move { (index, read(&source, name, path).await) });
            }
        }
    }
    while let Some(finished) = reads.join_next().await {
        let (index, value) = finished.map_err(|error| SecretError::Aborted {
            name: "from Cypress".to_owned(),
            reason: error.to_string(),
        })?;
        values[index] = Some(value?);
    }
    let names = variables.iter().map(|variable| OsString::from(&variable.name));
    Ok(names.zip(values.into_iter().map(Option::unwrap_or_default)).collect())
}

async fn read(source: &impl Source, name: String, path: String) -> Result<OsString, SecretError> {
    let value = match source.read(&path).await {
        Ok(value) => value,
        Err(reason) => return Err(SecretError::Unreadable { name, path, reason }),
    };
    let text = match value.node {
        YsonNode::String(bytes) if bytes.contains(&0) => return Err(SecretError::Nul { name, path }),
        YsonNode::String(bytes) => OsString::from_vec(bytes),
        YsonNode::Int64(number) => number.to_string().into(),
        YsonNode::Uint64(number) => number.to_string().into(),
        YsonNode::Double(number) => number.to_string().into(),
        other => {
            let found = match other {
                YsonNode::Boolean(_) => "boolean",
                YsonNode::List(_) => "list",
                YsonNode::Map(_) => "map",
                _ => "value of no type (an empty document, a file or a table)",
            };
            return Err(SecretError::WrongType { name, path, found });
        }
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tractorun_contract::job_spec::EnvScope;
    use tractorun_yt::value;

    use super::*;

    #[derive(Clone)]
    struct Memory(Arc<BTreeMap<&'static str, YsonValue>>);

    impl Source for Memory {
        async fn read(&self, path: &str) -> Result<YsonValue, String> {
            self.0.get(path).cloned().ok_or_else(|| "no such node".to_owned())
        }
    }

    fn memory() -> Memory {
        Memory(Arc::new(BTreeMap::from([
            ("//text", value::bytes(b"s\xffcret".to_vec())),
            ("//int", value::int(-7)),
            ("//uint", value::uint(7_u64)),
            ("//double", value::double(0.5)),
            ("//map", value::map([("token", value::string("hidden"))])),
            ("//list", value::list([value::string("hidden")])),
            ("//bool", value::boolean(true)),
            ("//empty", value::entity()),
            ("//nul", value::string("hid\0den")),
        ])))
    }

    fn from_cypress(name: &str, path: &str) -> EnvVar {
        EnvVar { name: name.into(), source: EnvSource::CypressPath(path.into()), scope: EnvScope::Everybody }
    }

    #[tokio::test]
    async fn values_come_in_the_users_order() {
        let plain =
            EnvVar { name: "PLAIN".into(), source: EnvSource::Value("p".into()), scope: EnvScope::Workers };
        let variables = [
            from_cypress("T", "//text"),
            plain,
            from_cypress("I", "//int"),
            from_cypress("U", "//uint"),
            from_cypress("D", "//double"),
        ];
        let resolved = resolve(&variables, &memory()).await.unwrap();
        let text = OsString::from_vec(b"s\xffcret".to_vec());
        let expected =
            [("T", text), ("PLAIN", "p".into()), ("I", "-7".into()), ("U", "7".into()), ("D", "0.5".into())];
        assert_eq!(resolved, expected.map(|(name, value)| (OsString::from(name), value)));
    }

    #[tokio::test]
    async fn errors_name_variable_and_path_and_never_the_value() {
        for (path, expected) in [
            ("//gone", "variable KEY: cannot read `//gone`: no such node"),
            ("//map", "variable KEY: `//map` holds a map: expected a string or a number"),
            ("//list", "variable KEY: `//list` holds a list: expected a string or a number"),
            ("//bool", "variable KEY: `//bool` holds a boolean: expected a string or a number"),
            ("//nul", "variable KEY: `//nul` holds a NUL byte, which cannot be passed to a process"),
        ] {
            let error = resolve(&[from_cypress("KEY", path)], &memory()).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = resolve(&[from_cypress("KEY", "//empty")], &memory()).await.unwrap_err();
        assert!(error.to_string().contains("`//empty` holds a value of no type"), "{error}");
    }
}
