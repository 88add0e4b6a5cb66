//! The nodes of a local run: one `tractorun-init` each.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use futures_util::future;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tractorun_contract::env as names;
use tractorun_contract::exit::ExitReason;

use crate::commands::terminal::Terminal;

use super::folder::NodeFolder;

/// Type of an operation in the third group of its id.
pub(super) const OPERATION_TYPE: u16 = 1000;

/// Type of a job in the third group of its id.
const JOB_TYPE: u16 = 900;

/// A line that is longer is written in pieces.
const LONGEST_LINE_BYTES: usize = 1 << 20;

/// Init proves that nobody is left before it exits, so its stderr ends with it; this is for the day it cannot.
const STDERR_END_TIMEOUT: Duration = Duration::from_secs(2);

/// What a job's init finds in its environment.
#[derive(Debug)]
pub(super) struct JobEnvironment<'a> {
    /// Id of the made-up operation.
    pub operation_id: &'a str,
    /// Rank of the node.
    pub node_rank: u32,
    /// Nodes of the run, all on this machine.
    pub node_count: u32,
    /// Ports that are the node's.
    pub ports: &'a [u16],
    /// Token for the cluster.
    pub token: Option<&'a str>,
    /// Where workers start, if not in the sandbox.
    pub working_directory: Option<PathBuf>,
    /// Variables of the task.
    pub task: Vec<(&'static str, String)>,
}

/// A running node. Dropping it closes its lifeline, so that it stops by itself.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    lifeline: Option<ChildStdin>,
    stderr: JoinHandle<()>,
}

/// All nodes of the run.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

impl Node {
    /// Starts `init` in the node's sandbox.
    pub(super) fn start(
        init: &Path,
        folder: &NodeFolder,
        environment: &JobEnvironment<'_>,
        terminal: Terminal,
    ) -> anyhow::Result<Self> {
        let log = folder.stderr_log();
        let log = File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut command = Command::new(init);
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_a_job(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .envs(environment.variables())
            .current_dir(folder.sandbox())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the launcher, which stops the nodes in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", init.display()))?;
        let lifeline = child.stdin.take();
        let stderr = child.stderr.take();
        let stderr = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                tee(stderr, log, &terminal).await;
            }
        });
        Ok(Self { child, lifeline, stderr })
    }

    async fn wait(&mut self) -> u8 {
        // The launcher is the only one who waits for its children: this cannot fail.
        let status = self.child.wait().await;
        // A wait that was dropped and begun again finds the handle used up.
        if !self.stderr.is_finished() {
            let _ = timeout(STDERR_END_TIMEOUT, &mut self.stderr).await;
        }
        status.map_or(1, exit_code)
    }
}

impl JobEnvironment<'_> {
    fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            (names::yt::OPERATION_ID.to_owned(), self.operation_id.to_owned()),
            (names::yt::JOB_ID.to_owned(), made_up_guid(JOB_TYPE)),
            (names::yt::JOB_COOKIE.to_owned(), self.node_rank.to_string()),
            (names::ADVERTISE_HOST.to_owned(), "127.0.0.1".to_owned()),
            (names::LIFELINE.to_owned(), "stdin".to_owned()),
            (names::NODES_HERE.to_owned(), self.node_count.to_string()),
            // The launcher's own environment is the job's: what is unset here stays unset.
            (names::IMAGE_ENV.to_owned(), String::new()),
        ];
        let ports = self.ports.iter().enumerate();
        variables.extend(
            ports.map(|(index, port)| (format!("{}{index}", names::yt::PORT_PREFIX), port.to_string())),
        );
        if let Some(token) = self.token {
            let name = format!("{}{}", names::yt::SECURE_VAULT_PREFIX, names::VAULT_YT_TOKEN);
            variables.push((name, token.to_owned()));
        }
        if let Some(folder) = &self.working_directory {
            variables.push((names::WORKING_DIRECTORY.to_owned(), folder.to_string_lossy().into_owned()));
        }
        variables.extend(self.task.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        variables
    }
}

impl Nodes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub(super) fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Waits until all are over and gives their exit codes by rank. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> Vec<u8> {
        future::join_all(self.nodes.iter_mut().map(Node::wait)).await
    }

    /// Tells all to stop: the first time in order, then at once.
    pub(super) fn stop(&mut self) {
        for node in &mut self.nodes {
            // There is an id for as long as the process is not waited for, so it cannot be somebody else's.
            if let Some(pid) = node.child.id().and_then(|id| i32::try_from(id).ok()) {
                // One that is just ending does not mind.
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            node.lifeline = None;
        }
    }

    /// Kills all at once. Their workers die with them.
    pub(super) async fn kill(&mut self) {
        // One that is over already is what was wanted.
        future::join_all(self.nodes.iter_mut().map(|node| node.child.kill())).await;
    }
}

/// An id in the form of the cluster's.
pub(super) fn made_up_guid(object_type: u16) -> String {
    // The third group is the number of the cluster's cell and the type.
    let [first, second, last] = rand::random::<[u32; 3]>();
    format!("{first:x}-{second:x}-{:x}-{last:x}", (1_u32 << 16) | u32::from(object_type))
}

/// Variables of another job, should the launcher itself run in one: they must not reach ours.
fn is_of_a_job(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(names::yt::PORT_PREFIX)
        || name.starts_with(names::yt::SECURE_VAULT)
        || name == names::WORKING_DIRECTORY
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => ExitReason::Signal(signal).code(),
        (None, None) => 1,
    }
}

/// Copies to the log and the terminal, whole lines only, so that the lines of nodes do not mix.
async fn tee(mut source: impl AsyncRead + Unpin, mut log: File, terminal: &Terminal) {
    let mut write = |bytes: &[u8]| {
        // A full disk must not stop the job: the terminal still has the lines.
        let _ = log.write_all(bytes);
        terminal.write(bytes);
    };
    let mut pending = Vec::new();
    loop {
        match source.read_buf(&mut pending).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let end = match pending.iter().rposition(|byte| *byte == b'\n') {
            Some(position) => position + 1,
            None if pending.len() >= LONGEST_LINE_BYTES => pending.len(),
            None => continue,
        };
        write(&pending[..end]);
        pending.drain(..end);
    }
    if !pending.is_empty() {
        pending.push(b'\n');
        write(&pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_the_clusters() {
        let id = made_up_guid(OPERATION_TYPE);
        let groups: Vec<_> = id.split('-').collect();
        assert_eq!((groups.len(), groups[2]), (4, "103e8"));
        assert_ne!(id, made_up_guid(OPERATION_TYPE));
    }

    #[test]
    fn the_environment_is_that_of_a_job() {
        let environment = JobEnvironment {
            operation_id: "1-2-3-4",
            node_rank: 1,
            node_count: 2,
            ports: &[5, 6],
            token: Some("t"),
            working_directory: Some("/here".into()),
            task: vec![(names::JOB_SPEC, "job-spec.json".into())],
        };
        let variables: std::collections::BTreeMap<_, _> = environment.variables().into_iter().collect();
        for (name, text) in [
            ("YT_OPERATION_ID", "1-2-3-4"),
            ("YT_JOB_COOKIE", "1"),
            ("YT_PORT_0", "5"),
            ("YT_PORT_1", "6"),
            ("YT_SECURE_VAULT_tractorun_yt_token", "t"),
            ("TRACTORUN_LIFELINE", "stdin"),
            ("TRACTORUN_ADVERTISE_HOST", "127.0.0.1"),
            ("TRACTORUN_NODES_HERE", "2"),
            ("TRACTORUN_IMAGE_ENV", ""),
            ("TRACTORUN_WORKING_DIRECTORY", "/here"),
            ("TRACTORUN_JOB_SPEC", "job-spec.json"),
        ] {
            assert_eq!(variables.get(name).map(String::as_str), Some(text), "{name}");
        }
        assert!(variables.contains_key("YT_JOB_ID"));
    }

    #[test]
    fn variables_of_another_job_are_known() {
        assert!(is_of_a_job("YT_PORT_3".as_ref()));
        assert!(is_of_a_job("YT_SECURE_VAULT_x".as_ref()));
        assert!(!is_of_a_job("YT_PROXY".as_ref()));
        assert!(!is_of_a_job("PATH".as_ref()));
    }

    /// A stand-in for init: a shell script.
    fn start_script(script: &str) -> (tempfile::TempDir, NodeFolder, Nodes) {
        use std::os::unix::fs::PermissionsExt;

        let temporary = tempfile::tempdir().unwrap();
        let folder = NodeFolder::at(temporary.path().join("node-0"));
        std::fs::create_dir_all(folder.sandbox()).unwrap();
        let init = temporary.path().join("init");
        std::fs::write(&init, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).unwrap();
        let environment = JobEnvironment {
            operation_id: "1-2-3-4",
            node_rank: 0,
            node_count: 1,
            ports: &[],
            token: None,
            working_directory: None,
            task: Vec::new(),
        };
        let terminal = Terminal::stderr(crate::report::Report::new(crate::report::Colour::Off));
        let mut nodes = Nodes::new();
        nodes.push(Node::start(&init, &folder, &environment, terminal).unwrap());
        (temporary, folder, nodes)
    }

    #[tokio::test]
    async fn a_node_ends_with_its_lifeline_and_its_words_are_kept() {
        let (_temporary, folder, mut nodes) = start_script("pwd >&2; cat; printf bye >&2; exit 5");
        nodes.nodes[0].lifeline = None;
        assert_eq!(nodes.wait().await, [5]);
        let sandbox = folder.sandbox().canonicalize().unwrap();
        let log = std::fs::read_to_string(folder.stderr_log()).unwrap();
        assert_eq!(log, format!("{}\nbye\n", sandbox.display()));
        // A wait that was begun again after a signal finds the same.
        assert_eq!(nodes.wait().await, [5]);
    }

    #[tokio::test]
    async fn a_node_is_asked_to_stop_by_a_signal() {
        let (temporary, _folder, mut nodes) =
            start_script("trap 'exit 6' TERM; echo > ../../up; while :; do sleep 0.01; done");
        while !temporary.path().join("up").exists() {
            tokio::task::yield_now().await;
        }
        nodes.stop();
        assert_eq!(nodes.wait().await, [6]);
    }

    #[tokio::test]
    async fn a_node_that_does_not_stop_can_be_killed() {
        let (_temporary, _folder, mut nodes) = start_script("exec sleep 1000");
        nodes.kill().await;
        assert_eq!(nodes.wait().await, [137]);
    }
}
