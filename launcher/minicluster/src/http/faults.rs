//! What a planned fault does to a request. Which fault, says the plan in `crate::faults`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::{Response, StatusCode};

use super::response::{self, Body};
use crate::commands::registry::{ApiVersion, Descriptor, Volatile};
use crate::error::{YtError, code};
use crate::faults::wire::{Cut, WireControl};
use crate::faults::{Effect, ResetPoint, Seen, Stage};
use crate::server::Server;
use crate::value::{self, YsonMap};

/// Whether a request is run.
pub(super) enum Fate {
    Run,
    /// It is not; this is the answer.
    Answer(Response<Body>),
}

/// A request as far as it is known.
pub(super) struct Subject<'a> {
    pub(super) descriptor: &'static Descriptor,
    pub(super) parameters: &'a YsonMap,
    pub(super) user: &'a str,
    pub(super) user_agent: &'a str,
}

impl Subject<'_> {
    fn seen(&self) -> Seen<'_> {
        let path = |name: &str| {
            let text = self.parameters.get(name.as_bytes())?.as_str()?;
            // Attributes in front of a path are none of it.
            Some(text.find('/').map_or(text, |start| &text[start..]))
        };
        Seen {
            names: [self.descriptor.name(ApiVersion::V4), self.descriptor.name(ApiVersion::V3)],
            paths: [path("path"), path("source_path"), path("destination_path"), path("link_path")],
            user: self.user,
            user_agent: self.user_agent,
            writes: self.descriptor.volatile == Volatile::Yes,
        }
    }
}

/// Faults that strike before the body is read. True: the connection will end, and nothing more is to be done.
pub(super) async fn before_body(
    server: &Server,
    wire: &WireControl,
    subject: &Subject<'_>,
    body: &mut Incoming,
) -> bool {
    if server.faults.is_quiet() {
        return false;
    }
    let effects = server.faults.strike(Stage::BeforeBody, &subject.seen());
    let Some(effect) = effects.first() else { return false };
    if matches!(effect, Effect::Reset { at: ResetPoint::DuringRequestBody }) {
        // A body that is empty has no middle; then this is behind it.
        let _ = body.frame().await;
    }
    wire.cut(Cut::Now);
    true
}

/// Faults that strike when all of the request is known.
pub(super) async fn before_run(
    server: &Server,
    wire: &WireControl,
    subject: &Subject<'_>,
) -> Result<Fate, YtError> {
    if server.faults.is_quiet() {
        return Ok(Fate::Run);
    }
    strike(server, wire, &subject.seen(), subject.parameters).await
}

/// The same for what is no command.
pub(super) async fn before_route(
    server: &Server,
    wire: &WireControl,
    path: &str,
    user_agent: &str,
) -> Result<Fate, YtError> {
    if server.faults.is_quiet() {
        return Ok(Fate::Run);
    }
    let seen = Seen { names: [Some(path), None], paths: [None; 4], user: "", user_agent, writes: false };
    strike(server, wire, &seen, &YsonMap::new()).await
}

async fn strike(
    server: &Server,
    wire: &WireControl,
    seen: &Seen<'_>,
    parameters: &YsonMap,
) -> Result<Fate, YtError> {
    for effect in server.faults.strike(Stage::BeforeRun, seen) {
        tracing::info!(?effect, ?seen.names, "a planned fault strikes");
        match effect {
            Effect::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Effect::Answer { status, error } => return Ok(Fate::Answer(given_answer(status, error))),
            Effect::Reset { at } => {
                if let Some(fate) = plan_reset(wire, at) {
                    return Ok(fate);
                }
            }
            Effect::LoseAnswer => wire.cut(Cut::Now),
            Effect::ExpireTransaction => {
                if let Some(id) = value::optional_str(parameters, "transaction_id")? {
                    let id = id.parse().map_err(|error| YtError::generic(format!("{error}")))?;
                    // One that is gone already is what was wanted.
                    let _ = server.expire_transaction(id);
                }
            }
            Effect::RefuseToken => {
                let error = YtError::new(
                    code::INVALID_CREDENTIALS,
                    "Invalid credentials: a planned fault refuses the token",
                );
                return Ok(Fate::Answer(response::error(StatusCode::UNAUTHORIZED, &error)));
            }
            Effect::OverQuota { account } => {
                let error = YtError::new(
                    code::ACCOUNT_LIMIT_EXCEEDED,
                    format!("Account {account:?} is over disk space limit"),
                )
                .with_attribute("account", value::string(&account));
                return Ok(Fate::Answer(response::error(StatusCode::BAD_REQUEST, &error)));
            }
            Effect::HoldLock { mode, seconds } => {
                if let Some(path) = seen.paths.iter().flatten().next() {
                    server.hold_lock(
                        path,
                        mode,
                        seconds.map(|seconds| Duration::from_secs(seconds.into())),
                    )?;
                }
            }
            Effect::ProxyAway { ms } => {
                server.faults.go_away(Duration::from_millis(ms));
                wire.cut(Cut::Now);
                return Ok(Fate::Answer(nothing()));
            }
        }
    }
    Ok(Fate::Run)
}

fn plan_reset(wire: &WireControl, at: ResetPoint) -> Option<Fate> {
    let (cut, run) = match at {
        ResetPoint::BeforeRequestBody | ResetPoint::DuringRequestBody | ResetPoint::AfterRequestBody => {
            (Cut::Now, false)
        }
        ResetPoint::BeforeAnswer => (Cut::Now, true),
        ResetPoint::BeforeAnswerBody => (Cut::BehindHead { matched: 0, body: 0 }, true),
        ResetPoint::DuringAnswerBody { bytes } => (Cut::BehindHead { matched: 0, body: bytes }, true),
        ResetPoint::AfterAnswer => (Cut::AfterAnswer, true),
    };
    wire.cut(cut);
    (!run).then(|| Fate::Answer(nothing()))
}

/// An answer that will not be seen.
pub(super) fn nothing() -> Response<Body> {
    response::full(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "")
}

fn given_answer(status: u16, error: Option<crate::faults::GivenError>) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match error {
        Some(error) => response::error(status, &YtError::new(error.code, error.message)),
        None => response::full(status, "text/html", format!("<html><h1>{status}</h1></html>\n")),
    }
}

/// Lets a wire know when an answer has ended.
pub(super) fn tell_end(answer: Response<Body>, wire: &Arc<WireControl>) -> Response<Body> {
    answer.map(|body| Telling { body, wire: Arc::clone(wire) }.boxed_unsync())
}

struct Telling {
    body: Body,
    wire: Arc<WireControl>,
}

impl HttpBody for Telling {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.wire.answer_ended();
    }
}
