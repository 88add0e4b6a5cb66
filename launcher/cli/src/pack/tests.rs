//! Archives are read back with the crate that wrote them, and compared as a user would: by content.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::EntryType;
use tempfile::TempDir;

use super::*;

const EVERYTHING: Rules = Rules { python_caches: PythonCaches::Keep, ignore_files: IgnoreFiles::None };

const LIBRARY: Rules = Rules { python_caches: PythonCaches::LeaveOut, ignore_files: IgnoreFiles::Own };

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

    fn pack_with(&self, name: &str, rules: Rules) -> Result<(Packed, BTreeMap<String, Entry>), PackError> {
        self.pack_in_parts(name, rules, parts::PART_BYTES)
    }

    fn pack_in_parts(
        &self,
        name: &str,
        rules: Rules,
        part_bytes: u64,
    ) -> Result<(Packed, BTreeMap<String, Entry>), PackError> {
        let target = tempfile::tempdir().unwrap();
        let archive = target.path().join("a.tar.zst");
        let packed = pack_in_parts(&self.path(name), rules, &archive, part_bytes, &Cancel::default())?;
        let mut stream = Vec::new();
        for part in &packed.parts {
            assert_eq!(digest_file(&part.path, &Cancel::default()).unwrap(), part.digest);
            stream.extend(fs::read(&part.path).unwrap());
        }
        let files = fs::read_dir(target.path()).unwrap().count();
        assert_eq!(files, packed.parts.len());
        Ok((packed, read(&stream)))
    }

    fn pack(&self, name: &str) -> (Packed, BTreeMap<String, Entry>) {
        self.pack_with(name, EVERYTHING).unwrap()
    }

    /// The names that travel, without the folder's own.
    fn names(&self, name: &str, ignore_files: IgnoreFiles) -> Vec<String> {
        let (_, entries) = self.pack_with(name, Rules { ignore_files, ..EVERYTHING }).unwrap();
        entries.into_keys().filter_map(|name| Some(name.strip_prefix("root/")?.to_owned())).collect()
    }
}

fn read(archive: &[u8]) -> BTreeMap<String, Entry> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
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

fn digests(packed: &Packed) -> Vec<&Digest> {
    packed.parts.iter().map(|part| &part.digest).collect()
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
    assert_eq!(digests(&one.pack("s").0), digests(&two.pack("s").0));
    two.file("s/a", "A");
    assert_ne!(digests(&one.pack("s").0), digests(&two.pack("s").0));
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
    let before = source.pack_with("lib", LIBRARY).unwrap().0;
    source.file("lib/__pycache__/a.cpython-311.pyc", "x");
    source.file("lib/sub/old.pyc", "x");
    let (_, entries) = source.pack_with("lib", LIBRARY).unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["root", "root/a.py", "root/sub"]);
    fs::remove_dir_all(source.path("lib/sub")).unwrap();
    assert_eq!(digests(&source.pack_with("lib", LIBRARY).unwrap().0), digests(&before));
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
    let error = source.pack_with("s", EVERYTHING).unwrap_err().to_string();
    let gone = source.path("s/gone");
    assert_eq!(error, format!("link `{}` points to `/no/such/file`, which does not exist", gone.display()));

    fs::remove_file(gone).unwrap();
    source.link("s/up", source.folder.path().canonicalize().unwrap());
    let error = source.pack_with("s", EVERYTHING).unwrap_err().to_string();
    assert!(error.contains("a folder that it lies in itself\nhint: "), "{error}");
}

#[test]
fn a_loop_by_way_of_another_folder_is_an_error() {
    let source = Source::new();
    source.file("out/x", "x");
    source.file("s/y", "y");
    source.link("s/out", source.path("out"));
    source.link("out/back", source.path("s"));
    let error = source.pack_with("s", EVERYTHING).unwrap_err();
    assert!(matches!(&error, PackError::LinkLoop { path, .. } if path.ends_with("out/back")), "{error}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let source = Source::new();
    let missing = source.path("missing");
    let error = source.pack_with("missing", EVERYTHING).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read `{}`: No such file or directory (os error 2)", missing.display()));

    let secret = source.file("s/secret", "x");
    fs::set_permissions(&secret, Permissions::from_mode(0o0)).unwrap();
    // Root may read everything.
    if fs::File::open(&secret).is_err() {
        let error = source.pack_with("s", EVERYTHING).unwrap_err().to_string();
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
    let error = pack(&source.path("s"), EVERYTHING, &archive, &cancel).unwrap_err();
    assert!(matches!(error, PackError::Cancelled), "{error}");
}

#[test]
fn a_file_that_shrinks_after_the_walk_is_noticed() {
    let source = Source::new();
    let path = source.file("a", "12345");
    let entries = walk::walk(&path, EVERYTHING, &Cancel::default()).unwrap().entries;
    fs::write(&path, "1234").unwrap();
    let parts = parts::cut(&entries, 2);
    let error = write::write_all(&entries, &parts, &source.path("archive"), &Cancel::default()).unwrap_err();
    let text = format!(
        "`{}` changed while it was packed\nhint: nothing may write to it during the start",
        path.display()
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn parts_are_one_archive() {
    let source = Source::new();
    source.file("s/large", &"0123456789".repeat(1_000));
    for number in 0..50 {
        source.file(&format!("s/{number}"), &number.to_string());
    }
    let (one, whole) = source.pack_in_parts("s", EVERYTHING, u64::MAX).unwrap();
    assert_eq!(one.parts.len(), 1);
    let (many, pieces) = source.pack_in_parts("s", EVERYTHING, 1_000).unwrap();
    assert!(many.parts.len() > 20, "{}", many.parts.len());
    assert_eq!(pieces, whole);
    let names: Vec<_> = many.parts.iter().map(|part| part.path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names[..3], ["a.tar.zst", "a.tar.zst.1", "a.tar.zst.2"]);
}

#[test]
fn one_changed_byte_changes_one_part() {
    let source = Source::new();
    for number in 0..50 {
        source.file(&format!("s/{number}"), &"x".repeat(100));
    }
    let (before, _) = source.pack_in_parts("s", EVERYTHING, 5_000).unwrap();
    source.file("s/25", &("y".to_owned() + &"x".repeat(99)));
    let (after, _) = source.pack_in_parts("s", EVERYTHING, 5_000).unwrap();
    assert!(before.parts.len() > 4);
    let changed =
        digests(&after).iter().zip(digests(&before)).filter(|(after, before)| **after != *before).count();
    assert_eq!((changed, after.parts.len()), (1, before.parts.len()));
}

#[test]
fn ignore_files_keep_things_at_home() {
    let source = Source::new();
    source.file("s/.gitignore", "*.ckpt\n/data/\n!keep.ckpt\n");
    source.file("s/.git/HEAD", "ref");
    source.file("s/data/large", "x");
    source.file("s/sub/data/small", "x");
    source.file("s/sub/a.ckpt", "x");
    source.file("s/sub/keep.ckpt", "x");
    source.file("s/sub/.gitignore", "!a.ckpt\n");
    source.file("s/.tractorunignore", "notes.md\n");
    source.file("s/notes.md", "x");
    assert_eq!(
        source.names("s", IgnoreFiles::Git),
        [
            ".gitignore",
            ".tractorunignore",
            "sub",
            "sub/.gitignore",
            "sub/a.ckpt",
            "sub/data",
            "sub/data/small",
            "sub/keep.ckpt"
        ]
    );
    let own = source.names("s", IgnoreFiles::Own);
    assert!(own.iter().any(|name| name == "data/large") && own.iter().any(|name| name == ".git/HEAD"));
    assert!(!own.iter().any(|name| name == "notes.md"));
    assert!(source.names("s", IgnoreFiles::None).iter().any(|name| name == "notes.md"));

    let (packed, _) = source.pack_with("s", Rules { ignore_files: IgnoreFiles::Git, ..EVERYTHING }).unwrap();
    assert_eq!(packed.ignored, [".git", "data", "notes.md"].map(|name| source.path("s").join(name)));
}

#[test]
fn ignore_files_above_the_folder_do_not_count() {
    let source = Source::new();
    source.file(".gitignore", "data/\n");
    source.file("data/x", "x");
    assert_eq!(source.names("data", IgnoreFiles::Git), ["x"]);
}

#[test]
fn a_line_that_is_no_pattern_is_named() {
    let source = Source::new();
    let file = source.file("s/.tractorunignore", "fine\n[z-a]\n");
    let error = source.pack_with("s", LIBRARY).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read `{}`: ", file.display())), "{error}");
    assert!(
        error.ends_with("\nhint: mend the line, or give `--bind-ignore none` to pack everything"),
        "{error}"
    );
}

#[test]
fn names_that_are_not_utf8_travel() {
    use std::os::unix::ffi::OsStrExt;
    let source = Source::new();
    source.file("s/a", "a");
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    fs::write(source.path("s").join(name), "x").unwrap();
    let target = tempfile::tempdir().unwrap();
    let packed =
        pack(&source.path("s"), EVERYTHING, &target.path().join("a.zst"), &Cancel::default()).unwrap();
    let mut tar =
        tar::Archive::new(zstd::Decoder::new(fs::File::open(&packed.parts[0].path).unwrap()).unwrap());
    let names: Vec<_> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
    assert!(names.iter().any(|name| name == b"root/\xff\xfe"), "{names:?}");
}

#[test]
fn md5_is_the_one_that_everybody_computes() {
    assert_eq!(
        Digest::of(b"hello"),
        Digest { size_bytes: 5, md5: "5d41402abc4b2a76b9719d911017c592".to_owned() }
    );
}
