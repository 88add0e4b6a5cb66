//! From what a user names a run by to its operation and its incarnation.
//!
//! A run leaves two traces: its operation, with annotations, and an incarnation in Cypress once its leader is up. Either
//! may be missing: an operation that waits for resources has no incarnation yet, and a cluster without an archive
//! forgets operations that ended.

use tractorun_contract::cypress::{self, incarnation as attribute};
use tractorun_contract::failure::{
    ATTEMPTS_ATTRIBUTE, FAILURE_ATTRIBUTE, Failure, SIDECARS_ATTRIBUTE, SidecarEnd,
};
use tractorun_contract::topology::WorkerAddress;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{Client, Error, OperationFilter, YsonValue, codes};

use super::RunError;
use super::operation::{ATTRIBUTES, Operation, Origin};
use super::options::Whereabouts;

/// Operations that are looked through for those of a directory: the newest ones that name it.
const NEWEST_OPERATIONS: u32 = 100;

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Its base directory, if its operation tells or the user did.
    pub(crate) yt_path: Option<String>,
    /// Id of its operation. One that the cluster does not know may be forgotten, or was never one.
    pub(crate) operation_id: String,
    /// Its operation, as far as the cluster knows it.
    pub(crate) operation: Option<Operation>,
    /// Its incarnation, once its leader is up.
    pub(crate) incarnation: Option<Incarnation>,
}

/// What the leader has written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incarnation {
    pub(crate) number: u32,
    /// All workers by rank, once all nodes have met.
    pub(crate) workers: Vec<WorkerAddress>,
    /// Where each node serves metrics, by rank.
    pub(crate) metrics: Vec<Option<String>>,
    pub(crate) failure: Option<Failure>,
    /// Failures that were answered by restarts in place.
    pub(crate) attempts: Vec<Failure>,
    /// Sidecars that ended badly without failing the run, each by its last such end.
    pub(crate) sidecars: Vec<SidecarEnd>,
}

/// The run that is meant.
pub(crate) async fn find(client: &Client, whereabouts: &Whereabouts) -> Result<Run, RunError> {
    match whereabouts {
        Whereabouts::Operation(id) => by_operation(client, id).await,
        Whereabouts::YtPath(path) => by_path(client, path).await,
    }
}

async fn by_operation(client: &Client, id: &str) -> Result<Run, RunError> {
    let Some(operation) = ask(client, id).await? else {
        return Err(RunError::NoSuchOperation { id: id.to_owned(), proxy: client.proxy_url().to_owned() });
    };
    if operation.origin == Origin::Other {
        return Err(RunError::NotARun { id: id.to_owned() });
    }
    let incarnation = match &operation.yt_path {
        Some(path) => match incarnations(client, path).await {
            Ok(all) => read_of(client, path, &all, id).await?,
            // Somebody has removed the directory.
            Err(error) if error.contains(codes::RESOLVE_ERROR) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let yt_path = operation.yt_path.clone();
    Ok(Run { yt_path, operation_id: id.to_owned(), operation: Some(operation), incarnation })
}

async fn by_path(client: &Client, path: &str) -> Result<Run, RunError> {
    let all = match incarnations(client, path).await {
        Ok(all) => all,
        Err(error) if error.contains(codes::RESOLVE_ERROR) => {
            let path = path.to_owned();
            let exists = client.exists(&path).await?;
            return Err(if exists {
                RunError::NoIncarnations { path }
            } else {
                RunError::NoSuchPath { path }
            });
        }
        Err(error) => return Err(error.into()),
    };
    let filter = OperationFilter {
        text: Some(path.to_owned()),
        limit: Some(NEWEST_OPERATIONS),
        ..OperationFilter::default()
    };
    let listed = client.list_operations(&filter, &ATTRIBUTES).await?;
    let mut candidates: Vec<Operation> = listed
        .iter()
        .filter_map(Operation::read)
        .filter(|operation| {
            operation.origin == Origin::Tractorun && operation.yt_path.as_deref() == Some(path)
        })
        .collect();
    // The newest incarnation's, which a title of the user's own may hide from the list.
    let newest = all.iter().rev().find_map(|(_, operation)| operation.clone());
    if let Some(id) = &newest
        && !candidates.iter().any(|candidate| candidate.id == *id)
    {
        candidates.extend(ask(client, id).await?);
    }
    // Times are in the one form that sorts as text.
    let operation = candidates.into_iter().max_by(|one, other| one.started.cmp(&other.started));
    let Some(operation_id) = operation.as_ref().map(|operation| operation.id.clone()).or(newest) else {
        return Err(RunError::NothingBegun { path: path.to_owned() });
    };
    let incarnation = read_of(client, path, &all, &operation_id).await?;
    Ok(Run { yt_path: Some(path.to_owned()), operation_id, operation, incarnation })
}

/// What the cluster knows of an operation, if anything.
pub(crate) async fn ask(client: &Client, id: &str) -> Result<Option<Operation>, Error> {
    match client.get_operation(id, &ATTRIBUTES).await {
        Ok(answer) => Ok(Operation::read(&answer)),
        Err(error)
            if error.contains(codes::NO_SUCH_OPERATION)
                || error.contains(codes::NO_SUCH_OPERATION_SCHEDULER) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// All incarnations with their operations, oldest first.
async fn incarnations(client: &Client, yt_path: &str) -> Result<Vec<(u32, Option<String>)>, Error> {
    let names = client.list(&format!("{yt_path}/incarnations"), &[attribute::OPERATION_ID]).await?;
    let mut all: Vec<(u32, Option<String>)> = names
        .iter()
        .filter_map(|name| {
            let operation = name
                .attributes
                .as_ref()
                .and_then(|all| all.get(attribute::OPERATION_ID.as_bytes()))
                .and_then(YsonValue::as_str);
            Some((name.as_str()?.parse().ok()?, operation.map(str::to_owned)))
        })
        .collect();
    all.sort_unstable();
    Ok(all)
}

/// The incarnation of that operation; of several (the cluster ran it anew) the newest.
async fn read_of(
    client: &Client,
    yt_path: &str,
    all: &[(u32, Option<String>)],
    operation_id: &str,
) -> Result<Option<Incarnation>, Error> {
    let ours = all.iter().rev().find(|(_, operation)| operation.as_deref() == Some(operation_id));
    match ours {
        Some((number, _)) => read(client, yt_path, *number).await.map(Some),
        None => Ok(None),
    }
}

/// Reads an incarnation, all but what nobody may see: the key to join it.
pub(crate) async fn read(client: &Client, yt_path: &str, number: u32) -> Result<Incarnation, Error> {
    let names = [
        attribute::TOPOLOGY,
        attribute::METRICS_ENDPOINTS,
        FAILURE_ATTRIBUTE,
        ATTEMPTS_ATTRIBUTE,
        SIDECARS_ATTRIBUTE,
    ];
    let path = format!("{}/@", cypress::incarnation(yt_path, number));
    Ok(from_attributes(number, &client.get_with(&path, &names).await?))
}

/// What cannot be understood, of a newer version perhaps, is left out.
fn from_attributes(number: u32, attributes: &YsonValue) -> Incarnation {
    fn part<T: serde::de::DeserializeOwned>(attributes: &YsonValue, name: &str) -> Option<T> {
        let part = attributes.get(name)?;
        value::to_deserialize(part)
            .inspect_err(|error| tracing::debug!("cannot understand `@{name}`: {error}"))
            .ok()
    }
    Incarnation {
        number,
        workers: part(attributes, attribute::TOPOLOGY).unwrap_or_default(),
        metrics: part(attributes, attribute::METRICS_ENDPOINTS).unwrap_or_default(),
        failure: part(attributes, FAILURE_ATTRIBUTE),
        attempts: part(attributes, ATTEMPTS_ATTRIBUTE).unwrap_or_default(),
        sidecars: part(attributes, SIDECARS_ATTRIBUTE).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_incarnation_is_read_as_far_as_it_is_there() {
        let bare = from_attributes(3, &value::map::<&str>([]));
        assert_eq!((bare.number, bare.workers.len(), bare.failure), (3, 0, None));
        let attributes = value::from_json(&json!({
            "topology": [{"address": "a:1", "job_id": "j0"}],
            "metrics_endpoints": ["a:3", null],
            "failure": "of a later version",
        }));
        let read = from_attributes(4, &attributes);
        assert_eq!(read.workers[0].address, "a:1");
        assert_eq!(read.metrics, [Some("a:3".to_owned()), None]);
        assert_eq!(read.failure, None);
    }
}
