//! The crate `ytsaurus-client`, an independent client in Rust, against the minicluster.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tractorun_tests::{Cluster, Scratch};
use ytsaurus_client::{
    BatchRequest, Client, ClientError, Column, ColumnType, LockMode, OperationFilter, RetryPolicy, RowRange,
    TablePath, TableSchema, VanillaSpec, VanillaTask, yson_build,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    key: String,
    count: i64,
}

/// What a table of [`Row`]s does not take.
#[derive(Serialize)]
struct Mistyped {
    count: &'static str,
}

/// A cluster of the test's own, and the foreign client of it. Errors show at once: nothing is retried.
struct Place {
    client: Client,
    _cluster: Cluster,
    _scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        let client = Client::with_token(&cluster.proxy(), "any")
            .with_retries(RetryPolicy::none())
            .with_poll_interval(Duration::from_millis(20));
        Self { client, _cluster: cluster, _scratch: scratch }
    }
}

fn rows(count: i64) -> Vec<Row> {
    (0..count).map(|count| Row { key: format!("key {count}"), count }).collect()
}

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: Result<T, ClientError>, wanted: i64) {
    match result {
        Err(ClientError::Cluster { raw, code, .. }) => {
            assert!(
                code == wanted || raw.contains(&format!("\"code\":{wanted}")),
                "no code {wanted} in {raw}"
            );
        }
        other => panic!("wanted code {wanted}, found {other:?}"),
    }
}

#[test]
fn cypress() {
    let Place { client, .. } = &Place::new();
    client.create("map_node", "//tmp/deep/er").unwrap();
    client.create("document", "//tmp/deep/document").unwrap();
    let mut names = client.list("//tmp/deep").unwrap();
    names.sort();
    assert_eq!(names, ["document", "er"]);
    client.set_attribute("//tmp/deep", "mine", yson_build::map([("b", yson_build::int(1))])).unwrap();
    assert_eq!(client.get("//tmp/deep/@mine").unwrap()["b"], yson_build::int(1));
    client.copy("//tmp/deep/document", "//tmp/deep/copy").unwrap();
    assert_code(client.copy("//tmp/deep/document", "//tmp/deep/copy"), 501);
    client.copy_replacing("//tmp/deep/document", "//tmp/deep/copy").unwrap();
    client.move_node("//tmp/deep/copy", "//tmp/deep/moved").unwrap();
    assert!(!client.exists("//tmp/deep/copy").unwrap());
    client.link("//tmp/deep/moved", "//tmp/deep/link").unwrap();
    assert_eq!(client.get("//tmp/deep/link&/@target_path").unwrap(), yson_build::string("//tmp/deep/moved"));
    assert_eq!(client.get("//tmp/deep/link/@type").unwrap(), yson_build::string("document"));
    client.remove("//tmp/deep/link").unwrap();
    assert_code(client.get("//tmp/none"), 500);
    assert_code(client.remove("//tmp/none"), 500);
    client.remove_tree("//tmp/deep").unwrap();
    assert!(!client.exists("//tmp/deep").unwrap());
}

#[test]
fn transactions() {
    let Place { client, .. } = &Place::new();
    let transaction = client.start_transaction().unwrap();
    transaction.create("map_node", "//tmp/inside").unwrap();
    assert!(transaction.exists("//tmp/inside").unwrap());
    assert!(!client.exists("//tmp/inside").unwrap());
    transaction.ping().unwrap();
    transaction.commit().unwrap();
    assert!(client.exists("//tmp/inside").unwrap());

    let transaction = client.start_transaction().unwrap();
    transaction.remove("//tmp/inside").unwrap();
    let id = transaction.id().to_owned();
    transaction.abort().unwrap();
    assert!(client.exists("//tmp/inside").unwrap());
    // YT's code for a transaction that is not there.
    assert_code(client.ping_transaction(&id), 11000);

    // The client's own thread keeps a detached transaction alive when another attaches to it.
    let id = client.start_transaction().unwrap().detach();
    let attached = client.attach_transaction(&id).unwrap();
    attached.create("map_node", "//tmp/attached").unwrap();
    attached.commit().unwrap();
    assert!(client.exists("//tmp/attached").unwrap());
}

#[test]
fn locks() {
    let Place { client, .. } = &Place::new();
    client.create("map_node", "//tmp/node").unwrap();
    let holder = client.start_transaction().unwrap();
    let other = client.start_transaction().unwrap();
    let lock = holder.lock("//tmp/node", LockMode::Exclusive).unwrap();
    assert_eq!(client.get("//tmp/node/@id").unwrap(), yson_build::string(&lock.node_id));
    assert_code(other.lock("//tmp/node", LockMode::Shared), 402);
    other.lock("//tmp/node", LockMode::Snapshot).unwrap();
    let waiting = client.start_transaction().unwrap();
    let waiter = std::thread::spawn(move || {
        waiting.lock_waiting("//tmp/node", LockMode::Shared, Duration::from_mins(1)).unwrap();
    });
    holder.commit().unwrap();
    waiter.join().expect("the lock is given when its holder is gone");
}

#[test]
fn batch() {
    let Place { client, .. } = &Place::new();
    client.create("map_node", "//tmp/there").unwrap();
    let mut batch = BatchRequest::new().with_concurrency(2).with_max_part_size(2);
    batch.get("//tmp/there/@type").get("//tmp/none").exists("//tmp/none").create("map_node", "//tmp/new");
    let mut answers = client.execute_batch(&batch).unwrap().into_iter();
    let mut next = || answers.next().expect("an answer for each request");
    assert_eq!(next().unwrap()["value"], yson_build::string("map_node"));
    assert_code(next(), 500);
    assert_eq!(next().unwrap()["value"], yson_build::boolean(false));
    assert!(next().unwrap()["node_id"].as_str().is_some());
    assert!(client.exists("//tmp/new").unwrap());
}

#[test]
fn files() {
    let Place { client, .. } = &Place::new();
    let content: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    client.create("file", "//tmp/file").unwrap();
    client.write_file("//tmp/file", &content).unwrap();
    assert!(client.read_file("//tmp/file").unwrap() == content, "a file comes back as it was written");
    client.write_file("//tmp/file", b"").unwrap();
    assert_eq!(client.read_file("//tmp/file").unwrap(), b"");
    assert_code(client.read_file("//tmp/none"), 500);
    // An MD5 that nobody has stored.
    client.create("map_node", "//tmp/yt_wrapper/file_storage/new_cache").unwrap();
    assert_eq!(client.file_from_cache("00000000000000000000000000000000").unwrap(), None);
}

#[test]
fn tables() {
    let Place { client, .. } = &Place::new();
    let columns =
        [Column::new("key", ColumnType::Utf8).required(), Column::new("count", ColumnType::Int64).required()];
    client.create_table("//tmp/table", &TableSchema::new(columns)).unwrap();
    client.write_table_rows("//tmp/table", rows(1000)).unwrap();
    client.write_table_rows(TablePath::new("//tmp/table").append(), rows(1)).unwrap();
    assert_eq!(client.row_count("//tmp/table").unwrap(), 1001);
    let wanted = [rows(1000), rows(1)].concat();
    assert_eq!(client.read_table_rows::<Row>("//tmp/table").unwrap(), wanted);
    let range = TablePath::new("//tmp/table").range(RowRange::rows(10..13));
    assert_eq!(client.read_table_rows::<Row>(range).unwrap(), wanted[10..13]);
    let columns = TablePath::new("//tmp/table").columns(["count"]).range(RowRange::rows(5..6));
    let found = String::from_utf8_lossy(&client.read_table(columns).unwrap()).into_owned();
    assert!(found.contains("count") && !found.contains("key"), "only the column asked for: {found:?}");
    client.write_table_rows("//tmp/table", rows(2)).unwrap();
    assert_eq!(client.read_table_rows::<Row>("//tmp/table").unwrap(), rows(2));
    // A row that the schema does not allow.
    let refused = client.write_table_rows("//tmp/table", [Mistyped { count: "text" }]);
    assert!(matches!(refused, Err(ClientError::Cluster { .. })), "{refused:?}");
    assert_eq!(client.read_table_rows::<Row>("//tmp/table").unwrap(), rows(2));
}

#[test]
fn vanilla_operations() {
    let Place { client, .. } = &Place::new();
    client.create("file", "//tmp/file").unwrap();
    client.write_file("//tmp/file", b"from a file\n").unwrap();
    let task = VanillaTask::new("task", "cat named >&2; echo $MINE >&2", 2)
        .with_local_file_named("//tmp/file", "named")
        .with_env("MINE", "mine");
    let id = client.start_vanilla(&VanillaSpec::new(task)).unwrap();
    client.wait_for_operation(&id).unwrap();
    assert_eq!(client.operation_state(&id).unwrap(), "completed");
    let jobs = client.list_jobs(&id, None, 10).unwrap();
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        assert_eq!(client.get_job(&id, &job.id).unwrap().state, "completed");
        assert_eq!(client.get_job_stderr(&id, &job.id).unwrap(), b"from a file\nmine\n");
    }
    let listed = client.list_operations(&OperationFilter::new().with_state("completed")).unwrap();
    assert_eq!(listed.operations.iter().map(|operation| &operation.id).collect::<Vec<_>>(), [&id]);
}

#[test]
fn failed_and_aborted_operations() {
    let Place { client, .. } = &Place::new();
    let task = VanillaTask::new("task", "echo last words >&2; exit 3", 1);
    let spec = VanillaSpec::new(task).with_raw("max_failed_job_count", yson_build::int(1));
    let id = client.start_vanilla(&spec).unwrap();
    let Err(ClientError::OperationFailed { state, error, jobs, .. }) = client.wait_for_operation(&id) else {
        panic!("a failing job fails its operation");
    };
    assert_eq!(state, "failed");
    assert!(error.expect("there is an error").contains("exited with code 3"));
    assert_eq!(jobs.len(), 1);
    assert!(jobs[0].stderr.as_ref().expect("there is a stderr").contains("last words"));

    let id = client.start_vanilla(&VanillaSpec::new(VanillaTask::new("task", "sleep 1000", 1))).unwrap();
    let operation = client.attach_operation(&id);
    operation.suspend(false).unwrap();
    assert!(operation.suspended().unwrap());
    operation.resume().unwrap();
    operation.abort(Some("enough")).unwrap();
    assert_eq!(operation.state().unwrap(), "aborted");
    assert!(operation.error().unwrap().expect("there is an error").contains("enough"));
}
