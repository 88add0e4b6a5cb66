//! Answers: heads, documents, streams with trailers, and errors.

use std::io::Read;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::commands::Source;
use crate::error::YtError;
use crate::formats::Format;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Bytes of a stream that are sent at once.
const PIECE: usize = 256 * 1024;
/// Python refuses longer header lines than 64 KiB.
const MAX_ERROR_HEADER: usize = 48 * 1024;
/// Pieces that wait for a slow client.
const QUEUE: usize = 4;

const YT_ERROR: HeaderName = HeaderName::from_static("x-yt-error");
const YT_RESPONSE_CODE: HeaderName = HeaderName::from_static("x-yt-response-code");
const YT_RESPONSE_MESSAGE: HeaderName = HeaderName::from_static("x-yt-response-message");
const YT_ERROR_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-yt-error-content-type");

/// A header value of any text: what may not stand in a header is left out.
pub(super) fn header_value(text: &str) -> HeaderValue {
    let clean: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    HeaderValue::from_str(&clean).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

pub(super) fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error before anything was sent: the tree is in a header and in the body, as JSON whatever was asked for.
pub(super) fn error(status: StatusCode, error: &YtError) -> Response<Body> {
    let mut response = full(status, "application/json", error.to_json());
    let headers = response.headers_mut();
    headers.insert(YT_ERROR_CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(error_headers(error));
    response
}

fn error_headers(error: &YtError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(YT_ERROR, header_value(&short_json(error)));
    headers.insert(YT_RESPONSE_CODE, HeaderValue::from(error.code));
    headers.insert(YT_RESPONSE_MESSAGE, header_value(&error.message.chars().take(1000).collect::<String>()));
    headers
}

/// The tree as JSON, or what is left of it when it is too long for a header: the body has it whole.
fn short_json(error: &YtError) -> String {
    let whole = error.to_json();
    if whole.len() <= MAX_ERROR_HEADER {
        return whole;
    }
    let shorten = |text: &str| text.chars().take(1000).collect::<String>();
    let mut outer = YtError::new(error.code, shorten(&error.message));
    let mut level = error.inner.first();
    let mut inner = Vec::new();
    while let Some(cause) = level.filter(|_| inner.len() < 8) {
        inner.push(YtError::new(cause.code, shorten(&cause.message)));
        level = cause.inner.first();
    }
    outer.inner = inner.pop().into_iter().collect();
    while let Some(mut cause) = inner.pop() {
        cause.inner = std::mem::take(&mut outer.inner);
        outer.inner = vec![cause];
    }
    outer.to_json()
}

/// Whether a failure in the middle of a stream may be told behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trailers {
    Send,
    Omit,
}

/// An answer that is made while it is sent. A failure before the first piece is still a proper error.
pub(super) async fn streamed(
    source: Source,
    format: Format,
    content_type: &'static str,
    trailers: Trailers,
) -> Result<Response<Body>, YtError> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { source, format };
        loop {
            let piece = pieces.next();
            let last = !matches!(piece, Some(Ok(_)));
            // A client that went away takes the receiver with it.
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    let first = match receiver.recv().await.flatten() {
        Some(Err(error)) => return Err(error),
        first => first,
    };
    let frames = stream::unfold((first, receiver, false), move |(first, mut receiver, ended)| async move {
        if ended {
            return None;
        }
        let piece = match first {
            Some(piece) => Some(piece),
            None => receiver.recv().await.flatten(),
        };
        let (frame, ended) = match piece? {
            Ok(bytes) => (Frame::data(bytes), false),
            Err(error) if trailers == Trailers::Send => (Frame::trailers(error_headers(&error)), true),
            Err(_) => return None,
        };
        Some((Ok(frame), (None, receiver, ended)))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if trailers == Trailers::Send {
        let names = HeaderValue::from_static("X-YT-Error, X-YT-Response-Code, X-YT-Response-Message");
        headers.insert(hyper::header::TRAILER, names);
    }
    Ok(response)
}

/// The bytes of a source, piece by piece.
struct Pieces {
    source: Source,
    format: Format,
}

impl Pieces {
    fn next(&mut self) -> Option<Result<Bytes, YtError>> {
        match &mut self.source {
            Source::NotModified => None,
            Source::Bytes(bytes) => {
                let piece = bytes.split_to(PIECE.min(bytes.len()));
                Some(Ok(piece)).filter(|piece| !matches!(piece, Ok(bytes) if bytes.is_empty()))
            }
            Source::File(reader) => {
                let mut piece = Vec::with_capacity(PIECE);
                match reader.take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(Bytes::from(piece))),
                    Err(error) => {
                        Some(Err(YtError::generic(format!("Error reading from the storage: {error}"))))
                    }
                }
            }
            Source::Rows(rows) => {
                let mut piece = Vec::new();
                while piece.len() < PIECE {
                    match rows.write_next(self.format, &mut piece) {
                        None => break,
                        Some(Ok(())) => {}
                        Some(Err(error)) => return Some(Err(error)),
                    }
                }
                if piece.is_empty() { None } else { Some(Ok(Bytes::from(piece))) }
            }
        }
    }
}
