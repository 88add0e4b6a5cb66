//! The commands that look at operations and change them.

use super::*;

const SLEEP: &str = "{tasks={t={command=\"sleep 86400\";job_count=1}};";

#[tokio::test]
async fn get_operation_gives_what_is_asked_for() {
    let cluster = Cluster::plain();
    let id = cluster.start("title=T", "exit 0", "");
    let get = |more: &str| cluster.operations.get_operation(&with(id, more)).unwrap();
    assert_eq!(get("attributes=[]"), value::map(YsonMap::new()));
    assert_eq!(
        get("attributes=[id;type;nonsense]"),
        yson::parse(format!("{{id=\"{id}\";type=vanilla}}").as_bytes()).unwrap()
    );
    cluster.wait(id).await;
    let all = get("");
    for name in [
        "alerts",
        "brief_progress",
        "events",
        "progress",
        "result",
        "runtime_parameters",
        "unrecognized_spec",
    ] {
        assert!(value::get(&all, name).is_some(), "{name}");
    }
    let missing = Guid::random(1000);
    let error = cluster.operations.get_operation(&by_id(missing)).unwrap_err();
    assert_eq!((error.code, error.message), (1915, format!("No such operation {missing}")));
}

#[tokio::test]
async fn an_alias_names_one_running_operation() {
    let cluster = Cluster::plain();
    let spec = format!("{SLEEP}alias=\"*name\"}}");
    let id = cluster.start_with("", &spec).unwrap();
    let by_alias = map("{operation_alias=\"*name\";include_runtime=%true;attributes=[id]}");
    assert_eq!(text(&cluster.operations.get_operation(&by_alias).unwrap(), "id"), id.to_string());
    assert!(cluster.operations.get_operation(&map("{operation_alias=\"*name\"}")).is_err());
    let taken = cluster.start_with("", &spec).unwrap_err();
    assert_eq!(taken.message, format!("Operation alias \"*name\" is already used by operation {id}"));
    cluster.operations.abort(&map("{operation_alias=\"*name\"}"), "alice").await.unwrap();
    let next = cluster.start_with("", &spec).unwrap();
    assert_eq!(text(&cluster.operations.get_operation(&by_alias).unwrap(), "id"), next.to_string());
}

#[tokio::test]
async fn a_repeated_start_is_the_same_operation() {
    let cluster = Cluster::plain();
    let spec = format!("{SLEEP}}}");
    let id = cluster.start_with("mutation_id=\"1-2-3-4\";retry=%false", &spec).unwrap();
    assert_eq!(cluster.start_with("mutation_id=\"1-2-3-4\";retry=%true", &spec).unwrap(), id);
    let error = cluster.start_with("mutation_id=\"1-2-3-4\"", &spec).unwrap_err();
    assert_eq!(error.message, "Duplicate request is not marked as \"retry\"");
    assert_ne!(cluster.start_with("mutation_id=\"1-2-3-5\"", &spec).unwrap(), id);
}

#[tokio::test]
async fn a_suspended_operation_starts_no_job() {
    let cluster = Cluster::plain();
    let pipe = cluster.pipe("ready");
    let id = cluster.start("", &format!("echo $YT_JOB_ID >{}; sleep 86400", pipe.path()), "");
    let first = pipe.read().await;
    assert_eq!(
        cluster.operations.resume(&by_id(id)).unwrap_err().message,
        "Operation is in \"running\" state"
    );
    let operations = &cluster.operations;
    operations.suspend(&by_id(id)).unwrap();
    operations.suspend(&with(id, "abort_running_jobs=%true")).unwrap();
    eventually(|| text(&cluster.jobs(id)[0], "state") == "aborted").await;
    let operation = cluster.get(id);
    assert_eq!(value::as_bool(&operation["suspended"]), Some(true));
    assert_eq!(text(&operation, "state"), "running");
    assert_eq!(operation["brief_progress"]["jobs"]["pending"].as_i64(), Some(1));
    operations.resume(&by_id(id)).unwrap();
    assert_ne!(pipe.read().await, first);
    assert_eq!(value::as_bool(&cluster.get(id)["suspended"]), Some(false));
}

#[tokio::test]
async fn runtime_parameters_change_by_parts() {
    let cluster = Cluster::plain();
    let id =
        cluster.start_with("", &format!("{SLEEP}annotations={{is_tractorun=%true;d={{a=1}}}}}}")).unwrap();
    let update =
        |change: &str| cluster.operations.update_parameters(&with(id, &format!("parameters={change}")));
    let runtime = || cluster.get(id)["runtime_parameters"].clone();
    let pool = || text(&runtime()["scheduling_options_per_pool_tree"]["default"], "pool");
    assert_eq!(pool(), "alice");
    update("{annotations={d={b=2};new=x}}").unwrap();
    assert_eq!(runtime()["annotations"], yson::parse(b"{is_tractorun=%true;d={a=1;b=2};new=x}").unwrap());
    update("{pool=research;weight=2.0}").unwrap();
    assert_eq!(pool(), "research");
    update("{scheduling_options_per_pool_tree={default={pool=other}};acl=[]}").unwrap();
    assert_eq!(pool(), "other");
    // All or nothing.
    let error = update("{pool=lost;colour=red}").unwrap_err();
    assert!(error.message.starts_with("Unknown operation parameter \"colour\": acl, annotations"), "{error}");
    assert_eq!(pool(), "other");
    update("{annotations=#}").unwrap();
    assert_eq!(runtime()["annotations"], value::map(YsonMap::new()));
}

#[tokio::test]
async fn the_limit_of_failed_jobs_can_be_patched() {
    let cluster = Cluster::plain();
    let pipe = cluster.pipe("ready");
    // The first job fails, the second one waits.
    let command = format!("echo >{}; [ $YT_JOB_INDEX = 0 ] && exit 3; sleep 86400", pipe.path());
    let id = cluster.start("max_failed_job_count=2", &command, "");
    pipe.read().await;
    pipe.read().await;
    let patch = |patches: &str| cluster.operations.patch_spec(&with(id, &format!("patches={patches}")));
    patch("[{path=\"/max_failed_job_count\";value=3}]").unwrap();
    assert_eq!(text(&cluster.get(id), "state"), "running");
    for (patches, wanted) in [
        (
            "[{path=\"/tasks/task/job_count\";value=3}]",
            "Cannot patch \"/tasks/task/job_count\" of an operation spec",
        ),
        ("[{path=\"/max_failed_job_count\";value=x}]", "/max_failed_job_count: an integer is expected"),
        ("[{path=\"/max_failed_job_count\"}]", "Each of \"patches\" must be a map with `path` and `value`"),
        ("{}", "\"patches\" must be a list"),
    ] {
        let error = patch(patches).unwrap_err();
        assert!(error.message.contains(wanted), "{patches}: {error}");
    }
    // As many have failed already.
    patch("[{path=\"/max_failed_job_count\";value=1}]").unwrap();
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).starts_with("215 Failed jobs limit exceeded"));
    assert!(
        patch("[{path=\"/max_failed_job_count\";value=5}]")
            .unwrap_err()
            .message
            .contains("No such operation")
    );
}

#[tokio::test]
async fn operations_are_listed_newest_first_and_filtered() {
    let cluster = Cluster::plain();
    let failed = cluster.start("title=\"First One\";max_failed_job_count=1", "exit 1", "");
    cluster.wait(failed).await;
    let running = cluster.start_with("", &format!("{SLEEP}pool=big}}")).unwrap();
    eventually(|| cluster.state(running) == "running").await;
    let list = |parameters: &str| -> (Vec<String>, YsonValue) {
        let answer = cluster.operations.list_operations(&map(parameters)).unwrap();
        let ids = value::as_list(&answer["operations"])
            .unwrap()
            .iter()
            .map(|operation| text(operation, "id"))
            .collect();
        (ids, answer)
    };
    let (failed, running) = (failed.to_string(), running.to_string());
    let (ids, answer) = list("{}");
    assert_eq!(ids, [running.clone(), failed.clone()]);
    assert_eq!(answer["state_counts"], yson::parse(b"{running=1;failed=1}").unwrap());
    assert_eq!(answer["failed_jobs_count"].as_i64(), Some(1));
    for (parameters, expected) in [
        ("{state=failed}", &failed),
        ("{with_failed_jobs=%true}", &failed),
        ("{with_failed_jobs=%false}", &running),
        ("{filter=\"first one\"}", &failed),
        ("{pool=big}", &running),
        ("{limit=1}", &running),
        ("{limit=1;cursor_direction=future}", &failed),
    ] {
        assert_eq!(list(parameters).0, std::slice::from_ref(expected), "{parameters}");
    }
    for parameters in [
        "{user=bob}",
        "{type=map}",
        "{from_time=\"2100-01-01T00:00:00Z\"}",
        "{to_time=\"2000-01-01T00:00:00Z\"}",
    ] {
        assert_eq!(list(parameters).0, Vec::<String>::new(), "{parameters}");
    }
    assert_eq!(value::as_bool(&list("{limit=1}").1["incomplete"]), Some(true));
    let error = cluster.operations.list_operations(&map("{from_time=yesterday}")).unwrap_err();
    assert_eq!(error.message, "Error reading parameter /from_time: \"yesterday\" is not a time");
}

#[tokio::test]
async fn jobs_are_listed_filtered_and_sorted() {
    let cluster = Cluster::plain();
    let id = cluster.start(
        "max_failed_job_count=1",
        "[ $YT_JOB_COOKIE = 1 ] && exit 1; echo $YT_JOB_COOKIE >&2; sleep 86400",
        "job_count=3",
    );
    cluster.wait(id).await;
    let list = |parameters: &str| -> Vec<String> {
        let answer = cluster.operations.list_jobs(&with(id, parameters)).unwrap();
        value::as_list(&answer["jobs"])
            .unwrap()
            .iter()
            .map(|job| job["job_cookie"].as_i64().unwrap().to_string())
            .collect()
    };
    assert_eq!(
        list("job_state=failed;include_cypress=%true;include_archive=%true;include_runtime=%false"),
        ["1"]
    );
    assert_eq!(list("state=aborted").len(), 2);
    assert_eq!(list("limit=1;offset=1"), ["1"]);
    assert_eq!(list("sort_field=start_time;sort_order=descending"), ["2", "1", "0"]);
    assert_eq!(list("task_name=other"), Vec::<String>::new());
    assert_eq!(list("with_fail_context=%true"), Vec::<String>::new());
    assert_eq!(list("address=\"localhost:\"").len(), 3);
    let error = cluster.operations.list_jobs(&with(id, "sort_field=colour")).unwrap_err();
    assert!(
        error.message.starts_with("Error reading parameter /sort_field: unknown field \"colour\""),
        "{error}"
    );

    // As a client sends it: an id with attributes.
    let job = &cluster.jobs(id)[1];
    let parameters = with(id, &format!("job_id=<address=x>\"{}\"", text(job, "id")));
    let shown = cluster.operations.get_job(&parameters).unwrap();
    assert_eq!(text(&shown, "job_id"), text(job, "id"));
    assert_eq!(text(&shown, "address"), "localhost:9012");
    assert_eq!((text(&shown, "state"), text(&shown, "type")), ("failed".into(), "vanilla".into()));
    assert!(cluster.operations.job_stderr(&parameters).is_ok());
    let missing = Guid::random(900);
    let error = cluster.operations.get_job(&with(id, &format!("job_id=\"{missing}\""))).unwrap_err();
    assert_eq!(error.code, 1916);
}
