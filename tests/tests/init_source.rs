//! Whose `tractorun-init` the nodes run: the launcher's, or the image's. In real images: `images.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};
use tractorun_tests::{Cluster, Launcher, Scratch, binaries};

/// A run of the image's init whose jobs have these folders as `PATH`; what nodes say is shown.
fn submit(scratch: &Scratch, cluster: &Cluster, path: &str) -> Launcher {
    let task = json!({ "environment": { "PATH": path } });
    Launcher::submit(scratch, cluster)
        .args(["--init", "image", "--proxy-stderr-mode", "primary"])
        .args(["--yt-task-spec", &task.to_string()])
}

/// A folder with a `tractorun-init`, to go in front of the system's.
fn path_with(scratch: &Scratch, content: Option<String>) -> String {
    let folder = scratch.path("image/bin");
    fs::create_dir_all(&folder).expect("cannot make a folder");
    let program = folder.join("tractorun-init");
    match content {
        None => symlink(binaries::init(), &program).expect("cannot make a link"),
        Some(content) => {
            fs::write(&program, content).expect("cannot write a file");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("cannot change a mode");
        }
    }
    format!("{}:/usr/bin:/bin", folder.display())
}

#[test]
fn an_init_of_the_image_is_run_and_none_is_brought() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let path = path_with(&scratch, None);
    // Its own file, by way of /proc: where a worker's parent comes from.
    let script = "readlink /proc/$PPID/exe > $SCRATCH/exe-$RANK; [ ! -e tractorun-init ]";
    let finished =
        submit(&scratch, &cluster, &path).env("TRACTORUN_INIT", "/nowhere").mesh((2, 2)).bash(script).run();
    finished.assert_code(0);
    for rank in 0..4 {
        let exe = fs::read_to_string(scratch.path(&format!("exe-{rank}"))).expect("it was written");
        let init = binaries::init().canonicalize().expect("it is there");
        assert!(exe.trim().ends_with(init.to_str().expect("a plain path")), "{exe}");
    }
    assert!(!finished.stderr.contains("uploaded tractorun-init"), "{}", finished.show());
    let files = cluster.the_operation()["spec"]["tasks"]["task"]["file_paths"].clone();
    let names: Vec<&Value> =
        files.as_array().expect("a list").iter().map(|file| &file["$attributes"]["file_name"]).collect();
    assert_eq!(names, ["job-spec.json"]);
}

#[test]
fn an_image_without_init_is_told_by_its_job() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let finished = submit(&scratch, &cluster, "/usr/bin:/bin").bash("touch $SCRATCH/began").run();
    finished
        .assert_code(64)
        .assert_stderr(
            "tractorun: init: the image has no tractorun-init, neither on PATH nor in /usr/local/bin",
        )
        .assert_stderr(
            "hint: build one into the image, or leave out `--init image`: the launcher brings its own",
        );
    assert!(!scratch.path("began").exists());
}

#[test]
fn an_init_that_does_not_speak_the_job_spec_refuses_it() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    // To an older init today's job spec is as one of a later version is to today's.
    let older = format!(
        "#!/bin/bash\nsed -E 's/(\"version\": *\")1/\\19/' \"$TRACTORUN_JOB_SPEC\" > newer.json\n\
         TRACTORUN_JOB_SPEC=newer.json exec {}\n",
        binaries::init().display()
    );
    let path = path_with(&scratch, Some(older));
    let finished = submit(&scratch, &cluster, &path).bash("touch $SCRATCH/began").run();
    finished
        .assert_code(64)
        .assert_stderr("job spec has version 9.0, this tractorun-init reads versions up to 1.0")
        .assert_stderr("or leave out `--init image`: the launcher brings its own");
    assert!(!scratch.path("began").exists());
}

#[test]
fn a_dry_run_shows_what_each_choice_submits() {
    let scratch = Scratch::new();
    let spec = |choice: &str| {
        let finished = Launcher::new(&scratch)
            .args(["--docker-image", "i:1", "--dry-run", "--init", choice, "true"])
            .run();
        finished.assert_code(0);
        let document: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(document["configuration"]["effective_config"]["init"], choice);
        document["run_info"]["operation_spec"].to_string()
    };
    let (bring, image) = (spec("bring"), spec("image"));
    assert!(bring.contains("exec ./tractorun-init") && bring.contains("upload:tractorun-init"), "{bring}");
    assert!(image.contains("type -P tractorun-init") && !image.contains("upload:tractorun-init"), "{image}");
}
