//! Specs are compared by value, as the cluster reads them.

use serde_json::json;
use tractorun_contract::job_spec::{EnvVar, Logs, Preemption, RestartPolicy, Restarts, Sidecar, Timeouts};
use tractorun_contract::placement::{GpuVisibility, Placement};
use tractorun_yt::value::to_json;

use crate::pack::IgnoreFiles;
use crate::settings::{
    BindCypress, BindLocal, Mesh as MeshSettings, ProxyStderrMode, Resources, RunMode, Tensorproxy, Wait,
};

use super::*;

fn settings() -> Settings {
    Settings {
        yt_path: "//tmp/run".into(),
        title: "My run".into(),
        docker_image: Some("image:1".into()),
        init: InitSource::Bring,
        command: vec!["python3".into(), "x.py".into()],
        mesh: MeshSettings {
            node_count: 3,
            process_per_node: 2,
            gpu_per_process: 4,
            placement: Placement { gpu_visibility: GpuVisibility::Own, ..Placement::default() },
            pool_trees: vec!["gpu".into()],
            pool: Some("research".into()),
        },
        env: vec![serde_json::from_value::<EnvVar>(json!({"name": "A", "value": "1"})).unwrap()],
        sidecars: vec![Sidecar { command: vec!["vector".into()], restart_policy: RestartPolicy::Fail }],
        tensorproxy: None,
        resources: Resources { cpu_limit: Some(1.5), memory_limit_bytes: Some(1 << 30) },
        restarts: Restarts { max: 2, ..Restarts::default() },
        preemption: Preemption::default(),
        timeouts: Timeouts::default(),
        user_config: json!({"a": "b"}).as_object().cloned(),
        bind_local: vec![BindLocal { source: "./x.py".into(), destination: "/x.py".into() }],
        bind_local_lib: vec!["libs/mylib".into()],
        bind_ignore: IgnoreFiles::Git,
        bind_cypress: vec![BindCypress {
            source: "//home/data".into(),
            destination: "data".into(),
            attributes: BindAttributes::default(),
        }],
        proxy_stderr_mode: ProxyStderrMode::Disabled,
        logs: Logs::default(),
        wait: Wait::ForEnd,
        transaction_timeout: crate::settings::DEFAULT_TRANSACTION_TIMEOUT,
        run_mode: RunMode::Submit,
        place: Place::Cluster,
        docker_auth_secret: None,
        cluster_config_path: "//home/tractorun/config".into(),
        yt_operation_spec: Map::new(),
        yt_task_spec: Map::new(),
    }
}

fn file(name: &str, executable: Option<bool>) -> SandboxFile {
    SandboxFile {
        name: name.into(),
        path: format!("//cache/{name}"),
        attributes: BindAttributes { executable, ..BindAttributes::default() },
    }
}

fn built(settings: &Settings) -> OperationSpec {
    let files = [file("tractorun-init", Some(true)), file("job-spec.json", None)];
    let mut vault = Vault::default();
    vault.insert_yt_token("t0ken");
    operation_spec(settings, &files, &Links::default(), vault).unwrap()
}

#[test]
fn the_job_spec_holds_what_init_needs() {
    let cypress = [CypressFile {
        path: "//home/data/x".into(),
        destination: "data/x".into(),
        attributes: BindAttributes::default(),
    }];
    let spec = job_spec(&settings(), "http://h:1", &cypress, Links::default());
    assert_eq!(spec.cluster.proxy, "http://h:1");
    assert_eq!(spec.placement.gpu_visibility, GpuVisibility::Own);
    assert_eq!(spec.mesh, Mesh { node_count: 3, process_per_node: 2, gpu_per_process: 4 });
    assert_eq!(
        spec.binds,
        [Bind { archive: "bind-0.tar.zst".into(), destination: "/x.py".into(), parts: PartCount::ONE }]
    );
    assert_eq!(
        spec.libs,
        [Lib { archive: "lib-0.tar.zst".into(), name: "mylib".into(), parts: PartCount::ONE }]
    );
    assert_eq!(spec.cypress_binds, [CypressBind { file: "cypress-0".into(), destination: "data/x".into() }]);
    assert_eq!(spec.line_prefix, LinePrefix::Auto);
    assert_eq!(spec.sidecars, settings().sidecars);
    assert_eq!(spec.restarts, settings().restarts);
    assert_eq!(spec.preemption, Some(settings().preemption));
    assert_eq!(JobSpec::parse(&spec.to_json()).unwrap(), spec);
}

#[test]
fn a_tensorproxy_has_two_more_ports_and_its_program_in_the_sandbox() {
    let mut settings = settings();
    let port_count = |settings: &Settings| {
        let port_count = built(settings).open.at(&["tasks", "task", "port_count"]).and_then(ValueExt::as_int);
        let spec = job_spec(settings, "", &[], Links::default());
        assert_eq!(port_count, Some(i64::from(spec.port_count())), "launcher and init agree");
        port_count
    };
    assert_eq!(port_count(&settings), Some(4));
    assert_eq!(cypress_files(&settings, &[]), []);
    settings.tensorproxy =
        Some(Tensorproxy { yt_path: "//tmp/proxy".into(), restart_policy: RestartPolicy::Never });
    assert_eq!(port_count(&settings), Some(6));
    let tensorproxy = job_spec(&settings, "", &[], Links::default()).tensorproxy.unwrap();
    assert_eq!(tensorproxy.restart_policy, RestartPolicy::Never);
    let [file] = &cypress_files(&settings, &[])[..] else { panic!("one file") };
    assert_eq!((&file.name, file.path.as_str()), (&tensorproxy.file, "//tmp/proxy"));
    assert_eq!(file.attributes.executable, Some(true));
}

#[test]
fn nodes_that_share_a_terminal_prefix_their_lines() {
    let mut settings = settings();
    settings.place = Place::Local;
    assert_eq!(job_spec(&settings, "", &[], Links::default()).line_prefix, LinePrefix::Rank);
    assert_eq!(
        job_spec(&settings, "", &[], Links::default()).preemption,
        None,
        "nobody takes this machine away"
    );
    settings.mesh.node_count = 1;
    assert_eq!(job_spec(&settings, "", &[], Links::default()).line_prefix, LinePrefix::Auto);
}

#[test]
fn an_init_of_the_image_is_executed_where_it_is_and_missed_with_a_hint() {
    let settings = Settings { init: InitSource::Image, ..settings() };
    let spec = built(&settings).open;
    let command = spec.at(&["tasks", "task", "command"]).unwrap().as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let bash = |path: &std::path::Path| {
        // As a job runs it.
        std::process::Command::new("/bin/bash")
            .args(["-c", &format!(":; {command}")])
            .env_clear()
            .env("PATH", path)
            .output()
            .unwrap()
    };
    if !std::path::Path::new("/usr/local/bin/tractorun-init").exists() {
        let missing = bash(folder.path());
        assert_eq!(missing.status.code(), Some(64));
        let expected = "tractorun: init: the image has no tractorun-init, neither on PATH nor in /usr/local/bin\n\
                        hint: build one into the image, or leave out `--init image`: the launcher brings its own\n";
        assert_eq!(String::from_utf8(missing.stderr).unwrap(), expected);
    }
    std::os::unix::fs::symlink("/bin/pwd", folder.path().join("tractorun-init")).unwrap();
    let found = bash(folder.path());
    assert_eq!((found.status.code(), found.stderr.len()), (Some(0), 0));
}

#[test]
fn the_operation_is_one_task_with_a_port_more_than_workers() {
    let spec = built(&settings()).open;
    let task = spec.at(&["tasks", "task"]).unwrap();
    let number = |key: &str| task.get(key).and_then(ValueExt::as_int);
    assert_eq!(task.get("command").unwrap().as_str(), Some("exec ./tractorun-init"));
    assert_eq!(number("job_count"), Some(3));
    assert_eq!(number("port_count"), Some(4));
    assert_eq!(number("gpu_limit"), Some(8));
    assert_eq!(number("memory_limit"), Some(1 << 30));
    // A preemption is announced, to init alone.
    assert_eq!(task.get("interruption_signal").unwrap().as_str(), Some("SIGTERM"));
    assert_eq!(task.get("signal_root_process_only").and_then(ValueExt::as_bool), Some(true));
    assert_eq!(task.get("cpu_limit").and_then(ValueExt::as_double), Some(1.5));
    assert_eq!(task.get("docker_image").unwrap().as_str(), Some("image:1"));
    assert_eq!(
        to_json(task.get("environment").unwrap()).unwrap(),
        json!({
            "TRACTORUN_JOB_SPEC": "job-spec.json",
            "YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB": "1",
            "YT_USER_CONFIG": "{\"a\":\"b\"}",
            "PYTHONDONTWRITEBYTECODE": "1",
        })
    );
    let paths = task.get("file_paths").and_then(ValueExt::as_list).unwrap();
    assert_eq!(paths[0].as_str(), Some("//cache/tractorun-init"));
    assert_eq!(paths[0].attr("file_name").unwrap().as_str(), Some("tractorun-init"));
    assert_eq!(paths[0].attr("executable").and_then(ValueExt::as_bool), Some(true));
    assert!(paths[1].attr("executable").is_none());

    assert_eq!(spec.get("title").unwrap().as_str(), Some("My run"));
    assert_eq!(spec.get("pool").unwrap().as_str(), Some("research"));
    assert_eq!(to_json(spec.get("pool_trees").unwrap()).unwrap(), json!(["gpu"]));
    for flag in ["fail_on_job_restart", "is_gang"] {
        assert_eq!(spec.get(flag).and_then(ValueExt::as_bool), Some(true), "{flag}");
    }
    assert_eq!(spec.get("max_stderr_count").and_then(ValueExt::as_int), Some(150));
    assert_eq!(spec.at(&["annotations", "is_tractorun"]).and_then(ValueExt::as_bool), Some(true));
}

#[test]
fn limits_that_were_not_given_are_left_to_the_cluster() {
    let mut settings = settings();
    settings.resources = Resources::default();
    settings.mesh.pool = None;
    settings.mesh.pool_trees = Vec::new();
    let spec = built(&settings).open;
    let task = spec.at(&["tasks", "task"]).unwrap();
    assert!(task.get("cpu_limit").is_none() && task.get("memory_limit").is_none());
    assert!(spec.get("pool").is_none() && spec.get("pool_trees").is_none());
}

#[test]
fn the_users_specs_are_merged_over_ours() {
    let mut settings = settings();
    settings.yt_operation_spec =
        json!({"title": "Theirs", "annotations": {"mine": 1}, "time_limit": 5}).as_object().cloned().unwrap();
    settings.yt_task_spec = json!({
        "environment": {"YT_LOG_LEVEL": "DEBUG"},
        "cpu_limit": 9,
        "file_paths": ["//home/extra"],
    })
    .as_object()
    .cloned()
    .unwrap();
    let spec = built(&settings).open;
    assert_eq!(spec.get("title").unwrap().as_str(), Some("Theirs"));
    assert_eq!(spec.at(&["annotations", "mine"]).and_then(ValueExt::as_int), Some(1));
    assert_eq!(spec.at(&["annotations", "is_tractorun"]).and_then(ValueExt::as_bool), Some(true));
    let task = spec.at(&["tasks", "task"]).unwrap();
    assert_eq!(task.get("cpu_limit").and_then(ValueExt::as_int), Some(9));
    assert_eq!(task.at(&["environment", "YT_LOG_LEVEL"]).unwrap().as_str(), Some("DEBUG"));
    assert!(task.at(&["environment", "TRACTORUN_JOB_SPEC"]).is_some());
    let paths = task.get("file_paths").and_then(ValueExt::as_list).unwrap();
    assert_eq!(paths.len(), 3);
    assert_eq!(paths[2].as_str(), Some("//home/extra"));
}

#[test]
fn secrets_are_in_the_request_and_nowhere_else() {
    let mut settings = settings();
    settings.yt_operation_spec = json!({"secure_vault": {"mine": "t0psecret"}}).as_object().cloned().unwrap();
    let spec = built(&settings);
    assert_eq!(spec.vault.keys().collect::<Vec<_>>(), ["mine", "tractorun_yt_token"]);
    let request = spec.to_yson();
    assert_eq!(request.at(&["secure_vault", "mine"]).unwrap().as_str(), Some("t0psecret"));
    assert_eq!(request.at(&["secure_vault", "tractorun_yt_token"]).unwrap().as_str(), Some("t0ken"));

    let job_spec = job_spec(&settings, "http://h:1", &[], Links::default());
    let document = crate::dry_run::document(json!({}), &spec, &job_spec, None);
    for shown in [format!("{spec:?}"), document.to_string()] {
        assert!(!shown.contains("t0psecret") && !shown.contains("t0ken"), "{shown}");
    }
    assert_eq!(
        document["run_info"]["operation_spec"]["secure_vault"],
        json!({"mine": "***", "tractorun_yt_token": "***"})
    );
    assert_eq!(document["run_info"]["operation_id"], json!(null));
    assert_eq!(document["errors"], json!([]));
}

#[test]
fn a_vault_of_the_wrong_shape_is_refused_without_showing_it() {
    let mut settings = settings();
    settings.yt_operation_spec = json!({"secure_vault": "t0psecret"}).as_object().cloned().unwrap();
    let error = operation_spec(&settings, &[], &Links::default(), Vault::default()).unwrap_err();
    assert_eq!(error.to_string(), "yt_operation_spec: `secure_vault` is not a map");
}

#[test]
fn links_are_made_where_the_cluster_tells_how() {
    let links = Links { cypress_link_template: Some("https://ui/x?path={path}".into()), ..Links::default() };
    let spec = operation_spec(&settings(), &[], &links, Vault::default()).unwrap().open;
    let link = spec.at(&["annotations", "description", "tractorun", "training_dir"]).unwrap();
    assert_eq!(link.as_str(), Some("https://ui/x?path=//tmp/run"));
    assert_eq!(link.attr("_type_tag").unwrap().as_str(), Some("url"));
}
