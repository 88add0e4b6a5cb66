//! Where an archive is cut.
//!
//! An archive is one tar stream in one or more files, its parts: consecutive pieces, each compressed for itself.
//! zstd frames that follow each other read as one stream, so init only chains the files. Small pieces pay:
//! an upload that breaks off goes on with the next part, parts are packed and sent side by side, and one changed
//! byte changes one part, so the file cache has all the others.
//!
//! For that the cuts must not move when something before them changes its size: beyond a quarter of the wanted
//! size a cut comes before an entry whose name says so by its hash, wherever that falls. Only where no such name
//! comes does the size decide. Files larger than a part are cut at fixed offsets.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::walk::{Entry, What};

/// Size of a part that is aimed at, before compression: a second or so of a fast line.
pub(super) const PART_BYTES: u64 = 64 << 20;

/// The cluster is asked for each part, and each is a file of the sandbox: not too many of them.
const MAX_PARTS: u64 = 256;

/// Of so many entries one is a place to cut before.
const CUT_ONE_IN: u64 = 64;

/// What an entry costs besides its content: its header, and for an empty file that is all.
const ENTRY_BYTES: u64 = 512;

/// A piece of an archive: of these entries all there is, or of a large file a range of its bytes. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) pieces: Vec<Piece>,
}

/// An entry, or a range of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which entry.
    pub(super) entry: usize,
    /// Which bytes of its content; the header goes before the first, the padding after the last.
    pub(super) content: Range<u64>,
}

/// Cuts an archive into parts of about `part_bytes`, more if there were too many.
pub(super) fn cut(entries: &[Entry], part_bytes: u64) -> Vec<Part> {
    let total: u64 = entries.iter().map(size).sum();
    let wanted = part_bytes.max(total.div_ceil(MAX_PARTS));
    let mut parts = Vec::new();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut filled = 0;
    for (index, entry) in entries.iter().enumerate() {
        let size = size(entry);
        // Less than a quarter is not worth a part of its own, whatever follows.
        if filled >= wanted / 4 && (filled + size > wanted || is_cut(&entry.name)) && !pieces.is_empty() {
            parts.push(Part { pieces: std::mem::take(&mut pieces) });
            filled = 0;
        }
        let mut content = 0..content_bytes(entry);
        // Too large for one part: it fills several, and its rest begins one.
        while content.end - content.start > wanted {
            let middle = content.start + wanted;
            pieces.push(Piece { entry: index, content: content.start..middle });
            parts.push(Part { pieces: std::mem::take(&mut pieces) });
            (content.start, filled) = (middle, 0);
        }
        filled += content.end - content.start + ENTRY_BYTES;
        pieces.push(Piece { entry: index, content });
    }
    parts.push(Part { pieces });
    parts
}

fn content_bytes(entry: &Entry) -> u64 {
    match entry.what {
        What::File { size_bytes, .. } => size_bytes,
        What::Folder | What::Link(_) => 0,
    }
}

fn size(entry: &Entry) -> u64 {
    content_bytes(entry) + ENTRY_BYTES
}

/// Whether a name is one to cut before: FNV-1a, which is the same on every machine and in every release.
fn is_cut(name: &Path) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.as_os_str().as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // Names that differ in their last byte alone differ in few bits of that; this spreads them over all.
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32).is_multiple_of(CUT_ONE_IN)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, size_bytes: u64) -> Entry {
        let name = PathBuf::from(name);
        Entry { what: What::File { path: name.clone(), size_bytes, mode: 0o644 }, name }
    }

    fn many(count: usize, size_bytes: u64) -> Vec<Entry> {
        (0..count).map(|number| file(&format!("root/file-{number:05}"), size_bytes)).collect()
    }

    /// What a part holds, by names, to be compared across archives.
    fn names(entries: &[Entry], parts: &[Part]) -> Vec<Vec<PathBuf>> {
        let name = |piece: &Piece| entries[piece.entry].name.clone();
        parts.iter().map(|part| part.pieces.iter().map(name).collect()).collect()
    }

    #[test]
    fn what_is_small_is_one_part() {
        assert_eq!(cut(&many(50, 100), PART_BYTES).len(), 1);
    }

    #[test]
    fn a_large_file_is_cut_at_fixed_offsets() {
        let entries = [file("root", 250)];
        let ranges: Vec<_> =
            cut(&entries, 100).into_iter().map(|part| part.pieces[0].content.clone()).collect();
        assert_eq!(ranges, [0..100, 100..200, 200..250]);
    }

    #[test]
    fn a_new_file_changes_few_parts() {
        let before = many(20_000, 50_000);
        let mut after = before.clone();
        after.insert(7_000, file("root/file-06999b", 50_000));
        let (before, after) =
            (names(&before, &cut(&before, PART_BYTES)), names(&after, &cut(&after, PART_BYTES)));
        let changed = after.iter().filter(|part| !before.contains(part)).count();
        assert!(before.len() > 20, "{}", before.len());
        assert!(changed <= 2, "{changed} of {} parts changed", after.len());
    }

    proptest! {
        /// Every byte of every entry is in exactly one part, in order, and no part is empty.
        #[test]
        fn nothing_is_lost(sizes in prop::collection::vec(0_u64..3_000, 1..60), part_bytes in 1_u64..4_000) {
            let entries: Vec<_> =
                sizes.iter().enumerate().map(|(number, size)| file(&format!("root/{number}"), *size)).collect();
            let parts = cut(&entries, part_bytes);
            let mut pieces = parts.iter().flat_map(|part| part.pieces.clone());
            for (index, size) in sizes.iter().enumerate() {
                let mut at = 0;
                loop {
                    let piece = pieces.next().unwrap();
                    prop_assert_eq!((piece.entry, piece.content.start), (index, at));
                    at = piece.content.end;
                    if at == *size {
                        break;
                    }
                }
            }
            prop_assert!(pieces.next().is_none());
            prop_assert!(parts.iter().all(|part| !part.pieces.is_empty()));
        }
    }
}
