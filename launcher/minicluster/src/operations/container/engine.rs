//! The container engine: podman or docker, found by trying.
//!
//! They differ in this: podman's containers are descendants of the process that runs them, docker's are those of its
//! daemon. So a job in docker ends when its container is removed, which is what happens when its process has ended,
//! however it did; only a server that is itself killed leaves such a job running.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::YtError;
use crate::operations::errors;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operations) enum EngineKind {
    Podman,
    Docker,
}

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
pub(in crate::operations) struct Engine {
    pub(super) kind: EngineKind,
    pub(super) program: PathBuf,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Which of [`WAYS`] works; known with the first image.
    way: Mutex<Option<usize>>,
    /// Images in which a trial has worked.
    tried: Mutex<BTreeSet<String>>,
}

impl EngineKind {
    fn name(self) -> &'static str {
        match self {
            EngineKind::Podman => "podman",
            EngineKind::Docker => "docker",
        }
    }

    fn ways(self) -> &'static [(&'static [&'static str], &'static [&'static str])] {
        match self {
            EngineKind::Podman => &WAYS,
            // Its daemon has the runtime in its own configuration.
            EngineKind::Docker => &[(&[], &[]), (&[], &LOW_LIMITS)],
        }
    }

    /// Removes a container, also one that runs, also one that is gone.
    fn remove(self) -> &'static [&'static str] {
        match self {
            EngineKind::Podman => &["rm", "--force", "--ignore", "--time", "0", "--"],
            EngineKind::Docker => &["rm", "--force", "--"],
        }
    }
}

impl Engine {
    /// Finds the first engine that is installed and works.
    pub(in crate::operations) fn find() -> Result<Arc<Self>, String> {
        let podman = match Self::find_kind(EngineKind::Podman, &[]) {
            Ok(engine) => return Ok(engine),
            Err(reason) => reason,
        };
        Self::find_kind(EngineKind::Docker, &[]).map_err(|docker| format!("{podman}; {docker}"))
    }

    /// Finds this engine and asks it whether it works. `more`: variables for it, beyond the server's own.
    pub(in crate::operations) fn find_kind(
        kind: EngineKind,
        more: &[(OsString, OsString)],
    ) -> Result<Arc<Self>, String> {
        let name = kind.name();
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
        let program = folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file());
        let program = program.ok_or_else(|| format!("{name} is not installed"))?;
        let engine = Engine { kind, program, environment, way: Mutex::default(), tried: Mutex::default() };
        // docker's answers with success even without a daemon, unless it is asked for what only the daemon knows.
        let question = match kind {
            EngineKind::Podman => ["info", "--format", "{{.Host.OS}}"],
            EngineKind::Docker => ["version", "--format", "{{.Server.Os}}"],
        };
        engine.call(&question).map_err(|error| format!("{name} does not work: {error}"))?;
        Ok(Arc::new(engine))
    }

    /// Runs a command of the engine to its end; the error is what it said.
    pub(super) fn call(&self, arguments: &[&str]) -> Result<(), String> {
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
    pub(in crate::operations) fn check(&self, image: &str) -> Result<(), YtError> {
        self.call(&["image", "inspect", "--", image])
            .map_err(|_| errors::no_image(image, "it is not on this machine, and nothing is pulled here"))?;
        if self.tried.lock().unwrap_or_else(PoisonError::into_inner).contains(image) {
            return Ok(());
        }
        let known = *self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = known.map_or(0..self.kind.ways().len(), |way| way..way + 1);
        let mut reasons = Vec::new();
        for way in ways {
            let (engine, run) = self.kind.ways()[way];
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

    /// Options before and behind `run` without which it does not work here.
    pub(super) fn way(&self) -> (&'static [&'static str], &'static [&'static str]) {
        let way = *self.way.lock().unwrap_or_else(PoisonError::into_inner);
        self.kind.ways()[way.unwrap_or(0)]
    }

    /// Ends and forgets a container; one that is gone already is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        match self.call(&[self.kind.remove(), &[name]].concat()) {
            Err(error) if error.contains("No such container") => Ok(()),
            other => other,
        }
    }

    /// The first process of a container.
    pub(super) fn first_process(&self, name: &str) -> Option<i32> {
        let output = Command::new(&self.program)
            .args(["inspect", "--format", "{{.State.Pid}}", "--", name])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|pid| *pid > 0)
    }
}
