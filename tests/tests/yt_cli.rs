//! The `yt` command line of the official client, as a person types it, against the minicluster.

use std::process::Command;

use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Scratch, binaries};

#[test]
fn as_a_person_types_it() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let conformance = binaries::repository().join("tests/conformance");
    let mut command = Command::new(binaries::python());
    command
        .arg(conformance.join("yt_cli/cli.py"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", scratch.path(""))
        .env("TMPDIR", scratch.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // The checks that the scripts share.
        .env("PYTHONPATH", conformance.join("python"))
        .env("YT_PROXY", cluster.proxy())
        .env("YT_TOKEN", "any")
        .current_dir(scratch.path(""));
    Running::start(&mut command).wait().assert_code(0).assert_stdout("all checks passed");
}
