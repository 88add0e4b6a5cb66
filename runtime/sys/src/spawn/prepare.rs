//! What the parent makes ready before the fork, so that the child allocates nothing.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Command, Session, Stdio};
use crate::cpu::CpuSet;
use crate::descriptor;
use crate::pid::Pid;

/// Where programs are looked for when the environment has no `PATH`; the C library's own default.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Runs scripts that have no `#!` line, as `execvp` does.
const SHELL: &str = "/bin/sh";

/// Everything the child needs, as pointers and numbers.
pub(super) struct Plan {
    /// Files to try, in order.
    pub(super) candidates: Vec<CString>,
    /// Program name and arguments.
    pub(super) arguments: CStringArray,
    /// `name=value`.
    pub(super) environment: CStringArray,
    /// `/bin/sh`, room for the script's path, its arguments.
    pub(super) shell_arguments: CStringArray,
    /// Where to start.
    pub(super) working_directory: Option<CString>,
    /// For descriptors 0, 1, 2: what to put there, always above 2; `None` leaves it.
    pub(super) streams: [Option<RawFd>; 3],
    /// Session and group.
    pub(super) session: Session,
    /// Parent-death signal.
    pub(super) parent_death_signal: Option<i32>,
    /// Limit of descriptors.
    pub(super) descriptor_limit: Option<descriptor::Limit>,
    /// CPUs to run on.
    pub(super) cpus: Option<CpuSet>,
    /// Whose death it is about.
    pub(super) parent: Pid,
    /// Keeps the duplicates in `streams` open.
    _descriptors: Vec<OwnedFd>,
}

/// A null-terminated array of C strings, as exec takes it.
pub(super) struct CStringArray {
    strings: Vec<CString>,
    pointers: Box<[Cell<*const libc::c_char>]>,
}

// === impl Plan ===

impl Plan {
    /// Makes everything ready.
    pub(super) fn new(command: &Command) -> io::Result<Self> {
        let mut descriptors = Vec::new();
        let mut stream = |stdio: &Stdio| -> io::Result<Option<RawFd>> {
            let fd = match stdio {
                Stdio::Inherit => return Ok(None),
                Stdio::Null => descriptor::above_standard(descriptor::open_null()?)?,
                Stdio::Fd(fd) => descriptor::duplicate_above_standard(fd)?,
            };
            let raw = fd.as_raw_fd();
            descriptors.push(fd);
            Ok(Some(raw))
        };
        let streams = [stream(&command.stdin)?, stream(&command.stdout)?, stream(&command.stderr)?];

        let program = c_string(command.program.clone())?;
        let args = command.args.iter().cloned().map(c_string).collect::<io::Result<Vec<_>>>()?;
        let arguments = CStringArray::new([vec![program.clone()], args.clone()].concat());
        let shell_arguments = CStringArray::new([vec![c_string(SHELL.into())?, program], args].concat());
        let environment = command
            .environment
            .iter()
            .map(|(name, value)| {
                let mut entry = name.clone();
                entry.push("=");
                entry.push(value);
                c_string(entry)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            candidates: candidates(&command.program, &search_path(command))
                .into_iter()
                .map(|path| c_string(path.into_os_string()))
                .collect::<io::Result<_>>()?,
            arguments,
            environment: CStringArray::new(environment),
            shell_arguments,
            working_directory: command.working_directory.clone().map(path_c_string).transpose()?,
            streams,
            session: command.session,
            parent_death_signal: command.parent_death_signal.map(crate::signal::Signal::number),
            descriptor_limit: command.descriptor_limit,
            cpus: command.cpus.clone(),
            parent: Pid::current(),
            _descriptors: descriptors,
        })
    }
}

// === impl CStringArray ===

impl CStringArray {
    fn new(strings: Vec<CString>) -> Self {
        // The strings' bytes are on the heap and do not move with the vector that owns them.
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).map(Cell::new).collect();
        Self { strings, pointers }
    }

    /// The array for exec.
    pub(super) fn as_ptr(&self) -> *const *const libc::c_char {
        debug_assert_eq!(self.pointers.len(), self.strings.len() + 1);
        // A Cell has the layout of what it holds.
        self.pointers.as_ptr().cast()
    }

    /// Puts another string at an index; it must live as long as the array is used. Past the end: nothing.
    pub(super) fn replace(&self, index: usize, string: &CStr) {
        if let Some(pointer) = self.pointers.get(index) {
            pointer.set(string.as_ptr());
        }
    }
}

/// The `PATH` that a command is looked up in.
pub(super) fn search_path(command: &Command) -> OsString {
    let path = command.environment.iter().rfind(|(name, _)| name == "PATH");
    path.map_or_else(|| DEFAULT_PATH.into(), |(_, value)| value.clone())
}

/// Files that a program's name may mean, in the order in which they are tried.
pub(super) fn candidates(program: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    // An empty element of PATH is the working directory.
    let folders = path.as_bytes().split(|byte| *byte == b':');
    folders
        .map(|folder| if folder.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(folder)) })
        .map(|folder| folder.join(program))
        .collect()
}

/// A path without NUL bytes, for the kernel.
fn path_c_string(path: PathBuf) -> io::Result<CString> {
    c_string(path.into_os_string())
}

/// A string without NUL bytes, for the kernel.
fn c_string(string: OsString) -> io::Result<CString> {
    CString::new(string.into_vec())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a string with a NUL byte in it"))
}
