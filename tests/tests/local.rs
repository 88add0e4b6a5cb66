//! What is special about `--local`: its folder with logs, the user's own cluster, and where workers start.

use std::fs;
use std::path::{Path, PathBuf};

use tractorun_tests::{Finished, Place};

/// The folder that the launcher names at the end.
fn logs_of(finished: &Finished) -> PathBuf {
    let line = finished.stderr.lines().find_map(|line| line.split_once("logs: "));
    PathBuf::from(line.unwrap_or_else(|| panic!("no folder of logs: {}", finished.show())).1.trim())
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn logs_stay_and_are_named_at_the_end() {
    let place = Place::local();
    let finished = place.launcher().mesh((2, 2)).bash("echo a line of rank $RANK; exit 0").run();
    finished.assert_code(0);
    let folder = logs_of(&finished);
    for rank in 0..4 {
        let log = text_of(&folder.join(format!("node-{}/stderr.log", rank / 2)));
        assert!(log.contains(&format!("[{rank}] a line of rank {rank}\n")), "{log}");
    }
    assert!(folder.join("minicluster.log").is_file());
    // What was packed and served is gone, and nothing is left in the test's folder but the cache.
    assert!(!folder.join("files").exists());
}

#[test]
fn failure_names_the_logs_too() {
    let place = Place::local();
    let finished = place.launcher().mesh((2, 1)).bash("echo the cause of rank $RANK >&2; exit 9").run();
    finished.assert_code(9);
    let folder = logs_of(&finished);
    assert!(text_of(&folder.join("node-0/stderr.log")).contains("the cause of rank 0"));
}

#[test]
fn workers_start_where_the_user_stands() {
    let place = Place::local();
    place.scratch.file("here/script.sh", "pwd > \"$SCRATCH/said\"\n");
    let launcher = place.launcher().current_dir(place.scratch.path("here"));
    launcher.args(["sh", "script.sh"]).run().assert_code(0);
    assert_eq!(place.scratch.wait_for_file("said").trim(), place.scratch.text("here"));
}

#[test]
fn the_users_own_cluster_is_used() {
    let place = Place::local_with_cluster();
    place.launcher().args(["--yt-path", "//tmp/mine"]).mesh((2, 1)).bash("exit 0").run().assert_code(0);
    assert_eq!(place.cluster().get("//tmp/mine/@incarnation_id"), 0);
    assert_eq!(place.cluster().operations().len(), 0, "a local run is no operation");
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let place = Place::local();
    let script = |name: &str| {
        format!(r#"echo up > "$SCRATCH/{name}.$RANK"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done"#)
    };
    let runs = ["a", "b"].map(|name| place.launcher().mesh((2, 1)).bash(&script(name)).start());
    for name in ["a.0", "a.1", "b.0", "b.1"] {
        place.scratch.wait_for_file(name);
    }
    place.scratch.file("go", "\n");
    for run in runs {
        run.wait().assert_code(0);
    }
    place.assert_nothing_left();
}
