//! Request bodies: read to their end whatever happens, and decoded. Clients that are answered in the middle of
//! their request see a broken pipe instead of the answer.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use md5::{Digest, Md5};
use tokio::sync::mpsc;

use super::parameters::header;
use crate::cypress::{FileContent, FileHash};
use crate::error::YtError;
use crate::server::Server;
use crate::storage::{BlobWriter, Content};

/// Bodies that are kept in memory may not be longer, decoded.
const MAX_IN_MEMORY: usize = 1 << 30;
/// Room that is made before a body comes.
const MAX_EXPECTED: usize = 1 << 26;
/// Chunks between the connection and the disk.
const QUEUE: usize = 16;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// What the headers say, or the name that is not known here.
    pub(super) fn of(headers: &HeaderMap) -> Result<Encoding, YtError> {
        match header(headers, "content-encoding")? {
            None | Some("" | "identity") => Ok(Encoding::Identity),
            Some("gzip" | "x-gzip") => Ok(Encoding::Gzip),
            Some("deflate") => Ok(Encoding::Deflate),
            Some(other) => Err(crate::formats::unsupported(&format!(
                "content encoding {other:?}; identity, gzip and deflate are"
            ))),
        }
    }
}

/// Reads and drops what is left of a body.
pub(super) async fn drain(body: Incoming) {
    let mut body = body;
    while let Some(Ok(_)) = body.frame().await {}
}

/// Reads a body into memory.
pub(super) async fn collect(body: Incoming, encoding: Encoding) -> Result<Bytes, YtError> {
    let mut body = body;
    // Told lengths are believed only so far; a longer body grows as it comes.
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(MAX_EXPECTED);
    let mut decoder = Decoder::new(encoding, Limited { bytes: Vec::with_capacity(expected) });
    let mut result = Ok(());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| read_error(&error))?;
        if let Ok(data) = frame.into_data()
            && result.is_ok()
        {
            result = decoder.write_all(&data);
        }
    }
    result
        .and_then(|()| decoder.finish())
        .map(|limited| Bytes::from(limited.bytes))
        .map_err(|error| decode_error(&error))
}

/// Reads a body into a new blob, hashing it on the way if a hash is given to go on with.
pub(super) async fn store(
    body: Incoming,
    encoding: Encoding,
    server: &Server,
    hash: Option<Md5>,
) -> Result<FileContent, YtError> {
    let writer = match server.storage.writer() {
        Ok(writer) => writer,
        Err(error) => {
            drain(body).await;
            return Err(storage_error(&error));
        }
    };
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        let mut decoder = Decoder::new(encoding, Hashed { writer, hash });
        let mut result = Ok(());
        while let Some(data) = receiver.blocking_recv() {
            if result.is_ok() {
                result = decoder.write_all(&data);
            }
        }
        let hashed = result.and_then(|()| decoder.finish())?;
        hashed.writer.sync()?;
        Ok(hashed)
    });
    let mut body = body;
    let mut outcome = Ok(());
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                // The receiver lives until this sender is dropped.
                let _ = sender.send(data).await;
            }
            Ok(Err(_)) => {}
            Err(error) => {
                outcome = Err(read_error(&error));
                break;
            }
        }
    }
    drop(sender);
    let written =
        writing.await.map_err(|error| YtError::generic(format!("Error writing to the storage: {error}")))?;
    outcome?;
    let Hashed { writer, hash } = written.map_err(|error| decode_error(&error))?;
    Ok(FileContent { data: Content::from_blob(writer.finish()), md5: hash.map(FileHash::Growing) })
}

fn read_error(error: &hyper::Error) -> YtError {
    YtError::generic(format!("Error reading the body of the request: {error}"))
}

fn decode_error(error: &io::Error) -> YtError {
    if let Some(StorageError(error)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return storage_error(error);
    }
    YtError::generic(format!("Error decoding the body of the request: {error}"))
}

fn storage_error(error: &io::Error) -> YtError {
    YtError::generic(format!("Error writing to the storage: {error}"))
}

/// A failure of the storage on its way through a decoder, whose own failures are the client's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StorageError(io::Error);

struct Limited {
    bytes: Vec<u8>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_IN_MEMORY {
            return Err(io::Error::other(format!("it is longer than {MAX_IN_MEMORY} bytes")));
        }
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashed {
    writer: BlobWriter,
    hash: Option<Md5>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes).map_err(|error| io::Error::other(StorageError(error)))?;
        if let Some(hash) = &mut self.hash {
            hash.update(&bytes[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Unpacks what is written to it. Which of the three formats a packed body has is told by its first byte, not by
/// its name: the Python client sends zlib streams under the name of gzip, and both zlib and bare streams are
/// common under the name of deflate.
enum Decoder<W: Write> {
    Identity(W),
    Waiting(Encoding, W),
    Gzip(MultiGzDecoder<W>),
    Zlib(ZlibDecoder<W>),
    Raw(DeflateDecoder<W>),
    /// Between two states; never seen outside `start`.
    Broken,
}

impl<W: Write> Decoder<W> {
    fn new(encoding: Encoding, target: W) -> Decoder<W> {
        match encoding {
            Encoding::Identity => Decoder::Identity(target),
            packed => Decoder::Waiting(packed, target),
        }
    }

    fn start(&mut self, first: u8) {
        *self = match std::mem::replace(self, Decoder::Broken) {
            Decoder::Waiting(encoding, target) => match (encoding, first & 0x0f) {
                (_, 0x08) => Decoder::Zlib(ZlibDecoder::new(target)),
                (Encoding::Deflate, _) => Decoder::Raw(DeflateDecoder::new(target)),
                _ => Decoder::Gzip(MultiGzDecoder::new(target)),
            },
            other => other,
        };
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Decoder::Identity(target) | Decoder::Waiting(_, target) => Ok(target),
            Decoder::Gzip(decoder) => decoder.finish(),
            Decoder::Zlib(decoder) => decoder.finish(),
            Decoder::Raw(decoder) => decoder.finish(),
            Decoder::Broken => Err(io::Error::other("the decoder is broken")),
        }
    }
}

impl<W: Write> Write for Decoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let (Decoder::Waiting(..), Some(first)) = (&*self, bytes.first()) {
            self.start(*first);
        }
        match self {
            Decoder::Identity(target) | Decoder::Waiting(_, target) => target.write(bytes),
            Decoder::Gzip(decoder) => decoder.write(bytes),
            Decoder::Zlib(decoder) => decoder.write(bytes),
            Decoder::Raw(decoder) => decoder.write(bytes),
            Decoder::Broken => Err(io::Error::other("the decoder is broken")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    fn decode(encoding: Encoding, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(encoding, Vec::new());
        for piece in packed.chunks(3) {
            decoder.write_all(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn every_stream_is_known_by_its_first_byte() {
        let text = b"some text, some text, some text".repeat(100);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&text).unwrap();
        let raw = raw.finish().unwrap();
        assert_eq!(decode(Encoding::Gzip, &gzip).unwrap(), text);
        assert_eq!(decode(Encoding::Gzip, &zlib).unwrap(), text);
        assert_eq!(decode(Encoding::Deflate, &zlib).unwrap(), text);
        assert_eq!(decode(Encoding::Deflate, &raw).unwrap(), text);
        assert_eq!(decode(Encoding::Identity, &text).unwrap(), text);
        assert_eq!(decode(Encoding::Gzip, b"").unwrap(), b"");
        assert!(decode(Encoding::Gzip, &zlib[..zlib.len() / 2]).is_err(), "a cut stream is an error");
        assert!(decode(Encoding::Gzip, b"plain text").is_err());
    }
}
