//! How the nodes that a start waits for are named, with what each was last seen doing. No IO.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::board::{JobSight, Jobs};

/// Groups that are written out: a line for a person, however large the mesh.
const MAX_GROUPS: usize = 10;

/// What a node that is waited for was last seen doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LastSeen {
    /// It never came.
    Never,
    /// It is here and does this.
    Here(String),
    /// It was here, did this, and its connection ended for that reason.
    Left {
        /// What it did.
        doing: String,
        /// How it went.
        reason: String,
    },
}

/// Names nodes by rank, those that are seen alike together: `1, 3-7 (not here, no job yet); 2 (unpacking)`.
///
/// `jobs` is what the cluster says of their jobs, if it was asked and answered.
pub(super) fn describe(nodes: impl Iterator<Item = (u32, LastSeen)>, jobs: Option<&Jobs>) -> String {
    // Groups in the order of their first ranks.
    let mut order = Vec::new();
    let mut groups = BTreeMap::<String, Vec<u32>>::new();
    for (rank, seen) in nodes {
        let text = seen.describe(rank, jobs);
        let group = groups.entry(text.clone()).or_default();
        if group.is_empty() {
            order.push(text);
        }
        group.push(rank);
    }
    let mut text = String::new();
    for (index, group) in order.iter().take(MAX_GROUPS).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let ranks = groups.get(group).map(|ranks| ranges(ranks)).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{ranks} ({group})");
    }
    let others: usize =
        order.iter().skip(MAX_GROUPS).filter_map(|group| groups.get(group)).map(Vec::len).sum();
    if others > 0 {
        let _ = write!(text, "; and {others} more");
    }
    text
}

/// Ascending numbers as text: `1, 4-7`.
fn ranges(ranks: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for rank in ranks {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *rank => *last = *rank,
            _ => ranges.push((*rank, *rank)),
        }
    }
    let mut text = String::new();
    for (first, last) in ranges {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            1 => write!(text, "{comma}{first}, {last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

// === impl LastSeen ===

impl LastSeen {
    fn describe(&self, rank: u32, jobs: Option<&Jobs>) -> String {
        let seen = match self {
            Self::Here(doing) => return doing.clone(),
            Self::Never => "not here".to_owned(),
            Self::Left { doing, reason } => format!("left while {doing}: {reason}"),
        };
        match jobs.map(|jobs| (jobs.by_cookie.get(&rank), jobs.complete)) {
            Some((Some(JobSight { state, address: Some(address) }), _)) => {
                format!("{seen}, job {state} on {address}")
            }
            Some((Some(JobSight { state, address: None }), _)) => format!("{seen}, job {state}"),
            Some((None, true)) => format!("{seen}, no job yet"),
            Some((None, false)) | None => seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(doing: &str) -> LastSeen {
        LastSeen::Here(doing.into())
    }

    #[test]
    fn ranks_are_written_in_ranges() {
        for (ranks, expected) in [
            (&[][..], ""),
            (&[4], "4"),
            (&[4, 5], "4, 5"),
            (&[4, 5, 6], "4-6"),
            (&[1, 4, 5, 6, 9], "1, 4-6, 9"),
        ] {
            assert_eq!(ranges(ranks), expected);
        }
    }

    #[test]
    fn nodes_seen_alike_are_named_together_with_what_the_cluster_knows() {
        let nodes = || {
            [
                (1, LastSeen::Never),
                (2, here("unpacking")),
                (3, LastSeen::Never),
                (4, LastSeen::Left { doing: "unpacking".into(), reason: "connection closed".into() }),
                (5, here("unpacking")),
            ]
            .into_iter()
        };
        assert_eq!(
            describe(nodes(), None),
            "1, 3 (not here); 2, 5 (unpacking); 4 (left while unpacking: connection closed)"
        );
        let running = JobSight { state: "running".into(), address: Some("h:1".into()) };
        let aborted = JobSight { state: "aborted".into(), address: None };
        let by_cookie = BTreeMap::from([(1, running), (4, aborted)]);
        let mut jobs = Jobs { by_cookie, complete: true };
        assert_eq!(
            describe(nodes(), Some(&jobs)),
            "1 (not here, job running on h:1); 2, 5 (unpacking); 3 (not here, no job yet); \
             4 (left while unpacking: connection closed, job aborted)"
        );
        // A list that was cut off says nothing about those that are not in it.
        jobs.complete = false;
        assert!(describe(nodes(), Some(&jobs)).contains("; 3 (not here); "));
    }

    #[test]
    fn a_line_stays_short() {
        let nodes = (1..=1000).map(|rank| (rank, here(&format!("doing {rank}"))));
        let text = describe(nodes, None);
        assert!(text.starts_with("1 (doing 1); 2 (doing 2); "), "{text}");
        assert!(text.ends_with("; 10 (doing 10); and 990 more"), "{text}");
    }
}
