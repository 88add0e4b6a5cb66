//! The official Python client against the minicluster: each script of `tests/conformance/python` is a test.

use std::process::Command;

use tractorun_tests::process::Running;
use tractorun_tests::{Cluster, Scratch, binaries};

/// Runs one script with the API version and format of structured data named, against a cluster of its own.
fn conforms(script: &str, api_version: &str, format: &str) {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let folder = binaries::repository().join("tests/conformance/python");
    let mut command = Command::new(binaries::python());
    command
        .arg(folder.join(script))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", scratch.path(""))
        .env("TMPDIR", scratch.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("YT_PROXY", cluster.proxy())
        .env("YT_TOKEN", "any")
        .env("API_VERSION", api_version)
        .env("STRUCTURED_FORMAT", format)
        .current_dir(scratch.path(""));
    Running::start(&mut command).wait().assert_code(0).assert_stdout("all checks passed");
}

macro_rules! scripts {
    ($($name:ident)*) => {
        mod v3 { $(#[test] fn $name() { super::conforms(concat!(stringify!($name), ".py"), "v3", "yson"); })* }
        mod v4_json { $(#[test] fn $name() { super::conforms(concat!(stringify!($name), ".py"), "v4", "json"); })* }
        mod v4 { $(#[test] fn $name() { super::conforms(concat!(stringify!($name), ".py"), "v4", "yson"); })* }
    };
}

scripts! {
    cypress
    transactions
    locks
    files
    tables
    batch
    operations
}
