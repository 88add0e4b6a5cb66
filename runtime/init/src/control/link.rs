//! A node's side of the control channel.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;
use tractorun_contract::failure::Failure;
use tractorun_contract::topology::Topology;

use super::connection::{self, Closing, Outbox};
use super::message::{Link, LinkEvent, NodeMessage};
use super::progress::Progress;
use super::pulses::Pulses;
use super::wire::{FrameError, Join, MAX_FRAME_BYTES, Retry, ToLeader, ToNode, read_frame, write_frame};

/// A leader that does not answer a join within this time is busy or no leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the leader did not let the node in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinRefused {
    /// The leader answered and said no.
    #[error("refused: {reason}")]
    Refused { reason: String, retry: Retry },
    /// The answer did not come.
    #[error("no answer to the join: {0}")]
    NoAnswer(String),
}

/// What a joined node waits for.
#[derive(Debug, PartialEq)]
pub(crate) enum Greeting {
    /// All have joined.
    Topology(Topology),
    /// The rendezvous failed because of this.
    Failed(Failure),
    /// The rendezvous failed.
    Refused { reason: String, retry: Retry },
}

/// A node that is let in and waits for the others.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) link: Link,
    /// Ends when the connection is lost; the reason is then in the link's inbox.
    pub(crate) greetings: mpsc::UnboundedReceiver<Greeting>,
}

/// What a node sends: how far it is whenever that changes, and what it says.
struct NodeOutbox {
    /// None once it does not change any more.
    progress: Option<watch::Receiver<Progress>>,
    messages: mpsc::UnboundedReceiver<NodeMessage>,
}

/// Introduces the node to the leader and keeps the connection in a task. How far the node was when it wrote its
/// [`Join`] is what `progress` has seen; what comes after is sent.
pub(crate) async fn join(
    mut stream: TcpStream,
    join: &Join,
    progress: watch::Receiver<Progress>,
    (heartbeat, pulses): (Duration, Pulses),
    closing: Closing,
    tasks: &mut JoinSet<()>,
) -> Result<Joined, JoinRefused> {
    // Heartbeats and reports are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let answer = async {
        write_frame(&mut stream, join).await?;
        read_frame::<ToNode>(&mut stream, MAX_FRAME_BYTES).await
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(ToNode::Joined)) => {}
        Ok(Ok(ToNode::Refused { reason, retry })) => return Err(JoinRefused::Refused { reason, retry }),
        Ok(Ok(_)) => return Err(JoinRefused::NoAnswer("something else was said".into())),
        Ok(Err(error @ (FrameError::NotUnderstood(_) | FrameError::TooLong { .. }))) => {
            return Err(JoinRefused::NoAnswer(format!("something else listens there: {error}")));
        }
        Ok(Err(error)) => return Err(JoinRefused::NoAnswer(error.to_string())),
        Err(_) => {
            return Err(JoinRefused::NoAnswer(format!("nothing for {} s", ANSWER_TIMEOUT.as_secs())));
        }
    }

    let (outbox, messages) = mpsc::unbounded_channel();
    let outgoing = NodeOutbox { progress: Some(progress), messages };
    let (incoming, inbox) = mpsc::unbounded_channel();
    let (greet, greetings) = mpsc::unbounded_channel();
    pulses.heard(0);
    tasks.spawn(async move {
        // Receivers that are gone belong to a node that is leaving.
        let deliver = |message| match message {
            ToNode::Message(message) => drop(incoming.send(LinkEvent::Message(message))),
            ToNode::Topology(topology) => drop(greet.send(Greeting::Topology(topology))),
            ToNode::Failed(failure) => drop(greet.send(Greeting::Failed(failure))),
            ToNode::Refused { reason, retry } => drop(greet.send(Greeting::Refused { reason, retry })),
            ToNode::Joined => {}
        };
        let reason = connection::run(stream, outgoing, deliver, || pulses.heard(0), heartbeat, closing).await;
        pulses.gone(0);
        debug!("link to the leader ended: {reason}");
        let _ = incoming.send(LinkEvent::Lost { reason });
    });
    Ok(Joined { link: Link { outbox, inbox }, greetings })
}

// === impl NodeOutbox ===

impl Outbox<ToLeader> for NodeOutbox {
    async fn next(&mut self) -> Option<ToLeader> {
        loop {
            let Some(progress) = &mut self.progress else {
                return self.messages.recv().await.map(ToLeader::Message);
            };
            tokio::select! {
                // What it is ready for comes after that it is ready.
                biased;
                changed = progress.changed() => match changed {
                    Ok(()) => return Some(ToLeader::Progress(progress.borrow_and_update().clone())),
                    Err(_) => self.progress = None,
                },
                message = self.messages.recv() => return message.map(ToLeader::Message),
            }
        }
    }

    fn next_if_any(&mut self) -> Option<ToLeader> {
        self.messages.try_recv().ok().map(ToLeader::Message)
    }
}
