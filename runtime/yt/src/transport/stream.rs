//! The body of an answer, piece by piece, with what stands behind it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::http;
use super::retry::TryError;
use crate::error::TransportKind;

/// A body that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: reqwest::Body,
    status: u16,
    /// Longest time without a piece.
    patience: Duration,
}

impl Incoming {
    pub(crate) fn new(response: reqwest::Response, patience: Duration) -> Self {
        Self { status: response.status().as_u16(), body: response.into(), patience }
    }

    /// The next piece; `None` at the end of a body that the cluster calls complete. Once the head is sent,
    /// the cluster can report a failure only in a trailer behind the data.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TryError> {
        loop {
            let frame = match tokio::time::timeout(self.patience, self.body.frame()).await {
                Err(_) => return Err(silence(self.patience)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(http::failure(&error)),
                Ok(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers()
                        && let Some(error) = http::error_in(&trailers)
                    {
                        return Err(TryError::Cluster { status: self.status, error });
                    }
                }
            }
        }
    }

    /// The whole body.
    pub(crate) async fn all(mut self) -> Result<Bytes, TryError> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut whole = Vec::from(first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

/// What is said of somebody who says nothing.
pub(crate) fn silence(patience: Duration) -> TryError {
    let seconds = patience.as_secs_f64();
    TryError::Transport { kind: TransportKind::TimedOut, cause: format!("nothing came in {seconds:.1} s") }
}
