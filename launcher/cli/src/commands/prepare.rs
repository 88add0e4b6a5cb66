//! What the cluster must hold or tell before a run starts.

use std::collections::BTreeMap;

use anyhow::Context;
use tractorun_contract::cypress;
use tractorun_contract::job_spec::Links;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{
    BatchRequest, Client, CreateOptions, Error, NodeType, YsonNode, YsonValue, YtError, codes,
};

use crate::operation::docker_auth::{self, Form};
use crate::settings::DEFAULT_CLUSTER_CONFIG_PATH;

use super::terminal::Terminal;

/// Number of the newest incarnation before the first.
const NO_INCARNATION: i64 = -1;

/// Makes the run's folders. What exists is left as it is, above all the number of the newest incarnation.
pub async fn run_folders(client: &Client, yt_path: &str) -> anyhow::Result<()> {
    create_folders(client, yt_path).await.with_context(|| format!("cannot prepare `{yt_path}`"))
}

async fn create_folders(client: &Client, yt_path: &str) -> Result<(), Error> {
    // A new base folder has its number from the first moment on; attributes of an existing one stay.
    let options = CreateOptions {
        recursive: true,
        ignore_existing: true,
        attributes: BTreeMap::from([(cypress::INCARNATION_ID.to_owned(), value::int(NO_INCARNATION))]),
        ..CreateOptions::default()
    };
    client.create(NodeType::MapNode, yt_path, options).await?;
    let number = format!("{yt_path}/@{}", cypress::INCARNATION_ID);
    let mut requests: Vec<_> = cypress::DIRECTORIES
        .iter()
        .map(|name| {
            BatchRequest::new("create")
                .parameter("type", value::string("map_node"))
                .parameter("path", value::string(format!("{yt_path}/{name}")))
                .parameter("ignore_existing", value::boolean(true))
        })
        .collect();
    requests.push(BatchRequest::new("exists").parameter("path", value::string(&number)));
    let answers: Vec<YsonValue> =
        client.execute_batch(requests).await?.into_iter().collect::<Result<_, YtError>>()?;
    if answers.last().and_then(ValueExt::as_bool) == Some(false) {
        client.set(&number, &value::int(NO_INCARNATION)).await?;
    }
    Ok(())
}

/// Reads the Docker registry's credentials, where the user names some.
pub async fn docker_auth(
    client: &Client,
    path: Option<&str>,
    terminal: &Terminal,
) -> anyhow::Result<Option<YsonValue>> {
    let Some(path) = path else { return Ok(None) };
    let document =
        client.get(path).await.with_context(|| format!("docker_auth_secret: cannot read `{path}`"))?;
    let auth = docker_auth::parse(path, &document)?;
    if auth.form == Form::Plain {
        terminal.warning(format_args!(
            "docker_auth_secret: `{path}` has the old plain form; put the values into \
             {{\"secrets\": {{\"username\": {{\"value\": ..}}, \"password\": {{\"value\": ..}}}}}}"
        ));
    }
    Ok(Some(auth.vault_value))
}

/// Reads the cluster's tractorun configuration. Without it a run only lacks links in the web interface.
pub async fn cluster_links(client: &Client, path: &str, terminal: &Terminal) -> anyhow::Result<Links> {
    match client.get(path).await {
        Ok(config) => {
            let (links, wrong) = links_of(&config);
            for key in wrong {
                terminal.warning(format_args!(
                    "cluster_config_path: `{key}` in `{path}` is not text, going on without"
                ));
            }
            Ok(links)
        }
        Err(Error::Yt(error)) if error.contains(codes::RESOLVE_ERROR) => {
            // Most clusters have none, and nobody asked for it: then there is nothing to warn of.
            if path != DEFAULT_CLUSTER_CONFIG_PATH {
                terminal
                    .warning(format_args!("cluster_config_path: `{path}` does not exist, going on without"));
            }
            Ok(Links::default())
        }
        Err(Error::Yt(error)) => {
            terminal.warning(format_args!(
                "cluster_config_path: cannot read `{path}`, going on without: {error}"
            ));
            Ok(Links::default())
        }
        Err(error) => Err(error.into()),
    }
}

/// The templates of a cluster's configuration, and the keys whose values cannot be one. These two are all keys that the
/// Python tractorun knows; others are the administrator's own.
fn links_of(config: &YsonValue) -> (Links, Vec<&'static str>) {
    let mut wrong = Vec::new();
    let mut template = |key| {
        let value = config.get(key).filter(|value| value.node != YsonNode::Entity)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            wrong.push(key);
        }
        text
    };
    let links = Links {
        cypress_link_template: template("cypress_link_template"),
        job_stderr_link_template: template("job_stderr_link_template"),
    };
    (links, wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_text_and_what_is_none_is_named() {
        let links = |config| links_of(&value::from_json(&config));
        let text = |text: &str| Some(text.to_owned());
        let (cypress, stderr) = (text("https://ui?path={path}"), text("https://ui/{operation_id}/{job_id}"));
        let whole = json!({ "cypress_link_template": cypress, "job_stderr_link_template": stderr, "own": 1 });
        let expected = Links { cypress_link_template: cypress, job_stderr_link_template: stderr };
        assert_eq!(links(whole), (expected, vec![]));
        assert_eq!(links(json!(null)), (Links::default(), vec![]));
        assert_eq!(links(json!({ "cypress_link_template": null })), (Links::default(), vec![]));
        let wrong = json!({ "cypress_link_template": 7, "job_stderr_link_template": ["x"] });
        let keys = vec!["cypress_link_template", "job_stderr_link_template"];
        assert_eq!(links(wrong), (Links::default(), keys));
    }
}
