//! A private folder of one test, with a mark that everything the test starts carries.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{DEADLINE, POLL};

/// Environment variable that every process of a test inherits; its value is the test's own.
pub const MARK: &str = "TRACTORUN_TEST_MARK";

/// A private folder, removed at the end.
pub struct Scratch {
    folder: TempDir,
    mark: String,
}

impl Scratch {
    /// Makes the folder. Jobs may run as somebody else, so it is open to all.
    pub fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let folder =
            tempfile::Builder::new().prefix("tractorun-test-").tempdir().expect("cannot make a folder");
        let mark = format!("mark-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        Self { folder, mark }
    }

    /// The value of [`MARK`].
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The folder, or a path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for a command line.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary folders have plain names").to_owned()
    }

    /// Writes a file and names it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("cannot make a folder");
        fs::write(&path, content).expect("cannot write a file");
        path
    }

    /// Waits until a process of the test has made the file, and returns its content.
    ///
    /// A file is complete when it ends with a newline.
    pub fn wait_for_file(&self, name: &str) -> String {
        wait_for_file(&self.path(name))
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the file is there and ends with a newline.
///
/// # Panics
/// When it does not come before the deadline.
pub fn wait_for_file(path: &Path) -> String {
    let start = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(content) if content.ends_with('\n') => return content,
            _ => assert!(start.elapsed() < DEADLINE, "{} did not come within {DEADLINE:?}", path.display()),
        }
        std::thread::sleep(POLL);
    }
}
