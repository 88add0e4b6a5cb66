//! One call, looked at from three sides: in a pipe, on a terminal, and on a terminal with `NO_COLOR`.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::thread::{self, ScopedJoinHandle};

use regex::Regex;
use tractorun_tests::screen::{self, BROKEN, Styles};
use tractorun_tests::{Finished, Launcher, Place, Running, Scratch};

/// What becomes of lines that were broken to fit the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folds {
    /// They are part of what is expected.
    Kept,
    /// They are joined again, since names of machines and the like are longer here and shorter there.
    Undone,
}

/// Compares a call that ends by itself with what is expected of it.
#[track_caller]
pub(crate) fn assert_seen(name: &str, call: impl Fn(&Scratch) -> Launcher + Sync) {
    assert_place_seen(
        name,
        Folds::Kept,
        || (Scratch::new(), ()),
        |(scratch, ())| call(scratch),
        Running::wait,
    );
}

/// Compares a run, or a command on one, with what is expected of it. `place` gives where each of the three is.
#[track_caller]
pub(crate) fn assert_run_seen(
    name: &str,
    place: impl Fn() -> Arc<Place> + Sync,
    call: impl Fn(&Place) -> Launcher + Sync,
    watch: impl Fn(Running) -> Finished + Sync,
) {
    let begin = || {
        let place = place();
        (Scratch::new(), place)
    };
    assert_place_seen(name, Folds::Undone, begin, |(_, place)| call(place), watch);
}

/// The general case: `begin` makes the surroundings, `call` what is called in them, `watch` waits for the end.
#[track_caller]
pub(crate) fn assert_place_seen<T>(
    name: &str,
    folds: Folds,
    begin: impl Fn() -> (Scratch, T) + Sync,
    call: impl Fn(&(Scratch, T)) -> Launcher + Sync,
    watch: impl Fn(Running) -> Finished + Sync,
) {
    let look = |start: fn(Launcher) -> Running| {
        let place = begin();
        let launcher = call(&place);
        let shown = launcher.shown();
        (watch(start(launcher)), shown)
    };
    let on_plain_terminal = |launcher: Launcher| launcher.env("NO_COLOR", "1").start_on_terminal();
    let ((pipe, shown), (terminal, _), (plain, _)) = thread::scope(|scope| {
        let pipe = scope.spawn(|| look(Launcher::start));
        let terminal = scope.spawn(|| look(Launcher::start_on_terminal));
        let plain = scope.spawn(|| look(on_plain_terminal));
        (join(pipe), join(terminal), join(plain))
    });

    assert!(!pipe.output().contains('\x1b'), "escape sequences in a pipe: {}", pipe.show());
    let colours = plain.stdout.split("\x1b[").skip(1).filter(|sequence| {
        let end = sequence.find(|c: char| c.is_ascii_alphabetic());
        end.is_some_and(|end| sequence[end..].starts_with('m'))
    });
    assert_eq!(colours.count(), 0, "colours in spite of NO_COLOR: {}", plain.show());
    let screen = |finished: &Finished, styles| {
        let text = screen::seen(&finished.stdout, styles);
        if folds == Folds::Undone {
            lines(&unfolded(&text), &shown, folds)
        } else {
            lines(&text, &shown, folds)
        }
    };
    let seen = screen(&terminal, Styles::Shown);
    let bare = screen(&terminal, Styles::Hidden);
    assert_eq!(bare, screen(&plain, Styles::Hidden), "NO_COLOR changes more than colours");
    let codes = [&pipe, &terminal, &plain].map(Finished::code);
    assert_eq!(codes, [codes[0]; 3], "the exit code depends on who watches");

    let mut text = format!("$ {}\nexit code {}\n", normal(&shown), codes[0]);
    for (stream, written) in [("stdout", &pipe.stdout), ("stderr", &pipe.stderr)] {
        let written = lines(written, &shown, folds);
        if written == bare && !written.is_empty() {
            let _ = writeln!(text, "=== {stream} in a pipe: the same without colours");
        } else if !written.is_empty() {
            let _ = write!(text, "=== {stream} in a pipe\n{written}");
        }
    }
    let _ = write!(text, "=== on a terminal\n{seen}");
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

/// What a thread has seen, or its panic.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The lines without what differs from machine to machine and from run to run. How far an operation is, and what the
/// inits of a run say, is left out: it depends on who is quicker.
fn lines(text: &str, call: &str, folds: Folds) -> String {
    let is_inits = |line: &str| call.starts_with("tractorun ") && line.starts_with("tractorun-init: ");
    // Columns of a table are as wide as the names in them.
    let squeezed = |line: &str| match folds {
        Folds::Kept => line.to_owned(),
        Folds::Undone => GAP.replace_all(line, "$1  ").into_owned(),
    };
    let lines = text.lines().filter(|line| !is_inits(line)).map(|line| normal(&squeezed(line)) + "\n");
    lines.filter(|line| !line.starts_with("tractorun: operation OPERATION: ")).collect()
}

/// Joins lines that the terminal broke, and those that the launcher broke to fit it: they start below the text behind
/// its label.
fn unfolded(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.replace(&format!("{BROKEN}\n"), "").lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let label = lines.last().map_or(0, |last| label(last));
        match lines.last_mut() {
            Some(last) if label > 0 && indent == label => last.extend([" ", line.trim_start()]),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// Columns of the launcher's label at the start of a line.
fn label(line: &str) -> usize {
    let mut bare = String::new();
    for (number, part) in line.split("\\e[").enumerate() {
        bare.push_str(if number == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    let labels = ["tractorun: warning: ", "tractorun: ", "hint: "];
    labels.into_iter().find(|label| bare.starts_with(label)).map_or(0, str::len)
}

/// Between the columns of a table.
static GAP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\S) {2,}").expect("our own pattern"));

/// What differs from machine to machine and from run to run, and what stands for it.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a machine has a name");
    let host = (format!(r"\b{}\b", regex::escape(host.trim())), "HOST");
    let rules = [
        (r#"--env '\{"name":"(SCRATCH|SCRIPT|TRACTORUN_TEST_MARK)".*?\}' "#, ""),
        (r"'eval .*", "SCRIPT"),
        (r"(/[\w.-]+)*/tractorun-test-\w+", "$$SCRATCH"),
        (r"/local/\d{8}-\d{6}-[0-9a-f]+", "/local/RUN"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
        (r"\b[0-9a-f]{1,8}-[0-9a-f]{1,8}-[0-9a-f]{1,8}-[0-9a-f]{1,8}\b", "OPERATION"),
        (r"\b(127\.0\.0\.1|HOST):\d{2,5}\b", "$1:PORT"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"(\s)\d+:\d\d\b", "${1}M:SS"),
        (r"\b\d+ tries\b", "N tries"),
        (r"Connection reset by peer \(os error 104\)", "connection closed"),
        (r"\(\d+$", "(N"),
        (r"\bseconds=\d+(\.\d+)?", "seconds=N"),
        (r"\b\d+\.\d+ s\b", "N.N s"),
        (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "SIZE"),
        (r"\bpid \d+", "pid N"),
        (concat!("\\b", env!("CARGO_PKG_VERSION"), "\\b"), "VERSION"),
    ];
    let rules = rules.map(|(pattern, replacement)| (pattern.to_owned(), replacement));
    let compiled =
        |(pattern, replacement): (String, _)| (Regex::new(&pattern).expect("our own patterns"), replacement);
    std::iter::once(host).chain(rules).map(compiled).collect()
});

/// A line without what differs.
fn normal(line: &str) -> String {
    RULES.iter().fold(line.to_owned(), |line, (pattern, replacement)| {
        pattern.replace_all(&line, *replacement).into_owned()
    })
}

/// Nowhere does the terminal have to break a line of ours. Init's lines are a log's: nobody lays them out.
#[test]
fn nothing_expected_is_wider_than_the_terminal() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
    for file in fs::read_dir(folder).expect("there are snapshots") {
        let file = file.expect("it can be read").path();
        let text = fs::read_to_string(&file).expect("a snapshot is text");
        let is_broken = |line: &&str| line.ends_with(BROKEN) && !line.contains("tractorun-init: ");
        let broken: Vec<&str> = text.lines().filter(is_broken).collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", file.display());
    }
}
