//! What a spec may say, and how it is refused.

use super::*;

fn refusal(spec: &str) -> String {
    let cluster = Cluster::plain();
    cluster.start_with("", spec).unwrap_err().to_string()
}

#[tokio::test]
async fn errors_name_the_field() {
    for (spec, text) in [
        ("{}", "/tasks: a vanilla operation needs tasks"),
        ("{tasks={}}", "/tasks: a vanilla operation needs at least one task"),
        ("{tasks=5}", "/tasks: a map is expected, got int64"),
        ("{tasks={t=5}}", "/tasks: task \"t\" is expected to be a map"),
        ("{tasks={t={job_count=1}}}", "/tasks/t/command: missing"),
        ("{tasks={t={command=x}}}", "/tasks/t/job_count: missing"),
        ("{tasks={t={command=x;job_count=0}}}", "/tasks/t/job_count: expected 1 to 10000, got 0"),
        ("{tasks={t={command=x;job_count=a}}}", "/tasks/t/job_count: an integer is expected, got string"),
        ("{tasks={t={command=5;job_count=1}}}", "/tasks/t/command: a string is expected, got int64"),
        (
            "{tasks={t={command=x;job_count=1;environment={A=1}}}}",
            "/tasks/t/environment: variable \"A\": a string is expected",
        ),
        (
            "{tasks={t={command=x;job_count=1;file_paths=[<file_name=\"../up\">\"//a\"]}}}",
            "/tasks/t/file_paths: //a: file name \"../up\" must be a relative path in the sandbox",
        ),
        (
            "{tasks={t={command=x;job_count=1;gang_options={size=2}}}}",
            "/tasks/t/gang_options/size: expected 1 to 1, got 2",
        ),
        (
            "{tasks={t={command=x;job_count=1;gang_options={}}};fail_on_job_restart=%true}",
            "/fail_on_job_restart: not possible in an operation with gang_options",
        ),
        (
            "{tasks={t={command=x;job_count=1;interruption_signal=TERM}}}",
            "/tasks/t/interruption_signal: a signal's name such as SIGTERM is expected, got \"TERM\"",
        ),
        (
            "{tasks={t={command=x;job_count=1;custom_statistics_count_limit=1025}}}",
            "/tasks/t/custom_statistics_count_limit: expected 1 to 1024, got 1025",
        ),
        (
            "{tasks={t={command=x;job_count=1;tmpfs_path=\"../up\"}}}",
            "/tasks/t/tmpfs_path: \"../up\" must be a relative path in the sandbox",
        ),
        (
            "{tasks={t={command=x;job_count=1;tmpfs_path=\".\";tmpfs_volumes=[{path=a;size=1}]}}}",
            "/tasks/t/tmpfs_volumes: \"a\" and \".\" are in each other",
        ),
        (
            "{tasks={t={command=x;job_count=1;tmpfs_volumes=[{path=a}]}}}",
            "/tasks/t/tmpfs_volumes: a list of maps with `path` and `size` is expected",
        ),
        (
            "{tasks={t={command=x;job_count=1;tmpfs_volumes=[{path=a;size=536870912};{path=b;size=1}]}}}",
            "/tasks/t/tmpfs_volumes: 536870913 bytes of tmpfs volumes do not fit into the memory limit of 536870912",
        ),
        (
            "{tasks={t={command=x;job_count=1;port_count=51}}}",
            "/tasks/t/port_count: expected 0 to 50, got 51",
        ),
        (
            "{tasks={t={command=x;job_count=1;exec_time_limit=x}}}",
            "/tasks/t/exec_time_limit: an integer is expected, got string",
        ),
        (
            "{tasks={t={command=x;job_count=1;network_project=mine}}}",
            "/tasks/t/network_project: not supported by this server",
        ),
        (
            "{tasks={t={command=x;job_count=1;collective_options={size=2}}}}",
            "/tasks/t/collective_options: not supported by this server",
        ),
        (
            "{tasks={t={command=x;job_count=1;restart_completed_jobs=%true}}}",
            "/tasks/t/restart_completed_jobs: not supported by this server",
        ),
        (
            "{tasks={t={command=x;job_count=1}};stderr_table_path=\"//t\"}",
            "/stderr_table_path: not supported by this server",
        ),
        (
            "{tasks={t={command=x;job_count=1}};max_stderr_count=151}",
            "/max_stderr_count: expected 0 to 150, got 151",
        ),
        (
            "{tasks={t={command=x;job_count=1}};fail_on_job_restart=5}",
            "/fail_on_job_restart: a boolean is expected, got int64",
        ),
        (
            "{tasks={t={command=x;job_count=1}};alias=name}",
            "/alias: a name that starts with `*` is expected, got \"name\"",
        ),
        (
            "{tasks={t={command=x;job_count=1}};secure_vault={\"a=b\"=c}}",
            "/secure_vault: \"a=b\": a name without `=` and a value without NUL bytes are expected",
        ),
    ] {
        assert_eq!(refusal(spec), format!("Error parsing operation spec: {text}"), "{spec}");
    }
}

#[tokio::test]
async fn other_types_of_operations_are_refused() {
    let cluster = Cluster::plain();
    let error = cluster.operations.start(&map("{operation_type=map;spec={}}"), "alice").unwrap_err();
    assert_eq!(error.message, "Operation type \"map\" is not supported by this server: only vanilla is");
}

#[tokio::test]
async fn what_asks_for_nothing_is_accepted_and_what_nobody_knows_is_shown() {
    let cluster = Cluster::new();
    let spec = "{title=T;is_gang=%true;started_by={pid=1};surprise=1;tasks={t={command=\"exit 0\";job_count=1;\
                use_yamr_descriptors=%false;check_input_fully_consumed=%false;tmpfs_volumes=[];gpu_limit=8;\
                cpu_limit=1.5;memory_limit=1073741824;docker_image=\"x/y:z\";interruption_signal=SIGTERM;odd=a}}}";
    let id = cluster.start_with("", spec).unwrap();
    assert_eq!(cluster.wait(id).await, "completed");
    let operation = cluster.get(id);
    assert_eq!(operation["unrecognized_spec"], yson::parse(b"{surprise=1;tasks={t={odd=a}}}").unwrap());
    assert_eq!(operation["spec"], yson::parse(spec.as_bytes()).unwrap());
    assert_eq!(operation["full_spec"]["max_failed_job_count"].as_i64(), Some(10));
    assert_eq!(text(&operation["brief_spec"], "title"), "T");
}
