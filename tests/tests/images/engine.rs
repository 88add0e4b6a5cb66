//! Podman with a store of its own, and what is built into it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tractorun_tests::{Cluster, Finished, Launcher, Running, Scratch, binaries, run};

/// Limits that an engine in a small machine may not raise by itself.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

/// The first time a base image is made, and packages are fetched.
const BUILD_LIMIT: Duration = Duration::from_secs(400);

/// Tests of one process share the store: one at a time.
static STORE: Mutex<()> = Mutex::new(());

/// A container engine with a store of its own, so that the machine's images stay as they are.
pub(crate) struct Engine {
    store: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Engine {
    /// Podman, or why there is none.
    pub(crate) fn prepare() -> Result<Self, String> {
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
        let engine = Self { store, _alone: STORE.lock().unwrap_or_else(PoisonError::into_inner) };
        engine.probe()?;
        // Every build leaves what it replaced. What is of today may still save a build some time.
        engine.call(&["image", "prune", "--force", "--filter", "until=24h"]);
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

    /// What a program needs to find this engine.
    fn variables(&self) -> [(&'static str, OsString); 2] {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        let path: OsString = env::join_paths(folders).expect("it was a PATH before");
        [("PATH", path), ("CONTAINERS_STORAGE_CONF", self.store.join("storage.conf").into())]
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.envs(self.variables()).args(["--runtime", "runc"]);
        command
    }

    /// Runs a command of podman.
    pub(crate) fn call(&self, arguments: &[&str]) -> Finished {
        run(self.podman().args(arguments))
    }

    /// What `make images` does.
    pub(crate) fn make(&self, images: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut command = Command::new(binaries::repository().join("scripts/images"));
        let binary = binaries::init();
        command
            .envs(self.variables())
            .arg(binary.parent().expect("a file in a folder"))
            .args(images)
            .env("ENGINE", "podman")
            .env("PULL", "never")
            .envs(variables.iter().copied());
        Running::start(&mut command).wait_up_to(BUILD_LIMIT)
    }

    /// Builds an image of somebody's own, from a Dockerfile.
    pub(crate) fn build(&self, scratch: &Scratch, name: &str, dockerfile: &str) -> Finished {
        let file = scratch.file("own/Dockerfile", dockerfile);
        let mut command = self.podman();
        command.args(["build", "--isolation=chroot", "--pull=never", "--tag", name]).args(LIMITS);
        let finished =
            Running::start(command.arg(file.parent().expect("a file in a folder"))).wait_up_to(BUILD_LIMIT);
        finished.assert_code(0);
        finished
    }

    /// Makes an image of a folder's files and nothing else.
    pub(crate) fn import(&self, scratch: &Scratch, root: &Path, name: &str) {
        let archive = scratch.path("root.tar");
        run(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".")).assert_code(0);
        self.call(&["import", "--quiet", &archive.display().to_string(), name]).assert_code(0);
    }

    /// Something that podman knows of an image, by a template.
    pub(crate) fn inspect(&self, image: &str, template: &str) -> String {
        let inspected = self.call(&["image", "inspect", "--format", template, image]);
        inspected.assert_code(0);
        inspected.stdout.trim().to_owned()
    }

    /// Runs a container without network, to its end.
    pub(crate) fn run(&self, image: &str, command: &[&str]) -> Finished {
        let options = [&["run", "--rm", "--network", "none"][..], &LIMITS, &[image], command].concat();
        self.call(&options)
    }

    /// A minicluster whose jobs run in this engine's containers.
    pub(crate) fn cluster(&self, scratch: &Scratch) -> Cluster {
        Cluster::start_with_containers(scratch, &self.variables())
    }
}

/// A run whose nodes are containers of the image, 2 x 2, with their lines on the terminal.
pub(crate) fn submit(scratch: &Scratch, cluster: &Cluster, image: &str) -> Launcher {
    Launcher::submit(scratch, cluster).mesh((2, 2)).args([
        "--docker-image",
        image,
        "--proxy-stderr-mode",
        "all",
        "--resources.memory-limit",
        "4GiB",
    ])
}
