//! Images in jobs of the minicluster: 2 nodes x 2 workers, each node a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tractorun_tests::{Cluster, Finished, Scratch, run};

use crate::engine::{Engine, submit};

/// Frameworks take their time to be loaded for the first time.
const JOB_LIMIT: Duration = Duration::from_secs(200);

/// Checks that a line was written by each of four ranks, `RANK` standing for its number.
#[track_caller]
fn assert_lines_of_four(finished: &Finished, line: &str) {
    finished.assert_code(0);
    for rank in ["0", "1", "2", "3"] {
        finished.assert_stderr(&line.replace("RANK", rank));
    }
}

#[test]
fn base_gives_its_environment_back_and_brings_its_init() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine.make(&["base"], &[]).assert_code(0);
    let scratch = Scratch::new();
    // A program that only the image's PATH finds, and what a CUDA image sets.
    let own = "FROM tractorun/base\nUSER root\nARG BUILD_TOKEN=hidden\n\
               ENV PATH=/opt/tool/bin:$PATH LD_LIBRARY_PATH=/usr/local/cuda/lib64 WORDS=\"it's two\" MODE=image\n\
               RUN mkdir -p /opt/tool/bin && ln -s /bin/bash /opt/tool/bin/tool && tractorun-init save-env\n\
               USER 1000:1000\n";
    engine
        .build(&scratch, "tractorun-test/tool", own)
        .assert_output("LANG, LD_LIBRARY_PATH, MODE, PATH, WORDS\nleft out, may be secret: BUILD_TOKEN");

    let cluster = engine.cluster(&scratch);
    let script = "echo \"hello of $RANK: $LD_LIBRARY_PATH, $WORDS, $MODE, $LANG, ${BUILD_TOKEN-none}, \
                  $(readlink /proc/$PPID/exe)\" >&2";
    let tool = |init: &str| {
        submit(&scratch, &cluster, "tractorun-test/tool")
            .args(["--init", init])
            .worker_env("MODE", "user")
            .args(["tool", "-c", script])
            .run()
    };
    let line = "hello of RANK: /usr/local/cuda/lib64, it's two, user, C.UTF-8, none, ";
    assert_lines_of_four(&tool("image"), &format!("{line}/usr/local/bin/tractorun-init\n"));
    assert_lines_of_four(&tool("bring"), &format!("{line}/slot/sandbox/tractorun-init\n"));
    cluster.assert_no_operation_runs();
}

#[test]
fn an_image_with_bash_alone_gets_its_init_brought() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let script = "set -e; for file in /bin/bash $(ldd /bin/bash | grep -o '/[^ ]*'); do \
                    mkdir -p \"$0${file%/*}\"; cp -L $file \"$0$file\"; done; mkdir $0/tmp $0/proc";
    run(Command::new("/bin/bash").args(["-c", script]).arg(&root)).assert_code(0);
    assert!(!root.join("usr/bin/env").exists());
    engine.import(&scratch, &root, "tractorun-test/bare");

    let cluster = engine.cluster(&scratch);
    let submit = || submit(&scratch, &cluster, "tractorun-test/bare");
    let script = "files=(/usr/bin/* /bin/*); echo \"hello of $RANK of $WORLD_SIZE with ${files[*]}\" >&2";
    let finished = submit().bash(script).run();
    assert_lines_of_four(&finished, "hello of RANK of 4 with /usr/bin/* /bin/bash\n");
    // Asked for its own it says that it has none.
    submit()
        .args(["--init", "image"])
        .bash(script)
        .run()
        .assert_code(64)
        .assert_stderr("the image has no tractorun-init");
    cluster.assert_no_operation_runs();
}

/// A script of this suite.
fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
}

/// Runs a script of this suite in an image's four workers, by `python3` of the image's PATH.
fn run_script(engine: &Engine, image: &str, script: &str, arguments: &[&str]) -> Finished {
    let scratch = Scratch::new();
    run_script_on(&scratch, &engine.cluster(&scratch), image, script, arguments)
}

/// The same on a cluster that is there.
fn run_script_on(
    scratch: &Scratch,
    cluster: &Cluster,
    image: &str,
    script: &str,
    arguments: &[&str],
) -> Finished {
    let path = script_path(script);
    let finished = submit(scratch, cluster, image)
        .args(["--init", "image", "--bind-local"])
        .arg(format!("{}:{script}", path.display()))
        .args(arguments.iter().copied())
        .args(["python3", script])
        .start()
        .wait_up_to(JOB_LIMIT);
    cluster.assert_no_operation_runs();
    finished
}

#[test]
#[ignore = "builds an image of 1.3 GB: make images-test"]
fn torch_trains_over_four_ranks() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine.make(&["torch"], &[]).assert_code(0);
    let finished = run_script(&engine, "tractorun/torch", "torch_ddp.py", &[]);
    assert_lines_of_four(&finished, "rank RANK of 4: sum 10, parameters equal, loss fell\n");
}

#[test]
#[ignore = "builds an image of 0.8 GB: make images-test"]
fn jax_adds_over_two_processes() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine.make(&["jax"], &[]).assert_code(0);
    let finished = run_script(&engine, "tractorun/jax", "jax_sum.py", &["--mesh.process-per-node", "1"]);
    finished.assert_code(0);
    for rank in 0..2 {
        finished.assert_stderr(&format!("process {rank} of 2: 2 devices, sum 12.0\n"));
    }
}

#[test]
#[ignore = "fetches packages: make images-test"]
fn tensorproxy_answers_workers_of_its_image() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine.make(&["tensorproxy"], &[]).assert_code(0);
    let scratch = Scratch::new();
    let cluster = engine.cluster(&scratch);
    cluster.set("//tmp/greeting", &json!("hello"));
    let program = fs::read(script_path("tensorproxy_server.py")).expect("the stand-in is there");
    cluster.write_file("//tmp/tensorproxy", &program);
    let options = ["--tensorproxy.enabled", "--tensorproxy.yt_path", "//tmp/tensorproxy"];
    let finished =
        run_script_on(&scratch, &cluster, "tractorun/tensorproxy", "tensorproxy_client.py", &options);
    finished.assert_code(0);
    for rank in 0..4 {
        finished.assert_stderr(&format!("rank {rank} got hello by node {}\n", rank / 2));
    }
}
