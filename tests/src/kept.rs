//! A minicluster that keeps its state, for tests that kill it: its client takes a connection that breaks for an
//! answer that did not come.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::binaries;
use crate::process::{DEADLINE, POLL, Running};
use crate::scratch::{MARK, Scratch, wait_for_file};

/// A running minicluster with `--data`.
pub struct KeptCluster {
    address: String,
    process: Running,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was answered well.
    Yes,
    /// No answer came: it may have been made or not.
    None,
}

impl KeptCluster {
    /// The command line of a server with the data of this test.
    pub fn command(scratch: &Scratch, options: &[&str]) -> Command {
        let mut command = Command::new(binaries::minicluster());
        command
            .args(["--port", "0", "--port-file"])
            .arg(scratch.path("port"))
            .arg("--data")
            .arg(scratch.path("data"))
            .args(options)
            .env(MARK, scratch.mark())
            .env("TMPDIR", scratch.path(""))
            .stdin(Stdio::null());
        command
    }

    /// Starts one, with the state of an earlier one of this test if there was one.
    pub fn start(scratch: &Scratch, options: &[&str]) -> Self {
        let port_file = scratch.path("port");
        // The port of an earlier one must not be taken for this one's.
        let _ = std::fs::remove_file(&port_file);
        let process = Running::start(&mut Self::command(scratch, options));
        process.wait_for("Listening on");
        let port = wait_for_file(&port_file);
        Self { address: format!("127.0.0.1:{}", port.trim()), process }
    }

    /// Process id of the server.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Sends a signal to the server alone.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the server, and starts the next one.
    #[must_use]
    pub fn restart(self, scratch: &Scratch, options: &[&str]) -> Self {
        self.process.wait();
        Self::start(scratch, options)
    }

    /// `set`, if the server lives.
    #[track_caller]
    pub fn try_set(&self, path: &str, value: &Value) -> Reply {
        self.try_command("set", &json!({ "path": path }), value.to_string().as_bytes())
    }

    /// A change, if the server lives. An error as its answer fails the test.
    #[track_caller]
    pub fn try_command(&self, command: &str, parameters: &Value, body: &[u8]) -> Reply {
        match self.send(command, parameters, body) {
            Some(_) => Reply::Yes,
            None => Reply::None,
        }
    }

    /// The answer to a change, if the server lives.
    #[track_caller]
    pub fn try_answer(&self, command: &str, parameters: &Value, body: &[u8]) -> Option<Value> {
        let body = self.send(command, parameters, body)?;
        Some(serde_json::from_slice(&body).expect("answers are JSON"))
    }

    /// The answer of a server that lives.
    #[track_caller]
    pub fn answer(&self, command: &str, parameters: &Value) -> Value {
        self.try_answer(command, parameters, b"").expect("the server lives")
    }

    /// The bytes that a server answers that lives.
    #[track_caller]
    pub fn bytes(&self, command: &str, parameters: &Value) -> Vec<u8> {
        self.send(command, parameters, b"").expect("the server lives")
    }

    /// All rows of a table.
    #[track_caller]
    pub fn rows(&self, path: &str) -> Vec<Value> {
        let text =
            String::from_utf8(self.bytes("read_table", &json!({ "path": path }))).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("rows are JSON")).collect()
    }

    /// Waits until an operation is in a state.
    #[track_caller]
    pub fn wait_for_state(&self, operation: &Value, state: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.answer("get_operation", &json!({ "operation_id": operation }));
            if found["state"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "operation {operation} is not {state}: {found}");
            std::thread::sleep(POLL);
        }
    }

    /// The body of a good answer. None: it did not come, or not to its end.
    #[track_caller]
    fn send(&self, command: &str, parameters: &Value, body: &[u8]) -> Option<Vec<u8>> {
        let method = match command {
            "set" | "write_file" | "write_table" => "PUT",
            "get" | "get_operation" | "list_jobs" | "get_job_stderr" | "read_file" | "read_table" => "GET",
            _ => "POST",
        };
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let head = format!(
            "{method} /api/v4/{command} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-YT-Header-Format: json\r\n\
             X-YT-Output-Format: \"json\"\r\nX-YT-Input-Format: \"json\"\r\nX-YT-Parameters: {parameters}\r\n\
             X-YT-Omit-Trailers: 1\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let rest = &answer[end + 4..];
        let whole = if head.contains("transfer-encoding: chunked") {
            unchunk(rest)?
        } else {
            let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            wanted.is_none_or(|wanted: usize| wanted == rest.len()).then(|| rest.to_vec())?
        };
        assert!(
            head.starts_with("http/1.1 200"),
            "{command} {parameters}: {head} {}",
            String::from_utf8_lossy(&whole)
        );
        Some(whole)
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 2 + size + 2..)?;
    }
}
