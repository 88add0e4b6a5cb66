//! Operations with real processes, in the best isolation of this machine and in the plainest.

mod commands;
mod containers;
mod ends;
mod gang;
mod interruption;
mod memory;
mod sandbox;
mod spec;
mod statistics;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::formats::yson;
use crate::storage::Storage;

/// Files and transactions that a test makes up.
struct FakeArtifacts {
    files: Mutex<BTreeMap<String, Artifact>>,
    transactions: Mutex<BTreeSet<Guid>>,
}

impl Artifacts for FakeArtifacts {
    fn open(&self, path: &str, _transaction: Option<Guid>, _user: &str) -> Result<Artifact, YtError> {
        let found = self.files.lock().unwrap().get(path).cloned();
        found.ok_or_else(|| YtError::resolve(format!("Error resolving path {path}")))
    }

    fn transaction_is_alive(&self, id: Guid) -> bool {
        self.transactions.lock().unwrap().contains(&id)
    }

    fn new_guid(&self, object_type: u16) -> Guid {
        Guid::random(object_type)
    }

    fn keep(&self, _: Guid, _: crate::operations::KeptOperation) {}
}

/// Operations in folders of their own. All test files are below `/tmp`, which jobs share with the machine.
struct Cluster {
    operations: Arc<Operations>,
    artifacts: Arc<FakeArtifacts>,
    storage: Storage,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self::build(|config, artifacts| Operations::new(config, artifacts).unwrap())
    }

    /// Jobs without namespaces, as on a machine that allows none.
    fn plain() -> Self {
        Self::build(|config, artifacts| {
            let slots = Slots::new(&config.slots).unwrap();
            let spawner = Spawner::new().unwrap();
            Operations::with_isolation(Isolation::Session, None, config, artifacts, slots, spawner)
        })
    }

    /// Both kinds.
    fn each() -> [Self; 2] {
        [Self::new(), Self::plain()]
    }

    fn build(make: impl FnOnce(OperationsConfig, Arc<dyn Artifacts>) -> Arc<Operations>) -> Self {
        let folder = tempfile::Builder::new().prefix("operations").tempdir_in("/tmp").unwrap();
        let artifacts = Arc::new(FakeArtifacts { files: Mutex::default(), transactions: Mutex::default() });
        let config = OperationsConfig {
            slots: folder.path().join("slots"),
            node_address: "localhost:9012".to_owned(),
            job_kind: JobKind::Process,
            default_memory_limit: Some(DEFAULT_MEMORY_LIMIT),
        };
        let operations = make(config, artifacts.clone());
        let storage = Storage::open(folder.path().join("blobs")).unwrap();
        Cluster { operations, artifacts, storage, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add_file(&self, path: &str, bytes: &[u8]) {
        let mut writer = self.storage.writer().unwrap();
        writer.write_all(bytes).unwrap();
        let artifact = Artifact {
            content: Content::from_blob(writer.finish()),
            executable: false,
            file_name: path.rsplit('/').next().unwrap().to_owned(),
        };
        self.artifacts.files.lock().unwrap().insert(path.to_owned(), artifact);
    }

    fn start_with(&self, parameters: &str, spec: &str) -> Result<Guid, YtError> {
        let parameters = format!("{{operation_type=vanilla;spec={spec};{parameters}}}");
        self.operations.start(&map(&parameters), "alice")
    }

    /// Starts one task, `t`.
    fn start(&self, operation_fields: &str, command: &str, task_fields: &str) -> Guid {
        let command = yson::to_text(&value::string(command)).unwrap();
        let command = String::from_utf8(command).unwrap();
        let fields = if task_fields.contains("job_count") { "" } else { "job_count=1;" };
        let spec = format!("{{{operation_fields};tasks={{t={{command={command};{fields}{task_fields}}}}}}}");
        self.start_with("", &spec.replace("{;", "{")).unwrap()
    }

    async fn wait(&self, id: Guid) -> String {
        let over = self.operations.lock().operations[&id].over.subscribe();
        wait_until_over(over).await;
        self.state(id)
    }

    fn get(&self, id: Guid) -> YsonValue {
        self.operations.get_operation(&by_id(id)).unwrap()
    }

    fn state(&self, id: Guid) -> String {
        self.get(id)["state"].as_str().unwrap().to_owned()
    }

    fn error(&self, id: Guid) -> YsonValue {
        self.get(id)["result"]["error"].clone()
    }

    fn jobs(&self, id: Guid) -> Vec<YsonValue> {
        value::as_list(&self.operations.list_jobs(&by_id(id)).unwrap()["jobs"]).unwrap().to_vec()
    }

    fn stderr(&self, id: Guid, job: &YsonValue) -> String {
        let mut parameters = by_id(id);
        parameters.insert(b"job_id".to_vec(), value::string(text(job, "id")));
        String::from_utf8(self.operations.job_stderr(&parameters).unwrap().to_vec()).unwrap()
    }

    /// Runs one job and gives the state of its operation and its stderr.
    async fn run(&self, operation_fields: &str, command: &str, task_fields: &str) -> (String, String) {
        let id = self.start(operation_fields, command, task_fields);
        let state = self.wait(id).await;
        let stderr = self.stderr(id, &self.jobs(id)[0]);
        (state, stderr)
    }

    /// A named pipe through which a job tells something.
    fn pipe(&self, name: &str) -> Pipe {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Pipe(path)
    }
}

struct Pipe(PathBuf);

impl Pipe {
    /// Waits until a job has written and closed it.
    async fn read(&self) -> String {
        let path = self.0.clone();
        tokio::task::spawn_blocking(move || fs::read_to_string(path).unwrap()).await.unwrap()
    }

    /// Waits until a job has opened it to read.
    async fn write(&self, text: &str) {
        let (path, text) = (self.0.clone(), text.to_owned());
        tokio::task::spawn_blocking(move || fs::write(path, text).unwrap()).await.unwrap();
    }

    fn path(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

/// Looks again and again until something has happened.
async fn eventually(mut happened: impl FnMut() -> bool) {
    while !happened() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn map(text: &str) -> YsonMap {
    value::as_map(&yson::parse(text.as_bytes()).unwrap()).unwrap().clone()
}

fn by_id(id: Guid) -> YsonMap {
    map(&format!("{{operation_id=\"{id}\"}}"))
}

fn with(id: Guid, more: &str) -> YsonMap {
    map(&format!("{{operation_id=\"{id}\";{more}}}"))
}

fn text(value: &YsonValue, key: &str) -> String {
    value::get(value, key).and_then(YsonValue::as_str).unwrap_or_default().to_owned()
}

/// `215 Failed jobs limit exceeded > 1205 User job failed > ...`, along the first causes.
fn tree(error: &YsonValue) -> String {
    let line = format!("{} {}", error["code"].as_i64().unwrap(), text(error, "message"));
    assert!(value::as_map(&error["attributes"]).is_some(), "clients need the attributes");
    match value::as_list(&error["inner_errors"]).unwrap().first() {
        Some(inner) => format!("{line} > {}", tree(inner)),
        None => line,
    }
}

/// The ids of all living processes of this machine that have this word among their arguments.
fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let is_zombie = fs::read_to_string(path.join("stat")).map_or(true, |stat| stat.contains(") Z "));
        if !is_zombie && line.split(|byte| *byte == 0).any(|part| part == word.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A number of seconds that is no other test's.
fn unique_sleep() -> String {
    format!("86400.{}", Guid::random_untyped().parts()[0])
}

fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
