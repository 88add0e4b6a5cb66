//! The Python tractorun from `PyPI`, unchanged, against the minicluster: its launcher submits, its bootstrap runs in
//! our jobs, and what it leaves is looked at through the official client.

use std::process::Command;

use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Scratch, binaries};

mod heavy {
    use super::{Cluster, Command, Running, Scratch, binaries};

    #[test]
    fn submits_and_trains() {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        let conformance = binaries::repository().join("tests/conformance");
        let mut command = Command::new(binaries::python());
        command
            .arg(conformance.join("python_tractorun/run.py"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch.path(""))
            .env("TMPDIR", scratch.path(""))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // The checks and the client that the scripts share.
            .env("PYTHONPATH", conformance.join("python"))
            .env("YT_PROXY", cluster.proxy())
            .env("YT_TOKEN", "any")
            .current_dir(scratch.path(""));
        Running::start(&mut command).wait().assert_code(0).assert_stdout("all checks passed");
    }
}
