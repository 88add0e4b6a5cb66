//! Processes with deadlines: started, listened to, signalled, waited for, and killed when the test is over.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pty_process::blocking::Pty;

use crate::screen::{COLUMNS, ROWS};

/// How long anything may take. Generous, because two cores may be busy with much else: it bounds hangs and
/// measures nothing.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Pause between two looks at something that announces itself to nobody, such as `/proc`.
pub const POLL: Duration = Duration::from_millis(10);

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What it was.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to its stdout.
    pub stdout: String,
    /// All that it wrote to its stderr.
    pub stderr: String,
}

/// A process that runs, with its output as it comes.
pub struct Running {
    command: String,
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    terminal: Option<Arc<Pty>>,
}

#[derive(Default)]
struct Output {
    texts: Mutex<Texts>,
    changed: Condvar,
}

#[derive(Default)]
struct Texts {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: u8,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Finished {
    Running::start(command).wait()
}

impl Running {
    /// Starts a command with its output captured and, unless the caller said otherwise, without input.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_stdin(command)
    }

    /// Starts a command with its output captured; its input is the caller's business.
    pub fn start_with_stdin(command: &mut Command) -> Self {
        let text = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        let output = Arc::new(Output::default());
        output.texts.lock().expect("not poisoned").open = 2;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![
            collect(stdout, Arc::clone(&output), Stream::Stdout),
            collect(stderr, Arc::clone(&output), Stream::Stderr),
        ];
        Self { command: text, child, output, readers, terminal: None }
    }

    /// Starts a command on a terminal of its own, as a person's shell does. What it writes there is its stdout.
    pub fn start_on_terminal(command: &Command) -> Self {
        let text = format!("{command:?}");
        let (pty, pts) = pty_process::blocking::open().expect("there are terminals");
        pty.resize(pty_process::Size::new(ROWS, COLUMNS)).expect("a terminal takes a size");
        let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut started = pty_process::blocking::Command::new(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(variables);
        if let Some(folder) = command.get_current_dir() {
            started = started.current_dir(folder);
        }
        let child = started.spawn(pts).unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        let pty = Arc::new(pty);
        let output = Arc::new(Output::default());
        output.texts.lock().expect("not poisoned").open = 1;
        let readers = vec![collect(Screen(Arc::clone(&pty)), Arc::clone(&output), Stream::Stdout)];
        Self { command: text, child, output, readers, terminal: Some(pty) }
    }

    /// Ctrl-C: typed where there is a terminal, else its signal.
    pub fn interrupt(&self) {
        match self.terminal {
            Some(_) => self.type_in("\x03"),
            None => self.signal(Signal::SIGINT),
        }
    }

    /// Types on its terminal; `\x03` is Ctrl-C.
    pub fn type_in(&self, keys: &str) {
        let mut terminal = self.terminal.as_deref().expect("it was started on a terminal");
        terminal.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Id of the process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// The pipe to its stdin, if it has one.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("stdin is piped")
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal)
            .expect("the process is not waited for yet, so its id is its own");
    }

    /// Waits until what it wrote to stdout and stderr, taken together, contains the text.
    ///
    /// # Panics
    /// When it ends without it, or the deadline passes.
    pub fn wait_for(&self, text: &str) {
        let start = Instant::now();
        let mut texts = self.output.texts.lock().expect("not poisoned");
        while !texts.contain(text) {
            let left = DEADLINE.saturating_sub(start.elapsed());
            let output = texts.show();
            assert!(texts.open > 0, "{} ended without `{text}`:\n{output}", self.command);
            assert!(
                !left.is_zero(),
                "{} did not write `{text}` within {DEADLINE:?}:\n{output}",
                self.command
            );
            texts = self.output.changed.wait_timeout(texts, left).expect("not poisoned").0;
        }
    }

    /// Waits until it ends, and until nobody holds its output any more.
    ///
    /// # Panics
    /// When the deadline passes: the process is killed and what it wrote is shown.
    pub fn wait(self) -> Finished {
        self.wait_up_to(DEADLINE)
    }

    /// The same with another deadline, for what is known to be slow.
    pub fn wait_up_to(mut self, deadline: Duration) -> Finished {
        let status = self.wait_for_end(deadline);
        let start = Instant::now();
        let mut texts = self.output.texts.lock().expect("not poisoned");
        while texts.open > 0 {
            let left = DEADLINE.saturating_sub(start.elapsed());
            assert!(
                !left.is_zero(),
                "{} ended, but somebody holds its output:\n{}",
                self.command,
                texts.show()
            );
            texts = self.output.changed.wait_timeout(texts, left).expect("not poisoned").0;
        }
        let (stdout, stderr) = (text_of(&texts.stdout), text_of(&texts.stderr));
        drop(texts);
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        Finished { command: self.command.clone(), status, stdout, stderr }
    }

    fn wait_for_end(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child can be waited for") {
                return status;
            }
            if start.elapsed() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let output = self.output.texts.lock().expect("not poisoned").show();
                panic!("{} did not end within {deadline:?}:\n{output}", self.command);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `wait` this finds nobody; in a failing test it leaves nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The exit code, or 128 + n when signal n killed it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().expect("neither code nor signal"))
    }

    /// Checks how it ended.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "wrong exit code of {}", self.show());
        self
    }

    /// Checks that a stream holds a text.
    #[track_caller]
    pub fn assert_stderr(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no `{text}` in the stderr of {}", self.show());
        self
    }

    /// Checks that stdout holds a text.
    #[track_caller]
    pub fn assert_stdout(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "no `{text}` in the stdout of {}", self.show());
        self
    }

    /// Checks that either stream holds a text.
    #[track_caller]
    pub fn assert_output(&self, text: &str) -> &Self {
        assert!(self.output().contains(text), "no `{text}` in the output of {}", self.show());
        self
    }

    /// stdout, then stderr.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Everything about it, for a failing test.
    pub fn show(&self) -> String {
        format!("{} ({}):\n{}", self.command, self.status, show(&self.stdout, &self.stderr))
    }
}

impl Texts {
    fn contain(&self, text: &str) -> bool {
        text_of(&self.stdout).contains(text) || text_of(&self.stderr).contains(text)
    }

    fn show(&self) -> String {
        show(&text_of(&self.stdout), &text_of(&self.stderr))
    }
}

/// The side of a terminal on which a person sits. It ends when nobody is left on the other.
struct Screen(Arc<Pty>);

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

fn collect(mut stream: impl Read + Send + 'static, output: Arc<Output>, which: Stream) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        loop {
            // An error is an end too: there is nothing else to do about it here.
            let length = stream.read(&mut buffer).unwrap_or(0);
            let mut texts = output.texts.lock().expect("not poisoned");
            match which {
                _ if length == 0 => texts.open -= 1,
                Stream::Stdout => texts.stdout.extend_from_slice(&buffer[..length]),
                Stream::Stderr => texts.stderr.extend_from_slice(&buffer[..length]),
            }
            output.changed.notify_all();
            if length == 0 {
                return;
            }
        }
    })
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(stdout: &str, stderr: &str) -> String {
    let mut text = String::new();
    for (name, content) in [("stdout", stdout), ("stderr", stderr)] {
        let _ = writeln!(text, "--- {name}\n{}", content.trim_end());
    }
    text
}
