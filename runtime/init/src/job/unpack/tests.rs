//! Archives, honest and hostile, unpacked into private folders.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// An entry as it stands in the archive, however wrong it is.
struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    content: Vec<u8>,
    link: String,
}

fn entry(kind: EntryType, path: &str) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, content: Vec::new(), link: String::new() }
}

fn file(path: &str, content: &str) -> Entry {
    Entry { content: content.into(), ..entry(EntryType::Regular, path) }
}

fn folder(path: &str) -> Entry {
    Entry { mode: 0o755, ..entry(EntryType::Directory, path) }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(EntryType::Symlink, path) }
}

/// A tar that no careful writer would write: names and links go in unchecked.
fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Long names travel in an entry of their own.
        for (kind, text) in [(b'L', &entry.path), (b'K', &entry.link)] {
            if text.len() > 100 {
                let mut long = tar::Header::new_gnu();
                long.set_entry_type(EntryType::new(kind));
                long.set_size(text.len() as u64 + 1);
                long.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"long");
                long.set_cksum();
                builder.append(&long, [text.as_bytes(), b"\0"].concat().as_slice()).unwrap();
            }
        }
        let fields = header.as_gnu_mut().unwrap();
        let name = &entry.path.as_bytes()[..entry.path.len().min(100)];
        fields.name[..name.len()].copy_from_slice(name);
        let target = &entry.link.as_bytes()[..entry.link.len().min(100)];
        fields.linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        builder.append(&header, entry.content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A private world: an archive, a place for its destination, and a neighbour that must stay as it is.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        std::fs::write(folder.path().join("outside/precious"), "precious").unwrap();
        Self { folder }
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("inside/destination")
    }

    fn unpack(&self, entries: &[Entry]) -> Result<(), String> {
        self.unpack_bytes(&zstd::encode_all(tar_of(entries).as_slice(), 1).unwrap())
    }

    fn unpack_bytes(&self, archive: &[u8]) -> Result<(), String> {
        let path = self.folder.path().join("a.tar.zst");
        std::fs::write(&path, archive).unwrap();
        let prefix = format!("cannot unpack `{}`: ", path.display());
        unpack(std::slice::from_ref(&path), &self.destination(), &AtomicBool::new(false)).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix(&prefix).unwrap_or_else(|| panic!("{text}")).to_owned()
        })
    }

    /// Everything below the destination: files with their content, folders with a slash, links with an arrow.
    fn tree(&self) -> BTreeMap<String, String> {
        fn walk(path: &Path, name: &str, tree: &mut BTreeMap<String, String>) {
            let metadata = std::fs::symlink_metadata(path).unwrap();
            if metadata.is_symlink() {
                let target = std::fs::read_link(path).unwrap();
                tree.insert(name.into(), format!("-> {}", target.display()));
            } else if metadata.is_dir() {
                tree.insert(format!("{name}/"), String::new());
                for child in std::fs::read_dir(path).unwrap() {
                    let child = child.unwrap();
                    walk(&child.path(), &format!("{name}/{}", child.file_name().display()), tree);
                }
            } else {
                tree.insert(name.into(), std::fs::read_to_string(path).unwrap());
            }
        }
        let mut tree = BTreeMap::new();
        walk(&self.destination(), "", &mut tree);
        tree
    }

    /// Nothing but the archive and the destination was touched.
    fn assert_outside_is_as_it_was(&self, context: &str) {
        let mut names: Vec<_> =
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.retain(|name| name != "inside");
        assert_eq!(names, ["a.tar.zst", "outside"], "{context}");
        let outside: Vec<_> = std::fs::read_dir(self.folder.path().join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "{context}");
        let precious = self.folder.path().join("outside/precious");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious", "{context}");
        assert_eq!(std::fs::metadata(&precious).unwrap().permissions().mode() & 0o7777, 0o644, "{context}");
        if let Ok(inside) = std::fs::read_dir(self.folder.path().join("inside")) {
            for entry in inside {
                assert_eq!(entry.unwrap().file_name(), "destination", "{context}");
            }
        }
    }
}

fn tree(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn a_folder_is_unpacked_with_modes_and_links() {
    let world = World::new();
    let script = Entry { mode: 0o6755, ..file("root/bin/run", "#!") };
    world
        .unpack(&[
            folder("root/"),
            file("root/a", "A"),
            folder("root/bin"),
            script,
            file("root/implied/deep/b", "B"),
            link("root/bin/up", "../a"),
            link("root/implied/deep/down", "./b"),
            link("root/dangling", "not/there"),
        ])
        .unwrap();
    let expected = [
        ("/", ""),
        ("/a", "A"),
        ("/bin/", ""),
        ("/bin/run", "#!"),
        ("/bin/up", "-> ../a"),
        ("/dangling", "-> not/there"),
        ("/implied/", ""),
        ("/implied/deep/", ""),
        ("/implied/deep/b", "B"),
        ("/implied/deep/down", "-> ./b"),
    ];
    assert_eq!(world.tree(), tree(&expected));
    let mode =
        |name: &str| std::fs::metadata(world.destination().join(name)).unwrap().permissions().mode() & 0o7777;
    // Set-user-id does not survive.
    assert_eq!((mode("a"), mode("bin"), mode("bin/run")), (0o644, 0o755, 0o755));
    world.assert_outside_is_as_it_was("honest");
}

#[test]
fn long_names_and_empty_folders_arrive() {
    let world = World::new();
    let long = "n".repeat(200);
    world.unpack(&[folder("root"), folder("root/empty"), file(&format!("root/{long}/{long}"), "x")]).unwrap();
    let tree = world.tree();
    assert_eq!(tree[&format!("/{long}/{long}")], "x");
    assert!(tree.contains_key("/empty/"));
}

#[test]
fn a_folder_is_merged_and_a_file_replaced() {
    let world = World::new();
    let destination = world.destination();
    std::fs::create_dir_all(destination.join("kept")).unwrap();
    std::fs::write(destination.join("kept/old"), "old").unwrap();
    std::fs::write(destination.join("replaced"), "old").unwrap();
    // A link in the place of a file is replaced, not written through.
    symlink(world.folder.path().join("outside/precious"), destination.join("redirect")).unwrap();
    world
        .unpack(&[
            folder("root"),
            folder("root/kept"),
            file("root/kept/new", "new"),
            file("root/replaced", "new"),
            file("root/redirect", "new"),
        ])
        .unwrap();
    let expected = [
        ("/", ""),
        ("/kept/", ""),
        ("/kept/new", "new"),
        ("/kept/old", "old"),
        ("/redirect", "new"),
        ("/replaced", "new"),
    ];
    assert_eq!(world.tree(), tree(&expected));
    world.assert_outside_is_as_it_was("merge");
}

#[test]
fn a_single_file_is_put_in_place_and_replaces_one() {
    let world = World::new();
    for content in ["first", "second"] {
        world.unpack(&[Entry { mode: 0o755, ..file("root", content) }]).unwrap();
        assert_eq!(std::fs::read_to_string(world.destination()).unwrap(), content);
    }
    assert_eq!(std::fs::metadata(world.destination()).unwrap().permissions().mode() & 0o777, 0o755);
    std::fs::remove_file(world.destination()).unwrap();
    symlink(world.folder.path().join("outside/precious"), world.destination()).unwrap();
    world.unpack(&[file("root", "third")]).unwrap();
    world.assert_outside_is_as_it_was("single file");
}

#[test]
fn a_destination_of_the_wrong_kind_is_named() {
    let world = World::new();
    std::fs::create_dir_all(world.destination()).unwrap();
    let destination = world.destination().display().to_string();
    assert_eq!(
        world.unpack(&[file("root", "x")]).unwrap_err(),
        format!("destination `{destination}` is a folder, and the archive holds a single file")
    );
    std::fs::remove_dir(world.destination()).unwrap();
    std::fs::write(world.destination(), "file").unwrap();
    assert_eq!(
        world.unpack(&[folder("root")]).unwrap_err(),
        format!("destination `{destination}` is not a folder")
    );
}

#[test]
fn hostile_archives_are_refused_and_write_nothing_outside() {
    let name = "n".repeat(256);
    let path = format!("root{}", "/d".repeat(2100));
    let cases: Vec<(Vec<Entry>, String)> = vec![
        (vec![file("/etc/x", "")], "entry `/etc/x`: its path is absolute".into()),
        (vec![file("root/../x", "")], "entry `root/../x`: its path contains `..`".into()),
        (vec![file("../x", "")], "entry `../x`: its path contains `..`".into()),
        (vec![file("root/a/../../../x", "")], "entry `root/a/../../../x`: its path contains `..`".into()),
        (vec![file("other/x", "")], "entry `other/x`: expected `root` and what is below it".into()),
        (vec![file("rooted", "")], "entry `rooted`: expected `root` and what is below it".into()),
        (vec![file(".", "")], "entry `.`: expected `root` and what is below it".into()),
        (
            vec![file("root", ""), file("root/x", "")],
            "entry `root/x`: `root` is a file: expected nothing besides it".into(),
        ),
        (
            vec![link("root", "/etc")],
            "entry `root`: `root` is a symbolic link: expected a file or a folder".into(),
        ),
        (
            vec![folder("root"), link("root/a", "/etc"), file("root/a/x", "")],
            "entry `root/a`: it links to `/etc`, which is outside of the destination".into(),
        ),
        (
            vec![folder("root"), link("root/a", "../../outside"), file("root/a/precious", "gone")],
            "entry `root/a`: it links to `../../outside`, which is outside of the destination".into(),
        ),
        (
            vec![link("root/d/a", "../..")],
            "entry `root/d/a`: it links to `../..`, which is outside of the destination".into(),
        ),
        (
            // Each step is inside, together they are not: `up` is the destination, so `up/..` is its parent.
            vec![folder("root/d"), link("root/d/up", ".."), link("root/out", "d/up/../../outside")],
            "entry `root/out`: it links to `d/up/../../outside`: expected `..` only at the beginning".into(),
        ),
        (
            vec![link("root/a", "")],
            "entry `root/a`: it links to ``, which is outside of the destination".into(),
        ),
        (
            // Even a link that leads inside is not written through.
            vec![folder("root/d"), link("root/l", "d"), file("root/l/x", "")],
            "entry `root/l/x`: it lies below `l`, which is not a folder".into(),
        ),
        (
            vec![folder("root/d"), link("root/l", "d"), folder("root/l")],
            "entry `root/l`: there is something else than a folder in its place".into(),
        ),
        (
            vec![file("root/f", ""), file("root/f/x", "")],
            "entry `root/f/x`: it lies below `f`, which is not a folder".into(),
        ),
        (
            vec![folder("root/d"), file("root/d/x", ""), link("root/d", "..")],
            "entry `root/d`: it links to `..`, which is outside of the destination".into(),
        ),
        (
            vec![folder("root/d"), file("root/d/x", ""), link("root/d", "e")],
            "entry `root/d`: there is a folder in its place".into(),
        ),
        (
            vec![folder("root"), Entry { link: "/etc/passwd".into(), ..entry(EntryType::Link, "root/h") }],
            "entry `root/h`: it is a hard link: expected a file, a folder or a symbolic link".into(),
        ),
        (
            vec![entry(EntryType::Char, "root/null")],
            "entry `root/null`: it is a device: expected a file, a folder or a symbolic link".into(),
        ),
        (
            vec![entry(EntryType::Fifo, "root/fifo")],
            "entry `root/fifo`: it is a named pipe: expected a file, a folder or a symbolic link".into(),
        ),
        (
            vec![file(&format!("root/{name}"), "")],
            format!(
                "entry `root/{}...`: its path is longer than 4096 bytes, or a name in it than 255",
                &name[..195]
            ),
        ),
        (
            vec![file(&path, "")],
            format!(
                "entry `{}...`: its path is longer than 4096 bytes, or a name in it than 255",
                &path[..200]
            ),
        ),
        (vec![], "it is empty".into()),
    ];
    for (entries, expected) in cases {
        let world = World::new();
        assert_eq!(world.unpack(&entries).unwrap_err(), expected);
        world.assert_outside_is_as_it_was(&expected);
    }
}

#[test]
fn broken_archives_are_named() {
    let world = World::new();
    let tar = tar_of(&[folder("root"), file("root/a", &"content".repeat(1000))]);
    let packed = zstd::encode_all(tar.as_slice(), 1).unwrap();
    for (what, archive) in [
        ("not compressed", tar.clone()),
        ("half of it", packed[..packed.len() / 2].to_vec()),
        ("half of the tar", zstd::encode_all(&tar[..2048], 1).unwrap()),
        ("text", b"not an archive".to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert!(world.unpack_bytes(&archive).is_err(), "{what}");
    }
    world.assert_outside_is_as_it_was("broken");
}

#[test]
fn parts_are_read_as_one_archive() {
    let world = World::new();
    let tar = tar_of(&[folder("root"), file("root/a", "first"), file("root/b", "second")]);
    let mut paths = Vec::new();
    // The last cut goes through the content of a file.
    for (index, piece) in [&tar[..512], &tar[512..1026], &tar[1026..]].iter().enumerate() {
        let path = world.folder.path().join(format!("a.tar.zst.{index}"));
        std::fs::write(&path, zstd::encode_all(*piece, 1).unwrap()).unwrap();
        paths.push(path);
    }
    unpack(&paths, &world.destination(), &AtomicBool::new(false)).unwrap();
    assert_eq!(world.tree(), tree(&[("/", ""), ("/a", "first"), ("/b", "second")]));

    std::fs::remove_file(&paths[1]).unwrap();
    let error = unpack(&paths, &world.destination(), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot unpack `{}`: its part `{}`: No such file or directory (os error 2)",
            paths[0].display(),
            paths[1].display()
        )
    );
}

#[test]
fn a_missing_archive_and_an_interruption_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("gone");
    let error = unpack(std::slice::from_ref(&archive), &folder.path().join("d"), &AtomicBool::new(false))
        .unwrap_err();
    let expected = format!("cannot unpack `{}`: No such file or directory (os error 2)", archive.display());
    assert_eq!(error.to_string(), expected);

    std::fs::write(&archive, zstd::encode_all(tar_of(&[file("root", "x")]).as_slice(), 1).unwrap()).unwrap();
    let error =
        unpack(std::slice::from_ref(&archive), &folder.path().join("d"), &AtomicBool::new(true)).unwrap_err();
    assert!(error.to_string().ends_with(": it was interrupted"), "{error}");
    assert!(!folder.path().join("d").exists());
}
