//! A proxy before the minicluster that keeps every request as it came, so that a test can look for what none may hold.
//!
//! It knows of HTTP only what tells one request from the next; bytes go on in both directions as they are.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use memchr::memmem;

use crate::Cluster;

/// A listener whose connections go on to a minicluster. It lives as long as the test's process.
pub struct Recorder {
    port: u16,
    connections: Arc<Mutex<Vec<Sent>>>,
}

/// What one connection has sent so far.
type Sent = Arc<Mutex<Vec<u8>>>;

/// A request as it was sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the command, the end of the URL's path.
    pub command: String,
    /// The line with the URL and all headers but `Authorization`.
    pub head: String,
    /// Values of `Authorization`.
    pub authorizations: Vec<String>,
    /// What followed, put together where it came in chunks.
    pub body: Vec<u8>,
}

impl Recorder {
    /// Starts one before a minicluster.
    pub fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let connections: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let (kept, target) = (Arc::clone(&connections), cluster.port());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                let sent = Sent::default();
                kept.lock().expect("not poisoned").push(Arc::clone(&sent));
                join(client, server, sent).expect("a connection can be shared by two threads");
            }
        });
        Self { port, connections }
    }

    /// `host:port` of it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All requests so far, those of one connection in their order. The last of a connection may be a part.
    pub fn requests(&self) -> Vec<Request> {
        let connections = self.connections.lock().expect("not poisoned").clone();
        connections.iter().flat_map(|sent| split(&sent.lock().expect("not poisoned"))).collect()
    }
}

fn join(client: TcpStream, server: TcpStream, sent: Sent) -> io::Result<()> {
    let (client_again, server_again) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pump(client, server, Some(&sent)));
    thread::spawn(move || pump(server_again, client_again, None));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, sent: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 65536];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        if let Some(sent) = sent {
            sent.lock().expect("not poisoned").extend_from_slice(&buffer[..length]);
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// The requests of one connection.
fn split(mut sent: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while let Some(end) = position(sent, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&sent[..end]).into_owned();
        sent = &sent[end + 4..];
        let header = |name: &str| -> Vec<String> {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            let lines = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
            lines.map(|(_, value)| value.trim().to_owned()).collect()
        };
        let length = header("content-length").first().and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = if header("transfer-encoding") == ["chunked"] {
            unchunk(&mut sent)
        } else {
            take(&mut sent, length).to_vec()
        };
        let authorizations = header("authorization");
        let url = head.split(' ').nth(1).unwrap_or_default();
        let path = url.split('?').next().unwrap_or_default();
        let command = path.rsplit('/').next().unwrap_or_default().to_owned();
        let open = |line: &&str| !line.to_ascii_lowercase().starts_with("authorization:");
        let head = head.lines().filter(open).collect::<Vec<_>>().join("\n");
        requests.push(Request { command, head, authorizations, body });
    }
    requests
}

fn unchunk(sent: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = position(sent, b"\r\n") {
        let size = String::from_utf8_lossy(take(sent, line)).into_owned();
        take(sent, 2);
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).expect("a size is hex");
        body.extend_from_slice(take(sent, size));
        take(sent, 2);
        if size == 0 {
            break;
        }
    }
    body
}

/// Takes so many bytes off, or as many as there are.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memmem::find(bytes, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let sent = b"GET /api/v4/get?x=1 HTTP/1.1\r\nHost: h\r\nAuthorization: OAuth t\r\n\r\n\
            PUT /api/v4/write_file HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
            POST /api/v4/set HTTP/1.1\r\ncontent-length: 2\r\n\r\nxyPUT /cut HTTP/1.1\r\nContent-Length: 9\r\n\r\nz";
        let requests = split(sent);
        let seen: Vec<_> =
            requests.iter().map(|request| (request.command.as_str(), request.body.as_slice())).collect();
        assert_eq!(seen, [("get", &b""[..]), ("write_file", b"abcde"), ("set", b"xy"), ("cut", b"z")]);
        assert_eq!(requests[0].authorizations, ["OAuth t"]);
        assert_eq!(requests[0].head, "GET /api/v4/get?x=1 HTTP/1.1\nHost: h");
    }
}
