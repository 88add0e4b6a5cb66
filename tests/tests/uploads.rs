//! What is uploaded: only what the cluster does not have, in parts, and nothing of what ignore files name.

use std::fs;

use nix::sys::signal::Signal;
use tractorun_tests::{Launcher, Place};

/// More than one part: those are of 64 MiB.
const LARGE_BYTES: usize = 70 << 20;

/// Bytes that do not compress, the same in every run (xorshift64).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

/// What a launcher said that it uploaded of the bind, without the sizes.
fn uploaded(stderr: &str) -> Vec<&str> {
    let mut lines: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.find("uploaded `").map(|start| &line[start..]))
        .filter_map(|line| line.rsplit_once(" (").map(|(line, _)| line))
        .collect();
    lines.sort_unstable();
    lines
}

fn bind(place: &Place) -> Launcher {
    place.launcher().args(["--bind-local", "tree:tree"])
}

const SUM: &str =
    r#"cat tree/large tree/small | md5sum > "$SCRATCH/sum.part"; mv "$SCRATCH/sum.part" "$SCRATCH/sum""#;

#[test]
fn parts_arrive_as_one_and_only_what_changed_is_sent_again() {
    let place = Place::submitted();
    let scratch = &place.scratch;
    let mut content = noise(LARGE_BYTES);
    fs::create_dir(scratch.path("tree")).expect("a new folder");
    fs::write(scratch.path("tree/large"), &content).expect("ours");
    scratch.file("tree/small", "small\n");
    let expected = {
        let output = std::process::Command::new("bash")
            .args(["-c", "cat tree/large tree/small | md5sum"])
            .current_dir(scratch.path("."))
            .output()
            .expect("bash runs");
        String::from_utf8(output.stdout).expect("digits")
    };

    let first = bind(&place).bash(SUM).run();
    first.assert_code(0);
    assert_eq!(scratch.wait_for_file("sum"), expected);
    assert_eq!(uploaded(&first.stderr), ["uploaded `tree`, part 1 of 2", "uploaded `tree`, part 2 of 2"]);

    let again = bind(&place).bash(SUM).run();
    again.assert_code(0);
    assert_eq!(uploaded(&again.stderr), [""; 0]);

    content[LARGE_BYTES - 1] ^= 1;
    fs::write(scratch.path("tree/large"), &content).expect("ours");
    let changed = bind(&place).bash(SUM).run();
    changed.assert_code(0);
    assert_eq!(uploaded(&changed.stderr), ["uploaded `tree`, part 2 of 2"]);
}

#[test]
fn an_upload_that_broke_off_goes_on_where_it_stopped() {
    let place = Place::submitted();
    let scratch = &place.scratch;
    fs::create_dir(scratch.path("tree")).expect("a new folder");
    fs::write(scratch.path("tree/large"), noise(LARGE_BYTES)).expect("ours");
    scratch.file("tree/small", "small\n");
    // Whether the other part is there by then does not matter: this one is, and is not sent again.
    let running = bind(&place).bash(SUM).start();
    running.wait_for("uploaded `tree`, part");
    running.signal(Signal::SIGINT);
    running.wait();

    let second = bind(&place).bash(SUM).run();
    second.assert_code(0);
    assert!(uploaded(&second.stderr).len() <= 1, "{}", second.stderr);
}

#[test]
fn what_ignore_files_name_stays_here_and_is_said() {
    let place = Place::submitted();
    let scratch = &place.scratch;
    scratch.file("tree/.gitignore", "*.ckpt\n");
    scratch.file("tree/train.py", "");
    scratch.file("tree/a.ckpt", "");
    let list = r#"ls -A tree > "$SCRATCH/list.part"; mv "$SCRATCH/list.part" "$SCRATCH/list""#;
    let finished = bind(&place).bash(list).run();
    finished.assert_code(0);
    assert_eq!(scratch.wait_for_file("list"), ".gitignore\ntrain.py\n");
    finished.assert_stderr("stayed here by ignore files; `--bind-ignore none` takes everything along");

    fs::remove_file(scratch.path("list")).expect("it was read");
    bind(&place).args(["--bind-ignore", "none"]).bash(list).run().assert_code(0);
    assert_eq!(scratch.wait_for_file("list"), ".gitignore\na.ckpt\ntrain.py\n");
}
