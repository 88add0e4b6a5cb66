//! One call of `tractorun`, built up step by step.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::binaries;
use crate::cluster::Cluster;
use crate::process::{Finished, Running};
use crate::scratch::{MARK, Scratch};
use crate::screen::TERM;

/// A call of `tractorun` with an environment that holds nothing of this machine's own YT settings.
#[must_use]
pub struct Launcher {
    command: Command,
}

impl Launcher {
    /// The bare command, without a cluster.
    pub fn new(scratch: &Scratch) -> Self {
        Self::program(scratch, binaries::tractorun())
    }

    /// Another program in the same surroundings.
    pub fn program(scratch: &Scratch, program: PathBuf) -> Self {
        let home = scratch.path("home");
        std::fs::create_dir_all(&home).expect("cannot make a folder");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", home)
            .env("TMPDIR", scratch.path(""))
            .env(MARK, scratch.mark())
            .env("SCRATCH", scratch.path(""))
            .current_dir(scratch.path(""));
        Self { command }
    }

    /// Runs on this machine.
    pub fn local(scratch: &Scratch) -> Self {
        Self::new(scratch).arg("--local")
    }

    /// Submits to a cluster. Workers get the test's mark and `SCRATCH`, its folder.
    pub fn submit(scratch: &Scratch, cluster: &Cluster) -> Self {
        Self::new(scratch)
            .env("YT_PROXY", cluster.proxy())
            .args(["--docker-image", "no/image:1"])
            .worker_env(MARK, scratch.mark())
            .worker_env("SCRATCH", &scratch.text(""))
    }

    /// `node_count` x `process_per_node`.
    pub fn mesh(self, mesh: (u32, u32)) -> Self {
        let (nodes, workers) = (mesh.0.to_string(), mesh.1.to_string());
        self.args(["--mesh.node-count", &nodes, "--mesh.process-per-node", &workers])
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.arg(argument.into());
        self
    }

    /// More arguments.
    pub fn args<T: Into<OsString>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// A variable of the launcher's own environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// A variable that workers get, by `--env`.
    pub fn worker_env(self, name: &str, value: &str) -> Self {
        let option = serde_json::json!({ "name": name, "value": value }).to_string();
        self.args(["--env", &option])
    }

    /// A sidecar: a piece of bash and its policy.
    pub fn sidecar(self, script: &str, policy: &str) -> Self {
        self.sidecar_command(&["/bin/bash", "-c", script], policy)
    }

    /// A sidecar of any command.
    pub fn sidecar_command(self, command: &[&str], policy: &str) -> Self {
        let option = serde_json::json!({ "command": command, "restart_policy": policy }).to_string();
        self.args(["--sidecar", &option])
    }

    /// The same by way of a shell, which does something before it becomes the launcher: `script` ends with
    /// `exec "$@"`.
    pub fn by_shell(self, script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(self.command.get_program()).args(self.command.get_args());
        command.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command }
    }

    /// Another working directory.
    pub fn current_dir(mut self, folder: PathBuf) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The worker's command: a piece of bash.
    pub fn bash(self, script: &str) -> Self {
        self.args(["/bin/bash", "-c", script])
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        Running::start(&mut self.command)
    }

    /// Starts it on a terminal.
    pub fn start_on_terminal(self) -> Running {
        Running::start_on_terminal(&self.env("TERM", TERM).command)
    }

    /// The call as a person would write it, without its surroundings.
    pub fn shown(&self) -> String {
        let program = self.command.get_program().to_string_lossy();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        let words = self.command.get_args().map(|word| {
            let word = word.to_string_lossy().into_owned();
            if word.is_empty() || !word.chars().all(is_plain) { format!("'{word}'") } else { word }
        });
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.start().wait()
    }
}

/// Sends a signal to any process of this test.
pub fn signal(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).expect("the process is there");
}
