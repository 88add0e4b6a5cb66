//! A heavy write: each try in a transaction of its own, given up when nothing moves.
//!
//! A write replaces the content, or appends to it, when its transaction is committed, so that a try that was
//! cut off leaves nothing behind, neither data nor a lock, and an append is never applied twice.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use reqwest::header::CONTENT_LENGTH;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::call::{Call, Method, Parameters, binary_yson};
use super::exec::Attempts;
use super::retry::{Repeat, TryError};
use super::stream::silence;
use crate::client::Client;
use crate::commands::files::{FileContent, Progress};
use crate::error::{Error, TransportKind, codes};
use crate::transaction::{Transaction, TransactionOptions};

/// Size of the pieces that data is sent in.
const PIECE_BYTES: usize = 256 * 1024;

/// Timeout of the transaction around a try. It is pinged; this is how long an abandoned lock lasts.
const TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

impl Client {
    /// Runs a heavy command that writes, until it is committed.
    pub(crate) async fn heavy_write(
        &self,
        command: &'static str,
        parameters: Parameters,
        content: &FileContent,
        title: String,
    ) -> Result<(), Error> {
        let mut call = Call { method: Method::Put, parameters, ..Call::read(command) };
        call.parameters.set("output_format", binary_yson());
        let transport = self.transport();
        let mut attempts = Attempts::new(command, Repeat::HeavyWrite);
        loop {
            let options =
                TransactionOptions { timeout: TRANSACTION_TIMEOUT, title: Some(title.clone()), parent: None };
            let transaction = self.start_transaction(options).await?;
            let proxy = transport.heavy_proxy().await;
            let (error, held) = match self.write_once(&proxy, &call, content, &transaction).await {
                Err(error) => (error, Some(transaction)),
                Ok(()) => match transaction.commit().await {
                    Ok(()) => return Ok(()),
                    // It expired under us: what it held is gone, and the next try is the first again.
                    Err(Error::Yt(error)) if error.code == codes::NO_SUCH_TRANSACTION => {
                        let cause = error.to_string();
                        (TryError::Transport { kind: TransportKind::Broken, cause }, None)
                    }
                    Err(error) => return Err(error),
                },
            };
            transport.blame(&proxy, &error);
            match (attempts.failed(transport, &proxy, error).await, held) {
                (Ok(_), None) => {}
                // What the next try wants to lock must be free.
                (Ok(_), Some(transaction)) => transaction.abort().await?,
                (Err(error), held) => {
                    if let Some(transaction) = held {
                        transaction.abort_once().await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Runs a heavy command that writes in the client's own transaction, once.
    pub(crate) async fn heavy_write_once(
        &self,
        command: &'static str,
        parameters: Parameters,
        pieces: Box<dyn Iterator<Item = io::Result<Bytes>> + Send>,
    ) -> Result<(), Error> {
        let mut call = Call { method: Method::Put, parameters, ..Call::read(command) }.scoped(self.scope());
        call.parameters.set("output_format", binary_yson());
        let transport = self.transport();
        let proxy = transport.heavy_proxy().await;
        let (moved, receiver) = watch::channel(0);
        let body = from_pieces(pieces, moved);
        let patience = transport.config.heavy_progress_timeout;
        let result = match transport.request(&proxy, &call) {
            Err(error) => Err(error),
            Ok(request) => tokio::select! {
                biased;
                result = transport.send_heavy(command, request.body(body)) => result,
                () = stalled(receiver, patience) => Err(silence(patience)),
            },
        };
        let Err(error) = result else { return Ok(()) };
        transport.blame(&proxy, &error);
        // With `Never` there is no next try.
        Attempts::new(command, Repeat::Never).failed(transport, &proxy, error).await.map(drop)
    }

    async fn write_once(
        &self,
        proxy: &str,
        call: &Call,
        content: &FileContent,
        transaction: &Transaction,
    ) -> Result<(), TryError> {
        let transport = self.transport();
        let call = call.clone().scoped(transaction.client().scope());
        let upload = Upload::open(content).await.map_err(TryError::Ours)?;
        let request =
            transport.request(proxy, &call)?.header(CONTENT_LENGTH, upload.length).body(upload.body);
        let patience = transport.config.heavy_progress_timeout;

        let result = tokio::select! {
            biased;
            result = transport.send_heavy(call.command, request) => result,
            reason = transaction.lost() => {
                let cause = format!("the write's transaction is lost: {reason}");
                Err(TryError::Transport { kind: TransportKind::Broken, cause })
            }
            () = stalled(upload.moved, patience) => Err(silence(patience)),
        };
        // A fault of the local file reaches us as a broken connection; its own words are better.
        match upload.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((path, error)) => Err(TryError::Ours(Error::LocalFile { path, error })),
            None => result.map(drop),
        }
    }
}

/// Resolves when nothing moved for that long.
async fn stalled(mut moved: watch::Receiver<u64>, patience: Duration) {
    while let Ok(change) = tokio::time::timeout(patience, moved.changed()).await {
        if change.is_err() {
            // All is sent; the cluster has as long again to answer.
            tokio::time::sleep(patience).await;
            return;
        }
    }
}

type Fault = Arc<Mutex<Option<(PathBuf, io::Error)>>>;

/// Content on its way.
struct Upload {
    body: Body,
    length: u64,
    /// Bytes handed to the connection so far.
    moved: watch::Receiver<u64>,
    /// Why the content could not be read to its end.
    fault: Fault,
}

impl Upload {
    async fn open(content: &FileContent) -> Result<Self, Error> {
        let (moved, receiver) = watch::channel(0);
        let fault = Fault::default();
        let (body, length) = match content {
            FileContent::Bytes(bytes) => (from_bytes(bytes.clone(), moved), bytes.len() as u64),
            FileContent::Path { path, progress } => {
                let unreadable = |error| Error::LocalFile { path: path.clone(), error };
                let file = File::open(path).await.map_err(unreadable)?;
                let length = file.metadata().await.map_err(unreadable)?.len();
                let meter = Meter { moved, progress: progress.clone(), sent: 0 };
                (from_file(file, path, length, meter, fault.clone()), length)
            }
        };
        Ok(Self { body, length, moved: receiver, fault })
    }
}

fn from_bytes(bytes: Bytes, moved: watch::Sender<u64>) -> Body {
    Body::wrap_stream(stream::unfold((bytes, moved), |(mut rest, moved)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        moved.send_modify(|sent| *sent += piece.len() as u64);
        Some((Ok::<_, io::Error>(piece), (rest, moved)))
    }))
}

fn from_pieces(
    pieces: Box<dyn Iterator<Item = io::Result<Bytes>> + Send>,
    moved: watch::Sender<u64>,
) -> Body {
    Body::wrap_stream(stream::iter(pieces.map(move |piece| {
        let piece = piece?;
        moved.send_modify(|sent| *sent += piece.len() as u64);
        Ok::<_, io::Error>(piece)
    })))
}

/// Tells those who want to know how far it is.
struct Meter {
    moved: watch::Sender<u64>,
    progress: Option<Progress>,
    sent: u64,
}

impl Meter {
    fn add(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.moved.send_replace(self.sent);
        if let Some(progress) = &self.progress {
            progress(self.sent);
        }
    }
}

fn from_file(file: File, path: &Path, length: u64, meter: Meter, fault: Fault) -> Body {
    let path = path.to_owned();
    Body::wrap_stream(stream::try_unfold((file, meter), move |(mut file, mut meter)| {
        let path = path.clone();
        let fault = fault.clone();
        async move {
            // A file that grows while it is read is sent as long as it was announced.
            let rest = length - meter.sent;
            if rest == 0 {
                return Ok(None);
            }
            match next_piece(&mut file, rest).await {
                Ok(piece) => {
                    meter.add(piece.len());
                    Ok(Some((piece, (file, meter))))
                }
                Err(error) => {
                    let kind = error.kind();
                    *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((path, error));
                    Err(io::Error::from(kind))
                }
            }
        }
    }))
}

async fn next_piece(file: &mut File, rest: u64) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(usize::try_from(rest).unwrap_or(PIECE_BYTES).min(PIECE_BYTES));
    let mut limited = file.take(rest.min(PIECE_BYTES as u64));
    while limited.limit() > 0 {
        if limited.read_buf(&mut piece).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
    }
    Ok(piece.into())
}
