//! What is read, and every mistake by its text.

use super::*;

const NOW: Micros = 1_000_000_000;

fn read(words: &str) -> Options {
    match parse(words.split(' ').map(OsString::from), NOW).unwrap() {
        Request::Logs(options) => *options,
        Request::Help => panic!("help was not asked for"),
    }
}

fn errors(words: &[&str]) -> Vec<String> {
    parse(words.iter().map(OsString::from), NOW).unwrap_err()
}

#[test]
fn a_path_alone_is_all_workers_of_the_newest_incarnation() {
    let options = read("//x/y/");
    assert_eq!(options.yt_path, "//x/y");
    assert_eq!(options.incarnation, None);
    assert_eq!(options.selection.workers, Wanted::All);
    assert_eq!(options.selection.sidecars, Wanted::None);
    assert_eq!((options.task, options.follow, options.format), (Task::Show, Follow::No, Format::Text));
}

#[test]
fn options_stand_before_and_behind_the_path() {
    let options = read(
        "--rank 0,3 //x -f --rank=8-15 --incarnation 2 --stream stderr --grep a.c --since 10s --tail 5 --json --node 1",
    );
    let Wanted::Only(ranks) = options.selection.workers else { panic!("ranks were named") };
    assert_eq!(ranks.to_string(), "0,3,8-15");
    assert_eq!(options.selection.sidecars, Wanted::None);
    assert_eq!(options.selection.nodes.unwrap().to_string(), "1");
    assert_eq!((options.incarnation, options.tail), (Some(2), Some(5)));
    assert_eq!(options.filter.stream, Some(Stream::Stderr));
    assert_eq!(options.filter.since, Some(NOW - 10_000_000));
    assert!(options.filter.grep.unwrap().is_match(b"\xffabc"));
    assert_eq!((options.follow, options.format), (Follow::UntilOver, Format::Json));
}

#[test]
fn who_names_sidecars_alone_sees_no_workers() {
    let options = read("//x --sidecar all");
    assert_eq!((options.selection.workers, options.selection.sidecars), (Wanted::None, Wanted::All));
    let options = read("//x --sidecar 1 --rank all");
    assert_eq!(options.selection.workers, Wanted::All);
    let options = read("//x --verify");
    assert_eq!((options.selection.workers, options.selection.sidecars), (Wanted::All, Wanted::All));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let words = [
        "--rank",
        "5-3",
        "--node",
        "x",
        "--stream",
        "stdot",
        "--grep",
        "a(",
        "--since",
        "soon",
        "--tail",
        "-1",
        "--incarnation",
        "+1",
        "--folow",
        "--json=1",
        "--collapse",
        "maybe",
    ];
    assert_eq!(
        errors(&words),
        [
            "`--rank`: the range `5-3` ends before it begins",
            "`--node`: expected numbers such as `3` or `0,3,8-15`, got `x`",
            "`--stream`: expected `stdout` or `stderr`, got `stdot`, did you mean `stdout`?",
            "`--grep`: `a(` is not a regular expression: unclosed group",
            "`--since`: expected a duration such as `10m` or `1h30m`, or a time such as `2026-11-24T17:20:00Z`, got `soon`",
            "`--tail`: expected a number of lines, got `-1`",
            "`--incarnation`: expected the number of an incarnation, got `+1`",
            "unknown option `--folow`, did you mean `--follow`?",
            "`--json` takes no value",
            "`--collapse`: expected `always` or `never` or `auto`, got `maybe`",
            "no directory of a run\nhint: `tractorun logs //path/of/the/run`: its `yt_path`, which the operation's title ends with",
        ]
    );
}

#[test]
fn values_are_not_forgotten_and_paths_are_paths() {
    assert_eq!(errors(&["//x", "--rank"]), ["`--rank` needs a value: `--rank <RANKS>`"]);
    assert_eq!(
        errors(&["/tmp/x"]),
        ["expected the directory of a run such as `//home/me/run`, got `/tmp/x`"]
    );
    assert_eq!(errors(&["//x", "//y"]), ["one directory of a run is expected, got also `//y`"]);
    assert_eq!(
        errors(&["//x", "-q", "--zzz"]),
        [
            "unknown option `-q`\nhint: `tractorun logs --help` shows all options",
            "unknown option `--zzz`\nhint: `tractorun logs --help` shows all options",
        ]
    );
    assert_eq!(
        errors(&["//x", "--verify", "--tail", "3"]),
        [
            "`--verify` counts whole tables: only `--incarnation`, `--rank`, `--sidecar` and `--node` go with it"
        ]
    );
    assert_eq!(
        errors(&["//x", "--json", "--collapse", "always"]),
        ["`--json` shows every line: `--collapse always` does not go with it"]
    );
    assert_eq!(
        errors(&["//x", "--spool", "x", "-f", "--verify"]),
        [
            "`--verify` counts whole tables: only `--incarnation`, `--rank`, `--sidecar` and `--node` go with it",
            "`--follow` is about tables: it does not go with `--spool`",
            "`--verify` is about tables: it does not go with `--spool`",
            "`--spool` says by itself of which run it is: `//x` does not go with it",
        ]
    );
    assert_eq!(
        errors(&["//x", "--ship"]),
        ["`--ship` adds the lines of a spool: `--spool <PATH>` is missing"]
    );
    assert_eq!(
        errors(&["--spool", "x", "--ship", "--tail", "3"]),
        ["`--ship` adds all lines: only `--rank`, `--sidecar` and `--node` go with it"]
    );
    assert!(matches!(parse(["//x", "--nope", "-h"].map(OsString::from), NOW), Ok(Request::Help)));
}
