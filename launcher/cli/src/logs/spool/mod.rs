//! `--spool`: the lines that an init has left behind in its sandbox, since it could not ship them.
//!
//! ```text
//! file: frames by table ──▶ Frames: lines of one table ──▶ merge, view (shown like those of tables)
//!                      └──▶ ship: what its table lacks, in one transaction
//! ```
//!
//! Files are only read. Showing them asks no cluster. `seq` is the number that a row would have if nothing had been
//! dropped before it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tractorun_contract::logs::TableRecord;
use tractorun_contract::logs::spool::{FILE_NAME, FOLDER};

use super::LogsError;
use super::catalog::Table;
use super::merge::Merge;
use super::options::{Options, Task};
use super::render::Process;
use super::source::Source;
use super::view::View;
use crate::report::{ExitStatus, Report};
use file::SpoolFile;
pub(crate) use frames::Frames;

mod file;
mod frames;
mod ship;

/// Folders that are looked into below the one that was named: a run folder holds its nodes' sandboxes.
const DEPTH: usize = 6;

/// What is wrong with a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("`{}` is not a spool\nhint: a node leaves it as `.tractorun/logs/spool` in its sandbox", path.display())]
    NotASpool {
        /// The file.
        path: PathBuf,
    },
    /// It is one of another time.
    #[error("`{}` is a spool of version {version}; this tractorun reads version {}", path.display(), tractorun_contract::logs::spool::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is none.
    #[error("there is no spool below `{}`\nhint: a node leaves one only if it could not ship all of its lines", path.display())]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// Its init still writes it.
    #[error("`{}` is in use: its init still runs, and ships the lines by itself", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The path of a table does not say whose it is.
    #[error("`{}` is of `{table}`, which is no log table of a run", path.display())]
    NotOfARun {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// Its init may run on another machine.
    #[error(
        "the run of `{table}` goes on: only its init writes there\n\
         hint: a run that was killed is over when the cluster has forgotten its leader, which takes a minute at most"
    )]
    RunGoesOn {
        /// The table.
        table: String,
    },
    /// Somebody else has written there.
    #[error("row {row} of `{table}` is not the one with that number: somebody else has written there")]
    Disorder {
        /// The table.
        table: String,
        /// The row.
        row: u64,
    },
}

/// Which table of which run a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    yt_path: String,
    incarnation: u32,
    process: Process,
}

/// Shows or ships what is at that path.
pub(super) async fn run(
    path: &Path,
    options: &Options,
    report: Report,
    view: View,
    client: impl FnOnce() -> anyhow::Result<tractorun_yt::Client>,
) -> anyhow::Result<ExitStatus> {
    let mut files = Vec::new();
    for path in find(path)? {
        let file = SpoolFile::open(&path)?;
        if file.damaged_bytes > 0 {
            report.warning(&format!(
                "{} bytes of `{}` are damaged and left aside, as at the end of a file whose init was killed",
                file.damaged_bytes,
                path.display()
            ));
        }
        files.push(file);
    }
    match options.task {
        Task::Ship => ship::run(&client()?, &files, options, report).await?,
        Task::Show | Task::Verify => show(&files, options, view).await?,
    }
    Ok(ExitStatus::Success)
}

/// Spools of several incarnations come one after the other, as incarnations do.
async fn show(files: &[SpoolFile], options: &Options, mut view: View) -> Result<(), LogsError> {
    let mut tables = Vec::new();
    for file in files {
        for (index, place) in file.places()?.into_iter().enumerate() {
            if options.selection.contains(&file.table(index, &place)) {
                tables.push((place, file.frames(index)));
            }
        }
    }
    tables.sort_by_key(|(place, _)| (place.incarnation, place.process));
    for of_one in tables.chunk_by(|one, other| one.0.incarnation == other.0.incarnation) {
        view.begin_incarnation(of_one[0].0.incarnation)?;
        let mut merge = Merge::default();
        for (place, frames) in of_one {
            view.add(place.process);
            merge.add(Source::of_spool(frames.clone()));
        }
        while let Some((index, line)) = merge.next(None, &options.filter).await? {
            view.line(index, line)?;
        }
        for source in merge.sources() {
            source.finish(&options.filter);
        }
        while let Some((index, line)) = merge.next(None, &options.filter).await? {
            view.line(index, line)?;
        }
    }
    view.flush()
}

/// The file itself, or all spools below a folder, in order.
fn find(path: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let failed = |source| SpoolError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    fs::read_dir(path).map_err(failed)?;
    let mut found = Vec::new();
    look_into(path, DEPTH, &mut found);
    found.sort();
    if found.is_empty() { Err(SpoolError::None { path: path.to_owned() }) } else { Ok(found) }
}

/// What cannot be looked into has no spool that could be read.
fn look_into(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let own_place = FOLDER.iter().rev().zip(folder.components().rev());
    let is_place = own_place.clone().count() == FOLDER.len()
        && own_place.into_iter().all(|(name, component)| component.as_os_str() == *name);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            look_into(&entry.path(), depth - 1, found);
        } else if kind.is_file() && is_place && entry.file_name() == FILE_NAME {
            // An init that was killed while it began the file anew leaves an empty one.
            if entry.metadata().is_ok_and(|data| data.len() > 0) {
                found.push(entry.path());
            }
        }
    }
}

impl Place {
    /// `//home/me/run/logs/0/workers/3`.
    fn of(table: &str) -> Option<Self> {
        let (rest, number) = table.rsplit_once('/')?;
        let (rest, kind) = rest.rsplit_once('/')?;
        let (rest, incarnation) = rest.rsplit_once('/')?;
        let yt_path = rest.strip_suffix("/logs")?.to_owned();
        let number = number.parse().ok()?;
        let process = match kind {
            "workers" => Process::Worker(number),
            "sidecars" => Process::Sidecar(number),
            _ => return None,
        };
        Some(Self { yt_path, incarnation: incarnation.parse().ok()?, process })
    }
}

impl SpoolFile {
    /// Where its tables are, by index.
    fn places(&self) -> Result<Vec<Place>, SpoolError> {
        let not_of_a_run =
            |table: &String| SpoolError::NotOfARun { path: self.path.clone(), table: table.clone() };
        self.header.tables.iter().map(|table| Place::of(table).ok_or_else(|| not_of_a_run(table))).collect()
    }

    /// A table as far as the file knows it.
    fn table(&self, index: usize, place: &Place) -> Table {
        let record = TableRecord {
            node_rank: self.header.node_rank,
            job_id: self.header.job_id.clone(),
            ..TableRecord::default()
        };
        Table {
            process: place.process,
            path: self.header.tables[index].clone(),
            rows: 0,
            record: Some(record),
        }
    }

    /// Fails if its init still has it. Where there are no locks nobody knows.
    fn check_unused(&self, file: &File) -> Result<(), SpoolError> {
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => Err(SpoolError::InUse { path: self.path.clone() }),
            Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_table_it_is() {
        let place = |process| Place { yt_path: "//home/me/run".to_owned(), incarnation: 7, process };
        assert_eq!(Place::of("//home/me/run/logs/7/workers/3"), Some(place(Process::Worker(3))));
        assert_eq!(Place::of("//home/me/run/logs/7/sidecars/0"), Some(place(Process::Sidecar(0))));
        for other in
            ["//home/me/run/logs/7/others/0", "//home/me/7/workers/3", "//x", "//run/logs/7/workers/x"]
        {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }

    #[test]
    fn spools_are_found_where_nodes_leave_them() {
        let folder = tempfile::tempdir().unwrap();
        for node in ["node-1", "node-0"] {
            let place = folder.path().join(node).join("sandbox/.tractorun/logs");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("spool"), "x").unwrap();
        }
        fs::write(folder.path().join("spool"), "another file of that name").unwrap();
        let found = find(folder.path()).unwrap();
        let expected =
            ["node-0", "node-1"].map(|node| folder.path().join(node).join("sandbox/.tractorun/logs/spool"));
        assert_eq!(found, expected);
        assert_eq!(find(&expected[1]).unwrap(), expected[1..]);
        let place = folder.path().join("node-0/sandbox/.tractorun/logs");
        assert_eq!(find(&place).unwrap(), expected[..1], "also by its own folder");
        let none = find(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
        assert!(none.starts_with("there is no spool below `/"), "{none}");
        let gone = find(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(gone, "cannot read `/nonexistent`: No such file or directory (os error 2)");
    }
}
