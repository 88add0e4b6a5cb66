//! The package in `runtime/python`, as scripts and laptops use it: our own cases and examples, and the tests and
//! examples of the Python tractorun, unchanged, with our launcher, init and package.

use std::process::Command;
use std::time::Duration;

use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Finished, Place, Scratch, binaries};

/// The whole of the Python tractorun's tests takes its time; see `make soak`.
const UPSTREAM_DEADLINE: Duration = Duration::from_mins(9);

/// Names which of the Python tractorun's tests are run: `all`, else a few.
const UPSTREAM: &str = "TRACTORUN_UPSTREAM";

/// Runs a script of the conformance folder that calls the package against a cluster.
fn conformance(script: &str, arguments: &[&str], deadline: Duration) -> Finished {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let conformance = binaries::repository().join("tests/conformance");
    let folder = conformance.join("python_package");
    let python = binaries::package_python();
    let bin = python.parent().expect("a program lies in a folder").display().to_string();
    let path = [&conformance.join("python"), &binaries::repository().join("runtime/python")];
    let path = std::env::join_paths(path).expect("the repository has a plain path");
    let mut command = Command::new(&python);
    command
        .arg(folder.join(script))
        .args(arguments)
        .env_clear()
        .env("PATH", format!("{bin}:/usr/bin:/bin"))
        .env("HOME", scratch.path(""))
        .env("TMPDIR", scratch.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", path)
        .env("YT_PROXY", cluster.proxy())
        .env("YT_TOKEN", "any")
        .env("YT_MODE", "external")
        .env("TRACTORUN", folder.join("image_env"))
        .env("REAL_LAUNCHER", binaries::tractorun())
        .env("IMAGE_PATH", format!("{bin}:/usr/bin:/bin"))
        .env("UPSTREAM_PYTHON", binaries::python())
        .current_dir(scratch.path(""));
    let finished = Running::start(&mut command).wait_up_to(deadline);
    cluster.assert_no_operation_runs();
    finished
}

/// Runs an example of `examples/python` on this machine.
fn example(place: &Place, name: &str, mesh: (u32, u32), arguments: &[&str]) -> Finished {
    let root = binaries::repository();
    let script = root.join("examples/python").join(name);
    place
        .launcher()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .mesh(mesh)
        .arg("--bind-local-lib")
        .arg(root.join("runtime/python/tractorun"))
        .arg("--bind-local")
        .arg(format!("{}:{name}", script.display()))
        .args(arguments)
        .arg(binaries::package_python())
        .arg(name)
        .run()
}

#[test]
fn scripts_and_functions() {
    let finished = conformance("cases.py", &[], Duration::from_mins(4));
    finished.assert_code(0).assert_stdout("all checks passed");
}

#[test]
fn checkpoints_and_resuming() {
    let place = Place::local_with_cluster();
    let path = ["--yt-path", "//tmp/counting", "--user-config"];
    let config = [&path[..], &[r#"{"fail_at": 7}"#]].concat();
    let failed = example(&place, "checkpoints.py", (2, 2), &config);
    failed.assert_code(1).assert_output("fails at step 7, as it was told to");
    let finished = example(&place, "checkpoints.py", (2, 2), &config);
    finished.assert_code(0).assert_output("goes on after step 6").assert_output("total 55");
    place.assert_nothing_left();
}

#[test]
fn jax_on_two_processes() {
    let place = Place::local();
    let finished = example(&place, "jax_cpu.py", (2, 1), &[]);
    finished.assert_code(0).assert_output("2 processes, 2 devices, sum 12.0");
    place.assert_nothing_left();
}

#[test]
fn batch_inference() {
    let place = Place::local_with_cluster();
    let finished = example(&place, "batch_inference.py", (2, 2), &["--yt-path", "//tmp/scores"]);
    finished.assert_code(0).assert_output("scored 500 rows into //tmp/scores/output");
    place.assert_nothing_left();
}

#[test]
fn sending_a_function() {
    let place = Place::local();
    let root = binaries::repository();
    let mut command = Command::new(binaries::package_python());
    command
        .arg("examples/python/send_function.py")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place.scratch.path(""))
        .env("TMPDIR", place.scratch.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", root.join("runtime/python"))
        .env("TRACTORUN", binaries::tractorun())
        .current_dir(root);
    let finished = Running::start(&mut command).wait();
    finished.assert_code(0);
    for rank in 0..4 {
        finished.assert_output(&format!("hello from {rank} of 4"));
    }
}

mod heavy {
    use super::{Place, UPSTREAM, UPSTREAM_DEADLINE, conformance, example};

    /// What is left out tests the insides of the Python launcher and bootstrap, or what ours do otherwise on purpose;
    /// the script says which and why.
    #[test]
    fn scripts_of_the_python_tractorun() {
        let few = ["tests/tractorch/test_run.py::test_run_torch_distributed"];
        let all = ["tests/tractorch", "tests/tractorax", "tests/generic"];
        let everything = std::env::var_os(UPSTREAM).is_some_and(|which| which == "all");
        let chosen = if everything { &all[..] } else { &few };
        let finished = conformance("upstream.py", &[&["tree", "-q"], chosen].concat(), UPSTREAM_DEADLINE);
        finished.assert_code(0).assert_stdout(" passed");
        if everything {
            let finished = conformance("upstream.py", &["tree", "--examples"], UPSTREAM_DEADLINE);
            finished.assert_code(0).assert_stdout("all examples ran");
        }
    }

    #[test]
    fn ddp_with_the_toolbox() {
        let place = Place::local();
        let arguments = ["--user-config", r#"{"epochs": 30}"#];
        let finished = example(&place, "ddp_toolbox.py", (2, 2), &arguments);
        finished.assert_code(0).assert_output("model in //tmp/tractorun/");
        place.assert_nothing_left();
    }

    #[test]
    fn a_table_as_a_dataset() {
        let place = Place::local();
        let finished = example(&place, "table_dataset.py", (2, 1), &[]);
        finished.assert_code(0).assert_output("read 5000 rows in 5 epochs: y = 3.0x + 1.0");
        place.assert_nothing_left();
    }
}
