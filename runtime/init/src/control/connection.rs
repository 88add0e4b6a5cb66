//! One connection of the control channel after its join, the same on both sides.
//!
//! Owns the socket, sends a heartbeat three times per heartbeat timeout and gives the connection up when
//! nothing came for one timeout. Knows nothing of ranks and of what the messages mean.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::wire::{Frame, FrameError, Heartbeat, MAX_FRAME_BYTES, Outgoing, read_frame, send_frame};

/// A connection whose peer has closed is not kept longer than this.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Parts of a heartbeat timeout. A heartbeat is sent every third of one, so that a slice is never over while the
/// peer is well: a timer that fires for nothing would wake up an idle process.
const SLICES: u32 = 2;

/// Where a connection takes what it is to send.
pub(crate) trait Outbox<Out> {
    /// The next message; none once there will be none. Cancellation safe.
    fn next(&mut self) -> impl Future<Output = Option<Out>> + Send;

    /// The next one that is there already.
    fn next_if_any(&mut self) -> Option<Out>;
}

impl<Out: Send> Outbox<Out> for mpsc::UnboundedReceiver<Out> {
    async fn next(&mut self) -> Option<Out> {
        self.recv().await
    }

    fn next_if_any(&mut self) -> Option<Out> {
        self.try_recv().ok()
    }
}

/// Tells tasks to deliver what they have and to close.
pub(crate) type Closing = watch::Receiver<bool>;

/// Resolves when the tasks are to close; a vanished sender means the same.
pub(crate) async fn closing(signal: &mut Closing) {
    // An error is a dropped sender.
    let _ = signal.wait_for(|close| *close).await;
}

/// Runs a connection until it is closed or lost, and says why it ended.
///
/// `heard` is called whenever the peer says something, be it a heartbeat. It closes in order when `outbox` ends or `signal` says so: what is in `outbox` is still sent, then the
/// end of the stream, and then the peer's end is awaited, since closing a socket with unread data in it
/// would reset the connection and could destroy what the peer has not read yet. A peer that closes first is
/// still told what is in `outbox`, since it reads until our end.
pub(crate) async fn run<In, Out>(
    stream: impl AsyncRead + AsyncWrite,
    outbox: impl Outbox<Out>,
    mut deliver: impl FnMut(In),
    mut heard: impl FnMut(),
    heartbeat: Duration,
    mut signal: Closing,
) -> String
where
    In: DeserializeOwned + Heartbeat,
    Out: Outgoing,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (peer_closed, hear_peer_close) = oneshot::channel();
    let closes = async {
        tokio::select! {
            () = closing(&mut signal) => {}
            // A dropped sender is one that has nothing to say.
            Ok(()) = hear_peer_close => {}
        }
    };
    let writing = write_all(&mut writer, outbox, heartbeat, closes);
    let reading = read_all(&mut reader, &mut deliver, &mut heard, heartbeat);
    tokio::pin!(writing, reading);
    tokio::select! {
        // What the peer said last is worth more than that it cannot be answered any more.
        biased;
        reason = &mut reading => {
            let _ = peer_closed.send(());
            // To a peer that is gone this fails at once, to one that only closed it does not block.
            let _ = timeout(LAST_WORDS_TIMEOUT.min(heartbeat), writing).await;
            reason
        }
        written = &mut writing => {
            // Written to the end: wait for the peer's end. A write that failed: the peer has gone, but its
            // last words may still wait to be read.
            let end = reading.await;
            written.err().unwrap_or(end)
        }
    }
}

async fn read_all<In: DeserializeOwned + Heartbeat>(
    reader: &mut (impl AsyncRead + Unpin),
    deliver: &mut impl FnMut(In),
    heard: &mut impl FnMut(),
    heartbeat: Duration,
) -> String {
    loop {
        let frame = unless_silent(heartbeat, read_frame::<In>(reader, MAX_FRAME_BYTES)).await;
        if let Some(Ok(_)) = frame {
            heard();
        }
        match frame {
            Some(Ok(message)) if message.is_heartbeat() => {}
            Some(Ok(message)) => deliver(message),
            Some(Err(error)) => return error.to_string(),
            None => return format!("no heartbeat for {} s", heartbeat.as_secs_f64()),
        }
    }
}

/// The outcome of `act`, unless it takes longer than `limit`, in time that this process was there to see: the
/// limit is waited for in slices, and a pause of the process or of its machine uses up one of them only. After
/// a pause of all nodes at once nobody has been silent.
async fn unless_silent<T>(limit: Duration, act: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(act);
    for _ in 0..SLICES {
        if let Ok(outcome) = timeout(limit / SLICES, &mut act).await {
            return Some(outcome);
        }
    }
    None
}

async fn write_all<Out: Outgoing>(
    writer: &mut (impl AsyncWrite + Unpin),
    mut outbox: impl Outbox<Out>,
    heartbeat: Duration,
    closes: impl Future<Output = ()>,
) -> Result<(), String> {
    tokio::pin!(closes);
    let mut ticks = interval(heartbeat / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            message = outbox.next() => match message {
                Some(message) => send(writer, message.frame(), heartbeat).await?,
                None => break,
            },
            () = &mut closes => {
                while let Some(message) = outbox.next_if_any() {
                    send(writer, message.frame(), heartbeat).await?;
                }
                break;
            }
            _ = ticks.tick() => send(writer, Out::heartbeat(), heartbeat).await?,
        }
    }
    writer.shutdown().await.map_err(|error| format!("cannot send: {error}"))
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    frame: Result<Frame, FrameError>,
    limit: Duration,
) -> Result<(), String> {
    let sent = async { send_frame(writer, &frame?).await };
    match unless_silent(limit, sent).await {
        Some(Ok(())) => Ok(()),
        Some(Err(FrameError::Io(error))) => Err(format!("cannot send: {error}")),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("nothing could be sent for {} s", limit.as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::net::{TcpListener, TcpStream};

    use tractorun_contract::failure::Fates;

    use super::*;
    use crate::control::message::{LeaderMessage, NodeMessage};
    use crate::control::wire::{ToLeader, ToNode};

    /// One whose heartbeats interest nobody.
    async fn run<In: DeserializeOwned + Heartbeat, Out: Outgoing + Send>(
        stream: impl AsyncRead + AsyncWrite,
        outbox: mpsc::UnboundedReceiver<Out>,
        deliver: impl FnMut(In),
        heartbeat: Duration,
        signal: Closing,
    ) -> String {
        super::run(stream, outbox, deliver, || (), heartbeat, signal).await
    }

    /// Two ends of one TCP connection on loopback.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn what_was_sent_before_closing_arrives_and_both_sides_end() {
        let (node, leader) = pair().await;
        let (to_leader, node_outbox) = mpsc::unbounded_channel();
        let (to_node, leader_outbox) = mpsc::unbounded_channel();
        let (close, closing) = watch::channel(false);
        let (heard_by_node, mut node_hears) = mpsc::unbounded_channel();
        let (heard_by_leader, mut leader_hears) = mpsc::unbounded_channel();
        to_leader.send(ToLeader::Message(NodeMessage::Finished { attempt: 0 })).unwrap();
        for code in 0..100 {
            to_node
                .send(ToNode::Message(LeaderMessage::Release { exit_code: code, others: Fates::default() }))
                .unwrap();
        }
        close.send(true).unwrap();
        // The node's outbox ends by itself, the leader's by the signal.
        drop(to_leader);
        let (_keep, never) = watch::channel(false);
        let (node_end, leader_end) = tokio::join!(
            run(node, node_outbox, |m: ToNode| heard_by_node.send(m).unwrap(), LONG, never),
            run(leader, leader_outbox, |m: ToLeader| heard_by_leader.send(m).unwrap(), LONG, closing),
        );
        assert_eq!((node_end.as_str(), leader_end.as_str()), ("connection closed", "connection closed"));
        assert_eq!(leader_hears.try_recv().unwrap(), ToLeader::Message(NodeMessage::Finished { attempt: 0 }));
        for code in 0..100 {
            let expected =
                ToNode::Message(LeaderMessage::Release { exit_code: code, others: Fates::default() });
            assert_eq!(node_hears.try_recv().unwrap(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed() {
        let (node, _leader) = duplex(1 << 16);
        let (_outbox, node_outbox) = mpsc::unbounded_channel::<ToLeader>();
        let (_close, closing) = watch::channel(false);
        let end = run(node, node_outbox, |_: ToNode| (), Duration::from_secs(30), closing).await;
        assert_eq!(end, "no heartbeat for 30 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_everybody_is_nobodys_silence() {
        let (node, leader) = duplex(1 << 16);
        let heartbeat = Duration::from_secs(30);
        let (_keep_node, node_outbox) = mpsc::unbounded_channel::<ToLeader>();
        let (keep_leader, leader_outbox) = mpsc::unbounded_channel::<ToNode>();
        let (_close, closing) = watch::channel(false);
        let node_run = run(node, node_outbox, |_: ToNode| (), heartbeat, closing.clone());
        let leader_run = run(leader, leader_outbox, |_: ToLeader| (), heartbeat, closing);
        tokio::pin!(node_run, leader_run);
        for _ in 0..5 {
            tokio::select! {
                end = &mut node_run => panic!("node: {end}"),
                end = &mut leader_run => panic!("leader: {end}"),
                () = tokio::time::sleep(Duration::from_secs(25)) => {}
            }
            // Nobody is polled meanwhile, as if all had been stopped for an hour.
            tokio::time::advance(Duration::from_hours(1)).await;
        }
        drop(keep_leader);
        let end = tokio::select! { end = &mut leader_run => end, end = &mut node_run => end };
        assert_eq!(end, "connection closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_noticed_even_if_it_speaks() {
        let (node, leader) = duplex(64);
        let (outbox, node_outbox) = mpsc::unbounded_channel::<ToLeader>();
        let (_close, closing) = watch::channel(false);
        for _ in 0..100 {
            outbox.send(ToLeader::Message(NodeMessage::Stopped { fates: Fates::default() })).unwrap();
        }
        drop(leader);
        let end = run(node, node_outbox, |_: ToNode| (), LONG, closing).await;
        assert!(end == "connection closed" || end.starts_with("cannot send"), "{end}");
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_keep_a_silent_connection() {
        let (node, leader) = duplex(1 << 16);
        let heartbeat = Duration::from_secs(30);
        let (_keep_node, node_outbox) = mpsc::unbounded_channel::<ToLeader>();
        let (keep_leader, leader_outbox) = mpsc::unbounded_channel::<ToNode>();
        let (_close, closing) = watch::channel(false);
        let node_run = run(node, node_outbox, |_: ToNode| (), heartbeat, closing.clone());
        let leader_run = run(leader, leader_outbox, |_: ToLeader| (), heartbeat, closing);
        tokio::pin!(node_run, leader_run);
        // The clock is a paused one: a day passes at once.
        tokio::select! {
            end = &mut node_run => panic!("node: {end}"),
            end = &mut leader_run => panic!("leader: {end}"),
            () = tokio::time::sleep(Duration::from_hours(24)) => {}
        }
        drop(keep_leader);
        let (node_end, leader_end) = tokio::join!(
            async {
                tokio::select! { end = &mut leader_run => end, end = &mut node_run => end }
            },
            std::future::ready("")
        );
        assert_eq!((node_end.as_str(), leader_end), ("connection closed", ""));
    }

    #[tokio::test]
    async fn a_reset_is_noticed() {
        let (node, leader) = pair().await;
        let (_outbox, node_outbox) = mpsc::unbounded_channel::<ToLeader>();
        let (_close, closing) = watch::channel(false);
        // Closing without lingering resets.
        leader.set_zero_linger().unwrap();
        drop(leader);
        let end = run(node, node_outbox, |_: ToNode| (), LONG, closing).await;
        assert!(end.contains("reset") || end.contains("closed"), "{end}");
    }
}
