//! The HTTP server: few connections, short ones, and one answer each, so that neither a scraper nor a stranger can
//! hold up the supervisor, whose thread it shares.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::exporter::Exporter;
use super::{Question, Sources, status};

/// Connections at a time; beyond it the oldest is given up.
const MAX_CONNECTIONS: usize = 32;

/// The head of a request must be there within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// And its answer must be taken within this one.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The least that hyper accepts: a scraper's request has some hundred bytes.
const BUFFER_BYTES: usize = 8192;

/// A loop that does not turn for this long is not healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

type Answer = Response<Full<Bytes>>;

#[derive(Clone)]
struct Pages {
    sources: Arc<Sources>,
    questions: mpsc::Sender<Question>,
    exporter: Arc<Mutex<Exporter>>,
}

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, sources: Arc<Sources>, questions: mpsc::Sender<Question>) {
    let kind = sources.snapshot.borrow().kind;
    let exporter = match Exporter::new(kind) {
        Ok(exporter) => Arc::new(Mutex::new(exporter)),
        // Two metrics of one name: tests would have seen it.
        Err(error) => return tracing::error!("no metrics: {error}"),
    };
    let pages = Pages { sources, questions, exporter };
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {
                oldest_first.retain(|connection| !connection.is_finished());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() >= MAX_CONNECTIONS && let Some(oldest) = oldest_first.pop_front() {
                        oldest.abort();
                    }
                    oldest_first.push_back(connections.spawn(converse(stream, pages.clone())));
                }
                Err(error) => {
                    debug!("cannot accept a connection on the metrics port: {error}");
                    // Out of descriptors or memory: an immediate retry would only spin.
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// One request and its answer. Not kept alive: between two scrapes nothing of it is left to wake up for.
async fn converse(stream: TcpStream, pages: Pages) {
    let service = service_fn(move |request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("connection on the metrics port: {error}"),
        Err(_) => debug!("a connection on the metrics port took longer than {CONNECTION_TIMEOUT:?}"),
    }
}

// === impl Pages ===

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" if health(&self.questions).await => text(StatusCode::OK, "ok\n"),
            "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "the supervisor does not answer\n"),
            "/status" => json(&status::status(&self.sources)),
            "/targets" if self.sources.snapshot.borrow().is_leader() => {
                let targets = status::targets(&self.sources.snapshot.borrow());
                targets.map_or_else(
                    || text(StatusCode::SERVICE_UNAVAILABLE, "not all nodes have met yet\n"),
                    |targets| json(&targets),
                )
            }
            "/targets" => {
                text(StatusCode::NOT_FOUND, "only the leader, node 0 of a job, knows all targets\n")
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz, /status and, on node 0, /targets\n",
            ),
        }
    }

    /// On a thread of its own: `/proc` of a large machine takes a while to read.
    async fn metrics(&self) -> Answer {
        let (sources, exporter) = (Arc::clone(&self.sources), Arc::clone(&self.exporter));
        let rendered = tokio::task::spawn_blocking(move || {
            // A panic ends the process, so nothing is left half done.
            exporter.lock().unwrap_or_else(PoisonError::into_inner).render(&sources)
        });
        match rendered.await {
            Ok(Ok(page)) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
            Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    }
}

/// Asks the supervisor's loop.
pub(super) async fn health(questions: &mpsc::Sender<Question>) -> bool {
    let (question, answered) = oneshot::channel();
    // Where as many wait already it does not turn either.
    questions.try_send(question).is_ok() && matches!(timeout(HEALTH_TIMEOUT, answered).await, Ok(Ok(())))
}

fn text(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    answer
}
