//! How jobs and operations end, and that nobody is left.

use super::*;

#[tokio::test]
async fn a_job_that_exits_with_0_completes_its_operation() {
    for cluster in Cluster::each() {
        let id = cluster.start("", "exit 0", "job_count=3");
        assert_eq!(cluster.wait(id).await, "completed");
        let operation = cluster.get(id);
        assert_eq!(tree(&operation["result"]["error"]), "0 ");
        let states: Vec<_> =
            value::as_list(&operation["events"]).unwrap().iter().map(|event| text(event, "state")).collect();
        assert_eq!(
            states,
            [
                "starting",
                "waiting_for_agent",
                "initializing",
                "preparing",
                "pending",
                "materializing",
                "running",
                "completing",
                "completed"
            ]
        );
        let jobs = &operation["brief_progress"]["jobs"];
        for (name, number) in [
            ("total", 3),
            ("completed", 3),
            ("running", 0),
            ("pending", 0),
            ("failed", 0),
            ("aborted", 0),
            ("lost", 0),
        ] {
            assert_eq!(jobs[name].as_i64(), Some(number), "{name}");
        }
        for moment in ["start_time", "finish_time"] {
            let moment = text(&operation, moment);
            assert_eq!(
                (moment.len(), &moment[10..11], &moment[19..20], &moment[26..]),
                (27, "T", ".", "Z"),
                "{moment}"
            );
        }
    }
}

#[tokio::test]
async fn an_exit_code_and_a_signal_are_told_as_trees_of_errors() {
    for cluster in Cluster::each() {
        for (command, cause, attribute, number) in [
            ("exit 3", "10000 Process exited with code 3", "exit_code", 3),
            ("exit 255", "10000 Process exited with code 255", "exit_code", 255),
            ("exec kill-9-of-nobody", "10000 Process exited with code 127", "exit_code", 127),
            ("kill -9 $$", "10001 Process terminated by signal 9", "signal", 9),
            ("kill -11 $$", "10001 Process terminated by signal 11", "signal", 11),
        ] {
            let id = cluster.start("max_failed_job_count=1", command, "");
            assert_eq!(cluster.wait(id).await, "failed");
            let error = cluster.error(id);
            assert_eq!(
                tree(&error),
                format!("215 Failed jobs limit exceeded > 1205 User job failed > {cause}")
            );
            let job = &cluster.jobs(id)[0];
            assert_eq!(text(job, "state"), "failed");
            assert_eq!(tree(&job["error"]), format!("1205 User job failed > {cause}"));
            let inner = &value::as_list(&job["error"]["inner_errors"]).unwrap()[0];
            assert_eq!(inner["attributes"][attribute].as_i64(), Some(number));
        }
    }
}

#[tokio::test]
async fn a_failed_job_runs_again_with_its_cookie_and_a_new_id() {
    let cluster = Cluster::new();
    let command =
        "echo $YT_JOB_ID $YT_JOB_COOKIE $YT_JOB_INDEX >&2; [ $YT_JOB_COOKIE = 0 ] && exit 1; exit 0";
    let id = cluster.start("max_failed_job_count=3", command, "job_count=2");
    assert_eq!(cluster.wait(id).await, "failed");
    let jobs = cluster.jobs(id);
    let failed: Vec<_> = jobs.iter().filter(|job| text(job, "state") == "failed").collect();
    assert_eq!(failed.len(), 3);
    let mut ids = BTreeSet::new();
    for job in &failed {
        assert_eq!(job["job_cookie"].as_i64(), Some(0));
        let stderr = cluster.stderr(id, job);
        let words: Vec<_> = stderr.split_whitespace().collect();
        assert_eq!(words[..2], [text(job, "id").as_str(), "0"]);
        ids.insert((words[0].to_owned(), words[2].to_owned()));
    }
    assert_eq!(ids.len(), 3, "ids and numbers of runs differ: {ids:?}");
    assert!(tree(&cluster.error(id)).starts_with("215 "));
}

#[tokio::test]
async fn a_job_that_fails_once_can_complete_later() {
    let cluster = Cluster::new();
    let mark = cluster.path("was-here");
    let id = cluster.start("", &format!("test -e {0} || {{ touch {0}; exit 1; }}", mark.display()), "");
    assert_eq!(cluster.wait(id).await, "completed");
    let states: Vec<_> = cluster.jobs(id).iter().map(|job| text(job, "state")).collect();
    assert_eq!(states, ["failed", "completed"]);
}

#[tokio::test]
async fn with_fail_on_job_restart_the_first_failure_ends_all() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let pipe = cluster.pipe("ready");
        let command = format!(
            "if [ $YT_JOB_COOKIE = 1 ]; then echo >{0}; exec sleep {sleep}; fi; read <{0}; exit 7",
            pipe.path()
        );
        let id = cluster.start("fail_on_job_restart=%true", &command, "job_count=2");
        assert_eq!(cluster.wait(id).await, "failed");
        let error = cluster.error(id);
        assert_eq!(
            tree(&error),
            "210 Job failed; failing operation since \"fail_on_job_restart\" spec option is set > 1205 User job \
             failed > 10000 Process exited with code 7"
        );
        let jobs = cluster.jobs(id);
        let job = |state: &str| jobs.iter().find(|job| text(job, "state") == state).unwrap();
        assert_eq!(error["attributes"]["job_id"].as_str().unwrap(), text(job("failed"), "id"));
        assert_eq!(text(job("aborted"), "abort_reason"), "operation_finished");
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
    }
}

#[tokio::test]
async fn abort_kills_whoever_a_job_has_started() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let pipe = cluster.pipe("ready");
        // The search finds itself too.
        let command = format!(
            "trap '' TERM INT HUP; (setsid bash -c 'sleep {sleep} & sleep {sleep}' & (setsid sleep {sleep} &) ) ; \
             until [ $(grep -lazx {sleep} /proc/[0-9]*/cmdline | wc -l) -ge 4 ]; do :; done; echo >{}; sleep {sleep}",
            pipe.path()
        );
        let id = cluster.start("", &command, "");
        pipe.read().await;
        assert!(processes_with(&sleep).len() >= 3);
        cluster.operations.abort(&with(id, "abort_message=\"no longer needed\""), "alice").await.unwrap();
        // When the answer is there, so is the end.
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
        assert_eq!(cluster.state(id), "aborted");
        assert_eq!(tree(&cluster.error(id)), "1 Operation aborted by user request > 1 no longer needed");
        assert_eq!(text(&cluster.jobs(id)[0], "state"), "aborted");
        let again = cluster.operations.abort(&by_id(id), "alice").await.unwrap_err();
        assert_eq!((again.code, again.message), (200, format!("No such operation {id}")));
    }
}

#[tokio::test]
async fn whom_a_job_leaves_behind_ends_with_it() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let id = cluster.start("", &format!("(setsid sleep {sleep} &); nohup sleep {sleep} & exit 0"), "");
        assert_eq!(cluster.wait(id).await, "completed");
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
    }
}

#[tokio::test]
async fn nobody_outlives_a_shutdown() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let pipe = cluster.pipe("ready");
        let id =
            cluster.start("", &format!("(setsid sleep {sleep} &); echo >{}; sleep {sleep}", pipe.path()), "");
        pipe.read().await;
        cluster.operations.shutdown().await;
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
        assert_eq!(cluster.state(id), "aborted");
        assert_eq!(fs::read_dir(cluster.path("slots")).unwrap().count(), 0);
        let refused = cluster.start_with("", "{tasks={t={command=x;job_count=1}}}").unwrap_err();
        assert_eq!(refused.message, "Operation aborted: the server is shutting down");
    }
}

#[tokio::test]
async fn nobody_outlives_operations_that_were_dropped() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let pipe = cluster.pipe("ready");
        cluster.start("", &format!("echo >{}; sleep {sleep}", pipe.path()), "");
        pipe.read().await;
        drop(cluster);
        eventually(|| processes_with(&sleep).is_empty()).await;
    }
}

#[tokio::test]
async fn operations_of_a_transaction_end_with_it() {
    let cluster = Cluster::new();
    let transaction = Guid::random(1);
    let parameters = format!("transaction_id=\"{transaction}\"");
    let spec = "{tasks={t={command=\"sleep 86400\";job_count=1}}}";
    let gone = cluster.start_with(&parameters, spec).unwrap_err();
    assert_eq!((gone.code, gone.message), (11000, format!("No such transaction {transaction}")));

    cluster.artifacts.transactions.lock().unwrap().insert(transaction);
    let inside = cluster.start_with(&parameters, spec).unwrap();
    let outside = cluster.start_with("transaction_id=\"0-0-0-0\"", spec).unwrap();
    eventually(|| cluster.state(inside) == "running" && cluster.state(outside) == "running").await;
    cluster.operations.transaction_ended(transaction);
    assert_eq!(cluster.wait(inside).await, "aborted");
    assert_eq!(
        tree(&cluster.error(inside)),
        format!("1 Operation transaction {transaction} has expired or was aborted")
    );
    assert_eq!(cluster.state(outside), "running");
}

#[tokio::test]
async fn a_job_may_run_only_so_long() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let id = cluster.start("max_failed_job_count=1", &format!("sleep {sleep}"), "job_time_limit=1");
        assert_eq!(cluster.wait(id).await, "failed");
        assert_eq!(tree(&cluster.error(id)), "215 Failed jobs limit exceeded > 1202 Job time limit exceeded");
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_operation_may_run_only_so_long() {
    let cluster = Cluster::new();
    let id = cluster.start("time_limit=1", "sleep 86400", "");
    assert_eq!(cluster.wait(id).await, "failed");
    assert_eq!(tree(&cluster.error(id)), "1 Operation is running for too long, aborted");
}

#[tokio::test]
async fn an_aborted_job_runs_again_and_does_not_count_as_failed() {
    let cluster = Cluster::new();
    let pipe = cluster.pipe("ready");
    let id = cluster.start(
        "max_failed_job_count=1",
        &format!("echo $YT_JOB_ID >{}; sleep 86400", pipe.path()),
        "",
    );
    let first = pipe.read().await;
    let parameters = map(&format!("{{job_id=\"{}\"}}", first.trim()));
    cluster.operations.abort_job(&parameters, "alice").unwrap();
    let second = pipe.read().await;
    assert_ne!(first, second);
    let jobs = cluster.jobs(id);
    assert_eq!(
        (text(&jobs[0], "state"), text(&jobs[0], "abort_reason")),
        ("aborted".into(), "user_request".into())
    );
    assert_eq!(jobs[1]["job_cookie"], jobs[0]["job_cookie"]);
    assert_eq!(cluster.state(id), "running");
    let gone = cluster.operations.abort_job(&parameters, "alice").unwrap_err();
    assert_eq!((gone.code, gone.message), (203, format!("No such job {}", first.trim())));
}

#[tokio::test]
async fn with_fail_on_job_restart_an_aborted_job_ends_all_too() {
    let cluster = Cluster::new();
    let pipe = cluster.pipe("ready");
    let id = cluster.start(
        "fail_on_job_restart=%true",
        &format!("echo $YT_JOB_ID >{}; sleep 86400", pipe.path()),
        "",
    );
    let job = pipe.read().await;
    cluster.operations.abort_job(&map(&format!("{{job_id=\"{}\"}}", job.trim())), "alice").unwrap();
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).starts_with("210 Job aborted; failing operation since"));
}

#[tokio::test]
async fn complete_ends_running_jobs_and_the_operation_well() {
    let cluster = Cluster::new();
    let pipe = cluster.pipe("ready");
    let id = cluster.start("", &format!("echo >{}; sleep 86400", pipe.path()), "");
    pipe.read().await;
    cluster.operations.complete(&by_id(id)).await.unwrap();
    assert_eq!(cluster.state(id), "completed");
    assert_eq!(tree(&cluster.error(id)), "0 ");
    assert_eq!(cluster.operations.complete(&by_id(id)).await.unwrap_err().code, 200);
}
