//! Everything the guard needs, made ready before it exists: it must not allocate.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Interruption, Isolation, JobCommand, Tmpfs, UserNamespace};

/// Where the job's folder is in its private root.
pub(super) const SLOT: &str = "/slot";

/// Entries of `/` that a private root shows as they are: device and kernel files, and the folder through which
/// jobs, tests and users exchange files.
const SHARED: [&str; 3] = ["dev", "sys", "tmp"];

/// A start, as system calls want it.
pub(super) struct Plan {
    pub(super) clone_flags: libc::c_int,
    pub(super) isolation: Isolation,
    pub(super) interruption: Option<Interruption>,
    pub(super) program: CString,
    /// The strings behind [`Plan::argv`] and [`Plan::envp`], which live as long.
    _strings: Vec<CString>,
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) envp: Vec<*const libc::c_char>,
    /// Where the program starts, seen from its own root.
    pub(super) working_directory: CString,
    /// What is written to `/proc/self/uid_map` and `gid_map`.
    pub(super) uid_map: CString,
    pub(super) gid_map: CString,
    pub(super) tmpfs: Vec<TmpfsPlan>,
    pub(super) root: Option<RootPlan>,
}

/// Memory to mount: where, before the root is changed, and with which options.
pub(super) struct TmpfsPlan {
    pub(super) target: CString,
    pub(super) options: CString,
}

/// A private root.
pub(super) struct RootPlan {
    pub(super) scratch: CString,
    pub(super) root: CString,
    pub(super) uppers: CString,
    pub(super) works: CString,
    pub(super) proc_target: CString,
    pub(super) slot_source: CString,
    pub(super) slot_target: CString,
    pub(super) entries: Vec<Entry>,
}

/// One entry of `/` in a private root, or a mount below one.
pub(super) enum Entry {
    /// The same link.
    Symlink { target: CString, path: CString },
    /// The machine's file or folder itself.
    Bind { source: CString, target: CString, kind: BindKind },
    /// The machine's folder below, the job's writes above.
    Overlay {
        source: CString,
        target: CString,
        upper: CString,
        work: CString,
        options: CString,
        mode: u32,
        owner: (u32, u32),
    },
}

/// What a bind needs to exist first, and what its failure means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BindKind {
    /// A folder in `/`.
    Folder,
    /// A file in `/`.
    File,
    /// A file system mounted somewhere below; that it cannot be shown is no reason not to start.
    Below,
}

impl Plan {
    pub(super) fn new(command: &JobCommand) -> io::Result<Self> {
        let mut strings = Vec::new();
        for argument in &command.arguments {
            strings.push(text(argument)?);
        }
        for (name, value) in &command.environment {
            strings.push(text(OsStr::from_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat()))?);
        }
        let pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        let (arguments, variables) = pointers.split_at(command.arguments.len());
        let ended = |pointers: &[*const libc::c_char]| [pointers, &[std::ptr::null()]].concat();
        let (argv, envp) = (ended(arguments), ended(variables));

        let own_user = match command.isolation {
            Isolation::PrivateRoot(user) | Isolation::PrivateProcesses(user) => user == UserNamespace::Own,
            Isolation::Session => false,
        };
        let mut clone_flags = match command.isolation {
            Isolation::PrivateRoot(_) | Isolation::PrivateProcesses(_) => {
                libc::CLONE_NEWPID | libc::CLONE_NEWNS
            }
            Isolation::Session => 0,
        };
        if own_user {
            clone_flags |= libc::CLONE_NEWUSER;
        }
        // SAFETY: both take nothing, touch nothing and cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        let root = match command.isolation {
            Isolation::PrivateRoot(_) => Some(RootPlan::new(command)?),
            Isolation::PrivateProcesses(_) | Isolation::Session => None,
        };
        Ok(Self {
            clone_flags,
            isolation: command.isolation,
            interruption: command.interruption,
            program: text(&command.program)?,
            _strings: strings,
            argv,
            envp,
            working_directory: text(command.isolation.sandbox_path(&command.sandbox))?,
            tmpfs: command
                .tmpfs
                .iter()
                .map(|tmpfs| TmpfsPlan::new(command, tmpfs))
                .collect::<io::Result<_>>()?,
            uid_map: text(format!("{user} {user} 1"))?,
            gid_map: text(format!("{group} {group} 1"))?,
            root,
        })
    }
}

impl TmpfsPlan {
    fn new(command: &JobCommand, tmpfs: &Tmpfs) -> io::Result<Self> {
        let sandbox = match command.isolation {
            Isolation::PrivateRoot(_) => {
                let sandbox = command.isolation.sandbox_path(&command.sandbox);
                command.scratch.join("root").join(sandbox.strip_prefix("/").unwrap_or(&sandbox))
            }
            Isolation::PrivateProcesses(_) | Isolation::Session => command.sandbox.clone(),
        };
        Ok(Self {
            target: text(sandbox.join(&tmpfs.path))?,
            options: text(format!("size={},mode=0755", tmpfs.bytes))?,
        })
    }
}

impl RootPlan {
    fn new(command: &JobCommand) -> io::Result<Self> {
        let root = command.scratch.join("root");
        let uppers = command.scratch.join("upper");
        let works = command.scratch.join("work");
        let mounts = mount_points(&fs::read_to_string("/proc/self/mountinfo")?);
        let mut entries = Vec::new();
        for entry in fs::read_dir("/")? {
            let entry = entry?;
            let name = entry.file_name();
            let source = Path::new("/").join(&name);
            if name == "proc" || name == SLOT[1..] {
                continue;
            }
            let target = root.join(&name);
            let metadata = entry.metadata()?;
            if metadata.is_symlink() {
                entries.push(Entry::Symlink { target: text(fs::read_link(&source)?)?, path: text(&target)? });
            } else if !metadata.is_dir() {
                entries.push(Entry::Bind {
                    source: text(&source)?,
                    target: text(&target)?,
                    kind: BindKind::File,
                });
            } else if SHARED.iter().any(|shared| name == *shared) {
                entries.push(Entry::Bind {
                    source: text(&source)?,
                    target: text(&target)?,
                    kind: BindKind::Folder,
                });
            } else {
                let (upper, work) = (uppers.join(&name), works.join(&name));
                entries.push(Entry::Overlay {
                    options: overlay_options(&source, &upper, &work)?,
                    source: text(&source)?,
                    target: text(&target)?,
                    upper: text(&upper)?,
                    work: text(&work)?,
                    mode: metadata.mode() & 0o7777,
                    owner: (metadata.uid(), metadata.gid()),
                });
            }
        }
        for mount in mounts {
            let below = mount.strip_prefix("/").unwrap_or(&mount).to_owned();
            entries.push(Entry::Bind {
                source: text(&mount)?,
                target: text(root.join(below))?,
                kind: BindKind::Below,
            });
        }
        Ok(Self {
            proc_target: text(root.join("proc"))?,
            slot_source: text(&command.slot)?,
            slot_target: text(root.join(&SLOT[1..]))?,
            scratch: text(&command.scratch)?,
            root: text(root)?,
            uppers: text(uppers)?,
            works: text(works)?,
            entries,
        })
    }
}

/// `lowerdir=..,upperdir=..,workdir=..`, with what overlayfs reads as separators escaped.
fn overlay_options(lower: &Path, upper: &Path, work: &Path) -> io::Result<CString> {
    let mut options = Vec::new();
    for (name, path) in [("lowerdir=", lower), (",upperdir=", upper), (",workdir=", work)] {
        options.extend_from_slice(name.as_bytes());
        for byte in path.as_os_str().as_bytes() {
            if b"\\:,".contains(byte) {
                options.push(b'\\');
            }
            options.push(*byte);
        }
    }
    text(OsStr::from_bytes(&options))
}

/// Mount points at least two levels below `/` and not below another of them, in order. What is mounted at
/// `/x` itself needs no mount of its own, as its folder is shown anyway; below `/proc` nothing is shown.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| point.components().count() > 2 && !point.starts_with("/proc"))
        .collect();
    points.sort();
    points.dedup();
    let mut topmost: Vec<PathBuf> = Vec::new();
    for point in points {
        if !topmost.iter().any(|above| point.starts_with(above)) {
            topmost.push(point);
        }
    }
    topmost
}

/// The kernel writes space, tab, newline and backslash of a path as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// A string for the kernel.
fn text(value: impl AsRef<OsStr>) -> io::Result<CString> {
    CString::new(value.as_ref().as_bytes()).map_err(io::Error::from)
}
