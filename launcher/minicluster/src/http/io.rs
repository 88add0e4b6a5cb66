//! A connection that lets trailers through.
//!
//! YT clients read trailers without saying so: none of them sends `TE: trailers`, without which hyper sends no
//! trailers. So the header is put behind the request line as a request comes in. That a request begins is known
//! because every request's body is read to its end before it is answered (`RequestStart::expect`). Clients that
//! send the next request before the answer to the last one may miss the mark: they lose trailers, nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEADER: &[u8] = b"TE: trailers\r\n";
/// A longer request line is passed on as it is.
const MAX_REQUEST_LINE: usize = 64 * 1024;

/// Told when the next bytes of a connection are a request line.
#[derive(Debug, Clone)]
pub(super) struct RequestStart(Arc<AtomicBool>);

impl RequestStart {
    pub(super) fn expect(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A stream that puts the header in.
#[derive(Debug)]
pub(super) struct WithTrailers<S> {
    stream: S,
    start: RequestStart,
    /// Bytes that were read and not yet passed on.
    buffer: Vec<u8>,
    passed: usize,
}

impl<S> WithTrailers<S> {
    pub(super) fn new(stream: S) -> (WithTrailers<S>, RequestStart) {
        let start = RequestStart(Arc::new(AtomicBool::new(true)));
        (WithTrailers { stream, start: start.clone(), buffer: Vec::new(), passed: 0 }, start)
    }

    fn pass_on(&mut self, target: &mut ReadBuf<'_>) {
        let count = target.remaining().min(self.buffer.len() - self.passed);
        target.put_slice(&self.buffer[self.passed..self.passed + count]);
        self.passed += count;
        if self.passed == self.buffer.len() {
            self.buffer.clear();
            self.passed = 0;
        }
    }
}

/// What the first bytes of a request are.
enum Line {
    Unfinished,
    /// Ends before this offset.
    Request(usize),
    Other,
}

fn first_line(bytes: &[u8]) -> Line {
    match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) if bytes[..end].ends_with(b" HTTP/1.1") => Line::Request(end + 2),
        None if bytes.len() < MAX_REQUEST_LINE && may_be_request(bytes) => Line::Unfinished,
        _ => Line::Other,
    }
}

/// Waiting for the end of the line must not hold back anything but a request: of a client that sends requests
/// ahead, these may be bytes from the middle of one.
fn may_be_request(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] =
        [b"GET /", b"PUT /", b"POST /", b"OPTIONS ", b"HEAD /", b"DELETE /", b"PATCH /"];
    METHODS.iter().any(|method| {
        let common = method.len().min(bytes.len());
        method[..common] == bytes[..common]
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for WithTrailers<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.start.0.load(Ordering::SeqCst) {
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut chunk))?;
            let ended = chunk.filled().is_empty();
            this.buffer.extend_from_slice(chunk.filled());
            match first_line(&this.buffer) {
                Line::Unfinished if !ended => continue,
                Line::Request(end) => drop(this.buffer.splice(end..end, HEADER.iter().copied())),
                Line::Unfinished | Line::Other => {}
            }
            this.start.0.store(false, Ordering::SeqCst);
        }
        if this.buffer.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, target);
        }
        this.pass_on(target);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithTrailers<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_header_goes_behind_every_expected_request_line() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut server, start) = WithTrailers::new(server);
        client.write_all(b"GET /ping HT").await.unwrap();
        let mut bytes = [0; 64];
        let reading = tokio::spawn(async move {
            let count = server.read(&mut bytes).await.unwrap();
            (server, bytes[..count].to_vec())
        });
        client.write_all(b"TP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let (mut server, got) = reading.await.unwrap();
        assert_eq!(got, b"GET /ping HTTP/1.1\r\nTE: trailers\r\nHost: x\r\n\r\n");
        client.write_all(b"PUT /x HTTP/1.1\r\n").await.unwrap();
        let count = server.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..count], b"PUT /x HTTP/1.1\r\n", "not expected, so it is part of a body");
        start.expect();
        client.write_all(b"PUT /x HTTP/1.1\r\n").await.unwrap();
        let count = server.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..count], b"PUT /x HTTP/1.1\r\nTE: trailers\r\n");
        start.expect();
        drop(client);
        assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
    }
}
