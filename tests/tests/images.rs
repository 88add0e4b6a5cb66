//! The images: built and run with podman (or docker), never pulling anything.
//!
//! Where there is no engine, or it cannot run a container here, the tests say that they were skipped and why.

// "skipped: ..." is meant for whoever reads the test's output.
#![allow(clippy::print_stdout)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use tractorun_tests::{Finished, Running, binaries, run};

/// Limits that an engine in a small machine may not raise by itself.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

/// A container engine with a store of its own, so that the machine's images stay as they are.
struct Engine {
    store: PathBuf,
}

/// Tests of one process share the store.
static BUILD: Mutex<()> = Mutex::new(());

impl Engine {
    /// Podman with the images built, or why there is none.
    fn prepare() -> Result<Self, String> {
        for program in ["podman", "runc", "debootstrap"] {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
            if !folders.any(|folder| folder.join(program).is_file()) {
                return Err(format!("{program} is not installed"));
            }
        }
        if !nix::unistd::Uid::effective().is_root() {
            return Err("making a base image with debootstrap needs root".into());
        }
        let cache = binaries::repository().join(".cache").canonicalize().or_else(|_| {
            fs::create_dir_all(binaries::repository().join(".cache"))?;
            binaries::repository().join(".cache").canonicalize()
        });
        let cache = cache.map_err(|error| error.to_string())?;
        // Overlays are quick; plain copies work everywhere.
        Self::with_driver(&cache, "overlay").or_else(|_| Self::with_driver(&cache, "vfs"))
    }

    fn with_driver(cache: &Path, driver: &str) -> Result<Self, String> {
        let store = cache.join(format!("podman-{driver}"));
        fs::create_dir_all(&store).map_err(|error| error.to_string())?;
        let configuration = format!(
            "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            store.display()
        );
        fs::write(store.join("storage.conf"), configuration).map_err(|error| error.to_string())?;
        let engine = Self { store };
        engine.probe()?;
        Ok(engine)
    }

    /// Whether an image can be unpacked and a container be run here at all, whatever is in it.
    fn probe(&self) -> Result<(), String> {
        const IMAGE: &str = "localhost/tractorun-probe";
        /// podman's own failure, as opposed to that of what it ran.
        const PODMAN_FAILED: i32 = 125;
        let archive = self.store.join("probe.tar");
        let binary = binaries::init();
        let folder = binary.parent().expect("a file in a folder");
        run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).arg("tractorun-init"))
            .assert_code(0);
        let imported = self.call(&["import", "--quiet", &archive.display().to_string(), IMAGE]);
        if imported.code() != 0 {
            return Err(format!("podman cannot unpack an image here: {}", imported.stderr.trim()));
        }
        let started = self.run(IMAGE, &["/tractorun-init", "--version"]);
        if started.code() == PODMAN_FAILED || started.stderr.contains("OCI runtime error") {
            return Err(format!("podman cannot run a container here: {}", started.stderr.trim()));
        }
        Ok(())
    }

    fn environment(&self, command: &mut Command) {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        let path: OsString = env::join_paths(folders).expect("it was a PATH before");
        command.env("PATH", path).env("CONTAINERS_STORAGE_CONF", self.store.join("storage.conf"));
    }

    fn call(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new("podman");
        self.environment(&mut command);
        run(command.args(["--runtime", "runc"]).args(arguments))
    }

    /// What `make images` does.
    fn build(&self) {
        let _alone = BUILD.lock().expect("not poisoned");
        let mut command = Command::new(binaries::repository().join("scripts/images"));
        self.environment(&mut command);
        let folder = binaries::init();
        command
            .arg(folder.parent().expect("a file in a folder"))
            .env("ENGINE", "podman")
            .env("PULL", "never");
        // The first time it makes the base image too.
        Running::start(&mut command)
            .wait_up_to(Duration::from_secs(400))
            .assert_code(0)
            .assert_stdout("built tractorun-init:debian");
    }

    /// Runs a container without network, to its end.
    fn run(&self, image: &str, command: &[&str]) -> Finished {
        let options = [&["run", "--rm", "--network", "none"][..], &LIMITS, &[image], command].concat();
        self.call(&options)
    }
}

mod heavy {
    use super::Engine;

    #[test]
    fn images_run_commands_under_tractorun_init() {
        let engine = match Engine::prepare() {
            Ok(engine) => engine,
            Err(reason) => return println!("skipped: {reason}"),
        };
        engine.build();

        // An image with nothing else in it.
        let version = engine.run("tractorun-init:scratch", &["--version"]);
        version.assert_code(0).assert_stdout("tractorun-init ");
        let nested = engine.run("tractorun-init:scratch", &["--", "/tractorun-init", "--version"]);
        nested.assert_code(0).assert_stdout("tractorun-init ");
        engine.run("tractorun-init:scratch", &["--", "/nothing"]).assert_code(127).assert_stderr("/nothing");

        // Debian with init as entrypoint: it is PID 1, codes pass, signals become 128 + n, orphans are reaped.
        let debian = |script: &str| engine.run("tractorun-init:debian", &["bash", "-c", script]);
        debian("tr '\\0' ' ' < /proc/1/cmdline")
            .assert_code(0)
            .assert_stdout("/usr/local/bin/tractorun-init -- bash");
        debian("exit 7").assert_code(7);
        debian("kill -9 $$").assert_code(137);
        let reaped = "for i in 1 2 3 4 5; do ( true & ); done; \
                      until [ -z \"$(grep -l '^State:.*zombie' /proc/[0-9]*/status 2>/dev/null)\" ]; do :; done; echo clean";
        debian(reaped).assert_code(0).assert_stdout("clean");
        engine
            .run("tractorun-init:debian", &["no-such-command"])
            .assert_code(127)
            .assert_stderr("no-such-command");
    }
}
