//! The examples that need no Python package of ours, as `examples/README.md` says to run them; those of
//! `examples/python` are in `python_package`, the digits in `digits`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tractorun_tests::{Finished, Launcher, Place, Scratch, binaries, run};

fn launcher(place: &Place) -> Launcher {
    place.launcher().current_dir(binaries::repository().into()).args(["--proxy-stderr-mode", "all"])
}

/// The example with its script as a bind, as on a cluster: it runs in the sandbox of its node.
fn bound(place: &Place, script: &str) -> Launcher {
    launcher(place).args(["--bind-local", &format!("examples/{script}:{script}")]).mesh((2, 2))
}

#[test]
fn hello() {
    let place = Place::local();
    let finished = bound(&place, "hello.sh").args(["sh", "hello.sh"]).run();
    finished.assert_code(0);
    for rank in 0..4 {
        let (local, node) = (rank % 2, rank / 2);
        finished.assert_output(&format!(
            "hello from rank {rank} of 4: worker {local} of node {node}, rank 0 is at "
        ));
    }
    place.assert_nothing_left();
}

#[test]
fn sidecars() {
    for place in [Place::local(), Place::submitted()] {
        // Variables on the command line would replace those of the file.
        let launcher = if place.is_submitted() {
            Launcher::new(&place.scratch).env("YT_PROXY", place.cluster().proxy())
        } else {
            place.launcher()
        };
        let launcher =
            launcher.current_dir(binaries::repository().into()).args(["--proxy-stderr-mode", "all"]);
        let finished = launcher.args(["--run-config-path", "examples/sidecars.yaml"]).run();
        finished.assert_code(0);
        for rank in 0..4 {
            let told = format!("rank {rank} of 4: only workers see this, load of node {}: ", rank / 2);
            finished.assert_output(&told);
        }
        finished.assert_output("[sidecar 1] warming up node 0").assert_output("warming up node 1");
        place.assert_nothing_left();
    }
}

fn trained(finished: &Finished) -> String {
    finished.assert_code(0);
    let output = finished.output();
    let line =
        output.lines().find_map(|line| line.split_once("parameters ").map(|(_, found)| found.to_owned()));
    line.unwrap_or_else(|| panic!("no parameters in {}", finished.show()))
}

mod heavy {
    use super::{Place, binaries, bound, trained};

    /// A rank that is killed in the middle of a training of 2 nodes: all go on in place from the checkpoints of the
    /// attempt before, with the same ports, and end with the parameters of a run that nobody disturbed.
    #[test]
    fn a_killed_rank_of_a_training_is_made_good() {
        let place = Place::local();
        let command = [binaries::SYSTEM_PYTHON, "restarts_ddp.py"];
        let undisturbed = trained(&bound(&place, "restarts_ddp.py").args(command).run());
        for place in [place, Place::submitted()] {
            let launcher = bound(&place, "restarts_ddp.py").worker_env("KILL_AT", "7");
            let launcher = launcher.args(["--restarts.max", "1", "--restarts.backoff", "100ms"]);
            let finished = launcher.args(command).run();
            assert_eq!(trained(&finished), undisturbed, "{}", finished.show());
            let output = finished.output();
            let port = |begin: &str| {
                let (_, rest) = output.split_once(begin).unwrap_or_else(|| panic!("{}", finished.show()));
                rest.lines().next().expect("a port").to_owned()
            };
            let first = port("attempt 0 begins after step 0, port ");
            assert_eq!(port("attempt 1 begins after step 6, port "), first);
            finished.assert_output("SIGKILL");
            place.assert_nothing_left();
        }
    }
}

/// Below `PyTorch` 2.1 Lightning asks for `ShardedTensor`, which 1.13 cannot load on Debian's Python 3.11.
const AS_IF_NEWER: &str = "import pytorch_lightning.core.module as module, runpy
module._TORCH_GREATER_EQUAL_2_1 = True
runpy.run_path('lightning_digits.py', run_name='__main__')";

/// Installs Lightning beside Debian's `PyTorch`, whose version pip would not take for one.
#[test]
#[ignore = "asks the package index, see `make soak`"]
fn lightning() {
    let place = Place::local();
    let packages = ["pytorch-lightning==2.2.5", "torchmetrics==1.4.0", "lightning-utilities==0.11.9"];
    let packages = [&packages[..], &["fsspec==2024.6.1", "tqdm==4.66.5", "packaging==24.1"]].concat();
    let modules = place.scratch.text("modules");
    let mut pip = Command::new(binaries::package_python());
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        &modules,
    ]);
    run(pip.args(packages)).assert_code(0);
    let launcher = bound(&place, "lightning_digits.py").worker_env("PYTHONPATH", &modules);
    let finished = launcher.arg(binaries::package_python()).args(["-c", AS_IF_NEWER]).run();
    finished.assert_code(0);
    let output = finished.output();
    let (_, accuracy) = output.split_once("4 workers, test accuracy: ").unwrap_or_else(|| panic!("{output}"));
    let accuracy: f64 = accuracy[..5].parse().expect("a number");
    assert!(accuracy > 0.9, "{accuracy}");
    place.assert_nothing_left();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every example is in the list of examples, and some test runs it.
#[test]
fn every_example_is_listed_and_run() {
    let root = binaries::repository();
    let list = fs::read_to_string(root.join("examples/README.md")).expect("there is a list");
    let tests: String =
        files(&root.join("tests/tests")).iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    for example in files(&root.join("examples")) {
        let name = example.strip_prefix(root.join("examples")).expect("below it").display().to_string();
        if example.extension().is_some_and(|end| end == "md") || name.contains("__pycache__") {
            continue;
        }
        assert!(list.contains(&name), "examples/README.md does not name {name}");
        let file = example.file_name().expect("a file").to_string_lossy();
        // What a configuration brings along is run by it.
        let by_config = example.with_extension("yaml");
        let by_config = by_config.file_name().expect("a file").to_string_lossy();
        assert!(tests.contains(&*file) || tests.contains(&*by_config), "no test runs {name}");
    }
}

/// The commands in the list are those that work.
#[test]
fn commands_of_the_list_are_understood() {
    let scratch = Scratch::new();
    let list =
        fs::read_to_string(binaries::repository().join("examples/README.md")).expect("there is a list");
    let commands: Vec<&str> = list.split('`').filter(|text| text.starts_with("tractorun --")).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let dry = command.replacen("tractorun ", r#""$TRACTORUN" --dry-run "#, 1);
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", &dry]).env("TRACTORUN", binaries::tractorun()).env("HOME", scratch.path(""));
        run(shell.current_dir(binaries::repository())).assert_code(0);
    }
}
