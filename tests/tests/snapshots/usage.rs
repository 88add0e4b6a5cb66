//! Mistakes that are found before anything is touched, and clusters that do not answer.

use tractorun_tests::{Cluster, Launcher, Scratch};

use super::seen::{Folds, assert_place_seen, assert_seen};

/// A launcher that has an image and a cluster, though nobody listens there.
fn launcher(scratch: &Scratch) -> Launcher {
    Launcher::new(scratch).env("YT_PROXY", "http://127.0.0.1:1").args(["--docker-image", "my-image"])
}

/// The call `tractorun --docker-image my-image WORDS`.
#[track_caller]
fn assert_words_seen(name: &str, words: &[&str]) {
    assert_seen(name, |scratch| launcher(scratch).args(words.iter().copied()));
}

/// The same with a file.
#[track_caller]
fn assert_file_seen(name: &str, yaml: &str) {
    assert_seen(name, |scratch| {
        scratch.file("job.yaml", yaml);
        launcher(scratch).args(["--run-config-path", "job.yaml"])
    });
}

#[test]
fn options() {
    assert_words_seen("misspelt_option", &["--mesh.node-cout", "2", "python3", "train.py"]);
    assert_words_seen("unknown_option", &["--colour", "python3", "train.py"]);
    assert_words_seen("option_without_value", &["--mesh.node-count", "--local", "python3", "train.py"]);
    assert_words_seen("later_option", &["--metrics.port", "9100", "true"]);
    assert_words_seen("switch_took_the_command", &["--local", "true"]);
    assert_words_seen("no_command", &["--mesh.node-count", "2"]);
    assert_words_seen("completions_for_an_unknown_shell", &["--completions", "zhs"]);
}

#[test]
fn values() {
    assert_words_seen("not_a_number", &["--mesh.node-count", "many", "true"]);
    assert_words_seen("number_out_of_range", &["--mesh.node-count", "0", "true"]);
    assert_words_seen("not_a_choice", &["--proxy-stderr-mode", "al", "true"]);
    assert_words_seen("not_a_size", &["--resources.memory-limit", "16GB5", "true"]);
    assert_words_seen("not_a_time", &["--grace-period", "soon", "true"]);
    assert_words_seen("not_a_signal", &["--preemption.signal", "SIGKILL", "true"]);
    assert_words_seen("not_json", &["--user-config", r#"{"a": "#, "true"]);
    assert_words_seen("misspelt_field", &["--env", r#"{"name": "A", "valeu": "1"}"#, "true"]);
    assert_words_seen(
        "not_a_policy",
        &["--sidecar", r#"{"command": ["x"], "restart_policy": "maybe"}"#, "true"],
    );
    assert_words_seen("not_a_cypress_path", &["--yt-path", "/home/me/run", "true"]);
}

#[test]
fn files() {
    assert_file_seen("yaml_that_is_none", "mesh:\n  node_count: [1\ncommand: x\n");
    assert_file_seen("misspelt_key", "mesh:\n  node_count: 2\n  proces_per_node: 2\ncommand: [\"true\"]\n");
    assert_file_seen(
        "wrong_type",
        "mesh: {node_count: two}\nenv:\n  - name: A\n    value: [1]\ncommand: [\"true\"]\n",
    );
    assert_file_seen("key_twice", "title: a\ntitle: b\ncommand: [\"true\"]\n");
    assert_words_seen("no_such_file", &["--run-config-path", "jobs.yaml"]);
    assert_words_seen("no_such_bind", &["--bind-local", "./trian.py:/train.py", "python3", "/train.py"]);
    assert_words_seen("no_such_library", &["--bind-local-lib", "./my_lib", "true"]);
    assert_words_seen("bind_without_destination", &["--bind-local", "./train.py", "true"]);
    assert_seen("absolute_destination_on_this_machine", |scratch| {
        scratch.file("train.py", "");
        Launcher::new(scratch).args(["--local", "--bind-local", "train.py:/etc/train.py", "true"])
    });
}

#[test]
fn all_at_once() {
    assert_seen("all_at_once", |scratch| {
        scratch.file("job.yaml", "mesh:\n  node_count: 0\n  proces_per_node: 2\n");
        Launcher::new(scratch).args([
            "--run-config-path",
            "job.yaml",
            "--bind-local",
            "nowhere:x",
            "--yt-path",
            "run",
        ])
    });
}

#[test]
fn surroundings() {
    assert_seen("no_proxy", |scratch| Launcher::new(scratch).args(["--docker-image", "my-image", "true"]));
    assert_seen("no_image", |scratch| {
        Launcher::new(scratch).env("YT_PROXY", "http://127.0.0.1:1").arg("true")
    });
    assert_seen("bad_proxy", |scratch| launcher(scratch).env("YT_PROXY", "ftp://cluster").arg("true"));
    assert_words_seen("unreachable_cluster", &["python3", "train.py"]);
    assert_seen("unreachable_cluster_status", |scratch| {
        Launcher::new(scratch).env("YT_PROXY", "http://127.0.0.1:1").args(["status", "//home/me/run"])
    });
    assert_seen("unreadable_token_file", |scratch| {
        launcher(scratch).env("YT_TOKEN_PATH", "nowhere/token").arg("true")
    });
}

/// A cluster with a token, and one without.
#[test]
fn authentication() {
    let begin = || {
        let scratch = Scratch::new();
        let cluster = Cluster::start_with_token(&scratch, "right");
        (scratch, cluster)
    };
    let call = |(scratch, cluster): &(Scratch, Cluster), token: &str| {
        Launcher::new(scratch).env("YT_PROXY", cluster.proxy()).env("YT_TOKEN", token).args([
            "--docker-image",
            "my-image",
            "python3",
            "train.py",
        ])
    };
    for (name, token) in [("wrong_token", "wrong"), ("no_token", "")] {
        assert_place_seen(
            name,
            Folds::Kept,
            begin,
            |place| call(place, token),
            tractorun_tests::Running::wait,
        );
    }
}

#[test]
fn commands_on_runs() {
    let words =
        |name: &str, words: &[&str]| assert_seen(name, |scratch| Launcher::new(scratch).args(words.to_vec()));
    words("status_of_nothing", &["status"]);
    words("status_of_what_is_no_run", &["status", "home/me/run", "--jsn"]);
    words("list_with_a_run", &["list", "//home/me/run"]);
    words("stop_two", &["stop", "//home/me/a", "//home/me/b"]);
    words("logs_of_nothing", &["logs"]);
    words(
        "logs_with_mistakes",
        &["logs", "//home/me/run", "--rank", "5-3", "--grep", "a(", "--since", "soon", "--folow"],
    );
}
