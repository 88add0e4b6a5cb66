//! Measures `tractorun-minicluster`: `minicluster_bench <folder with the binary>`; `make bench` runs it.
//!
//! The server gets one core and this program the others. Beside the time on the clock it tells the server's own CPU
//! time, which other programs on the machine do not disturb: work per CPU second is what one undisturbed core does.

#![allow(clippy::cast_precision_loss, reason = "counts here are small")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tractorun_tests::bench::{Figure, Row, heading, percentile};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const STARTS: usize = 20;
const CONNECTIONS: usize = 8;
const REQUESTS_A_CONNECTION: usize = 5000;
const MANY_CONNECTIONS: usize = 2000;
/// Rounds of requests that leave nothing behind: before memory is looked at, and then.
const WARM_ROUNDS: usize = 5000;
const ROUNDS: usize = 20_000;
const MEBIBYTE: usize = 1 << 20;
const BATCH_BYTES: usize = 16 * MEBIBYTE;
const BATCHES: usize = 16;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).ok_or("usage: minicluster_bench <folder with the binary>")?;
    let binary = PathBuf::from(folder).join("tractorun-minicluster");
    use_core(Pid::this(), Core::AllButFirst)?;
    heading("The minicluster on one core, its clients on the other");
    starts(&binary)?;
    let server = Server::start(&binary)?;
    requests(&server)?;
    connections(&server)?;
    drop(server);
    memory_of_what_is_gone(&Server::start(&binary)?)?;
    for kind in [Rows::Text, Rows::Binary, Rows::SmallBinary] {
        append(&Server::start(&binary)?, kind)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Core {
    First,
    AllButFirst,
}

fn use_core(pid: Pid, core: Core) -> Result<()> {
    let count = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    match core {
        Core::First => set.set(0)?,
        Core::AllButFirst => (1..count.max(2)).try_for_each(|core| set.set(core.min(count - 1)))?,
    }
    Ok(sched_setaffinity(pid, &set)?)
}

struct Server {
    child: Child,
    address: String,
    started_in: Duration,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(binary: &Path) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let port_file = folder.path().join("port");
        let start = Instant::now();
        let child = Command::new(binary)
            .args(["--port", "0", "--exit-on-stdin-eof", "--port-file"])
            .arg(&port_file)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let port = loop {
            if let Ok(port) = std::fs::read_to_string(&port_file) {
                break port;
            }
            std::thread::yield_now();
        };
        let started_in = start.elapsed();
        let address = format!("127.0.0.1:{}", port.trim());
        let server = Server { child, address, started_in, _folder: folder };
        for task in std::fs::read_dir(format!("/proc/{}/task", server.child.id()))? {
            let task = task?.file_name().to_string_lossy().parse()?;
            use_core(Pid::from_raw(task), Core::First)?;
        }
        Ok(server)
    }

    /// CPU seconds of the server's threads so far.
    fn cpu(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let times = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += times.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }

    /// Resident memory in MiB.
    fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    }

    fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::new() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its standard input ends with this, and it with that.
        self.child.stdin = None;
        let _ = self.child.wait();
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request)?)
    }

    /// Reads an answer, which must be a success with a length.
    fn receive(&mut self) -> Result<()> {
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            self.buffer.extend_from_slice(&chunk[..count]);
            let Some(head) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head])?;
            if !text.starts_with("HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(&self.buffer).into());
            }
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
            if self.buffer.len() >= head + 4 + length.parse::<usize>()? {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.send(request)?;
        self.receive()
    }
}

fn request(method: &str, command: &str, parameters: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} /api/v4/{command} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\
         X-YT-Header-Format: <format=text>yson\r\nX-YT-Parameters: {parameters}\r\n\
         X-YT-Output-Format: <format=text>yson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn starts(binary: &Path) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(Server::start(binary)?.started_in.as_secs_f64());
    }
    let longest = Figure::Seconds(percentile(&mut times, 100));
    let row = Row::new("start to listening, median of 20", Figure::Seconds(percentile(&mut times, 50)));
    row.goal("< 50 ms").beside_words(&format!("longest {longest}"));
    Ok(())
}

fn requests(server: &Server) -> Result<()> {
    let mut connection = server.connect()?;
    connection.ask(&request("POST", "create", "{path=\"//tmp/bench\";type=map_node}", b""))?;
    connection.ask(&request(
        "PUT",
        "set",
        "{path=\"//tmp/bench/value\";input_format=<format=text>yson}",
        b"5",
    ))?;
    for (name, request) in [
        (
            "get of a scalar, 8 connections, keep-alive",
            request("GET", "get", "{path=\"//tmp/bench/value\"}", b""),
        ),
        ("exists", request("GET", "exists", "{path=\"//tmp/bench/value\"}", b"")),
        ("get of an attribute", request("GET", "get", "{path=\"//tmp/bench/@type\"}", b"")),
        (
            "set of a scalar",
            request("PUT", "set", "{path=\"//tmp/bench/value\";input_format=<format=text>yson}", b"5"),
        ),
        ("start_transaction", request("POST", "start_transaction", "{timeout=60000}", b"")),
    ] {
        let (cpu, start) = (server.cpu()?, Instant::now());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = server.connect()?;
                        (0..REQUESTS_A_CONNECTION).try_for_each(|_| connection.ask(&request))
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
        })?;
        let count = (CONNECTIONS * REQUESTS_A_CONNECTION) as f64;
        let (cpu, time) = (server.cpu()? - cpu, start.elapsed().as_secs_f64());
        let row = Row::new(name, Figure::PerSecond(count / time));
        row.goal("10000 /s").beside_words(&format!("{} of its own CPU time", Figure::PerSecond(count / cpu)));
    }
    Ok(())
}

fn connections(server: &Server) -> Result<()> {
    let memory = server.memory()?;
    let start = Instant::now();
    let mut all = (0..MANY_CONNECTIONS).map(|_| server.connect()).collect::<Result<Vec<_>>>()?;
    let request = request("GET", "exists", "{path=\"//tmp\"}", b"");
    all.iter_mut().try_for_each(|connection| connection.send(&request))?;
    all.iter_mut().try_for_each(Connection::receive)?;
    all.iter_mut().try_for_each(|connection| connection.ask(&request))?;
    let seconds = start.elapsed().as_secs_f64();
    let each = Figure::Bytes((server.memory()? - memory) * 1_048_576.0 / MANY_CONNECTIONS as f64);
    let what = format!("{MANY_CONNECTIONS} connections at once, each with two requests");
    Row::new(&what, Figure::Seconds(seconds)).beside_words(&format!("{each} of memory each"));
    Ok(())
}

/// What is overwritten, removed or over takes no memory: rounds of a value set, a file written over, a transaction and
/// a node that comes and goes.
fn memory_of_what_is_gone(server: &Server) -> Result<()> {
    let mut connection = server.connect()?;
    connection.ask(&request("POST", "create", "{path=\"//tmp/f\";type=file}", b""))?;
    connection.ask(&request("POST", "create", "{path=\"//tmp/v\";type=document}", b""))?;
    let text = format!("\"{}\"", "x".repeat(1000));
    let mut rounds = |count: usize| -> Result<()> {
        for _ in 0..count {
            let set = "{path=\"//tmp/v\";input_format=<format=text>yson}";
            connection.ask(&request("PUT", "set", set, text.as_bytes()))?;
            connection.ask(&request("PUT", "write_file", "{path=\"//tmp/f\"}", text.as_bytes()))?;
            connection.ask(&request("POST", "create", "{path=\"//tmp/n\";type=map_node}", b""))?;
            connection.ask(&request("POST", "remove", "{path=\"//tmp/n\"}", b""))?;
            connection.ask(&request("POST", "start_transaction", "{timeout=60000}", b""))?;
            let answer = String::from_utf8_lossy(&connection.buffer);
            let (_, id) = answer.split_once("transaction_id=").ok_or("no transaction id")?;
            let id = id.split(['"', ';', '}']).find(|part| !part.is_empty()).unwrap_or_default().to_owned();
            let transaction = format!("{{transaction_id=\"{id}\"}}");
            connection.ask(&request("POST", "commit_transaction", &transaction, b""))?;
        }
        Ok(())
    };
    rounds(WARM_ROUNDS)?;
    let before = server.memory()?;
    rounds(ROUNDS)?;
    let more = Figure::Bytes((server.memory()? - before) * 1_048_576.0);
    let what = format!("memory gained by {} requests that leave nothing behind", ROUNDS * 6);
    Row::new(&what, more).goal("none").beside_words(&format!("of {before:.1} MiB"));
    Ok(())
}

#[derive(Clone, Copy)]
enum Rows {
    Text,
    Binary,
    SmallBinary,
}

impl Rows {
    fn name(self) -> &'static str {
        match self {
            Rows::Text => "text YSON, rows of 1 KiB",
            Rows::Binary => "binary YSON, rows of 1 KiB",
            Rows::SmallBinary => "binary YSON, rows of 50 bytes",
        }
    }

    fn format(self) -> &'static str {
        match self {
            Rows::Text => "<format=text>yson",
            Rows::Binary | Rows::SmallBinary => "<format=binary>yson",
        }
    }

    fn row(self) -> Vec<u8> {
        let binary = |text_bytes: usize| {
            let string = |text: &[u8]| {
                let mut bytes = vec![1];
                let mut length = text.len() << 1;
                while length >= 0x80 {
                    bytes.extend(u8::try_from(length & 0x7f).map(|bits| bits | 0x80));
                    length >>= 7;
                }
                bytes.extend(u8::try_from(length));
                bytes.extend_from_slice(text);
                bytes
            };
            let text = vec![b'x'; text_bytes];
            [b"{", &string(b"number")[..], b"=\x02\x54;", &string(b"text"), b"=", &string(&text), b"};"]
                .concat()
        };
        match self {
            Rows::Text => format!("{{number=42;text=\"{}\"}};", "x".repeat(1000)).into_bytes(),
            Rows::Binary => binary(1000),
            Rows::SmallBinary => binary(28),
        }
    }
}

fn append(server: &Server, rows: Rows) -> Result<()> {
    let row = rows.row();
    let body = row.repeat(BATCH_BYTES / row.len());
    let mut connection = server.connect()?;
    let create = "{path=\"//tmp/t\";type=table;attributes={schema=[{name=number;type=int64};{name=text;type=string}]}}";
    connection.ask(&request("POST", "create", create, b""))?;
    let parameters = format!("{{path=<append=%true>\"//tmp/t\";input_format={}}}", rows.format());
    let write = request("PUT", "write_table", &parameters, &body);
    let before = server.memory()?;
    let (cpu, start) = (server.cpu()?, Instant::now());
    for _ in 0..BATCHES {
        connection.ask(&write)?;
    }
    let stored = (body.len() * BATCHES) as f64 / MEBIBYTE as f64;
    let (cpu, time) = (server.cpu()? - cpu, start.elapsed().as_secs_f64());
    let speed = |seconds: f64| Figure::BytesPerSecond(stored * 1_048_576.0 / seconds);
    let memory = (server.memory()? - before) / stored;
    let beside = format!("{} of its own CPU time, {memory:.2} B a byte", speed(cpu));
    Row::new(&format!("table append, {}", rows.name()), speed(time)).goal("300 MB/s").beside_words(&beside);
    Ok(())
}
