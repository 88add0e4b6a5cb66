//! Canaries: made-up secrets that are easy to find wherever they should not be.
//!
//! A search finds a canary as it is, cut off behind its beginning, in Base64 wherever it begins, in hexadecimal digits,
//! and in what is compressed by zstd: a secret that is "only encoded" is shown.

use std::fs;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem;

/// What all canaries begin with, so that one search tells whether any of them is there.
const MARKER: &str = "cNqZ7wXk";

/// How much of a canary is enough to recognise it: what is shown of a long value is often its beginning.
const BEGINNING_BYTES: usize = 14;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A made-up secret.
#[derive(Debug, Clone)]
pub struct Canary {
    /// What it is the secret of.
    pub name: &'static str,
    value: String,
    needles: Vec<Vec<u8>>,
}

/// All canaries of a test.
#[derive(Debug, Clone)]
pub struct Canaries(pub Vec<Canary>);

impl Canary {
    /// The canary of that name; another name is another value.
    pub fn new(name: &'static str) -> Self {
        // FNV-1a, and its last step's high bits mixed in: names of one letter must differ soon.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let value = format!("{MARKER}{hash:016X}-{name}-never-to-be-seen");
        let needles = forms(&value.as_bytes()[..BEGINNING_BYTES]);
        Self { name, value, needles }
    }

    /// The secret itself.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// How often the bytes hold it, as it is.
    pub fn count_in(&self, bytes: &[u8]) -> usize {
        memmem::find_iter(bytes, &self.value[..BEGINNING_BYTES]).count()
    }
}

impl Canaries {
    /// A canary of each name.
    pub fn new(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| Canary::new(name)).collect())
    }

    /// The secret of that name.
    pub fn value(&self, name: &str) -> &str {
        self.0.iter().find(|canary| canary.name == name).unwrap_or_else(|| panic!("no canary {name}")).value()
    }

    /// All but these.
    #[must_use]
    pub fn but(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|canary| !names.contains(&canary.name)).cloned().collect())
    }

    /// Names of those that the bytes hold.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let unpacked = unpacked(bytes);
        let texts = || [bytes].into_iter().chain(unpacked.as_deref());
        let holds = |needles: &[Vec<u8>]| {
            texts().any(|text| needles.iter().any(|needle| memmem::find(text, needle).is_some()))
        };
        // One look instead of one for each: most of what is searched is large and holds nothing.
        if !holds(&forms(MARKER.as_bytes())) {
            return Vec::new();
        }
        self.0.iter().filter(|canary| holds(&canary.needles)).map(|canary| canary.name).collect()
    }

    /// Checks that none is in the bytes.
    #[track_caller]
    pub fn assert_none_in(&self, what: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let found = self.found_in(bytes);
        assert!(found.is_empty(), "{what} shows {found:?}:\n{}", String::from_utf8_lossy(bytes));
    }

    /// Files below a folder that hold one, with its name; `but` is the name of folders that are not looked into.
    pub fn files_with_any(&self, folder: &Path, but: &str) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && entry.file_name() != but {
                found.extend(self.files_with_any(&path, but));
            } else if kind.is_file() {
                let content = fs::read(&path).unwrap_or_default();
                found.extend(
                    self.found_in(&content).into_iter().map(|name| (path.display().to_string(), name)),
                );
            }
        }
        found
    }
}

/// What a text looks like that holds these bytes.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let base64 = (0..3).map(|shift| base64_within(bytes, shift));
    [bytes.to_vec(), hexadecimal(bytes)].into_iter().chain(base64).collect()
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// What of the Base64 text of something that holds these bytes depends on nothing but them, where `shift` bytes (plus
/// any multiple of three) stand before them.
fn base64_within(bytes: &[u8], shift: usize) -> Vec<u8> {
    let shifted = [&[0; 2][..shift], bytes].concat();
    let text = STANDARD_NO_PAD.encode(&shifted).into_bytes();
    // The first and the last letters mix with neighbours.
    text[if shift == 0 { 0 } else { shift + 1 }..text.len() - 1].to_vec()
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    if bytes.starts_with(&ZSTD_MAGIC) {
        // What can be unpacked of a damaged file counts, too.
        let _ = zstd::Decoder::new(bytes).ok()?.read_to_end(&mut unpacked);
    }
    (!unpacked.is_empty()).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn a_canary_is_found_in_every_form() {
        let canaries = Canaries::new(&["a", "b"]);
        let value = canaries.value("a");
        assert_eq!(canaries.0[0].count_in(format!("{value} {value}").as_bytes()), 2);
        for before in ["", "x", "xy", "user:"] {
            let text = format!("{before}{value}");
            for form in [
                text.clone().into_bytes(),
                text.as_bytes()[..text.len() - 20].to_vec(),
                STANDARD_NO_PAD.encode(&text).into_bytes(),
                hexadecimal(text.as_bytes()),
                zstd::encode_all(text.as_bytes(), 1).expect("it can be packed"),
            ] {
                assert_eq!(canaries.found_in(&form), ["a"], "{}", String::from_utf8_lossy(&form));
            }
        }
        assert!(canaries.found_in(b"nothing of it").is_empty());
    }

    #[test]
    fn a_file_that_holds_one_is_found() {
        let scratch = Scratch::new();
        let canaries = Canaries::new(&["a", "b"]);
        let file = scratch.file("deep/er/file", format!("before{}after", canaries.value("b")));
        scratch.file("given/file", canaries.value("a"));
        let found = canaries.files_with_any(&scratch.path(""), "given");
        assert_eq!(found, [(file.display().to_string(), "b")]);
        assert_eq!(canaries.but(&["b"]).files_with_any(&scratch.path(""), "given"), []);
    }
}
