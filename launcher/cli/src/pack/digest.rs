//! Sizes and md5 sums, the names of content in the cluster's file cache.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use md5::{Digest as _, Md5};

use super::Cancel;

/// What the file cache knows content by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Length of the content.
    pub size_bytes: u64,
    /// md5 in lower-case hexadecimal digits.
    pub md5: String,
}

impl Digest {
    /// Of content in memory.
    pub fn of(content: &[u8]) -> Self {
        Self { size_bytes: content.len() as u64, md5: hex(&Md5::digest(content)) }
    }
}

/// Of a file. Blocks.
pub fn digest_file(path: &Path, cancel: &Cancel) -> io::Result<Digest> {
    let mut reader = cancel.reader(File::open(path)?);
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size_bytes = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Digest { size_bytes, md5: hex(&hash.finalize()) }),
            Ok(count) => {
                hash.update(&buffer[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes what it passes on.
pub(super) struct DigestingWriter<W> {
    inner: W,
    hash: Md5,
    size_bytes: u64,
}

impl<W: Write> DigestingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Md5::new(), size_bytes: 0 }
    }

    pub(super) fn finish(mut self) -> io::Result<Digest> {
        self.inner.flush()?;
        Ok(Digest { size_bytes: self.size_bytes, md5: hex(&self.hash.finalize()) })
    }
}

impl<W: Write> Write for DigestingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
