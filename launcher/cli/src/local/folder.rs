//! The folder of one run: what the nodes share, their sandboxes, their logs.
//!
//! ```text
//! <cache>/tractorun/local/20261124-140500-1a2b/
//!     files/                 what every sandbox gets; gone when the run is over
//!     minicluster.log
//!     node-0/sandbox/        the node's working directory
//!     node-0/stderr.log      all that the node said
//! ```

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tractorun_yt::Client;

use crate::operation::SandboxFile;
use crate::tensorproxy;

/// The folder of one run.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
}

/// The folder of one node.
#[derive(Debug, Clone)]
pub(super) struct NodeFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A new folder in the user's cache.
    pub(super) fn create() -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("{}-{:04x}", timestamp(now), rand::random::<u16>());
        let path =
            cache_folder(&|name| env::var_os(name).map(PathBuf::from)).join("tractorun/local").join(name);
        let folder = Self { path };
        let files = folder.files();
        fs::create_dir_all(&files)
            .with_context(|| format!("cannot make the folder `{}`", files.display()))?;
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where lies what every sandbox gets.
    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// The folder of that node.
    pub(super) fn node(&self, node_rank: u32) -> NodeFolder {
        NodeFolder { path: self.path.join(format!("node-{node_rank}")) }
    }

    /// Adds a file to what every sandbox gets.
    pub(super) fn add_file(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.files().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Adds a Cypress file to what every sandbox gets.
    pub(super) async fn download(&self, client: &Client, file: &SandboxFile) -> anyhow::Result<()> {
        let path = self.files().join(&file.name);
        let write_failed = || format!("cannot write `{}`", path.display());
        let read_failed = || format!("cannot read `{}`", file.path);
        let mut local = tokio::fs::File::create(&path).await.with_context(write_failed)?;
        let mut reader = client.open_file(&file.path).await.with_context(read_failed)?;
        while let Some(chunk) = reader.chunk().await.with_context(read_failed)? {
            local.write_all(&chunk).await.with_context(write_failed)?;
        }
        local.flush().await.with_context(write_failed)?;
        if file.attributes.executable == Some(true) {
            fs::set_permissions(&path, Permissions::from_mode(0o755)).with_context(write_failed)?;
        }
        Ok(())
    }

    /// Makes a sandbox for each node and puts those files into it.
    pub(super) fn fill_sandboxes(&self, node_count: u32, names: &[String]) -> anyhow::Result<()> {
        for node_rank in 0..node_count {
            let sandbox = self.node(node_rank).sandbox();
            fs::create_dir_all(&sandbox)
                .with_context(|| format!("cannot make the folder `{}`", sandbox.display()))?;
            for name in names {
                let (from, to) = (self.files().join(name), sandbox.join(name));
                // Init only reads them; a file system without hard links gets copies.
                fs::hard_link(&from, &to)
                    .or_else(|_| fs::copy(&from, &to).map(drop))
                    .with_context(|| format!("cannot write `{}`", to.display()))?;
            }
        }
        Ok(())
    }

    /// Removes the copies of what the user has anyway, and the tensorproxy's program: only logs and what the job wrote stay.
    pub(super) fn remove_copies(&self) {
        // `bind-0.tar.zst`, `bind-0.tar.zst.1`
        let is_copy = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name == tensorproxy::FILE || name.to_string_lossy().contains(".tar.zst"))
        };
        let sandboxes = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in
            sandboxes.flat_map(|node| fs::read_dir(node.path().join("sandbox")).into_iter().flatten())
        {
            if let Some(path) = entry.ok().map(|entry| entry.path()).filter(|path| is_copy(path)) {
                // What stays only takes space.
                let _ = fs::remove_file(path);
            }
        }
        let _ = fs::remove_dir_all(self.files());
    }
}

impl NodeFolder {
    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The node's working directory.
    pub(super) fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// Where all that the node says is kept.
    pub(super) fn stderr_log(&self) -> PathBuf {
        self.path.join("stderr.log")
    }
}

/// `$XDG_CACHE_HOME`, else `~/.cache`, else the folder for temporary files.
fn cache_folder(variable: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .unwrap_or_else(env::temp_dir)
}

/// `20261124-140500`, in UTC: names sort by time.
fn timestamp(unix_seconds: u64) -> String {
    let (mut days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}{month:02}{:02}-{hour:02}{minute:02}{second:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(1_709_164_800), "20240229-000000");
        assert_eq!(timestamp(1_795_528_799), "20261124-135959");
    }

    #[test]
    fn the_cache_follows_the_users_environment() {
        let xdg = |name: &str| (name == "XDG_CACHE_HOME").then(|| PathBuf::from("/xdg"));
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/me"));
        assert_eq!(cache_folder(&xdg), Path::new("/xdg"));
        assert_eq!(cache_folder(&home), Path::new("/home/me/.cache"));
        assert_eq!(cache_folder(&|_| Some("relative".into())), env::temp_dir());
    }

    #[test]
    fn sandboxes_hold_the_files_and_archives_go_in_the_end() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = RunFolder { path: temporary.path().to_owned() };
        fs::create_dir_all(folder.files()).unwrap();
        folder.add_file("job-spec.json", b"{}").unwrap();
        folder.add_file("bind-0.tar.zst", b"archive").unwrap();
        folder.fill_sandboxes(2, &["job-spec.json".into(), "bind-0.tar.zst".into()]).unwrap();
        let sandbox = folder.node(1).sandbox();
        assert_eq!(fs::read(sandbox.join("job-spec.json")).unwrap(), b"{}");
        assert_eq!(fs::read(sandbox.join("bind-0.tar.zst")).unwrap(), b"archive");
        folder.remove_copies();
        assert!(sandbox.join("job-spec.json").exists());
        assert!(!sandbox.join("bind-0.tar.zst").exists());
        assert!(!folder.files().exists());
    }
}
