//! The wire form of the control channel: frames of a 4-byte big-endian length and JSON.
//!
//! A connection begins with the node's [`Join`]; the leader answers [`ToNode::Joined`] or
//! [`ToNode::Refused`]. Until then the leader reads short frames only, so that whatever else finds its port
//! cannot make it allocate. There is no encryption: the join key keeps strays and older runs out, it does
//! not keep an attacker inside the cluster's network out.

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tractorun_contract::failure::Failure;
use tractorun_contract::topology::Topology;

use super::message::{LeaderMessage, NodeMessage};
use super::progress::Progress;

/// Version of this protocol. All nodes of a run have the same binary, so there is one version only; a
/// difference means that something else answered.
pub(crate) const PROTOCOL: u32 = 4;

/// Longest frame before the join is accepted: a join lists the ports of one node.
pub(crate) const MAX_JOIN_BYTES: u32 = 64 * 1024;

/// Longest frame after it: the topology of ten thousand workers is about one MiB.
pub(crate) const MAX_FRAME_BYTES: u32 = 16 * 1024 * 1024;

/// Random text that the leader publishes and that every node of its run must show.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct JoinKey(String);

/// How a node reached the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReachedBy {
    /// By its host name, which resolved to this address.
    Name(IpAddr),
    /// By this address.
    Address(IpAddr),
}

/// What a node says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Join {
    /// Must be [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The key that the leader published.
    pub(crate) key: JoinKey,
    /// The incarnation the node wants to join.
    pub(crate) incarnation: u32,
    /// Its rank.
    pub(crate) node_rank: u32,
    /// Its job.
    pub(crate) job_id: String,
    /// Its host, as others should call it.
    pub(crate) host: String,
    /// Its workers' ports, by local rank.
    pub(crate) ports: Vec<u16>,
    /// Port that it serves metrics on, if it does.
    pub(crate) metrics_port: Option<u16>,
    /// How it found the leader.
    pub(crate) reached_by: ReachedBy,
    /// How far it is.
    pub(crate) progress: Progress,
}

/// The part of a [`Join`] that every version has.
#[derive(Debug, Deserialize)]
struct AnyJoin {
    protocol: u32,
}

/// What a node sends after its join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToLeader {
    /// How far it is, before all have met.
    Progress(Progress),
    /// What it says after that, and heartbeats.
    Message(NodeMessage),
}

/// What the leader sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToNode {
    /// The join is accepted.
    Joined,
    /// The join is not accepted, or the rendezvous has failed.
    Refused {
        /// Why, on one line.
        reason: String,
        /// Whether the node should look for a newer incarnation.
        retry: Retry,
    },
    /// The rendezvous has failed because of a node: nothing follows.
    Failed(Failure),
    /// All nodes have joined and are ready.
    Topology(Topology),
    /// What the leader says after that.
    Message(LeaderMessage),
}

/// Whether a refused node should try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Retry {
    /// It may have read an outdated notice.
    Later,
    /// It would be refused again.
    Never,
}

/// Messages that have a heartbeat among them.
pub(crate) trait Heartbeat {
    /// Whether it is one.
    fn is_heartbeat(&self) -> bool;
}

/// A message as it goes over the wire, made once for all whom it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame(Arc<[u8]>);

/// What a connection can send.
pub(crate) trait Outgoing {
    /// Its frame.
    fn frame(&self) -> Result<Frame, FrameError>;

    /// The heartbeat's frame.
    fn heartbeat() -> Result<Frame, FrameError>;
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("connection closed")]
    Closed,
    #[error("frame of {length} bytes: at most {limit} are allowed")]
    TooLong { length: usize, limit: u32 },
    #[error("frame is not understood: {0}")]
    NotUnderstood(#[source] serde_json::Error),
    #[error("{0}")]
    Io(#[source] std::io::Error),
}

/// Why a join is not one of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("protocol {found}, expected {PROTOCOL}")]
    Protocol { found: u32 },
}

/// Writes one frame.
pub(crate) async fn write_frame<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    send_frame(stream, &Frame::of(message)?).await
}

/// Writes a frame that was made before.
pub(crate) async fn send_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    Frame(bytes): &Frame,
) -> Result<(), FrameError> {
    // One write, so that a small message is one packet.
    stream.write_all(bytes).await.map_err(FrameError::Io)?;
    stream.flush().await.map_err(FrameError::Io)
}

/// Reads one frame of at most `limit` bytes. Not cancellation safe: a dropped read loses its place.
pub(crate) async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: u32,
) -> Result<T, FrameError> {
    let body = read_body(stream, limit).await?;
    serde_json::from_slice(&body).map_err(FrameError::NotUnderstood)
}

/// Reads a node's first frame; its version is looked at before anything else.
pub(crate) async fn read_join(stream: &mut (impl AsyncRead + Unpin)) -> Result<Join, JoinError> {
    let body = read_body(stream, MAX_JOIN_BYTES).await?;
    let AnyJoin { protocol } = serde_json::from_slice(&body).map_err(FrameError::NotUnderstood)?;
    if protocol != PROTOCOL {
        return Err(JoinError::Protocol { found: protocol });
    }
    Ok(serde_json::from_slice(&body).map_err(FrameError::NotUnderstood)?)
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin), limit: u32) -> Result<Vec<u8>, FrameError> {
    let length = stream.read_u32().await.map_err(closed_or_io)?;
    if length > limit {
        return Err(FrameError::TooLong { length: length as usize, limit });
    }
    // Memory for what has come, not for what was promised.
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body).await.map_err(closed_or_io)?;
    if body.len() < length as usize { Err(FrameError::Closed) } else { Ok(body) }
}

fn closed_or_io(error: std::io::Error) -> FrameError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Closed,
        _ => FrameError::Io(error),
    }
}

// === impl JoinKey ===

impl JoinKey {
    /// A new random key of 128 bits.
    pub(crate) fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// A key that somebody published.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key itself, for the notice board.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let difference = ours
            .iter()
            .zip(theirs)
            .fold(u8::from(ours.len() != theirs.len()), |sum, (a, b)| black_box(sum | (a ^ b)));
        difference == 0
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

// === impl ReachedBy ===

impl ReachedBy {
    /// The address the connection went to.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Name(address) | Self::Address(address) => address,
        }
    }
}

// === impl Heartbeat ===

impl Heartbeat for ToLeader {
    fn is_heartbeat(&self) -> bool {
        matches!(self, Self::Message(NodeMessage::Heartbeat))
    }
}

impl Heartbeat for ToNode {
    fn is_heartbeat(&self) -> bool {
        matches!(self, Self::Message(LeaderMessage::Heartbeat))
    }
}

// === impl Outgoing ===

impl Outgoing for ToLeader {
    fn frame(&self) -> Result<Frame, FrameError> {
        Frame::of(self)
    }

    fn heartbeat() -> Result<Frame, FrameError> {
        Frame::of(&Self::Message(NodeMessage::Heartbeat))
    }
}

impl Outgoing for ToNode {
    fn frame(&self) -> Result<Frame, FrameError> {
        Frame::of(self)
    }

    fn heartbeat() -> Result<Frame, FrameError> {
        Frame::of(&Self::Message(LeaderMessage::Heartbeat))
    }
}

/// Of what the leader says to several.
impl Outgoing for Frame {
    fn frame(&self) -> Result<Frame, FrameError> {
        Ok(self.clone())
    }

    fn heartbeat() -> Result<Frame, FrameError> {
        ToNode::heartbeat()
    }
}

// === impl Frame ===

impl Frame {
    fn of<T: Serialize>(message: &T) -> Result<Self, FrameError> {
        let mut frame = vec![0; 4];
        serde_json::to_writer(&mut frame, message).map_err(FrameError::NotUnderstood)?;
        let length = frame.len() - 4;
        let prefix = u32::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_FRAME_BYTES)
            .ok_or(FrameError::TooLong { length, limit: MAX_FRAME_BYTES })?;
        frame[..4].copy_from_slice(&prefix.to_be_bytes());
        Ok(Self(frame.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        Join {
            protocol: PROTOCOL,
            key: JoinKey::new("k"),
            incarnation: 3,
            node_rank: 1,
            job_id: "1-2-3-4".into(),
            host: "h1".into(),
            ports: vec![7000, 7001],
            metrics_port: Some(7003),
            reached_by: ReachedBy::Address(IpAddr::from([127, 0, 0, 1])),
            progress: Progress::Ready,
        }
    }

    #[tokio::test]
    async fn frames_round_trip_and_end_in_closed() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &ToNode::Joined).await.unwrap();
        send_frame(&mut bytes, &ToNode::heartbeat().unwrap()).await.unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read_frame::<ToNode>(&mut stream, 100).await.unwrap(), ToNode::Joined);
        assert!(read_frame::<ToNode>(&mut stream, 100).await.unwrap().is_heartbeat());
        assert_eq!(
            read_frame::<ToNode>(&mut stream, 100).await.unwrap_err().to_string(),
            "connection closed"
        );
    }

    #[tokio::test]
    async fn a_long_or_foreign_frame_is_refused_by_its_length_or_text() {
        let text = |bytes: &'static [u8]| async move {
            let mut stream = bytes;
            read_frame::<ToNode>(&mut stream, 100).await.unwrap_err().to_string()
        };
        assert_eq!(text(b"GET / HTTP/1.1\r\n").await, "frame of 1195725856 bytes: at most 100 are allowed");
        assert!(text(b"\0\0\0\x02{}").await.starts_with("frame is not understood: "));
        assert_eq!(text(b"\0\0\0\x09{}").await, "connection closed");
    }

    #[tokio::test]
    async fn a_join_of_another_version_is_refused_by_its_version() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &serde_json::json!({"protocol": 1, "novelty": []})).await.unwrap();
        assert_eq!(read_join(&mut bytes.as_slice()).await.unwrap_err().to_string(), "protocol 1, expected 4");
        bytes.clear();
        write_frame(&mut bytes, &join()).await.unwrap();
        assert_eq!(read_join(&mut bytes.as_slice()).await.unwrap().ports, [7000, 7001]);
    }

    #[test]
    fn keys_match_only_when_equal_and_are_never_shown() {
        let key = JoinKey::random();
        assert_eq!(key.expose().len(), 32);
        assert!(key.matches(&JoinKey::new(key.expose())));
        for other in ["", "x", &key.expose()[..31], &format!("{}0", key.expose())] {
            assert!(!key.matches(&JoinKey::new(other)), "{other}");
        }
        assert!(!key.matches(&JoinKey::random()));
        assert!(!format!("{:?}", Join { key: key.clone(), ..join() }).contains(key.expose()));
    }
}
