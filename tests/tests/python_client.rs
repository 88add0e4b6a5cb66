//! The official Python client against the minicluster: each script of `tests/conformance/python` is a test, in both
//! versions of the API and both structured formats.

use tractorun_tests::conformance::Script;
use tractorun_tests::{Cluster, Scratch};

/// Runs one script with the API version and format of structured data named, against a cluster of its own.
fn conforms(script: &str, api_version: &str, format: &str) {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    Script::new(&format!("python/{script}.py"), &cluster, &scratch)
        .env("API_VERSION", api_version)
        .env("STRUCTURED_FORMAT", format)
        .assert_passes();
}

/// The same with faults.
fn retries(api_version: &str) {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    Script::new("python/retries.py", &cluster, &scratch)
        .env("API_VERSION", api_version)
        .env("CONTROL", &cluster.control_address())
        .assert_passes();
}

macro_rules! scripts {
    ($($name:ident)*) => {
        mod v3 { $(#[test] fn $name() { super::conforms(stringify!($name), "v3", "yson"); })* }
        mod v3_json { $(#[test] fn $name() { super::conforms(stringify!($name), "v3", "json"); })* }
        mod v4 { $(#[test] fn $name() { super::conforms(stringify!($name), "v4", "yson"); })* }
        mod v4_json { $(#[test] fn $name() { super::conforms(stringify!($name), "v4", "json"); })* }
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

#[test]
fn v3_retries() {
    retries("v3");
}

#[test]
fn v4_retries() {
    retries("v4");
}
