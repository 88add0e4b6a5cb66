//! `tractorun doctor`: what it finds, what it says to do, and that it changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};
use tractorun_tests::{Cluster, Finished, Launcher, Scratch, binaries};

const TOKEN: &str = "t0ken-of-alice";

struct Bench {
    cluster: Cluster,
    scratch: Scratch,
}

/// A cluster with one user, whose token is known.
fn bench() -> Bench {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_token(&scratch, TOKEN);
    Bench { cluster, scratch }
}

impl Bench {
    fn doctor(&self) -> Launcher {
        doctor(&self.scratch).env("YT_PROXY", self.cluster.proxy()).env("YT_TOKEN", TOKEN)
    }

    fn examine(&self, options: &[&str]) -> Finished {
        self.doctor().args(["--docker-image", "i:1"]).args(options.to_vec()).run()
    }

    /// Nobody but bob may do this there. It is only asked about, never enforced.
    fn close(&self, path: &str, node_type: &str) {
        if !self.cluster.exists(path) {
            self.cluster.create(node_type, path, &json!({}));
        }
        let acl = json!([{"action": "allow", "subjects": ["bob"], "permissions": ["read", "write", "use"]}]);
        self.cluster.set(&format!("{path}/@acl"), &acl);
        self.cluster.set(&format!("{path}/@inherit_acl"), &json!(false));
    }
}

fn doctor(scratch: &Scratch) -> Launcher {
    Launcher::new(scratch).env("TRACTORUN_INIT", binaries::init()).arg("doctor")
}

#[track_caller]
fn json_of(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).expect("stdout is JSON")
}

#[test]
fn where_a_run_would_start_it_says_so_and_has_touched_nothing() {
    let bench = bench();
    bench.scratch.file("code/train.py", "pass\n");
    bench.cluster.create("document", "//home/config", &json!({}));
    bench.cluster.create("document", "//home/auth", &json!({}));
    bench.cluster.set("//home/auth", &json!({"secrets": {"auth": {"value": "c4nary"}}}));
    bench.cluster.set("//home/key", &json!("c4nary"));
    let options = [
        "--yt-path",
        "//home/me/run",
        "--bind-local",
        "code:code",
        "--cluster-config-path",
        "//home/config",
        "--docker-auth-secret.cypress-path",
        "//home/auth",
        "--env",
        r#"{"name": "KEY", "cypress_path": "//home/key"}"#,
    ];
    let finished = bench.examine(&options);
    finished.assert_code(0).assert_stdout("a run would start\n");
    assert_eq!(finished.stderr, "");
    assert!(finished.stdout.is_ascii(), "{}", finished.stdout);
    for (name, text) in [
        ("configuration", "the options are understood"),
        ("proxy", bench.cluster.proxy().as_str()),
        ("token", "from YT_TOKEN, of user `alice`"),
        ("clock", "agree to the second"),
        ("directory", "`//home/me/run` can be made: `//home` can be written to"),
        ("file cache", "can be made: `//tmp` can be written to"),
        ("uploads", "which answers"),
        ("cluster config", "`//home/config` can be read"),
        ("docker auth", "`//home/auth` can be read and holds credentials"),
        ("env", "KEY: `//home/key` can be read"),
        ("init", "job spec 1.0"),
        ("image", "`i:1`"),
        ("bind_local", "`code`: 1 file, 5 B"),
        ("disk", "free for archives of at most 5 B"),
    ] {
        let line = finished.stdout.lines().find(|line| line.starts_with(&format!("ok   {name:<16}")));
        assert!(line.is_some_and(|line| line.contains(text)), "no `{text}` of {name} in {}", finished.show());
    }
    assert!(!finished.output().contains(TOKEN) && !finished.output().contains("c4nary"));
    for path in ["//home/me", "//tmp/yt_wrapper", "//tmp/tractorun"] {
        assert!(!bench.cluster.exists(path), "{path} was made");
    }

    let report = json_of(&bench.examine(&[&["--json"], &options[..]].concat()));
    assert_eq!(report["ok"], true);
    let checks = report["checks"].as_array().expect("a list");
    assert!(checks.iter().all(|check| check["status"] == "ok" && check["hint"] == Value::Null), "{report:#}");
    // The command is the user's, whatever it is given.
    bench.examine(&["python3", "x.py", "--json"]).assert_code(0).assert_stdout("a run would start\n");
}

#[test]
fn a_token_is_told_by_its_place_and_not_by_its_value() {
    let bench = bench();
    let without =
        doctor(&bench.scratch).env("YT_PROXY", bench.cluster.proxy()).args(["--docker-image", "i:1"]);
    let finished = without.run();
    finished.assert_code(1).assert_stdout("FAIL token           there is none, and the cluster wants one");
    finished.assert_stdout("hint: put a valid token into YT_TOKEN or into ~/.yt/token");
    finished.assert_stdout("skip cluster").assert_stdout("ok   init").assert_stdout("1 problem\n");

    let path = bench.scratch.file("home/.yt/token", "s3cret-but-wrong\n");
    let finished = doctor(&bench.scratch).env("YT_PROXY", bench.cluster.proxy()).arg("--json").run();
    finished.assert_code(1).assert_stdout("the cluster does not accept it");
    finished.assert_stdout(&format!("from token file `{}`", path.display()));
    assert!(!finished.output().contains("s3cret"));
}

#[test]
fn a_proxy_that_is_away_is_told_by_each_of_its_addresses() {
    let scratch = Scratch::new();
    let examine = |proxy: &str| doctor(&scratch).env("YT_PROXY", proxy).args(["--docker-image", "i:1"]).run();
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let finished = examine(&format!("127.0.0.1:{port}"));
    finished.assert_code(1).assert_stdout("cannot be reached: 127.0.0.1: connection refused");
    finished.assert_stdout("hint: check YT_PROXY").assert_stdout("skip cluster").assert_stdout("ok   init");
    examine("no-such-host.invalid").assert_code(1).assert_stdout("its name does not resolve: ");
    // Nobody is named at all.
    let finished = doctor(&scratch).run();
    finished.assert_code(1).assert_stdout("no YT proxy is given").assert_stdout("hint: set YT_PROXY");
}

/// It listens and never answers: connections wait in the kernel.
#[test]
fn a_silent_proxy_is_not_waited_for() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = listener.local_addr().expect("it has an address").to_string();
    let finished = doctor(&scratch).env("YT_PROXY", proxy).run();
    finished
        .assert_code(1)
        .assert_stdout("does not serve: 127.0.0.1: it takes connections and does not answer");
    drop(listener);
}

#[test]
fn a_proxy_that_does_not_serve_and_an_api_that_fails_are_told_apart() {
    let scratch = Scratch::new();
    let cluster = Cluster::start_with_control(&scratch);
    let examine = || doctor(&scratch).env("YT_PROXY", cluster.proxy()).args(["--docker-image", "i:1"]).run();
    let effect = json!({"answer": {"status": 503}});
    let fault = cluster.plan(&json!({"match": {"command": "/api"}, "times": "always", "effect": effect}));
    examine().assert_code(1).assert_stdout("does not serve: 127.0.0.1: HTTP status 503 Service Unavailable");
    cluster.control("DELETE", &format!("/faults/{fault}"), &Value::Null);

    let effect = json!({"answer": {"status": 400, "error": {"code": 901, "message": "Access denied"}}});
    let matcher = json!({"command": "get_file_from_cache"});
    cluster.plan(&json!({"match": matcher, "times": "always", "effect": effect}));
    let finished = examine();
    finished.assert_code(1).assert_stdout("FAIL file cache").assert_stdout("does not answer: Access denied");
    finished
        .assert_stdout("ok   directory")
        .assert_stdout("ok   token           there is none; the cluster wants none");
}

/// A server that answers every request as a proxy of the year 2000 would.
#[test]
fn clocks_that_differ_are_told_with_the_seconds() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = listener.local_addr().expect("it has an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let body = r#"["v3","v4"]"#;
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let finished = doctor(&scratch).env("YT_PROXY", proxy).run();
    finished.assert_code(1).assert_stdout("FAIL clock           this machine's clock is ");
    finished.assert_stdout(" s ahead of the cluster's").assert_stdout("hint: set this machine's clock");
}

#[test]
fn what_this_user_may_not_is_told_by_path() {
    let bench = bench();
    bench.close("//home/bob", "map_node");
    bench.close("//home/bobs_file", "file");
    bench.close("//home/bobs_key", "document");
    bench.close("//home/bobs_config", "document");
    bench.cluster.create("map_node", "//sys/pool_trees/gpu/research", &json!({}));
    bench.close("//sys/pool_trees/gpu/research/nlp", "map_node");
    bench.cluster.create("document", "//home/key", &json!({"value": {"deep": 1}}));
    let variable = |name: &str, path: &str| json!({"name": name, "cypress_path": path}).to_string();
    let finished = bench.examine(&[
        "--yt-path",
        "//home/bob/run",
        "--bind-cypress",
        "//home/bobs_file:x",
        "--bind-cypress",
        "//home/nothing:y",
        "--env",
        &variable("KEY", "//home/bobs_key"),
        "--env",
        &variable("DEEP", "//home/key"),
        "--docker-auth-secret.cypress-path",
        "//home/nobody",
        "--cluster-config-path",
        "//home/bobs_config",
        "--mesh.pool-trees",
        "gpu",
        "--mesh.pool-trees",
        "tpu",
        "--mesh.pool",
        "nlp",
        "--tensorproxy.enabled",
    ]);
    finished.assert_code(1);
    for text in [
        "FAIL directory       `alice` may not write `//home/bob`\n",
        "hint: ask whoever owns it for the right to write, or choose another `--yt-path`",
        "warn cluster config  `alice` may not read `//home/bobs_config`, a run goes on without links",
        "FAIL docker auth     `//home/nobody` does not exist",
        "FAIL env             KEY: `alice` may not read `//home/bobs_key`",
        "FAIL env             DEEP: `//home/key` is neither a text nor a number",
        "FAIL bind_cypress    `alice` may not read `//home/bobs_file`",
        "FAIL bind_cypress    `//home/nothing` does not exist",
        "FAIL pool            `alice` may not use `//sys/pool_trees/gpu/research/nlp`",
        "FAIL pool            there is no pool tree `tpu`",
        "FAIL tensorproxy     `//sys/tractorun/tensorproxy` does not exist on the cluster",
        "a run would not start: 9 problems, 1 warning\n",
    ] {
        finished.assert_stdout(text);
    }
}

#[test]
fn an_account_that_is_full_is_told() {
    let bench = bench();
    let violated = json!({"violated_resource_limits": {"disk_space": true, "node_count": false}});
    let account = bench.cluster.get("//home/@account");
    let account = account.as_str().expect("an account has a name");
    bench.cluster.create("map_node", &format!("//sys/accounts/{account}"), &violated);
    let finished = bench.examine(&["--yt-path", "//home/team/run"]);
    let text = format!("the account `{account}`, which pays for `//home`, is over its limit of disk_space");
    finished.assert_code(1).assert_stdout(&text);
    bench.cluster.create("table", "//home/table", &json!({}));
    bench
        .examine(&["--yt-path", "//home/table"])
        .assert_code(1)
        .assert_stdout("`//home/table` is a table, not a directory");
    bench.close(&format!("//sys/accounts/{account}"), "map_node");
    let text = format!("`alice` may not use the account `{account}`, which pays for `//home`");
    bench.examine(&["--yt-path", "//home/run"]).assert_code(1).assert_stdout(&text);
}

#[test]
fn mistakes_in_the_configuration_do_not_hide_the_rest() {
    let bench = bench();
    bench.scratch.file("job.yaml", "docker_image: i:1\nmesh:\n  node_conut: 2\n");
    let finished = bench.doctor().args(["--run-config-path", "job.yaml", "--bind-local", "nowhere:x"]).run();
    finished.assert_code(1);
    finished.assert_stdout("FAIL configuration   job.yaml:3:3: unknown key `mesh.node_conut`");
    finished.assert_stdout("FAIL configuration   `--bind-local`: cannot read `nowhere`");
    finished.assert_stdout("ok   token").assert_stdout("ok   init");

    bench.scratch.file("job.yaml", "docker_image: i:1\n");
    let finished = bench.doctor().args(["--run-config-path", "job.yaml"]).run();
    finished.assert_code(0).assert_stdout("the file and the options are understood");
    bench.doctor().run().assert_code(1).assert_stdout("FAIL image           no Docker image for the job\n");
}

/// Beside the launcher there is nothing, and nothing on the way.
#[test]
fn programs_that_are_missing_or_unfit_are_told() {
    let scratch = Scratch::new();
    let alone = scratch.path("bin/tractorun");
    fs::create_dir_all(scratch.path("bin")).expect("a folder can be made");
    if fs::hard_link(binaries::tractorun(), &alone).is_err() {
        fs::copy(binaries::tractorun(), &alone).expect("the program can be copied");
    }
    let examine = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = std::process::Command::new(&alone);
        command.env_clear().env("HOME", scratch.path("home")).envs(variables.iter().copied());
        tractorun_tests::run(command.arg("doctor").args(words))
    };
    let finished = examine(&[], &["--local"]);
    finished.assert_code(1).assert_stdout("FAIL init            cannot find `tractorun-init`");
    finished.assert_stdout("FAIL minicluster     cannot find `tractorun-minicluster`");
    finished.assert_stdout("hint: put it beside `tractorun`, or set TRACTORUN_INIT to its path");
    let script = scratch.text("script");
    scratch.file("script", "#!/bin/sh\n");
    let finished = examine(&[("TRACTORUN_INIT", &script)], &[]);
    finished.assert_code(1).assert_stdout("cannot run in a job: it is not a Linux program (ELF)");
    let other = "/bin/sh";
    examine(&[("TRACTORUN_INIT", other)], &[]).assert_code(1).assert_stdout("it is dynamically linked");
}

#[test]
fn a_local_run_needs_no_cluster() {
    let scratch = Scratch::new();
    let finished = Launcher::new(&scratch).args(["doctor", "--local"]).run();
    finished.assert_code(0).assert_stdout("ok   minicluster").assert_stdout("ok   init");
    assert!(!finished.stdout.contains("proxy") && !finished.stdout.contains("image"), "{}", finished.show());
}

#[test]
fn it_is_a_command_in_first_place_only() {
    let scratch = Scratch::new();
    let words = ["--docker-image", "i:1", "--dry-run", "doctor", "--json"];
    Launcher::new(&scratch).args(words).run().assert_code(0).assert_stdout(r#""doctor""#);
    Launcher::new(&scratch).args(["doctor", "--help"]).run().assert_code(0).assert_stdout("tractorun doctor");
    Launcher::new(&scratch)
        .args(["doctor", "--jsn"])
        .run()
        .assert_code(1)
        .assert_stdout("unknown option `--jsn`");
}
