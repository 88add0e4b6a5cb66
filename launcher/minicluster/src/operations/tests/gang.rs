//! Gang operations.

use super::*;

/// What the jobs have written: one line of words each.
fn lines(cluster: &Cluster, id: Guid, jobs: &[YsonValue]) -> Vec<Vec<String>> {
    let words = |job| cluster.stderr(id, job).split_whitespace().map(str::to_owned).collect();
    jobs.iter().map(words).collect()
}

const WHO: &str = "echo $YT_OPERATION_INCARNATION ${YT_GANG_RANK-none} $YT_GANG_SIZE $YT_TASK_GANG_SIZE \
                   $YT_JOB_COUNT $YT_TASK_JOB_COUNT $YT_JOB_COOKIE >&2; ";

#[tokio::test]
async fn every_job_of_a_gang_knows_incarnation_rank_and_sizes() {
    for cluster in Cluster::each() {
        let id = cluster.start("", WHO, "job_count=3;gang_options={}");
        assert_eq!(cluster.wait(id).await, "completed");
        let jobs = cluster.jobs(id);
        let incarnation = cluster.get(id)["progress"]["incarnation"].as_str().unwrap().to_owned();
        let mut seen = BTreeSet::new();
        for (line, job) in lines(&cluster, id, &jobs).iter().zip(&jobs) {
            assert_eq!(line[0], incarnation);
            assert_eq!(line[2..6], ["3", "3", "3", "3"]);
            assert_eq!(text(job, "operation_incarnation"), incarnation);
            assert_eq!(job["gang_rank"].as_i64().unwrap().to_string(), line[1]);
            seen.insert(line[1].clone());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["0", "1", "2"]);
    }
}

#[tokio::test]
async fn sizes_are_those_of_all_tasks_and_of_the_own_one() {
    let cluster = Cluster::new();
    let command = String::from_utf8(yson::to_text(&value::string(WHO)).unwrap()).unwrap();
    let spec = format!(
        "{{tasks={{a={{command={command};job_count=2;gang_options={{}}}};b={{command={command};job_count=1}}}}}}"
    );
    let id = cluster.start_with("", &spec).unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    let mut seen: Vec<_> =
        lines(&cluster, id, &cluster.jobs(id)).iter().map(|line| line[1..6].join(" ")).collect();
    seen.sort();
    assert_eq!(seen, ["0 3 1 3 1", "0 3 2 3 2", "1 3 2 3 2"]);
}

#[tokio::test]
async fn no_job_outside_of_a_gang_has_any_of_it() {
    let cluster = Cluster::new();
    let (_, stderr) =
        cluster.run("is_gang=%true", "env | grep -E 'GANG|INCARN|JOB_COUNT' >&2; exit 0", "").await;
    assert_eq!(stderr, "");
}

#[tokio::test]
async fn after_a_failure_all_run_again_in_a_new_incarnation_also_the_completed() {
    for cluster in Cluster::each() {
        let (mark, sleep) = (cluster.path("failed-once"), unique_sleep());
        // Cookie 0 completes at once, 1 hangs, 2 fails when the other two are where they should be.
        let command = format!(
            "{WHO} if [ -e {mark} ]; then exit 0; fi; [ $YT_JOB_COOKIE = 0 ] && exit 0; \
             [ $YT_JOB_COOKIE = 1 ] && exec sleep {sleep}; read < {go}; : > {mark}; exit 5",
            mark = mark.display(),
            go = cluster.pipe("go").path(),
        );
        let id = cluster.start("", &command, "job_count=3;gang_options={}");
        eventually(|| {
            cluster.jobs(id).iter().any(|job| text(job, "state") == "completed")
                && processes_with(&sleep).len() == 1
        })
        .await;
        let first = cluster.get(id)["progress"]["incarnation"].as_str().unwrap().to_owned();
        Pipe(cluster.path("go")).write("\n").await;
        assert_eq!(cluster.wait(id).await, "completed");
        assert!(processes_with(&sleep).is_empty());

        let second = cluster.get(id)["progress"]["incarnation"].as_str().unwrap().to_owned();
        assert_ne!(first, second);
        let of = |incarnation: &str| {
            let filter = with(id, &format!("operation_incarnation=\"{incarnation}\""));
            value::as_list(&cluster.operations.list_jobs(&filter).unwrap()["jobs"]).unwrap().to_vec()
        };
        let ended = |jobs: &[YsonValue]| {
            let mut ends: Vec<_> = jobs
                .iter()
                .map(|job| {
                    (job["job_cookie"].as_i64().unwrap(), text(job, "state"), text(job, "abort_reason"))
                })
                .collect();
            ends.sort();
            ends
        };
        let end = |cookie, state: &str, reason: &str| (cookie, state.to_owned(), reason.to_owned());
        assert_eq!(
            ended(&of(&first)),
            [
                end(0, "completed", ""),
                end(1, "aborted", "operation_incarnation_changed"),
                end(2, "failed", "")
            ]
        );
        assert_eq!(
            ended(&of(&second)),
            [end(0, "completed", ""), end(1, "completed", ""), end(2, "completed", "")]
        );
        // The job that was alive keeps its cookie and its rank.
        let rank = |incarnation| {
            of(incarnation).iter().find(|job| job["job_cookie"].as_i64() == Some(1)).unwrap()["gang_rank"]
                .clone()
        };
        assert_eq!(rank(&first), rank(&second));
        assert_eq!(cluster.get(id)["progress"]["jobs"]["completed"].as_i64(), Some(3));
    }
}

#[tokio::test]
async fn a_reserve_job_has_no_rank_until_one_is_needed() {
    let cluster = Cluster::new();
    let (go, done) = (cluster.path("go"), cluster.path("done"));
    let command = format!(
        "{WHO} until [ -e {}$YT_JOB_ID ]; do [ -e {} ] && exit 0; sleep 0.01; done; exit 1",
        go.display(),
        done.display()
    );
    let id = cluster.start("", &command, "job_count=3;gang_options={size=2}");
    let running = || {
        let jobs = cluster.jobs(id).into_iter();
        jobs.filter(|job| text(job, "state") == "running" && value::get(job, "stderr_size").is_some())
            .collect::<Vec<_>>()
    };
    let rank_of = |job: &YsonValue| value::get(job, "gang_rank").and_then(value::as_i64);
    let by_cookie = |jobs: &[YsonValue]| -> BTreeMap<i64, Option<i64>> {
        jobs.iter().map(|job| (job["job_cookie"].as_i64().unwrap(), rank_of(job))).collect()
    };
    eventually(|| running().len() == 3).await;
    let first = running();
    let before = by_cookie(&first);
    assert_eq!(before.values().flatten().collect::<BTreeSet<_>>().len(), 2);
    let reserve = first.iter().find(|job| rank_of(job).is_none()).unwrap();
    assert_eq!(cluster.stderr(id, reserve).split_whitespace().nth(1), Some("none"));

    // The end of the reserve itself restarts nothing but it.
    let incarnation = text(reserve, "operation_incarnation");
    fs::write(format!("{}{}", go.display(), text(reserve, "id")), "").unwrap();
    eventually(|| running().len() == 3 && running().iter().all(|job| text(job, "id") != text(reserve, "id")))
        .await;
    assert!(running().iter().all(|job| text(job, "operation_incarnation") == incarnation));
    assert_eq!(by_cookie(&running()), before);

    // The end of one with a rank gives that rank to the reserve; the new job is in reserve then.
    let failing = running().into_iter().find(|job| rank_of(job) == Some(0)).unwrap();
    fs::write(format!("{}{}", go.display(), text(&failing, "id")), "").unwrap();
    eventually(|| {
        let jobs = running();
        jobs.len() == 3 && jobs.iter().all(|job| text(job, "operation_incarnation") != incarnation)
    })
    .await;
    let after = by_cookie(&running());
    let failed_cookie = failing["job_cookie"].as_i64().unwrap();
    let reserve_cookie = reserve["job_cookie"].as_i64().unwrap();
    assert_eq!(after[&failed_cookie], None);
    assert_eq!(after[&reserve_cookie], Some(0));
    for (cookie, rank) in after {
        assert!(cookie == failed_cookie || cookie == reserve_cookie || rank == before[&cookie]);
    }

    fs::write(&done, "").unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
}

#[tokio::test]
async fn when_all_ranks_have_completed_the_reserve_is_not_waited_for() {
    let cluster = Cluster::new();
    let sleep = unique_sleep();
    let id = cluster.start(
        "",
        &format!("[ \"$YT_GANG_RANK\" ] || exec sleep {sleep}"),
        "job_count=2;gang_options={size=1}",
    );
    assert_eq!(cluster.wait(id).await, "completed");
    assert!(processes_with(&sleep).is_empty());
}

#[tokio::test]
async fn an_aborted_job_restarts_its_gang_and_failures_still_count() {
    let cluster = Cluster::new();
    let id = cluster.start(
        "max_failed_job_count=2",
        "read < /dev/zero; sleep 86400",
        "job_count=2;gang_options={}",
    );
    let living = || {
        let jobs = cluster.jobs(id).into_iter();
        jobs.filter(|job| text(job, "state") == "running").map(|job| text(&job, "id")).collect::<Vec<_>>()
    };
    eventually(|| living().len() == 2).await;
    let first = living();
    cluster.operations.abort_job(&map(&format!("{{job_id=\"{}\"}}", first[0])), "alice").unwrap();
    eventually(|| living().len() == 2 && living().iter().all(|job| !first.contains(job))).await;
    let jobs = cluster.jobs(id);
    let reason =
        |job: &str| text(jobs.iter().find(|known| text(known, "id") == job).unwrap(), "abort_reason");
    assert_eq!(
        (reason(&first[0]).as_str(), reason(&first[1]).as_str()),
        ("user_request", "operation_incarnation_changed")
    );
    cluster.operations.abort(&by_id(id), "alice").await.unwrap();

    let id = cluster.start("max_failed_job_count=2", "exit 1", "gang_options={}");
    assert_eq!(cluster.wait(id).await, "failed");
    assert_eq!(cluster.jobs(id).len(), 2);
    assert!(tree(&cluster.error(id)).starts_with("215 "));
}
