//! What the shipper is told to do, and waiting for that.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What the shipper is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) enum Order {
    /// Ship what comes.
    Run,
    /// Nothing more comes: ship all that is there, until then.
    Drain { deadline: Instant },
    /// Leave now.
    Leave,
}

/// At that time; never, if there is none.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves when there is an order to leave, when the deadline of a drain has passed, or when nobody orders any more.
pub(super) async fn out_of_time(orders: &mut watch::Receiver<Order>) {
    loop {
        let order = *orders.borrow_and_update();
        let deadline = match order {
            Order::Run => None,
            Order::Drain { deadline } => Some(deadline),
            Order::Leave => return,
        };
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() { return },
            () = at(deadline) => return,
        }
    }
}
