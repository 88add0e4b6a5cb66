//! What a job finds: folder, files, environment, ports, secrets, streams, root.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn the_environment_is_made_from_nothing() {
    for cluster in Cluster::each() {
        let fields =
            "environment={A=\"one $HOME\";HOME_COPY=\"$(SandboxPath)/x\";YT_JOB_COOKIE=\"9\"};port_count=2";
        let (state, stderr) = cluster.run("", "env -0 >&2", fields).await;
        assert_eq!(state, "completed");
        let mut variables: BTreeMap<_, _> =
            stderr.split_terminator('\0').map(|line| line.split_once('=').unwrap()).collect();
        let sandbox = variables["PWD"].to_owned();
        // What bash sets by itself.
        for name in ["PWD", "SHLVL", "_"] {
            variables.remove(name);
        }
        for (name, expected) in [
            ("A", "one $HOME"),
            ("HOME", sandbox.as_str()),
            ("TMPDIR", sandbox.as_str()),
            ("HOME_COPY", format!("{sandbox}/x").as_str()),
            ("SHELL", "/bin/bash"),
            ("YT_FIRST_OUTPUT_TABLE_FD", "1"),
            ("YT_JOB_COOKIE", "0"),
            ("YT_JOB_INDEX", "0"),
            ("YT_NODE_HOST", "localhost"),
            ("YT_POOL_TREE", "default"),
            ("YT_TASK_JOB_INDEX", "0"),
        ] {
            assert_eq!(variables.remove(name), Some(expected), "{name}");
        }
        let rest: Vec<_> = variables.keys().copied().collect();
        assert_eq!(rest, ["YT_JOB_ID", "YT_OPERATION_ID", "YT_PORT_0", "YT_PORT_1"]);
    }
}

#[tokio::test]
async fn secrets_reach_the_job_and_no_view() {
    let cluster = Cluster::new();
    let vault = "secure_vault={token=\"hush hush\";number=5;flag=%true;nothing=#;more={a=1}}";
    let command = "echo \"$YT_SECURE_VAULT_token|$YT_SECURE_VAULT_number|$YT_SECURE_VAULT_flag|${YT_SECURE_VAULT_nothing-unset}|$YT_SECURE_VAULT_more\" >&2; echo \"$YT_SECURE_VAULT\" >&2";
    let id = cluster.start(vault, command, "");
    assert_eq!(cluster.wait(id).await, "completed");
    let stderr = cluster.stderr(id, &cluster.jobs(id)[0]);
    let (line, whole) = stderr.split_once('\n').unwrap();
    assert_eq!(line, "hush hush|5|true|unset|{a=1}");
    let whole = yson::parse(whole.as_bytes()).unwrap();
    assert_eq!(whole["token"].as_str(), Some("hush hush"));

    let list = cluster
        .operations
        .list_operations(&map("{attributes=[spec;full_spec;provided_spec;brief_spec]}"))
        .unwrap();
    let views = [cluster.get(id), list, cluster.operations.list_jobs(&by_id(id)).unwrap()];
    for view in views {
        let shown = String::from_utf8(yson::to_text(&view).unwrap()).unwrap();
        assert!(!shown.contains("hush") && !shown.contains("secure_vault"), "{shown}");
    }
    assert!(!format!("{:?}", cluster.operations.lock().operations[&id]).contains("hush"));
}

#[tokio::test]
async fn files_come_with_their_names_and_modes() {
    for cluster in Cluster::each() {
        cluster.add_file("//tmp/plain.txt", b"plain");
        cluster.add_file("//tmp/cached/0123", b"#!/bin/sh\necho from the script\n");
        let files = "file_paths=[\"//tmp/plain.txt\";<file_name=\"bin/run.sh\";executable=%true>\"//tmp/cached/0123\";\
                     \"<file_name=again;executable=%true>//tmp/plain.txt\"]";
        let command =
            "{ cat plain.txt; echo; ./bin/run.sh; stat -c '%n %a' plain.txt bin/run.sh again; ls; } >&2";
        let expected =
            "plain\nfrom the script\nplain.txt 444\nbin/run.sh 555\nagain 555\nagain\nbin\nplain.txt\n";
        assert_eq!(cluster.run("", command, files).await, ("completed".into(), expected.into()));

        let copied = format!("{files};copy_files=%true");
        let (_, stderr) =
            cluster.run("", "stat -c %a plain.txt bin/run.sh >&2; echo more >>plain.txt", &copied).await;
        assert_eq!(stderr, "644\n755\n");
        // A job's own copy: the next one gets the file as it was.
        let (_, stderr) = cluster.run("", "cat plain.txt >&2", files).await;
        assert_eq!(stderr, "plain");
    }
}

#[tokio::test]
async fn files_that_cannot_be_had_fail_the_preparation() {
    let cluster = Cluster::new();
    cluster.add_file("//tmp/a", b"");
    for (files, cause) in [
        ("[\"//tmp/missing\"]", "500 Error resolving path //tmp/missing"),
        ("[\"//tmp/a\";<file_name=a>\"//tmp/a\"]", "1 Two files of task \"t\" have the name `a`"),
    ] {
        let id = cluster.start("", "exit 0", &format!("file_paths={files}"));
        assert_eq!(cluster.wait(id).await, "failed");
        assert_eq!(tree(&cluster.error(id)), format!("216 Operation has failed to prepare > {cause}"));
        assert!(cluster.jobs(id).is_empty());
    }
}

#[tokio::test]
async fn ports_are_the_jobs_own_and_free() {
    for cluster in Cluster::each() {
        let listen = "exec /usr/bin/python3 -c 'import os, socket\nfor n in range(3): s = socket.socket(socket.AF_INET6); \
                      s.bind((\"::\", int(os.environ[f\"YT_PORT_{n}\"]))); s.listen(); print(s.getsockname()[1], file=2 and __import__(\"sys\").stderr); globals()[f\"s{n}\"] = s'";
        let id = cluster.start("max_failed_job_count=1", listen, "job_count=2;port_count=3");
        assert_eq!(cluster.wait(id).await, "completed", "{}", tree(&cluster.error(id)));
        let mut ports = BTreeSet::new();
        for job in cluster.jobs(id) {
            ports.extend(cluster.stderr(id, &job).lines().map(str::to_owned));
        }
        assert_eq!(ports.len(), 6, "{ports:?}");
    }
}

#[tokio::test]
async fn stdout_is_discarded_unless_it_is_asked_for() {
    for cluster in Cluster::each() {
        let command = "echo out; echo err >&2; cat";
        assert_eq!(cluster.run("", command, "").await, ("completed".into(), "err\n".into()));
        let (_, stderr) = cluster.run("", command, "redirect_stdout_to_stderr=%true").await;
        assert_eq!(stderr, "out\nerr\n");
    }
}

#[tokio::test]
async fn of_a_long_stderr_head_and_tail_are_kept() {
    let cluster = Cluster::new();
    let id = cluster.start("", "seq 1 200000 >&2; echo last >&2", "max_stderr_size=100");
    cluster.wait(id).await;
    let stderr = cluster.stderr(id, &cluster.jobs(id)[0]);
    assert!(stderr.starts_with("1\n2\n3\n") && stderr.ends_with("200000\nlast\n"), "{stderr}");
    assert!(stderr.contains("\n...skipped...\n"));
    assert_eq!(stderr.len(), 100 + "\n...skipped...\n".len());
}

#[tokio::test]
async fn stderr_can_be_read_while_the_job_runs_and_in_parts() {
    let cluster = Cluster::new();
    let (ready, go) = (cluster.pipe("ready"), cluster.pipe("go"));
    let id = cluster.start(
        "",
        &format!("echo 0123456789 >&2; echo >{}; read <{}; echo end >&2", ready.path(), go.path()),
        "",
    );
    ready.read().await;
    eventually(|| text(&cluster.jobs(id)[0], "state") == "running").await;
    let job = cluster.jobs(id)[0].clone();
    eventually(|| cluster.stderr(id, &job) == "0123456789\n").await;
    let part = |range: &str| {
        let parameters = with(id, &format!("job_id=\"{}\";{range}", text(&job, "id")));
        String::from_utf8(cluster.operations.job_stderr(&parameters).unwrap().to_vec()).unwrap()
    };
    assert_eq!(part("offset=8"), "89\n");
    assert_eq!(part("offset=2;limit=3"), "234");
    assert_eq!(part("limit=2"), "01");
    assert_eq!(part("offset=100"), "");
    go.write("\n").await;
    cluster.wait(id).await;
    assert_eq!(part("offset=11"), "end\n");
    let job = &cluster.jobs(id)[0];
    assert_eq!(job["stderr_size"].as_i64(), Some(15));
}

#[tokio::test]
async fn only_so_many_stderrs_are_kept() {
    let cluster = Cluster::new();
    let id = cluster.start("max_stderr_count=2;max_failed_job_count=3", "echo x >&2; exit 1", "");
    cluster.wait(id).await;
    let jobs = cluster.jobs(id);
    let kept: Vec<_> = jobs.iter().map(|job| value::get(job, "stderr_size").is_some()).collect();
    assert_eq!(kept, [true, true, false]);
    let parameters = with(id, &format!("job_id=\"{}\"", text(&jobs[2], "id")));
    let error = cluster.operations.job_stderr(&parameters).unwrap_err();
    assert!(error.code == 203 && error.message.contains("max_stderr_count"), "{error}");
}

#[tokio::test]
async fn a_private_root_takes_writes_that_the_machine_does_not_see() {
    let cluster = Cluster::new();
    if !matches!(cluster.operations.isolation, Isolation::PrivateRoot(_)) {
        // Nothing to look at on a machine that gives jobs its own root; a line at start says so.
        return;
    }
    let name = format!("operations-{}.py", Guid::random_untyped());
    let command = format!(
        "set -e; echo 1 > /{name}; mkdir -p /opt/{name}; cat /{name} >&2; pwd >&2; ls /slot >&2; \
         [ $(ls -d /proc/[0-9]* | wc -l) -lt 8 ]; echo kept > {}",
        cluster.path("kept").display()
    );
    let (state, stderr) = cluster.run("max_failed_job_count=1", &command, "").await;
    assert_eq!(state, "completed", "{stderr}");
    assert!(stderr.starts_with("1\n/slot/sandbox\n") && stderr.contains("sandbox\n"), "{stderr}");
    assert!(!exists(Path::new("/").join(&name)) && !exists(Path::new("/opt").join(&name)));
    assert_eq!(fs::read_to_string(cluster.path("kept")).unwrap(), "kept\n");
    assert_eq!(fs::metadata("/").unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn the_folder_of_a_job_goes_with_it() {
    for cluster in Cluster::each() {
        let id = cluster.start("", "mkdir -p a/b; touch a/b/c; chmod 500 a a/b", "job_count=2");
        assert_eq!(cluster.wait(id).await, "completed");
        cluster.operations.shutdown().await;
        assert_eq!(fs::read_dir(cluster.path("slots")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn several_tasks_run_side_by_side() {
    let cluster = Cluster::new();
    let spec = "{tasks={a={command=\"echo a$YT_TASK_JOB_INDEX >&2\";job_count=2};b={command=\"echo b >&2\";job_count=1}}}";
    let id = cluster.start_with("", spec).unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    let mut lines: Vec<_> =
        cluster.jobs(id).iter().map(|job| (text(job, "task_name"), cluster.stderr(id, job))).collect();
    lines.sort();
    assert_eq!(
        lines,
        [("a".into(), "a0\n".into()), ("a".into(), "a1\n".into()), ("b".into(), "b\n".to_owned())]
    );
}
