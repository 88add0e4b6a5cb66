//! `execute_batch`: many light commands in one request. The parts run one after the other.

use std::sync::Arc;

use ytsaurus_yson::YsonValue;

use super::registry::{self, DataType, Descriptor};
use super::{Input, Output, Request, execute};
use crate::error::YtError;
use crate::guid::Guid;
use crate::server::Server;
use crate::value::{self, YsonMap};

pub(super) async fn run(server: &Arc<Server>, request: Request) -> Result<Output, YtError> {
    let parts = value::required(&request.parameters, "requests")?;
    let parts = value::as_list(parts).ok_or_else(|| YtError::generic("\"requests\" must be a list"))?;
    // Everything is looked at before anything runs, so that a batch that is wrong as a whole changes nothing.
    let parts = parts
        .iter()
        .zip(1..)
        .map(|(part, number)| parse(part, number, &request))
        .collect::<Result<Vec<_>, _>>()?;
    let mut results = Vec::with_capacity(parts.len());
    for (descriptor, part) in parts {
        // A batch in a batch is refused in `parse`, so this recursion is one level deep.
        let result = Box::pin(execute(server, descriptor, part)).await;
        results.push(match result {
            Err(error) => value::map([("error", error.to_yson())]),
            Ok(output) => match output.document(request.version) {
                None => value::map::<&str>([]),
                Some(document) => value::map([("output", document)]),
            },
        });
    }
    Ok(Output::Named("results", value::list(results)))
}

/// A part gets a mutation id that follows from the batch's, as the cluster does it: what was done of a batch before
/// a server died is not done again with a retry.
fn parse(part: &YsonValue, number: u32, batch: &Request) -> Result<(&'static Descriptor, Request), YtError> {
    let entries = value::as_map(part).ok_or_else(|| YtError::generic("A part of a batch must be a map"))?;
    let name = value::required_str(entries, "command")?;
    let descriptor = registry::find(batch.version, name)
        .ok_or_else(|| YtError::generic(format!("Unknown command {name:?}")))?;
    let allowed = matches!(descriptor.input, DataType::Null | DataType::Structured)
        && matches!(descriptor.output(batch.version), DataType::Null | DataType::Structured)
        && descriptor.command != registry::Command::ExecuteBatch;
    if !allowed {
        return Err(YtError::generic(format!("Command {name:?} cannot be executed in a batch")));
    }
    let mut parameters: YsonMap = value::optional_map(entries, "parameters")?;
    if let Some(id) = value::optional_str(&batch.parameters, "mutation_id")?
        && let Ok(id) = id.parse::<Guid>()
        && descriptor.is_light_mutation()
        && !parameters.contains_key(b"mutation_id".as_slice())
    {
        let [first, second, third, fourth] = id.parts();
        let id = Guid::from_parts([first.wrapping_add(number), second, third, fourth]);
        parameters.insert(b"mutation_id".to_vec(), value::string(id.to_string()));
        let retry = value::flag(&batch.parameters, "retry", false)?;
        parameters.insert(b"retry".to_vec(), value::boolean(retry));
    }
    let input = match (descriptor.input, entries.get(b"input".as_slice())) {
        (DataType::Structured, Some(input)) => Input::Structured(input.clone()),
        (DataType::Structured, None) => {
            return Err(YtError::generic(format!("Command {name:?} requires input")));
        }
        _ => Input::Nothing,
    };
    let request = Request {
        version: batch.version,
        parameters,
        user: batch.user.clone(),
        input,
        known_etag: None,
        proxy: batch.proxy.clone(),
        journaled: None,
    };
    Ok((descriptor, request))
}
