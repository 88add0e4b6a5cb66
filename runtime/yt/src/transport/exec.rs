//! A command until it is answered: tries, pauses, mutation ids.

use bytes::Bytes;
use tokio::time::Instant;
use ytsaurus_yson::{YsonFormat, YsonNode, YsonValue};

use super::call::{Call, binary_yson, new_guid};
use super::http::Transport;
use super::retry::{Decision, Mutation, Repeat, Situation, TryError, decide, random_jitter};
use super::stream::Incoming;
use crate::client::Client;
use crate::error::{Error, YtError, codes};
use crate::value::{boolean, entity, string};

/// The tries of one command.
#[derive(Debug)]
pub(crate) struct Attempts {
    command: &'static str,
    repeat: Repeat,
    tries: u32,
    /// When the clock of the budget began. For a heavy write it begins with the first failure: to move much
    /// data takes long, and is no reason to give up.
    since: Option<Instant>,
}

impl Attempts {
    pub(crate) fn new(command: &'static str, repeat: Repeat) -> Self {
        let since = (repeat != Repeat::HeavyWrite).then(Instant::now);
        Self { command, repeat, tries: 0, since }
    }

    /// Takes note of a failed try at that proxy. Returns when it is time for the next one, or the error for
    /// the caller if there is to be none.
    pub(crate) async fn failed(
        &mut self,
        transport: &Transport,
        proxy: &str,
        error: TryError,
    ) -> Result<Mutation, Error> {
        self.tries += 1;
        transport.count_failure();
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        let situation = Situation {
            error: &error,
            repeat: self.repeat,
            tries: self.tries,
            elapsed,
            contacted: transport.contacted(),
            jitter: random_jitter(),
        };
        match decide(&transport.config, &situation) {
            Decision::Again { pause, mutation } => {
                tracing::debug!(
                    command = self.command,
                    proxy,
                    tries = self.tries,
                    ?pause,
                    ?error,
                    "to be tried again"
                );
                tokio::time::sleep(pause).await;
                Ok(mutation)
            }
            Decision::GiveUp => Err(match error {
                TryError::Transport { kind, cause } => Error::Transport {
                    kind,
                    proxy: proxy.to_owned(),
                    command: self.command,
                    cause,
                    tries: self.tries,
                    elapsed,
                },
                TryError::Cluster { status, error } if is_about_credentials(status, &error) => {
                    Error::Credentials {
                        proxy: proxy.to_owned(),
                        token_was_sent: transport.config.token.is_some(),
                        error,
                    }
                }
                TryError::Cluster { error, .. } => Error::Yt(error),
                TryError::NotYt { reason, .. } => {
                    Error::Protocol { proxy: proxy.to_owned(), command: self.command, reason }
                }
                TryError::Ours(error) => error,
            }),
        }
    }
}

fn is_about_credentials(status: u16, error: &YtError) -> bool {
    status == 401 || [codes::AUTHENTICATION_ERROR, codes::INVALID_CREDENTIALS].contains(&error.code)
}

impl Client {
    /// Runs a light command and gives its answer; an entity if it says nothing.
    pub(crate) async fn execute(&self, mut call: Call) -> Result<YsonValue, Error> {
        let transport = self.transport();
        call.parameters.set("output_format", binary_yson());
        if call.deduplicated {
            call.parameters.set("mutation_id", string(new_guid()));
            call.parameters.set("retry", boolean(false));
        }
        let mut attempts = Attempts::new(call.command, call.repeat);
        loop {
            let error = match transport.light(&call).await.and_then(|body| decode(&body)) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let mutation = attempts.failed(transport, &transport.config.proxy, error).await?;
            if call.deduplicated {
                if mutation == Mutation::Fresh {
                    call.parameters.set("mutation_id", string(new_guid()));
                }
                call.parameters.set("retry", boolean(mutation == Mutation::Same));
            }
        }
    }

    /// Runs a light command whose answer is a map, and gives what stands there under that key.
    pub(crate) async fn execute_for(&self, call: Call, key: &'static str) -> Result<YsonValue, Error> {
        let command = call.command;
        let mut answer = self.execute(call).await?;
        let found = match &mut answer.node {
            YsonNode::Map(map) => map.remove(key.as_bytes()),
            _ => None,
        };
        found.ok_or_else(|| self.protocol_error(command, &format!("its answer has no `{key}`")))
    }

    /// As [`Client::execute_for`], where a string stands there.
    pub(crate) async fn execute_for_string(&self, call: Call, key: &'static str) -> Result<String, Error> {
        let command = call.command;
        let value = self.execute_for(call, key).await?;
        self.string_of(command, &value)
    }

    /// Asks who the token stands for, by the route beside the commands.
    pub(crate) async fn whoami(&self) -> Result<String, Error> {
        const ROUTE: &str = "auth/whoami";
        let transport = self.transport();
        let mut attempts = Attempts::new("whoami", Repeat::Freely);
        loop {
            let body = async {
                let request = transport.get_authorized(&format!("{}/{ROUTE}", transport.config.proxy));
                Incoming::new(transport.send(request).await?, transport.config.light_timeout).all().await
            };
            match body.await {
                Ok(body) => {
                    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
                    let login = json.as_ref().and_then(|json| json["login"].as_str()).map(str::to_owned);
                    return login.ok_or_else(|| self.protocol_error("whoami", "its answer has no `login`"));
                }
                Err(error) => drop(attempts.failed(transport, &transport.config.proxy, error).await?),
            }
        }
    }

    pub(crate) fn string_of(&self, command: &'static str, value: &YsonValue) -> Result<String, Error> {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| self.protocol_error(command, "its answer is not a string"))
    }

    pub(crate) fn protocol_error(&self, command: &'static str, reason: &str) -> Error {
        Error::Protocol { proxy: self.proxy_url().to_owned(), command, reason: reason.to_owned() }
    }

    /// Runs a heavy command that reads, and gives all that it gave.
    pub(crate) async fn heavy_read(&self, call: &Call) -> Result<Bytes, Error> {
        let transport = self.transport();
        let mut attempts = Attempts::new(call.command, call.repeat);
        loop {
            let proxy = transport.heavy_proxy().await;
            let answer = match transport.heavy_read(&proxy, call).await {
                Ok(response) => Incoming::new(response, transport.config.heavy_progress_timeout).all().await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(body) => return Ok(body),
                Err(error) => {
                    transport.blame(&proxy, &error);
                    attempts.failed(transport, &proxy, error).await?;
                }
            }
        }
    }
}

fn decode(body: &[u8]) -> Result<YsonValue, TryError> {
    if body.is_empty() {
        return Ok(entity());
    }
    ytsaurus_yson::from_slice(body, YsonFormat::Binary).map_err(|error| TryError::NotYt {
        status: 200,
        reason: format!("its answer is not binary YSON: {error}"),
    })
}
