//! Memory limits and memory in the sandbox.

use super::*;

/// Takes as many megabytes as it is told to, and holds them.
const TAKE: &str =
    "take() { local text; printf -v text '%*s' $(($1 << 20)) ''; echo taken >&2; sleep 86400; }; ";

#[tokio::test]
async fn a_job_over_its_memory_limit_is_killed_and_says_so() {
    for cluster in Cluster::each() {
        let id = cluster.start("max_failed_job_count=1", &format!("{TAKE} take 64"), "memory_limit=33554432");
        assert_eq!(cluster.wait(id).await, "failed");
        let error = cluster.error(id);
        assert_eq!(tree(&error), "215 Failed jobs limit exceeded > 1200 Memory limit exceeded");
        let attributes = cluster.jobs(id)[0]["error"]["attributes"].clone();
        assert_eq!(attributes["limit"].as_i64(), Some(32 << 20));
        assert!(attributes["usage"].as_i64().unwrap() > 32 << 20);
    }
}

#[tokio::test]
async fn a_task_without_a_limit_has_that_of_the_cluster() {
    let cluster = Cluster::new();
    let id = cluster.start("max_failed_job_count=1", &format!("{TAKE} take 600"), "");
    assert_eq!(cluster.wait(id).await, "failed");
    let error = tree(&cluster.error(id));
    let wanted = "1200 Memory limit exceeded > 1 The task's spec has no memory_limit, so the cluster's default of 512 MiB";
    assert!(error.contains(wanted), "{error}");
    // With one above the default, the same job runs.
    let id =
        cluster.start("", &format!("{} take 600", TAKE.replace("86400", "0.3")), "memory_limit=2147483648");
    assert_eq!(cluster.wait(id).await, "completed");
}

#[tokio::test]
async fn all_processes_of_a_job_count_together_and_what_they_share_once() {
    let cluster = Cluster::new();
    let sleep = unique_sleep();
    // Each of them is below the limit.
    let many = format!("{TAKE} take 24 & take 24 & exec sleep {sleep}");
    let id = cluster.start("max_failed_job_count=1", &many, "memory_limit=41943040");
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).ends_with("1200 Memory limit exceeded"));
    assert!(processes_with(&sleep).is_empty());
    // Four processes with the same 24 megabytes, for longer than it takes to look.
    let shared =
        "printf -v text '%*s' $((24 << 20)) ''; for i in 1 2 3; do sleep 0.3 & (sleep 0.3; :) & done; wait";
    let id = cluster.start("max_failed_job_count=1", shared, "memory_limit=67108864");
    assert_eq!(cluster.wait(id).await, "completed", "{}", tree(&cluster.error(id)));
}

#[tokio::test]
async fn tmpfs_volumes_hold_the_files_and_no_more_than_their_size() {
    let cluster = Cluster::new();
    cluster.add_file("//a/in", b"given\n");
    cluster.add_file("//a/out", b"outside\n");
    let command = "cat disk/in out >&2; stat -f -c %T disk >&2; \
                   head -c 2000000 /dev/zero 2>&1 > disk/large && echo fits >&2; exit 0";
    let fields =
        "file_paths=[<file_name=\"disk/in\">\"//a/in\";\"//a/out\"];tmpfs_volumes=[{path=disk;size=1048576}]";
    let (state, stderr) = cluster.run("", command, fields).await;
    assert_eq!(state, "completed");
    assert!(stderr.starts_with("given\noutside\n"), "{stderr}");
    if !matches!(cluster.operations.isolation, Isolation::Session) {
        assert!(stderr.contains("tmpfs\n") && !stderr.contains("fits"), "{stderr}");
    }
}

#[tokio::test]
async fn the_whole_sandbox_can_be_memory_and_counts_as_such() {
    let cluster = Cluster::new();
    if matches!(cluster.operations.isolation, Isolation::Session) {
        // Nothing can be mounted here.
        return;
    }
    cluster.add_file("//a/tool", b"echo tool works >&2");
    let fields = "tmpfs_path=\".\";file_paths=[<executable=%true>\"//a/tool\"]";
    let (state, stderr) = cluster.run("", "./tool; stat -f -c %T . >&2; pwd >&2", fields).await;
    assert_eq!((state.as_str(), stderr.as_str()), ("completed", "tool works\ntmpfs\n/slot/sandbox\n"));

    let fill = "head -c 67108864 /dev/zero > file; sleep 86400";
    let fields = "tmpfs_path=\".\";memory_limit=50331648";
    let id = cluster.start("max_failed_job_count=1", fill, fields);
    assert_eq!(cluster.wait(id).await, "failed");
    let attributes = cluster.jobs(id)[0]["error"]["attributes"].clone();
    assert!(attributes["tmpfs_usage"].as_i64().unwrap() > 40 << 20);
}

#[tokio::test]
async fn a_file_that_does_not_fit_fails_the_job() {
    let cluster = Cluster::new();
    if matches!(cluster.operations.isolation, Isolation::Session) {
        return;
    }
    cluster.add_file("//a/large", "7".repeat(100_000).as_bytes());
    let fields = "tmpfs_path=\".\";tmpfs_size=4096;file_paths=[\"//a/large\"]";
    let id = cluster.start("max_failed_job_count=1", "exit 0", fields);
    assert_eq!(cluster.wait(id).await, "failed");
    let error = tree(&cluster.error(id));
    assert!(error.contains("1204 Job was not prepared") && error.contains("\"large\""), "{error}");
}
