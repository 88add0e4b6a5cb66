//! The program itself, as far as it touches nothing: help, version, completions, and mistakes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `tractorun` in an empty environment and folder.
fn tractorun(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tractorun"))
        .args(words)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the program can be run")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let help = tractorun(folder.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).starts_with("Usage: tractorun [OPTIONS] COMMAND"));
    assert_eq!(text(&help.stderr), "");
    let version = tractorun(folder.path(), &["--version"]);
    assert_eq!(text(&version.stdout), concat!("tractorun ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(version.status.code(), Some(0));
    let help = tractorun(folder.path(), &["logs", "--grep", "(", "-h"]);
    assert_eq!(help.status.code(), Some(0), "who asks for help is not told of mistakes");
    assert!(text(&help.stdout).starts_with("Usage: tractorun logs [OPTIONS] YT_PATH"));
}

#[test]
fn mistakes_are_told_on_stderr_without_colours_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), "mesh:\n  node_conut: 2\n").unwrap();
    let line =
        ["--run-config-path", "c.yaml", "--bind-local", "./nope:/nope", "--mesh.pool-tree", "x", "python3"];
    let output = tractorun(folder.path(), &line);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "tractorun: unknown option `--mesh.pool-tree`, did you mean `--mesh.pool-trees`?\n\
         tractorun: no Docker image for the job\n\
         hint: give `--docker-image`, or set YT_BASE_LAYER or YT_JOB_DOCKER_IMAGE; `--local` needs none\n\
         tractorun: `--bind-local`: cannot read `./nope`: No such file or directory\n\
         tractorun: c.yaml:2:3: unknown key `mesh.node_conut`, did you mean `mesh.node_count`?\n"
    );
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["c.yaml"]);
}

/// Mistakes are told before the cluster is asked: the proxy named here would take any connection.
#[test]
fn mistakes_ask_no_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tractorun"))
        .args(["--docker-image", "x", "--mesh.node-count", "0", "python3"])
        .current_dir(folder.path())
        .env_clear()
        .env("YT_PROXY", listener.local_addr().unwrap().to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// The scripts are not only printed: a shell that is here reads its own.
#[test]
fn shells_understand_their_completions() {
    let folder = tempfile::tempdir().unwrap();
    let script = tractorun(folder.path(), &["--completions", "bash"]);
    assert_eq!(script.status.code(), Some(0));
    fs::write(folder.path().join("completions"), &script.stdout).unwrap();
    let ask = "source ./completions; COMP_WORDS=(tractorun --mesh.n); COMP_CWORD=1; \
               _tractorun tractorun --mesh.n tractorun; echo \"${COMPREPLY[@]}\"";
    let reply = Command::new("bash").args(["-c", ask]).current_dir(folder.path()).output().unwrap();
    assert_eq!(text(&reply.stdout), "--mesh.node-count\n", "{}", text(&reply.stderr));
    let ask = "source ./completions; COMP_WORDS=(tractorun logs --s); COMP_CWORD=2; \
               _tractorun tractorun --s logs; echo \"${COMPREPLY[@]}\"";
    let reply = Command::new("bash").args(["-c", ask]).current_dir(folder.path()).output().unwrap();
    assert_eq!(text(&reply.stdout), "--sidecar --stream --since --spool --ship\n", "{}", text(&reply.stderr));

    let refused = tractorun(folder.path(), &["--completions", "tcsh"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).starts_with("tractorun: `--completions`: expected `bash`"));
}

#[test]
fn a_misspelt_command_of_ours_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    for (words, meant) in [
        (&["stauts", "//tmp/run"][..], Some("`tractorun status`")),
        (&["doctr"], Some("`tractorun doctor`")),
        (&["help"], Some("`tractorun --help`")),
        (&["python3", "train.py"], None),
        (&["--title", "x", "stauts"], None),
    ] {
        let output = tractorun(folder.path(), words);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        let hint = meant.map(|meant| {
            format!("hint: `{}` was taken as the command of a job; did you mean {meant}?\n", words[0])
        });
        assert!(said.starts_with("tractorun: no Docker image for the job\n"), "{said}");
        match hint {
            Some(hint) => assert!(said.ends_with(&hint), "{said}"),
            None => assert!(!said.contains("did you mean"), "{said}"),
        }
    }
}
