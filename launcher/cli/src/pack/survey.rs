//! What packing would find, without packing.

use std::fs::File;
use std::path::Path;

use super::walk::{What, walk};
use super::{Cancel, PackError, Rules, read_error};

/// What would be packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many files.
    pub files: usize,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// What could not travel, one line each.
    pub warnings: Vec<String>,
    /// How many files and folders ignore files keep at home.
    pub ignored: usize,
}

/// Walks `source` as [`super::pack`] does and opens every file, so that whatever packing would refuse is refused.
///
/// Blocks: call it where that is allowed.
pub fn survey(source: &Path, rules: Rules, cancel: &Cancel) -> Result<Survey, PackError> {
    let walked = walk(source, rules, cancel)?;
    let mut survey = Survey { warnings: walked.warnings, ignored: walked.ignored.len(), ..Survey::default() };
    for entry in &walked.entries {
        let What::File { path, size_bytes, .. } = &entry.what else { continue };
        if cancel.is_requested() {
            return Err(PackError::Cancelled);
        }
        File::open(path).map_err(|error| read_error(path, error))?;
        survey.files += 1;
        survey.bytes += size_bytes;
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pack::{IgnoreFiles, PythonCaches};

    #[test]
    fn counts_what_travels_and_finds_what_cannot() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "12345").unwrap();
        fs::write(folder.path().join("b"), "123").unwrap();
        fs::write(folder.path().join(".tractorunignore"), "b\n").unwrap();
        let rules = Rules { python_caches: PythonCaches::Keep, ignore_files: IgnoreFiles::Own };
        let found = survey(folder.path(), rules, &Cancel::default()).unwrap();
        assert_eq!((found.files, found.ignored), (2, 1), "{found:?}");
        assert_eq!(found.bytes, 5 + 2);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        std::os::unix::fs::symlink("/no/such", folder.path().join("in/nowhere")).unwrap();
        let error = survey(folder.path(), rules, &Cancel::default()).unwrap_err();
        assert!(matches!(error, PackError::DanglingLink { .. }), "{error}");
    }
}
