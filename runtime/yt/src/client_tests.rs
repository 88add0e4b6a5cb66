//! The client against a scripted server: what goes over the wire, and what comes of failures.

use std::path::Path;
use std::time::Duration;

use crate::client::Client;
use crate::error::{Error, TransportKind, codes};
use crate::testing::{Answer, Server, config_for, error_headers};
use crate::transaction::TransactionId;
use crate::value::{self, ValueExt, int, map, string};
use crate::{
    BatchRequest, CreateOptions, JobFilter, LockMode, LockWait, NodeType, RemoveOptions, TransferOptions,
};

/// Commands must be awaitable in tasks of their own.
fn sendable<T: Send>(future: T) -> T {
    future
}

#[tokio::test]
async fn a_read_carries_token_and_parameters_in_headers() {
    let server = Server::start(|_, _| Answer::yson("{value={a=[1;%true]}}")).await;
    let client = server
        .client()
        .in_transaction(&TransactionId::new("1-2-3-4"))
        .with_prerequisite(&TransactionId::new("5-6-7-8"));
    let found = sendable(client.get_with("//tmp/x", &["type"])).await.unwrap();
    assert_eq!(found.get("a").unwrap().as_list().unwrap()[0].as_i64(), Some(1));

    let requests = server.requests("get");
    let [request] = requests.as_slice() else { panic!("one request, not {}", requests.len()) };
    assert_eq!(request.method, "GET");
    assert_eq!(request.headers["authorization"], "OAuth t0ken");
    assert_eq!(request.headers["x-yt-header-format"], "<format=text>yson");
    assert!(request.headers["user-agent"].starts_with("tractorun/"));
    assert!(request.headers.contains_key("x-yt-correlation-id"));
    assert_eq!(request.text("path"), Some("//tmp/x"));
    assert_eq!(request.text("transaction_id"), Some("1-2-3-4"));
    assert_eq!(request.parameters.get("prerequisite_transaction_ids").unwrap().as_list().unwrap().len(), 1);
    assert_eq!(
        request.parameters.get("output_format").unwrap().attr("format").unwrap().as_str(),
        Some("binary")
    );
    assert_eq!(request.text("mutation_id"), None);
}

#[tokio::test]
async fn a_mutation_whose_answer_was_lost_is_sent_again_with_the_same_id() {
    let server = Server::start(|before, _| match before {
        0 => Answer::Cut,
        1 => Answer::error(503, 1, "proxy is restarting"),
        2 => Answer::error(400, codes::UNAVAILABLE, "master is not there"),
        _ => Answer::yson("{node_id=\"1-2-12f-3\"}"),
    })
    .await;
    let options = CreateOptions {
        recursive: true,
        attributes: [("a".to_owned(), int(1))].into(),
        ..CreateOptions::default()
    };
    let id = sendable(server.client().create(NodeType::MapNode, "//tmp/x", options)).await.unwrap();
    assert_eq!(id, "1-2-12f-3");

    let requests = server.requests("create");
    assert_eq!(requests.len(), 4);
    let first_id = requests[0].text("mutation_id").unwrap();
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(request.method, "POST");
        assert_eq!(request.text("mutation_id"), Some(first_id));
        assert_eq!(request.flag("retry"), Some(index > 0), "try {index}");
        assert_eq!(request.flag("recursive"), Some(true));
    }
}

#[tokio::test]
async fn two_mutations_have_two_ids() {
    let server = Server::start(|_, _| Answer::yson("{}")).await;
    let client = server.client();
    client.remove("//tmp/x", RemoveOptions::default()).await.unwrap();
    client.remove("//tmp/x", RemoveOptions { recursive: true, force: true }).await.unwrap();
    let requests = server.requests("remove");
    assert_ne!(requests[0].text("mutation_id"), requests[1].text("mutation_id"));
    assert_eq!(
        requests[0].flag("recursive"),
        Some(false),
        "said, because the cluster's default is the other one"
    );
    assert_eq!(requests[1].flag("force"), Some(true));
}

#[tokio::test]
async fn set_sends_its_value_as_the_body() {
    let server = Server::start(|_, _| Answer::yson("{}")).await;
    server.client().set("//tmp/x/@a", &map([("k", string("caf\u{e9}"))])).await.unwrap();
    let request = &server.requests("set")[0];
    assert_eq!(request.method, "PUT");
    assert!(request.text("mutation_id").is_some());
    assert_eq!(request.body, b"{\x01\x02k=\x01\x0acaf\xc3\xa9}");
}

#[tokio::test]
async fn an_error_of_the_cluster_is_not_tried_again() {
    let server = Server::start(|_, _| Answer::error(400, 500, "Error resolving path //x")).await;
    let error = server.client().get("//x").await.unwrap_err();
    assert!(error.contains(codes::RESOLVE_ERROR), "{error}");
    assert_eq!(error.to_string(), "Error resolving path //x");
    assert_eq!(server.commands(), ["get"]);
}

#[tokio::test]
async fn an_error_in_the_body_is_read_too() {
    let body =
        br#"{"code": 1, "message": "outer", "inner_errors": [{"code": 901, "message": "Access denied"}]}"#;
    let server =
        Server::start(|_, _| Answer::Whole { status: 403, headers: vec![], body: body.to_vec() }).await;
    let error = server.client().get("//x").await.unwrap_err();
    assert!(error.contains(codes::AUTHORIZATION_ERROR));
    assert_eq!(error.to_string(), "outer: Access denied");
}

#[tokio::test]
async fn a_wrong_token_is_said_to_be_one_and_not_shown() {
    let server =
        Server::start(|_, _| Answer::error(401, codes::INVALID_CREDENTIALS, "Invalid credentials")).await;
    let error = server.client().get("//x").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the cluster at {} does not accept the token: Invalid credentials\n\
             hint: put a valid token into YT_TOKEN or into ~/.yt/token",
            server.url()
        )
    );
    assert_eq!(server.commands().len(), 1);
    assert!(!format!("{error:?} {:?}", server.client()).contains("t0ken"));
}

#[tokio::test]
async fn a_cluster_that_is_away_is_reported_soon() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config_for(&format!("http://{address}"));
    config.first_contact_budget = Duration::ZERO;
    let error = Client::new(config).unwrap().get("//x").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach the cluster at http://{address}: connection refused\n\
             hint: check YT_PROXY, and whether this machine can connect to it"
        )
    );
}

#[tokio::test]
async fn a_name_that_nobody_knows() {
    let mut config = config_for("http://no-such-host.invalid");
    config.first_contact_budget = Duration::ZERO;
    let error = Client::new(config).unwrap().get("//x").await.unwrap_err().to_string();
    let first = error.lines().next().unwrap();
    assert_eq!(
        first,
        "cannot reach the cluster at http://no-such-host.invalid: its host name cannot be resolved"
    );
}

#[tokio::test]
async fn a_failing_cluster_is_given_up_when_the_budget_is_spent() {
    let server =
        Server::start(|before, _| if before == 0 { Answer::yson("{value=1}") } else { Answer::Cut }).await;
    let mut config = server.config();
    config.first_contact_budget = Duration::from_hours(1);
    config.retry_budget = Duration::from_millis(500);
    let client = Client::new(config).unwrap();
    client.get("//x").await.unwrap();
    let error = client.get("//x").await.unwrap_err();
    let Error::Transport { kind: TransportKind::Broken, tries, .. } = &error else { panic!("{error:?}") };
    assert!(*tries > 1, "{error}");
    let beginning =
        format!("the connection to the cluster at {} broke during `get`: connection closed", server.url());
    assert!(error.to_string().starts_with(&beginning), "{error}");
}

#[tokio::test]
async fn a_silent_cluster_is_not_waited_for_without_end() {
    let server = Server::start(|_, _| Answer::Silence).await;
    let mut config = server.config();
    config.light_timeout = Duration::from_millis(100);
    config.first_contact_budget = Duration::ZERO;
    let error = Client::new(config).unwrap().get("//x").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the cluster at {} does not answer `get`: nothing came in 0.1 s", server.url())
    );
}

#[tokio::test]
async fn somebody_who_is_no_yt_proxy() {
    let server = Server::start(|_, _| Answer::foreign(404)).await;
    assert_eq!(
        server.client().get("//x").await.unwrap_err().to_string(),
        format!("{} does not answer `get` as a YT proxy does: HTTP status 404 Not Found", server.url())
    );
    assert_eq!(server.commands().len(), 1);

    let server = Server::start(|_, _| Answer::Whole {
        status: 301,
        headers: vec![("Location", "https://elsewhere/".to_owned())],
        body: vec![],
    })
    .await;
    assert_eq!(
        server.client().get("//x").await.unwrap_err().to_string(),
        format!(
            "{} does not answer `get` as a YT proxy does: \
             HTTP status 301 Moved Permanently, it redirects to https://elsewhere/",
            server.url()
        )
    );
}

#[tokio::test]
async fn a_broken_answer_is_asked_for_again() {
    let server = Server::start(|before, _| match before {
        0 => Answer::bytes(b"{\x01\x0avalue="),
        1 => Answer::foreign(502),
        _ => Answer::yson("{value=%true}"),
    })
    .await;
    assert!(server.client().exists("//x").await.unwrap());
    assert_eq!(server.commands().len(), 3);
}

#[tokio::test]
async fn an_operation_waits_for_its_turn_with_new_ids() {
    let server = Server::start(|before, _| match before {
        0 => Answer::error(400, codes::TOO_MANY_OPERATIONS, "Limit for the number of operations"),
        1 => Answer::Cut,
        _ => Answer::yson("{operation_id=\"a-b-103e8-d\"}"),
    })
    .await;
    let spec = map([("tasks", map([("task", map([("job_count", int(2))]))]))]);
    let id = server.client().start_operation("vanilla", &spec).await.unwrap();
    assert_eq!(id, "a-b-103e8-d");
    let requests = server.requests("start_operation");
    let ids: Vec<_> = requests.iter().map(|request| request.text("mutation_id").unwrap()).collect();
    let retries: Vec<_> = requests.iter().map(|request| request.flag("retry").unwrap()).collect();
    assert!(ids[0] != ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(retries, [false, false, true]);
    assert_eq!(requests[0].parameters.get("spec"), Some(&spec));
}

#[tokio::test]
async fn an_operation_that_has_ended_meanwhile_counts_as_aborted() {
    let server = Server::start(|before, _| match before {
        0 => Answer::Cut,
        _ => Answer::error(400, codes::NO_SUCH_OPERATION_SCHEDULER, "No such operation"),
    })
    .await;
    let client = server.client();
    client.abort_operation("1-2-3-4", Some("enough")).await.unwrap();
    client.complete_operation("1-2-3-4").await.unwrap();
    let request = &server.requests("abort_operation")[1];
    assert_eq!(request.text("abort_message"), Some("enough"));
    assert_eq!(request.text("mutation_id"), None);
}

#[tokio::test]
async fn answers_that_are_not_wrapped() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "get_operation" => Answer::yson("{state=running}"),
        "get_job" => Answer::yson("{job_id=\"f-e-384-1\"; state=running}"),
        "list_jobs" => Answer::yson("{jobs=[{id=a}; {id=b}]; errors=[]}"),
        "update_operation_parameters" => Answer::bytes(b""),
        "get_file_from_cache" if request.text("md5") == Some("hit") => Answer::yson("\"//cache/hit\""),
        "get_file_from_cache" => Answer::yson("\"\""),
        "put_file_to_cache" => Answer::yson("\"//cache/new\""),
        other => panic!("{other}"),
    })
    .await;
    let client = server.client();
    let state = client.get_operation("1-2-3-4", &["state"]).await.unwrap();
    assert_eq!(state.get("state").unwrap().as_str(), Some("running"));
    assert_eq!(
        server.requests("get_operation")[0].parameters.get("attributes"),
        Some(&value::list([string("state")]))
    );
    assert!(client.get_job("1-2-3-4", "f-e-384-1").await.unwrap().get("state").is_some());
    let filter = JobFilter { state: Some("running".to_owned()), limit: Some(5), ..JobFilter::default() };
    assert_eq!(client.list_jobs("1-2-3-4", filter).await.unwrap().len(), 2);
    assert_eq!(server.requests("list_jobs")[0].text("state"), Some("running"));
    client.update_operation_parameters("1-2-3-4", &map([("weight", int(1))])).await.unwrap();
    assert_eq!(client.get_file_from_cache("hit", "//cache").await.unwrap().as_deref(), Some("//cache/hit"));
    assert_eq!(client.get_file_from_cache("miss", "//cache").await.unwrap(), None);
    assert_eq!(client.put_file_to_cache("//x", "new", "//cache").await.unwrap(), "//cache/new");
}

#[tokio::test]
async fn links_copies_and_moves_name_both_ends() {
    let server = Server::start(|_, _| Answer::yson("{node_id=\"1-2-3-4\"}")).await;
    let client = server.client();
    let options = TransferOptions { force: true, ..TransferOptions::default() };
    client.link("//a", "//b", options).await.unwrap();
    client.copy("//a", "//b", options).await.unwrap();
    client.move_("//a", "//b", options).await.unwrap();
    assert_eq!(server.requests("link")[0].text("target_path"), Some("//a"));
    assert_eq!(server.requests("link")[0].text("link_path"), Some("//b"));
    for command in ["copy", "move"] {
        let request = &server.requests(command)[0];
        assert_eq!(
            (request.text("source_path"), request.text("destination_path")),
            (Some("//a"), Some("//b"))
        );
        assert_eq!((request.flag("force"), request.flag("recursive")), (Some(true), None));
    }
}

#[tokio::test]
async fn a_lock_is_waited_for() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "lock" => Answer::yson("{lock_id=\"1-2-100c8-4\"; node_id=\"5-6-12f-8\"; revision=0u}"),
        "get" if before < 2 => Answer::yson("{value=pending}"),
        "get" => Answer::yson("{value=acquired}"),
        other => panic!("{other}"),
    })
    .await;
    let client = server.client().in_transaction(&TransactionId::new("1-2-3-4"));
    let wait = LockWait::UpTo(Duration::from_hours(1));
    let lock = sendable(client.lock("//x", LockMode::Exclusive, wait)).await.unwrap();
    assert_eq!((lock.lock_id.as_str(), lock.node_id.as_str()), ("1-2-100c8-4", "5-6-12f-8"));
    assert_eq!(server.commands(), ["lock", "get", "get", "get"]);
    assert_eq!(server.requests("lock")[0].flag("waitable"), Some(true));
    let poll = &server.requests("get")[0];
    assert_eq!(poll.text("path"), Some("#1-2-100c8-4/@state"));
    assert_eq!(poll.text("transaction_id"), Some("1-2-3-4"));
}

#[tokio::test]
async fn a_lock_that_never_comes_is_let_go() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "lock" => Answer::yson("{lock_id=\"1-2-100c8-4\"; node_id=\"5-6-12f-8\"; revision=0u}"),
        "get" => Answer::yson("{value=pending}"),
        _ => Answer::yson("{}"),
    })
    .await;
    let client = server.client().in_transaction(&TransactionId::new("1-2-3-4"));
    let error = client.lock("//x", LockMode::Exclusive, LockWait::UpTo(Duration::ZERO)).await.unwrap_err();
    assert!(error.contains(codes::LOCK_CONFLICT));
    assert!(error.to_string().starts_with("lock on `//x` was not acquired in "), "{error}");
    assert_eq!(server.commands(), ["lock", "get", "unlock"]);
}

#[tokio::test]
async fn a_batch_goes_in_parts_of_a_hundred_and_repeats_what_was_too_early() {
    let server = Server::start(|before, request| {
        let parts = request.parameters.get("requests").unwrap().as_list().unwrap();
        let results = parts.iter().map(|part| {
            let path = part.at(&["parameters", "path"]).unwrap().as_str().unwrap();
            match (path, before) {
                ("//7", 0) => "{error={code=105; message=\"not now\"}}".to_owned(),
                ("//8", _) => "{error={code=500; message=\"no such node\"}}".to_owned(),
                (_, _) => format!("{{output={{value=\"{path}\"}}}}"),
            }
        });
        Answer::yson(&format!("{{results=[{}]}}", results.collect::<Vec<_>>().join(";")))
    })
    .await;
    let client = server.client().in_transaction(&TransactionId::new("1-2-3-4"));
    let requests = (0..105).map(|n| BatchRequest::new("get").parameter("path", string(format!("//{n}"))));
    let results = sendable(client.execute_batch(requests.collect())).await.unwrap();
    assert_eq!(results.len(), 105);
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(value.as_str(), Some(format!("//{index}").as_str())),
            Err(error) => assert_eq!((index, error.code), (8, 500)),
        }
    }
    let sent = server.requests("execute_batch");
    let parts = |index: usize| sent[index].parameters.get("requests").unwrap().as_list().unwrap();
    assert_eq!((parts(0).len(), parts(1).len(), sent.len()), (100, 6, 2));
    let in_transaction = |part: &crate::YsonValue| part.at(&["parameters", "transaction_id"]).is_some();
    assert!(parts(0).iter().chain(parts(1)).all(in_transaction));
    assert_ne!(sent[0].text("mutation_id"), sent[1].text("mutation_id"));
}

#[tokio::test]
async fn a_part_that_stays_too_early_ends_with_its_error() {
    let server =
        Server::start(|_, _| Answer::yson("{results=[{error={code=105; message=\"not now\"}}]}")).await;
    let mut config = server.config();
    config.retry_budget = Duration::from_millis(20);
    let part = BatchRequest::new("set").parameter("path", string("//x")).input(int(1));
    let results = Client::new(config).unwrap().execute_batch(vec![part]).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().code, 105);
    let part =
        server.requests("execute_batch")[0].parameters.get("requests").unwrap().as_list().unwrap()[0].clone();
    assert_eq!(part.get("input"), Some(&int(1)));
}

#[tokio::test]
async fn a_batch_that_does_not_match_its_results_is_refused() {
    let server = Server::start(|_, _| Answer::yson("{results=[]}")).await;
    let part = BatchRequest::new("exists").parameter("path", string("//x"));
    let error = server.client().execute_batch(vec![part]).await.unwrap_err().to_string();
    assert!(
        error.ends_with("does not answer `execute_batch` as a YT proxy does: 0 results for 1 requests"),
        "{error}"
    );
}

#[tokio::test]
async fn an_error_message_in_a_header_alone_is_read() {
    let mut headers = error_headers(7, "x");
    headers[1] = ("X-YT-Response-Message", "plain words".to_owned());
    let server =
        Server::start(move |_, _| Answer::Whole { status: 400, headers: headers.clone(), body: vec![] })
            .await;
    assert_eq!(server.client().get("//x").await.unwrap_err().to_string(), "plain words");
}

fn tls_client(server: &Server, ca_bundle: Option<&str>) -> Client {
    let mut config = config_for(&format!("https://localhost:{}", server.address.port()));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
    config.ca_bundle = ca_bundle.map(|name| folder.join(name));
    Client::new(config).unwrap()
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_the_bundle_names_it() {
    let server = Server::start_tls(|_, _| Answer::yson("{value=1}")).await;
    let found = tls_client(&server, Some("ca.pem")).get("//x").await.unwrap();
    assert_eq!(found.as_i64(), Some(1));
    assert_eq!(server.requests("get")[0].headers["authorization"], "OAuth t0ken");
}

#[tokio::test]
async fn a_stranger_s_certificate_ends_it_at_once() {
    let server = Server::start_tls(|_, _| Answer::yson("{value=1}")).await;
    let error = tls_client(&server, None).get("//x").await.unwrap_err();
    assert!(matches!(error, Error::Transport { kind: TransportKind::Untrusted, tries: 1, .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot trust the cluster at https://localhost:{}: TLS: invalid peer certificate: UnknownIssuer\n\
             hint: YT_CA_BUNDLE names a file with the roots of a private certificate authority",
            server.address.port()
        )
    );
    assert!(server.commands().is_empty(), "the token was not sent");
}
