//! What the container's bash runs: the job's environment, its files in memory, and the job.
//!
//! As the first process of its PID namespace it hears no signal that it has no trap for, and reaps.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use tractorun_sys::jobroot::{Interruption, Receivers};

use super::{FILES, SANDBOX, STARTED, STATISTICS};

/// What a script is made of.
pub(super) struct Job<'a> {
    pub(super) command: &'a str,
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) interruption: Option<Interruption>,
    /// Names in the sandbox of the files that go to memory, in the order in which they are in [`FILES`].
    pub(super) in_memory: &'a [&'a Path],
}

/// The script. Its own variables have names that no environment has.
pub(super) fn script(job: &Job<'_>) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            script.extend_from_slice(part);
        }
        script.push(b'\n');
    };
    let receivers = job.interruption.map(|interruption| match interruption.receivers {
        Receivers::Everybody => "-1",
        Receivers::Program => "$tractorun_child",
    });
    if let (Some(Interruption { signal, .. }), Some(receivers)) = (job.interruption, receivers) {
        // First of all: a signal that comes before the job does is not lost, but waits for it.
        let number = signal.number();
        let send = format!("kill -s {number} -- {receivers}");
        let trap = format!(
            "trap 'tractorun_hit=1; if [ \"$tractorun_child\" ]; then {send}; else tractorun_early=1; fi' {number}"
        );
        line(&[trap.as_bytes()]);
    }
    line(&[b"for name in $(compgen -e); do unset \"$name\"; done"]);
    for (name, value) in job.environment {
        let name = name.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name.first().is_none_or(u8::is_ascii_digit) || !name.iter().all(plain) {
            let name = String::from_utf8_lossy(name);
            let text = format!("a job in a container cannot have a variable with the name {name:?}");
            return Err(io::Error::other(text));
        }
        line(&[b"export ", name, b"=", &quoted(value.as_bytes())]);
    }
    for (number, name) in job.in_memory.iter().enumerate() {
        // The image's own cp: the volumes are in its mount namespace only.
        let from = format!("/slot/container/{FILES}/{number}");
        let plain: std::path::PathBuf = name.components().filter(|part| *part != Component::CurDir).collect();
        let to = Path::new(SANDBOX).join(plain);
        let folder = to.parent().unwrap_or(Path::new(SANDBOX));
        let path = |path: &Path| quoted(path.as_os_str().as_bytes());
        line(&[
            b"PATH=/usr/local/bin:/usr/bin:/bin mkdir -p -- ",
            &path(folder),
            b" && PATH=/usr/local/bin:/usr/bin:/bin cp -p -- ",
            from.as_bytes(),
            b" ",
            &path(&to),
            b" || exit 1",
        ]);
    }
    line(&[b"exec 5>/slot/container/", STATISTICS.as_bytes()]);
    line(&[b": >/slot/container/", STARTED.as_bytes()]);
    let command = [b"/bin/bash -c ".as_slice(), &quoted(format!(":; {}", job.command).as_bytes())].concat();
    let (Some(Interruption { signal, .. }), Some(receivers)) = (job.interruption, receivers) else {
        line(&[&command]);
        line(&[b"exit $?"]);
        return Ok(script);
    };
    // Job control keeps bash from having the job ignore SIGINT.
    line(&[b"set -m"]);
    line(&[&command, b" &"]);
    line(&[b"tractorun_child=$!"]);
    let early = format!("if [ \"$tractorun_early\" ]; then kill -s {} -- {receivers}; fi", signal.number());
    line(&[early.as_bytes()]);
    // A wait that the signal has cut short says nothing about the job, also if the job has ended meanwhile.
    line(&[b"while :; do tractorun_hit=; wait $tractorun_child; tractorun_code=$?; \
        [ \"$tractorun_hit\" ] || exit $tractorun_code; done"]);
    Ok(script)
}

/// In single quotes for bash.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn bash_reads_what_was_quoted() {
        for text in ["", "plain", "it's", "$HOME `x` \\ \"\n'"] {
            let command = [b"printf %s ".as_slice(), &quoted(text.as_bytes())].concat();
            let output = Command::new("/bin/bash")
                .arg("-c")
                .arg(std::ffi::OsStr::from_bytes(&command))
                .output()
                .unwrap();
            assert_eq!(output.stdout, text.as_bytes());
        }
    }

    #[test]
    fn a_name_that_bash_cannot_export_is_refused() {
        for name in ["a-b", "1a", "a b", ""] {
            let environment = [(name.into(), "x".into())];
            let job = Job { command: "exit", environment: &environment, interruption: None, in_memory: &[] };
            assert!(script(&job).is_err(), "{name}");
        }
    }

    /// What bash does with a signal that comes before the job: it is kept, and reaches the job when that is there.
    #[test]
    fn an_early_signal_waits_for_the_job() {
        use tractorun_sys::Signal;
        let signal = Signal::from_number(2).unwrap();
        for receivers in [Receivers::Program, Receivers::Everybody] {
            let job = Job {
                command: "trap 'exit 42' INT; while :; do sleep 0.01; done",
                environment: &[],
                interruption: Some(Interruption { signal, receivers }),
                in_memory: &[],
            };
            let text = String::from_utf8(script(&job).unwrap()).unwrap();
            let (trap, rest) = text.split_once('\n').unwrap();
            assert!(trap.starts_with("trap ") && trap.ends_with(" 2"), "{trap}");
            assert!(trap.contains("tractorun_early=1"), "{trap}");
            let (_, rest) = rest.split_once("tractorun_child=$!").unwrap();
            assert!(rest.contains("if [ \"$tractorun_early\" ]; then kill -s 2 -- "), "{rest}");
        }
    }
}
