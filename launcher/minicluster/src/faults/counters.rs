//! Counters: how many requests, and how many bytes in and out, by command and by caller.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// More callers than this are counted together, as `other`: whoever makes up names does not fill the memory.
const MAX_USER_AGENTS: usize = 1000;
const OTHER: &str = "other";

/// What one caller has sent with one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The command's name in version 4, or a route; `other` for what is neither.
    pub command: String,
    /// The user; empty where none was known.
    pub user: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// Requests that were answered, or were to be.
    pub requests: u64,
    /// Bytes of these requests, heads and bodies as they came.
    pub bytes_in: u64,
    /// Bytes of the answers, as they went.
    pub bytes_out: u64,
}

/// The numbers behind one [`Count`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Tally {
    pub(crate) fn add_request(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

type ByCommand = HashMap<&'static str, Arc<Tally>>;
type ByUser = HashMap<String, ByCommand>;

/// All tallies, by user agent, user and command.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    tallies: Mutex<HashMap<String, ByUser>>,
}

impl Counters {
    /// The tally of a request. Allocates only for a caller or command that is new.
    pub(crate) fn tally(&self, command: &'static str, user: &str, user_agent: &str) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tallies
            .get(user_agent)
            .and_then(|users| users.get(user))
            .and_then(|commands| commands.get(command));
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let full = tallies.len() >= MAX_USER_AGENTS && !tallies.contains_key(user_agent);
        let user_agent = if full { OTHER } else { user_agent };
        let users = tallies.entry(user_agent.to_owned()).or_default();
        Arc::clone(users.entry(user.to_owned()).or_default().entry(command).or_default())
    }

    pub(crate) fn all(&self) -> Vec<Count> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (user_agent, users) in tallies.iter() {
            for (user, commands) in users {
                all.extend(commands.iter().map(|(command, tally)| Count {
                    command: (*command).to_owned(),
                    user: user.clone(),
                    user_agent: user_agent.clone(),
                    requests: tally.requests.load(Ordering::Relaxed),
                    bytes_in: tally.bytes_in.load(Ordering::Relaxed),
                    bytes_out: tally.bytes_out.load(Ordering::Relaxed),
                }));
            }
        }
        all.sort_by(|a, b| (&a.command, &a.user, &a.user_agent).cmp(&(&b.command, &b.user, &b.user_agent)));
        all
    }

    pub(crate) fn reset(&self) {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_apart_and_can_be_reset() {
        let counters = Counters::default();
        counters.tally("get", "alice", "a").add_request(10);
        counters.tally("get", "alice", "a").add_request(5);
        counters.tally("get", "alice", "a").add_sent(7);
        counters.tally("get", "bob", "a").add_request(1);
        counters.tally("set", "alice", "b").add_request(1);
        let all = counters.all();
        let first = Count {
            command: "get".into(),
            user: "alice".into(),
            user_agent: "a".into(),
            requests: 2,
            bytes_in: 15,
            bytes_out: 7,
        };
        assert_eq!((all.len(), &all[0]), (3, &first));
        counters.reset();
        assert_eq!(counters.all(), []);
    }

    #[test]
    fn made_up_callers_are_counted_together() {
        let counters = Counters::default();
        for number in 0..MAX_USER_AGENTS + 50 {
            counters.tally("get", "alice", &number.to_string()).add_request(1);
        }
        let all = counters.all();
        assert_eq!(all.len(), MAX_USER_AGENTS + 1);
        assert_eq!(all.iter().find(|count| count.user_agent == OTHER).unwrap().requests, 50);
    }
}
