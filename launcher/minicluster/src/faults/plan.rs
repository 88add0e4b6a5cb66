//! The plan: which request meets which fault. No chance is involved: the n-th request that fits does, every time.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// What a request must be like to meet a fault. What is not given fits all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Matcher {
    /// The command's name in either version of the API, or a route such as `/hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How its `path` (or `source_path`, `destination_path`, `link_path`) begins. Where the fault strikes before
    /// the body is read, only a path in the query string or in the headers is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How `User-Agent` begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Until it is taken back.
    Always,
    /// So many times.
    #[serde(untagged)]
    Only(NonZeroU32),
}

impl Times {
    /// Exactly once.
    pub const ONCE: Times = Times::Only(NonZeroU32::MIN);
}

/// One line of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which requests.
    #[serde(rename = "match", default)]
    pub matcher: Matcher,
    /// The first of them that is struck, counted from 1.
    #[serde(default = "first")]
    pub nth: NonZeroU32,
    /// How many from there on.
    #[serde(default = "once")]
    pub times: Times,
    /// By what.
    pub effect: Effect,
}

fn first() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn once() -> Times {
    Times::ONCE
}

impl Fault {
    /// A fault of the first request of this command.
    pub fn of(command: &str, effect: Effect) -> Fault {
        let matcher = Matcher { command: Some(command.to_owned()), ..Matcher::default() };
        Fault { matcher, nth: first(), times: once(), effect }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// It is run so much later.
    Delay {
        /// How much.
        ms: u64,
    },
    /// It is answered so instead of being run.
    Answer {
        /// The HTTP status.
        #[serde(default = "bad_request")]
        status: u16,
        /// The error of YT; without it the answer is a web server's own page, which knows nothing of YT.
        error: Option<GivenError>,
    },
    /// Its connection is reset.
    Reset {
        /// When.
        at: ResetPoint,
    },
    /// It is run, and the connection is reset instead of the answer. The same as a reset before the answer.
    LoseAnswer,
    /// The transaction that it names expires before it is run.
    ExpireTransaction,
    /// Its token is refused: 401, code 111.
    RefuseToken,
    /// Code 902, for commands that write; others are not counted as fitting.
    OverQuota {
        /// The account in the text.
        #[serde(default = "tmp_account")]
        account: String,
    },
    /// Another transaction takes this lock on its path before it is run.
    HoldLock {
        /// `exclusive`, `shared` or `snapshot`.
        #[serde(default)]
        mode: HeldLock,
        /// How long; an hour if it is not given.
        seconds: Option<u32>,
    },
    /// The proxy is away from this request on: all connections are reset, new ones are refused.
    ProxyAway {
        /// How long.
        ms: u64,
    },
}

fn bad_request() -> u16 {
    400
}

fn tmp_account() -> String {
    "tmp".to_owned()
}

/// An error of YT to answer with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenError {
    /// Its code.
    pub code: i32,
    /// Its text.
    pub message: String,
}

/// When a connection is reset.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResetPoint {
    /// Nothing of the body was read; the command is not run.
    BeforeRequestBody,
    /// The first piece of the body was read; the command is not run.
    DuringRequestBody,
    /// All was read; the command is not run.
    AfterRequestBody,
    /// The command was run; nothing of the answer is sent.
    BeforeAnswer,
    /// The command was run; the answer's head is sent.
    BeforeAnswerBody,
    /// The command was run; the head and so many bytes of the body are sent (with those of chunked encoding).
    DuringAnswerBody { bytes: u64 },
    /// The whole answer is sent; the connection, which the client would use again, is reset.
    AfterAnswer,
}

/// A lock that somebody else holds.
#[allow(missing_docs, reason = "the names are YT's")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldLock {
    #[default]
    Exclusive,
    Shared,
    Snapshot,
}

/// When a request is held against the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The head was read.
    BeforeBody,
    /// All was read.
    BeforeRun,
}

impl Effect {
    fn stage(&self) -> Stage {
        match self {
            Effect::Reset { at: ResetPoint::BeforeRequestBody | ResetPoint::DuringRequestBody } => {
                Stage::BeforeBody
            }
            _ => Stage::BeforeRun,
        }
    }
}

/// What of a request the plan looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The names of the command in all versions.
    pub(crate) names: [Option<&'a str>; 2],
    pub(crate) paths: [Option<&'a str>; 4],
    pub(crate) user: &'a str,
    pub(crate) user_agent: &'a str,
    /// Whether it writes.
    pub(crate) writes: bool,
}

impl Matcher {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let begins = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| text.starts_with(wanted))
        };
        self.command.as_deref().is_none_or(|command| seen.names.contains(&Some(command)))
            && self
                .path
                .as_deref()
                .is_none_or(|path| seen.paths.iter().flatten().any(|seen| seen.starts_with(path)))
            && self.user.as_deref().is_none_or(|user| seen.user == user)
            && begins(&self.user_agent, seen.user_agent)
    }
}

/// The number of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

impl fmt::Display for FaultId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A fault and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedFault {
    /// Its number.
    pub id: FaultId,
    /// As it was planned.
    #[serde(flatten)]
    pub fault: Fault,
    /// How many requests have fitted.
    pub seen: u64,
    /// How many of them it has struck.
    pub struck: u64,
}

impl PlannedFault {
    /// Whether it will strike no more.
    pub fn is_spent(&self) -> bool {
        match self.fault.times {
            Times::Always => false,
            Times::Only(times) => self.struck >= u64::from(times.get()),
        }
    }
}

/// All faults, in the order in which they were planned.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    faults: BTreeMap<FaultId, PlannedFault>,
    last: u64,
}

impl Plan {
    pub(crate) fn add(&mut self, fault: Fault) -> FaultId {
        self.last += 1;
        let id = FaultId(self.last);
        self.faults.insert(id, PlannedFault { id, fault, seen: 0, struck: 0 });
        id
    }

    pub(crate) fn remove(&mut self, id: FaultId) -> Option<PlannedFault> {
        self.faults.remove(&id)
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(crate) fn all(&self) -> Vec<PlannedFault> {
        self.faults.values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// What happens to this request. Every fault counts it, whatever the others do.
    pub(crate) fn strike(&mut self, stage: Stage, seen: &Seen<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for planned in self.faults.values_mut() {
            let fits = planned.fault.effect.stage() == stage
                && planned.fault.matcher.fits(seen)
                && (seen.writes || !matches!(planned.fault.effect, Effect::OverQuota { .. }));
            if !fits {
                continue;
            }
            planned.seen += 1;
            if planned.seen >= u64::from(planned.fault.nth.get()) && !planned.is_spent() {
                planned.struck += 1;
                effects.push(planned.fault.effect.clone());
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(command: &'a str, path: &'a str) -> Seen<'a> {
        Seen {
            names: [Some(command), None],
            paths: [Some(path), None, None, None],
            user: "alice",
            user_agent: "tractorun/0.1",
            writes: command == "set",
        }
    }

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_nth_fitting_request_is_struck_and_counted() {
        let mut plan = Plan::default();
        plan.add(fault(
            r#"{"match": {"command": "get", "path": "//a", "user_agent": "tractorun"}, "nth": 2, "times": 2,
                "effect": {"delay": {"ms": 5}}}"#,
        ));
        let struck: Vec<bool> = [
            ("get", "//a"),
            ("set", "//a"),
            ("get", "//b"),
            ("get", "//a/b"),
            ("get", "//a"),
            ("get", "//a"),
        ]
        .into_iter()
        .map(|(command, path)| !plan.strike(Stage::BeforeRun, &seen(command, path)).is_empty())
        .collect();
        assert_eq!(struck, [false, false, false, true, true, false]);
        let all = plan.all();
        assert_eq!((all[0].seen, all[0].struck, all[0].is_spent()), (4, 2, true));
        assert!(plan.strike(Stage::BeforeBody, &seen("get", "//a")).is_empty());
    }

    #[test]
    fn defaults_are_the_first_and_once_and_quota_is_for_writes() {
        let mut plan = Plan::default();
        let quota = fault(r#"{"effect": {"over_quota": {}}}"#);
        assert_eq!((quota.nth.get(), quota.times), (1, Times::ONCE));
        plan.add(quota);
        plan.add(fault(r#"{"match": {"user": "bob"}, "times": "always", "effect": "lose_answer"}"#));
        assert!(plan.strike(Stage::BeforeRun, &seen("get", "//a")).is_empty());
        let effects = plan.strike(Stage::BeforeRun, &seen("set", "//a"));
        assert_eq!(effects, [Effect::OverQuota { account: "tmp".into() }]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for wrong in [
            r#"{"effect": "explode"}"#,
            r#"{"effect": {"delay": {"seconds": 1}}}"#,
            r#"{"match": {"comand": "get"}, "effect": "lose_answer"}"#,
            r#"{"nth": 0, "effect": "lose_answer"}"#,
            r#"{"times": 0, "effect": "lose_answer"}"#,
            r#"{"times": "never", "effect": "lose_answer"}"#,
            r#"{"effect": {"reset": {"at": "sometime"}}}"#,
        ] {
            assert!(serde_json::from_str::<Fault>(wrong).is_err(), "{wrong}");
        }
    }
}
