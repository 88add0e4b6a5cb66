//! Canaries in every place where a run may have a secret, and a look at everything that it makes: requests, Cypress
//! with files and tables, files of this machine, command lines and environments, metrics, output, logs at their loudest.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tractorun_tests::canary::Canaries;
use tractorun_tests::process::{DEADLINE, Running};
use tractorun_tests::recorder::Recorder;
use tractorun_tests::{Cluster, Finished, Launcher, Scratch, leftovers};

const RUN: &str = "//home/run";

/// Folder of the test's folder that holds what the user keeps secrets in.
const GIVEN: &str = "given";

/// What canaries there are. `TOKEN` is the token; `ENV` is a variable that comes from Cypress, `ENV_OF_WORKERS` one
/// that sidecars must not have; the vault is the user's own, by `yt_operation_spec`.
const TOKEN: &str = "token";
const PROXY: &str = "proxy-password";
const DOCKER: [&str; 3] = ["docker-user", "docker-password", "docker-auth"];
const ENV: &str = "env";
const ENV_OF_WORKERS: &str = "env-of-workers";
const VAULT: [&str; 2] = ["vault", "vault-deep"];

fn all() -> Canaries {
    Canaries::new(&[TOKEN, PROXY, DOCKER[0], DOCKER[1], DOCKER[2], ENV, ENV_OF_WORKERS, VAULT[0], VAULT[1]])
}

/// A cluster that holds the secrets, and a home with what the user keeps at home.
struct Bench {
    scratch: Scratch,
    canaries: Canaries,
    cluster: Cluster,
    recorder: Recorder,
}

/// How the Docker registry's credentials are written down.
#[derive(Clone, Copy)]
enum DockerForm {
    Secrets,
    Plain,
}

impl Bench {
    fn new(docker: DockerForm) -> Self {
        let (scratch, canaries) = (Scratch::new(), all());
        let cluster = Cluster::start_with_token(&scratch, canaries.value(TOKEN));
        let recorder = Recorder::before(&cluster);
        let [user, password, auth] = DOCKER.map(|name| canaries.value(name));
        let document = match docker {
            DockerForm::Secrets => json!({"secrets": {
                "username": {"value": user}, "password": {"value": password}, "auth": {"value": auth},
            }}),
            DockerForm::Plain => json!({"username": user, "password": password, "auth": auth}),
        };
        cluster.create("document", "//secrets/docker", &json!({}));
        cluster.set("//secrets/docker", &document);
        for name in [ENV, ENV_OF_WORKERS] {
            cluster.create("document", &format!("//secrets/{name}"), &json!({}));
            cluster.set(&format!("//secrets/{name}"), &json!(canaries.value(name)));
        }
        scratch.file(&format!("{GIVEN}/token"), canaries.value(TOKEN));
        Self { scratch, canaries, cluster, recorder }
    }

    /// The configuration of a run with all secrets, in a file: a command line is open to all.
    fn config(&self, more: &Value) -> String {
        let mut config = json!({
            "yt_path": RUN,
            "docker_image": "no/image:1",
            "mesh": {"node_count": 2, "process_per_node": 1},
            "docker_auth_secret": {"cypress_path": "//secrets/docker"},
            "proxy_stderr_mode": "all",
            "operation_log_mode": "realtime_yt_table",
            "env": [
                {"name": "FROM_CYPRESS", "cypress_path": format!("//secrets/{ENV}")},
                {"name": "OF_WORKERS", "cypress_path": format!("//secrets/{ENV_OF_WORKERS}"), "sidecars": false},
                {"name": "SCRATCH", "value": self.scratch.text("")},
                {"name": "TRACTORUN_TEST_MARK", "value": self.scratch.mark()},
            ],
            "yt_operation_spec": {"secure_vault": {
                "mine": self.canaries.value(VAULT[0]), "deep": {"key": self.canaries.value(VAULT[1])},
            }},
            "yt_task_spec": {"environment": {"TRACTORUN_LOG_LEVEL": "trace", "RUST_LOG": "trace"}},
            "sidecars": [{"command": ["/bin/bash", "-c", SIDECAR], "restart_policy": "never"}],
            "command": ["/bin/bash", "-c", WORKER],
        });
        let more = more.as_object().expect("a map").clone();
        config.as_object_mut().expect("a map").extend(more);
        let file = self.scratch.file(&format!("{GIVEN}/run.yaml"), config.to_string());
        file.display().to_string()
    }

    /// A call of the launcher at its loudest, by way of the recorder, with credentials in the proxy's URL.
    fn launcher(&self) -> Launcher {
        let proxy = format!("http://me:{}@{}", self.canaries.value(PROXY), self.recorder.address());
        Launcher::new(&self.scratch)
            .env("YT_PROXY", proxy)
            .env("YT_TOKEN_PATH", self.scratch.path(&format!("{GIVEN}/token")))
            .env("TRACTORUN_RUN_INFO_FILE", self.scratch.path("run-info"))
            .env("TRACTORUN_LOG_LEVEL", "trace")
            .env("RUST_LOG", "trace")
    }

    fn command(&self, words: &[&str]) -> Finished {
        self.launcher().args(words.to_vec()).run()
    }

    #[track_caller]
    fn assert_no_file_shows_any(&self, when: &str) {
        let found = self.canaries.files_with_any(&self.scratch.path(""), GIVEN);
        assert_eq!(found, [], "{when}");
    }

    /// Every request but the one that starts the operation holds none, and that one each secret of the vault once.
    fn assert_requests_are_clean(&self) {
        let requests = self.recorder.requests();
        let commands: Vec<_> = requests.iter().map(|request| request.command.as_str()).collect();
        for wanted in ["start_operation", "write_file", "set", "lock", "execute_batch", "write_table"] {
            assert!(commands.contains(&wanted), "no {wanted} was recorded: {commands:?}");
        }
        let token = format!("OAuth {}", self.canaries.value(TOKEN));
        for request in requests {
            assert!(
                request.authorizations.iter().all(|sent| *sent == token),
                "{} has other credentials than the token",
                request.head
            );
            self.canaries.assert_none_in("a request's head", &request.head);
            if request.command == "start_operation" {
                for canary in &self.canaries.but(&[PROXY, ENV, ENV_OF_WORKERS]).0 {
                    assert_eq!(canary.count_in(&request.body), 1, "{}", canary.name);
                }
                self.canaries
                    .but(&DOCKER)
                    .but(&VAULT)
                    .but(&[TOKEN])
                    .assert_none_in("the start", &request.body);
            } else {
                self.canaries.assert_none_in(&request.head, &request.body);
            }
        }
    }

    /// Everything in Cypress but the secrets' own place: attributes, documents, files and tables.
    fn assert_cypress_is_clean(&self) -> u32 {
        let found = self.canaries.found_in(&self.content("get", "//secrets/docker"));
        assert_eq!(found, DOCKER, "the search finds what is there");
        let mut looked_at = 0;
        let mut pending = vec!["/".to_owned()];
        while let Some(path) = pending.pop() {
            looked_at += 1;
            let attributes = self.cluster.get(&format!("{path}/@"));
            self.canaries.assert_none_in(&path, attributes.to_string());
            let content = match attributes["type"].as_str().expect("a node has a type") {
                "map_node" => {
                    let names = self.cluster.read("list", &json!({ "path": path }))["value"].clone();
                    for name in names.as_array().expect("a list") {
                        pending.push(format!("{path}/{}", name.as_str().expect("a name")));
                    }
                    pending.retain(|path| path != "//secrets");
                    continue;
                }
                "file" => self.content("read_file", &path),
                "table" => self.content("read_table", &path),
                _ => self.content("get", &path),
            };
            self.canaries.assert_none_in(&path, content);
        }
        looked_at
    }

    fn content(&self, command: &str, path: &str) -> Vec<u8> {
        let answer = self.cluster.send("GET", command, &json!({ "path": path }), b"");
        assert_eq!(answer.status, 200, "{command} {path}");
        answer.body
    }
}

/// Proves that it has its secrets without naming them, says who it is, and waits until the test has looked around.
const WORKER: &str = r#"hash() { printf %s "$1" | sha256sum | cut -c 1-64; }
    echo "$(hash "$YT_TOKEN") $(hash "$FROM_CYPRESS") $(hash "$OF_WORKERS") $(hash "$YT_SECURE_VAULT_mine")" \
        > "$SCRATCH/hashes.$RANK"
    echo "a line of $RANK"; echo "an error of $RANK" >&2
    echo $$ > "$SCRATCH/worker.$RANK"
    until [ -e "$SCRATCH/go" ]; do sleep 0.02; done; [ $RANK = 0 ] || exec sleep 1000; exit 5"#;

const SIDECAR: &str = r#"echo $$ > "$SCRATCH/sidecar.$NODE_RANK"; exec sleep 1000"#;

fn sha256(text: &str) -> String {
    let script = r#"printf %s "$1" | sha256sum | cut -c 1-64"#;
    let finished =
        tractorun_tests::run(std::process::Command::new("bash").args(["-c", script, "bash", text]));
    finished.stdout.trim().to_owned()
}

/// Environments of this test's processes with such a variable; jobs have process ids of their own, so those that they
/// tell of themselves say nothing.
fn environments_with(bench: &Bench, variable: &str) -> Vec<Vec<u8>> {
    let of_test = format!("TRACTORUN_TEST_MARK={}", bench.scratch.mark());
    let entries = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let all = entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    let has = |environment: &[u8], wanted: &str| {
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(wanted.as_bytes()))
    };
    all.filter(|environment| has(environment, &of_test) && has(environment, variable)).collect()
}

/// Page of a node.
fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    let mut answer = String::new();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer))
        .unwrap_or_else(|error| panic!("{address}{path}: {error}"));
    assert!(answer.starts_with("HTTP/1.0 200"), "{address}{path}: {answer}");
    answer
}

/// No command line of the machine shows a canary, but that of the minicluster, which gets the token so.
fn assert_command_lines_are_clean(canaries: &Canaries, cluster: &Cluster) {
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").expect("Linux has /proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != cluster.pid()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        // Guards of jobs are forks of the minicluster, with its command line.
        if line
            .split(|byte| *byte == 0)
            .next()
            .is_some_and(|program| program.ends_with(b"tractorun-minicluster"))
        {
            continue;
        }
        looked_at += 1;
        canaries.assert_none_in(&format!("the command line of {pid}"), line);
    }
    assert!(looked_at > 4, "{looked_at} processes were seen");
}

fn wait_until_up(bench: &Bench) {
    for rank in 0..2 {
        bench.scratch.wait_for_file(&format!("worker.{rank}"));
        bench.scratch.wait_for_file(&format!("sidecar.{rank}"));
    }
}

fn assert_workers_have_their_secrets(bench: &Bench) {
    let expected: Vec<_> = [TOKEN, ENV, ENV_OF_WORKERS, VAULT[0]]
        .iter()
        .map(|name| sha256(bench.canaries.value(name)))
        .collect();
    for rank in 0..2 {
        assert_eq!(bench.scratch.wait_for_file(&format!("hashes.{rank}")).trim(), expected.join(" "));
    }
}

/// Of the processes of a job, only those have a secret in their environment whose it is.
fn assert_environments_are_right(bench: &Bench) {
    let canaries = &bench.canaries;
    let of_all = [TOKEN, ENV, VAULT[0], VAULT[1]];
    let (workers, sidecars) =
        (environments_with(bench, "RANK="), environments_with(bench, "TRACTORUN_SIDECAR_INDEX="));
    assert!(workers.len() >= 2 && sidecars.len() >= 2, "{} and {}", workers.len(), sidecars.len());
    for environment in workers {
        canaries.but(&of_all).but(&[ENV_OF_WORKERS]).assert_none_in("a worker's environment", environment);
    }
    for environment in sidecars {
        canaries.but(&of_all).assert_none_in("a sidecar's environment", environment);
    }
}

/// Everything that can be asked of a run while it runs, or after it.
fn assert_commands_are_clean(bench: &Bench) {
    let operation = bench.cluster.operations()[0]["id"].as_str().expect("an id").to_owned();
    for words in [
        &["status", RUN][..],
        &["status", RUN, "--json"],
        &["status", &operation],
        &["list", "--all"],
        &["list", "--all", "--json"],
        &["targets", RUN],
        &["logs", RUN],
        &["logs", RUN, "--json"],
    ] {
        let finished = bench.command(words);
        finished.assert_code(0);
        assert!(!finished.stdout.is_empty(), "{words:?} says nothing");
        bench.canaries.assert_none_in(&format!("{words:?}"), finished.output());
    }
    for parameters in [
        bench.cluster.read("get_operation", &json!({ "operation_id": operation })),
        bench.cluster.read("list_operations", &json!({})),
        bench.cluster.read("list_jobs", &json!({ "operation_id": operation })),
    ] {
        bench.canaries.assert_none_in("the cluster's view", parameters.to_string());
    }
    for stderr in bench.cluster.job_stderrs(&json!(operation)) {
        assert!(stderr.contains("tractorun-init: debug: "), "init is not loud: {stderr}");
        bench.canaries.assert_none_in("a job's stderr", stderr);
    }
}

/// Followed to its end, with tables of logs and metrics.
#[test]
fn a_submitted_run_shows_no_secret() {
    let bench = Bench::new(DockerForm::Secrets);
    let config = bench.config(&json!({}));
    let running = bench.launcher().args(["--run-config-path", &config]).start();
    wait_until_up(&bench);
    assert_workers_have_their_secrets(&bench);
    assert_command_lines_are_clean(&bench.canaries, &bench.cluster);
    assert_environments_are_right(&bench);
    bench.assert_no_file_shows_any("while it runs");

    let targets = bench.command(&["targets", RUN]);
    let targets: Value = serde_json::from_str(&targets.stdout).expect("targets are JSON");
    let key = bench.cluster.get(&format!("{RUN}/incarnations/00000/@control_endpoint"))["join_key"].clone();
    let key = key.as_str().expect("the key to join is a string").to_owned();
    for node in targets.as_array().expect("a list") {
        let address = node["targets"][0].as_str().expect("an address");
        for path in ["/metrics", "/status", "/healthz"] {
            let page = page(address, path);
            bench.canaries.assert_none_in(path, &page);
            assert!(!page.contains(&key), "{path} shows the key to join");
        }
    }
    assert_commands_are_clean(&bench);

    bench.scratch.file("go", "\n");
    let finished = running.wait();
    finished.assert_code(5).assert_output("an error of 0");
    bench.canaries.assert_none_in("the launcher", finished.output());
    assert!(!finished.output().contains(&key), "the output shows the key to join");
    leftovers::wait_until_gone_but(&bench.scratch, &[bench.cluster.pid()]);
    bench.assert_no_file_shows_any("after the run");
    assert!(bench.scratch.path("run-info").exists(), "the file for calling programs");
    assert_commands_are_clean(&bench);
    let nodes = bench.assert_cypress_is_clean();
    assert!(nodes > 15, "{nodes} nodes were seen");
    assert!(bench.cluster.exists(&format!("{RUN}/logs/0/workers/1")), "there were log tables to look into");
    bench.assert_requests_are_clean();
    bench.canaries.assert_none_in("the minicluster's log", bench.cluster.stop().output());
}

/// What nobody waits for is printed as a document, and stopped by a command. The registry's credentials lie in the
/// older form this time, of which the launcher warns.
#[test]
fn no_wait_and_stop_show_no_secret() {
    let bench = Bench::new(DockerForm::Plain);
    let config = bench.config(&json!({ "no_wait": true }));
    let submitted = bench.command(&["--run-config-path", &config]);
    submitted.assert_code(0).assert_stdout("\"mine\": \"***\"");
    bench.canaries.assert_none_in("the document of `no_wait`", submitted.output());
    wait_until_up(&bench);
    assert_command_lines_are_clean(&bench.canaries, &bench.cluster);
    let attached: Running = bench.launcher().args(["attach", RUN]).start();
    attached.wait_for("an error of 0");
    let stopped = bench.command(&["stop", RUN]);
    stopped.assert_code(0);
    bench.canaries.assert_none_in("stop", stopped.output());
    bench.canaries.assert_none_in("attach", attached.wait().output());
    bench.assert_no_file_shows_any("after the run");
    bench.assert_cypress_is_clean();
}

/// The token in a variable this time: children of the launcher that need none do not get it by their command line.
#[test]
fn a_local_run_shows_no_secret() {
    let bench = Bench::new(DockerForm::Secrets);
    let config = bench.config(&json!({ "local": true, "proxy_stderr_mode": "disabled" }));
    let launcher = bench.launcher().env("YT_TOKEN", bench.canaries.value(TOKEN));
    let running = launcher.args(["--run-config-path", &config]).start();
    wait_until_up(&bench);
    assert_command_lines_are_clean(&bench.canaries, &bench.cluster);
    assert_environments_are_right(&bench);
    bench.assert_no_file_shows_any("while it runs");
    bench.scratch.file("go", "\n");
    let finished = running.wait();
    finished.assert_code(5).assert_output("an error of 0");
    bench.canaries.assert_none_in("the launcher", finished.output());
    bench.assert_no_file_shows_any("after the run");
    bench.assert_cypress_is_clean();
}
