//! How a failure is told, so that a person knows within seconds: who, where and what on the first line, then the last
//! lines of the one that failed, then what became of the others, then what may help.
//!
//! Pure: from a record and the cluster's own error to text.

use tractorun_contract::failure::{Cause, Failure};
use tractorun_yt::value::ValueExt;
use tractorun_yt::{YtError, codes};

use crate::commands::terminal::{Terminal, size};
use crate::settings::Place;

/// Lines of the failed one that are shown: few enough for the line above them to stay in sight.
pub(super) const TAIL_LINES: usize = 20;

/// A failure in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telling {
    headline: String,
    /// Last lines of the one that failed; none where they were shown as they came.
    tail: Vec<String>,
    /// Where more lines are.
    more: Option<String>,
    others: Option<String>,
    hint: Option<&'static str>,
}

/// The cluster killed a job because of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryKill {
    /// Bytes that it used.
    usage: Option<u64>,
    /// Bytes that it was allowed.
    limit: Option<u64>,
}

// === impl Telling ===

impl Telling {
    /// What init has recorded.
    pub fn of_record(failure: &Failure, place: Place) -> Self {
        Self {
            headline: failure.to_string(),
            tail: failure.stderr_tail.clone(),
            more: None,
            others: (!failure.others.is_empty()).then(|| failure.others.to_string()),
            hint: hint(failure, place),
        }
    }

    /// The cluster killed a job because of its memory; `node` is which, if that is known. What init has recorded comes
    /// from another node then, which saw no more than that this one was gone.
    pub(super) fn of_memory_kill(kill: MemoryKill, node: Option<&str>, failure: Option<&Failure>) -> Self {
        let amounts = match (kill.usage, kill.limit) {
            (Some(usage), Some(limit)) => format!(" ({} of {})", size(usage), size(limit)),
            _ => String::new(),
        };
        Self {
            headline: format!(
                "the cluster killed {}, which used more memory than its limit{amounts}",
                node.unwrap_or("a node")
            ),
            others: failure
                .filter(|failure| !failure.others.is_empty())
                .map(|failure| failure.others.to_string()),
            hint: Some(MORE_MEMORY),
            ..Self::default()
        }
    }

    /// What only the cluster knows of.
    pub(super) fn of_text(text: &str) -> Self {
        Self { headline: text.to_owned(), ..Self::default() }
    }

    /// Without the lines that were shown as they came.
    #[must_use]
    pub fn without_tail(self) -> Self {
        Self { tail: Vec::new(), ..self }
    }

    /// With these last lines.
    #[must_use]
    pub(super) fn with_tail(self, tail: Vec<String>) -> Self {
        Self { tail, ..self }
    }

    /// Says where all of the lines are, if some are not shown.
    #[must_use]
    pub fn with_record_at(self, path: String) -> Self {
        Self { more: Some(path), ..self }
    }

    /// Tells it; `prefix` is what failed.
    pub fn tell(&self, prefix: &str, terminal: &Terminal) {
        terminal.error(format_args!("{prefix}{}", self.headline));
        terminal.write(&self.quote());
        if let Some(others) = &self.others {
            terminal.line(format_args!("others: {others}"));
        }
        if let Some(hint) = self.hint {
            terminal.hint(hint);
        }
    }

    /// The last lines, set off from the launcher's own.
    fn quote(&self) -> Vec<u8> {
        let hidden = self.tail.len().saturating_sub(TAIL_LINES);
        let mut text = String::new();
        if let (Some(path), true) = (&self.more, hidden > 0) {
            text = format!("  | ({hidden} earlier lines are in `{path}`)\n");
        }
        for line in &self.tail[hidden..] {
            text.extend(["  | ", line, "\n"]);
        }
        text.into_bytes()
    }
}

// === impl MemoryKill ===

impl MemoryKill {
    /// Finds it in an operation's error.
    pub(super) fn find(error: &YtError) -> Option<Self> {
        if error.code == codes::MEMORY_LIMIT_EXCEEDED {
            let bytes = |name: &str| error.attributes.get(name).and_then(ValueExt::as_uint);
            return Some(Self { usage: bytes("usage"), limit: bytes("limit") });
        }
        error.inner_errors.iter().find_map(Self::find)
    }
}

const MORE_MEMORY: &str = "raise `resources.memory_limit`, or let the workers of a node use less";

fn hint(failure: &Failure, place: Place) -> Option<&'static str> {
    let is_sigkill = match &failure.cause {
        Cause::WorkerKilled { signal } | Cause::SidecarKilled { signal, .. } => signal == "SIGKILL",
        _ => false,
    };
    match (&failure.cause, place) {
        (_, Place::Cluster) if failure.oom.is_some() => Some(MORE_MEMORY),
        _ if failure.oom.is_some() => Some("this machine, or the container around it, has no memory left"),
        (_, Place::Cluster) if is_sigkill => Some(
            "the kernel kills a process when the node's memory is used up; a higher `resources.memory_limit` may help",
        ),
        _ if is_sigkill => Some("the kernel kills a process when this machine's memory is used up"),
        (Cause::WorkerNotStarted { .. } | Cause::SidecarNotStarted { .. }, Place::Cluster) => {
            Some("the command must exist in the image, or be bound with `bind_local`")
        }
        (Cause::NodeLost { .. }, Place::Cluster) => {
            Some("the node went away without a word, or its network did; try again")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tractorun_contract::failure::{Fate, Fates, OomEvidence, OutOfMemory};
    use tractorun_yt::value;

    use super::*;

    fn failure(cause: Cause) -> Failure {
        Failure {
            cause,
            rank: Some(3),
            node_rank: 1,
            host: "h".into(),
            job_id: "j".into(),
            attempt: 0,
            exit_code: 7,
            elapsed_seconds: 1.0,
            stderr_tail: (0..50).map(|number| format!("line {number}")).collect(),
            not_restarted: None,
            oom: None,
            others: Fates::default(),
        }
    }

    #[test]
    fn the_first_line_says_who_where_and_what() {
        let mut failure = failure(Cause::WorkerExited { code: 7 });
        failure.others.add(0, Fate::Victim, None);
        failure.others.add_node(3, [6, 7], Fate::Lost);
        let telling = Telling::of_record(&failure, Place::Cluster);
        assert_eq!(telling.headline, "rank 3 on node 1 (h) exited with code 7 after 1.0 s");
        assert_eq!(telling.others.as_deref(), Some("1 stopped, 2 lost (node 3)"));
        assert_eq!(telling.hint, None);
    }

    #[test]
    fn the_last_lines_are_quoted_and_the_rest_is_named() {
        let failure = failure(Cause::WorkerExited { code: 7 });
        let telling = Telling::of_record(&failure, Place::Cluster).with_record_at("//p/@failure".into());
        let text = String::from_utf8(telling.quote()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), TAIL_LINES + 1);
        assert_eq!(lines[0], "  | (30 earlier lines are in `//p/@failure`)");
        assert_eq!((lines[1], lines[20]), ("  | line 30", "  | line 49"));
        assert_eq!(telling.without_tail().quote(), b"");
        let short =
            Telling::of_text("x").with_record_at("//p".into()).with_tail(vec!["a".into(), "b".into()]);
        assert_eq!(short.quote(), b"  | a\n  | b\n");
    }

    #[test]
    fn hints_are_for_where_it_runs_and_what_is_known() {
        let of = |failure: &Failure, place| Telling::of_record(failure, place).hint.unwrap_or_default();
        let mut killed = failure(Cause::WorkerKilled { signal: "SIGKILL".into() });
        assert!(of(&killed, Place::Cluster).contains("may help"));
        assert!(of(&killed, Place::Local).contains("this machine's memory"));
        let limit_bytes = Some(1 << 30);
        killed.oom =
            Some(Box::new(OutOfMemory { kills: 1, evidence: OomEvidence::MemoryEvents, limit_bytes }));
        assert_eq!(of(&killed, Place::Cluster), MORE_MEMORY);
        assert!(of(&killed, Place::Local).contains("no memory left"));
        let other = failure(Cause::WorkerKilled { signal: "SIGTERM".into() });
        assert_eq!(of(&other, Place::Cluster), "");
    }

    #[test]
    fn the_clusters_own_memory_limit_is_told_as_such() {
        let mut kill = YtError::new(codes::MEMORY_LIMIT_EXCEEDED, "Memory limit exceeded");
        kill.attributes.insert("usage".into(), value::int(3_i64 << 30));
        kill.attributes.insert("limit".into(), value::int(2_i64 << 30));
        let mut error = YtError::new(210, "Job failed");
        error.inner_errors.push(kill);
        let kill = MemoryKill::find(&error).unwrap();
        let telling = Telling::of_memory_kill(kill, Some("node 1 (h)"), None);
        assert_eq!(
            telling.headline,
            "the cluster killed node 1 (h), which used more memory than its limit (3.00 GiB of 2.00 GiB)"
        );
        assert_eq!(telling.hint, Some(MORE_MEMORY));
        assert_eq!(MemoryKill::find(&YtError::new(210, "Job failed")), None);
    }
}
