//! Heavy commands against scripted servers: proxies, redirects, trailers, broken streams, transactions of writes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, codes};
use crate::testing::{Answer, Server, config_for, error_headers};
use crate::transaction::TransactionId;
use crate::value::{ValueExt, int, map, string};
use crate::{Append, FileContent, Md5, StderrRange};

/// An answer to everything around a write: each transaction gets its number as id.
fn around_writes(before: usize, command: &str) -> Answer {
    match command {
        "hosts" => Answer::bytes(b"[]"),
        "start_transaction" => Answer::yson(&format!("{{transaction_id=\"{before}-0-1-0\"}}")),
        _ => Answer::yson("{}"),
    }
}

fn version(revision: u32) -> Vec<(&'static str, String)> {
    vec![("X-YT-Response-Parameters", format!("{{id=\"1-2-190-4\";revision={revision}u}}"))]
}

#[tokio::test]
async fn data_goes_to_a_heavy_proxy_and_falls_back_when_it_is_away() {
    let heavy =
        Server::start(|before, _| if before == 0 { Answer::bytes(b"heavy") } else { Answer::Cut }).await;
    let host = heavy.address.to_string();
    let light = Server::start(move |_, request| match request.command.as_str() {
        "hosts" => Answer::bytes(format!("[\"{host}\"]").as_bytes()),
        _ => Answer::bytes(b"light"),
    })
    .await;
    let client = light.client();
    let range = Some(StderrRange { offset: 5, limit: 10 });
    assert_eq!(client.get_job_stderr("1-2-3-4", "5-6-7-8", range).await.unwrap(), "heavy");
    assert_eq!(heavy.requests("get_job_stderr")[0].parameters.get("offset"), Some(&int(5)));
    assert_eq!(heavy.requests("get_job_stderr")[0].headers["authorization"], "OAuth t0ken");
    let hosts = light.requests("hosts");
    assert_eq!(hosts.len(), 1);
    assert!(!hosts[0].headers.contains_key("authorization"));

    assert_eq!(client.read_file("//x").await.unwrap(), "heavy", "each command has its own first time");
    assert_eq!(client.read_file("//x").await.unwrap(), "light", "a proxy that failed is left alone");
    assert_eq!((heavy.requests("read_file").len(), light.requests("read_file").len()), (2, 1));
    assert_eq!(client.read_file("//x").await.unwrap(), "light");
    assert_eq!(heavy.requests("read_file").len(), 2);
    assert_eq!(light.requests("hosts").len(), 1, "the list is not asked for each time");
}

#[tokio::test]
async fn many_at_once_ask_for_the_list_of_proxies_once() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "hosts" => Answer::bytes(b"[]"),
        _ => Answer::bytes(b"data"),
    })
    .await;
    let client = server.client();
    let reads = (0..8).map(|_| client.read_file("//x"));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap(), "data");
    }
    assert_eq!((server.requests("hosts").len(), server.requests("read_file").len()), (1, 8));
}

#[tokio::test]
async fn without_a_list_of_hosts_the_configured_proxy_moves_data() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "hosts" => Answer::foreign(404),
        _ => Answer::bytes(b"data"),
    })
    .await;
    assert_eq!(server.client().read_file("//x").await.unwrap(), "data");
}

#[tokio::test]
async fn a_redirect_to_a_data_proxy_keeps_the_token() {
    let data = Server::start(|_, _| Answer::bytes(b"data")).await;
    let location = format!("{}/api/v4/read_file?x=y", data.url());
    let control = Server::start(move |_, request| match request.command.as_str() {
        "hosts" => Answer::bytes(b"[]"),
        _ => Answer::Whole { status: 307, headers: vec![("Location", location.clone())], body: vec![] },
    })
    .await;
    assert_eq!(control.client().read_file("//x").await.unwrap(), "data");
    let request = &data.requests("read_file")[0];
    assert_eq!(request.headers["authorization"], "OAuth t0ken");
    assert_eq!(request.text("path"), Some("//x"));
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "hosts" => Answer::bytes(b"[]"),
        _ => Answer::Whole { status: 307, headers: vec![("Location", "/".to_owned())], body: vec![] },
    })
    .await;
    let error = server.client().read_file("//x").await.unwrap_err().to_string();
    assert!(
        error.ends_with("does not answer `read_file` as a YT proxy does: it redirects in circles"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failure_behind_the_head_is_read_from_the_trailers() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("hosts", _) => Answer::bytes(b"[]"),
        ("read_table", 0) => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"{\x01\x02a=\x02\x02};", b"{\x01\x02a="],
            trailers: Some(error_headers(codes::UNAVAILABLE, "chunk is not there")),
        },
        ("read_table", _) => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"<\x01\x12row_index=\x02\x00>#;{\x01\x02a=\x02", b"\x02};{\x01\x02a=\x02\x04};"],
            trailers: Some(vec![]),
        },
        _ => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"half"],
            trailers: Some(error_headers(716, "no chunk")),
        },
    })
    .await;
    let client = server.client();
    assert_eq!(client.read_table("//x").await.unwrap(), [map([("a", int(1))]), map([("a", int(2))])]);
    assert_eq!(server.requests("read_table").len(), 2);
    let error = client.read_file("//x").await.unwrap_err();
    assert!(error.contains(716), "{error}");
    assert_eq!(server.requests("read_file").len(), 1);
}

#[tokio::test]
async fn rows_go_on_where_they_broke() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("hosts", _) => Answer::bytes(b"[]"),
        // The second row came in part.
        (_, 0) => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"{\x01\x02a=\x02\x0a};", b"{\x01\x02a="],
            trailers: None,
        },
        (_, 1) => Answer::Cut,
        (_, 2) => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"{\x01\x02a=\x02\x0c};"],
            trailers: Some(error_headers(codes::UNAVAILABLE, "chunk is not there")),
        },
        _ => Answer::Chunked {
            headers: vec![],
            chunks: vec![b"{\x01\x02a=\x02\x0e};"],
            trailers: Some(vec![]),
        },
    })
    .await;
    let mut reader = server.client().open_rows("//x", 5..100, &["a"]);
    let mut rows = Vec::new();
    while let Some(row) = reader.next().await.unwrap() {
        rows.push(row.get("a").unwrap().as_int().unwrap());
    }
    assert_eq!(rows, [5, 6, 7]);
    let first_rows = server.requests("read_table").iter().map(first_row).collect::<Vec<_>>();
    assert_eq!(first_rows, [5, 6, 6, 7]);
    assert!(reader.next().await.unwrap().is_none());
    assert_eq!(server.requests("read_table").len(), 4, "the end is known");
}

/// The first row that a `read_table` asks for.
fn first_row(request: &crate::testing::Request) -> i64 {
    let attributes = request.parameters.get("path").unwrap().attributes.as_ref().unwrap();
    let range = &attributes[b"ranges".as_slice()].as_list().unwrap()[0];
    range.at(&["lower_limit", "row_index"]).unwrap().as_int().unwrap()
}

#[tokio::test]
async fn a_file_goes_on_where_it_broke_if_it_is_the_same() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("hosts", _) => Answer::bytes(b"[]"),
        (_, 0) => Answer::Chunked { headers: version(1), chunks: vec![b"first "], trailers: None },
        (_, 1) => Answer::Cut,
        _ => Answer::Chunked { headers: version(1), chunks: vec![b"second"], trailers: Some(vec![]) },
    })
    .await;
    let mut reader = server.client().open_file("//x").await.unwrap();
    let mut content = Vec::new();
    while let Some(piece) = reader.chunk().await.unwrap() {
        content.extend_from_slice(&piece);
    }
    assert_eq!(content, b"first second");
    let requests = server.requests("read_file");
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2].parameters.get("offset"), Some(&int(6)));
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_not_glued_together() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("hosts", _) => Answer::bytes(b"[]"),
        (_, 0) => Answer::Chunked { headers: version(1), chunks: vec![b"first "], trailers: None },
        _ => Answer::Chunked { headers: version(2), chunks: vec![b"other"], trailers: Some(vec![]) },
    })
    .await;
    let mut reader = server.client().open_file("//x").await.unwrap();
    assert_eq!(reader.chunk().await.unwrap().unwrap(), "first ");
    let error = reader.chunk().await.unwrap_err().to_string();
    assert!(error.ends_with("the file changed while it was read"), "{error}");
}

#[tokio::test]
async fn each_try_of_a_write_has_a_transaction_of_its_own() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("write_table", 0) => Answer::Cut,
        ("write_table", 1) => Answer::error(503, 1, "going down"),
        (command, _) => around_writes(before, command),
    })
    .await;
    let client = server.client().in_transaction(&TransactionId::new("a-b-c-d"));
    let rows = [map([("message", string("x"))])];
    client.write_table("//log", Append::Yes, &rows).await.unwrap();

    let writes = server.requests("write_table");
    let ids: Vec<_> = writes.iter().map(|request| request.text("transaction_id").unwrap()).collect();
    assert_eq!(ids, ["0-0-1-0", "1-0-1-0", "2-0-1-0"]);
    for write in &writes {
        assert_eq!(write.method, "PUT");
        assert_eq!(write.body, b"{\x01\x0emessage=\x01\x02x};");
        let path = write.parameters.get("path").unwrap();
        assert_eq!((path.as_str(), path.attr("append").unwrap().as_bool()), (Some("//log"), Some(true)));
    }
    let named = |command: &str| -> Vec<String> {
        server
            .requests(command)
            .iter()
            .map(|request| request.text("transaction_id").unwrap().to_owned())
            .collect()
    };
    assert_eq!(named("abort_transaction"), ["0-0-1-0", "1-0-1-0"]);
    assert_eq!(named("commit_transaction"), ["2-0-1-0"]);
    assert_eq!(named("start_transaction"), ["a-b-c-d", "a-b-c-d", "a-b-c-d"], "nested in the caller's");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_a_second_write() {
    let server = Server::start(|before, request| match (request.command.as_str(), before) {
        ("commit_transaction", 0) => Answer::Cut,
        (command, _) => around_writes(before, command),
    })
    .await;
    server.client().write_file("//x", Bytes::from("content").into(), Md5::Compute).await.unwrap();
    assert_eq!(server.requests("write_file").len(), 1);
    assert_eq!(server.requests("write_file")[0].flag("compute_md5"), Some(true));
    let commits = server.requests("commit_transaction");
    assert_eq!(commits[0].text("mutation_id"), commits[1].text("mutation_id"));
    assert_eq!(commits[1].flag("retry"), Some(true));
}

#[tokio::test]
async fn a_write_that_the_cluster_refuses_is_aborted_and_reported() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "write_file" => Answer::error(400, codes::RESOLVE_ERROR, "no such node"),
        command => around_writes(before, command),
    })
    .await;
    let error = server.client().write_file("//x", Bytes::new().into(), Md5::Skip).await.unwrap_err();
    assert!(error.contains(codes::RESOLVE_ERROR));
    assert_eq!(server.commands(), ["start_transaction", "hosts", "write_file", "abort_transaction"]);
}

#[tokio::test]
async fn a_local_file_is_streamed_whole_with_progress() {
    let server = Server::start(|before, request| around_writes(before, &request.command)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let content: Vec<u8> = (0..700_001_u32).map(|number| number.to_le_bytes()[0]).collect();
    std::fs::write(&path, &content).unwrap();
    let last = Arc::new(AtomicU64::new(0));
    let seen = last.clone();
    let progress: crate::Progress = Arc::new(move |bytes| {
        assert!(seen.swap(bytes, Ordering::Relaxed) < bytes, "it only grows");
    });
    let content_of_path = FileContent::Path { path, progress: Some(progress) };
    server.client().write_file("//x", content_of_path, Md5::Skip).await.unwrap();
    let request = &server.requests("write_file")[0];
    assert!(request.body == content);
    assert_eq!(request.headers["content-length"], "700001");
    assert_eq!(last.load(Ordering::Relaxed), 700_001);
}

#[tokio::test]
async fn a_local_file_that_is_not_there_is_named() {
    let server = Server::start(|before, request| around_writes(before, &request.command)).await;
    let content = FileContent::Path { path: PathBuf::from("/no/such/file"), progress: None };
    let error = server.client().write_file("//x", content, Md5::Skip).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/no/such/file`: no such file or directory");
    assert!(server.requests("write_file").is_empty());
}

#[tokio::test]
async fn a_write_that_stands_still_is_given_up() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "write_file" => Answer::Silence,
        command => around_writes(before, command),
    })
    .await;
    let mut config = server.config();
    config.heavy_progress_timeout = Duration::from_millis(50);
    config.retry_budget = Duration::ZERO;
    let client = Client::new(config).unwrap();
    let error = client.write_file("//x", Bytes::from("x").into(), Md5::Skip).await.unwrap_err();
    assert!(matches!(&error, Error::Transport { tries: 1, .. }), "{error:?}");
    assert_eq!(server.requests("abort_transaction").len(), 1);
}

#[tokio::test]
async fn rows_must_be_maps() {
    static NOWHERE: OnceLock<Client> = OnceLock::new();
    let client = NOWHERE.get_or_init(|| Client::new(config_for("http://127.0.0.1:1")).unwrap());
    let error = client.write_table("//x", Append::No, &[int(1)]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot send `write_table`: a row is not a map without attributes");
}
