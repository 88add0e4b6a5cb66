//! The file of a saved environment: `tractorun-env 1`, then `NAME=value` for each variable, sorted, each followed by a
//! zero byte.
//!
//! A variable can hold any byte but zero, so nothing needs to be escaped: newlines, quotes and names that are not UTF-8
//! come back as they were. To look at one: `tr '\0' '\n' </etc/tractorun/env`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NAME: &str = "tractorun-env ";
const VERSION: &str = "1";

/// Why a file was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Something else.
    #[error("was not written by `tractorun-init save-env`")]
    NotOurs,
    /// Written by another release.
    #[error("has version {0}, expected {VERSION}")]
    OtherVersion(String),
    /// Not all of it is there.
    #[error("is cut off or damaged")]
    Damaged,
}

/// Writes the file, readable by all, since a job may run as anybody.
pub(super) fn write(path: &Path, variables: &BTreeMap<&OsStr, &OsStr>) -> io::Result<()> {
    let mut bytes = format!("{NAME}{VERSION}\0").into_bytes();
    for (name, value) in variables {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A build that is cut off must not leave half a file.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
    file.write_all(&bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&unfinished, path)
}

/// The variables of a file, in its order.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(OsString, OsString)>, FormatError> {
    let version = bytes.strip_prefix(NAME.as_bytes()).ok_or(FormatError::NotOurs)?;
    let records = version.strip_suffix(&[0]).ok_or(FormatError::Damaged)?;
    let mut records = records.split(|byte| *byte == 0);
    let version = records.next().unwrap_or_default();
    if version != VERSION.as_bytes() {
        return Err(FormatError::OtherVersion(String::from_utf8_lossy(version).into_owned()));
    }
    records.map(|record| variable(record).ok_or(FormatError::Damaged)).collect()
}

fn variable(record: &[u8]) -> Option<(OsString, OsString)> {
    let end = record.iter().position(|byte| *byte == b'=').filter(|end| *end > 0)?;
    Some((OsString::from_vec(record[..end].to_vec()), OsString::from_vec(record[end + 1..].to_vec())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_a_whole_file_of_this_version_is_refused() {
        for (bytes, expected) in [
            (&b""[..], FormatError::NotOurs),
            (b"PATH=/bin\n", FormatError::NotOurs),
            (b"tractorun-env 2\0A=1\0", FormatError::OtherVersion("2".into())),
            (b"tractorun-env 1", FormatError::Damaged),
            (b"tractorun-env 1\0A=1", FormatError::Damaged),
            (b"tractorun-env 1\0A\0", FormatError::Damaged),
            (b"tractorun-env 1\0=1\0", FormatError::Damaged),
            (b"tractorun-env 1\0A=1\0\0", FormatError::Damaged),
        ] {
            assert_eq!(parse(bytes), Err(expected), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse(b"tractorun-env 1\0"), Ok(Vec::new()));
    }

    proptest! {
        /// Names have any byte but zero and `=`, values any but zero.
        #[test]
        fn any_environment_comes_back(
            variables in prop::collection::btree_map(
                prop::collection::vec((1..=255_u8).prop_filter("no =", |byte| *byte != b'='), 1..9),
                prop::collection::vec(1..=255_u8, 0..30),
                0..9,
            )
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a/b");
            let variables: BTreeMap<OsString, OsString> = variables
                .into_iter()
                .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
                .collect();
            let borrowed = variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect();
            write(&path, &borrowed).unwrap();
            let back = parse(&fs::read(&path).unwrap()).unwrap();
            prop_assert_eq!(back, variables.into_iter().collect::<Vec<_>>());
        }
    }
}
