//! Random and broken requests to every command: the server answers or closes, goes on serving, and what it answered
//! with an error has changed nothing.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use tractorun_minicluster::commands::registry::{ApiVersion, COMMANDS};
use tractorun_minicluster::{Minicluster, MiniclusterConfig};

/// A server that does not answer or close in this time hangs.
const DEADLINE: Duration = Duration::from_secs(20);
/// What an answer may take before the client gives up its half of the connection.
const PATIENCE: Duration = Duration::from_millis(20);
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Where parameters go.
#[derive(Debug, Clone, Copy)]
enum Place {
    Header,
    Query,
    Body,
}

/// How the length of a body is told, truthfully or not.
#[derive(Debug, Clone)]
enum Framing {
    Right,
    Missing,
    Longer(u64),
    Text(&'static str),
    Chunked,
    /// Chunked with something else where a size should be.
    BadChunk(&'static str),
    /// Chunked and with a length.
    Both,
}

#[derive(Debug, Clone)]
struct Broken {
    method: &'static str,
    version: &'static str,
    command: String,
    parameters: Vec<u8>,
    place: Place,
    header_format: &'static str,
    other_headers: Vec<&'static str>,
    body: Vec<u8>,
    framing: Framing,
    /// Bytes of the request that are turned over.
    flips: Vec<(Index, u8)>,
    /// Where the client stops; most do at the end.
    end: Option<Index>,
    /// Where the bytes are split into pieces.
    splits: Vec<Index>,
}

fn command_names() -> Vec<String> {
    let names = COMMANDS
        .iter()
        .flat_map(|command| [ApiVersion::V3, ApiVersion::V4].map(|version| command.name(version)));
    names.flatten().map(str::to_owned).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(vec![
            "//tmp", "//tmp/a", "//tmp/t", "//tmp/f", "//tmp/a/@x", "//tmp/t[#1:#3]", "//tmp/t{a}[x]", "//tmp/*", "/", "//",
            "#1-1-1-1", "#0-0-0-0", "//tmp/link&/@target", "<append=%true>//tmp/t", "//sys/transactions", "//home/x/y/z",
            "table", "file", "map_node", "document", "link", "exclusive", "shared", "vanilla", "root", "read",
            "0-0-0-0", "1-2-3-4", "ffffffff-ffffffff-ffffffff-ffffffff", "yson", "json", "true", "%true",
            "900150983cd24fb0d6963f7d28e17f72", "2026-01-01T00:00:00.000000Z",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
        1 => "\\PC{0,8}",
        1 => (1000usize..4000).prop_map(|count| "/x".repeat(count)),
    ]
}

/// A YSON value as text, mostly right.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => text().prop_map(|text| format!("{text:?}")),
        2 => select(vec!["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "18446744073709551615u", "1e300", "%nan",
            "%inf", "#", "%true", "%false", "\"\\xff\\x00\"", "99999999999999999999", "1e", "%", "{", "]", "<a=1>#", ""])
            .prop_map(str::to_owned),
        1 => (0usize..200).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(";"))),
            map_of(inner.clone()),
            (map_of(inner.clone()), inner).prop_map(|(attributes, item)| {
                format!("<{}>{item}", &attributes[1..attributes.len() - 1])
            }),
        ]
    })
}

fn map_of(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    btree_map(parameter_name(), item, 0..6).prop_map(|entries| {
        let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{name:?}={value}")).collect();
        format!("{{{}}}", entries.join(";"))
    })
}

fn parameter_name() -> impl Strategy<Value = &'static str> {
    select(vec![
        "path",
        "type",
        "transaction_id",
        "attributes",
        "recursive",
        "force",
        "ignore_existing",
        "mode",
        "waitable",
        "child_key",
        "source_path",
        "destination_path",
        "source_paths",
        "target_path",
        "link_path",
        "timeout",
        "operation_type",
        "operation_id",
        "operation_alias",
        "job_id",
        "spec",
        "tasks",
        "task",
        "command",
        "job_count",
        "requests",
        "parameters",
        "input",
        "input_format",
        "output_format",
        "schema",
        "ranges",
        "lower_limit",
        "upper_limit",
        "exact",
        "key",
        "row_index",
        "columns",
        "name",
        "md5",
        "cache_path",
        "mutation_id",
        "retry",
        "prerequisite_transaction_ids",
        "prerequisite_revisions",
        "offset",
        "length",
        "limit",
        "control_attributes",
        "enable_row_index",
        "permission",
        "user",
        "a",
        "k",
        "$value",
        "$attributes",
        "read_from",
        "max_size",
    ])
}

fn broken() -> impl Strategy<Value = Broken> {
    let command = prop_oneof![12 => select(command_names()), 1 => "[a-z_%]{0,12}"];
    let parameters = prop_oneof![
        10 => map_of(value()).prop_map(String::into_bytes),
        1 => value().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..200),
    ];
    let body = prop_oneof![
        2 => Just(Vec::new()),
        4 => vec(value(), 0..4).prop_map(|values| values.join(";").into_bytes()),
        2 => vec(any::<u8>(), 0..2000),
        1 => (1usize..300_000).prop_map(|count| vec![b'{'; count]),
        1 => (1usize..30_000).prop_map(|count| b"{a=1;k=2};".repeat(count)),
    ];
    let framing = prop_oneof![
        8 => Just(Framing::Right),
        1 => Just(Framing::Missing),
        1 => (1u64..5000).prop_map(Framing::Longer),
        1 => select(vec!["18446744073709551615", "99999999999999999999999", "-1", "0x10", "", "1, 2", "9223372036854775808"])
            .prop_map(Framing::Text),
        3 => Just(Framing::Chunked),
        1 => select(vec!["zz\r\n", "ffffffffffffffffffff\r\n", "\r\n", "-5\r\n", "7fffffffffffffff\r\n", "5", "5;x=y\r\nab"])
            .prop_map(Framing::BadChunk),
        1 => Just(Framing::Both),
    ];
    let headers = select(vec![
        "X-YT-Output-Format: <format=text>yson",
        "X-YT-Output-Format: {",
        "X-YT-Input-Format: <format=binary>yson",
        "X-YT-Input-Format: json",
        "Content-Encoding: gzip",
        "Content-Encoding: deflate",
        "Content-Encoding: x",
        "Content-Type: application/x-yt-yson-text",
        "Accept: application/x-yt-yson-binary",
        "X-YT-Parameters0: e30",
        "X-YT-Parameters-0: !!!",
        "If-None-Match: 1",
        "Expect: 100-continue",
        "Authorization: Basic x",
        "X-YT-User-Name: \u{e9}",
        "Host:",
        "traceparent: 00-zz-1-0",
        ": nothing",
        "broken",
    ]);
    let request = (
        select(vec!["GET", "PUT", "POST", "POST", "PUT", "DELETE", "OPTIONS", "get", "P\u{e4}T"]),
        select(vec!["v3", "v4", "v4", "v4", "v5"]),
        command,
        parameters,
        select(vec![Place::Header, Place::Header, Place::Query, Place::Body]),
        select(vec!["<format=text>yson", "<format=text>yson", "json", "<format=binary>yson", "<"]),
        vec(headers, 0..3),
    );
    let rest = (
        body,
        framing,
        prop_oneof![5 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<u8>()), 1..4)],
        prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)],
        vec(any::<Index>(), 0..3),
    );
    (request, rest).prop_map(
        |(
            (method, version, command, parameters, place, header_format, other_headers),
            (body, framing, flips, end, splits),
        )| {
            Broken {
                method,
                version,
                command,
                parameters,
                place,
                header_format,
                other_headers,
                body,
                framing,
                flips,
                end,
                splits,
            }
        },
    )
}

impl Broken {
    fn bytes(&self) -> Vec<u8> {
        let mut query = String::new();
        if let Place::Query = self.place {
            query.push_str("?path=");
            for byte in &self.parameters {
                let _ = write!(query, "%{byte:02x}");
            }
        }
        let mut request = format!(
            "{} /api/{}/{}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
            self.method, self.version, self.command
        )
        .into_bytes();
        request.extend_from_slice(format!("X-YT-Header-Format: {}\r\n", self.header_format).as_bytes());
        for header in &self.other_headers {
            request.extend_from_slice(header.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        let mut body = self.body.clone();
        match self.place {
            Place::Header => {
                request.extend_from_slice(b"X-YT-Parameters: ");
                request.extend_from_slice(&self.parameters);
                request.extend_from_slice(b"\r\n");
            }
            Place::Body => body.clone_from(&self.parameters),
            Place::Query => {}
        }
        let length = body.len() as u64;
        let told = match &self.framing {
            Framing::Right => format!("Content-Length: {length}\r\n"),
            Framing::Missing => String::new(),
            Framing::Longer(more) => format!("Content-Length: {}\r\n", length + more),
            Framing::Text(text) => format!("Content-Length: {text}\r\n"),
            Framing::Chunked | Framing::BadChunk(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Both => format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        };
        request.extend_from_slice(told.as_bytes());
        request.extend_from_slice(b"\r\n");
        match &self.framing {
            Framing::Chunked | Framing::Both => {
                for chunk in body.chunks(700) {
                    request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    request.extend_from_slice(chunk);
                    request.extend_from_slice(b"\r\n");
                }
                request.extend_from_slice(b"0\r\n\r\n");
            }
            Framing::BadChunk(size) => {
                request.extend_from_slice(size.as_bytes());
                request.extend_from_slice(&body);
            }
            _ => request.extend_from_slice(&body),
        }
        for (at, flip) in &self.flips {
            let at = at.index(request.len());
            request[at] ^= flip;
        }
        let end = self.end.map_or(request.len(), |end| end.index(request.len()));
        request.truncate(end);
        request
    }
}

/// Sends bytes in pieces, says that no more come, and reads until the server closes.
fn exchange(address: SocketAddr, request: &[u8], splits: &[Index]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut at: Vec<usize> =
        splits.iter().filter(|_| !request.is_empty()).map(|split| split.index(request.len())).collect();
    at.push(request.len());
    at.sort_unstable();
    let mut reading = stream.try_clone()?;
    let mut sent = 0;
    for end in at {
        // A server that has closed already refuses the rest, which is its right.
        if stream.write_all(&request[sent..end]).is_err() {
            break;
        }
        sent = end;
    }
    // A client that is gone gets no answer: only one that seems to be waited for says that it has no more.
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let waits = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    };
    if reading.read_to_end(&mut answer).is_err_and(|error| waits(&error)) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    stream.set_read_timeout(Some(DEADLINE))?;
    match reading.read_to_end(&mut answer) {
        Err(error) if waits(&error) => Err(error),
        // A reset instead of an end is no hanging.
        _ => Ok(answer),
    }
}

/// Everything in the folders that requests may change, as text.
fn state(address: SocketAddr) -> String {
    let parameters =
        "{path=\"/\";attributes=[id;type;revision;target_path;row_count;uncompressed_data_size]}";
    ["//tmp", "//home"]
        .map(|path| {
            let parameters = parameters.replace("\"/\"", &format!("\"{path}\""));
            let request = format!(
                "GET /api/v4/get HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-YT-Header-Format: <format=text>yson\r\n\
                 X-YT-Output-Format: <format=text>yson\r\nX-YT-Parameters: {parameters}\r\n\r\n"
            );
            let answer = exchange(address, request.as_bytes(), &[]).expect("a good request is answered");
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.starts_with("HTTP/1.1 200 "), "a good request must be served: {answer}");
            answer.split_once("\r\n\r\n").expect("an answer has a head").1.to_owned()
        })
        .concat()
}

fn post(address: SocketAddr, command: &str, parameters: &str) {
    let request = format!(
        "POST /api/v4/{command} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-YT-Header-Format: <format=text>yson\r\n\
         X-YT-Parameters: {parameters}\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(address, request.as_bytes(), &[]).expect("a good request is answered");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Whether the answer, or the last of several, is an error. `None` if there is no answer to see.
fn is_error(answer: &[u8]) -> Option<bool> {
    let text = String::from_utf8_lossy(answer);
    let heads: Vec<&str> = text.matches("HTTP/1.1 ").collect();
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.to_owned();
    (heads.len() == 1).then_some(!status.starts_with('2'))
}

#[test]
fn broken_requests_change_nothing_and_stop_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(8 * 1024 * 1024)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Minicluster::start(MiniclusterConfig::default())).unwrap();
    let address = server.address();
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        eprintln!("{info}");
    }));
    for made in
        ["{path=\"//tmp/t\";type=table}", "{path=\"//tmp/f\";type=file}", "{path=\"//tmp/a\";type=map_node}"]
    {
        post(address, "create", made);
    }
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let result = runner.run(&broken(), |broken| {
        let before = state(address);
        let request = broken.bytes();
        let answer = exchange(address, &request, &broken.splits)
            .map_err(|error| TestCaseError::fail(format!("the server hangs: {error}")))?;
        let after = state(address);
        // The parts of a batch stand for themselves.
        if is_error(&answer) == Some(true) && broken.command != "execute_batch" {
            prop_assert_eq!(
                before,
                after,
                "an error has changed something: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0);
        Ok(())
    });
    drop(std::panic::take_hook());
    runtime.block_on(server.shutdown());
    result.unwrap_or_else(|error| panic!("{error}"));
}
