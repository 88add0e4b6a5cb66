//! Archives are read back with the crate that wrote them, and compared as a user would: by content.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;

/// What a test wants to know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { mode: u32, content: String },
    Link(PathBuf),
}

struct Source {
    folder: TempDir,
}

impl Source {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        symlink(target, self.path(name)).unwrap();
    }

    fn pack_with(&self, name: &str, skip: Skip) -> Result<(Packed, BTreeMap<String, Entry>), PackError> {
        let target = tempfile::tempdir().unwrap();
        let archive = target.path().join("a.tar.zst");
        let packed = pack(&self.path(name), skip, &archive, &Cancel::default())?;
        assert_eq!(digest_file(&archive, &Cancel::default()).unwrap(), packed.digest);
        Ok((packed, read(&archive)))
    }

    fn pack(&self, name: &str) -> (Packed, BTreeMap<String, Entry>) {
        self.pack_with(name, Skip::Nothing).unwrap()
    }
}

fn read(archive: &Path) -> BTreeMap<String, Entry> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap());
    let mut entries = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let name = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let what = match header.entry_type() {
            EntryType::Directory => Entry::Folder,
            EntryType::Symlink => Entry::Link(entry.link_name().unwrap().unwrap().into_owned()),
            EntryType::Regular => {
                let mode = header.mode().unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                Entry::File { mode, content }
            }
            other => panic!("unexpected {other:?}"),
        };
        assert!(entries.insert(name, what).is_none());
    }
    entries
}

fn plain(content: &str) -> Entry {
    Entry::File { mode: 0o644, content: content.to_owned() }
}

#[test]
fn equal_content_is_an_equal_archive() {
    let (one, two) = (Source::new(), Source::new());
    for name in ["a", "b/c", "b/d", "e"] {
        one.file(&format!("s/{name}"), name);
    }
    for name in ["e", "b/d", "a", "b/c"] {
        let path = two.file(&format!("s/{name}"), name);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(one.pack("s").0.digest, two.pack("s").0.digest);
    two.file("s/a", "A");
    assert_ne!(one.pack("s").0.digest, two.pack("s").0.digest);
}

#[test]
fn a_folder_becomes_root_with_all_that_is_in_it() {
    let source = Source::new();
    source.file("s/x.py", "print()");
    source.file("s/.git/HEAD", "ref");
    source.file("s/__pycache__/x.pyc", "cache");
    let script = source.file("s/bin/run", "#!/bin/sh");
    fs::set_permissions(script, Permissions::from_mode(0o744)).unwrap();
    fs::create_dir(source.path("s/empty")).unwrap();
    let long = format!("s/{}/{}", "d".repeat(120), "f".repeat(120));
    source.file(&long, "long");

    let (packed, entries) = source.pack("s");
    assert_eq!(entries["root"], Entry::Folder);
    assert_eq!(entries["root/x.py"], plain("print()"));
    assert_eq!(entries["root/bin/run"], Entry::File { mode: 0o755, content: "#!/bin/sh".into() });
    assert_eq!(entries["root/empty"], Entry::Folder);
    assert_eq!(entries["root/.git/HEAD"], plain("ref"));
    assert_eq!(entries["root/__pycache__/x.pyc"], plain("cache"));
    assert_eq!(entries[&format!("root{}", &long[1..])], plain("long"));
    assert_eq!(packed.warnings, [""; 0]);
}

#[test]
fn a_file_becomes_root_itself_also_through_a_link() {
    let source = Source::new();
    source.file("s.txt", "text");
    source.link("link", "s.txt");
    assert_eq!(source.pack("s.txt").1, BTreeMap::from([("root".into(), plain("text"))]));
    assert_eq!(source.pack("link").1, BTreeMap::from([("root".into(), plain("text"))]));
}

#[test]
fn libraries_go_without_pythons_caches() {
    let source = Source::new();
    source.file("lib/a.py", "a");
    let before = source.pack_with("lib", Skip::PythonCaches).unwrap().0;
    source.file("lib/__pycache__/a.cpython-311.pyc", "x");
    source.file("lib/sub/old.pyc", "x");
    let (_, entries) = source.pack_with("lib", Skip::PythonCaches).unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["root", "root/a.py", "root/sub"]);
    fs::remove_dir_all(source.path("lib/sub")).unwrap();
    assert_eq!(source.pack_with("lib", Skip::PythonCaches).unwrap().0.digest, before.digest);
}

#[test]
fn links_inside_stay_links() {
    let source = Source::new();
    source.file("s/a/file", "text");
    source.link("s/near", "a/file");
    source.link("s/a/up", "../near");
    source.link("s/absolute", source.path("s/a/file"));
    source.link("s/a/around", "../../s/near");
    source.link("s/.#lock", "me@host.123");
    let (_, entries) = source.pack("s");
    assert_eq!(entries["root/near"], Entry::Link("a/file".into()));
    assert_eq!(entries["root/a/up"], Entry::Link("../near".into()));
    assert_eq!(entries["root/absolute"], Entry::Link("a/file".into()));
    assert_eq!(entries["root/a/around"], Entry::Link("file".into()));
    assert_eq!(entries["root/.#lock"], Entry::Link("me@host.123".into()));
}

#[test]
fn links_that_leave_are_followed() {
    let source = Source::new();
    source.file("out/data/file", "text");
    source.file("s/own", "own");
    source.link("out/data/inner", "file");
    source.link("s/file", "../out/data/file");
    source.link("s/folder", source.path("out"));
    let (_, entries) = source.pack("s");
    assert_eq!(entries["root/file"], plain("text"));
    assert_eq!(entries["root/folder/data/file"], plain("text"));
    assert_eq!(entries["root/folder/data/inner"], Entry::Link("file".into()));
}

#[test]
fn links_that_cannot_travel_are_errors() {
    let source = Source::new();
    fs::create_dir(source.path("s")).unwrap();
    source.link("s/gone", "/no/such/file");
    let error = source.pack_with("s", Skip::Nothing).unwrap_err().to_string();
    let gone = source.path("s/gone");
    assert_eq!(error, format!("link `{}` points to `/no/such/file`, which does not exist", gone.display()));

    fs::remove_file(gone).unwrap();
    source.link("s/up", source.folder.path().canonicalize().unwrap());
    let error = source.pack_with("s", Skip::Nothing).unwrap_err().to_string();
    assert!(error.contains("a folder that it lies in itself\nhint: "), "{error}");
}

#[test]
fn a_loop_by_way_of_another_folder_is_an_error() {
    let source = Source::new();
    source.file("out/x", "x");
    source.file("s/y", "y");
    source.link("s/out", source.path("out"));
    source.link("out/back", source.path("s"));
    let error = source.pack_with("s", Skip::Nothing).unwrap_err();
    assert!(matches!(&error, PackError::LinkLoop { path, .. } if path.ends_with("out/back")), "{error}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let source = Source::new();
    let missing = source.path("missing");
    let error = source.pack_with("missing", Skip::Nothing).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read `{}`: No such file or directory (os error 2)", missing.display()));

    let secret = source.file("s/secret", "x");
    fs::set_permissions(&secret, Permissions::from_mode(0o0)).unwrap();
    // Root may read everything.
    if fs::File::open(&secret).is_err() {
        let error = source.pack_with("s", Skip::Nothing).unwrap_err().to_string();
        assert_eq!(error, format!("cannot read `{}`: Permission denied (os error 13)", secret.display()));
    }
}

#[test]
fn sockets_are_left_out_with_a_warning() {
    let source = Source::new();
    source.file("s/a", "a");
    let _socket = std::os::unix::net::UnixListener::bind(source.path("s/socket")).unwrap();
    let (packed, entries) = source.pack("s");
    assert!(!entries.contains_key("root/socket"));
    let socket = source.path("s/socket");
    assert_eq!(packed.warnings, [format!("`{}` is neither a file nor a folder: left out", socket.display())]);
}

#[test]
fn cancelling_ends_it() {
    let source = Source::new();
    source.file("s/a", "a");
    let cancel = Cancel::default();
    cancel.request();
    let archive = source.path("archive");
    let error = pack(&source.path("s"), Skip::Nothing, &archive, &cancel).unwrap_err();
    assert!(matches!(error, PackError::Cancelled), "{error}");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_noticed() {
    let source = Source::new();
    let path = source.file("a", "12345");
    let mut reader = ExactReader { file: File::open(path).unwrap(), left: 6, state: ReadState::Fine };
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert!(matches!(reader.state, ReadState::Short));
}

#[test]
fn md5_is_the_one_that_everybody_computes() {
    assert_eq!(
        Digest::of(b"hello"),
        Digest { size_bytes: 5, md5: "5d41402abc4b2a76b9719d911017c592".to_owned() }
    );
}
