//! Where the programs are that the suites run.

use std::env;
use std::path::{Path, PathBuf};

/// Folder with the three binaries; set by `make test`.
pub const BIN_DIR: &str = "TRACTORUN_BIN_DIR";
/// Interpreter with the official YT client; `.venv/bin/python` by default.
pub const PYTHON: &str = "TRACTORUN_TEST_PYTHON";

/// Variable that names another interpreter for scripts of a job.
pub const PACKAGE_PYTHON: &str = "TRACTORUN_TEST_PACKAGE_PYTHON";

/// `/usr/bin/python3`, the interpreter that Debian's `PyTorch` is for.
pub const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Path of one of our binaries.
///
/// # Panics
/// When it was not built: a suite never skips because of that.
pub fn path(name: &str) -> PathBuf {
    let folder = match env::var_os(BIN_DIR) {
        Some(folder) => PathBuf::from(folder),
        None => own_profile(),
    };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there: build it (`make build` for the release, `cargo build -p {name}` for this profile), or name \
         the folder in {BIN_DIR}",
        path.display()
    );
    path
}

/// The launcher.
pub fn tractorun() -> PathBuf {
    path("tractorun")
}

/// The init.
pub fn init() -> PathBuf {
    path("tractorun-init")
}

/// The minicluster.
pub fn minicluster() -> PathBuf {
    path("tractorun-minicluster")
}

/// Root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Interpreter that has the official YT client.
///
/// # Panics
/// When there is none.
pub fn python() -> PathBuf {
    let path = env::var_os(PYTHON).map_or_else(|| repository().join(".venv/bin/python"), PathBuf::from);
    assert!(path.exists(), "{} is not there: run `scripts/venv`, or name one in {PYTHON}", path.display());
    path
}

/// Interpreter that has what scripts of a job import: the YT client, JAX and, from the system, `PyTorch`.
///
/// # Panics
/// When there is none.
pub fn package_python() -> PathBuf {
    let path = env::var_os(PACKAGE_PYTHON)
        .map_or_else(|| repository().join(".venv-package/bin/python"), PathBuf::from);
    assert!(
        path.exists(),
        "{} is not there: run `scripts/venv`, or name one in {PACKAGE_PYTHON}",
        path.display()
    );
    path
}

/// Folder of this build's profile: test programs lie in its `deps`.
fn own_profile() -> PathBuf {
    let test_program = env::current_exe().expect("a running program has a path");
    test_program.ancestors().nth(2).expect("cargo puts test programs two folders deep").to_path_buf()
}
