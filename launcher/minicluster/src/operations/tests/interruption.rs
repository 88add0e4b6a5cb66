//! Interruptions, preemption, lost nodes.

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

impl Cluster {
    /// The id of the only job that has run its first `echo ready`.
    async fn ready_job(&self, id: Guid) -> String {
        let ready = || {
            let jobs = self.jobs(id);
            let job = jobs.iter().find(|job| text(job, "state") == "running")?;
            self.stderr(id, job).contains("ready").then(|| text(job, "id"))
        };
        eventually(|| ready().is_some()).await;
        ready().unwrap()
    }

    fn job(&self, id: Guid, job: &str) -> YsonValue {
        self.jobs(id).into_iter().find(|known| text(known, "id") == job).unwrap()
    }
}

#[tokio::test]
async fn a_preempted_job_gets_its_signal_and_may_ask_to_run_again() {
    for cluster in Cluster::each() {
        let command = format!(
            "[ -e {0} ] && exit 0; trap ': > {0}; exit 42' USR1; echo ready >&2; while :; do :; done",
            cluster.path("saved").display()
        );
        let id = cluster.start(
            "max_failed_job_count=1",
            &command,
            "interruption_signal=SIGUSR1;restart_exit_code=42",
        );
        let job = cluster.ready_job(id).await;
        cluster.operations.preempt(&job, MINUTE).unwrap();
        assert_eq!(cluster.wait(id).await, "completed");
        let interrupted = cluster.job(id, &job);
        assert_eq!(text(&interrupted, "state"), "completed");
        assert_eq!(text(&interrupted["interruption_info"], "interruption_reason"), "preemption");
        assert_eq!(cluster.jobs(id).len(), 2);
        assert_eq!(cluster.get(id)["progress"]["jobs"]["completed"].as_i64(), Some(1));
        let filter = with(id, "with_interruption_info=%true");
        let listed = cluster.operations.list_jobs(&filter).unwrap();
        assert_eq!(value::as_list(&listed["jobs"]).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn without_an_interruption_the_restart_exit_code_is_a_failure() {
    let cluster = Cluster::new();
    let id =
        cluster.start("max_failed_job_count=1", "exit 42", "interruption_signal=SIGINT;restart_exit_code=42");
    assert_eq!(cluster.wait(id).await, "failed");
}

#[tokio::test]
async fn one_that_completes_after_its_signal_is_done() {
    let cluster = Cluster::new();
    let command = "trap 'exit 0' TERM; echo ready >&2; while :; do :; done";
    let id = cluster.start("", command, "interruption_signal=SIGTERM;restart_exit_code=42");
    let job = cluster.ready_job(id).await;
    let asked = map(&format!("{{job_id=\"{job}\";interrupt_timeout=60000}}"));
    cluster.operations.abort_job(&asked, "alice").unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    assert_eq!(cluster.jobs(id).len(), 1);
    assert_eq!(text(&cluster.job(id, &job)["interruption_info"], "interruption_reason"), "user_request");
}

#[tokio::test]
async fn one_that_is_too_slow_is_aborted_and_runs_again() {
    for cluster in Cluster::each() {
        let command = format!(
            "[ -e {0} ] && exit 0; trap ': > {0}' TERM; echo ready >&2; while :; do :; done",
            cluster.path("got-it").display()
        );
        for (by_user, expected, reason) in [
            (false, "1 Job preempted > 1210 Interruption is timed out", "preemption"),
            (true, "1210 Interruption is timed out", "interruption_timeout"),
        ] {
            let _ = fs::remove_file(cluster.path("got-it"));
            let id = cluster.start("", &command, "interruption_signal=SIGTERM");
            let job = cluster.ready_job(id).await;
            if by_user {
                let asked = map(&format!("{{job_id=\"{job}\";interrupt_timeout=50}}"));
                cluster.operations.abort_job(&asked, "alice").unwrap();
            } else {
                cluster.operations.preempt(&job, Duration::from_millis(50)).unwrap();
            }
            assert_eq!(cluster.wait(id).await, "completed");
            let aborted = cluster.job(id, &job);
            assert_eq!(text(&aborted, "state"), "aborted");
            assert_eq!(text(&aborted, "abort_reason"), reason);
            assert_eq!(tree(&aborted["error"]), expected);
            assert_eq!(text(&aborted["error"]["attributes"], "abort_reason"), reason);
        }
    }
}

#[tokio::test]
async fn without_a_signal_preemption_aborts_at_once_and_an_interruption_is_refused() {
    let cluster = Cluster::new();
    let mark = cluster.path("second");
    let command = format!("[ -e {} ] && exit 0; echo ready >&2; sleep 86400", mark.display());
    let id = cluster.start("", &command, "");
    let job = cluster.ready_job(id).await;
    let asked = map(&format!("{{job_id=\"{job}\";interrupt_timeout=50}}"));
    let refused = cluster.operations.abort_job(&asked, "alice").unwrap_err();
    assert!(refused.message.contains("\"interruption_signal\" is not set"), "{refused}");
    fs::write(mark, "").unwrap();
    cluster.operations.preempt(&job, MINUTE).unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    assert_eq!(text(&cluster.job(id, &job), "abort_reason"), "preemption");
    assert_eq!(cluster.operations.preempt(&job, MINUTE).unwrap_err().code, 203);
}

#[tokio::test]
async fn a_lost_node_takes_its_jobs_and_they_run_again_elsewhere() {
    let cluster = Cluster::new();
    let (sleep, mark) = (unique_sleep(), cluster.path("second"));
    let id =
        cluster.start("", &format!("[ -e {} ] && exit 0; exec sleep {sleep}", mark.display()), "job_count=2");
    eventually(|| processes_with(&sleep).len() == 2).await;
    fs::write(mark, "").unwrap();
    assert_eq!(cluster.operations.lose_node().len(), 2);
    assert_eq!(cluster.wait(id).await, "completed");
    let reasons: Vec<_> = cluster.jobs(id).iter().map(|job| text(job, "abort_reason")).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "node_offline").count(), 2);
    assert!(processes_with(&sleep).is_empty());

    let id = cluster.start("fail_on_job_restart=%true", &format!("exec sleep {sleep}"), "");
    eventually(|| processes_with(&sleep).len() == 1).await;
    cluster.operations.lose_node();
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).starts_with("210 Job aborted; failing operation"));
}

#[test]
fn reasons_have_names_that_lead_back() {
    for name in ["user_request", "node_offline", "preemption", "account_limit_exceeded"] {
        assert_eq!(AbortReason::from_name(name).unwrap().name(), name);
    }
    assert_eq!(AbortReason::from_name("because"), None);
}

#[tokio::test]
async fn an_abandoned_job_is_killed_and_has_completed() {
    for cluster in Cluster::each() {
        let sleep = unique_sleep();
        let id =
            cluster.start("fail_on_job_restart=%true", &format!("echo ready >&2; exec sleep {sleep}"), "");
        let job = cluster.ready_job(id).await;
        cluster.operations.abandon_job(&map(&format!("{{job_id=\"{job}\"}}")), "alice").unwrap();
        assert_eq!(cluster.wait(id).await, "completed");
        assert!(processes_with(&sleep).is_empty());
        assert_eq!(text(&cluster.job(id, &job), "state"), "completed");
        let gone = map(&format!("{{job_id=\"{job}\"}}"));
        assert_eq!(cluster.operations.abandon_job(&gone, "alice").unwrap_err().code, 203);
    }
}
