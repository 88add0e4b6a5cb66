//! What is printed shows no secret: the dry run, and errors about whatever holds one.
//!
//! `secrets_of_runs` looks at all that a run makes.

use serde_json::{Value, json};
use tractorun_tests::canary::Canaries;
use tractorun_tests::{Cluster, Finished, Launcher, Scratch};

/// Those of this page have one secret each.
fn canary() -> Canaries {
    Canaries::new(&["secret"])
}

/// At its loudest, so that what is said at any level counts.
fn loud(launcher: Launcher) -> Launcher {
    launcher.env("TRACTORUN_LOG_LEVEL", "trace").env("RUST_LOG", "trace")
}

#[track_caller]
fn assert_shows_nothing(finished: &Finished) {
    canary().assert_none_in(&finished.command, finished.output());
}

/// Runs what must fail, with these words for the reason.
#[track_caller]
fn assert_fails_silently(launcher: Launcher, words: &str) {
    let finished = loud(launcher).run();
    assert_ne!(finished.code(), 0, "{}", finished.show());
    finished.assert_stderr(words);
    canary().assert_none_in("the error", finished.output());
}

fn offline(scratch: &Scratch) -> Launcher {
    Launcher::new(scratch).env("YT_PROXY", "http://127.0.0.1:1").args(["--docker-image", "i:1"])
}

#[test]
fn dry_run_shows_no_secret() {
    let scratch = Scratch::new();
    let canaries = canary();
    let secret = canaries.value("secret");
    let spec = json!({"secure_vault": {"mine": secret, "deep": {"a": [secret]}}}).to_string();
    let file = scratch
        .file("run.yaml", json!({ "yt_operation_spec": { "secure_vault": { "mine": secret } } }).to_string());
    let file = file.display().to_string();
    for (name, options) in [
        ("the command line", &["--yt-operation-spec", &spec][..]),
        ("one word of it", &[&format!("--yt-operation-spec={spec}")]),
        ("the file", &["--run-config-path", &file]),
        ("both", &["--run-config-path", &file, "--yt-operation-spec", &spec]),
    ] {
        for local in [&[][..], &["--local"]] {
            let launcher =
                loud(offline(&scratch)).env("YT_TOKEN", secret).args(options.to_vec()).args(local.to_vec());
            let finished =
                launcher.args(["--docker-auth-secret.cypress-path", "//s", "--dry-run", "date"]).run();
            finished.assert_code(0).assert_stdout("operation_spec");
            canaries.assert_none_in(name, finished.output());
            let shown: Value = serde_json::from_str(&finished.stdout).expect("it is JSON");
            if local.is_empty() {
                assert_eq!(shown["run_info"]["operation_spec"]["secure_vault"]["mine"], "***", "{shown:#}");
            }
        }
    }
    // Where the token and the proxy come from may be said; what they are, not.
    let proxy = format!("http://me:{secret}@127.0.0.1:1");
    let finished = loud(offline(&scratch)).env("YT_PROXY", proxy).args(["--dry-run", "date"]).run();
    finished.assert_code(0);
    assert_shows_nothing(&finished);
}

/// A mistake beside a secret is told without it.
#[test]
fn errors_about_the_settings_show_no_secret() {
    let scratch = Scratch::new();
    let canaries = canary();
    let secret = canaries.value("secret");
    let command_line =
        |option: &str, value: String| offline(&scratch).args([option.to_owned(), value, "date".into()]);
    let cut = format!(r#"{{"secure_vault": {{"key": "{secret}""#);
    assert_fails_silently(command_line("--yt-operation-spec", cut.clone()), "`--yt-operation-spec`");
    assert_fails_silently(
        command_line("--yt-operation-spec", format!("[{cut}}}}}]")),
        "`--yt-operation-spec`",
    );
    let no_map = json!({ "secure_vault": secret }).to_string();
    assert_fails_silently(command_line("--yt-operation-spec", no_map), "secure_vault");
    let file = |content: String| {
        let file = scratch.file("run.yaml", content);
        offline(&scratch).args(["--run-config-path".to_owned(), file.display().to_string(), "date".into()])
    };
    for content in [
        format!("yt_operation_spec:\n  secure_vault: {{key: \"{secret}\"\n"),
        format!("yt_operation_spec: {{secure_vault: {{key: {secret}}}}}\nmesh: [\n"),
        format!("yt_operation_spec: {{secure_vault: {{key: {secret}, key: {secret}}}}}\n"),
        format!("yt_operation_spec: {{secure_vault: {{key: @{secret}}}}}\n"),
        format!("yt_operation_spec: {{secure_vault: {{key: !!int {secret}}}}}\n"),
        format!("yt_operation_spec: {{secure_vault: {{key: *{secret}}}}}\n"),
        format!("yt_operation_spec: 'secure_vault: {secret}'\n"),
        format!("yt_operation_spec:\n- secure_vault: {secret}\n"),
        format!("yt_operation_spec: {{secure_vault: {secret}}}\n"),
        format!("yt_operation_spec:\n\tsecure_vault: {secret}\n"),
    ] {
        let launcher = file(content.clone());
        let finished = loud(launcher).run();
        assert_eq!(finished.code(), 2, "{content}: {}", finished.show());
        canaries.assert_none_in(&content, finished.output());
    }
}

#[test]
fn errors_about_the_clusters_address_and_token_show_no_secret() {
    let scratch = Scratch::new();
    let canaries = canary();
    let secret = canaries.value("secret");
    let date = |name: &str, value: &str| offline(&scratch).env(name, value).arg("date");
    for proxy in [
        format!("ftp://me:{secret}@host"),
        format!("http://me:{secret}@host:port"),
        format!("http://me:{secret}@"),
    ] {
        assert_fails_silently(date("YT_PROXY", &proxy), "is not an address");
    }
    // Nobody answers there.
    let nobody = format!("http://me:{secret}@127.0.0.1:1");
    assert_fails_silently(date("YT_PROXY", &nobody), "127.0.0.1:1");
    let aliases = format!(r#"{{name="http://me:{secret}@host:port""#);
    assert_fails_silently(date("YT_PROXY_URL_ALIASING_CONFIG", &aliases), "YT_PROXY_URL_ALIASING_CONFIG");
    assert_fails_silently(date("YT_TOKEN", &format!("{secret} and more")), "YT_TOKEN");
    assert_fails_silently(date("YT_TOKEN", &format!(" {secret}")), "whitespace");
    let token = scratch.file("token", format!("{secret}\u{7}"));
    assert_fails_silently(date("YT_TOKEN_PATH", &token.display().to_string()), "token file");
    for config in [
        format!("{{token={secret}; ]"),
        format!("{{token=[{secret}]}}"),
        format!("{{proxy={{url=\"ftp://x:{secret}@h\"}}}}"),
    ] {
        scratch.file("home/.yt/config", config.clone());
        let launcher = Launcher::new(&scratch).args(["--docker-image", "i:1", "date"]);
        let finished = loud(launcher).run();
        assert_ne!(finished.code(), 0, "{config}: {}", finished.show());
        canaries.assert_none_in(&config, finished.output());
    }
}

/// What of Cypress should hold a secret and holds it in a wrong form.
#[test]
fn errors_about_secrets_in_cypress_show_no_secret() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    let canaries = canary();
    let secret = canaries.value("secret");
    cluster.create("document", "//s", &json!({}));
    for document in [
        json!({ "secrets": { "password": { "value": secret } } }),
        json!({ "password": secret }),
        json!([secret]),
        json!(secret),
        json!({ "secrets": { "auth": secret } }),
    ] {
        cluster.set("//s", &document);
        let launcher =
            Launcher::submit(&scratch, &cluster).args(["--docker-auth-secret.cypress-path", "//s", "date"]);
        assert_fails_silently(launcher, "docker_auth_secret");
    }
    for document in [json!([secret]), json!({ "value": secret }), json!(format!("{secret}\0"))] {
        cluster.set("//s", &document);
        let env = json!({ "name": "FROM_CYPRESS", "cypress_path": "//s" }).to_string();
        let launcher = Launcher::submit(&scratch, &cluster).args(["--proxy-stderr-mode", "primary"]);
        assert_fails_silently(launcher.args(["--env", &env, "date"]), "FROM_CYPRESS");
    }
}

/// Answers that are errors: every command tells them, and none tells what was sent.
#[test]
fn errors_of_the_cluster_show_no_token() {
    let scratch = Scratch::new();
    let canaries = canary();
    let cluster = Cluster::start_with_control(&scratch);
    let commands: [&[&str]; 8] = [
        &["--docker-image", "i:1", "true"],
        &["--local", "date"],
        &["status", "//tmp/run"],
        &["list"],
        &["logs", "//tmp/run"],
        &["attach", "//tmp/run"],
        &["stop", "//tmp/run"],
        &["targets", "//tmp/run"],
    ];
    let launcher = || {
        let launcher = Launcher::new(&scratch).env("YT_PROXY", cluster.proxy());
        launcher.env("YT_TOKEN", canaries.value("secret"))
    };
    let error = json!({"code": 1, "message": "no"});
    for effect in
        [json!("refuse_token"), json!({"answer": {"error": error}}), json!({"answer": {"status": 403}})]
    {
        let fault = cluster.plan(&json!({"times": "always", "effect": effect}));
        let mut struck = 0;
        for command in commands {
            let finished = loud(launcher()).args(command.to_vec()).run();
            assert_ne!(finished.code(), 0, "{}", finished.show());
            canaries.assert_none_in(&format!("{command:?} after {effect}"), finished.output());
            let struck_now = cluster.struck(fault);
            assert!(struck_now > struck, "it did not come to the cluster: {}", finished.show());
            struck = struck_now;
        }
        cluster.control("DELETE", "/faults", &Value::Null);
    }
}

/// The cluster's own answer to a token that is not the right one.
#[test]
fn wrong_token_is_not_echoed() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, "the-right-one");
    let launcher = Launcher::submit(&scratch, &cluster).env("YT_TOKEN", canary().value("secret")).arg("true");
    assert_fails_silently(launcher, "token");
}
