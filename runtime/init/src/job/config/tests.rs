//! The configuration of a job whose variables and spec are whole or broken.

use tractorun_contract::job_spec::RestartPolicy;

use super::spec::check_destination;
use super::*;

const SPEC: &str = include_str!("../../../../contract/testdata/job_spec_1_0.json");

/// A checked configuration for tests of later phases: node 1 of 2, 4 workers each.
pub(in crate::job) fn config() -> Config {
    config_of(&[], |_| ())
}

/// The same with changed variables and a changed spec.
pub(in crate::job) fn config_of(
    variables: &[(&str, Option<&str>)],
    change: impl FnOnce(&mut JobSpec),
) -> Config {
    let mut spec = JobSpec::parse(SPEC.as_bytes()).unwrap();
    change(&mut spec);
    read_changed(variables, &String::from_utf8(spec.to_json()).unwrap()).unwrap()
}

fn job() -> Vec<(&'static str, &'static str)> {
    vec![
        ("TRACTORUN_JOB_SPEC", "job-spec.json"),
        ("YT_OPERATION_ID", "1-2-3-4"),
        ("YT_JOB_ID", "5-6-7-8"),
        ("YT_JOB_COOKIE", "1"),
        ("YT_PORT_0", "7000"),
        ("YT_PORT_1", "7001"),
        ("YT_PORT_2", "7002"),
        ("YT_PORT_3", "7003"),
        ("YT_PORT_4", "7004"),
        ("YT_PORT_5", "7005"),
        ("YT_SECURE_VAULT_tractorun_yt_token", "t0ken"),
        ("YT_TOKEN", "somebody-elses"),
        ("YT_PROXY", "http://somewhere-else"),
    ]
}

/// The configuration of a job whose variables and spec were changed.
fn read_changed(change: &[(&str, Option<&str>)], spec: &str) -> Result<Config, ConfigError> {
    let sandbox = tempfile::tempdir().unwrap();
    std::fs::write(sandbox.path().join("job-spec.json"), spec).unwrap();
    let mut variables = job();
    for (name, value) in change {
        variables.retain(|(other, _)| other != name);
        variables.extend(value.map(|value| (*name, value)));
    }
    let result = read(&variables.into_iter().collect(), sandbox.path());
    if let Ok(config) = &result {
        assert_eq!(config.sandbox, sandbox.path());
    }
    result
}

fn error(change: &[(&str, Option<&str>)], spec: &str) -> String {
    read_changed(change, spec).unwrap_err().to_string()
}

#[test]
fn a_job_is_read_from_spec_and_environment() {
    let config = read_changed(&[], SPEC).unwrap();
    assert_eq!((config.node_rank, config.mesh.node_count), (1, 2));
    assert_eq!(config.ports, [7000, 7001, 7002, 7003, 7004]);
    assert_eq!(config.metrics_port, Some(7005));
    assert_eq!(config.token, Some(Secret::new("t0ken")));
    assert_eq!(config.client.proxy, "http://127.0.0.1:8000");
    assert_eq!(config.client.token.as_ref().unwrap().expose(), "t0ken");
    assert_eq!(config.command, ["python3", "train.py", "--epochs", "3"]);
    assert_eq!(config.prefix, Prefix::Rank);
    assert_eq!(config.rendezvous_timeout, Duration::from_mins(10));
    assert_eq!(config.grace_period, Duration::from_secs(10));
    assert_eq!(config.advertise_host, None);
    assert!(!format!("{config:?}").contains("t0ken"));
}

#[test]
fn without_a_token_in_the_vault_there_is_none() {
    let config = read_changed(&[("YT_SECURE_VAULT_tractorun_yt_token", None)], SPEC).unwrap();
    assert_eq!(config.token, None);
    assert!(config.client.token.is_none());
}

#[test]
fn the_launcher_of_an_older_release_asks_for_no_metrics_port() {
    assert_eq!(read_changed(&[("YT_PORT_5", None)], SPEC).unwrap().metrics_port, None);
}

#[test]
fn one_worker_has_no_prefix_unless_it_is_asked_for() {
    let one = SPEC.replace("\"process_per_node\": 4", "\"process_per_node\": 1");
    assert_eq!(read_changed(&[], &one).unwrap().prefix, Prefix::None);
    let rank = one.replace("\"auto\"", "\"rank\"");
    assert_eq!(read_changed(&[], &rank).unwrap().prefix, Prefix::Rank);
}

#[test]
fn each_bad_variable_is_named() {
    for (name, value, expected) in [
        ("YT_JOB_COOKIE", Some("x"), r#"YT_JOB_COOKIE: expected a number below node_count 2, got "x""#),
        ("YT_JOB_COOKIE", Some("2"), r#"YT_JOB_COOKIE: expected a number below node_count 2, got "2""#),
        ("YT_JOB_COOKIE", None, "YT_JOB_COOKIE: not set: expected a number below node_count 2"),
        (
            "YT_PORT_4",
            None,
            "YT_PORT_4: not set: the operation must ask for 6 ports per job (port_count in its task)",
        ),
        ("YT_PORT_5", Some("x"), r#"YT_PORT_5: expected a port from 1 to 65535, got "x""#),
        ("YT_PORT_3", Some("0"), r#"YT_PORT_3: expected a port from 1 to 65535, got "0""#),
        ("YT_JOB_ID", None, "YT_JOB_ID: not set: expected to run as a job of an operation"),
        ("YT_OPERATION_ID", Some(""), "YT_OPERATION_ID: is empty"),
        (
            "TRACTORUN_NODES_HERE",
            Some("3"),
            r#"TRACTORUN_NODES_HERE: expected a number from 1 to node_count 2, got "3""#,
        ),
        ("TRACTORUN_JOB_SPEC", None, "TRACTORUN_JOB_SPEC: not set: expected the path of the job spec"),
    ] {
        assert_eq!(error(&[(name, value)], SPEC), format!("bad configuration: {expected}"));
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let spec = SPEC
        .replace("\"//tmp/training\"", "\"tmp\"")
        .replace("\"MODE\"", "\"A=B\"")
        .replace("\"/app/train.py\"", "\"../train.py\"")
        .replace("\"bind-0.tar.zst\"", "\"../bind\"")
        .replace("\"mylib\"", "\"my/lib\"")
        .replace("\"//tmp/secret\"", "\"secret\"");
    let change = [("YT_JOB_COOKIE", Some("-1")), ("YT_PORT_3", None), ("YT_PORT_4", None)];
    assert_eq!(
        error(&change, &spec),
        "bad configuration: yt_path: expected a path that starts with //, got \"tmp\"; \
         env: \"A=B\" cannot be the name of a variable; \
         env API_KEY: expected a Cypress path that starts with //, got \"secret\"; \
         binds: expected the name of a file in the sandbox, got \"../bind\"; \
         bind: destination \"../train.py\" leaves the sandbox; \
         libs: \"my/lib\" cannot be the name of a library; \
         YT_JOB_COOKIE: expected a number below node_count 2, got \"-1\"; \
         YT_PORT_3 to YT_PORT_4: not set: the operation must ask for 6 ports per job (port_count in its task)"
    );
}

#[test]
fn a_tensorproxy_has_the_jobs_last_two_ports_and_moves_none() {
    let spec = SPEC.replacen('{', r#"{"tensorproxy": {"file": "tensors", "restart_policy": "fail"},"#, 1);
    let ports = [("YT_PORT_6", Some("9100")), ("YT_PORT_7", Some("7001"))];
    let config = read_changed(&ports, &spec).unwrap();
    assert_eq!((config.ports, config.metrics_port), (vec![7000, 7001, 7002, 7003, 7004], Some(7005)));
    let tensorproxy = config.tensorproxy.unwrap();
    assert_eq!((tensorproxy.grpc_port, tensorproxy.monitoring_port), (9100, 7001));
    assert_eq!((&*tensorproxy.file, tensorproxy.restart_policy), ("tensors", RestartPolicy::Fail));
    assert_eq!(read_changed(&ports, SPEC).unwrap().tensorproxy, None);

    let needed = "not set: the operation must ask for 8 ports per job (port_count in its task)";
    assert_eq!(error(&[], &spec), format!("bad configuration: YT_PORT_6 to YT_PORT_7: {needed}"));
    assert_eq!(error(&ports[..1], &spec), format!("bad configuration: YT_PORT_7: {needed}"));
    let file = error(&ports, &spec.replace("\"tensors\"", "\"../tensors\""));
    assert!(
        file.ends_with("tensorproxy: expected the name of a file in the sandbox, got \"../tensors\""),
        "{file}"
    );
}

#[test]
fn commands_of_sidecars_are_checked() {
    let empty = SPEC.replace("\"vector\"", "\"\"");
    assert!(error(&[], &empty).ends_with("sidecars[0].command: expected a command, got none"));
    let nul = SPEC.replace("\"--quiet\"", "\"a\\u0000b\"");
    assert!(error(&[], &nul).ends_with("sidecars[0].command: a NUL byte cannot be passed to a process"));
    let policy = error(&[], &SPEC.replace("\"on_failure\"", "\"sometimes\""));
    assert!(policy.contains("unknown variant `sometimes`, expected one of `always`"), "{policy}");
}

#[test]
fn numbers_of_the_spec_are_checked() {
    let none = SPEC.replace("\"node_count\": 2", "\"node_count\": 0");
    assert!(error(&[], &none).contains("mesh.node_count: expected at least 1, got 0"));
    let many = SPEC.replace("\"node_count\": 2", "\"node_count\": 4000000000");
    assert!(error(&[], &many).contains("mesh.node_count: expected at most 1000000, got 4000000000"));
    // It must not take the time and the memory of four billion ports to say so.
    let crowded = SPEC.replace("\"process_per_node\": 4", "\"process_per_node\": 4294967295");
    assert!(error(&[], &crowded).contains("mesh.process_per_node: expected at most 65533, got 4294967295"));
    let product = SPEC
        .replace("\"process_per_node\": 4", "\"process_per_node\": 60000")
        .replace("\"node_count\": 2", "\"node_count\": 1000000");
    assert!(error(&[], &product).contains("mesh: 1000000 nodes of 60000 workers are too many"));
    let mute = SPEC.replace("\"heartbeat_ms\": 30000", "\"heartbeat_ms\": 0");
    assert!(error(&[], &mute).contains("timeouts.heartbeat_ms: expected more than 0"));
}

#[test]
fn a_spec_that_is_not_there_or_too_new_is_named_with_its_path() {
    let missing = error(&[("TRACTORUN_JOB_SPEC", Some("other.json"))], SPEC);
    assert!(missing.starts_with("cannot read job spec `/"), "{missing}");
    assert!(missing.ends_with("/other.json`: No such file or directory (os error 2)"), "{missing}");

    let new = error(&[], &SPEC.replace("\"1.0\"", "\"2.0\""));
    assert!(new.starts_with("job spec has version 2.0, this tractorun-init reads versions up to 1.0 (in `/"));
    assert!(new.contains("job-spec.json`)\nhint: use a tractorun-init of the launcher's release"), "{new}");
}

#[test]
fn destinations_may_be_anywhere_but_relative_ones_stay_in_the_sandbox() {
    for (destination, fine) in [
        ("/anywhere/at/all", true),
        ("a/../b", true),
        ("./x", true),
        (".", true),
        ("..", false),
        ("a/../../b", false),
        ("", false),
    ] {
        let mut problems = Problems::default();
        check_destination(destination, &mut problems);
        assert_eq!(problems.is_empty(), fine, "{destination}");
    }
}

#[test]
fn workers_start_in_the_sandbox_unless_a_local_run_says_where() {
    let in_a_job = config();
    assert_eq!(in_a_job.working_directory, in_a_job.sandbox);
    let here = config_of(&[("TRACTORUN_WORKING_DIRECTORY", Some("/"))], |_| ());
    assert_eq!(here.working_directory, Path::new("/"));
    let error = read_changed(&[("TRACTORUN_WORKING_DIRECTORY", Some("not/absolute"))], SPEC).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad configuration: TRACTORUN_WORKING_DIRECTORY: expected an absolute path of a folder, got \
         `not/absolute`"
    );
}
