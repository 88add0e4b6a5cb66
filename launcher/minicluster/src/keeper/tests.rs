//! Random commands, then the same state from the disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use proptest::prelude::*;
use ytsaurus_yson::YsonValue;

use super::*;
use crate::commands::registry::{self, ApiVersion};
use crate::commands::{Input, Request, WrittenFile, execute, plan_write};
use crate::cypress::FileContent;
use crate::formats::{Format, yson};
use crate::server::{Server, Tokens};
use crate::storage::{Content, FolderConfig, OpenError, Sync};
use crate::value::{self, YsonMap};

fn open(path: &Path, snapshot_after_bytes: u64) -> Result<Arc<Server>, OpenError> {
    let folder = DataFolder::open(path, FolderConfig { sync: Sync::Never, snapshot_after_bytes })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Server::restore(folder, Tokens::default(), address).map(|(server, _)| Arc::new(server))
}

async fn send(server: &Arc<Server>, name: &str, parameters: &str, body: &[u8]) -> Result<YsonValue, YtError> {
    let descriptor = registry::find(ApiVersion::V4, name).unwrap();
    let parameters: YsonMap = value::as_map(&yson::parse(parameters.as_bytes()).unwrap()).unwrap().clone();
    let mut request = Request {
        version: ApiVersion::V4,
        parameters,
        user: "tester".to_owned(),
        input: Input::Nothing,
        known_etag: None,
        proxy: String::new(),
        journaled: None,
    };
    request.input = match name {
        "set" | "multiset_attributes" => Input::Structured(yson::parse(body).unwrap()),
        "write_table" => Input::Rows(Format::YsonText.parse_rows(body).unwrap()),
        "write_file" => {
            let mut plan = plan_write(server, &request)?;
            let mut writer = server.storage.writer().unwrap();
            std::io::Write::write_all(&mut writer, body).unwrap();
            let md5 = plan.hash.take().map(|mut md5| {
                md5::Digest::update(&mut md5, body);
                crate::cypress::FileHash::Growing(md5)
            });
            let written = FileContent { data: Content::from_blob(writer.finish()), md5 };
            Input::File(Box::new(WrittenFile { written, plan }))
        }
        _ => Input::Nothing,
    };
    let output = execute(server, descriptor, request).await;
    server.settle().await?;
    Ok(output?.document(ApiVersion::V4).unwrap_or_else(value::entity))
}

/// One random command; the numbers choose it. Transactions are those that were started before.
async fn step(server: &Arc<Server>, transactions: &mut Vec<String>, numbers: (u8, u8, u8, u8), count: usize) {
    let (kind, first, second, third) = numbers;
    let path = |number: u8| match number % 7 {
        0 => "//tmp/a".to_owned(),
        1 => "//tmp/a/b".to_owned(),
        2 => "//tmp/a/c".to_owned(),
        3 => "//tmp/table".to_owned(),
        4 => "//tmp/file".to_owned(),
        5 => "//tmp/link".to_owned(),
        _ => format!("//tmp/n{}", number / 7 % 4),
    };
    let transaction = if third % 3 == 0 || transactions.is_empty() {
        "0-0-0-0".to_owned()
    } else {
        transactions[usize::from(third) % transactions.len()].clone()
    };
    let (one, two) = (path(first), path(second));
    let common = format!("transaction_id=\"{transaction}\";mutation_id=\"{count}-1-1-1\"");
    let number = u32::from(second) * 256 + u32::from(third);
    let (name, parameters, body) = match kind % 22 {
        0 => ("create", format!("path=\"{one}\";type=map_node;recursive=%true"), String::new()),
        1 => ("create", "path=\"//tmp/table\";type=table;ignore_existing=%true".to_owned(), String::new()),
        2 => ("create", "path=\"//tmp/file\";type=file;force=%true".to_owned(), String::new()),
        3 => ("set", format!("path=\"{one}\";force=%true"), format!("{{x={number};y=[1;{{z=#}}]}}")),
        4 => ("set", format!("path=\"{one}/@attribute{}\"", second % 3), format!("<a=1>{number}u")),
        5 => ("remove", format!("path=\"{one}\";force=%true"), String::new()),
        6 => ("copy", format!("source_path=\"{one}\";destination_path=\"{two}\";force=%true"), String::new()),
        7 => ("move", format!("source_path=\"{one}\";destination_path=\"{two}\""), String::new()),
        8 => ("link", format!("link_path=\"//tmp/link\";target_path=\"{two}\";force=%true"), String::new()),
        9 => ("lock", format!("path=\"{one}\";mode=shared;child_key=k;waitable=%true"), String::new()),
        10 => ("lock", format!("path=\"{one}\";mode=snapshot"), String::new()),
        11 => ("lock", format!("path=\"{one}\";mode=exclusive;waitable=%true"), String::new()),
        12 => ("unlock", format!("path=\"{one}\""), String::new()),
        13 => ("commit_transaction", String::new(), String::new()),
        14 => ("abort_transaction", String::new(), String::new()),
        15 => (
            "write_table",
            "path=\"<append=%true>//tmp/table\"".to_owned(),
            format!("{{n={number};s=\"\\xff\"}};{{d=-0.5}}"),
        ),
        16 => ("write_table", "path=\"//tmp/table\"".to_owned(), format!("{{n={number}}}")),
        17 => (
            "write_file",
            "path=\"<append=%true>//tmp/file\";compute_md5=%true".to_owned(),
            format!("bytes {number}"),
        ),
        18 => ("write_file", "path=\"//tmp/file\"".to_owned(), format!("other bytes {number}")),
        19 => (
            "multiset_attributes",
            format!("path=\"{one}/@\""),
            format!("{{expiration_timeout={};q=#}}", second % 2),
        ),
        20 => (
            "concatenate",
            "source_paths=[\"//tmp/table\"];destination_path=\"<append=%true>//tmp/table\"".to_owned(),
            String::new(),
        ),
        _ => {
            let timeout = if second % 4 == 0 { 0 } else { 60_000 };
            let parameters = format!("{{{common};timeout={timeout};attributes={{title=t}}}}");
            if let Ok(answer) = send(server, "start_transaction", &parameters, b"").await {
                transactions
                    .push(value::get(&answer, "transaction_id").unwrap().as_str().unwrap().to_owned());
            }
            return;
        }
    };
    // Errors are as good as anything: they must leave the same state behind, too.
    let _ = send(server, name, &format!("{{{common};{parameters}}}"), body.as_bytes()).await;
}

fn run(commands: &[(u8, u8, u8, u8)], snapshot_after_bytes: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut transactions = Vec::new();
    let mut server = open(folder.path(), snapshot_after_bytes).unwrap();
    // Half of the commands come after a restart: a restored state must work as the first one did.
    let halves = commands.split_at(commands.len() / 2);
    let mut count = 0;
    for half in [halves.0, halves.1] {
        runtime.block_on(async {
            for numbers in half {
                count += 1;
                step(&server, &mut transactions, *numbers, count).await;
            }
        });
        let before = server.lasting_state();
        drop(server);
        server = open(folder.path(), snapshot_after_bytes).unwrap();
        assert!(server.lasting_state() == before, "the restored state differs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)) })]

    #[test]
    fn a_replayed_journal_gives_the_same_state(commands in proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 1..150)) {
        run(&commands, u64::MAX);
    }

    #[test]
    fn snapshots_and_journals_together_give_the_same_state(commands in proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 1..150)) {
        run(&commands, 700);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn exists(server: &Arc<Server>, path: &str) -> bool {
    let answer = block_on(send(server, "exists", &format!("{{path=\"{path}\"}}"), b"")).unwrap();
    value::get(&answer, "value") == Some(&value::boolean(true))
}

#[test]
fn a_torn_end_is_cut_off_and_damage_in_the_middle_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path(), u64::MAX).unwrap();
    for name in ["first", "second"] {
        block_on(send(&server, "create", &format!("{{path=\"//tmp/{name}\";type=map_node}}"), b"")).unwrap();
    }
    drop(server);
    let journal = folder.path().join("journal.0");
    let whole = std::fs::read(&journal).unwrap();

    std::fs::write(&journal, &whole[..whole.len() - 1]).unwrap();
    let server = open(folder.path(), u64::MAX).unwrap();
    assert!(exists(&server, "//tmp/first") && !exists(&server, "//tmp/second"));
    block_on(send(&server, "create", "{path=\"//tmp/third\";type=map_node}", b"")).unwrap();
    drop(server);
    let server = open(folder.path(), u64::MAX).unwrap();
    assert!(exists(&server, "//tmp/first") && exists(&server, "//tmp/third"));
    drop(server);

    let mut damaged = whole.clone();
    damaged[60] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();
    let error = open(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(error.contains("journal.0` is damaged at byte 41,"), "{error}");

    std::fs::write(&journal, b"something else entirely, and long enough to be no header that was cut")
        .unwrap();
    let error = open(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(error.contains("was not written by this version"), "{error}");
}

#[test]
fn two_servers_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _server = open(folder.path(), u64::MAX).unwrap();
    let error = open(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
}

#[test]
fn a_retry_after_a_restart_gets_the_first_answer_and_bytes_are_collected() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path(), u64::MAX).unwrap();
    let create =
        |retry: &str| format!("{{path=\"//tmp/f\";type=file;mutation_id=\"1-2-3-4\";retry={retry}}}");
    let first = block_on(send(&server, "create", &create("%false"), b"")).unwrap();
    let batch = |retry: &str| {
        format!(
            "{{mutation_id=\"9-2-3-4\";retry={retry};requests=[{{command=create;parameters={{path=\"//tmp/b\";type=map_node}}}}]}}"
        )
    };
    let first_batch = block_on(send(&server, "execute_batch", &batch("%false"), b"")).unwrap();
    block_on(send(&server, "write_file", "{path=\"//tmp/f\"}", b"old")).unwrap();
    block_on(send(&server, "write_file", "{path=\"//tmp/f\"}", b"new")).unwrap();
    drop(server);
    std::fs::write(folder.path().join("blobs/77.blob"), b"of a write that was never finished").unwrap();
    let server = open(folder.path(), u64::MAX).unwrap();
    assert_eq!(block_on(send(&server, "create", &create("%true"), b"")), Ok(first));
    assert_eq!(block_on(send(&server, "execute_batch", &batch("%true"), b"")), Ok(first_batch));
    let error = block_on(send(&server, "create", &create("%false"), b"")).unwrap_err();
    assert_eq!(error.message, "Duplicate request is not marked as \"retry\"");
    let blobs: Vec<_> = std::fs::read_dir(folder.path().join("blobs")).unwrap().collect();
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    drop(server);
    std::fs::remove_file(blobs[0].as_ref().unwrap().path()).unwrap();
    let error = open(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(error.contains("incomplete") && error.contains(".blob"), "{error}");
}
