//! Many small commands in one request.

use ytsaurus_yson::YsonValue;

use crate::client::Client;
use crate::error::{Error, YtError};

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
    /// Runs the parts, in no order and without atomicity, and gives one result for each, in order: what the
    /// command's own method would have given.
    pub async fn execute_batch(
        &self,
        requests: Vec<BatchRequest>,
    ) -> Result<Vec<Result<YsonValue, YtError>>, Error> {
        let _ = requests;
        todo!()
    }
}
