//! Uploading through the cluster's file cache: what it has is named, what it lacks is sent, four at a time.
//!
//! A file travels as a temporary node that becomes part of the cache and is removed. Whatever ends the upload,
//! [`Uploader::clean_up`] removes the temporary nodes that are left; should even that be impossible, they
//! expire by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tractorun_yt::{
    Client, CreateOptions, Error, FileContent, Md5, NodeType, Progress, RemoveOptions, value,
};

use crate::commands::terminal::{Terminal, size};
use crate::pack::Digest;

/// The cache that the official Python client uses too.
pub const CACHE_PATH: &str = "//tmp/yt_wrapper/file_storage/new_cache";

/// Where files lie while they are sent.
const TEMPORARY_FOLDER: &str = "//tmp/yt_wrapper/file_storage";

/// One connection rarely fills the line; more than a few only get into each other's way.
const PARALLEL_UPLOADS: usize = 4;

/// A temporary node that nobody could remove is gone after a day; no upload takes longer.
const TEMPORARY_EXPIRATION: Duration = Duration::from_hours(24);

/// How long leaving may be delayed by tidying up.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that must be in the cache.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What it is, for people.
    pub label: String,
    /// What to send.
    pub content: Content,
    /// Its size and md5.
    pub digest: Digest,
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes.
    Memory(Bytes),
    /// A local file.
    File(PathBuf),
}

/// Why something could not be uploaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot upload {label}: {error}")]
pub struct UploadError {
    label: String,
    error: Error,
}

/// Uploads files and knows what it left on the cluster.
#[derive(Debug)]
pub struct Uploader {
    client: Client,
    terminal: Terminal,
    temporary: Mutex<BTreeSet<String>>,
}

/// How far all uploads together are.
struct Meter {
    terminal: Terminal,
    sent: Vec<AtomicU64>,
    total: AtomicU64,
}

impl Uploader {
    /// Nothing is sent yet.
    pub fn new(client: Client, terminal: Terminal) -> Self {
        Self { client, terminal, temporary: Mutex::default() }
    }

    /// Brings everything into the cache and gives each one's Cypress path, in order.
    pub async fn upload_all(&self, uploads: &[Upload]) -> Result<Vec<String>, UploadError> {
        // Equal content is sent once.
        let unique: BTreeMap<&str, &Upload> =
            uploads.iter().rev().map(|upload| (upload.digest.md5.as_str(), upload)).collect();
        let meter = Arc::new(Meter {
            terminal: self.terminal.clone(),
            sent: unique.iter().map(|_| AtomicU64::new(0)).collect(),
            total: AtomicU64::new(0),
        });
        let tasks = unique.into_iter().enumerate().map(|(index, (md5, upload))| {
            let meter = Arc::clone(&meter);
            async move {
                let path = self.upload(upload, index, meter).await;
                let path = path.map_err(|error| UploadError { label: upload.label.clone(), error })?;
                Ok((md5, path))
            }
        });
        let paths: BTreeMap<&str, String> =
            stream::iter(tasks).buffer_unordered(PARALLEL_UPLOADS).try_collect().await?;
        self.terminal.clear();
        Ok(uploads.iter().filter_map(|upload| paths.get(upload.digest.md5.as_str()).cloned()).collect())
    }

    async fn upload(&self, upload: &Upload, index: usize, meter: Arc<Meter>) -> Result<String, Error> {
        let md5 = upload.digest.md5.as_str();
        if let Some(path) = self.client.get_file_from_cache(md5, CACHE_PATH).await? {
            return Ok(path);
        }
        meter.total.fetch_add(upload.digest.size_bytes, Ordering::Relaxed);
        let temporary = format!("{TEMPORARY_FOLDER}/tractorun-{:032x}", rand::random::<u128>());
        self.remember(&temporary);
        let expiration = i64::try_from(TEMPORARY_EXPIRATION.as_millis()).unwrap_or(i64::MAX);
        let options = CreateOptions {
            recursive: true,
            attributes: BTreeMap::from([("expiration_timeout".to_owned(), value::int(expiration))]),
            ..CreateOptions::default()
        };
        self.client.create(NodeType::File, &temporary, options).await?;
        let content = match &upload.content {
            Content::Memory(bytes) => FileContent::Bytes(bytes.clone()),
            Content::File(path) => {
                let progress: Progress = Arc::new(move |sent| meter.report(index, sent));
                FileContent::Path { path: path.clone(), progress: Some(progress) }
            }
        };
        self.client.write_file(&temporary, content, Md5::Compute).await?;
        let options = CreateOptions { recursive: true, ignore_existing: true, ..CreateOptions::default() };
        self.client.create(NodeType::MapNode, CACHE_PATH, options).await?;
        let path = self.client.put_file_to_cache(&temporary, md5, CACHE_PATH).await?;
        self.client.remove(&temporary, RemoveOptions { force: true, ..RemoveOptions::default() }).await?;
        self.forget(&temporary);
        self.terminal.line(format_args!("uploaded {} ({})", upload.label, size(upload.digest.size_bytes)));
        Ok(path)
    }

    /// Removes what an upload that was dropped or failed left behind, as far as the cluster lets us.
    pub async fn clean_up(&self) {
        let left = std::mem::take(&mut *self.temporary.lock().unwrap_or_else(PoisonError::into_inner));
        let options = RemoveOptions { force: true, ..RemoveOptions::default() };
        let removals = stream::iter(left).for_each_concurrent(None, |path| async move {
            if let Err(error) = self.client.remove(&path, options).await {
                tracing::debug!("cannot remove `{path}`: {error}");
            }
        });
        // It expires by itself if the cluster does not answer.
        let _ = tokio::time::timeout(CLEAN_UP_TIMEOUT, removals).await;
    }

    fn remember(&self, path: &str) {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    fn forget(&self, path: &str) {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }
}

impl Meter {
    fn report(&self, index: usize, sent: u64) {
        self.sent[index].store(sent, Ordering::Relaxed);
        let sent = self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        let total = self.total.load(Ordering::Relaxed);
        self.terminal.progress(format_args!("uploading: {} of {}", size(sent), size(total)));
    }
}
