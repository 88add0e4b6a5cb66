//! A spool file: which frames of which tables are in it, whatever became of the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tractorun_contract::logs::spool::{FileHeader, FrameHeader, MAGIC, VERSION};

use super::SpoolError;
use super::frames::{Frame, Frames};

/// A longer first line is none.
const MOST_HEADER_BYTES: u64 = 16 << 20;

/// A longer frame is none: init closes blocks that are much shorter.
const MOST_FRAME_BYTES: u32 = 64 << 20;

/// Bytes that are looked through at a time where there is no frame.
const WINDOW: usize = 64 << 10;

/// A spool file.
#[derive(Debug)]
pub(super) struct SpoolFile {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    pub(super) file: Arc<File>,
    frames: BTreeMap<u32, Vec<Frame>>,
    /// By table: how many lines and bytes its process wrote in all, where init said so.
    ends: BTreeMap<u32, (u64, u64)>,
    /// Bytes that are neither frames nor zeros.
    pub(super) damaged_bytes: u64,
}

// === impl SpoolFile ===

impl SpoolFile {
    /// Reads what there is.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Read { path: path.to_owned(), source };
        let not_one = || SpoolError::NotASpool { path: path.to_owned() };
        let file = File::open(path).map_err(failed)?;
        let mut first_line = Vec::new();
        io::Read::take(BufReader::new(&file), MOST_HEADER_BYTES)
            .read_until(b'\n', &mut first_line)
            .map_err(failed)?;
        let version = serde_json::from_slice::<serde_json::Value>(&first_line).map_err(|_| not_one())?;
        let version = version["tractorun_spool"].as_u64().ok_or_else(not_one)?;
        if version != u64::from(VERSION) {
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            return Err(SpoolError::Version { path: path.to_owned(), version });
        }
        let header = serde_json::from_slice(&first_line).map_err(|_| not_one())?;
        let mut spool = Self {
            path: path.to_owned(),
            header,
            file: Arc::new(file),
            frames: BTreeMap::new(),
            ends: BTreeMap::new(),
            damaged_bytes: 0,
        };
        spool.scan(first_line.len() as u64).map_err(failed)?;
        for frames in spool.frames.values_mut() {
            frames.sort_by_key(|frame| frame.header.lines_before);
        }
        Ok(spool)
    }

    /// What is in it of a table.
    pub(super) fn frames(&self, table: usize) -> Frames {
        let frames = u32::try_from(table).ok().and_then(|table| self.frames.get(&table));
        Frames::new(Arc::clone(&self.file), frames.cloned().unwrap_or_default())
    }

    /// How many lines and bytes a table's process wrote in all, if init has lived to say so.
    pub(super) fn end(&self, table: usize) -> Option<(u64, u64)> {
        self.ends.get(&u32::try_from(table).ok()?).copied()
    }

    /// Finds all whole frames behind `at`.
    fn scan(&mut self, mut at: u64) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        while at < length {
            if let Some(frame) = self.frame(at)? {
                at = frame.offset + u64::from(frame.header.length);
                let FrameHeader { table, lines_before, bytes_before, lines, .. } = frame.header;
                if lines == 0 {
                    self.ends.insert(table, (lines_before, bytes_before));
                } else {
                    self.frames.entry(table).or_default().push(frame);
                }
            } else {
                at = self.skip(at)?;
            }
        }
        Ok(())
    }

    /// The frame that begins there, if one does and all of it is there.
    fn frame(&self, at: u64) -> io::Result<Option<Frame>> {
        let mut bytes = [0; FrameHeader::BYTES];
        if !read_whole(&self.file, &mut bytes, at)? {
            return Ok(None);
        }
        let Some(header) = FrameHeader::decode(&bytes) else { return Ok(None) };
        if header.length > MOST_FRAME_BYTES || header.table as usize >= self.header.tables.len() {
            return Ok(None);
        }
        let offset = at + FrameHeader::BYTES as u64;
        let mut payload = vec![0; header.length as usize];
        let is_whole =
            read_whole(&self.file, &mut payload, offset)? && FrameHeader::is_whole(&bytes, &payload);
        Ok(is_whole.then_some(Frame { header, offset }))
    }

    /// Where the next frame may begin behind a place where none does. What is skipped is what init has given back,
    /// which is zeros, or is damaged.
    fn skip(&mut self, at: u64) -> io::Result<u64> {
        let mut window = vec![0; WINDOW];
        let count = self.file.read_at(&mut window, at)?;
        let window = &window[..count];
        let next =
            (1..count).find(|index| window[*index..].iter().zip(&MAGIC).all(|(byte, magic)| byte == magic));
        let skipped = &window[..next.unwrap_or(count)];
        self.damaged_bytes += skipped.iter().filter(|byte| **byte != 0).count() as u64;
        Ok(at + skipped.len().max(1) as u64)
    }
}

/// Fills a buffer from there; `false` where the file ends before.
pub(super) fn read_whole(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tractorun_contract::logs::Stream;
    use tractorun_contract::logs::spool::Record;

    use super::*;

    /// Paths of the tables of files in tests.
    pub(in crate::logs::spool) const TABLES: [&str; 2] = ["//r/logs/0/workers/0", "//r/logs/0/workers/1"];

    pub(in crate::logs::spool) fn header() -> Vec<u8> {
        let tables = TABLES.map(str::to_owned).to_vec();
        let header = FileHeader { tractorun_spool: 1, node_rank: 0, job_id: "job".to_owned(), tables };
        let mut bytes = serde_json::to_vec(&header).unwrap();
        bytes.push(b'\n');
        bytes
    }

    /// The frame of these lines of stdout.
    pub(in crate::logs::spool) fn frame(table: u32, lines_before: u64, text: &str) -> Vec<u8> {
        let mut payload = Vec::new();
        let record = Record { stream: Stream::Stdout, attempt: 1, time_us: 1_000_000 * lines_before };
        if !text.is_empty() {
            record.write(text.as_bytes(), b"", &mut payload);
        }
        let header = FrameHeader {
            table,
            lines_before,
            bytes_before: 2 * lines_before,
            lines: text.matches('\n').count() as u64,
            bytes: text.len() as u64,
            length: u32::try_from(payload.len()).unwrap(),
        };
        [&header.encode(&payload)[..], &payload].concat()
    }

    pub(in crate::logs::spool) fn open(content: &[u8]) -> Result<SpoolFile, SpoolError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        std::fs::write(&path, content).unwrap();
        SpoolFile::open(&path)
    }

    /// Lines before and lines of each frame of a table.
    fn shape(file: &SpoolFile, table: u32) -> Vec<(u64, u64)> {
        let frames = file.frames.get(&table).into_iter().flatten();
        frames.map(|frame| (frame.header.lines_before, frame.header.lines)).collect()
    }

    #[test]
    fn frames_are_found_by_table_and_in_order_and_holes_are_nothing() {
        let hole = vec![0; 100_000];
        let parts = [
            header(),
            hole.clone(),
            frame(1, 3, "d\n"),
            frame(0, 7, "x\ny\n"),
            hole,
            frame(1, 0, "a\nb\nc\n"),
        ];
        let mut content = parts.concat();
        content.extend(frame(1, 4, ""));
        let file = open(&content).unwrap();
        assert_eq!((shape(&file, 0), shape(&file, 1)), (vec![(7, 2)], vec![(0, 3), (3, 1)]));
        assert_eq!((file.end(0), file.end(1), file.damaged_bytes), (None, Some((4, 8)), 0));
        let lines = file.frames(1);
        let texts: Vec<Vec<u8>> = (0..2)
            .flat_map(|index| lines.lines(index).unwrap())
            .map(|line| line.message().to_vec())
            .collect();
        assert_eq!(texts, [b"a", b"b", b"c", b"d"]);
    }

    /// Wherever an init is killed while it writes, what was whole before is read.
    #[test]
    fn a_torn_end_takes_nothing_else_along() {
        let whole = [header(), frame(0, 0, "one\n")].concat();
        let torn = frame(0, 1, "two\n");
        for length in 0..torn.len() {
            let file = open(&[&whole, &torn[..length]].concat()).unwrap();
            assert_eq!(shape(&file, 0), [(0, 1)], "{length}");
            let nonzero = torn[..length].iter().filter(|byte| **byte != 0).count();
            assert_eq!(file.damaged_bytes, nonzero as u64);
        }
        // The same where the machine fell, and the file system has made the end zeros.
        for length in FrameHeader::BYTES..torn.len() {
            let mut end = torn.clone();
            end[length..].fill(0);
            assert_eq!(shape(&open(&[&whole[..], &end].concat()).unwrap(), 0), [(0, 1)], "{length}");
        }
    }

    #[test]
    fn damage_in_the_middle_costs_one_frame() {
        let mut damaged = frame(0, 1, "two\n");
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let file = open(&[header(), frame(0, 0, "one\n"), damaged, frame(0, 2, "three\n")].concat()).unwrap();
        assert_eq!(shape(&file, 0), [(0, 1), (2, 1)]);
        assert!(file.damaged_bytes > 0);
        // Of a table that there is none of.
        let file = open(&[header(), frame(7, 0, "one\n")].concat()).unwrap();
        assert!(file.frames.is_empty() && file.damaged_bytes > 0);
    }

    #[test]
    fn other_files_are_told() {
        for other in [b"".as_slice(), b"\n", b"{}\n", b"{\"tractorun_spool\":1}\n", &[0xff; 100]] {
            let error = open(other).unwrap_err().to_string();
            assert!(error.contains("is not a spool\nhint: a node leaves it as"), "{error}");
        }
        let error = open(b"{\"tractorun_spool\":2}\n").unwrap_err().to_string();
        assert!(error.ends_with("is a spool of version 2; this tractorun reads version 1"), "{error}");
    }
}
