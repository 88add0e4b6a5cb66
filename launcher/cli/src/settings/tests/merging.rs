//! Which value counts, where the command begins, and what a switch takes.

use std::path::Path;

use serde_json::json;
use tractorun_contract::job_spec::{EnvSource, RestartPolicy};

use super::super::*;
use super::{YamlFile, invoke_with, settings, words};
use crate::cli::{self, Request};

#[test]
fn the_command_lines_value_replaces_the_files_whole() {
    let file = YamlFile::new(
        "title: from file\ncommand: [python3, a.py]\nmesh: {node_count: 2, process_per_node: 3, pool_trees: [a, b]}\n\
         env: [{name: A, value: a}, {name: B, value: b}]\nuser_config: {x: 1, y: 2}\nlocal: true\n",
    );
    let line =
        ["--mesh.node-count", "5", "--mesh.pool-trees", "c", "--env", r#"{"name": "C", "value": "c"}"#];
    let line = [&line[..], &["--user-config", r#"{"z": 3}"#, "--local", "false", "bash", "b.sh"]].concat();
    let settings = file.settings(&line);
    assert_eq!(settings.title, "from file");
    assert_eq!((settings.mesh.node_count, settings.mesh.process_per_node), (5, 3));
    assert_eq!(settings.mesh.pool_trees, ["c"]);
    assert_eq!(settings.env.iter().map(|variable| &*variable.name).collect::<Vec<_>>(), ["C"]);
    assert_eq!(settings.user_config, json!({"z": 3}).as_object().cloned());
    assert_eq!(settings.place, Place::Cluster);
    assert_eq!(settings.command, ["bash", "b.sh"]);
    assert_eq!(file.settings(&[]).command, ["python3", "a.py"]);
}

#[test]
fn the_last_of_several_values_counts_and_lists_grow() {
    let settings =
        settings(&["--title", "a", "--mesh.pool-trees=x", "--title=b=c", "--mesh.pool-trees", "y", "true"]);
    assert_eq!(settings.title, "b=c");
    assert_eq!(settings.mesh.pool_trees, ["x", "y"]);
}

#[test]
fn everything_after_the_first_other_word_is_the_command() {
    let line = ["--title", "x", "python3", "train.py", "--title", "y", "--", "--help", "-v", ""];
    assert_eq!(settings(&line).command, line[2..]);
    assert_eq!(settings(&line).title, "x");
    assert_eq!(settings(&["--title", "x", "--", "--title", "y"]).command, ["--title", "y"]);
    assert_eq!(settings(&["-"]).command, ["-"]);
}

#[test]
fn a_switch_takes_the_next_word_only_if_it_is_boolean() {
    let cases: [(&[&str], Place, &[&str]); 13] = [
        (&["--local", "python3", "x.py"], Place::Local, &["python3", "x.py"]),
        (&["--local", "True", "python3"], Place::Local, &["python3"]),
        (&["--local", "true", "python3"], Place::Local, &["python3"]),
        (&["--local", "false", "python3"], Place::Cluster, &["python3"]),
        (&["--local", "False", "python3"], Place::Cluster, &["python3"]),
        (&["--local", "1", "python3"], Place::Local, &["python3"]),
        (&["--local", "0", "python3"], Place::Cluster, &["python3"]),
        (&["--local", "2", "python3"], Place::Local, &["2", "python3"]),
        (&["--local=true", "true"], Place::Local, &["true"]),
        (&["--local=FALSE", "true"], Place::Cluster, &["true"]),
        (&["--local", "--", "true"], Place::Local, &["true"]),
        (&["--local", "yes"], Place::Local, &["yes"]),
        (&["--local", "--local", "false", "x"], Place::Cluster, &["x"]),
    ];
    for (line, place, command) in cases {
        let settings = settings(line);
        assert_eq!(
            (settings.place, &*settings.command),
            (place, &*command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()),
            "{line:?}"
        );
    }
    let waits = [
        ("--no-wait", Wait::NotAtAll),
        ("--no-wait=false", Wait::ForEnd),
        ("--no-wait=True", Wait::NotAtAll),
    ];
    for (word, wait) in waits {
        assert_eq!(settings(&[word, "python3"]).wait, wait, "{word}");
    }
    assert_eq!(settings(&["--dry-run", "python3"]).run_mode, RunMode::DryRun);
    assert_eq!(settings(&["--dry-run", "false", "python3"]).run_mode, RunMode::Submit);
}

#[test]
fn the_docker_image_falls_back_to_the_environment() {
    let image = |line: &[&str], environment: &[(&str, &str)]| {
        invoke_with(line, environment).unwrap().settings.docker_image
    };
    let both = [("YT_JOB_DOCKER_IMAGE", "second"), ("YT_BASE_LAYER", "first")];
    assert_eq!(image(&["--docker-image", "given", "true"], &both).as_deref(), Some("given"));
    assert_eq!(image(&["true"], &both).as_deref(), Some("first"));
    assert_eq!(image(&["true"], &both[..1]).as_deref(), Some("second"));
    assert_eq!(image(&["true"], &[("YT_BASE_LAYER", ""), both[0]]).as_deref(), Some("second"));
    assert_eq!(image(&["--local", "--", "true"], &[]), None);
}

#[test]
fn a_dry_run_names_no_random_path() {
    let settings = settings(&["--dry-run", "python3"]);
    assert_eq!(settings.yt_path, "//tmp/tractorun/<generated>");
    assert_eq!(settings.title, "Tractorun //tmp/tractorun/<generated>");
}

/// In a YAML file `1.10` is a number, and yet the worker gets what was written.
#[test]
fn text_in_yaml_stays_as_it_was_written() {
    let file = YamlFile::new(
        "command: [python3, --lr, 0.10, --on, True, 007, '', 1e-3]\nenv:\n- {name: A, value: 1.10}\n- {name: B, value: ''}",
    );
    let settings = file.settings(&[]);
    assert_eq!(settings.command, ["python3", "--lr", "0.10", "--on", "True", "007", "", "1e-3"]);
    assert_eq!(settings.env[0].source, EnvSource::Value("1.10".to_owned()));
    assert_eq!(settings.env[1].source, EnvSource::Value(String::new()));
}

#[test]
fn an_empty_key_is_as_if_it_were_not_there() {
    let file =
        YamlFile::new("title:\nmesh:\nuser_config: null\nenv:\n- {name: A, value: a, cypress_path: null}\n");
    let settings = file.settings(&["true"]);
    assert_eq!(settings.title, "Tractorun //tmp/tractorun/an-id");
    assert_eq!(settings.user_config, None);
    assert_eq!(settings.env.len(), 1);
    assert_eq!(YamlFile::new("# nothing\n").settings(&["true"]).mesh.node_count, 1);
}

#[test]
fn sizes_and_fractions_are_resources() {
    let line = ["--resources.memory-limit", "16GiB", "--resources.cpu-limit", "0.5", "true"];
    let expected = Resources { cpu_limit: Some(0.5), memory_limit_bytes: Some(16 << 30) };
    assert_eq!(settings(&line).resources, expected);
    let file = YamlFile::new("resources: {memory_limit: 16 GiB, cpu_limit: 0.5}");
    assert_eq!(file.settings(&["true"]).resources, expected);
}

#[test]
fn a_dry_run_shows_where_the_configuration_came_from() {
    let file = YamlFile::new("title: x\nmesh: {node_count: 2}\n");
    let line = ["--run-config-path", file.path(), "--dry-run", "--mesh.node-count", "3", "--title", "7"];
    let line = [&line[..], &["--env", r#"{"name": "A", "value": "1"}"#, "--local", "false", "python3", "x"]]
        .concat();
    let configuration = invoke_with(&line, &[("YT_BASE_LAYER", "image")]).unwrap().configuration();
    assert_eq!(configuration["file_config"], json!({"title": "x", "mesh": {"node_count": 2}}));
    assert_eq!(
        configuration["cli_args"],
        json!({
            "run_config_path": file.path(),
            "dry_run": true,
            "mesh.node_count": 3,
            "title": "7",
            "env": [{"name": "A", "value": "1"}],
            "local": false,
            "command": ["python3", "x"],
        })
    );
    let effective = &configuration["effective_config"];
    assert_eq!(effective["title"], "7");
    assert_eq!(effective["mesh"]["node_count"], 3);
    assert_eq!(effective["dry_run"], true);
}

/// A name in another encoding is refused, in an option and in the command.
#[test]
#[cfg(unix)]
fn words_must_be_utf8() {
    use std::os::unix::ffi::OsStringExt as _;
    let word = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    let Request::Run(line) = cli::parse(["--local".into(), "python3".into(), word]) else { panic!("no run") };
    assert_eq!(line.problems[0].to_string(), "`caf\u{fffd}` is not valid UTF-8");
}

#[test]
fn a_library_is_called_as_its_folder() {
    assert_eq!(library_name(Path::new("./src/")).as_deref(), Some("src"));
    assert_eq!(library_name(Path::new(".")).as_deref(), Some("cli"));
    assert_eq!(library_name(Path::new("src/cli/..")).as_deref(), Some("src"));
    assert_eq!(library_name(Path::new("/")), None);
}

#[test]
fn requests_for_something_else_win() {
    assert_eq!(cli::parse(words(&["--bogus", "--help"])), Request::Help);
    assert_eq!(cli::parse(words(&["-h"])), Request::Help);
    assert_eq!(cli::parse(words(&["--version", "--help"])), Request::Version);
    assert_eq!(cli::parse(words(&["--completions", "zsh"])), Request::Completions("zsh".to_owned()));
    assert!(matches!(cli::parse(words(&["python3", "--help"])), Request::Run(_)));
}

#[test]
fn a_tensorproxy_is_there_when_enabled_and_each_of_its_values_is_chosen_for_itself() {
    let tensorproxy =
        |yt_path: &str, restart_policy| Some(Tensorproxy { yt_path: yt_path.to_owned(), restart_policy });
    let usual = tensorproxy("//sys/tractorun/tensorproxy", RestartPolicy::Always);
    // The Python tractorun's own tests write `1`.
    for line in [["--tensorproxy.enabled", "1", "sh"], ["--tensorproxy.enabled=true", "--", "sh"]] {
        assert_eq!(settings(&line).tensorproxy, usual);
    }
    let file = YamlFile::new("tensorproxy: {enabled: true, restart_policy: fail, yt_path: //tmp/file}");
    assert_eq!(file.settings(&["sh"]).tensorproxy, tensorproxy("//tmp/file", RestartPolicy::Fail));
    for yt_path in ["--tensorproxy.yt_path", "--tensorproxy.yt-path"] {
        let settings = file.settings(&[yt_path, "//tmp/line", "sh"]);
        assert_eq!(settings.tensorproxy, tensorproxy("//tmp/line", RestartPolicy::Fail));
    }
    for policy in ["--tensorproxy.restart_policy", "--tensorproxy.restart-policy"] {
        let settings = file.settings(&[policy, "on_failure", "sh"]);
        assert_eq!(settings.tensorproxy, tensorproxy("//tmp/file", RestartPolicy::OnFailure));
    }
    assert_eq!(file.settings(&["--tensorproxy.enabled", "false", "sh"]).tensorproxy, None);
    // Without a tensorproxy the rest says nothing.
    let file = YamlFile::new("tensorproxy: {restart_policy: fail, yt_path: //tmp/file}");
    assert_eq!(file.settings(&["sh"]).tensorproxy, None);
    assert_eq!(
        file.settings(&["--tensorproxy.enabled", "sh"]).tensorproxy,
        tensorproxy("//tmp/file", RestartPolicy::Fail)
    );
}
