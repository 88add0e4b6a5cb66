//! A stop before the workers are started: on a cluster, where init is asked to stop, the node is being taken away.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;
use tractorun_contract::exit::{ExitReason, InitExit};
use tractorun_contract::failure::Cause;
use tractorun_sys::Signal;

use super::config::Config;
use super::{Reason, TOLD_LIMIT};
use crate::control::progress::Preparations;
use crate::rendezvous::{Membership, RendezvousError};

/// The next wish to stop; never, where nobody can have one any more. Cancellation safe.
pub(super) async fn next_stop(stops: &mut mpsc::UnboundedReceiver<Signal>) -> Signal {
    match stops.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

/// Says that this node will not begin, and waits until the leader has taken note of it, if it listens: then all nodes
/// end for the same reason. If they have met meanwhile it is too late for that, and gives what they have met to.
pub(super) async fn tell(
    signal: Signal,
    config: &Config,
    preparations: &Preparations,
    meeting: Pin<&mut impl Future<Output = Result<Membership, RendezvousError>>>,
    stops: &mut mpsc::UnboundedReceiver<Signal>,
) -> Result<Membership, Reason> {
    let (cause, reason) = end_by(signal, config);
    if !preparations.are_heard() {
        return Err(reason);
    }
    warn!("asked to stop by {signal}; telling the leader");
    preparations.end(cause, reason.exit_code());
    tokio::select! {
        met = timeout(TOLD_LIMIT, meeting) => match met {
            Ok(Ok(membership)) => Ok(membership),
            // Another node was first: one reason and one code for all.
            Ok(Err(RendezvousError::NodeFailed(failure))) if failure.node_rank != config.node_rank => {
                Err(RendezvousError::NodeFailed(failure).into())
            }
            Ok(Err(_)) | Err(_) => Err(reason),
        },
        _ = next_stop(stops) => Err(reason),
    }
}

/// What this signal means to a node that has no workers yet.
fn end_by(signal: Signal, config: &Config) -> (Cause, Reason) {
    let name = signal.name();
    if signal == Signal::TERM && config.preemption.is_some() {
        let exit_code = InitExit::Preempted.code();
        return (Cause::Preempted { signal: name }, Reason::Preempted { signal, exit_code });
    }
    let exit_code = ExitReason::Signal(signal.number()).code();
    (Cause::Stopped { signal: name }, Reason::Stopped { signal, exit_code })
}
