//! Files and the file cache.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::client::Client;
use crate::error::Error;

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
#[derive(Debug)]
pub struct FileReader {}

impl FileReader {
    /// The next piece, or `None` at the end of a complete file.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}

impl Client {
    /// Replaces the content of an existing file node.
    pub async fn write_file(&self, path: &str, content: FileContent, md5: Md5) -> Result<(), Error> {
        let _ = (path, content, md5);
        todo!()
    }

    /// The whole content of a file.
    pub async fn read_file(&self, path: &str) -> Result<Bytes, Error> {
        let _ = path;
        todo!()
    }

    /// The content of a file, piece by piece.
    pub async fn open_file(&self, path: &str) -> Result<FileReader, Error> {
        let _ = path;
        todo!()
    }

    /// Path of the cached file with that MD5 (lower-case hex), if there is one.
    pub async fn get_file_from_cache(&self, md5: &str, cache_path: &str) -> Result<Option<String>, Error> {
        let _ = (md5, cache_path);
        todo!()
    }

    /// Puts a written file into the cache and gives its path there.
    pub async fn put_file_to_cache(&self, path: &str, md5: &str, cache_path: &str) -> Result<String, Error> {
        let _ = (path, md5, cache_path);
        todo!()
    }
}
