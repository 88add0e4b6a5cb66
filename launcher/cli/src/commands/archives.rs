//! Packing all local binds and libraries of a run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::operation;
use crate::pack::{Cancel, Digest, Skip, pack};
use crate::settings::Settings;

use super::terminal::Terminal;

/// Packing keeps one core busy; a few archives may as well be packed side by side.
const PARALLEL_ARCHIVES: usize = 4;

/// An archive for the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name in the sandbox.
    pub name: String,
    /// What was packed.
    pub source: PathBuf,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size and md5.
    pub digest: Digest,
}

/// Packs every local bind and library into `folder`, in the order of the settings.
pub async fn pack_all(
    settings: &Settings,
    folder: &Path,
    cancel: &Cancel,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Archive>> {
    let binds = settings.bind_local.iter().enumerate();
    let binds = binds
        .map(|(index, bind)| ("bind_local", operation::bind_archive(index), &bind.source, Skip::Nothing));
    let libs = settings.bind_local_lib.iter().enumerate();
    let libs =
        libs.map(|(index, path)| ("bind_local_lib", operation::lib_archive(index), path, Skip::PythonCaches));
    let tasks = binds.chain(libs).map(|(option, name, source, skip)| async move {
        terminal.progress(format_args!("packing {}", source.display()));
        let path = folder.join(&name);
        let packed = {
            let (source, path, cancel) = (source.clone(), path.clone(), cancel.clone());
            tokio::task::spawn_blocking(move || pack(&source, skip, &path, &cancel)).await
        };
        let packed = packed.context("packing stopped unexpectedly")?.context(option)?;
        for warning in &packed.warnings {
            terminal.warning(format_args!("{option}: {warning}"));
        }
        anyhow::Ok(Archive { name, source: source.clone(), path, digest: packed.digest })
    });
    stream::iter(tasks).buffered(PARALLEL_ARCHIVES).try_collect().await
}
