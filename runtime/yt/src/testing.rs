//! A scripted HTTP server for tests: it records what it is sent and answers as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use ytsaurus_yson::{YsonFormat, YsonValue};

use crate::client::Client;
use crate::config::ClientConfig;
use crate::token::Token;
use crate::value::{ValueExt, entity};

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The last part of the path: the command.
    pub(crate) command: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) parameters: YsonValue,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn text(&self, parameter: &str) -> Option<&str> {
        self.parameters.get(parameter)?.as_str()
    }

    pub(crate) fn flag(&self, parameter: &str) -> Option<bool> {
        self.parameters.get(parameter)?.as_bool()
    }
}

/// What the server does with a request.
pub(crate) enum Answer {
    /// An answer with its length.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// A chunked answer; without trailers the connection is cut behind the chunks.
    Chunked {
        headers: Vec<(&'static str, String)>,
        chunks: Vec<&'static [u8]>,
        trailers: Option<Vec<(&'static str, String)>>,
    },
    /// The connection is cut without a word.
    Cut,
    /// The connection stays open, and silent.
    Silence,
}

impl Answer {
    /// A YSON text as the cluster's answer.
    pub(crate) fn yson(text: &str) -> Self {
        let value: YsonValue = ytsaurus_yson::from_slice(text.as_bytes(), YsonFormat::Text).unwrap();
        let body = ytsaurus_yson::to_vec(&value, YsonFormat::Binary).unwrap();
        Self::Whole { status: 200, headers: vec![], body }
    }

    pub(crate) fn bytes(body: &[u8]) -> Self {
        Self::Whole { status: 200, headers: vec![], body: body.to_vec() }
    }

    /// An error of the cluster, in the head.
    pub(crate) fn error(status: u16, code: i32, message: &str) -> Self {
        Self::Whole { status, headers: error_headers(code, message), body: vec![] }
    }

    /// An answer that no YT proxy gives.
    pub(crate) fn foreign(status: u16) -> Self {
        Self::Whole { status, headers: vec![], body: b"<html>".to_vec() }
    }
}

pub(crate) fn error_headers(code: i32, message: &str) -> Vec<(&'static str, String)> {
    vec![
        ("X-YT-Response-Code", code.to_string()),
        ("X-YT-Error", format!(r#"{{"code": {code}, "message": "{message}"}}"#)),
    ]
}

type Script = dyn Fn(usize, &Request) -> Answer + Send + Sync;

/// The server. It dies with its runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    count: watch::Receiver<usize>,
}

impl Server {
    /// Starts a server. `script` gets how many requests of that command came before, and the request.
    pub(crate) async fn start(script: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, script).await
    }

    /// The same over TLS, as `localhost` with the certificate of `testdata/tls`.
    pub(crate) async fn start_tls(
        script: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = CertificateDer::pem_slice_iter(include_bytes!("../testdata/tls/server.pem"));
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../testdata/tls/server.key")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates.map(Result::unwrap).collect(), key)
            .unwrap();
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config))), script).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        script: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (tell, count) = watch::channel(0);
        let script: Arc<Script> = Arc::new(script);
        let log = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, log, tell, script) = (tls.clone(), log.clone(), tell.clone(), script.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, log, tell, script).await,
                        Some(tls) => {
                            // A client that does not trust us ends the handshake.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, log, tell, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, count }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests of that command so far.
    pub(crate) fn requests(&self, command: &str) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| request.command == command).cloned().collect()
    }

    /// All commands so far, in order.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.command.clone()).collect()
    }

    /// Waits until so many requests of that command came in.
    pub(crate) async fn wait_for(&self, command: &str, count: usize) {
        let mut total = self.count.clone();
        total.wait_for(|_| self.requests(command).len() >= count).await.unwrap();
    }

    /// A client of this server that hardly pauses between tries.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }

    pub(crate) fn config(&self) -> ClientConfig {
        config_for(&self.url())
    }
}

/// A configuration that hardly pauses between tries.
pub(crate) fn config_for(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new(url, Some(Token::new("t0ken"))).unwrap();
    config.first_pause = Duration::from_millis(1);
    config.longest_pause = Duration::from_millis(2);
    config
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Arc<Mutex<Vec<Request>>>,
    tell: watch::Sender<usize>,
    script: Arc<Script>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let before = {
            let mut log = log.lock().unwrap();
            let before = log.iter().filter(|earlier| earlier.command == request.command).count();
            log.push(request.clone());
            before
        };
        tell.send_modify(|count| *count += 1);
        match script(before, &request) {
            Answer::Cut => return,
            Answer::Silence => std::future::pending().await,
            Answer::Whole { status, headers, body } => {
                let mut answer = head(status, &headers).into_bytes();
                answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                answer.extend_from_slice(&body);
                if stream.get_mut().write_all(&answer).await.is_err() {
                    return;
                }
            }
            Answer::Chunked { headers, chunks, trailers } => {
                let mut answer = head(200, &headers).into_bytes();
                answer.extend_from_slice(
                    b"Transfer-Encoding: chunked\r\nTrailer: X-YT-Error, X-YT-Response-Code\r\n\r\n",
                );
                for chunk in chunks {
                    answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                let is_complete = trailers.is_some();
                if let Some(trailers) = trailers {
                    answer.extend_from_slice(b"0\r\n");
                    for (name, value) in trailers {
                        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                    }
                    answer.extend_from_slice(b"\r\n");
                }
                if stream.get_mut().write_all(&answer).await.is_err() || !is_complete {
                    return;
                }
            }
        }
    }
}

fn head(status: u16, headers: &[(&'static str, String)]) -> String {
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{}", lines.concat())
}

async fn read_request(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Request> {
    let first = read_line(stream).await?;
    let mut words = first.split(' ');
    let method = words.next()?.to_owned();
    let path = words.next()?.split('?').next()?;
    let command = path.rsplit('/').next()?.to_owned();

    let mut headers = HashMap::new();
    loop {
        let line = read_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().ok()?, 0);
        stream.read_exact(&mut body).await.ok()?;
    } else if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let size = usize::from_str_radix(&read_line(stream).await?, 16).ok()?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..]).await.ok()?;
            read_line(stream).await?;
            if size == 0 {
                break;
            }
        }
    }
    let parameters = match (headers.get("x-yt-parameters"), method.as_str()) {
        (Some(text), _) => ytsaurus_yson::from_slice(text.as_bytes(), YsonFormat::Text).unwrap(),
        (None, "POST") => ytsaurus_yson::from_slice(&body, YsonFormat::Text).unwrap(),
        _ => entity(),
    };
    Some(Request { method, command, headers, parameters, body })
}

async fn read_line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).await.ok()?;
    (length > 0).then(|| line.trim_end().to_owned())
}
