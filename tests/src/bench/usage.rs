//! What a command took: time on the clock, CPU time, largest memory.
//!
//! The kernel counts the memory of a process's children from their fork on, so that of the measuring program would
//! count too. Therefore a small program of its own starts each command: the measuring one again, as `timed`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// First argument of a program that is to measure its others as a command.
pub const TIMED: &str = "timed";

/// What a command took.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "units are in the names")]
pub struct Usage {
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// Largest resident memory of the command; what is below a few MiB does not show.
    pub peak_bytes: f64,
}

impl Usage {
    /// Runs a command with nothing to read and nobody to write to.
    ///
    /// # Panics
    /// When it does not end with 0.
    pub fn of(command: &Command) -> Self {
        let own = std::env::current_exe().expect("a running program has a path");
        let mut timed = Command::new(own);
        timed.arg(TIMED).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => timed.env(name, value),
                None => timed.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            timed.current_dir(folder);
        }
        let output = timed.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("it starts");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let number = |name: &str| said[name].as_f64().unwrap_or_else(|| panic!("{command:?} failed: {said}"));
        assert_eq!(said["code"], 0, "{command:?} failed: {}", said["output"]);
        Self {
            seconds: number("seconds"),
            cpu_seconds: number("cpu_seconds"),
            peak_bytes: number("peak_bytes"),
        }
    }
}

/// The program's part as `timed`: runs the command and says what it took.
pub fn timed(command: &[String]) {
    let (program, arguments) = command.split_first().expect("there is a command");
    let begin = Instant::now();
    let output = Command::new(program).args(arguments).output().expect("the command can be started");
    let seconds = begin.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let of = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let text =
        if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into() };
    let said = json!({
        "code": output.status.code(),
        "output": text,
        "seconds": seconds,
        "cpu_seconds": of(usage.user_time()) + of(usage.system_time()),
        "peak_bytes": usage.max_rss() as f64 * 1024.0,
    });
    let _ = std::io::stdout().write_all(said.to_string().as_bytes());
}
