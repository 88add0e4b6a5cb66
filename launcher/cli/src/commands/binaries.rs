//! The two programs that the launcher brings along: where they are, and whether a cluster can run them.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tractorun_contract::env as names;

/// A program that travels with the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `tractorun-init`.
    Init,
    /// `tractorun-minicluster`.
    Minicluster,
}

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It is nowhere.
    #[error(
        "cannot find `{name}`: it is neither beside `tractorun` nor on PATH\n\
         hint: put it beside `tractorun`, or set {variable} to its path"
    )]
    NotFound {
        /// Name of the program.
        name: &'static str,
        /// Environment variable that may name it.
        variable: &'static str,
    },
    /// The environment variable names something that is no file.
    #[error("{variable} names `{}`, which is not a file", path.display())]
    NotAFile {
        /// The environment variable.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// It could not be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The nodes of a cluster cannot run it.
    #[error(
        "`{}` cannot run in a job: {problem}\nhint: a job needs a static tractorun-init for Linux; set {} to one",
        path.display(), names::INIT_BINARY
    )]
    NotForTheCluster {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "tractorun-init",
            Self::Minicluster => "tractorun-minicluster",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Init => names::INIT_BINARY,
            Self::Minicluster => names::MINICLUSTER_BINARY,
        }
    }

    /// Looks beside the launcher's own executable, then at the program's variable, then along `PATH`.
    pub fn find(self) -> Result<PathBuf, BinaryError> {
        // The executable's real place: a link to it in ~/bin has no neighbours.
        let own = env::current_exe().and_then(|path| path.canonicalize()).ok();
        self.find_in(own.as_deref().and_then(Path::parent), &|name| env::var_os(name).map(PathBuf::from))
    }

    fn find_in(
        self,
        beside: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<PathBuf, BinaryError> {
        let (name, own_variable) = (self.name(), self.variable());
        if let Some(path) = beside.map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            return Ok(path);
        }
        if let Some(path) = variable(own_variable).filter(|path| !path.as_os_str().is_empty()) {
            if path.is_file() {
                return std::path::absolute(&path).map_err(|error| BinaryError::Read { path, error });
            }
            return Err(BinaryError::NotAFile { variable: own_variable, path });
        }
        let path = variable("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
            .and_then(|path| std::path::absolute(path).ok())
            .ok_or(BinaryError::NotFound { name, variable: own_variable })
    }
}

/// Checks by the file's header that a job on a cluster can run it.
pub fn check_for_cluster(path: &Path) -> Result<(), BinaryError> {
    let problem = File::open(path)
        .and_then(|file| find_problem(&mut io::BufReader::new(file)))
        .map_err(|error| BinaryError::Read { path: path.to_owned(), error })?;
    match problem {
        None => Ok(()),
        Some(problem) => Err(BinaryError::NotForTheCluster { path: path.to_owned(), problem }),
    }
}

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const ELF_CLASS_64: u8 = 2;
const ELF_LITTLE_ENDIAN: u8 = 1;
const ELF_MACHINE_X86_64: u16 = 62;
const ELF_MACHINE_AARCH64: u16 = 183;
/// Program header that names a dynamic loader.
const ELF_PT_INTERP: u32 = 3;
const ELF_HEADER_BYTES: usize = 64;
const ELF_PROGRAM_HEADER_BYTES: u64 = 56;

/// Mach-O in both widths and byte orders, and the container of several of them.
const MACOS_MAGICS: [[u8; 4]; 5] = [
    *b"\xfe\xed\xfa\xce",
    *b"\xfe\xed\xfa\xcf",
    *b"\xce\xfa\xed\xfe",
    *b"\xcf\xfa\xed\xfe",
    *b"\xca\xfe\xba\xbe",
];

fn find_problem(file: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    let mut header = [0; ELF_HEADER_BYTES];
    let mut length = 0;
    while length < header.len() {
        match file.read(&mut header[length..])? {
            0 => break,
            count => length += count,
        }
    }
    if MACOS_MAGICS.iter().any(|magic| header.starts_with(magic)) {
        return Ok(Some("it is a macOS program".to_owned()));
    }
    if !header.starts_with(&ELF_MAGIC) || length < header.len() {
        return Ok(Some("it is not a Linux program (ELF)".to_owned()));
    }
    if header[4] != ELF_CLASS_64 || header[5] != ELF_LITTLE_ENDIAN {
        return Ok(Some("it is not a 64-bit little-endian program".to_owned()));
    }
    let machine = u16::from_le_bytes([header[18], header[19]]);
    if machine != ELF_MACHINE_X86_64 && machine != ELF_MACHINE_AARCH64 {
        return Ok(Some(format!("its machine is number {machine}, neither x86-64 nor aarch64")));
    }
    let mut offset_bytes = [0; 8];
    offset_bytes.copy_from_slice(&header[32..40]);
    let offset = u64::from_le_bytes(offset_bytes);
    let count = u64::from(u16::from_le_bytes([header[56], header[57]]));
    for index in 0..count {
        file.seek(SeekFrom::Start(offset.saturating_add(index * ELF_PROGRAM_HEADER_BYTES)))?;
        let mut kind = [0; 4];
        file.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == ELF_PT_INTERP {
            return Ok(Some("it is dynamically linked".to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn elf(machine: u16, program_header: u32) -> Vec<u8> {
        let mut file = vec![0; 128];
        file[..4].copy_from_slice(&ELF_MAGIC);
        file[4] = ELF_CLASS_64;
        file[5] = ELF_LITTLE_ENDIAN;
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32] = 64;
        file[56] = 1;
        file[64..68].copy_from_slice(&program_header.to_le_bytes());
        file
    }

    fn problem(file: Vec<u8>) -> Option<String> {
        find_problem(&mut Cursor::new(file)).unwrap()
    }

    #[test]
    fn static_linux_programs_pass() {
        assert_eq!(problem(elf(ELF_MACHINE_X86_64, 1)), None);
        assert_eq!(problem(elf(ELF_MACHINE_AARCH64, 1)), None);
    }

    #[test]
    fn others_are_refused_by_what_they_are() {
        assert_eq!(problem(b"\xcf\xfa\xed\xfe....".to_vec()).unwrap(), "it is a macOS program");
        assert_eq!(problem(b"#!/bin/sh\n".to_vec()).unwrap(), "it is not a Linux program (ELF)");
        assert_eq!(problem(elf(ELF_MACHINE_X86_64, ELF_PT_INTERP)).unwrap(), "it is dynamically linked");
        assert_eq!(problem(elf(40, 1)).unwrap(), "its machine is number 40, neither x86-64 nor aarch64");
    }

    #[test]
    fn the_neighbour_comes_before_the_variable_before_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = folder.path().join(name).join("tractorun-init");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (beside, named, on_path) = (place("beside"), place("named"), place("path"));
        let all = |name: &str| match name {
            "TRACTORUN_INIT" => Some(named.clone()),
            "PATH" => Some(folder.path().join("path")),
            _ => None,
        };
        let only_path = |name: &str| all(name).filter(|_| name == "PATH");
        let find = |beside: Option<&Path>, variable: &dyn Fn(&str) -> Option<PathBuf>| {
            Program::Init.find_in(beside, variable).unwrap()
        };
        assert_eq!(find(beside.parent(), &all), beside);
        assert_eq!(find(Some(folder.path()), &all), named);
        assert_eq!(find(None, &only_path), on_path);
    }

    #[test]
    fn errors_say_what_to_do() {
        let nothing = Program::Init.find_in(None, &|_| None).unwrap_err();
        assert_eq!(
            nothing.to_string(),
            "cannot find `tractorun-init`: it is neither beside `tractorun` nor on PATH\n\
             hint: put it beside `tractorun`, or set TRACTORUN_INIT to its path"
        );
        let wrong = Program::Minicluster.find_in(None, &|_| Some("/no/such".into())).unwrap_err();
        assert_eq!(wrong.to_string(), "TRACTORUN_MINICLUSTER names `/no/such`, which is not a file");
    }
}
