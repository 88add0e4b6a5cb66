//! Many small commands in one request.

use std::collections::VecDeque;

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::client::Client;
use crate::error::{Error, YtError};
use crate::transport::call::{Call, Parameters};
use crate::transport::exec::Attempts;
use crate::transport::retry::{Repeat, TryError, is_retriable};
use crate::value::{ValueExt, entity, list, map, string};

/// At most so many parts go into one request, as with the official client.
const PARTS: usize = 100;

/// One part of a batch.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    pub(crate) command: String,
    pub(crate) parameters: Vec<(String, YsonValue)>,
    pub(crate) input: Option<YsonValue>,
}

impl BatchRequest {
    /// A part that runs that command. Transaction and prerequisites are the client's.
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), parameters: Vec::new(), input: None }
    }

    /// The same part with one parameter more.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: YsonValue) -> Self {
        self.parameters.push((name.to_owned(), value));
        self
    }

    /// The same part with that input, such as the value of `set`.
    #[must_use]
    pub fn input(mut self, value: YsonValue) -> Self {
        self.input = Some(value);
        self
    }
}

impl Client {
    /// Runs the parts, in no order and without atomicity, and gives one result for each, in their order: what
    /// the command's own method would have given. Parts that fail for now are tried again.
    pub async fn execute_batch(
        &self,
        requests: Vec<BatchRequest>,
    ) -> Result<Vec<Result<YsonValue, YtError>>, Error> {
        let mut results: Vec<Option<Result<YsonValue, YtError>>> = Vec::new();
        results.resize_with(requests.len(), || None);
        let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
        let mut attempts = Attempts::new("execute_batch", Repeat::Freely);

        while !waiting.is_empty() {
            let chunk: Vec<usize> = waiting.drain(..waiting.len().min(PARTS)).collect();
            let answers = self.send_batch(chunk.iter().map(|index| &requests[*index])).await?;
            if answers.len() != chunk.len() {
                let reason = format!("{} results for {} requests", answers.len(), chunk.len());
                return Err(self.protocol_error("execute_batch", &reason));
            }
            let mut not_now = None;
            for (index, answer) in chunk.into_iter().zip(answers) {
                let result = self.result_of(&requests[index].command, &answer)?;
                if let Err(error) = &result
                    && is_retriable(error)
                {
                    not_now = Some(error.clone());
                    waiting.push_back(index);
                }
                results[index] = Some(result);
            }
            if let Some(error) = not_now {
                let error = TryError::Cluster { status: 400, error };
                if attempts.failed(self.transport(), self.proxy_url(), error).await.is_err() {
                    // No time is left for these: their last errors are their results.
                    waiting.retain(|index| results[*index].is_none());
                }
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn send_batch(&self, parts: impl Iterator<Item = &BatchRequest>) -> Result<Vec<YsonValue>, Error> {
        let parts = parts.map(|part| {
            let mut parameters = Parameters::default();
            for (name, value) in &part.parameters {
                parameters.set(name, value.clone());
            }
            // Beside `requests` a transaction is dropped without a word: each part must name it.
            parameters.enter(self.scope());
            let mut request = vec![("command", string(&part.command)), ("parameters", parameters.to_value())];
            if let Some(input) = &part.input {
                request.push(("input", input.clone()));
            }
            map(request)
        });
        let call = Call::mutate("execute_batch").with("requests", list(parts));
        match self.execute_for(call, "results").await?.node {
            YsonNode::List(results) => Ok(results),
            _ => Err(self.protocol_error("execute_batch", "its `results` are not a list")),
        }
    }

    fn result_of(&self, command: &str, answer: &YsonValue) -> Result<Result<YsonValue, YtError>, Error> {
        if let Some(error) = answer.get("error") {
            return match YtError::from_value(error) {
                Some(error) => Ok(Err(error)),
                None => Err(self.protocol_error("execute_batch", "the error of a result is not one")),
            };
        }
        let Some(output) = answer.get("output") else { return Ok(Ok(entity())) };
        let single = match command {
            "get" | "list" | "exists" => Some("value"),
            "create" | "copy" | "move" | "link" => Some("node_id"),
            "start_transaction" => Some("transaction_id"),
            "start_operation" => Some("operation_id"),
            _ => None,
        };
        let value = single.and_then(|key| output.get(key)).unwrap_or(output);
        Ok(Ok(value.clone()))
    }
}
