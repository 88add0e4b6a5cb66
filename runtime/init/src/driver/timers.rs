//! Timers by name, on tokio's clock.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Running timers; each name at most once.
#[derive(Debug)]
pub(super) struct Timers<T> {
    running: Vec<(Instant, T)>,
}

// === impl Timers ===

impl<T: Copy + PartialEq> Timers<T> {
    /// No timer.
    pub(super) fn new() -> Self {
        Self { running: Vec::new() }
    }

    /// Starts a timer; one of the same name is replaced.
    pub(super) fn start(&mut self, timer: T, after: Duration) {
        self.running.retain(|(_, running)| *running != timer);
        self.running.push((Instant::now() + after, timer));
    }

    /// The next timer that runs out; never, if none runs. Safe to cancel: it is taken after the only wait.
    pub(super) async fn next(&mut self) -> T {
        let Some(&(at, timer)) = self.running.iter().min_by_key(|(at, _)| *at) else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        self.running.retain(|(_, running)| *running != timer);
        timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_fire_in_their_order_and_restart() {
        let mut timers = Timers::new();
        timers.start('a', Duration::from_secs(3));
        timers.start('b', Duration::from_secs(2));
        timers.start('c', Duration::from_secs(1));
        timers.start('c', Duration::from_secs(4));
        assert_eq!([timers.next().await, timers.next().await, timers.next().await], ['b', 'a', 'c']);
        assert!(timers.running.is_empty());
    }
}
