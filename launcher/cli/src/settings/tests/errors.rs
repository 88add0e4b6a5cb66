//! What is said of mistakes, word for word.

use super::{YamlFile, file_problems, invoke_with, problems};

#[test]
fn unknown_options_are_named_with_the_nearest_one() {
    let cases = [
        ("--mesh.node-conut=2", "unknown option `--mesh.node-conut`, did you mean `--mesh.node-count`?"),
        ("--node-count=2", "unknown option `--node-count`, did you mean `--mesh.node-count`?"),
        ("--yt_path=//tmp/x", "unknown option `--yt_path`, did you mean `--yt-path`?"),
        ("--sidecars=x", "unknown option `--sidecars`, did you mean `--sidecar`?"),
        ("--colour", "unknown option `--colour`\nhint: `tractorun --help` shows all options"),
        ("-x", "unknown option `-x`\nhint: `tractorun --help` shows all options"),
        ("--version=3", "`--version` takes no value"),
    ];
    for (word, text) in cases {
        assert_eq!(problems(&[word, "true"]), text);
    }
}

#[test]
fn a_transaction_timeout_is_what_a_cluster_takes() {
    for timeout in ["500ms", "2h"] {
        assert_eq!(
            problems(&["--transaction-timeout", timeout, "true"]),
            format!("`--transaction-timeout`: expected a time from `1s` to `1h`, got `{timeout}`")
        );
    }
}

/// The value of an unknown option does not begin the command: options behind it are still seen.
#[test]
fn the_value_of_an_unknown_option_hides_nothing() {
    let line =
        ["--mesh.node-conut", "2", "--titel", "--local", "x", "--colour", "red", "--mesh.pool", "", "true"];
    assert_eq!(
        problems(&line[..3].iter().chain(&line[5..]).copied().collect::<Vec<_>>()),
        "unknown option `--mesh.node-conut`, did you mean `--mesh.node-count`?\n\
         unknown option `--titel`, did you mean `--title`?\n\
         unknown option `--colour`\nhint: `tractorun --help` shows all options\n\
         `--mesh.pool`: expected text that is not empty, got ``"
    );
}

#[test]
fn misspelt_keys_are_named_with_line_and_column() {
    assert_eq!(
        file_problems("yt_path: //tmp/x\nmesh:\n  node_conut: 2\n"),
        "c.yaml:3:3: unknown key `mesh.node_conut`, did you mean `mesh.node_count`?"
    );
    assert_eq!(
        file_problems("yt-path: //tmp/x"),
        "c.yaml:1:1: unknown key `yt-path`, did you mean `yt_path`?"
    );
    assert_eq!(
        file_problems("node_count: 2"),
        "c.yaml:1:1: unknown key `node_count`, did you mean `mesh.node_count`?"
    );
    assert_eq!(
        file_problems("mesh.pool: x"),
        "c.yaml:1:1: unknown key `mesh.pool`, did you mean `pool` inside of `mesh`?"
    );
    assert_eq!(file_problems("colour: red"), "c.yaml:1:1: unknown key `colour`");
    assert_eq!(
        file_problems("env:\n  - {nmae: A, value: a}\n"),
        "c.yaml:2:5: `env[0]`: `name` is missing: expected the variable's name\n\
         c.yaml:2:6: unknown key `env[0].nmae`, did you mean `env[0].name`?"
    );
    assert_eq!(
        file_problems("bind_cypress:\n- source: //a\n  destination: b\n  attributes: {executible: true}"),
        "c.yaml:4:16: unknown key `bind_cypress[0].attributes.executible`, \
         did you mean `bind_cypress[0].attributes.executable`?"
    );
    assert_eq!(
        problems(&["--env", r#"{"nmae": "A", "value": "a"}"#, "true"]),
        "unknown key `nmae` of `--env`, did you mean `name`?\n\
         `--env`: `name` is missing: expected the variable's name"
    );
    assert_eq!(file_problems("title: a\ntitle: b"), "c.yaml:2:1: `title` is given twice");
    assert_eq!(
        file_problems("user_config: {a: {b: 1, b: 2}}"),
        "c.yaml:1:25: `user_config.a.b` is given twice"
    );
    assert_eq!(
        file_problems("dry_run: true"),
        "c.yaml:1:1: `dry_run` is not for the file: give `--dry-run` on the command line"
    );
    assert_eq!(
        file_problems("- a"),
        "c.yaml:1:1: expected keys with values, such as `yt_path: //tmp/x`, got a list"
    );
}

#[test]
fn wrong_values_are_named_with_what_is_accepted() {
    let cases: [(&[&str], &str); 17] = [
        (
            &["--mesh.node-count", "0"],
            "`--mesh.node-count`: expected a whole number from 1 to 10000, got `0`",
        ),
        (
            &["--mesh.node-count", "-1"],
            "`--mesh.node-count`: expected a whole number from 1 to 10000, got `-1`",
        ),
        (
            &["--mesh.process-per-node=1.5"],
            "`--mesh.process-per-node`: expected a whole number from 1 to 1000, got `1.5`",
        ),
        (&["--resources.cpu-limit", "0"], "`--resources.cpu-limit`: expected a number above 0, got `0`"),
        (&["--resources.cpu-limit", "NaN"], "`--resources.cpu-limit`: expected a number above 0, got `NaN`"),
        (
            &["--resources.memory-limit", "16G"],
            "`--resources.memory-limit`: expected a number of bytes above 0, or a size such as `512MiB` or `16GiB`, got `16G`",
        ),
        (
            &["--yt-path", "/tmp/x"],
            "`--yt-path`: expected a path on the cluster that starts with `//` and does not end with `/`, got `/tmp/x`",
        ),
        (
            &["--yt-path", "//tmp/x/"],
            "`--yt-path`: expected a path on the cluster that starts with `//` and does not end with `/`, got `//tmp/x/`",
        ),
        (
            &["--proxy-stderr-mode", "every"],
            "`--proxy-stderr-mode`: expected `disabled` or `primary` or `all`, got `every`",
        ),
        (&["--mesh.gpu-visibility", "mine"], "`--mesh.gpu-visibility`: expected `all` or `own`, got `mine`"),
        (
            &["--mesh.cpu-affinity", "socket"],
            "`--mesh.cpu-affinity`: expected `numa` or `none`, got `socket`",
        ),
        (
            &["--mesh.omp-num-threads", "0"],
            "`--mesh.omp-num-threads`: expected `torchrun`, `auto` or a whole number from 1 to 10000, got `0`",
        ),
        (&["--local=maybe"], "`--local`: expected `true` or `false`, got `maybe`"),
        (
            &["--bind-local", "./src"],
            "`--bind-local`: expected `SOURCE:DESTINATION`, or JSON such as \
             `{\"source\": \"./data\", \"destination\": \"data\"}`, got `./src`",
        ),
        (
            &["--bind-local", "./src:/"],
            "`destination` of `--bind-local`: expected a path in the container, without `..`, got `/`",
        ),
        (&["--env", r#"{"name": "A"}"#], "`--env`: expected either `value` or `cypress_path`, got none"),
        (
            &["--env", r#"{"name": "A=B", "value": ""}"#],
            "`name` of `--env`: expected a name without `=`, got `A=B`",
        ),
    ];
    for (options, text) in cases {
        assert_eq!(problems(&[options, &["true"]].concat()), text);
    }
    assert_eq!(
        file_problems("mesh: 3"),
        "c.yaml:1:7: `mesh`: expected the keys `node_count`, `process_per_node`, `gpu_per_process`, `gpu_visibility`, `cpu_affinity`, `omp_num_threads`, `pool_trees`, `pool` with their values, got `3`"
    );
    assert_eq!(
        file_problems("mesh: {node_count: [1]}"),
        "c.yaml:1:20: `mesh.node_count`: expected a whole number from 1 to 10000, got a list"
    );
    assert_eq!(
        file_problems("title: [a]"),
        "c.yaml:1:8: `title`: expected text that is not empty, got a list"
    );
    assert_eq!(
        file_problems("user_config: a"),
        "c.yaml:1:14: `user_config`: expected a JSON object such as `{\"key\": \"value\"}`, got `a`"
    );
    assert_eq!(file_problems("local: 3"), "c.yaml:1:8: `local`: expected `true` or `false`, got `3`");
}

#[test]
fn json_that_cannot_be_read_is_not_repeated_and_says_where() {
    assert_eq!(
        problems(&["--env", r#"{"name": "A, "value": "s3cret"}"#, "true"]),
        "`--env`: expected JSON such as `{\"name\": \"A\", \"value\": \"1\"}` or \
         `{\"name\": \"A\", \"cypress_path\": \"//tmp/a\"}`: expected `,` or `}` at line 1 column 15\n\
         hint: put the JSON in single quotes, so that the shell leaves it as it is"
    );
    // What the shell makes of the README's unquoted `{"title": "custom title"}`.
    assert_eq!(
        problems(&["--yt-task-spec", "{title:", "custom title}"]),
        "`--yt-task-spec`: expected a JSON object such as `{\"key\": \"value\"}`: key must be a string at line 1 column 2\n\
         hint: put the JSON in single quotes, so that the shell leaves it as it is"
    );
}

#[test]
fn sources_of_binds_must_exist() {
    assert_eq!(
        problems(&["--bind-local", "./nope:/x", "true"]),
        "`--bind-local`: cannot read `./nope`: No such file or directory"
    );
    assert_eq!(
        file_problems("bind_local:\n- {source: ./nope, destination: /x}"),
        "c.yaml:2:12: `bind_local[0]`: cannot read `./nope`: No such file or directory"
    );
    assert_eq!(
        problems(&["--bind-local-lib", "nope", "true"]),
        "`--bind-local-lib`: cannot read `nope`: No such file or directory"
    );
    assert_eq!(
        problems(&["--bind-local-lib", "Cargo.toml", "true"]),
        "`--bind-local-lib`: `Cargo.toml` is not a folder\n\
         hint: a library is the folder that `import` looks for; for a single file use `--bind-local`"
    );
    assert_eq!(
        problems(&["--bind-local-lib", "src", "--bind-local-lib", "../cli/src", "true"]),
        "`--bind-local-lib`: `../cli/src` and `src` are both called `src`: expected distinct names"
    );
}

#[test]
fn a_wrong_sidecar_is_refused_with_what_is_right() {
    let policies = "`always` or `on_failure` or `never` or `fail`";
    for (json, expected) in [
        (
            r#"{"command": ["a"], "restart_policy": "on-failure"}"#,
            format!(
                "`restart_policy` of `--sidecar`: expected {policies}, got `on-failure`\n\
                 hint: did you mean `on_failure`?"
            ),
        ),
        (
            r#"{"command": ["a"], "restart_policy": "sometimes"}"#,
            format!("`restart_policy` of `--sidecar`: expected {policies}, got `sometimes`"),
        ),
        (
            r#"{"command": ["a"]}"#,
            "`--sidecar`: `restart_policy` is missing: expected `always`, `on_failure`, `never` or `fail`"
                .to_owned(),
        ),
        (
            r#"{"command": [], "restart_policy": "fail"}"#,
            "`command` of `--sidecar`: expected a list of the program and its arguments, got an empty one"
                .to_owned(),
        ),
        (
            r#"{"command": "a", "restart_policy": "fail"}"#,
            "`command` of `--sidecar`: expected a list, got `a`".to_owned(),
        ),
        (
            r#"{"command": [""], "restart_policy": "fail"}"#,
            "`command` of `--sidecar`: expected text that is not empty, got ``".to_owned(),
        ),
        (
            r#"{"comand": ["a"], "restart_policy": "fail"}"#,
            "unknown key `comand` of `--sidecar`, did you mean `command`?".to_owned(),
        ),
    ] {
        let text = problems(&["--sidecar", json, "true"]);
        assert!(text.starts_with(&expected), "{json}: {text}");
    }
    let text = file_problems("sidecars:\n- command: [a]\n  restart_policy: allways");
    let expected = format!(
        "c.yaml:3:19: `sidecars[0].restart_policy`: expected {policies}, got `allways`\nhint: did you mean `always`?"
    );
    assert_eq!(text, expected);
    let env = problems(&["--env", r#"{"name": "A", "value": "1", "sidecars": "no"}"#, "true"]);
    assert_eq!(env, "`sidecars` of `--env`: expected `true` or `false`, got `no`");
}

#[test]
fn what_comes_later_is_refused_and_says_so() {
    let version = env!("CARGO_PKG_VERSION");
    let later = |what: &str| format!("`{what}` is not supported by tractorun {version} yet");
    let cases: [(&[&str], &str); 2] = [
        (&["--mesh.spare-nodes", "1", "--title", "x"], "--mesh.spare-nodes"),
        (&["--metrics.port=1"], "--metrics.port"),
    ];
    for (options, what) in cases {
        assert_eq!(problems(&[options, &["python3"]].concat()), later(what));
    }
    let in_file = |text: &str, place: &str, what: &str| {
        assert_eq!(file_problems(text), format!("c.yaml:{place}: {}", later(what)));
    };
    in_file("mesh:\n  spare_nodes: 1", "2:3", "mesh.spare_nodes");
    in_file("metrics: {port: 1}", "1:1", "metrics");
}

#[test]
fn more_workers_than_a_cluster_has_ports_for_are_refused_there() {
    assert_eq!(
        problems(&["--mesh.process-per-node", "49", "true"]),
        "`--mesh.process-per-node`: expected at most 48 on a cluster, which gives a job 50 ports, got 49\n\
         hint: use more nodes"
    );
    assert!(invoke_with(&["--mesh.process-per-node", "48", "true"], &[("YT_BASE_LAYER", "image")]).is_ok());
    assert!(invoke_with(&["--local", "--mesh.process-per-node", "49", "true"], &[]).is_ok());
    // The tensorproxy has two of the ports.
    assert_eq!(
        problems(&["--tensorproxy.enabled", "--mesh.process-per-node", "47", "true"]),
        "`--mesh.process-per-node`: expected at most 46 on a cluster, which gives a job 50 ports, got 47\n\
         hint: use more nodes"
    );
}

#[test]
fn what_is_wrong_with_a_tensorproxy_is_said() {
    assert_eq!(
        problems(&["--tensorproxy.restart_policy", "alway", "--tensorproxy.yt-path", "tensorproxy", "true"]),
        "`--tensorproxy.yt_path`: expected a path on the cluster that starts with `//` and does not end with `/`, got `tensorproxy`\n\
         `--tensorproxy.restart_policy`: expected `always` or `on_failure` or `never` or `fail`, got `alway`\n\
         hint: did you mean `always`?"
    );
    let local = ["--local", "--tensorproxy.enabled", "sh"];
    let refusal = "with `--local` the tensorproxy's program comes from the cluster in YT_PROXY, which is not set\n\
                   hint: set YT_PROXY, or give `--tensorproxy.enabled false`";
    for proxy in [&[][..], &[("YT_PROXY", "")]] {
        let problems = invoke_with(&local, proxy).unwrap_err();
        assert_eq!(problems, format!("`--tensorproxy.enabled`: {refusal}"));
    }
    let file = YamlFile::new("local: true\ntensorproxy:\n  enabled: true");
    assert_eq!(file.problems(&["true"]), format!("c.yaml:3:12: `tensorproxy.enabled`: {refusal}"));
    assert!(invoke_with(&local, &[("YT_PROXY", "h")]).is_ok());
    assert!(
        file_problems("tensorproxy: {path: //x}")
            .starts_with("c.yaml:1:15: unknown key `tensorproxy.path`, did you mean `tensorproxy.yt_path`?")
    );
}

#[test]
fn restarts_and_preemption_are_refused_by_what_is_wrong_with_them() {
    let refused = |options: &[&str]| problems(&[options, &["true"]].concat());
    let time = "expected a time above 0 with its unit (`ms`, `s`, `m`, `h`, `d`), such as `30s` or `10m`";
    assert_eq!(refused(&["--restarts.window", "10"]), format!("`--restarts.window`: {time}, got `10`"));
    assert_eq!(refused(&["--restarts.window", "0s"]), format!("`--restarts.window`: {time}, got `0s`"));
    assert_eq!(
        refused(&["--preemption.timeout", "soon"]),
        format!("`--preemption.timeout`: {time}, got `soon`")
    );
    assert_eq!(
        refused(&["--restarts.never", "256"]),
        "`--restarts.never`: expected a whole number from 1 to 255, got `256`"
    );
    assert_eq!(
        refused(&["--preemption.signal", "SIGKILL"]),
        "`--preemption.signal`: expected `SIGTERM` or `SIGINT` or `SIGHUP` or `SIGUSR1` or `SIGUSR2`, got `SIGKILL`"
    );
    assert_eq!(
        refused(&["--restarts.max", "-1"]),
        "`--restarts.max`: expected a whole number from 0 to 1000000, got `-1`"
    );
}

#[test]
fn log_settings_say_what_they_accept() {
    let options = ["--logs.overflow", "wait", "--logs.memory", "1KiB", "--logs.drain-timeout", "0s", "sh"];
    assert_eq!(
        problems(&options),
        "`--logs.memory`: expected a number of bytes from 1048576 on, or a size such as `512MiB` or `16GiB`, got `1KiB`\n\
         `--logs.overflow`: expected `block` or `drop`, got `wait`\n\
         `--logs.drain-timeout`: expected a time above 0 with its unit (`ms`, `s`, `m`, `h`, `d`), such as `30s` or `10m`, got `0s`"
    );
    assert_eq!(
        file_problems("logs: {batch_age: soon, spol: 1}"),
        "c.yaml:1:19: `logs.batch_age`: expected a time above 0 with its unit (`ms`, `s`, `m`, `h`, `d`), such as `30s` or `10m`, got `soon`\n\
         c.yaml:1:25: unknown key `logs.spol`, did you mean `logs.spool`?"
    );
}

#[test]
fn values_that_are_missing_are_asked_for() {
    assert_eq!(
        problems(&["--title", "--no-wait", "true"]),
        "`--title` needs a value: `--title <TEXT>`\nhint: if `--no-wait` is the value, write `--title=--no-wait`\n\
         no command to run\nhint: `true` was taken as the value of `--no-wait`: to run it, write `--no-wait -- true`"
    );
    assert_eq!(
        problems(&["--mesh.node-count"]),
        "`--mesh.node-count` needs a value: `--mesh.node-count <N>`\nno command to run\n\
         hint: put it after the options, `tractorun [OPTIONS] python3 train.py`, or give `command` in the file"
    );
    assert_eq!(
        YamlFile::new("command: python3 train.py").problems(&[]),
        "c.yaml:1:10: `command`: expected a list, got `python3 train.py`"
    );
    assert_eq!(
        YamlFile::new("command: []").problems(&[]),
        "no command to run\nhint: put it after the options, `tractorun [OPTIONS] python3 train.py`, or give `command` in the file"
    );
}

#[test]
fn without_a_docker_image_there_is_a_hint() {
    assert_eq!(
        invoke_with(&["true"], &[]).unwrap_err(),
        "no Docker image for the job\n\
         hint: give `--docker-image`, or set YT_BASE_LAYER or YT_JOB_DOCKER_IMAGE; `--local` needs none"
    );
}

#[test]
fn on_one_machine_some_things_cannot_be_had() {
    assert_eq!(
        problems(&["--local", "--no-wait", "python3"]),
        "`--no-wait`: a `--local` run lives only as long as tractorun\nhint: leave it out, or give `--no-wait false`"
    );
    assert_eq!(
        problems(&["--local", "--bind-local", "./src:/src", "python3"]),
        "`destination` of `--bind-local`: with `--local`, `/src` would be in this machine's own root\n\
         hint: give a relative destination: it starts in the working directory of the command"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_problem_of_what_it_could_give() {
    assert_eq!(
        invoke_with(&["--run-config-path", "nope.yaml", "--mesh.node-count", "0"], &[]).unwrap_err(),
        "`--run-config-path`: cannot read `nope.yaml`: No such file or directory\n\
         `--mesh.node-count`: expected a whole number from 1 to 10000, got `0`"
    );
    assert_eq!(file_problems("a: 'b"), "c.yaml:1:4: not valid YAML: unclosed quote");
}

#[test]
fn all_problems_are_told_at_once_those_of_the_file_by_their_place() {
    let file = YamlFile::new("tile: x\nmesh:\n  process_per_node: two\n  node_conut: 3\nyt_path: /tmp/x\n");
    assert_eq!(
        file.problems(&["--mesh.pool-tree=x", "--resources.cpu-limit", "-2"]),
        "unknown option `--mesh.pool-tree`, did you mean `--mesh.pool-trees`?\n\
         no command to run\n\
         hint: put it after the options, `tractorun [OPTIONS] python3 train.py`, or give `command` in the file\n\
         `--resources.cpu-limit`: expected a number above 0, got `-2`\n\
         c.yaml:1:1: unknown key `tile`, did you mean `title`?\n\
         c.yaml:3:21: `mesh.process_per_node`: expected a whole number from 1 to 1000, got `two`\n\
         c.yaml:4:3: unknown key `mesh.node_conut`, did you mean `mesh.node_count`?\n\
         c.yaml:5:10: `yt_path`: expected a path on the cluster that starts with `//` and does not end with `/`, got `/tmp/x`"
    );
}
