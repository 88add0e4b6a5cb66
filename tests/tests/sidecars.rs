//! Sidecars on the real programs: their order, each policy, their environment, their lines, and that none is left.

use std::collections::BTreeSet;

use serde_json::Value;
use tractorun_tests::launcher::Launcher;
use tractorun_tests::process::Finished;
use tractorun_tests::{Place, in_both_places};

in_both_places! {
    they_start_before_the_workers_and_stop_after_them_in_reverse
    each_policy_does_what_it_says
    fail_ends_the_run_with_the_sidecars_code
    fail_on_one_node_stops_every_worker
    one_that_cannot_be_started_fails_the_run_only_by_its_policy
    a_failed_worker_still_stops_them_in_order
    they_get_the_jobs_environment_without_ranks_and_without_what_is_the_workers
    their_lines_say_whose_they_are
}

/// Says that it is up, and when it was started; says when it is told to stop. `$1` is its name.
const WATCHER: &str = r#"trap 'echo "$1 stops" >> "$SCRATCH/log.$NODE_RANK"; exit 0' TERM
    stat=$(cat /proc/$$/stat); set -- "$1" ${stat##*) }
    echo "${20} $$" > "$SCRATCH/up.$1.$NODE_RANK"; sleep 1000 & wait $!"#;

/// The worker's part: waits for the watchers of its node.
const MEET: &str = r#"for name in a b; do
        until [ -s "$SCRATCH/up.$name.$NODE_RANK" ]; do sleep 0.02; done
    done"#;

fn watcher(name: &str) -> [&str; 5] {
    ["/bin/bash", "-c", WATCHER, "watcher", name]
}

fn they_start_before_the_workers_and_stop_after_them_in_reverse(place: &Place) {
    let worker = format!(
        r#"set -- "$(cat /proc/$$/stat)"; set -- "w" ${{1##*) }}; echo "${{20}} $$" > "$SCRATCH/up.w.$NODE_RANK"
        {MEET}; echo "worker stops" >> "$SCRATCH/log.$NODE_RANK""#
    );
    let launcher = place.launcher().mesh((2, 1));
    let launcher = launcher.sidecar_command(&watcher("a"), "always").sidecar_command(&watcher("b"), "fail");
    launcher.bash(&worker).run().assert_code(0);
    for node in 0..2 {
        // When it was started in clock ticks since the boot, and its pid for those within one.
        let started = ["a", "b", "w"].map(|name| {
            let said = place.scratch.wait_for_file(&format!("up.{name}.{node}"));
            let numbers = said.split_whitespace().map(|number| number.parse::<u64>().expect("a number"));
            numbers.collect::<Vec<_>>()
        });
        assert!(started.is_sorted(), "{started:?}");
        let log = place.scratch.wait_for_file(&format!("log.{node}"));
        assert_eq!(log, "worker stops\nb stops\na stops\n");
    }
    place.assert_nothing_left();
}

fn each_policy_does_what_it_says(place: &Place) {
    let script = |name: &str, code: u8| format!(r#"echo run >> "$SCRATCH/{name}"; exit {code}"#);
    let worker = r#"for name in always on_failure; do
            until [ "$(cat "$SCRATCH/$name" | wc -l)" -ge 3 ]; do sleep 0.02; done
        done 2> /dev/null"#;
    let finished = place
        .launcher()
        .args(["--proxy-stderr-mode", "primary"])
        .sidecar(&script("never", 3), "never")
        .sidecar(&script("on_success", 0), "on_failure")
        .sidecar(&script("on_failure", 3), "on_failure")
        .sidecar(&script("always", 0), "always")
        .bash(worker)
        .run();
    finished.assert_code(0);
    finished
        .assert_output("sidecar 0 exited with code 3; it is not started again\n")
        .assert_output("sidecar 1 exited with code 0; it is not started again\n")
        .assert_output("sidecar 2 exited with code 3; starting it again in 0.1 s\n")
        .assert_output("sidecar 3 exited with code 0; starting it again in 0.2 s\n");
    // By the time that the others were started three times these would have been twice.
    for name in ["never", "on_success"] {
        assert_eq!(place.scratch.wait_for_file(name), "run\n", "{name}");
    }
    place.assert_nothing_left();
}

fn fail_ends_the_run_with_the_sidecars_code(place: &Place) {
    for (end, code, what) in [
        ("exit 5", 5, "exited with code 5"),
        // A success of what should not have ended is no success of the run.
        ("exit 0", 1, "exited with code 0"),
        ("kill -9 $$", 137, "was killed by SIGKILL"),
    ] {
        let script = format!(r#"echo "last words" >&2; {end}"#);
        let finished = place
            .launcher()
            .sidecar("exec sleep 1000", "always")
            .sidecar(&script, "fail")
            .bash("sleep 1000")
            .run();
        finished.assert_code(code).assert_stderr("sidecar 1 on node 0").assert_stderr(what);
        finished.assert_stderr("last words");
        place.assert_nothing_left();
    }
}

fn fail_on_one_node_stops_every_worker(place: &Place) {
    let sidecar = r#"[ $NODE_RANK = 0 ] && exec sleep 1000
        for rank in 0 1 2 3; do until [ -e "$SCRATCH/up.$rank" ]; do sleep 0.02; done; done; exit 9"#;
    let worker = r#"trap 'echo bye > "$SCRATCH/stopped.$RANK"; exit 0' TERM; touch "$SCRATCH/up.$RANK"; sleep 1000 & wait $!"#;
    let finished = place.launcher().mesh((2, 2)).sidecar(sidecar, "fail").bash(worker).run();
    finished.assert_code(9).assert_stderr("sidecar 0 on node 1");
    for rank in 0..4 {
        assert_eq!(place.scratch.wait_for_file(&format!("stopped.{rank}")), "bye\n");
    }
    place.assert_nothing_left();
}

fn one_that_cannot_be_started_fails_the_run_only_by_its_policy(place: &Place) {
    let run = |policy: &str| -> Finished {
        let launcher = place.launcher().args(["--proxy-stderr-mode", "primary"]);
        launcher.sidecar_command(&["no-such-sidecar"], policy).bash("echo the worker ran").run()
    };
    for policy in ["always", "on_failure", "never"] {
        let finished = run(policy);
        finished.assert_code(0);
        finished.assert_output("no-such-sidecar").assert_output("sidecar 0 could not be started; ");
        finished.assert_output("the worker ran\n");
    }
    run("fail").assert_code(127).assert_stderr("sidecar 0 on node 0").assert_stderr("not found in PATH");
    place.assert_nothing_left();
}

fn a_failed_worker_still_stops_them_in_order(place: &Place) {
    // What the worker leaves behind is gone before the sidecars are asked.
    let worker = format!(
        r#"{MEET}
        (trap 'sleep 0.1; echo "child stops" >> "$SCRATCH/log.$NODE_RANK"; exit 0' TERM; touch "$SCRATCH/up.child"
            while :; do sleep 0.02; done) &
        until [ -e "$SCRATCH/up.child" ]; do sleep 0.02; done; exit 3"#
    );
    let launcher = place.launcher().sidecar_command(&watcher("a"), "never");
    launcher.sidecar_command(&watcher("b"), "on_failure").bash(&worker).run().assert_code(3);
    assert_eq!(place.scratch.wait_for_file("log.0"), "child stops\nb stops\na stops\n");
    place.assert_nothing_left();
}

fn they_get_the_jobs_environment_without_ranks_and_without_what_is_the_workers(place: &Place) {
    let show =
        |name: &str| format!(r#"env > "$SCRATCH/{name}.part"; mv "$SCRATCH/{name}.part" "$SCRATCH/{name}""#);
    let worker = format!(r#"until [ -e "$SCRATCH/sidecar" ]; do sleep 0.02; done; {}"#, show("worker"));
    let launcher = place.launcher().env("YT_TOKEN", "t0ken").args(["--user-config", r#"{"a": 1}"#]);
    launcher
        .args(["--env", r#"{"name": "FOR_WORKERS", "value": "hidden", "sidecars": false}"#])
        .args(["--env", r#"{"name": "FOR_ALL", "value": "shown"}"#])
        .sidecar("exec sleep 1000", "always")
        .sidecar(&show("sidecar"), "never")
        .bash(&worker)
        .run()
        .assert_code(0);
    let sidecar = place.scratch.wait_for_file("sidecar");
    let has = |variable: &str| sidecar.lines().any(|line| line.starts_with(variable));
    for variable in [
        "FOR_ALL=shown",
        "YT_TOKEN=t0ken",
        "YT_PROXY=http://127.0.0.1:",
        "YT_USER_CONFIG={\"a\":1}",
        "YT_JOB_ID=",
        "NODE_RANK=0",
        "MASTER_ADDR=",
        "TRACTORUN_SIDECAR_INDEX=1",
        "TRACTORUN_YT_PATH=//",
    ] {
        assert!(has(variable), "no {variable} in {sidecar}");
    }
    for variable in
        ["FOR_WORKERS=", "RANK=", "LOCAL_RANK=", "WORLD_SIZE=", "TRACTO_CONFIG=", "YT_SECURE_VAULT"]
    {
        assert!(!has(variable), "{variable} in {sidecar}");
    }
    assert!(!sidecar.contains("hidden"), "{sidecar}");
    let worker = place.scratch.wait_for_file("worker");
    assert!(worker.contains("FOR_WORKERS=hidden\n") && worker.contains("FOR_ALL=shown\n"), "{worker}");
}

fn their_lines_say_whose_they_are(place: &Place) {
    let script =
        |name: &str| format!(r#"echo "out of {name}"; echo "err of {name}" >&2; touch "$SCRATCH/{name}""#);
    let worker = r#"printf 'worker begins'; until [ -e "$SCRATCH/x" -a -e "$SCRATCH/y" ]; do sleep 0.02; done
        echo ', worker ends'"#;
    let launcher = place.launcher().args(["--proxy-stderr-mode", "primary"]);
    let finished = launcher.sidecar(&script("x"), "never").sidecar(&script("y"), "never").bash(worker).run();
    finished.assert_code(0);
    for line in [
        "[sidecar 0] out of x\n",
        "[sidecar 0] err of x\n",
        "[sidecar 1] out of y\n",
        "[sidecar 1] err of y\n",
    ] {
        finished.assert_output(line);
    }
    finished.assert_output("worker begins, worker ends\n");
}

/// Whoever asks later learns how each ended last and what it said, wherever it ran; init's own line says it at once.
#[test]
fn what_those_said_that_ended_badly_is_in_the_status_of_the_run() {
    let place = Place::submitted();
    let sidecar = |name: &str, code: u8| {
        format!(
            r#"echo run >> "$SCRATCH/{name}.$NODE_RANK"; echo "{name} of $NODE_RANK is ill" >&2; exit {code}"#
        )
    };
    let worker = r#"for name in always.2 on_failure.2 never.1; do
            until [ "$(cat "$SCRATCH/${name%.*}.$NODE_RANK" 2> /dev/null | wc -l)" -ge ${name#*.} ]; do sleep 0.02; done
        done"#;
    let launcher = place.launcher().mesh((2, 1)).args(["--yt-path", "//tmp/run"]);
    let launcher = launcher
        .sidecar(&sidecar("always", 3), "always")
        .sidecar(&sidecar("on_failure", 4), "on_failure")
        .sidecar(&sidecar("never", 5), "never")
        .sidecar("exec sleep 1000", "fail");
    launcher.bash(worker).run().assert_code(0);
    let log = place.cluster().job_stderrs(&place.cluster().the_operation()["id"]).concat();
    assert_eq!(
        log.matches("sidecar 2 exited with code 5; it is not started again; its last line: never of ")
            .count(),
        2
    );

    let cluster = place.cluster().proxy();
    let status = |words: &[&str]| {
        let launcher = Launcher::new(&place.scratch).env("YT_PROXY", &cluster);
        launcher.args(["status", "//tmp/run"]).args(words.to_vec()).run()
    };
    let json: Value = serde_json::from_str(&status(&["--json"]).stdout).expect("stdout is JSON");
    let ends = json["sidecars"].as_array().expect("a list").iter().map(|end| {
        let said = end["stderr_tail"].as_array().and_then(|lines| lines.last()).expect("a last line");
        let number = |key: &str| end[key].as_u64().expect("a number");
        (number("node_rank"), number("sidecar"), number("code"), said.as_str().expect("a line").to_owned())
    });
    let ends: BTreeSet<_> = ends.collect();
    let expected = (0..2).flat_map(|node| {
        [(0, 3, "always"), (1, 4, "on_failure"), (2, 5, "never")]
            .map(|(sidecar, code, name)| (node, sidecar, code, format!("{name} of {node} is ill")))
    });
    assert_eq!(ends, expected.collect());
    let text = status(&[]);
    text.assert_stdout("sidecar 2 on node 1 (").assert_stdout("; not started again\n  | never of 1 is ill\n");

    // The fourth policy: what it said is in the failure record.
    for node in ["0", "1"] {
        let script = format!(
            r#"[ $NODE_RANK = {node} ] || exec sleep 1000; echo "fail of {node} is ill" >&2; exit 6"#
        );
        let launcher = place.launcher().mesh((2, 1)).args(["--yt-path", "//tmp/run"]);
        launcher.sidecar(&script, "fail").bash("sleep 1000").run().assert_code(6);
        let json: Value = serde_json::from_str(&status(&["--json"]).stdout).expect("stdout is JSON");
        assert_eq!(json["verdict"]["stderr_tail"][0], format!("fail of {node} is ill"), "{json}");
        assert_eq!(json["sidecars"].as_array().map(Vec::len), Some(0), "{json}");
    }
    place.assert_nothing_left();
}

/// One that ignores SIGTERM costs the others neither their word nor the run its success, and is gone at the end with
/// all that it has made.
#[test]
fn one_that_does_not_stop_is_killed_and_the_others_are_asked() {
    let place = Place::local();
    let stubborn = r#"trap '' TERM; setsid sleep 1000 & (setsid sleep 1000 &) ; echo > "$SCRATCH/up.b.0"; while :; do sleep 1; done"#;
    let launcher = place.launcher().sidecar_command(&watcher("a"), "always").sidecar(stubborn, "always");
    launcher.bash(MEET).run().assert_code(0);
    assert_eq!(place.scratch.wait_for_file("log.0"), "a stops\n");
    place.assert_nothing_left();
}

/// Ends `$3` times with code `$2` and stays from then on; says when it is started and, if it stays, told to stop.
/// `$1` is its name.
const FALTERING: &str = r#"echo "$1" >> "$SCRATCH/starts.$NODE_RANK"
    [ "$(grep -c "^$1\$" "$SCRATCH/starts.$NODE_RANK")" -gt "$3" ] || exit "$2"
    trap 'echo "$1 stops" >> "$SCRATCH/log.$NODE_RANK"; exit 0' TERM
    echo up > "$SCRATCH/up.$1.$NODE_RANK"; sleep 1000 & wait $!"#;

/// All four policies at once, on every one of three nodes: the order of starts, the growing pauses, and who is stopped
/// in which order at the end.
#[test]
fn every_node_has_all_policies() {
    let place = Place::submitted();
    let worker = r#"for name in always on_failure fail; do
            until [ -s "$SCRATCH/up.$name.$NODE_RANK" ]; do sleep 0.02; done
        done
        until grep -q never "$SCRATCH/starts.$NODE_RANK"; do sleep 0.02; done
        echo "worker stops" >> "$SCRATCH/log.$NODE_RANK""#;
    let sidecars = [
        (["always", "0", "3"], "always"),
        (["on_failure", "3", "2"], "on_failure"),
        (["never", "7", "9"], "never"),
        (["fail", "1", "0"], "fail"),
    ];
    let launcher = place.launcher().mesh((3, 1));
    let launcher = sidecars.iter().fold(launcher, |launcher, (arguments, policy)| {
        let command = [&["/bin/bash", "-c", FALTERING, "sidecar"][..], arguments].concat();
        launcher.sidecar_command(&command, policy)
    });
    launcher.bash(worker).run().assert_code(0);

    for node in 0..3 {
        let starts = place.scratch.wait_for_file(&format!("starts.{node}"));
        let count = |name: &str| starts.lines().filter(|line| *line == name).count();
        let counts = ["always", "on_failure", "never", "fail"].map(count);
        assert_eq!(counts, [4, 3, 1, 1], "node {node}: {starts}");
        let log = place.scratch.wait_for_file(&format!("log.{node}"));
        assert_eq!(log, "worker stops\nfail stops\non_failure stops\nalways stops\n", "node {node}");
    }
    let stderrs = place.cluster().job_stderrs(&place.cluster().the_operation()["id"]);
    assert_eq!(stderrs.len(), 3);
    for stderr in stderrs {
        let told: Vec<_> = (0..4)
            .map(|index| {
                let said = format!(" sidecar {index} exited with code ");
                stderr.lines().filter_map(|line| Some(line.split_once(&said)?.1)).collect::<Vec<_>>()
            })
            .collect();
        let again = |code: u8, seconds: &[&str]| -> Vec<String> {
            seconds.iter().map(|pause| format!("{code}; starting it again in {pause} s")).collect()
        };
        assert_eq!(told[0], again(0, &["0.1", "0.2", "0.4"]), "{stderr}");
        assert_eq!(told[1], again(3, &["0.1", "0.2"]), "{stderr}");
        assert_eq!(told[2], ["7; it is not started again"], "{stderr}");
        // It ended when it was told to.
        assert_eq!(told[3], [""; 0], "{stderr}");
    }
    place.assert_nothing_left();
}
