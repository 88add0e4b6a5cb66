//! Packing all local binds and libraries of a run.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use tractorun_contract::job_spec::{JobSpec, PartCount, part_name};

use crate::operation;
use crate::pack::{Cancel, IgnoreFiles, PackedPart, PythonCaches, Rules, pack};
use crate::settings::Settings;

use super::terminal::Terminal;

/// A large archive keeps all cores busy by itself; two side by side hide the walk of one behind the work of the
/// other.
const PARALLEL_ARCHIVES: usize = 2;

/// An archive for the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name in the sandbox.
    pub name: String,
    /// What was packed.
    pub source: PathBuf,
    /// Its files, in order.
    pub parts: Vec<PackedPart>,
}

// === impl Archive ===

impl Archive {
    /// Its files with their names in the sandbox.
    pub fn files(&self) -> impl Iterator<Item = (String, &PackedPart)> {
        self.parts.iter().enumerate().map(|(index, part)| (part_name(&self.name, index), part))
    }
}

/// A local file or folder that travels.
#[derive(Debug)]
pub struct Source<'a> {
    /// The option that names it.
    pub option: &'static str,
    /// Name of its archive.
    pub archive: String,
    /// Where it is.
    pub path: &'a Path,
    /// What of it stays here.
    pub rules: Rules,
}

/// Every local bind and library, in the order of the settings.
pub fn sources(settings: &Settings) -> impl Iterator<Item = Source<'_>> {
    let ignore_files = settings.bind_ignore;
    let bind_rules = Rules { python_caches: PythonCaches::Keep, ignore_files };
    // Modules that a build generated (`_version.py`, `_pb2.py`) are in `.gitignore`, and the library needs them.
    let ignore_files = ignore_files.min(IgnoreFiles::Own);
    let lib_rules = Rules { python_caches: PythonCaches::LeaveOut, ignore_files };
    let binds = settings.bind_local.iter().enumerate().map(move |(index, bind)| Source {
        option: "bind_local",
        archive: operation::bind_archive(index),
        path: &bind.source,
        rules: bind_rules,
    });
    let libs = settings.bind_local_lib.iter().enumerate().map(move |(index, path)| Source {
        option: "bind_local_lib",
        archive: operation::lib_archive(index),
        path,
        rules: lib_rules,
    });
    binds.chain(libs)
}

/// Packs every local bind and library into `folder`, in the order of the settings.
pub async fn pack_all(
    settings: &Settings,
    folder: &Path,
    cancel: &Cancel,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Archive>> {
    let tasks = sources(settings).map(|Source { option, archive: name, path: source, rules }| async move {
        terminal.progress(format_args!("packing {}", source.display()));
        let path = folder.join(&name);
        let packed = {
            let (source, path, cancel) = (source.to_owned(), path.clone(), cancel.clone());
            tokio::task::spawn_blocking(move || pack(&source, rules, &path, &cancel)).await
        };
        let packed = packed.context("packing stopped unexpectedly")?.context(option)?;
        for warning in &packed.warnings {
            terminal.warning(format_args!("{option}: {warning}"));
        }
        if let Some(example) = packed.ignored.first() {
            let count = match packed.ignored.len() {
                1 => format!("`{}`", example.display()),
                count => format!("{count} files and folders, such as `{}`,", example.display()),
            };
            terminal.line(format_args!(
                "{option}: {count} stayed here by ignore files; `--bind-ignore none` takes everything along"
            ));
        }
        anyhow::Ok(Archive { name, source: source.to_owned(), parts: packed.parts })
    });
    stream::iter(tasks).buffered(PARALLEL_ARCHIVES).try_collect().await
}

/// Tells the job spec in how many parts each archive came.
pub fn note_parts(job_spec: &mut JobSpec, archives: &[Archive]) {
    let count = |name: &str| {
        let archive = archives.iter().find(|archive| archive.name == name);
        let parts = archive.and_then(|archive| u32::try_from(archive.parts.len()).ok());
        parts.and_then(NonZeroU32::new).map_or(PartCount::ONE, PartCount)
    };
    for bind in &mut job_spec.binds {
        bind.parts = count(&bind.archive);
    }
    for lib in &mut job_spec.libs {
        lib.parts = count(&lib.archive);
    }
}
