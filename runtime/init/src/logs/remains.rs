//! What could not be shipped: a file for each table, with rows as the cluster takes them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::rows::Encoder;
use super::spool::Reader;
use super::store::Lot;

/// Writes the rows of a lot to a file of its own; gives its path.
pub(super) fn keep(folder: &Path, name: &str, lot: &Lot, reader: &Reader) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{name}.yson"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    for piece in Encoder::new(lot.blocks.clone(), reader.clone(), lot.first_seq) {
        file.write_all(&piece?)?;
    }
    Ok(path)
}
