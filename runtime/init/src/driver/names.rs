//! What processes are called, where a person is told of them.

use std::fs;
use std::path::Path;

use tractorun_sys::{Pid, tree};

/// Processes that are named; of more there is the number.
const NAMED: usize = 5;

/// Who lives of the tree but these, what descends from them and what is of their session; nothing if nobody does.
pub(super) fn of_others(spared: &[Pid]) -> Option<String> {
    let others = tree::others(spared);
    let mut names: Vec<String> =
        others.iter().take(NAMED).map(|process| name(Path::new("/proc"), process.pid)).collect();
    if let Some(more @ 1..) = others.len().checked_sub(NAMED) {
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// `pid 312 (python3 upload.py)`: the program, and its first argument if that is a file, which tells one interpreter from
/// another. No other argument: it may be a secret.
fn name(proc: &Path, pid: Pid) -> String {
    let folder = proc.join(pid.to_string());
    let program = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let program = program.trim_end_matches('\n');
    let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
    let script = arguments.split(|byte| *byte == 0).nth(1).and_then(|word| std::str::from_utf8(word).ok());
    let script = script.filter(|word| !word.is_empty() && !word.starts_with('-'));
    // Relative to where it runs.
    let script = script.filter(|word| folder.join("cwd").join(word).is_file());
    let script = script.map(|word| format!(" {word}")).unwrap_or_default();
    if program.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({program}{script})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_and_no_other_argument_is() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("7");
        fs::create_dir_all(folder.join("cwd")).unwrap();
        fs::write(folder.join("cwd/upload.py"), "").unwrap();
        fs::write(folder.join("comm"), "python3\n").unwrap();
        let pid = Pid::from_raw(7).unwrap();
        for (cmdline, expected) in [
            (&b"python3\0upload.py\0--token=s3cret\0"[..], "pid 7 (python3 upload.py)"),
            (b"python3\0s3cret\0", "pid 7 (python3)"),
            (b"python3\0--token=s3cret\0", "pid 7 (python3)"),
            (b"", "pid 7 (python3)"),
        ] {
            fs::write(folder.join("cmdline"), cmdline).unwrap();
            assert_eq!(name(proc.path(), pid), expected);
        }
        // Who ended meanwhile.
        assert_eq!(name(proc.path(), Pid::from_raw(8).unwrap()), "pid 8");
    }
}
