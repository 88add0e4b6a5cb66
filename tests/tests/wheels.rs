//! The wheels as a person meets them: built, installed into a fresh environment by pip, and used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tractorun_tests::{Finished, Scratch, binaries, leftovers, run};

/// Builds both into a folder of the scratch: for images, for laptops.
fn build(scratch: &Scratch, folder: &str) -> [PathBuf; 2] {
    let programs = binaries::init().parent().expect("a program lies in a folder").to_path_buf();
    let mut command = Command::new("/usr/bin/python3");
    command.arg(binaries::repository().join("scripts/wheels")).arg(programs).arg(scratch.path(folder));
    let finished = run(&mut command);
    finished.assert_code(0);
    let mut wheels: Vec<PathBuf> = finished.stdout.lines().map(PathBuf::from).collect();
    wheels.sort();
    wheels.try_into().expect("there are two wheels")
}

/// Modules that wheels depend on, from the environment of the tests: nothing is asked of the network.
fn dependencies() -> String {
    let environment = binaries::package_python();
    let environment = environment.ancestors().nth(2).expect("an environment has a folder");
    let found = fs::read_dir(environment.join("lib")).expect("an environment has modules").flatten().next();
    found.expect("it is for one Python").path().join("site-packages").display().to_string()
}

/// A fresh environment with the wheel; programs of it know nothing of this machine's own.
struct Environment<'a> {
    scratch: &'a Scratch,
    folder: PathBuf,
}

impl<'a> Environment<'a> {
    fn with(scratch: &'a Scratch, wheel: &Path) -> Self {
        let environment = Self { scratch, folder: scratch.path("venv") };
        // Another environment's pip installs into it: making one is what takes the time of a new environment.
        let options = ["-m", "venv", "--system-site-packages", "--without-pip"];
        run(Command::new("/usr/bin/python3").args(options).arg(&environment.folder)).assert_code(0);
        let mut pip = Command::new(binaries::package_python());
        pip.args(["-m", "pip", "--disable-pip-version-check", "--python"])
            .arg(environment.folder.join("bin/python3"))
            .args(["install", "--quiet", "--no-index", "--no-deps"])
            .arg(wheel);
        run(&mut pip).assert_code(0);
        environment
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(self.folder.join("bin").join(program));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.scratch.path(""))
            .env("TMPDIR", self.scratch.path(""))
            .env("PYTHONPATH", dependencies())
            .current_dir(self.scratch.path(""));
        run(&mut command)
    }
}

#[test]
fn the_laptops_wheel_brings_the_programs_and_the_package() {
    let scratch = Scratch::new();
    let [_, wheel] = build(&scratch, "dist");
    let name = wheel.file_name().expect("a file").to_string_lossy().into_owned();
    assert!(name.ends_with("-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl"), "{name}");
    let environment = Environment::with(&scratch, &wheel);

    // Not a script that starts it: Python alone would take ten times as long.
    let installed = fs::read(environment.folder.join("bin/tractorun")).expect("it is installed");
    assert!(installed == fs::read(binaries::tractorun()).expect("it is built"), "another program");
    let version = environment.run("tractorun", &["--version"]);
    version.assert_code(0).assert_stdout(&format!("tractorun {}\n", env!("CARGO_PKG_VERSION")));
    let ask = "import importlib.metadata as m, tractorun.run; print(m.version('tractorun'), m.requires('tractorun')[0])";
    let told = environment.run("python3", &["-c", ask]);
    told.assert_code(0).assert_stdout(&format!("{} ytsaurus-client", env!("CARGO_PKG_VERSION")));

    let script = "import os; print('rank', os.environ['RANK'])";
    let local = environment.run("tractorun", &["--local", "--mesh.node-count", "2", "python3", "-c", script]);
    local.assert_code(0).assert_output("rank 0\n").assert_output("rank 1\n");

    // The package finds the program beside its interpreter, which is on no PATH here.
    let script = scratch.file(
        "send.py",
        "from tractorun.run import run\nfrom tractorun.mesh import Mesh\nfrom tractorun.backend.generic import GenericBackend\n\
         def train(toolbox):\n    print('self index', toolbox.coordinator.get_self_index())\n\
         if __name__ == '__main__':\n    run(train, backend=GenericBackend(), mesh=Mesh(node_count=1, process_per_node=2, \
         gpu_per_process=0), yt_path='//tmp/run', local=True)\n",
    );
    let sent = environment.run("python3", &[script.to_str().expect("a plain name")]);
    sent.assert_code(0).assert_output("self index 0\n").assert_output("self index 1\n");
    leftovers::assert_gone_but(&scratch, &[]);
}

/// Built twice, since equal content is an equal wheel.
#[test]
fn the_images_wheel_is_the_package_alone() {
    let scratch = Scratch::new();
    let (first, second) = (build(&scratch, "first"), build(&scratch, "second"));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.file_name(), second.file_name());
        let [first, second] = [first, second].map(|path| fs::read(path).expect("it was built"));
        assert!(first == second && !first.is_empty());
    }
    let [wheel, _] = first;
    assert!(wheel.to_string_lossy().ends_with("-py3-none-any.whl"), "{}", wheel.display());
    let environment = Environment::with(&scratch, &wheel);
    assert!(!environment.folder.join("bin/tractorun").exists(), "a program in a wheel for all platforms");
    environment.run("yt_stderr_reader", &["--help"]).assert_code(0);
    let told =
        environment.run("python3", &["-c", "import tractorun.run, tractorun; print(tractorun.__file__)"]);
    told.assert_code(0).assert_stdout(&environment.folder.display().to_string());
}

#[test]
fn what_would_not_run_everywhere_is_refused() {
    let scratch = Scratch::new();
    fs::copy("/bin/true", scratch.file("bin/tractorun", "")).expect("it can be copied");
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(binaries::repository().join("scripts/wheels"))
        .arg(scratch.path("bin"))
        .arg(scratch.path("dist"));
    run(&mut command).assert_code(1).assert_stderr("bin/tractorun is not static");
}
