//! The environment of an image: kept at build time (`RUN tractorun-init save-env`), given back to a job.
//!
//! YTsaurus passes an image's `ENV` to no job, so a venv's `PATH` or CUDA's folders would be lost. [`save`] writes them
//! to a file of the image, [`restore`] lays them below the job's own environment. Which variables never travel is
//! decided in [`choice`], how the file looks in [`mod@file`].
//!
//! Who wins: a variable that the job has is the job's, be it the cluster's or from the task's `environment`, and the
//! user's `env` comes over both. `PATH` is the exception: bash gives every job a bare one, and nobody meant it. So a
//! `PATH` of system folders alone loses to the image's.

mod choice;
mod file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use tractorun_contract::env;

use crate::job::Environment;
use choice::{Choice, choose};
use file::FormatError;

/// Where the file is unless somebody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/tractorun/env";

/// What `save-env` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save {
    /// The file to write.
    pub to: PathBuf,
    /// Variables to save though they look like secrets.
    pub with: Vec<OsString>,
    /// Variables to leave out.
    pub without: Vec<OsString>,
}

/// Why an environment could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {source}{}", path.display(), hint_of(source))]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

/// Why an environment could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is there and cannot be read.
    #[error("cannot read the image's environment `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not what `save-env` of this version writes.
    #[error(
        "the image's environment `{}` {problem}\n\
         hint: build the image anew with `RUN tractorun-init save-env`, or set {} to nothing to go without",
        path.display(), env::IMAGE_ENV
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FormatError,
    },
}

/// A job's environment with the image's below it.
#[derive(Debug)]
pub struct Restored {
    /// All of it.
    pub environment: Environment,
    /// Names of what came from the image, sorted.
    pub names: Vec<OsString>,
}

/// Writes the environment to the file, whole or not at all; gives what to tell, names only.
pub fn save(environment: &Environment, save: &Save) -> Result<String, SaveError> {
    let fail = |source| SaveError { path: save.to.clone(), source };
    let mut saved = BTreeMap::new();
    let mut suspects = Vec::new();
    for (name, value) in environment.iter() {
        match choose(name, value, save) {
            Choice::Keep => {
                saved.insert(name, value);
            }
            Choice::Suspect => suspects.push(name),
            Choice::LeaveOut => {}
        }
    }
    file::write(&save.to, &saved).map_err(fail)?;
    let mut text = format!("saved to {}: {}\n", save.to.display(), list(saved.keys()));
    suspects.sort_unstable();
    if let Some(first) = suspects.first() {
        let (all, first) = (list(&suspects), first.display());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "left out, may be secret: {all} (`--with {first}` saves it all the same)");
    }
    Ok(text)
}

/// The job's environment with what the image has saved; as it is where nothing was.
pub fn restore(job: &Environment) -> Result<Restored, RestoreError> {
    let path = job.get(env::IMAGE_ENV).map_or_else(|| DEFAULT_FILE.into(), PathBuf::from);
    let saved = read(&path)?;
    let mut variables: BTreeMap<OsString, OsString> =
        job.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut names = Vec::new();
    for (name, value) in saved {
        let is_given = match variables.get(&name) {
            Some(path) if name == "PATH" => !is_bare(path),
            given => given.is_some(),
        };
        // Whoever wrote the file: who the job is comes from the cluster alone.
        if !is_given && !choice::is_of_the_job(&name) {
            variables.insert(name.clone(), value);
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(Restored { environment: variables.into_iter().collect(), names })
}

/// Names, for people.
pub fn list<N: AsRef<OsStr>>(names: impl IntoIterator<Item = N>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.as_ref().to_string_lossy().into_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// What the file holds; nothing where there is none.
fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, RestoreError> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    match std::fs::read(path) {
        Ok(bytes) => {
            file::parse(&bytes).map_err(|problem| RestoreError::Format { path: path.to_owned(), problem })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RestoreError::Read { path: path.to_owned(), source }),
    }
}

/// Whether a `PATH` names nothing but the system's own folders, as every shell's default does.
fn is_bare(path: &OsStr) -> bool {
    const SYSTEM: [&str; 8] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", ".", ""];
    std::env::split_paths(path).all(|folder| SYSTEM.iter().any(|known| folder.as_os_str() == *known))
}

fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "\nhint: in a Dockerfile, run save-env before `USER`",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
