//! Scripts of `tests/conformance`, which are run by the Python of the virtual environment as a user would.

use std::process::Command;

use crate::process::Running;
use crate::{Cluster, Scratch, binaries};

/// A script and what it finds in its environment.
pub struct Script {
    command: Command,
}

impl Script {
    /// A script below `tests/conformance` against a cluster. It finds the checks that the scripts share.
    pub fn new(path: &str, cluster: &Cluster, scratch: &Scratch) -> Self {
        let conformance = binaries::repository().join("tests/conformance");
        let mut command = Command::new(binaries::python());
        command
            .arg(conformance.join(path))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch.path(""))
            .env("TMPDIR", scratch.path(""))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", conformance.join("python"))
            .env("YT_PROXY", cluster.proxy())
            .env("YT_TOKEN", "any")
            .current_dir(scratch.path(""));
        Self { command }
    }

    /// With one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it; every check must pass.
    #[track_caller]
    pub fn assert_passes(mut self) {
        Running::start(&mut self.command).wait().assert_code(0).assert_stdout("all checks passed");
    }
}
