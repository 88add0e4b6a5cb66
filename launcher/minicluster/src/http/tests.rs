//! The wire, byte by byte: what a client library would hide.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Minicluster, MiniclusterConfig, Tokens};

struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl Client {
    async fn connect(server: &Minicluster) -> Client {
        Client { stream: BufReader::new(TcpStream::connect(server.address()).await.unwrap()) }
    }

    async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: cluster:80\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.stream.get_mut().write_all(head.as_bytes()).await.unwrap();
        self.stream.get_mut().write_all(body).await.unwrap();
        self.receive().await
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn header_block(&mut self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { return headers };
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    async fn receive(&mut self) -> Answer {
        let status = self.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = self.header_block().await;
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if find(&headers, "transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await, 16).unwrap();
                if size == 0 {
                    trailers = self.header_block().await;
                    break;
                }
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..]).await.unwrap();
                self.line().await;
            }
        } else {
            let length = find(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
            body.resize(length, 0);
            self.stream.read_exact(&mut body).await.unwrap();
        }
        Answer { status, headers, body, trailers }
    }

    /// A command with parameters in the body, in text YSON, answered in text YSON.
    async fn post(&mut self, command: &str, parameters: &str) -> Answer {
        let headers = [
            ("X-YT-Header-Format", "<format=text>yson"),
            ("X-YT-Output-Format", "<format=text>yson"),
            ("Content-Type", "application/x-yt-yson-text"),
        ];
        self.send("POST", &format!("/api/v4/{command}"), &headers, parameters.as_bytes()).await
    }
}

async fn server() -> Minicluster {
    Minicluster::start(MiniclusterConfig::default()).await.unwrap()
}

#[tokio::test]
async fn answers_have_their_shape_in_both_versions() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    for (target, wanted) in [
        ("/api", r#"["v3","v4"]"#),
        ("/hosts", r#"["cluster:80"]"#),
        ("/hosts?address_type=http", r#"["cluster:80"]"#),
        ("/API/V4/exists?path=//tmp", r#"{"value":true}"#),
        ("/api/v3/exists?path=//tmp", "true"),
        ("/api/v4/exists?path=//tmp&return_only_value=true", "true"),
        ("/api/v4/get_current_user", r#"{"user":"root"}"#),
        ("/api/v4/get_file_from_cache?md5=900150983cd24fb0d6963f7d28e17f72&cache_path=//nowhere", r#""""#),
        ("/auth/whoami", r#"{"csrf_token":"","login":"root","realm":"minicluster"}"#),
    ] {
        let answer = client.send("GET", target, &[], b"").await;
        assert_eq!((answer.status, answer.text()), (200, wanted), "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let answer = client.post("set_nothing", "{}").await;
    assert_eq!(
        (answer.status, answer.header("x-yt-response-message")),
        (404, Some("Command \"set_nothing\" is not registered"))
    );
    assert_eq!(client.send("GET", "/api/v5/get", &[], b"").await.status, 404);
    let answer = client.send("GET", "/api/v4/get?path=//tmp&output_format=skiff", &[], b"").await;
    assert!(answer.text().contains("Not supported by tractorun-minicluster: format"), "{}", answer.text());
    server.shutdown().await;
}

#[tokio::test]
async fn an_error_keeps_the_connection_and_is_told_three_times() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let body = vec![b'x'; 3_000_000];
    for _ in 0..3 {
        let answer = client.send("PUT", "/api/v4/write_file?path=//tmp/nope", &[], &body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("x-yt-response-code"), Some("500"));
        assert_eq!(answer.header("x-yt-error"), Some(answer.text()));
        assert_eq!(
            answer.header("x-yt-response-message"),
            Some("Error getting basic attributes of user objects")
        );
    }
    assert_eq!(client.send("GET", "/ping", &[], b"").await.status, 200);
    server.shutdown().await;
}

#[tokio::test]
async fn a_failure_behind_the_head_comes_as_trailers() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    assert_eq!(client.post("create", "{path=\"//tmp/t\";type=table}").await.status, 200);
    let mut rows = "{a=\"0123456789\"};".repeat(50_000).into_bytes();
    rows.extend_from_slice(b"{a=\"\\xff\"};");
    let format = [("Content-Type", "application/x-yt-yson-text")];
    assert_eq!(client.send("PUT", "/api/v4/write_table?path=//tmp/t", &format, &rows).await.status, 200);
    let format = "output_format[$value]=json&output_format[$attributes][encode_utf8]=false";
    let answer = client.send("GET", &format!("/api/v4/read_table?path=//tmp/t&{format}"), &[], b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(b"{\"a\":\"0123456789\"}\n"));
    assert_eq!(answer.trailer("x-yt-response-code"), Some("1"), "{:?}", answer.trailers);
    assert!(answer.trailer("x-yt-error").unwrap().contains("a string is not UTF-8"));
    let answer =
        client.send("GET", &format!("/api/v4/read_table?path=//tmp/t[%2350000]&{format}"), &[], b"").await;
    assert_eq!(
        (answer.status, answer.header("x-yt-response-code")),
        (400, Some("1")),
        "known before the head is sent"
    );
    let answer =
        client.send("GET", "/api/v4/read_table?path=//tmp/t[%230:%231]&output_format=json", &[], b"").await;
    assert_eq!((answer.text(), answer.trailers.len()), ("{\"a\":\"0123456789\"}\n", 0));
    assert_eq!(
        answer.header("x-yt-response-parameters"),
        Some(r#"{"approximate_row_count":1,"omitted_inaccessible_columns":[],"start_row_index":0}"#)
    );
    server.shutdown().await;
}

#[tokio::test]
async fn a_wrong_token_is_401_and_a_right_one_a_user() {
    let tokens = Tokens::new([("secret".to_owned(), "alice".to_owned())]);
    let server =
        Minicluster::start(MiniclusterConfig { tokens, ..MiniclusterConfig::default() }).await.unwrap();
    let mut client = Client::connect(&server).await;
    for (headers, message) in [
        (vec![], "Client is missing credentials"),
        (vec![("Authorization", "OAuth wrong")], "Invalid credentials: the token is not known"),
        (
            vec![("Authorization", "Basic x")],
            "Invalid \"Authorization\" header: \"OAuth <token>\" is expected",
        ),
    ] {
        let answer = client.send("GET", "/api/v4/get_current_user", &headers, b"").await;
        assert_eq!(
            (answer.status, answer.header("x-yt-response-code"), answer.header("x-yt-response-message")),
            (401, Some("111"), Some(message))
        );
        assert!(!answer.text().contains("wrong"), "a token is never repeated");
    }
    let answer =
        client.send("GET", "/api/v4/get_current_user", &[("Authorization", "OAuth secret")], b"").await;
    assert_eq!(answer.text(), r#"{"user":"alice"}"#);
    for open in ["/api/v4", "/hosts", "/ping", "/version"] {
        assert_eq!(client.send("GET", open, &[], b"").await.status, 200, "{open}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_mutation_that_is_sent_again_gets_the_first_answer() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let request =
        |retry: &str| format!("{{path=\"//tmp/once\";type=map_node;mutation_id=\"1-2-3-4\";retry={retry}}}");
    let first = client.post("create", &request("%false")).await;
    let second = client.post("create", &request("%true")).await;
    assert_eq!((second.status, &second.body), (200, &first.body));
    let third = client.post("create", &request("%false")).await;
    assert_eq!(third.header("x-yt-response-message"), Some("Duplicate request is not marked as \"retry\""));
    server.shutdown().await;
}

#[tokio::test]
async fn parts_of_a_batch_fail_alone_and_a_wrong_batch_as_a_whole() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let answer = client
        .post(
            "execute_batch",
            "{requests=[{command=set;parameters={path=\"//tmp/a\"};input=5};\
             {command=get;parameters={path=\"//tmp/nope\"}};{command=exists;parameters={path=\"//tmp/a\"}}]}",
        )
        .await;
    let results = answer.text();
    assert!(results.starts_with("{results=[{output={}};{error={"), "{results}");
    assert!(results.ends_with("{output={value=%true}}]}"), "{results}");
    for wrong in [
        "{command=nope}",
        "{command=read_table;parameters={path=\"//tmp\"}}",
        "{command=set;parameters={path=\"//tmp/b\"}}",
    ] {
        let batch = format!("{{requests=[{{command=set;parameters={{path=\"//tmp/c\"}};input=5}};{wrong}]}}");
        assert_eq!(client.post("execute_batch", &batch).await.status, 400, "{wrong}");
    }
    let answer = client.send("GET", "/api/v4/exists?path=//tmp/c", &[], b"").await;
    assert_eq!(answer.text(), r#"{"value":false}"#);
    server.shutdown().await;
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.post("create", "{path=\"//tmp/f\";type=file}").await;
    assert_eq!(client.send("PUT", "/api/v4/write_file?path=//tmp/f", &[], b"abc").await.status, 200);
    let answer = client.send("GET", "/api/v4/read_file?path=//tmp/f", &[], b"").await;
    assert_eq!(answer.text(), "abc");
    let etag = answer.header("etag").unwrap().to_owned();
    let answer = client.send("GET", "/api/v4/read_file?path=//tmp/f", &[("If-None-Match", &etag)], b"").await;
    assert_eq!((answer.status, answer.text()), (304, ""));
    let answer = client.send("GET", "/api/v4/read_file?path=//tmp/f&offset=1&length=1", &[], b"").await;
    assert_eq!(answer.text(), "b");
    let answer =
        client.send("PUT", "/api/v4/write_file?path=//tmp/f", &[("Content-Encoding", "br")], b"abc").await;
    assert_eq!(answer.status, 415);
    server.shutdown().await;
}

#[tokio::test]
async fn long_errors_fit_into_a_header() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let path = format!("//tmp/{}", "x".repeat(200_000));
    let answer = client.post("get", &format!("{{path=\"{path}\"}}")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.header("x-yt-error").unwrap().len() < 64 * 1024);
    assert!(answer.header("x-yt-error").unwrap().contains("has no child with key"));
    assert!(answer.text().contains(&path));
    server.shutdown().await;
}

#[tokio::test]
async fn a_transaction_expires_while_nobody_asks() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let answer = client.post("start_transaction", "{timeout=1}").await;
    let id = answer.text().trim_start_matches("{transaction_id=").trim_matches(['"', '}']).to_owned();
    loop {
        let answer = client.post("exists", &format!("{{path=\"#{id}\"}}")).await;
        if answer.text() == "{value=%false}" {
            break;
        }
    }
    let answer = client.post("ping_transaction", &format!("{{transaction_id=\"{id}\"}}")).await;
    assert_eq!(answer.header("x-yt-response-code"), Some("11000"));
    let answer = client.post("get", &format!("{{path=\"//tmp\";transaction_id=\"{id}\"}}")).await;
    assert_eq!(answer.header("x-yt-response-code"), Some("500"));
    assert!(answer.text().contains("\"code\":11000"));
    server.shutdown().await;
}

#[tokio::test]
async fn parameters_in_a_body_of_no_known_type_are_yson() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let body = b"{path=\"//tmp/n\";type=map_node}";
    let answer =
        client.send("POST", "/api/v4/create", &[("Content-Type", "application/octet-stream")], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = br#"{"path": "//tmp/n", "type": "map_node", "force": true}"#;
    let answer = client.send("POST", "/api/v4/create", &[("Content-Type", "application/json")], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    server.shutdown().await;
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_order() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    // The second request comes in pieces, and the first bytes of a piece look like the start of a word.
    let one = "PUT /api/v4/set?path=//tmp/@n HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-yt-yson-text\r\n\
               Content-Length: 12\r\n\r\nABCDEFGHIJKL";
    let (first, second) = one.split_at(one.len() - 6);
    client.stream.get_mut().write_all(format!("{one}{first}").as_bytes()).await.unwrap();
    assert_eq!(client.receive().await.status, 200);
    client.stream.get_mut().write_all(second.as_bytes()).await.unwrap();
    assert_eq!(client.receive().await.status, 200);
    server.shutdown().await;
}
