//! Every option of the Python tractorun has its effect on a real job, given on the command line and in the YAML file alike:
//! what the cluster got, and what the workers found.
//!
//! README's table names these tests; `every_test_that_readme_names_exists` sees to it that it names no others.

use std::fs;

use serde_json::{Value, json};
use tractorun_tests::log_tables::LogTable;
use tractorun_tests::recorder::Recorder;
use tractorun_tests::{Cluster, Finished, Launcher, Scratch, binaries};

const RUN: &str = "//home/me/digits";

/// How the options are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    CommandLine,
    File,
}

/// A cluster with all that the options name, and a recorder before it.
struct Bench {
    scratch: Scratch,
    cluster: Cluster,
    recorder: Recorder,
    form: Form,
}

/// Each worker writes down what it finds. The bound library, the bound files and the tool must work, not only be there.
const WORKER: &str = r#"
echo "out of $RANK"; echo "err of $RANK" >&2
until [ -e "$SCRATCH/sidecar.$YT_JOB_COOKIE" ]; do sleep 0.02; done
{ echo "mesh $NODE_RANK $LOCAL_RANK $WORLD_SIZE"
  echo "path $TRACTORUN_YT_PATH"
  echo "env $PLAIN $SECRET"
  echo "config $YT_USER_CONFIG"
  echo "local $(cat data/one) $(cat data/deep/two)"
  echo "lib $(python3 -c 'import my_library; print(my_library.WORD)')"
  echo "cypress $(cat from-cypress) $(./tool)"
  echo "task $EXTRA"
} > "$SCRATCH/found.$RANK.part" 2>&1
mv "$SCRATCH/found.$RANK.part" "$SCRATCH/found.$RANK"
"#;

impl Bench {
    fn new(form: Form) -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        cluster.create("document", "//home/me/secret", &json!({"value": "from cypress"}));
        let registry = json!({"secrets": {"username": {"value": "me"}, "password": {"value": "hush"}}});
        cluster.create("document", "//home/me/registry", &json!({"value": registry}));
        let plain = json!({"username": "you", "password": "quiet"});
        cluster.create("document", "//home/me/registry-plain", &json!({"value": plain}));
        let config = json!({"cypress_link_template": "https://ui/cypress?path={path}"});
        cluster.create("document", "//home/me/config", &json!({"value": config}));
        cluster.write_file("//home/me/file", b"a file");
        cluster.write_file("//home/me/tool", b"#!/bin/sh\necho tool runs\n");
        scratch.file("data/one", "one");
        scratch.file("data/deep/two", "two");
        scratch.file("lib/my_library/__init__.py", "WORD = 'imported'\n");
        let recorder = Recorder::before(&cluster);
        Self { scratch, cluster, recorder, form }
    }

    /// The options, as they stand in the file.
    fn options(&self) -> Value {
        let sidecar = r#"echo "sidecar has $PLAIN" > "$SCRATCH/sidecar.$YT_JOB_COOKIE"; exec sleep 1000"#;
        json!({
            "yt_path": RUN,
            "docker_image": "my/image:2",
            "title": "A title",
            "mesh": {"node_count": 2, "process_per_node": 2, "pool_trees": ["gpu_h100", "gpu_a100"], "pool": "research"},
            "env": [
                {"name": "PLAIN", "value": "plain"},
                {"name": "SECRET", "cypress_path": "//home/me/secret"},
                {"name": "SCRATCH", "value": self.scratch.text("")},
                {"name": tractorun_tests::scratch::MARK, "value": self.scratch.mark()},
            ],
            "resources": {"cpu_limit": 1.5, "memory_limit": 1_073_741_824},
            "user_config": {"a": {"b": [1, 2]}},
            "bind_local": [{"source": "./data", "destination": "data"}],
            "bind_local_lib": ["./lib/my_library"],
            "bind_cypress": [
                {"source": "//home/me/file", "destination": "from-cypress"},
                {
                    "source": "//home/me/tool", "destination": "tool",
                    "attributes": {"executable": true, "format": null, "bypass_artifact_cache": true},
                },
            ],
            "sidecars": [{"command": ["bash", "-c", sidecar], "restart_policy": "on_failure"}],
            "proxy_stderr_mode": "primary",
            "operation_log_mode": "realtime_yt_table",
            "docker_auth_secret": {"cypress_path": "//home/me/registry"},
            "cluster_config_path": "//home/me/config",
            "yt_operation_spec": {"weight": 3.5, "annotations": {"mine": 1}, "title": "Merged last"},
            "yt_task_spec": {"environment": {"EXTRA": "extra"}, "cpu_limit": 2.5},
        })
    }

    /// The call that gives them.
    fn launcher(&self, options: &Value, command: &[&str]) -> Launcher {
        let launcher = Launcher::new(&self.scratch).env("YT_PROXY", self.recorder.address());
        let launcher = match self.form {
            Form::CommandLine => launcher.args(words(options)),
            Form::File => {
                self.scratch.file("job.yaml", options.to_string());
                launcher.args(["--run-config-path", "job.yaml"])
            }
        };
        launcher.args(command.iter().copied())
    }

    fn run(&self, options: &Value, command: &[&str]) -> Finished {
        let finished = self.launcher(options, command).run();
        finished.assert_code(0);
        finished
    }

    /// Body of the only request that started an operation.
    fn started(&self) -> Vec<u8> {
        let mut requests = self.recorder.requests();
        requests.retain(|request| request.command == "start_operation");
        assert_eq!(requests.len(), 1);
        requests.remove(0).body
    }
}

/// The options as words of a command line: lists are given one by one, sections by a dot.
fn words(options: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for (key, value) in options.as_object().expect("options are a map") {
        let name = key.trim_end_matches('s').replace('_', "-");
        let name = if key == "sidecars" { name } else { key.replace('_', "-") };
        let is_section = ["mesh", "resources", "docker_auth_secret"].contains(&key.as_str());
        match value {
            Value::Object(section) if is_section => {
                for (key, value) in section {
                    push(&mut words, &format!("--{name}.{}", key.replace('_', "-")), value);
                }
            }
            value => push(&mut words, &format!("--{name}"), value),
        }
    }
    words
}

fn push(words: &mut Vec<String>, option: &str, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| push(words, option, item)),
        Value::String(text) => words.extend([option.to_owned(), text.clone()]),
        value => words.extend([option.to_owned(), value.to_string()]),
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

fn every_option_has_its_effect(form: Form) {
    let bench = Bench::new(form);
    let finished = bench.run(&bench.options(), &["bash", "-c", WORKER]);
    check_what_the_cluster_got(&bench);
    check_what_the_workers_found(&bench);
    check_the_logs(&bench, &finished);
}

fn check_what_the_cluster_got(bench: &Bench) {
    let operation = bench.cluster.the_operation();
    let spec = &operation["spec"];
    let task = &spec["tasks"]["task"];
    assert_eq!((&spec["pool"], &spec["pool_trees"]), (&json!("research"), &json!(["gpu_h100", "gpu_a100"])));
    assert_eq!((&task["job_count"], &task["docker_image"]), (&json!(2), &json!("my/image:2")));
    assert_eq!(task["memory_limit"], 1_073_741_824);
    // What is merged last wins over an option.
    assert_eq!((&spec["weight"], &spec["title"]), (&json!(3.5), &json!("Merged last")));
    assert_eq!(
        (&spec["annotations"]["mine"], &spec["annotations"]["is_tractorun"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(task["cpu_limit"], 2.5);
    let tool =
        task["file_paths"].as_array().expect("files").iter().find(|file| file["$value"] == "//home/me/tool");
    let attributes = &tool.expect("the tool is bound")["$attributes"];
    assert_eq!(
        (&attributes["executable"], &attributes["bypass_artifact_cache"]),
        (&json!(true), &json!(true))
    );
    let description = &spec["annotations"]["description"]["tractorun"];
    let link = "https://ui/cypress?path=//home/me/digits";
    assert!(description["training_dir"].to_string().contains(link), "{description}");
    // The vault is shown to nobody, so the request is looked at.
    let body = bench.started();
    for text in ["docker_auth", "username", "me", "password", "hush"] {
        assert!(contains(&body, text), "no `{text}` in the request");
    }
    assert_eq!(bench.cluster.get(&format!("{RUN}/@incarnation_id")), 0);
}

fn check_what_the_workers_found(bench: &Bench) {
    for rank in 0..4 {
        let found = bench.scratch.wait_for_file(&format!("found.{rank}"));
        let lines: Vec<&str> = found.lines().collect();
        let (mesh, config) = (format!("mesh {} {} 4", rank / 2, rank % 2), lines[3]);
        assert_eq!(lines[0], mesh, "{found}");
        assert_eq!(lines[1..3], ["path //home/me/digits", "env plain from cypress"], "{found}");
        let config: Value =
            serde_json::from_str(config.strip_prefix("config ").unwrap_or_default()).expect("JSON");
        assert_eq!(config, json!({"a": {"b": [1, 2]}}));
        let rest = ["local one two", "lib imported", "cypress a file tool runs", "task extra"];
        assert_eq!(lines[4..], rest, "{found}");
    }
    for node in 0..2 {
        assert_eq!(bench.scratch.wait_for_file(&format!("sidecar.{node}")), "sidecar has plain\n");
    }
}

fn check_the_logs(bench: &Bench, finished: &Finished) {
    // Of the primary node, and only its stderr.
    for (text, is_shown) in [("err of 0", true), ("err of 1", true), ("err of 2", false)] {
        assert_eq!(finished.output().contains(text), is_shown, "{text}: {}", finished.show());
    }
    let table = LogTable::read(&bench.cluster, &format!("{RUN}/logs/0/workers/3"));
    let mut lines: Vec<_> =
        table.rows.iter().map(|row| String::from_utf8_lossy(&row.message).into_owned()).collect();
    lines.sort();
    assert_eq!(lines, ["err of 3", "out of 3"]);
}

#[test]
fn every_option_has_its_effect_on_the_command_line() {
    every_option_has_its_effect(Form::CommandLine);
}

#[test]
fn every_option_has_its_effect_in_the_file() {
    every_option_has_its_effect(Form::File);
}

/// What an option does alone, where the spec merged last has hidden it above.
#[test]
fn title_cpu_limit_and_credentials_in_the_other_form() {
    for form in [Form::CommandLine, Form::File] {
        let bench = Bench::new(form);
        let options = json!({
            "docker_image": "i:1",
            "title": "A title",
            "resources": {"cpu_limit": 0.5},
            "docker_auth_secret": {"cypress_path": "//home/me/registry-plain"},
        });
        bench.run(&options, &["true"]);
        let spec = bench.cluster.the_operation()["spec"].clone();
        assert_eq!((&spec["title"], &spec["tasks"]["task"]["cpu_limit"]), (&json!("A title"), &json!(0.5)));
        let body = bench.started();
        assert!(["docker_auth", "you", "quiet"].iter().all(|text| contains(&body, text)), "{form:?}");
    }
}

/// What is about the launcher: by option, with `true` behind it as the Python tractorun wants it, and in the file.
#[test]
fn no_wait_dry_run_and_local_in_every_form() {
    let bench = Bench::new(Form::File);
    let script = r#"echo up > "$SCRATCH/up"; until [ -e "$SCRATCH/go" ]; do sleep 0.02; done"#;
    let env = json!([{"name": "SCRATCH", "value": bench.scratch.text("")}]);
    let command = ["bash", "-c", script];
    bench.run(&json!({"docker_image": "i:1", "env": env, "no_wait": true}), &command);
    bench.scratch.wait_for_file("up");
    assert_eq!(bench.cluster.the_operation()["state"], "running");
    bench.scratch.file("go", "");
    bench.cluster.wait_until_no_operation_runs();

    let bench = Bench::new(Form::CommandLine);
    for dry_run in [&["--dry-run"][..], &["--dry-run", "true"]] {
        let finished = bench.launcher(&json!({"docker_image": "i:1"}), dry_run).arg("date").run();
        finished.assert_code(0);
        let shown: Value = serde_json::from_str(&finished.stdout).expect("stdout is JSON");
        assert_eq!(shown["configuration"]["effective_config"]["command"], json!(["date"]), "{shown:#}");
    }
    assert_eq!(bench.recorder.requests().len(), 0, "a dry run asks nobody");

    for form in [Form::CommandLine, Form::File] {
        let bench = Bench::new(form);
        let options = json!({"local": true, "env": [{"name": "WORD", "value": "here"}]});
        let script = r#"echo "$WORD" > local-was-here"#;
        bench.run(&options, &["bash", "-c", script]);
        assert_eq!(bench.scratch.wait_for_file("local-was-here"), "here\n");
        assert_eq!(bench.cluster.operations().len(), 0, "{form:?}");
    }
}

/// What the Python tractorun's README lists.
const OF_THE_PYTHON_TRACTORUN: [&str; 27] = [
    "yt-path",
    "run-config-path",
    "docker-image",
    "title",
    "mesh.node-count",
    "mesh.process-per-node",
    "mesh.gpu-per-process",
    "mesh.pool-trees",
    "mesh.pool",
    "env",
    "resources.cpu-limit",
    "resources.memory-limit",
    "user-config",
    "bind-local",
    "bind-local-lib",
    "bind-cypress",
    "sidecar",
    "proxy-stderr-mode",
    "operation-log-mode",
    "no-wait",
    "dry-run",
    "docker-auth-secret.cypress-path",
    "cluster-config-path",
    "yt-operation-spec",
    "yt-task-spec",
    "local",
    "tensorproxy.enabled",
];

/// What stands in front of the last `|` of the rows of a table.
fn table<'a>(readme: &'a str, head: &str) -> Vec<&'a str> {
    let start = readme.find(head).unwrap_or_else(|| panic!("README has no table `{head}`"));
    readme[start..].lines().skip(2).take_while(|line| line.starts_with('|')).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// README's table of options has those of `--help`, no more and no less, and its table of tests those of the Python
/// tractorun.
#[test]
fn readme_has_every_option() {
    let readme = fs::read_to_string(binaries::repository().join("README.md")).expect("there is a README");
    let mut documented = Vec::new();
    for row in table(&readme, "| option | meaning |") {
        let cell = row.split(" | ").next().unwrap_or_default();
        let mut section = "";
        for name in quoted(cell) {
            // `.spool` behind `--logs.overflow`.
            if let Some(rest) = name.strip_prefix('.') {
                documented.push(format!("{section}.{rest}"));
            } else {
                section = name.split('.').next().unwrap_or_default();
                documented.push(name.to_owned());
            }
        }
    }
    let help = Launcher::new(&Scratch::new()).arg("--help").run().stdout;
    let listed = help.lines().filter_map(|line| line.strip_prefix("  --"));
    let mut listed: Vec<String> =
        listed.map(|line| format!("--{}", line.split(' ').next().unwrap_or_default())).collect();
    listed.retain(|name| name != "--version");
    documented.sort();
    listed.sort();
    assert_eq!(documented, listed);

    let proven: String = table(&readme, "| option | test |").join("\n");
    for option in OF_THE_PYTHON_TRACTORUN {
        assert!(proven.contains(&format!("`{option}`")), "no test is named for `{option}`");
    }
}

/// The tables of README name tests.
#[test]
fn every_test_that_readme_names_exists() {
    let root = binaries::repository();
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let tests: String =
        ["tests/tests", "tests/tests/snapshots", "tests/conformance/python_package", "runtime/python/tests"]
            .iter()
            .filter_map(|folder| fs::read_dir(root.join(folder)).ok())
            .flat_map(Iterator::flatten)
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect();
    let mut named = 0;
    for head in ["| option | test |", "| item | test |"] {
        for row in table(&readme, head) {
            let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
            for name in quoted(cell) {
                let name = name.rsplit("::").next().unwrap_or(name);
                let is_there =
                    [format!("fn {name}("), format!("def {name}(")].iter().any(|text| tests.contains(text));
                assert!(is_there, "README names `{name}` in `{row}`, which is no test");
                named += 1;
            }
        }
    }
    assert!(named > 40, "only {named} tests are named");
}
