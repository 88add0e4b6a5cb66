//! The minicluster of one run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::folder::RunFolder;

/// It listens within some tens of milliseconds.
const POLL: Duration = Duration::from_millis(5);

/// A machine that needs longer than this has another problem.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// It has nothing to save; after this it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running minicluster. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Minicluster {
    child: Child,
    port: u16,
}

impl Minicluster {
    /// Starts it and waits until it listens.
    pub(super) async fn start(program: &Path, folder: &RunFolder) -> anyhow::Result<Self> {
        let port_file = folder.path().join("minicluster.port");
        let log = folder.path().join("minicluster.log");
        let stderr = File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1", "--port", "0", "--exit-on-stdin-eof"])
            // Here jobs share the memory of this machine; only what a user asks for is a limit.
            .args(["--default-memory-limit", "0", "--port-file"])
            .arg(&port_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            // Ctrl-C is for the launcher, which stops its children in the right order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let port = timeout(START_TIMEOUT, wait_for_port(&mut child, &port_file, &log)).await;
        let port = port.with_context(|| format!("`{}` does not listen after 30 s", program.display()))??;
        // Only this process needed to know.
        let _ = fs::remove_file(port_file);
        Ok(Self { child, port })
    }

    /// As `YT_PROXY` would name it.
    pub(super) fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn stop(mut self) {
        drop(self.child.stdin.take());
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // Dropping would kill it too, but without waiting.
            let _ = self.child.kill().await;
        }
    }
}

async fn wait_for_port(child: &mut Child, port_file: &PathBuf, log: &Path) -> anyhow::Result<u16> {
    loop {
        // Whatever moment the file is read in, a number followed by the end of the line is complete.
        if let Some(port) = fs::read_to_string(port_file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(port);
        }
        if let Some(status) = child.try_wait().context("cannot wait for the minicluster")? {
            let said = fs::read_to_string(log).unwrap_or_default();
            let said = said.trim();
            let said = if said.is_empty() { "it said nothing" } else { said };
            bail!("the minicluster did not start ({status}): {said}");
        }
        sleep(POLL).await;
    }
}
