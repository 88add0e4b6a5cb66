//! What workers leave behind that all ended with 0: it has the grace period to end, and a person is told who it is.

use tractorun_tests::Place;

/// A worker that leaves a script in a session of its own, and ends with 0 once that is up.
fn leaving(place: &Place, script: &str) -> String {
    let script = place.scratch.file("upload.sh", script);
    format!(r#"setsid bash {} & until [ -e "$SCRATCH/up" ]; do sleep 0.02; done"#, script.display())
}

/// Such as the upload of a last checkpoint: it has the time, and the run is the success that it was.
#[test]
fn what_takes_its_time_after_sigterm_has_it_and_is_named() {
    let place = Place::local();
    let worker = leaving(
        &place,
        r#"trap 'until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; echo done > "$SCRATCH/uploaded"; exit' TERM
        echo $$ > "$SCRATCH/up"; while :; do sleep 0.02; done"#,
    );
    let running = place.launcher().args(["--grace-period", "5m"]).bash(&worker).start();
    let pid = place.scratch.wait_for_file("up");
    running.wait_for("all workers ended with 0; waiting up to 299 s for what they left behind: pid ");
    running.wait_for(&format!("pid {} (bash ", pid.trim()));
    running.wait_for("/upload.sh)");
    place.scratch.file("go", "");
    let finished = running.wait();
    finished.assert_code(0);
    assert!(!finished.output().contains("killing"), "{}", finished.show());
    assert_eq!(place.scratch.wait_for_file("uploaded"), "done\n");
    place.assert_nothing_left();
}

#[test]
fn what_does_not_heed_it_is_named_and_killed_and_the_run_is_a_success() {
    let place = Place::local();
    let worker = leaving(&place, r#"trap '' TERM; echo $$ > "$SCRATCH/up"; while :; do sleep 0.02; done"#);
    let finished = place.launcher().args(["--grace-period", "1500ms"]).bash(&worker).run();
    let pid = place.scratch.wait_for_file("up");
    finished.assert_code(0).assert_output("all workers ended with 0; waiting up to ");
    finished
        .assert_output("the grace period is over; killing ")
        .assert_output(&format!("pid {} (bash ", pid.trim()));
    place.assert_nothing_left();
}
