//! Sidecars that ended badly without failing the run, as they are written to `incarnations/<n>/@sidecars`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Failure;

/// Name of the attribute of an incarnation that holds a list of [`SidecarEnd`]s: of each sidecar the last end that was
/// none with 0, the newest at the end; of very many sidecars the last [`MAX_SIDECAR_RECORDS`]. A sidecar that decided
/// the run is in the failure record instead.
pub const SIDECARS_ATTRIBUTE: &str = "sidecars";

/// Records in [`SIDECARS_ATTRIBUTE`] at most: each holds some lines of output, and an attribute is no log.
pub const MAX_SIDECAR_RECORDS: usize = 32;

/// Lines of output kept in each record.
pub const SIDECAR_LINES: usize = 10;

/// Characters kept of each such line.
const LINE_CHARACTERS: usize = 300;

/// How a sidecar ended last, and what became of it then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SidecarEnd {
    /// Who, where, how and when, with the last lines of its stderr. Its exit code is that of the sidecar: it is nobody
    /// else's.
    #[serde(flatten)]
    pub end: Failure,
    /// Times that it had been started again before.
    pub restarts: u32,
    /// Seconds until it was to be started again, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after_seconds: Option<f64>,
}

// === impl SidecarEnd ===

impl SidecarEnd {
    /// The record of an end, of whose last lines no more are kept than there is room for.
    pub fn new(mut end: Failure, restarts: u32, restart_after_seconds: Option<f64>) -> Self {
        let lines = &mut end.stderr_tail;
        lines.drain(..lines.len().saturating_sub(SIDECAR_LINES));
        for line in lines {
            if let Some((cut, _)) = line.char_indices().nth(LINE_CHARACTERS) {
                line.truncate(cut);
            }
        }
        Self { end, restarts, restart_after_seconds }
    }
}

impl fmt::Display for SidecarEnd {
    /// One line: who, where, what, and what then.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.end)?;
        match self.restarts {
            0 => {}
            1 => f.write_str(", restarted once before")?,
            restarts => write!(f, ", restarted {restarts} times before")?,
        }
        match self.restart_after_seconds {
            Some(seconds) => write!(f, "; started again {seconds:.1} s later"),
            None => f.write_str("; not started again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Cause, Fates};
    use crate::sidecar::SidecarId;

    fn end(stderr_tail: Vec<String>) -> Failure {
        Failure {
            cause: Cause::SidecarExited { sidecar: SidecarId::Index(2), code: 3 },
            rank: None,
            node_rank: 1,
            host: "gpu-7".into(),
            job_id: "1-2-3-4".into(),
            attempt: 0,
            exit_code: 3,
            elapsed_seconds: 12.34,
            stderr_tail,
            not_restarted: None,
            oom: None,
            others: Fates::default(),
        }
    }

    #[test]
    fn reads_as_a_sentence() {
        let text = |restarts, after| SidecarEnd::new(end(Vec::new()), restarts, after).to_string();
        let who = "sidecar 2 on node 1 (gpu-7) exited with code 3 after 12.3 s";
        assert_eq!(text(0, None), format!("{who}; not started again"));
        assert_eq!(text(1, Some(0.2)), format!("{who}, restarted once before; started again 0.2 s later"));
        assert_eq!(text(9, None), format!("{who}, restarted 9 times before; not started again"));
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_are_cut_between_characters() {
        let mut lines: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
        lines.push("ä".repeat(1000));
        let kept = SidecarEnd::new(end(lines), 0, None).end.stderr_tail;
        assert_eq!((kept.len(), kept[0].as_str()), (SIDECAR_LINES, "line 11"));
        assert_eq!(kept[9], "ä".repeat(LINE_CHARACTERS));
    }

    #[test]
    fn json_is_flat_and_goes_both_ways() {
        let record = SidecarEnd::new(end(vec!["boom".into()]), 4, Some(0.8));
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            (&json["cause"], &json["sidecar"], &json["restarts"]),
            (&"sidecar_exited".into(), &2.into(), &4.into())
        );
        assert_eq!(serde_json::from_value::<SidecarEnd>(json).unwrap(), record);
    }
}
