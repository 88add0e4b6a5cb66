//! The control endpoint: faults and counters as JSON over HTTP, on a loopback port of its own.
//!
//! It is no part of the API of YT and asks for no token: it is for tests, and off unless a port is given.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Fault, FaultId, Faults, HeldLock};
use crate::error::YtError;
use crate::guid::Guid;

const MAX_BODY_BYTES: usize = 1 << 20;

/// What can be asked here; shown to whoever asks for something else.
const ROUTES: [&str; 12] = [
    "GET /faults",
    "POST /faults {match: {command, path, user, user_agent}, nth, times, effect}",
    "DELETE /faults",
    "DELETE /faults/<id>",
    "GET /counters",
    "DELETE /counters",
    "POST /proxy/away {ms}",
    "POST /transactions/expire {transaction_id}",
    "POST /locks {path, mode, seconds}",
    "DELETE /locks/<transaction id>",
    "POST /jobs/preempt {job_id, ms}",
    "POST /nodes/lose",
];

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, faults: Faults) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let faults = faults.clone();
                    let service = service_fn(move |request| {
                        let faults = faults.clone();
                        async move { Ok::<_, Infallible>(handle(&faults, request).await) }
                    });
                    connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection to the control endpoint");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Why a request was not done.
enum Refusal {
    NoSuchRoute,
    NotFound(String),
    Malformed(String),
    Failed(YtError),
}

impl From<YtError> for Refusal {
    fn from(error: YtError) -> Refusal {
        Refusal::Failed(error)
    }
}

async fn handle(faults: &Faults, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return answer(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
    };
    match route(faults, &head.method, head.uri.path(), &body) {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(Refusal::NoSuchRoute) => answer(
            StatusCode::NOT_FOUND,
            &json!({"error": format!("there is no {} {}", head.method, head.uri.path()), "routes": ROUTES}),
        ),
        Err(Refusal::NotFound(error)) => answer(StatusCode::NOT_FOUND, &json!({ "error": error })),
        Err(Refusal::Malformed(error)) => answer(StatusCode::BAD_REQUEST, &json!({ "error": error })),
        Err(Refusal::Failed(error)) => {
            answer(StatusCode::BAD_REQUEST, &json!({"error": error.to_string(), "code": error.code}))
        }
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(format!("{value}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::Malformed(format!("the body is not right: {error}")))
}

fn guid(text: &str) -> Result<Guid, Refusal> {
    text.parse().map_err(|error| Refusal::Malformed(format!("{error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Away {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    transaction_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    path: String,
    #[serde(default)]
    mode: HeldLock,
    seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Preempt {
    job_id: String,
    #[serde(default)]
    ms: u64,
}

fn route(faults: &Faults, method: &Method, path: &str, body: &[u8]) -> Result<Value, Refusal> {
    let (place, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    let get = method == Method::GET;
    let post = method == Method::POST;
    let delete = method == Method::DELETE;
    match (place, rest) {
        ("", "") if get => Ok(json!({ "routes": ROUTES })),
        ("faults", "") if get => Ok(json!({"faults": faults.planned()})),
        ("faults", "") if post => Ok(json!({"id": faults.add(parse::<Fault>(body)?)})),
        ("faults", "") if delete => {
            faults.clear();
            Ok(json!({}))
        }
        ("faults", id) if delete => {
            let id =
                id.parse().map(FaultId).map_err(|_| Refusal::Malformed(format!("`{id}` is no number")))?;
            let removed =
                faults.remove(id).ok_or_else(|| Refusal::NotFound(format!("there is no fault {id}")))?;
            Ok(json!({ "removed": removed }))
        }
        ("counters", "") if get => Ok(json!({"counters": faults.counters()})),
        ("counters", "") if delete => {
            faults.reset_counters();
            Ok(json!({}))
        }
        ("proxy", "away") if post => {
            faults.proxy_away(Duration::from_millis(parse::<Away>(body)?.ms));
            Ok(json!({}))
        }
        ("transactions", "expire") if post => {
            faults.expire_transaction(guid(&parse::<Expire>(body)?.transaction_id)?)?;
            Ok(json!({}))
        }
        ("locks", "") if post => {
            let Hold { path, mode, seconds } = parse(body)?;
            let time = seconds.map(|seconds| Duration::from_secs(seconds.into()));
            Ok(json!({"transaction_id": faults.hold_lock(&path, mode, time)?.to_string()}))
        }
        ("locks", id) if delete => {
            faults.release_lock(guid(id)?)?;
            Ok(json!({}))
        }
        ("jobs", "preempt") if post => {
            let Preempt { job_id, ms } = parse(body)?;
            faults.preempt_job(&job_id, Duration::from_millis(ms))?;
            Ok(json!({}))
        }
        ("nodes", "lose") if post => {
            let lost = faults.lose_node()?;
            Ok(json!({"jobs": lost.iter().map(ToString::to_string).collect::<Vec<_>>()}))
        }
        _ => Err(Refusal::NoSuchRoute),
    }
}
