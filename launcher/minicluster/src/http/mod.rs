//! The HTTP front: connections, and what of HTTP a command must not know.

mod body;
mod faults;
mod handler;
mod io;
mod parameters;
mod response;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::faults::wire::Wire;
use crate::server::Server;

/// Headers may be long: parameters travel in them.
const MAX_HEAD_BYTES: usize = 8 * 1024 * 1024;
/// Parameters may be split over up to 1000 headers.
const MAX_HEADERS: usize = 1200;
/// How long answers that are under way may still take when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Listens at an address.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    hold(address)?.listen(BACKLOG)
}

/// Takes an address without listening: who connects is refused, and nobody else gets it.
fn hold(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until told to stop, then lets running answers end for a moment.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut away = server.faults.away();
    let mut listener = Some(listener);
    while let Some(open) = &listener {
        tokio::select! {
            accepted = open.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&server), stop.clone()));
                }
                Err(error) => {
                    // Out of descriptors, mostly: the connections that are there will free some.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            Ok(()) = away.changed() => {
                let address = server.address;
                drop(listener.take());
                connections.shutdown().await;
                tokio::select! {
                    back = come_back(address, &mut away) => listener = Some(back),
                    () = stopped(&mut stop) => {}
                }
            }
            () = stopped(&mut stop) => break,
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Waits for the end of a planned absence. The address is kept meanwhile, so that nobody else takes it.
async fn come_back(address: SocketAddr, away: &mut watch::Receiver<Option<Instant>>) -> TcpListener {
    let mut held = hold(address);
    loop {
        let until = *away.borrow_and_update();
        let Some(until) = until else { break };
        if until <= Instant::now() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => break,
            _ = away.changed() => {}
        }
    }
    loop {
        match held.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => return listener,
            Err(error) => tracing::warn!(%address, %error, "cannot listen again yet"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        held = hold(address);
    }
}

async fn connection(stream: TcpStream, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    // Answers are small and clients wait for them: without this each may wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let (stream, wire) = Wire::new(stream);
    let (stream, start) = io::WithTrailers::new(stream);
    let link = handler::Link { start, wire };
    let service = service_fn(move |request| {
        let (server, link) = (Arc::clone(&server), link.clone());
        async move { Ok::<_, Infallible>(handler::handle(server, request, link).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits until the server is told to stop. The guard that `wait_for` returns must not live on.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
