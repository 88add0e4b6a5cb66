//! Commands on transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Output, Request};
use crate::commands::registry::Command;
use crate::cypress::{TransactionOptions, time};
use crate::error::YtError;
use crate::formats::unsupported;
use crate::server::Server;
use crate::value;

pub(super) fn run(server: &Server, command: Command, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    match command {
        Command::StartTransaction => start(server, request),
        Command::PingTransaction => {
            let id = request.required_transaction()?;
            let with_ancestors = value::flag(parameters, "ping_ancestor_transactions", false)?;
            // A ping is about its own transaction only, so it is not in its scope: 11000 stands bare.
            server.with_cypress(|cypress| cypress.ping_transaction(id, with_ancestors))?;
            Ok(Output::Nothing)
        }
        Command::CommitTransaction => {
            let id = request.required_transaction()?;
            request.change(server, |cypress, _| cypress.commit_transaction(id).map(|()| Output::Nothing))
        }
        Command::AbortTransaction => {
            let id = request.required_transaction()?;
            request.change(server, |cypress, _| cypress.abort_transaction(id).map(|()| Output::Nothing))
        }
        _ => {
            let timestamp = server.with_cypress(crate::cypress::Cypress::generate_timestamp);
            Ok(Output::Named("timestamp", value::uint64(timestamp)))
        }
    }
}

fn start(server: &Server, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    match value::optional_str(parameters, "type")? {
        None | Some("master") => {}
        Some(other) => return Err(unsupported(&format!("transactions of type {other:?}"))),
    }
    let timeout = match value::optional_i64(parameters, "timeout")? {
        None => None,
        Some(timeout_ms) => match u64::try_from(timeout_ms) {
            Ok(timeout_ms) => Some(Duration::from_millis(timeout_ms)),
            Err(_) => {
                return Err(YtError::generic(format!(
                    "Transaction timeout cannot be negative: {timeout_ms}"
                )));
            }
        },
    };
    let deadline_us = match value::optional_str(parameters, "deadline")? {
        None => None,
        Some(text) => Some(
            time::parse(text).ok_or_else(|| YtError::generic(format!("Error parsing deadline {text:?}")))?,
        ),
    };
    let mut attributes = BTreeMap::new();
    for (name, value) in value::optional_map(parameters, "attributes")? {
        let name = String::from_utf8(name).map_err(|_| unsupported("attribute names that are not UTF-8"))?;
        attributes.insert(name, value);
    }
    let with_ancestors = value::flag(parameters, "ping_ancestor_transactions", false)?;
    let prerequisites = request.prerequisites()?;
    let options = TransactionOptions { timeout, deadline_us, attributes, prerequisites };
    request.change(server, |cypress, scope| {
        if let Some(parent) = scope.transaction.filter(|_| with_ancestors) {
            cypress.ping_transaction(parent, true)?;
        }
        let id = cypress.start_transaction(scope, options)?;
        Ok(Output::Named("transaction_id", value::string(id.to_string())))
    })
}
