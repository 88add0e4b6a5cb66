//! The lines of many processes on one pipe, as they come.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tractorun_tests::process::DEADLINE;

/// Processes that write to one pipe, which is read here.
pub(crate) struct Group {
    writer: Option<PipeWriter>,
    reader: BufReader<PipeReader>,
    children: Children,
}

impl Group {
    pub(crate) fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        Self { writer: Some(writer), reader: BufReader::new(reader), children: Children(Vec::new()) }
    }

    /// Starts a process whose stderr is the pipe.
    pub(crate) fn start(&mut self, command: &mut Command) -> u32 {
        let writer = self.writer.as_ref().expect("not closed yet").try_clone().expect("a pipe can be shared");
        self.start_with(command, writer.into())
    }

    /// Starts a process that nobody reads.
    pub(crate) fn start_silent(&mut self, command: &mut Command) -> u32 {
        self.start_with(command, Stdio::null())
    }

    fn start_with(&mut self, command: &mut Command, stderr: Stdio) -> u32 {
        // The end of its stdin, which comes with our own, is an init's end too.
        let child = command
            .env("TRACTORUN_LIFELINE", "stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = child.id();
        self.children.0.push(child);
        // The command holds a copy of the pipe.
        command.stderr(Stdio::null());
        pid
    }

    /// Reads until so many lines with the text have come.
    pub(crate) fn wait_for(&mut self, text: &str, count: usize) {
        let (mut found, mut tail) = (0, Vec::new());
        while found < count {
            let mut line = String::new();
            let length = self.reader.read_line(&mut line).expect("lines are UTF-8");
            tail.push(line.trim_end().to_owned());
            if tail.len() > 20 {
                tail.remove(0);
            }
            assert!(length > 0, "the processes ended without {count} times `{text}`:\n{}", tail.join("\n"));
            found += usize::from(line.contains(text));
        }
    }

    /// Whether one of them has ended.
    pub(crate) fn is_short(&mut self) -> bool {
        self.children.0.iter_mut().any(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Reads on by itself, whatever comes.
    pub(crate) fn drain(mut self) -> Drained {
        self.writer = None;
        let Self { mut reader, children, .. } = self;
        let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Drained { reading, children }
    }

    /// Kills all, with nothing below them left, and waits for them.
    pub(crate) fn kill(mut self) {
        for child in &mut self.children.0 {
            child.kill().expect("our own child");
        }
        self.end();
    }

    /// Reads to the end and waits for all; gives their exit codes.
    pub(crate) fn end(mut self) -> Vec<Option<i32>> {
        self.writer = None;
        let mut line = String::new();
        while self.reader.read_line(&mut line).expect("lines are UTF-8") > 0 {
            line.clear();
        }
        self.children.0.iter_mut().map(|child| child.wait().expect("our own child").code()).collect()
    }
}

/// Processes of which none is left where a measurement fails.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.iter().filter(|_| std::thread::panicking()) {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }
}

/// Processes whose lines nobody wants to see any more.
pub(crate) struct Drained {
    reading: JoinHandle<std::io::Result<u64>>,
    children: Children,
}

impl Drained {
    /// Waits for all.
    pub(crate) fn end(mut self) {
        for child in &mut self.children.0 {
            child.wait().expect("our own child");
        }
        self.reading.join().expect("reading does not panic").expect("the pipe can be read");
    }
}

/// Looks again and again until there is something, without resting: what is waited for is measured.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
