//! Files and the file cache.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use ytsaurus_yson::{YsonFormat, YsonValue};

use crate::client::Client;
use crate::error::Error;
use crate::transport::call::{Call, Parameters};
use crate::transport::exec::Attempts;
use crate::transport::retry::Repeat;
use crate::transport::stream::Incoming;
use crate::value::{ValueExt, boolean, int, string};

/// Called with the number of bytes sent so far; a retry starts again at 0.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What to write into a file.
#[derive(Clone)]
pub enum FileContent {
    /// These bytes.
    Bytes(Bytes),
    /// The content of a local file, streamed.
    Path {
        /// The local file.
        path: PathBuf,
        /// Who wants to know how far it is.
        progress: Option<Progress>,
    },
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Path { path, .. } => write!(f, "Path({})", path.display()),
        }
    }
}

impl From<Bytes> for FileContent {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Whether the cluster computes `@md5` of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Md5 {
    /// It does; the file cache needs it.
    Compute,
    /// It does not.
    Skip,
}

/// A file that is being read.
///
/// When the connection breaks it goes on where it was, if the file is still what it was.
#[derive(Debug)]
pub struct FileReader {
    client: Client,
    call: Call,
    incoming: Incoming,
    proxy: String,
    version: Option<Version>,
    offset: i64,
}

/// What tells a file's content from any other.
#[derive(Debug, Clone, PartialEq)]
struct Version {
    id: YsonValue,
    revision: YsonValue,
}

impl Version {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let parameters = headers.get("X-YT-Response-Parameters")?.as_bytes();
        let parameters: YsonValue = ytsaurus_yson::from_slice(parameters, YsonFormat::Text).ok()?;
        Some(Self { id: parameters.get("id")?.clone(), revision: parameters.get("revision")?.clone() })
    }
}

impl FileReader {
    /// The next piece, or `None` at the end of a complete file.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let mut error = match self.incoming.chunk().await {
            Ok(piece) => return Ok(self.advance(piece)),
            Err(error) => error,
        };
        let client = self.client.clone();
        let transport = client.transport();
        let mut attempts = Attempts::new("read_file", Repeat::Freely);
        loop {
            transport.blame(&self.proxy, &error);
            attempts.failed(transport, &self.proxy, error).await?;
            self.call.parameters.set("offset", int(self.offset));
            self.proxy = transport.heavy_proxy().await;
            error = match transport.heavy_read(&self.proxy, &self.call).await {
                Err(error) => error,
                Ok(response) => {
                    if self.offset > 0
                        && (self.version.is_none() || Version::of(response.headers()) != self.version)
                    {
                        return Err(client.protocol_error("read_file", "the file changed while it was read"));
                    }
                    self.version = Version::of(response.headers());
                    self.incoming = Incoming::new(response, transport.config.heavy_progress_timeout);
                    match self.incoming.chunk().await {
                        Ok(piece) => return Ok(self.advance(piece)),
                        Err(error) => error,
                    }
                }
            };
        }
    }

    fn advance(&mut self, piece: Option<Bytes>) -> Option<Bytes> {
        if let Some(piece) = &piece {
            // A file has fewer bytes than 2^63.
            self.offset += i64::try_from(piece.len()).unwrap_or(0);
        }
        piece
    }
}

impl Client {
    /// Replaces the content of an existing file node, in a transaction of its own: all of it or nothing.
    pub async fn write_file(&self, path: &str, content: FileContent, md5: Md5) -> Result<(), Error> {
        let mut parameters = Parameters::default();
        parameters.set("path", string(path));
        if md5 == Md5::Compute {
            parameters.set("compute_md5", boolean(true));
        }
        self.heavy_write("write_file", parameters, &content, format!("tractorun: write_file {path}")).await
    }

    /// The whole content of a file.
    pub async fn read_file(&self, path: &str) -> Result<Bytes, Error> {
        self.heavy_read(&self.read_file_call(path)).await
    }

    /// The content of a file, piece by piece.
    pub async fn open_file(&self, path: &str) -> Result<FileReader, Error> {
        let call = self.read_file_call(path);
        let transport = self.transport();
        let mut attempts = Attempts::new(call.command, call.repeat);
        loop {
            let proxy = transport.heavy_proxy().await;
            match transport.heavy_read(&proxy, &call).await {
                Ok(response) => {
                    let version = Version::of(response.headers());
                    let incoming = Incoming::new(response, transport.config.heavy_progress_timeout);
                    return Ok(FileReader {
                        client: self.clone(),
                        call,
                        incoming,
                        proxy,
                        version,
                        offset: 0,
                    });
                }
                Err(error) => {
                    transport.blame(&proxy, &error);
                    attempts.failed(transport, &proxy, error).await?;
                }
            }
        }
    }

    fn read_file_call(&self, path: &str) -> Call {
        Call::read("read_file").scoped(self.scope()).with("path", string(path))
    }

    /// Path of the cached file with that MD5 (lower-case hex), if there is one.
    pub async fn get_file_from_cache(&self, md5: &str, cache_path: &str) -> Result<Option<String>, Error> {
        let call = Call::read("get_file_from_cache")
            .scoped(self.scope())
            .with("md5", string(md5))
            .with("cache_path", string(cache_path));
        let command = call.command;
        let path = self.string_of(command, &self.execute(call).await?)?;
        Ok(Some(path).filter(|path| !path.is_empty()))
    }

    /// Puts a written file into the cache and gives its path there.
    pub async fn put_file_to_cache(&self, path: &str, md5: &str, cache_path: &str) -> Result<String, Error> {
        let call = Call::mutate("put_file_to_cache")
            .scoped(self.scope())
            .with("path", string(path))
            .with("md5", string(md5))
            .with("cache_path", string(cache_path));
        let command = call.command;
        self.string_of(command, &self.execute(call).await?)
    }
}
