//! Jobs in containers, by both engines. Where one is missing or cannot work, its test says that it was skipped.

// "skipped: ..." is meant for whoever reads the test's output.
#![allow(clippy::print_stdout)]

use std::ffi::OsString;

use super::container::EngineKind;
use super::*;

/// A store of images of its own, with one image: bash, env, sleep and what they need of this machine.
struct Store {
    kind: EngineKind,
    folder: tempfile::TempDir,
    /// For podman: where its images are. Docker's are where its daemon has them.
    variables: Vec<(OsString, OsString)>,
}

const IMAGE: &str = "localhost/job-test:1";

impl Store {
    fn new(kind: EngineKind) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("containers of an ordinary user need a set-up that cannot be counted on".to_owned());
        }
        let folder = tempfile::Builder::new().prefix("containers").tempdir_in("/tmp").unwrap();
        let path = folder.path().display().to_string();
        let configuration = |driver: &str| {
            format!(
                "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{path}/graph\"\nrunroot = \"{path}/run\"\n"
            )
        };
        let variables = match kind {
            EngineKind::Podman => {
                vec![("CONTAINERS_STORAGE_CONF".into(), format!("{path}/storage.conf").into())]
            }
            EngineKind::Docker => Vec::new(),
        };
        let store = Store { kind, folder, variables };
        if kind == EngineKind::Docker {
            store.engine().and_then(|_| store.import())?;
            return Ok(store);
        }
        let mut error = String::new();
        for driver in ["overlay", "vfs"] {
            fs::write(store.path("storage.conf"), configuration(driver)).unwrap();
            match store.engine().and_then(|_| store.import()) {
                Ok(()) => return Ok(store),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn engine(&self) -> Result<Arc<Engine>, String> {
        Engine::find_kind(self.kind, &self.variables)
    }

    fn program(&self) -> &'static str {
        match self.kind {
            EngineKind::Podman => "podman",
            EngineKind::Docker => "docker",
        }
    }

    /// An image with much that must not be used.
    fn import(&self) -> Result<(), String> {
        let root = self.path("root");
        let script = "set -e; mkdir -p $0/tmp $0/proc $0/etc; echo of-the-image > $0/etc/mark; \
                      for f in /bin/bash /usr/bin/env /bin/sleep /bin/cat /bin/cp /bin/mkdir /usr/bin/stat; do \
                        for g in $f $(ldd $f | grep -o '/[^ ]*'); do mkdir -p $0${g%/*}; cp -L $g $0$g; done; done; \
                      tar -C $0 -cf $0.tar .; \
                      $1 import --change 'ENTRYPOINT [\"/bin/false\"]' --change 'ENV OF_IMAGE=1' \
                        --change 'WORKDIR /tmp' --change 'CMD [\"nothing\"]' $0.tar localhost/job-test:1";
        let made = Command::new("/bin/bash")
            .args(["-c", script])
            .arg(&root)
            .arg(self.program())
            .envs(self.variables.clone())
            .output()
            .map_err(|error| error.to_string())?;
        if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
    }

    /// The names of all containers of jobs that the engine knows.
    fn containers(&self) -> String {
        let mut list = Command::new(self.program());
        list.args(["ps", "-a", "--filter", "name=tractorun-", "--format", "{{.Names}}"])
            .envs(self.variables.clone());
        String::from_utf8(list.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let arguments = match self.kind {
            // An overlay is a mount, and what is below it is not removable as plain files.
            EngineKind::Podman => ["system", "reset", "--force"],
            EngineKind::Docker => ["rmi", "--force", IMAGE],
        };
        let _ = Command::new(self.program()).args(arguments).envs(self.variables.clone()).output();
    }
}

/// Operations whose jobs run in containers, if that works here.
fn prepare(kind: EngineKind) -> Option<(Cluster, Store)> {
    let store = Store::new(kind);
    let checked = store.and_then(|store| {
        let engine = store.engine()?;
        engine.check(IMAGE).map_err(|error| error.to_string())?;
        Ok((store, engine))
    });
    match checked {
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
        Ok((store, engine)) => {
            let cluster = Cluster::build(|config, artifacts| {
                let slots = Slots::new(&config.slots).unwrap();
                let spawner = Spawner::new().unwrap();
                Operations::with_isolation(
                    Isolation::Session,
                    Some(engine),
                    config,
                    artifacts,
                    slots,
                    spawner,
                )
            });
            Some((cluster, store))
        }
    }
}

#[tokio::test]
async fn a_job_in_a_container_of_podman_is_like_any_other() {
    jobs_are_like_any_other(EngineKind::Podman).await;
}

#[tokio::test]
async fn a_job_in_a_container_of_docker_is_like_any_other() {
    jobs_are_like_any_other(EngineKind::Docker).await;
}

async fn jobs_are_like_any_other(kind: EngineKind) {
    let Some((cluster, store)) = prepare(kind) else { return };
    let image = format!("docker_image=\"{IMAGE}\"");

    // The image's files, and nothing else of it; the sandbox, the environment, the outputs.
    cluster.add_file("//a/in", b"given\n");
    let command = "cat in /etc/mark >&2; pwd >&2; env >&2; echo \"$A\" >&2; echo '{a=7}' >&5; echo $$ >&2";
    let fields = format!(
        "{image};file_paths=[\"//a/in\"];port_count=1;environment={{A=\"it's $B\\n\";PATH=\"/bin:/usr/bin\"}}"
    );
    let id = cluster.start("secure_vault={key=hidden}", command, &fields);
    assert_eq!(cluster.wait(id).await, "completed", "{}", tree(&cluster.error(id)));
    let job = cluster.jobs(id).remove(0);
    let stderr = cluster.stderr(id, &job);
    assert!(stderr.starts_with("given\nof-the-image\n/slot/sandbox\n"), "{stderr}");
    assert!(stderr.contains("it's $B\n") && stderr.contains("YT_SECURE_VAULT_key=hidden\n"), "{stderr}");
    assert!(stderr.contains("YT_PORT_0=") && stderr.contains("HOME=/slot/sandbox\n"), "{stderr}");
    for other in ["OF_IMAGE", "container=", "HOSTNAME="] {
        assert!(!stderr.contains(other), "{other}: {stderr}");
    }
    assert_eq!(job["statistics"]["custom"]["a"]["sum"].as_i64(), Some(7));

    // Ends.
    let id = cluster.start("max_failed_job_count=1", "exit 7", &image);
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).ends_with("1205 User job failed > 10000 Process exited with code 7"));
    let sleep = unique_sleep();
    let id = cluster.start("", &format!("sleep {sleep} & sleep {sleep} & wait"), &image);
    eventually(|| processes_with(&sleep).len() == 2).await;
    cluster.operations.abort(&by_id(id), "alice").await.unwrap();
    assert!(processes_with(&sleep).is_empty());
    assert_eq!(store.containers(), "");

    // An interruption reaches the job, and its exit code comes back.
    let command =
        "trap 'exit 42' INT; echo ready >&2; [ $YT_JOB_INDEX != 0 ] || while :; do sleep 0.01; done";
    let id = cluster.start("", command, &format!("{image};interruption_signal=SIGINT;restart_exit_code=42"));
    let ready = || cluster.jobs(id).first().is_some_and(|job| cluster.stderr(id, job).contains("ready"));
    eventually(ready).await;
    cluster.operations.preempt(&text(&cluster.jobs(id)[0], "id"), Duration::from_mins(1)).unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    assert_eq!(cluster.jobs(id).iter().filter(|job| text(job, "state") == "completed").count(), 2);

    // Memory. Without the last command bash would become the sleep, and its memory be gone before anybody looked.
    let command = "printf -v text '%*s' $((64 << 20)) ''; sleep 86400; :";
    let id = cluster.start("max_failed_job_count=1", command, &format!("{image};memory_limit=33554432"));
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).ends_with("1200 Memory limit exceeded"));

    // Without a limit of its own: that of the cluster.
    let command = "printf -v text '%*s' $((600 << 20)) ''; sleep 86400; :";
    let id = cluster.start("max_failed_job_count=1", command, &image);
    assert_eq!(cluster.wait(id).await, "failed");
    let error = tree(&cluster.error(id));
    assert!(error.contains("1200 Memory limit exceeded > 1 The task's spec has no memory_limit"), "{error}");

    // Volumes in memory: they hold files, no more than their size, and count.
    let command = "cat disk/deep/in >&2; stat -f -c %T disk . >&2; \
                   printf '%*s' 2000000 '' 2>/dev/null >disk/large || echo full >&2";
    let fields = format!(
        "{image};file_paths=[<file_name=\"disk/deep/in\">\"//a/in\"];tmpfs_volumes=[{{path=disk;size=1048576}}]"
    );
    let id = cluster.start("max_failed_job_count=1", command, &fields);
    assert_eq!(cluster.wait(id).await, "completed", "{}", tree(&cluster.error(id)));
    let stderr = cluster.stderr(id, &cluster.jobs(id)[0]);
    assert!(stderr.starts_with("given\ntmpfs\n") && stderr.ends_with("full\n"), "{stderr}");
    let command = "for i in {1..50}; do printf '%*s' 1000000 '' >>file; done; sleep 86400; :";
    let id = cluster.start(
        "max_failed_job_count=1",
        command,
        &format!("{image};tmpfs_path=\".\";memory_limit=50331648"),
    );
    assert_eq!(cluster.wait(id).await, "failed");
    let attributes = cluster.jobs(id)[0]["error"]["attributes"].clone();
    assert!(attributes["tmpfs_usage"].as_i64().unwrap() > 40 << 20);

    // Images that cannot be used.
    let id = cluster.start("", "exit 0", "docker_image=\"localhost/nobody-has-this:1\"");
    assert_eq!(cluster.wait(id).await, "failed");
    let error = tree(&cluster.error(id));
    assert!(error.starts_with("216 Operation has failed to prepare > 1132 "), "{error}");

    // Without an image: this machine.
    let (state, stderr) = cluster.run("", "[ -e /etc/mark ] || echo here >&2", "").await;
    assert_eq!((state.as_str(), stderr.as_str()), ("completed", "here\n"));
    assert_eq!(store.containers(), "");
}
