use tractorun_contract::failure::{Cause, Fates, SidecarEnd};
use tractorun_contract::sidecar::SidecarId;
use tractorun_contract::topology::WorkerAddress;
use tractorun_yt::value;

use super::super::find::Incarnation;
use super::super::operation::Operation;
use super::super::operation::tests::answer;
use super::*;
use crate::logs::time::parse_since;

fn jobs(states: [&str; 2]) -> BTreeMap<u32, Job> {
    let job = |cookie: i64, state: &str, started: &str| {
        value::map([
            ("id", value::string(format!("j{cookie}"))),
            ("job_cookie", value::int(cookie)),
            ("state", value::string(state)),
            ("address", value::string(format!("host{cookie}:9012"))),
            ("start_time", value::string(started)),
        ])
    };
    newest_jobs(&[
        job(1, "aborted", "2026-11-24T17:20:01.000000Z"),
        job(0, states[0], "2026-11-24T17:20:01.000000Z"),
        job(1, states[1], "2026-11-24T17:20:02.000000Z"),
    ])
}

fn incarnation(failure: Option<Failure>) -> Incarnation {
    let worker = |node: u32, port: u32| WorkerAddress {
        address: format!("h{node}:{port}"),
        job_id: format!("j{node}"),
    };
    let workers = (0..8).map(|rank| worker(rank / 4, 100 + rank % 4)).collect();
    Incarnation {
        number: 7,
        workers,
        metrics: vec![Some("h0:105".into()), None],
        failure,
        attempts: Vec::new(),
        sidecars: Vec::new(),
    }
}

fn status(state: &str, incarnation: Option<Incarnation>, jobs: &BTreeMap<u32, Job>) -> Status {
    let operation = Operation::read(&answer(state)).unwrap();
    let run = Run {
        yt_path: operation.yt_path.clone(),
        operation_id: operation.id.clone(),
        operation: Some(operation),
        incarnation,
    };
    Status::assemble(run, jobs)
}

fn now() -> Micros {
    parse_since("2026-11-24T17:21:05Z", 0).unwrap()
}

#[test]
fn a_run_that_waits_for_nodes() {
    let jobs = BTreeMap::from([(0, jobs(["running", "running"])[&0].clone())]);
    assert_eq!(
        status("running", None, &jobs).to_text(now()),
        "run         //home/me/run\n\
         operation   1-2-3-4, running\n\
         started     2026-11-24T17:20:00.000000Z by me, 1:05 long\n\
         incarnation none yet: its leader has not begun\n\
         \n\
         NODE  HOST   PHASE       RANKS  WORKERS      JOB\n\
         0     host0  rendezvous  0-3    not_started  j0\n\
         1     -      waiting     4-7    not_started  -\n"
    );
}

#[test]
fn a_run_that_runs_and_its_json() {
    let status = status("running", Some(incarnation(None)), &jobs(["running", "running"]));
    assert!(status.to_text(now()).ends_with(
        "incarnation 7, attempt 0, no restarts\n\n\
         NODE  HOST  PHASE    RANKS  WORKERS  JOB\n\
         0     h0    running  0-3    running  j0\n\
         1     h1    running  4-7    running  j1\n"
    ));
    let json = status.to_json(now());
    assert_eq!(json["nodes"][1]["workers"][2], json!({"rank": 6, "address": "h1:102", "state": "running"}));
    assert_eq!(
        (&json["nodes"][0]["metrics"], &json["nodes"][1]["metrics"]),
        (&json!("h0:105"), &Value::Null)
    );
    assert_eq!((&json["verdict"], &json["operation"]["elapsed_seconds"]), (&Value::Null, &json!(65.0)));
}

#[test]
fn a_verdict_says_who_failed_and_what_became_of_the_others() {
    let mut others = Fates::default();
    (0..7).for_each(|rank| others.add(rank, if rank < 4 { Fate::Victim } else { Fate::Finished }, None));
    let failure = Failure {
        cause: Cause::WorkerExited { code: 3 },
        rank: Some(7),
        node_rank: 1,
        host: "h1".into(),
        job_id: "j1".into(),
        attempt: 1,
        exit_code: 3,
        elapsed_seconds: 4.0,
        stderr_tail: (0..11).map(|number| format!("line {number}")).collect(),
        not_restarted: None,
        oom: None,
        others,
    };
    let earlier = Failure { attempt: 0, ..failure.clone() };
    let incarnation = Incarnation { attempts: vec![earlier], ..incarnation(Some(failure)) };
    let status = status("failed", Some(incarnation), &jobs(["aborted", "failed"]));
    assert!(
        status.to_text(now()).ends_with(
            "incarnation 7, attempt 1, 1 restart\n\
         restarted   rank 7 on node 1 (h1) exited with code 3 after 4.0 s\n\
         verdict     rank 7 on node 1 (h1) exited with code 3 after 4.0 s in attempt 1; exit code 3\n\
         others      4 stopped, 3 finished\n\n\
         NODE  HOST  PHASE  RANKS  WORKERS               JOB\n\
         0     h0    over   0-3    stopped               j0\n\
         1     h1    over   4-7    3 finished, 1 failed  j1\n\n\
         its last lines:\n  | line 1\n  | line 2\n  | line 3\n  | line 4\n  | line 5\n  | line 6\n  | line 7\n  \
         | line 8\n  | line 9\n  | line 10\n"
        ),
        "{}",
        status.to_text(now())
    );
    assert_eq!(status.to_json(now())["verdict"]["exit_code"], 3);
}

#[test]
fn a_run_that_the_cluster_has_forgotten_is_told_from_cypress() {
    let run = Run {
        yt_path: Some("//x".into()),
        operation_id: "1-2-3-4".into(),
        operation: None,
        incarnation: Some(incarnation(None)),
    };
    let text = Status::assemble(run, &BTreeMap::new()).to_text(now());
    assert!(text.contains("operation   1-2-3-4, unknown to the cluster\n"), "{text}");
    assert!(text.contains("0     h0    over   0-3    unknown  j0\n"), "{text}");
}

#[test]
fn sidecars_that_ended_badly_are_shown_with_what_they_said() {
    let end = Failure {
        cause: Cause::SidecarExited { sidecar: SidecarId::Index(2), code: 3 },
        rank: None,
        node_rank: 1,
        host: "h1".into(),
        job_id: "j1".into(),
        attempt: 0,
        exit_code: 3,
        elapsed_seconds: 4.0,
        stderr_tail: vec!["cannot bind".into(), "giving up".into()],
        not_restarted: None,
        oom: None,
        others: Fates::default(),
    };
    let incarnation = Incarnation { sidecars: vec![SidecarEnd::new(end, 4, Some(1.6))], ..incarnation(None) };
    let status = status("running", Some(incarnation), &jobs(["running", "running"]));
    let text = status.to_text(now());
    let shown = "\n\nsidecar 2 on node 1 (h1) exited with code 3 after 4.0 s, restarted 4 times before; started again \
                 1.6 s later\n  | cannot bind\n  | giving up\n";
    assert!(text.ends_with(shown), "{text}");
    let json = &status.to_json(now())["sidecars"][0];
    assert_eq!(
        (&json["sidecar"], &json["restarts"], &json["stderr_tail"][1]),
        (&json!(2), &json!(4), &json!("giving up"))
    );
}
