//! A minicluster of one test, and a plain client of its API.
//!
//! The client is written here from the API's description and shares no code with `tractorun-yt`, so that a fault of
//! that crate does not hide itself.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::binaries;
use crate::process::{DEADLINE, Finished, POLL, Running};
use crate::scratch::{MARK, Scratch, wait_for_file};

/// A running minicluster with its data in a test's folder.
pub struct Cluster {
    address: String,
    /// Where faults are planned; only of one that was started for it.
    control: Option<String>,
    token: Option<String>,
    process: Running,
    /// Its end is the minicluster's end, also when the test is killed.
    lifeline: Option<ChildStdin>,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, as it came.
    pub body: Vec<u8>,
}

impl Cluster {
    /// Starts one that takes any token and none.
    pub fn start(scratch: &Scratch) -> Self {
        Self::start_with(scratch, None, &[])
    }

    /// Starts one whose faults can be planned.
    pub fn start_with_control(scratch: &Scratch) -> Self {
        let port_file = scratch.path("cluster/control-port");
        let arguments = ["--control-port", "0", "--control-port-file"].map(OsString::from);
        let arguments = [&arguments[..], &[port_file.clone().into()]].concat();
        let mut cluster = Self::start_with(scratch, None, &arguments);
        cluster.control = Some(format!("127.0.0.1:{}", wait_for_file(&port_file).trim()));
        cluster
    }

    /// Starts one that listens on all addresses of the machine, for network namespaces.
    pub fn start_for_all(scratch: &Scratch) -> Self {
        Self::start_with(scratch, None, &["--listen", "0.0.0.0"].map(OsString::from))
    }

    /// Starts one whose jobs run in containers of their image; the variables are for its container engine.
    pub fn start_with_containers(scratch: &Scratch, variables: &[(&str, OsString)]) -> Self {
        let mut command = Command::new(binaries::minicluster());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::start_command(scratch, command, None, &["--job-kind", "container"].map(OsString::from))
    }

    /// Starts one that takes this token only, of user `alice`.
    pub fn start_with_token(scratch: &Scratch, token: &str) -> Self {
        Self::start_with(scratch, Some(token), &[])
    }

    fn start_with(scratch: &Scratch, token: Option<&str>, arguments: &[OsString]) -> Self {
        Self::start_command(scratch, Command::new(binaries::minicluster()), token, arguments)
    }

    fn start_command(
        scratch: &Scratch,
        mut command: Command,
        token: Option<&str>,
        arguments: &[OsString],
    ) -> Self {
        let port_file = scratch.path("cluster/port");
        std::fs::create_dir_all(scratch.path("cluster")).expect("cannot make a folder");
        command
            .args(["--port", "0", "--exit-on-stdin-eof", "--port-file"])
            .arg(&port_file)
            .args(arguments)
            .env(MARK, scratch.mark())
            // Its temporary folder is the test's too.
            .env("TMPDIR", scratch.path("cluster"))
            .stdin(Stdio::piped());
        if let Some(token) = token {
            command.args(["--token", &format!("{token}:alice")]);
        }
        let mut process = Running::start_with_stdin(&mut command);
        let lifeline = Some(process.stdin());
        process.wait_for("Listening on");
        let port = wait_for_file(&port_file);
        Self {
            address: format!("127.0.0.1:{}", port.trim()),
            control: None,
            token: token.map(str::to_owned),
            process,
            lifeline,
        }
    }

    /// `http://host:port`, for `YT_PROXY`.
    pub fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Port it listens on.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.expect("an address has a port")
    }

    /// Process id of the minicluster.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Stops it in order, as its starter's end does.
    pub fn stop(mut self) -> Finished {
        self.lifeline = None;
        self.process.wait()
    }

    // === Faults ===

    /// Where faults are planned: `http://host:port`.
    pub fn control_address(&self) -> String {
        let address = self.control.as_deref().expect("this cluster was started with a control endpoint");
        format!("http://{address}")
    }

    /// Plans a fault; answers with its number.
    #[track_caller]
    pub fn plan(&self, fault: &Value) -> u64 {
        self.control("POST", "/faults", fault)["id"].as_u64().expect("a fault has a number")
    }

    /// How many requests a fault has struck.
    #[track_caller]
    pub fn struck(&self, fault: u64) -> u64 {
        let planned = self.control("GET", "/faults", &Value::Null);
        let mut planned = planned["faults"].as_array().expect("there is a list of faults").iter();
        let planned = planned.find(|planned| planned["id"] == fault).expect("the fault is planned");
        planned["struck"].as_u64().expect("a fault counts")
    }

    /// One request to the control endpoint, which must succeed.
    #[track_caller]
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_control(method, path, body);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{method} {path} {body} failed: {text}");
        serde_json::from_str(&text).expect("the control endpoint speaks JSON")
    }

    /// The same, whatever comes of it.
    pub fn try_control(&self, method: &str, path: &str, body: &Value) -> Answer {
        let address = self.control.as_deref().expect("this cluster was started with a control endpoint");
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        ask(address, &head, body.as_bytes())
    }

    // === The API ===

    /// Runs a command that reads.
    #[track_caller]
    pub fn read(&self, command: &str, parameters: &Value) -> Value {
        let body = self.send("GET", command, parameters, b"").expect_success(command, parameters);
        serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!(
                "{command} {parameters} answered what is no JSON ({error}): {}",
                String::from_utf8_lossy(&body)
            )
        })
    }

    /// Value of a node or attribute.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.read("get", &json!({ "path": path }))["value"].clone()
    }

    /// Whether a node is there.
    #[track_caller]
    pub fn exists(&self, path: &str) -> bool {
        self.read("exists", &json!({ "path": path }))["value"] == true
    }

    /// Sets a document, string, number or attribute.
    #[track_caller]
    pub fn set(&self, path: &str, value: &Value) {
        let parameters = json!({ "path": path, "input_format": "json" });
        self.send("PUT", "set", &parameters, value.to_string().as_bytes()).expect_success("set", &parameters);
    }

    /// Makes a node.
    #[track_caller]
    pub fn create(&self, node_type: &str, path: &str, attributes: &Value) {
        let parameters =
            json!({ "type": node_type, "path": path, "recursive": true, "attributes": attributes });
        self.send("POST", "create", &parameters, b"").expect_success("create", &parameters);
    }

    /// Makes a file with content.
    #[track_caller]
    pub fn write_file(&self, path: &str, content: &[u8]) {
        self.create("file", path, &json!({}));
        let parameters = json!({ "path": path });
        self.send("PUT", "write_file", &parameters, content).expect_success("write_file", &parameters);
    }

    /// Starts a vanilla operation of one task; gives its id.
    #[track_caller]
    pub fn start_operation(&self, task: &Value) -> String {
        let spec = json!({ "tasks": { "task": task } });
        let parameters = json!({ "operation_type": "vanilla", "spec": spec });
        let answer = self.send("POST", "start_operation", &parameters, b"");
        let body = answer.expect_success("start_operation", &parameters);
        let answer: Value = serde_json::from_slice(&body).expect("the answer is JSON");
        answer["operation_id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// All operations that it knows, newest first.
    #[track_caller]
    pub fn operations(&self) -> Vec<Value> {
        let answer = self.read("list_operations", &json!({ "include_archive": false }));
        answer["operations"].as_array().unwrap_or_else(|| panic!("no `operations` in {answer}")).clone()
    }

    /// The only operation that was started here.
    #[track_caller]
    pub fn the_operation(&self) -> Value {
        let operations = self.operations();
        assert_eq!(operations.len(), 1, "one operation is expected: {operations:#?}");
        self.read("get_operation", &json!({ "operation_id": operations[0]["id"] }))
    }

    /// Checks that no operation is in a state before its end.
    #[track_caller]
    pub fn assert_no_operation_runs(&self) {
        for operation in self.operations() {
            let state = operation["state"].as_str().unwrap_or_default();
            assert!(
                matches!(state, "completed" | "failed" | "aborted"),
                "an operation is left: {operation:#}"
            );
        }
    }

    /// Waits until every operation has come to its end.
    #[track_caller]
    pub fn wait_until_no_operation_runs(&self) {
        let start = Instant::now();
        let ended = |operation: &Value| {
            matches!(operation["state"].as_str(), Some("completed" | "failed" | "aborted"))
        };
        while !self.operations().iter().all(ended) {
            assert!(start.elapsed() < DEADLINE, "an operation is left: {:#?}", self.operations());
            std::thread::sleep(POLL);
        }
    }

    /// stderr of every job of an operation.
    #[track_caller]
    pub fn job_stderrs(&self, operation_id: &Value) -> Vec<String> {
        let jobs = self.read("list_jobs", &json!({ "operation_id": operation_id }));
        let jobs = jobs["jobs"].as_array().unwrap_or_else(|| panic!("no `jobs` in {jobs}"));
        jobs.iter()
            .map(|job| {
                let parameters = json!({ "operation_id": operation_id, "job_id": job["id"] });
                let answer = self.send("GET", "get_job_stderr", &parameters, b"");
                String::from_utf8_lossy(&answer.expect_success("get_job_stderr", &parameters)).into_owned()
            })
            .collect()
    }

    /// One request, whatever comes of it.
    pub fn send(&self, method: &str, command: &str, parameters: &Value, body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} /api/v4/{command} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-YT-Header-Format: json\r\n\
             X-YT-Output-Format: \"json\"\r\nX-YT-Parameters: {parameters}\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        if let Some(token) = &self.token {
            let _ = write!(head, "Authorization: OAuth {token}\r\n");
        }
        ask(&self.address, &format!("{head}\r\n"), body)
    }
}

/// One request on a connection of its own.
fn ask(address: &str, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the minicluster listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream.write_all(head.as_bytes()).expect("the minicluster takes the request");
    stream.write_all(body).expect("the minicluster takes the body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the minicluster answers");
    parse(&answer)
}

impl Answer {
    #[track_caller]
    fn expect_success(self, command: &str, parameters: &Value) -> Vec<u8> {
        assert_eq!(
            self.status,
            200,
            "{command} {parameters} failed: {}",
            String::from_utf8_lossy(&self.body)
        );
        self.body
    }
}

/// Splits an HTTP answer; a chunked body is put together.
fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    let mut rest = &answer[end + 4..];
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return Answer { status, body: rest.to_vec() };
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk has a size");
        let size = String::from_utf8_lossy(&rest[..line]);
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).expect("a size is hex");
        if size == 0 {
            return Answer { status, body };
        }
        body.extend_from_slice(&rest[line + 2..][..size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
