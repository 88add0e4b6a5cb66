//! Log tables, as a reader sees them, and what a worker must have written for it.

use serde_json::Value;
use tractorun_yt::value::{ValueExt, to_json};
use tractorun_yt::{Client, ClientConfig, YsonValue};

use crate::{Cluster, Scratch};

/// A log table, read whole.
#[derive(Debug)]
pub struct LogTable {
    /// Its path.
    pub path: String,
    /// Its rows, in their order.
    pub rows: Vec<Row>,
    /// What init says of it.
    pub record: Value,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the columns of the same names")]
pub struct Row {
    pub datetime: u64,
    pub message: Vec<u8>,
    pub fd: String,
    pub timestamp: u64,
    pub seq: u64,
    pub attempt: u64,
    pub line_end: Option<Vec<u8>>,
    pub dropped_lines: Option<u64>,
    pub dropped_bytes: Option<u64>,
}

/// Writes pieces of what is hard to cut (random bytes, empty lines, progress bars, long lines) to both streams, each
/// in one write, and keeps what it wrote in files. Arguments: pieces, bytes of the largest, seconds between two.
const WRITER: &str = r#"
import os, random, sys, time
pieces, largest, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
name = os.environ.get("RANK") or "sidecar" + os.environ["TRACTORUN_SIDECAR_INDEX"]
chance = random.Random(name)
truth = [open(f"{os.environ['SCRATCH']}/truth.{name}.{fd}", "wb") for fd in ("stdout", "stderr")]
for number in range(pieces):
    kind = chance.randrange(6)
    if kind == 0: piece = chance.randbytes(chance.randrange(largest))
    elif kind == 1: piece = b"\n" * chance.randrange(20)
    elif kind == 2: piece = b"".join(b"\r %d%%" % percent for percent in range(chance.randrange(100)))
    elif kind == 3: piece = b"x" * chance.randrange(largest)
    else: piece = b"".join(b"line %d of %s%s" % (number, name.encode(), chance.choice([b"\n", b"\r\n"])) for _ in range(chance.randrange(50)))
    fd = chance.randrange(2)
    truth[fd].write(piece); truth[fd].flush()
    view = memoryview(piece)
    while view: view = view[os.write(fd + 1, view):]
    if pause: time.sleep(pause)
"#;

/// The command of that writer; its arguments are pieces, bytes of the largest, seconds between two.
pub fn writer(scratch: &Scratch, arguments: &str) -> String {
    let path = scratch.file("writer.py", WRITER);
    format!("exec python3 {} {arguments}", path.display())
}

/// A client of that cluster.
pub fn client(cluster: &Cluster) -> Client {
    let config = ClientConfig::new(&cluster.proxy(), None).expect("the proxy is an address");
    Client::new(config).expect("a client can be made")
}

/// Runs what a test awaits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

impl LogTable {
    /// Reads a table.
    #[track_caller]
    pub fn read(cluster: &Cluster, path: &str) -> Self {
        let rows = block_on(client(cluster).read_table(path)).expect("the table can be read");
        let rows = rows.iter().map(Row::of).collect();
        Self { path: path.to_owned(), rows, record: cluster.get(&format!("{path}/@tractorun_log")) }
    }

    /// What the rows of one stream say that the process wrote.
    pub fn stream(&self, fd: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in self.lines().filter(|row| row.fd == fd) {
            bytes.extend_from_slice(&row.message);
            bytes.extend_from_slice(row.line_end.as_deref().unwrap_or(b"\n"));
        }
        bytes
    }

    /// The rows that hold lines of the process.
    pub fn lines(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.dropped_lines.is_none())
    }

    /// Rows are numbered by their place, in the order of time.
    #[track_caller]
    pub fn assert_numbered(&self) {
        for (index, row) in self.rows.iter().enumerate() {
            assert_eq!(row.seq, index as u64, "{}: {row:?}", self.path);
            assert_eq!(row.datetime, row.timestamp / 1_000_000);
        }
        assert!(
            self.rows.is_sorted_by_key(|row| if row.dropped_lines.is_some() { 0 } else { row.timestamp })
                || self.rows.iter().any(|row| row.dropped_lines.is_some())
        );
    }

    /// What init recorded is what is there, and nothing was left behind.
    #[track_caller]
    pub fn assert_complete(&self) {
        self.assert_numbered();
        let count = |key: &str| self.record[key].as_u64().unwrap_or_else(|| panic!("{key}: {}", self.record));
        let length = |row: &Row| row.message.len() + row.line_end.as_ref().map_or(1, Vec::len);
        let sum = |of: fn(&Row) -> Option<u64>| self.rows.iter().filter_map(of).sum::<u64>();
        assert_eq!(self.record["state"], "closed", "{}", self.path);
        assert_eq!(count("rows"), self.rows.len() as u64);
        assert_eq!(count("lines"), self.lines().count() as u64);
        assert_eq!(count("bytes"), self.lines().map(length).sum::<usize>() as u64);
        assert_eq!(count("dropped_lines"), sum(|row| row.dropped_lines));
        assert_eq!(count("dropped_bytes"), sum(|row| row.dropped_bytes));
        assert_eq!((count("unshipped_lines"), count("unshipped_bytes")), (0, 0));
    }

    /// It holds what the writer of that name kept, all of it.
    #[track_caller]
    pub fn assert_truth(&self, scratch: &Scratch, name: &str) {
        self.assert_complete();
        for fd in ["stdout", "stderr"] {
            let truth =
                std::fs::read(scratch.path(&format!("truth.{name}.{fd}"))).expect("the writer keeps it");
            assert!(!truth.is_empty());
            assert!(self.stream(fd) == truth, "{}: {fd} is not what was written", self.path);
        }
    }
}

impl Row {
    /// A row as the cluster gives it.
    pub fn of(row: &YsonValue) -> Self {
        let number = |key: &str| row.get(key).and_then(ValueExt::as_uint);
        let bytes = |key: &str| row.get(key).and_then(ValueExt::as_bytes).map(<[u8]>::to_vec);
        let needed = |value: Option<u64>| value.unwrap_or_else(|| panic!("{:?}", to_json(row)));
        Self {
            datetime: needed(number("datetime")),
            message: bytes("message").expect("a row has a message"),
            fd: String::from_utf8(bytes("fd").expect("a row has an fd")).expect("it is a word"),
            timestamp: needed(number("timestamp")),
            seq: needed(number("seq")),
            attempt: needed(number("attempt")),
            line_end: bytes("line_end"),
            dropped_lines: number("dropped_lines"),
            dropped_bytes: number("dropped_bytes"),
        }
    }
}
