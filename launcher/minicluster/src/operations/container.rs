//! Jobs in containers: the task's `docker_image` gives the files, podman runs them.
//!
//! Of the image only its files are used. ENTRYPOINT and CMD are not run, ENV and WORKDIR are replaced: a job starts
//! as `/bin/bash` of the image in `/slot/sandbox`, with its own environment and no other, as on a cluster. Network
//! and user are the machine's; the container's root is the server's user. Nothing is ever pulled.
//!
//! The engine's processes and those of the container are descendants of the job's guard, so they end as a plain job
//! does. What the engine keeps about a container is removed after that; a server that is killed itself leaves it
//! behind (an entry named `tractorun-<job id>` and its layer, no process).
//!
//! Files for the start are in the job's folder: a script, which also has the environment, because a command line
//! would show secrets to everybody on this machine; and a pipe for descriptor 5, which engines do not pass on.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tractorun_sys::jobroot::{Interruption, Isolation, JobCommand, Output, Receivers};

use super::errors;
use super::slots::Slot;
use super::spawner::{Outputs, bash};
use crate::error::YtError;
use crate::guid::Guid;

/// The sandbox, as a job in a container sees it.
pub(super) const SANDBOX: &str = "/slot/sandbox";

const SCRIPT: &str = "start";
const STATISTICS: &str = "statistics";
const STARTED: &str = "started";

/// What not every machine allows or needs, the best first. Found by trying with the first image.
const WAYS: [(&[&str], &[&str]); 4] = [
    (&[], &[]),
    (&["--runtime", "runc"], &[]),
    // Inside of a container or a small machine, limits may not be raised.
    (&[], &LOW_LIMITS),
    (&["--runtime", "runc"], &LOW_LIMITS),
];
const LOW_LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

/// A container engine that works on this machine.
#[derive(Debug)]
pub(super) struct Engine {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    /// Which of [`WAYS`] works; known with the first image.
    way: Mutex<Option<usize>>,
    /// Images in which a trial has worked.
    tried: Mutex<BTreeSet<String>>,
}

/// A container from its start to its removal, which is when this is dropped.
#[derive(Debug)]
pub(super) struct Container {
    engine: Arc<Engine>,
    name: String,
    folder: PathBuf,
}

/// The outputs of a job in a container.
pub(super) struct ContainerOutputs {
    pub(super) stdout: Output,
    pub(super) stderr: OwnedFd,
}

// === impl Engine ===

impl Engine {
    /// Finds podman and asks it whether it works. `more`: variables for it, beyond the server's own.
    pub(super) fn find(more: &[(OsString, OsString)]) -> Result<Arc<Self>, String> {
        let mut environment: Vec<_> = std::env::vars_os().collect();
        environment.extend_from_slice(more);
        // Runtimes are often where only root looks.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(["/usr/sbin".into(), "/sbin".into()]);
        if let Ok(path) = std::env::join_paths(&folders) {
            environment.retain(|(name, _)| name != "PATH");
            environment.push(("PATH".into(), path));
        }
        let program = folders.iter().map(|folder| folder.join("podman")).find(|program| program.is_file());
        let program = program.ok_or("podman is not installed")?;
        let engine = Engine { program, environment, way: Mutex::default(), tried: Mutex::default() };
        engine
            .call(&["info", "--format", "{{.Host.OS}}"])
            .map_err(|error| format!("podman does not work: {error}"))?;
        Ok(Arc::new(engine))
    }

    /// Runs a command of the engine to its end; the error is what it said.
    fn call(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.lines().last().unwrap_or("no reason given").to_owned())
    }

    /// Whether jobs can be run in this image.
    pub(super) fn check(&self, image: &str) -> Result<(), YtError> {
        self.call(&["image", "exists", "--", image])
            .map_err(|_| errors::no_image(image, "it is not on this machine, and nothing is pulled here"))?;
        if self.tried.lock().unwrap_or_else(PoisonError::into_inner).contains(image) {
            return Ok(());
        }
        let known = *self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = known.map_or(0..WAYS.len(), |way| way..way + 1);
        let mut reasons = Vec::new();
        for way in ways {
            let (engine, run) = WAYS[way];
            let trial = [
                engine,
                &["run", "--rm", "--pull", "never", "--network", "host", "--log-driver", "none"],
                run,
                &["--entrypoint", "/bin/bash", "--", image, "-c", "exit 0"],
            ]
            .concat();
            match self.call(&trial) {
                Ok(()) => {
                    *self.way.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
                    self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned());
                    return Ok(());
                }
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        Err(errors::bad_image(image, &reasons.join("; ")))
    }
}

// === impl Container ===

impl Container {
    /// Puts the files for the start into the job's folder. Gives also the reading end of descriptor 5.
    pub(super) fn new(
        engine: Arc<Engine>,
        job: Guid,
        slot: &Slot,
        command: &str,
        environment: &[(OsString, OsString)],
        interruption: Option<Interruption>,
    ) -> io::Result<(Self, OwnedFd)> {
        let folder = slot.path().join("container");
        fs::create_dir(&folder)?;
        let script = script(command, environment, interruption)?;
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
        Ok((Container { engine, name: format!("tractorun-{job}"), folder }, statistics.into()))
    }

    /// The engine's process that runs the container and ends with it.
    pub(super) fn command(
        &self,
        image: &str,
        slot: &Slot,
        outputs: ContainerOutputs,
    ) -> io::Result<JobCommand> {
        let way = *self.engine.way.lock().unwrap_or_else(PoisonError::into_inner);
        let (engine, run) = WAYS[way.unwrap_or(0)];
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
}

impl Drop for Container {
    fn drop(&mut self) {
        // One that has ended is already gone.
        if let Err(error) = self.engine.call(&["rm", "--force", "--ignore", "--time", "0", "--", &self.name])
        {
            tracing::warn!(container = self.name, error, "could not remove a container");
        }
    }
}

/// What the container's bash runs: as its first process it hears no signal that it has no trap for, and reaps.
fn script(
    command: &str,
    environment: &[(OsString, OsString)],
    interruption: Option<Interruption>,
) -> io::Result<Vec<u8>> {
    let mut script = b"for name in $(compgen -e); do unset \"$name\"; done\n".to_vec();
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            script.extend_from_slice(part);
        }
        script.push(b'\n');
    };
    for (name, value) in environment {
        let name = name.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name.first().is_none_or(u8::is_ascii_digit) || !name.iter().all(plain) {
            let name = String::from_utf8_lossy(name);
            let text = format!("a job in a container cannot have a variable with the name {name:?}");
            return Err(io::Error::other(text));
        }
        line(&[b"export ", name, b"=", &quoted(value.as_bytes())]);
    }
    line(&[b"exec 5>/slot/container/", STATISTICS.as_bytes()]);
    line(&[b": >/slot/container/", STARTED.as_bytes()]);
    let job = [b"/bin/bash -c ".as_slice(), &quoted(format!(":; {command}").as_bytes())].concat();
    let Some(Interruption { signal, receivers }) = interruption else {
        line(&[&job]);
        line(&[b"exit $?"]);
        return Ok(script);
    };
    let receivers = match receivers {
        Receivers::Everybody => "-1",
        Receivers::Program => "$child",
    };
    let trap = format!("trap 'hit=1; kill -s {0} -- {receivers}' {0}", signal.number());
    line(&[trap.as_bytes()]);
    // Job control keeps bash from having the job ignore SIGINT.
    line(&[b"set -m"]);
    line(&[&job, b" &"]);
    line(&[b"child=$!"]);
    // A wait that the signal has cut short says nothing about the job, also if the job has ended meanwhile.
    line(&[b"while :; do hit=; wait $child; code=$?; [ \"$hit\" ] || exit $code; done"]);
    Ok(script)
}

/// In single quotes for bash.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_reads_what_was_quoted() {
        for text in ["", "plain", "it's", "$HOME `x` \\ \"\n'"] {
            let command = [b"printf %s ".as_slice(), &quoted(text.as_bytes())].concat();
            let output = Command::new("/bin/bash")
                .arg("-c")
                .arg(std::ffi::OsStr::from_bytes(&command))
                .output()
                .unwrap();
            assert_eq!(output.stdout, text.as_bytes());
        }
    }

    #[test]
    fn a_name_that_bash_cannot_export_is_refused() {
        for name in ["a-b", "1a", "a b", ""] {
            assert!(script("exit", &[(name.into(), "x".into())], None).is_err(), "{name}");
        }
    }
}
