//! Real processes, in every isolation that this machine allows.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Folder {
    _root: tempfile::TempDir,
    slot: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let slot = root.path().join("slot");
        for name in ["sandbox", "scratch"] {
            fs::create_dir_all(slot.join(name)).unwrap();
        }
        Self { _root: root, slot }
    }

    fn command(&self, isolation: Isolation, script: &str) -> (JobCommand, File) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let command = JobCommand {
            program: "/bin/bash".into(),
            arguments: ["/bin/bash", "-c", script].map(OsString::from).into(),
            environment: vec![("A".into(), "one two".into())],
            slot: self.slot.clone(),
            sandbox: self.slot.join("sandbox"),
            scratch: self.slot.join("scratch"),
            stdout: Output::ToStderr,
            stderr: writer,
            statistics: File::options().write(true).open("/dev/null").unwrap().into(),
            interruption: None,
            tmpfs: Vec::new(),
            isolation,
        };
        (command, File::from(reader))
    }

    fn run(&self, isolation: Isolation, script: &str) -> (JobEnd, String) {
        let (command, mut output) = self.command(isolation, script);
        let job = start(command, |_| Ok(())).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        (job.wait().unwrap(), text)
    }
}

/// What works here. `Session` always does, so no test runs on nothing.
fn working() -> Vec<Isolation> {
    let works = |isolation: &Isolation| {
        let folder = Folder::new();
        let (command, _output) = folder.command(*isolation, "exit 0");
        start(command, |_| Ok(())).is_ok_and(|job| job.wait().is_ok())
    };
    Isolation::candidates().into_iter().filter(works).collect()
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The ids in the machine's own namespace of all processes with this argument.
fn processes_with(argument: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let has = line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes());
        if has && is_alive(&name) {
            found.push(name);
        }
    }
    found
}

#[test]
fn a_session_always_works() {
    assert!(working().contains(&Isolation::Session));
}

#[test]
fn the_end_is_told_as_it_was() {
    for isolation in working() {
        let folder = Folder::new();
        assert_eq!(folder.run(isolation, "exit 0").0, JobEnd::Ended(ExitReason::Code(0)), "{isolation:?}");
        assert_eq!(
            folder.run(isolation, "exit 137").0,
            JobEnd::Ended(ExitReason::Code(137)),
            "{isolation:?}"
        );
        for signal in [Signal::KILL, Signal::TERM, Signal::PIPE] {
            let script = format!("kill -{} $$", signal.number());
            assert_eq!(
                folder.run(isolation, &script).0,
                JobEnd::Ended(ExitReason::Signal(signal)),
                "{isolation:?}"
            );
        }
    }
}

#[test]
fn the_program_gets_its_environment_its_folder_and_no_other_descriptor() {
    for isolation in working() {
        let folder = Folder::new();
        let script = "echo $A; pwd; ulimit -c; umask; for f in 3 4 {6..200}; do test -e /proc/$$/fd/$f && echo $f; done; true";
        let (end, text) = folder.run(isolation, script);
        assert_eq!(end, JobEnd::Ended(ExitReason::Code(0)));
        let sandbox = isolation.sandbox_path(&folder.slot.join("sandbox"));
        assert_eq!(text, format!("one two\n{}\n0\n0022\n", sandbox.display()), "{isolation:?}");
    }
}

#[test]
fn nobody_outlives_the_program() {
    for isolation in working() {
        let folder = Folder::new();
        let mark = format!("{}.5{}", 86_400, std::process::id());
        let script =
            format!("(setsid sleep {mark} & setsid bash -c 'sleep {mark} & sleep {mark}' &) ; exit 3");
        assert_eq!(folder.run(isolation, &script).0, JobEnd::Ended(ExitReason::Code(3)));
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{isolation:?}");
    }
}

#[test]
fn kill_ends_everybody() {
    for isolation in working() {
        let folder = Folder::new();
        let mark = format!("{}.6{}", 86_400, std::process::id());
        let script = format!("(setsid sleep {mark} &) ; echo ready; exec sleep {mark}");
        let (command, mut output) = folder.command(isolation, &script);
        let job = start(command, |_| Ok(())).unwrap();
        output.read_exact(&mut [0; 6]).unwrap();
        let killer = job.killer();
        killer.kill();
        assert_eq!(job.wait().unwrap(), JobEnd::Killed, "{isolation:?}");
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{isolation:?}");
        // Also later, to nobody.
        killer.kill();
    }
}

#[test]
fn what_a_private_root_gets_is_not_on_the_machine() {
    for isolation in working() {
        let Isolation::PrivateRoot(_) = isolation else { continue };
        let folder = Folder::new();
        let name = format!("tractorun-jobroot-{}", std::process::id());
        let (end, text) = folder.run(
            isolation,
            &format!(
                "set -e; echo hi > /{name}; cat /{name}; ls -d /slot/sandbox /usr /proc/1; echo kept > in-sandbox; \
                 echo $$; test -e /etc/passwd; test -c /dev/null; echo x > /tmp/{name}"
            ),
        );
        assert_eq!(end, JobEnd::Ended(ExitReason::Code(0)), "{text}");
        assert!(text.starts_with("hi\n/proc/1\n/slot/sandbox\n/usr\n"), "{text}");
        assert!(!Path::new("/").join(&name).exists());
        assert_eq!(fs::read_to_string(folder.slot.join("sandbox/in-sandbox")).unwrap(), "kept\n");
        assert_eq!(fs::read_dir(folder.slot.join("scratch")).unwrap().count(), 0);
        let shared = Path::new("/tmp").join(&name);
        assert_eq!(fs::read_to_string(&shared).unwrap(), "x\n");
        fs::remove_file(shared).unwrap();
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_and_no_exit_code() {
    for isolation in working() {
        let folder = Folder::new();
        let (mut command, _output) = folder.command(isolation, "");
        command.program = "/nonexistent/bash".into();
        let error = start(command, |_| Ok(())).unwrap_err();
        assert_eq!(error.step, JobStep::Exec);
        assert_eq!(
            error.to_string(),
            "cannot execute the job's command: No such file or directory (os error 2)"
        );
    }
}

#[test]
fn a_missing_sandbox_names_its_step() {
    for isolation in working() {
        let folder = Folder::new();
        fs::remove_dir(folder.slot.join("sandbox")).unwrap();
        let (command, _output) = folder.command(isolation, "");
        assert_eq!(start(command, |_| Ok(())).unwrap_err().step, JobStep::Sandbox);
    }
}

#[test]
fn before_start_comes_before_the_program() {
    for isolation in working() {
        let folder = Folder::new();
        let file = folder.slot.join("sandbox/written-before");
        let (command, mut output) = folder.command(isolation, "cat written-before");
        let job = start(command, |_| {
            fs::write(&file, "in time")?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o444))
        })
        .unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in time");
        assert_eq!(job.wait().unwrap(), JobEnd::Ended(ExitReason::Code(0)));
    }
}

#[test]
fn an_interruption_reaches_everybody_or_the_program_alone() {
    for isolation in working() {
        for (receivers, expected) in
            [(Receivers::Everybody, "child\nprogram\n"), (Receivers::Program, "program\n")]
        {
            let folder = Folder::new();
            let script = "(trap 'echo child; exit' USR2; : > child; while :; do :; done) & \
                          trap 'sent=1' USR2; until [ -e child ]; do :; done; : > ready; \
                          until [ \"$sent\" ]; do :; done; \
                          [ -e everybody ] && wait; echo program";
            let (mut command, mut output) = folder.command(isolation, script);
            command.interruption = Some(Interruption { signal: Signal::USR2, receivers });
            if receivers == Receivers::Everybody {
                fs::write(folder.slot.join("sandbox/everybody"), "").unwrap();
            }
            let job = start(command, |_| Ok(())).unwrap();
            while !folder.slot.join("sandbox/ready").exists() {
                std::thread::yield_now();
            }
            job.killer().interrupt();
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected, "{isolation:?}");
            assert_eq!(job.wait().unwrap(), JobEnd::Ended(ExitReason::Code(0)));
        }
    }
}

#[test]
fn without_an_interruption_nothing_is_sent() {
    for isolation in working() {
        let folder = Folder::new();
        let (command, mut output) =
            folder.command(isolation, ": > ready; until [ -e go ]; do :; done; echo here");
        let job = start(command, |_| Ok(())).unwrap();
        while !folder.slot.join("sandbox/ready").exists() {
            std::thread::yield_now();
        }
        job.killer().interrupt();
        fs::write(folder.slot.join("sandbox/go"), "").unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!((job.wait().unwrap(), text.as_str()), (JobEnd::Ended(ExitReason::Code(0)), "here\n"));
    }
}

#[test]
fn descriptor_5_leads_to_the_statistics() {
    for isolation in working() {
        let folder = Folder::new();
        let (mut command, mut output) = folder.command(isolation, "echo number >&5; echo text >&2");
        let (mut reader, writer) = pipe2(OFlag::O_CLOEXEC).map(|(r, w)| (File::from(r), w)).unwrap();
        command.statistics = writer;
        let job = start(command, |_| Ok(())).unwrap();
        let (mut statistics, mut text) = (String::new(), String::new());
        output.read_to_string(&mut text).unwrap();
        reader.read_to_string(&mut statistics).unwrap();
        assert_eq!(statistics, "number\n");
        assert_eq!(text, "text\n");
        job.wait().unwrap();
    }
}

#[test]
fn memory_in_the_sandbox_is_private_limited_and_filled_before_the_start() {
    for isolation in working().into_iter().filter(|isolation| *isolation != Isolation::Session) {
        let folder = Folder::new();
        let inside = folder.slot.join("sandbox/memory");
        fs::create_dir(&inside).unwrap();
        let (mut command, mut output) = folder.command(
            isolation,
            "cat memory/file; stat -f -c %T memory; head -c 2000000 /dev/zero > memory/large || echo full; wc -c < memory/large",
        );
        command.tmpfs = vec![Tmpfs { path: "memory".into(), bytes: 1 << 20 }];
        let job = start(command, |sandbox| fs::write(sandbox.join("memory/file"), "given\n")).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        job.wait().unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("No space left")).collect();
        assert_eq!(lines[..3], ["given", "tmpfs", "full"], "{text}");
        assert!(lines[3].parse::<u64>().unwrap() <= 1 << 20);
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
    }
}

#[test]
fn a_caller_that_cannot_make_ready_gets_its_error_back() {
    for isolation in working() {
        let folder = Folder::new();
        let (command, _output) = folder.command(isolation, "");
        let error = start(command, |_| Err(io::Error::other("no file"))).unwrap_err();
        assert_eq!(error.to_string(), "cannot make the job's sandbox ready: no file");
    }
}
