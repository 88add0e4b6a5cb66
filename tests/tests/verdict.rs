//! What is left of a failure: the record, the operation's description, and what the launcher says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tractorun_tests::{Finished, Launcher, Place, in_both_places};

in_both_places! {
    the_last_lines_before_death_are_in_the_record
    the_launcher_says_who_first_then_the_last_lines
    the_record_says_what_became_of_the_others
}

/// The record of a place's only run.
fn record(place: &Place) -> Value {
    place.cluster().get("//tmp/verdict/incarnations/00000/@failure")
}

/// A place with a cluster that outlives the run.
fn with_cluster(place: &Place) -> Option<Place> {
    (!place.is_submitted()).then(Place::local_with_cluster)
}

fn launcher(place: &Place) -> Launcher {
    place.launcher().args(["--yt-path", "//tmp/verdict"])
}

fn the_last_lines_before_death_are_in_the_record(place: &Place) {
    let own = with_cluster(place);
    let place = own.as_ref().unwrap_or(place);
    // All at once and dead at once, by its own hand: nothing may be left in the pipe.
    let script = r"seq -f 'line %g' 1 300 >&2; printf 'half a line' >&2; kill -9 $$";
    launcher(place).bash(script).run().assert_code(137);
    let record = record(place);
    assert_eq!((&record["cause"], &record["signal"]), (&"worker_killed".into(), &"SIGKILL".into()));
    let tail: Vec<&str> =
        record["stderr_tail"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let expected: Vec<String> =
        (252..=300).map(|number| format!("line {number}")).chain(["half a line".to_owned()]).collect();
    assert_eq!(tail, expected);
    assert!(record["elapsed_seconds"].as_f64().expect("a number") > 0.0, "{record}");
}

fn the_launcher_says_who_first_then_the_last_lines(place: &Place) {
    let script = r#"touch "$SCRATCH/up.$RANK"; trap 'exit 0' TERM
        if [ $RANK = 3 ]; then
            for rank in 0 1 2; do until [ -e "$SCRATCH/up.$rank" ]; do sleep 0.02; done; done
            seq -f 'word %g' 1 30 >&2; exit 7
        fi
        sleep 1000 & wait $!"#;
    let finished = place.launcher().mesh((2, 2)).bash(script).run();
    finished.assert_code(7);
    let said = after_the_verdict(&finished, "rank 3 on node 1 (");
    if place.is_submitted() {
        let quoted: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("  | ")).collect();
        assert_eq!(quoted.len(), 21, "{}", finished.show());
        assert!(quoted[0].starts_with("(10 earlier lines are in `//tmp/tractorun/"), "{}", finished.show());
        assert_eq!((quoted[1], quoted[20]), ("word 11", "word 30"));
    } else {
        // There they were shown as they came.
        assert!(!said.iter().any(|line| line.starts_with("  | ")), "{}", finished.show());
    }
    place.assert_nothing_left();
}

fn the_record_says_what_became_of_the_others(place: &Place) {
    let own = with_cluster(place);
    let place = own.as_ref().unwrap_or(place);
    // Rank 1 sees on its node that rank 0 is gone, and that means reaped.
    let script = r#"cd "$SCRATCH"; case $RANK in
        0) echo $$ > pid.part; mv pid.part pid; exit 0;;
        1) until [ -e pid ]; do sleep 0.02; done; while [ -e /proc/$(cat pid) ]; do sleep 0.02; done; touch gone;;
        2) touch up;;
        3) until [ -e gone -a -e up ]; do sleep 0.02; done; exit 7;;
        esac; exec sleep 1000"#;
    let finished = launcher(place).mesh((2, 2)).bash(script).run();
    finished.assert_code(7);
    let record = record(place);
    assert_eq!(record["rank"], 3);
    assert_eq!(
        record["others"],
        serde_json::json!([
            {"fate": "victim", "exit_code": 143, "signal": "SIGTERM", "ranks": "1-2"},
            {"fate": "finished", "exit_code": 0, "ranks": "0"},
        ])
    );
    let said = after_the_verdict(&finished, "rank 3 on node 1 (");
    assert_eq!(said[1], "tractorun: others: 2 stopped, 1 finished", "{}", finished.show());
    place.assert_nothing_left();
}

/// What the launcher says from the line on that has this text.
fn after_the_verdict(finished: &Finished, text: &str) -> Vec<String> {
    let lines = finished.stderr.lines();
    let said: Vec<String> = lines
        .skip_while(|line| !(line.starts_with("tractorun: ") && line.contains(text)))
        .map(str::to_owned)
        .collect();
    assert!(!said.is_empty(), "no verdict with `{text}` in {}", finished.show());
    said
}

/// The part of the operation's description that is ours.
fn description(place: &Place) -> Value {
    place.cluster().the_operation()["runtime_parameters"]["annotations"]["description"]["tractorun"].clone()
}

#[test]
fn the_operations_description_says_how_it_ended() {
    let place = Place::submitted();
    launcher(&place).bash("exit 5").run().assert_code(5);
    let failed = description(&place);
    assert_eq!(
        (&failed["state"], &failed["attempt"], &failed["incarnation"]),
        (&"failed".into(), &0.into(), &0.into())
    );
    let verdict = failed["verdict"].as_str().expect("a text");
    assert!(verdict.starts_with("rank 0 on node 0 (") && verdict.contains("exited with code 5"), "{failed}");
    // The launcher's own part is still there.
    assert!(failed["training_dir"].to_string().contains("//tmp/verdict"), "{failed}");

    let place = Place::submitted();
    launcher(&place).bash("exit 0").run().assert_code(0);
    let finished = description(&place);
    assert_eq!((&finished["state"], &finished["verdict"]), (&"finished".into(), &Value::Null));
}

/// The cluster kills a job above its memory limit without a word to it; the launcher says so all the same.
#[test]
fn a_job_that_the_cluster_killed_for_its_memory_is_told_as_such() {
    let place = Place::submitted();
    let script = r"[ $RANK = 0 ] && exec sleep 1000
        exec python3 -c 'x = bytearray(1 << 30); import time; time.sleep(1000)'";
    let finished =
        place.launcher().mesh((2, 1)).args(["--resources.memory-limit", "256MiB"]).bash(script).run();
    // Who notices first, the leader or the cluster, is left to them; both know why.
    finished.assert_code(203).assert_stderr("node 1 (").assert_stderr("hint: raise `resources.memory_limit`");

    // Where nobody is left to write a record.
    let place = Place::submitted();
    let script = "exec python3 -c 'x = bytearray(1 << 30); import time; time.sleep(1000)'";
    let alone = place.launcher().args(["--resources.memory-limit", "256MiB"]).bash(script).run();
    alone.assert_code(203).assert_stderr("failed: the cluster killed node 0 (");
    alone
        .assert_stderr("which used more memory than its limit (")
        .assert_stderr("hint: raise `resources.memory_limit`");
}

/// A memory control group with a limit, made below this process' own one.
struct MemoryGroup {
    folder: PathBuf,
}

impl MemoryGroup {
    /// None where this user may not, or the kernel has no such thing.
    fn new(limit_bytes: u64) -> Option<Self> {
        let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |controllers: &str| {
            memberships.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (found, path) = (fields.next()?, fields.next()?);
                (found == controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let name = format!("tractorun-test-{}", std::process::id());
        let one = path("memory")
            .map(|path| (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"));
        let two = path("").map(|path| (Path::new("/sys/fs/cgroup").join(path), "memory.max"));
        [one, two].into_iter().flatten().find_map(|(parent, file)| {
            let folder = parent.join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            fs::write(group.folder.join(file), limit_bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Busy until the last process in it is reaped.
        for _ in 0..500 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(tractorun_tests::process::POLL);
        }
    }
}

/// The kernel's own OOM killer, in a real control group around the whole run.
#[test]
fn a_worker_that_the_kernel_killed_for_its_memory_is_told_as_such() {
    let Some(group) = MemoryGroup::new(192 << 20) else {
        println!("skipped: no memory control group can be made here");
        return;
    };
    let place = Place::local_with_cluster();
    let procs = group.folder.join("cgroup.procs");
    let enter = format!(r#"echo $$ > '{}' && exec "$@""#, procs.display());
    // The second one's child is killed, not it itself.
    let big = "python3 -c 'x = bytearray(1 << 30)'";
    let killed = launcher(&place).bash(&format!("exec {big}")).by_shell(&enter).run();
    killed.assert_code(137);
    let limit = "out of memory (limit 192.0 MiB)";
    killed.assert_stderr(&format!("was killed by SIGKILL: {limit}")).assert_stderr("hint: ");
    let of_first = record(&place);
    assert_eq!(of_first["oom"]["limit_bytes"], 192 << 20, "{of_first}");
    assert!(of_first["oom"]["kills"].as_u64().expect("a number") >= 1, "{of_first}");
    let exited = launcher(&place).bash(&format!("{big}; exit 3")).by_shell(&enter).run();
    exited.assert_code(3).assert_stderr(&format!("; a process of this node was killed: {limit}"));
    // And who did not run out of it is not told so.
    let other = launcher(&place).bash("kill -9 $$").by_shell(&enter).run();
    other.assert_code(137);
    assert!(!other.stderr.contains("out of memory"), "{}", other.show());
}
