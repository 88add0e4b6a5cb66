//! What the cluster must hold or tell before a run starts.

use std::collections::BTreeMap;

use anyhow::Context;
use tractorun_contract::cypress;
use tractorun_contract::job_spec::Links;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{BatchRequest, Client, CreateOptions, Error, NodeType, YsonValue, YtError, codes};

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
            let template = |key| config.get(key).and_then(YsonValue::as_str).map(str::to_owned);
            Ok(Links {
                cypress_link_template: template("cypress_link_template"),
                job_stderr_link_template: template("job_stderr_link_template"),
            })
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
