//! What the cluster says of an operation, as far as it concerns a run. Pure: from its answers to plain data.

use serde_json::{Value, json};
use tractorun_contract::job_spec::Mesh;
use tractorun_yt::YsonValue;
use tractorun_yt::value::ValueExt;

use crate::commands::terminal::clock;
use crate::logs::time::{self, Micros};

/// Attributes that are asked for.
pub(crate) const ATTRIBUTES: [&str; 9] = [
    "id",
    "state",
    "authenticated_user",
    "start_time",
    "finish_time",
    "brief_spec",
    "brief_progress",
    "runtime_parameters",
    "result",
];

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) user: Option<String>,
    pub(crate) title: Option<String>,
    /// As the cluster writes times.
    pub(crate) started: Option<String>,
    pub(crate) finished: Option<String>,
    /// Whether it says that it is a run of tractorun.
    pub(crate) origin: Origin,
    /// Base directory of the run.
    pub(crate) yt_path: Option<String>,
    pub(crate) mesh: Option<Mesh>,
    /// Jobs that run now.
    pub(crate) running_jobs: Option<i64>,
    /// Why the cluster ended it.
    pub(crate) error: Option<String>,
}

/// Whose operation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Ours, or the Python tractorun's.
    Tractorun,
    /// Somebody else's.
    Other,
}

// === impl Operation ===

impl Operation {
    /// Reads one; none without id or state.
    pub(crate) fn read(answer: &YsonValue) -> Option<Self> {
        let word = |path: &[&str]| answer.at(path).and_then(YsonValue::as_str).map(str::to_owned);
        let annotation = |path: &[&str]| answer.get("runtime_parameters")?.get("annotations")?.at(path);
        let number = |name: &str| {
            let number = annotation(&["description", "tractorun", "mesh", name])?;
            number.as_uint().and_then(|number| u32::try_from(number).ok())
        };
        let mesh = number("node_count").map(|node_count| Mesh {
            node_count,
            process_per_node: number("process_per_node").unwrap_or(1),
            gpu_per_process: number("gpu_per_process").unwrap_or(0),
        });
        let is_ours = annotation(&["is_tractorun"]).and_then(ValueExt::as_bool) == Some(true);
        let yt_path = [&["yt_path"][..], &["description", "tractorun", "training_dir"]]
            .iter()
            .find_map(|path| annotation(path)?.as_str().filter(|path| path.starts_with("//")));
        Some(Self {
            id: word(&["id"])?,
            state: word(&["state"])?,
            user: word(&["authenticated_user"]),
            title: word(&["brief_spec", "title"]),
            started: word(&["start_time"]),
            finished: word(&["finish_time"]),
            origin: if is_ours { Origin::Tractorun } else { Origin::Other },
            yt_path: yt_path.map(str::to_owned),
            mesh,
            running_jobs: answer.at(&["brief_progress", "jobs", "running"]).and_then(count),
            error: answer.at(&["result", "error"]).and_then(error_text),
        })
    }

    /// Whether nothing of it runs any more.
    pub(crate) fn is_over(&self) -> bool {
        is_over(&self.state)
    }

    /// How long it runs or has run.
    pub(crate) fn elapsed_seconds(&self, now: Micros) -> Option<f64> {
        let started = time::parse_since(self.started.as_deref()?, now).ok()?;
        let end = match &self.finished {
            Some(finished) => time::parse_since(finished, now).ok()?,
            None => now,
        };
        // Two machines' clocks may differ: no run takes less than nothing.
        Some(std::time::Duration::from_micros(u64::try_from(end - started).unwrap_or(0)).as_secs_f64())
    }

    pub(crate) fn to_json(&self, now: Micros) -> Value {
        json!({
            "id": self.id,
            "state": self.state,
            "user": self.user,
            "title": self.title,
            "yt_path": self.yt_path,
            "start_time": self.started,
            "finish_time": self.finished,
            "elapsed_seconds": self.elapsed_seconds(now).map(|seconds| (seconds * 1000.0).round() / 1000.0),
            "node_count": self.mesh.map(|mesh| mesh.node_count),
            "process_per_node": self.mesh.map(|mesh| mesh.process_per_node),
            "error": self.error,
        })
    }
}

/// Whether an operation in that state is over.
pub(crate) fn is_over(state: &str) -> bool {
    matches!(state, "completed" | "failed" | "aborted")
}

/// `1:05`.
pub(crate) fn clock_of(seconds: f64) -> String {
    clock(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A plain number, or a map with a `total` on some servers.
fn count(value: &YsonValue) -> Option<i64> {
    value.as_int().or_else(|| value.get("total")?.as_int())
}

/// The innermost message of an error; none of one with code 0, which is none.
fn error_text(error: &YsonValue) -> Option<String> {
    if error.get("code").and_then(ValueExt::as_int).unwrap_or(0) == 0 {
        return None;
    }
    let mut error = error;
    while let Some(inner) = error.get("inner_errors").and_then(ValueExt::as_list).and_then(<[_]>::first) {
        error = inner;
    }
    error.get("message").and_then(YsonValue::as_str).map(|text| text.lines().next().unwrap_or("").to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use tractorun_yt::value;

    use super::*;

    pub(crate) fn answer(state: &str) -> YsonValue {
        value::from_json(&json!({
            "id": "1-2-3-4",
            "state": state,
            "authenticated_user": "me",
            "start_time": "2026-11-24T17:20:00.000000Z",
            "brief_spec": {"title": "Tractorun //home/me/run"},
            "brief_progress": {"jobs": {"running": 2}},
            "runtime_parameters": {"annotations": {
                "is_tractorun": true,
                "description": {"tractorun": {
                    "training_dir": "//home/me/run",
                    "mesh": {"node_count": 2, "process_per_node": 4, "gpu_per_process": 0},
                }},
            }},
            "result": {"error": {"code": 0, "message": ""}},
        }))
    }

    #[test]
    fn an_operation_is_read_from_its_annotations() {
        let operation = Operation::read(&answer("running")).unwrap();
        assert_eq!(operation.yt_path.as_deref(), Some("//home/me/run"));
        assert_eq!(operation.mesh, Some(Mesh { node_count: 2, process_per_node: 4, gpu_per_process: 0 }));
        assert_eq!(
            (operation.origin, operation.running_jobs, operation.error.as_deref()),
            (Origin::Tractorun, Some(2), None)
        );
        let now = time::parse_since("2026-11-24T17:21:05Z", 0).unwrap();
        assert!((operation.elapsed_seconds(now).unwrap() - 65.0).abs() < 1e-9);
        assert_eq!(clock_of(65.0), "1:05");
    }

    #[test]
    fn somebody_elses_operation_is_no_run() {
        let bare = value::from_json(&json!({"id": "1-2-3-4", "state": "failed",
            "result": {"error": {"code": 1, "message": "outer", "inner_errors": [{"code": 2, "message": "inner"}]}}}));
        let operation = Operation::read(&bare).unwrap();
        assert_eq!((operation.origin, operation.error.as_deref()), (Origin::Other, Some("inner")));
        assert!(operation.is_over());
        assert_eq!(Operation::read(&value::from_json(&json!({"state": "running"}))), None);
    }
}
