//! Jobs in containers: the task's `docker_image` gives the files, podman or docker runs them.
//!
//! Of the image only its files are used. ENTRYPOINT and CMD are not run, ENV and WORKDIR are replaced: a job starts
//! as `/bin/bash` of the image in `/slot/sandbox`, with its own environment and no other, as on a cluster. Network
//! and user are the machine's; the container's root is the server's user. Nothing is ever pulled.
//!
//! With podman the container's processes are descendants of the job's guard, so they end as a plain job does; with
//! docker they end with the container. What the engine keeps about a container is removed after that; a server that
//! is killed itself leaves it behind (named `tractorun-<job id>`; with docker it may still run).
//!
//! Files for the start are in the job's folder: a script, which also has the environment, because a command line
//! would show secrets to everybody on this machine; files for memory; and a pipe for descriptor 5, which engines do
//! not pass on.

mod engine;
mod script;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tractorun_sys::jobroot::{Interruption, Isolation, JobCommand, Output, Tmpfs};

pub(super) use engine::Engine;
#[cfg(test)]
pub(super) use engine::EngineKind;

use super::slots::{SandboxFile, Slot};
use super::spawner::{Outputs, bash};
use crate::guid::Guid;

/// The sandbox, as a job in a container sees it.
pub(super) const SANDBOX: &str = "/slot/sandbox";

const SCRIPT: &str = "start";
const STATISTICS: &str = "statistics";
const STARTED: &str = "started";
/// Files on their way into memory, by number.
const FILES: &str = "files";

/// A container from its start to its removal, which is when this is dropped.
#[derive(Debug)]
pub(super) struct Container {
    engine: Arc<Engine>,
    name: String,
    folder: PathBuf,
}

/// What a container is to run.
pub(super) struct ContainerJob<'a> {
    pub(super) job: Guid,
    pub(super) command: &'a str,
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) interruption: Option<Interruption>,
    /// Files that belong into a volume in memory.
    pub(super) in_memory: &'a [SandboxFile],
}

/// The outputs of a job in a container.
pub(super) struct ContainerOutputs {
    pub(super) stdout: Output,
    pub(super) stderr: OwnedFd,
}

impl Container {
    /// Puts the files for the start into the job's folder. Gives also the reading end of descriptor 5.
    pub(super) fn new(
        engine: Arc<Engine>,
        slot: &Slot,
        job: &ContainerJob<'_>,
    ) -> io::Result<(Self, OwnedFd)> {
        let folder = slot.path().join("container");
        fs::create_dir(&folder)?;
        let names: Vec<&Path> = job.in_memory.iter().map(|file| file.name.as_path()).collect();
        for (number, file) in job.in_memory.iter().enumerate() {
            let file = SandboxFile { name: number.to_string().into(), ..file.clone() };
            file.add_to(&folder.join(FILES))?;
        }
        let script = script::script(&script::Job {
            command: job.command,
            environment: job.environment,
            interruption: job.interruption,
            in_memory: &names,
        })?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(SCRIPT))?
            .write_all(&script)?;
        let statistics = folder.join(STATISTICS);
        mkfifo(&statistics, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Open for both, so that it neither waits for a writer nor ends between two of them.
        let statistics = File::options().read(true).write(true).open(statistics)?;
        Ok((Container { engine, name: format!("tractorun-{}", job.job), folder }, statistics.into()))
    }

    /// The engine's process that runs the container and ends with it.
    pub(super) fn command(
        &self,
        image: &str,
        slot: &Slot,
        tmpfs: &[Tmpfs],
        outputs: ContainerOutputs,
    ) -> io::Result<JobCommand> {
        let (engine, run) = self.engine.way();
        let volume = |from: &Path, to: &str| {
            let mut volume = from.as_os_str().to_owned();
            volume.push(":");
            volume.push(to);
            volume
        };
        let mut arguments: Vec<OsString> = vec![self.engine.program.clone().into()];
        arguments.extend(engine.iter().map(OsString::from));
        let fixed = [
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "host",
            "--log-driver",
            "none",
            "--user",
            "0:0",
            "--security-opt",
            "label=disable",
            "--shm-size",
            "8g",
            "--ulimit",
            "core=0:0",
            "--entrypoint",
            "/bin/bash",
            "--workdir",
            SANDBOX,
            "--name",
            &self.name,
        ];
        arguments.extend(fixed.map(OsString::from));
        arguments.extend(run.iter().map(OsString::from));
        arguments.extend(["--volume".into(), volume(slot.path(), "/slot")]);
        for tmpfs in tmpfs {
            // `--mount` takes commas apart.
            let path = Path::new(SANDBOX).join(&tmpfs.path).components().collect::<PathBuf>();
            if path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b',' | b'"')) {
                let path = tmpfs.path.display();
                return Err(io::Error::other(format!(
                    "a tmpfs volume of a job in a container cannot have a comma or a quote in its path: {path}"
                )));
            }
            let mut mount = OsString::from("type=tmpfs,destination=");
            mount.push(path);
            mount.push(format!(",tmpfs-size={},tmpfs-mode=1777", tmpfs.bytes));
            arguments.extend(["--mount".into(), mount]);
        }
        arguments.extend(["--".into(), image.into(), format!("/slot/container/{SCRIPT}").into()]);
        let null = File::options().write(true).open("/dev/null")?;
        let outputs = Outputs { stdout: outputs.stdout, stderr: outputs.stderr, statistics: null.into() };
        let command = bash(slot, "", self.engine.environment.clone(), outputs, Isolation::Session);
        Ok(JobCommand { program: self.engine.program.clone(), arguments, ..command })
    }

    /// Whether it came as far as the job's own bash. If not, the engine's last words are in the job's stderr.
    pub(super) fn has_started(&self) -> bool {
        self.folder.join(STARTED).exists()
    }

    /// The first process in it, as the server sees it, while it runs.
    pub(super) fn first_process(&self) -> Option<i32> {
        self.engine.first_process(&self.name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // One that has ended is already gone.
        if let Err(error) = self.engine.remove(&self.name) {
            tracing::warn!(container = self.name, error, "could not remove a container");
        }
    }
}
