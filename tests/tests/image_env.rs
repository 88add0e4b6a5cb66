//! The environment that an image keeps for its jobs: `tractorun-init save-env` at its build, the real jobs afterwards.
//! In a real image: `images.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;
use serde_json::json;
use tractorun_tests::{Cluster, Finished, Launcher, Scratch, binaries, run};

/// Made up, and easy to find.
const SECRET: &str = "hidden-NEVER-to-be-SEEN-0815";

/// Runs `save-env` as a build of an image would, with these variables and no other.
fn save_env(to: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(binaries::init());
    command.arg("save-env").arg("--to").arg(to).args(arguments);
    command.env_clear().envs(variables.iter().copied());
    run(&mut command)
}

/// A run whose jobs find that file where an image has it.
fn submit(scratch: &Scratch, cluster: &Cluster, file: &Path, more: &[(&str, &str)]) -> Launcher {
    let mut environment = json!({ "TRACTORUN_IMAGE_ENV": file });
    for (name, value) in more {
        environment[name] = json!(value);
    }
    let task = json!({ "environment": environment });
    Launcher::submit(scratch, cluster).args(["--yt-task-spec", &task.to_string()])
}

/// A folder as a venv has it, with a program that is nowhere else.
fn venv(scratch: &Scratch) -> String {
    fs::create_dir_all(scratch.path("venv/bin")).expect("cannot make a folder");
    symlink("/bin/bash", scratch.path("venv/bin/shell-of-the-venv")).expect("cannot make a link");
    scratch.text("venv/bin")
}

#[test]
fn workers_and_sidecars_get_the_images_environment_below_their_own() {
    let scratch = Scratch::new();
    let file = scratch.path("image/etc/env");
    let path = format!("{}:/usr/bin:/bin", venv(&scratch));
    save_env(
        &file,
        &["--without", "BUILD_ONLY"],
        &[
            ("PATH", &path),
            ("TWO_LINES", "it's \"one\"\nand two"),
            ("OF_TASK", "of the image"),
            ("OF_USER", "of the image"),
            ("BUILD_ONLY", "x"),
            ("HOME", "/root"),
            ("HF_TOKEN", SECRET),
            ("YT_PROXY", "http://elsewhere"),
        ],
    )
    .assert_code(0)
    .assert_stdout("OF_TASK, OF_USER, PATH, TWO_LINES\nleft out, may be secret: HF_TOKEN");

    let cluster = Cluster::start(&scratch);
    let script = |to: &str| {
        format!(
            r#"for name in PATH TWO_LINES OF_TASK OF_USER BUILD_ONLY HF_TOKEN TRACTORUN_IMAGE_ENV; do
                   printf '%s=%q\n' $name "${{!name-unset}}"; done > "$SCRATCH/{to}.part"
               [ "$HOME" != /root ] && [ "$YT_PROXY" = {proxy} ] && mv "$SCRATCH/{to}.part" "$SCRATCH/{to}""#,
            proxy = cluster.proxy()
        )
    };
    // Both programs are found by the image's PATH alone.
    let finished = submit(&scratch, &cluster, &file, &[("OF_TASK", "of the task")])
        .worker_env("OF_USER", "of the user")
        .args(["--proxy-stderr-mode", "primary"])
        .sidecar_command(&["shell-of-the-venv", "-c", &script("sidecar")], "on_failure")
        .args(["shell-of-the-venv", "-c"])
        .arg(format!("{}; until [ -e $SCRATCH/sidecar ]; do sleep 0.02; done", script("worker")))
        .run();
    finished.assert_code(0).assert_stderr("from the image's environment: OF_USER, PATH, TWO_LINES\n");
    let expected = format!(
        "PATH={path}\nTWO_LINES=$'it\\'s \"one\"\\nand two'\nOF_TASK=of\\ the\\ task\nOF_USER=of\\ the\\ user\n\
         BUILD_ONLY=unset\nHF_TOKEN=unset\nTRACTORUN_IMAGE_ENV=unset\n"
    );
    for name in ["worker", "sidecar"] {
        assert_eq!(fs::read_to_string(scratch.path(name)).expect("it was written"), expected, "{name}");
    }
}

#[test]
fn a_path_that_somebody_chose_is_not_the_images() {
    let scratch = Scratch::new();
    let file = scratch.path("env");
    let bin = venv(&scratch);
    save_env(&file, &[], &[("PATH", &bin)]).assert_code(0);
    let cluster = Cluster::start(&scratch);
    let path_of = |job: &[(&str, &str)], user: Option<&str>| {
        let mut launcher = submit(&scratch, &cluster, &file, job);
        if let Some(user) = user {
            launcher = launcher.worker_env("PATH", user);
        }
        launcher.args(["/bin/bash", "-c", "echo $PATH > $SCRATCH/path"]).run().assert_code(0);
        fs::read_to_string(scratch.path("path")).expect("it was written")
    };
    assert_eq!(path_of(&[("PATH", "/usr/bin:/bin")], None), format!("{bin}\n"));
    assert_eq!(path_of(&[("PATH", "/chosen:/bin")], None), "/chosen:/bin\n");
    assert_eq!(path_of(&[], Some("/bin")), "/bin\n");
}

#[test]
fn a_damaged_file_stops_the_job_before_it_begins() {
    let scratch = Scratch::new();
    let file = scratch.file("env", "PATH=/bin\n");
    let cluster = Cluster::start(&scratch);
    let finished = submit(&scratch, &cluster, &file, &[])
        .args(["--proxy-stderr-mode", "primary"])
        .bash("touch $SCRATCH/began")
        .run();
    finished.assert_code(64).assert_stderr("env` was not written by `tractorun-init save-env`");
    assert!(!scratch.path("began").exists());
}

#[test]
fn secrets_of_a_build_are_kept_only_where_that_was_asked_for() {
    let scratch = Scratch::new();
    let file = scratch.path("env");
    let url = format!("https://me:{SECRET}@pypi.example.com/simple");
    let variables = [("REGISTRY_PASSWORD", SECRET), ("PIP_INDEX_URL", &url), ("A", "1")];
    let told = save_env(&file, &[], &variables);
    told.assert_code(0)
        .assert_stdout("may be secret: PIP_INDEX_URL, REGISTRY_PASSWORD (`--with PIP_INDEX_URL`");
    assert!(!told.output().contains(SECRET), "save-env shows a secret");
    assert_eq!(fs::read(&file).expect("it was written"), b"tractorun-env 1\0A=1\0");
    save_env(&file, &["--with", "REGISTRY_PASSWORD", "--without", "A"], &variables).assert_code(0);
    let expected = format!("tractorun-env 1\0REGISTRY_PASSWORD={SECRET}\0");
    assert_eq!(fs::read_to_string(&file).expect("it was written"), expected);
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_with_a_hint() {
    if Uid::effective().is_root() {
        // Root may write anywhere but below a file.
        let scratch = Scratch::new();
        let file = scratch.file("file", "");
        save_env(&file.join("env"), &[], &[]).assert_code(64).assert_stderr("cannot write `");
        return;
    }
    save_env(Path::new("/etc/tractorun/env"), &[], &[])
        .assert_code(64)
        .assert_stderr("cannot write `/etc/tractorun/env`: Permission denied (os error 13)")
        .assert_stderr("hint: in a Dockerfile, run save-env before `USER`");
}
