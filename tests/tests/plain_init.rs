//! `tractorun-init -- CMD ARGS` as PID 1 of a namespace, and the same tests on tini: tini proves the tests.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tractorun_tests::process::{DEADLINE, POLL, Running, run};
use tractorun_tests::{Finished, Scratch, binaries};

/// An init under test.
#[derive(Clone, Copy)]
enum Init {
    Tractorun,
    Tini,
}

macro_rules! conformance {
    ($($test:ident)*) => {
        mod tractorun_init {
            $(#[test] fn $test() { super::$test(super::Init::Tractorun); })*
        }
        mod tini {
            $(#[test] fn $test() { super::$test(super::Init::Tini); })*
        }
    };
}

conformance! {
    passes_all_exit_codes
    turns_signal_deaths_into_128_plus_n
    forwards_every_catchable_signal
    ends_with_the_code_the_child_chose_on_sigterm
    reaps_orphans_while_the_child_runs
    orphans_do_not_decide_the_exit_code
    leaves_nobody_in_the_namespace
    hands_on_arguments_environment_and_input
    says_that_a_command_is_not_found
    says_that_a_command_is_not_executable
    child_starts_with_default_signals
}

impl Init {
    /// `INIT -- COMMAND...` as PID 1 of a new PID namespace.
    fn command(self, command: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        // Root needs no user namespace, and where those are switched off it may have none.
        if !Uid::effective().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--pid", "--mount-proc", "--fork", "--kill-child"]);
        match self {
            Self::Tractorun => unshare.arg(binaries::init()),
            Self::Tini => unshare.arg("tini"),
        };
        unshare.arg("--").args(command);
        unshare
    }

    fn run(self, command: &[&str]) -> Finished {
        run(&mut self.command(command))
    }
}

/// Id, as the outside sees it, of the init that `unshare` has forked.
fn outer_pid(unshare: &Running) -> i32 {
    let path = format!("/proc/{pid}/task/{pid}/children", pid = unshare.pid());
    let start = Instant::now();
    loop {
        let children = fs::read_to_string(&path).expect("this kernel lists children");
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().expect("a process id is a number");
        }
        assert!(start.elapsed() < DEADLINE, "unshare starts nobody");
        std::thread::sleep(POLL);
    }
}

fn signal(pid: i32, number: i32) {
    // nix knows no realtime signals.
    let status = Command::new("/bin/kill").args([format!("-{number}"), pid.to_string()]).status();
    assert!(status.expect("/bin/kill runs").success(), "cannot send signal {number}");
}

fn passes_all_exit_codes(init: Init) {
    for code in 0..=255 {
        init.run(&["/bin/sh", "-c", &format!("exit {code}")]).assert_code(code);
    }
}

fn turns_signal_deaths_into_128_plus_n(init: Init) {
    let kernel_ignores = [Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGURG, Signal::SIGWINCH];
    let stop = [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
    for signal in
        Signal::iterator().filter(|signal| !kernel_ignores.contains(signal) && !stop.contains(signal))
    {
        let number = signal as i32;
        let script = format!("ulimit -c 0; kill -{number} $$; exit 1");
        init.run(&["/bin/sh", "-c", &script]).assert_code(128 + number);
    }
}

/// Writes the number of each signal that it gets, and ends after the highest.
const SIGNAL_RECORDER: &str = "
import signal
everything = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, everything)
print('ready', flush=True)
number = 0
while number != 64:
    number = signal.sigwaitinfo(everything).si_signo
    print('got <%d>' % number, flush=True)
";

fn forwards_every_catchable_signal(init: Init) {
    // Not these: faults of the receiver itself, what the terminal does to whoever reads or writes it, the
    // init's own business with its children, and the two that nobody can catch.
    let own = [4, 5, 6, 7, 8, 9, 11, 17, 19, 21, 22, 31];
    let recorder = Running::start(&mut init.command(&[binaries::SYSTEM_PYTHON, "-c", SIGNAL_RECORDER]));
    recorder.wait_for("ready");
    let pid = outer_pid(&recorder);
    for number in (1..=31).chain(34..=64).filter(|number| !own.contains(number)) {
        signal(pid, number);
        recorder.wait_for(&format!("got <{number}>"));
    }
    recorder.wait().assert_code(0);
}

fn ends_with_the_code_the_child_chose_on_sigterm(init: Init) {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let running = Running::start(&mut init.command(&["/bin/bash", "-c", script]));
    running.wait_for("ready");
    signal(outer_pid(&running), 15);
    running.wait().assert_code(3);
}

/// Starts 50 grandchildren that outlive their parents, waits until all have ended (they hold a pipe), and then until
/// nobody but PID 1 and itself is listed: zombies would be.
const ORPHAN_MAKER: &str = "
import os
reader, writer = os.pipe()
for _ in range(50):
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.setsid()
            os.close(reader)
        os._exit(0)
    os.waitpid(middle, 0)
os.close(writer)
assert os.read(reader, 1) == b''
while sorted(int(name) for name in os.listdir('/proc') if name.isdigit()) != [1, os.getpid()]:
    pass
print('only we are left', flush=True)
";

fn reaps_orphans_while_the_child_runs(init: Init) {
    let finished = init.run(&[binaries::SYSTEM_PYTHON, "-c", ORPHAN_MAKER]);
    finished.assert_code(0).assert_stdout("only we are left");
}

fn orphans_do_not_decide_the_exit_code(init: Init) {
    // The orphan has ended before the child goes on: it held the pipe that `cat` read.
    let script = "( ( exit 9 ) & ) | cat; exit 4";
    init.run(&["/bin/bash", "-c", script]).assert_code(4);
}

fn leaves_nobody_in_the_namespace(init: Init) {
    // `wait` returns only when nobody holds the output, so an orphan that lived on would be noticed.
    let script = "(trap '' TERM INT HUP; setsid sleep 1000 &); exit 5";
    init.run(&["/bin/bash", "-c", script]).assert_code(5);
}

fn hands_on_arguments_environment_and_input(init: Init) {
    let scratch = Scratch::new();
    let input = scratch.file("input", "from the input\n");
    let script = r#"printf '<%s>' "$@"; echo "$COLOUR"; cat"#;
    let mut command = init.command(&["/bin/sh", "-c", script, "sh", "a b", "", "--", "-x"]);
    command.env("COLOUR", "green").stdin(Stdio::from(fs::File::open(input).expect("just written")));
    let finished = Running::start_with_stdin(&mut command).wait();
    finished.assert_code(0);
    assert_eq!(finished.stdout, "<a b><><--><-x>green\nfrom the input\n", "{}", finished.show());
}

fn says_that_a_command_is_not_found(init: Init) {
    let finished = init.run(&["no-such-command-anywhere"]);
    finished.assert_code(127).assert_stderr("no-such-command-anywhere");
    // tini gives the system's words, ours says where it looked.
    let words = ["No such file or directory", "command not found in PATH"];
    assert!(words.iter().any(|words| finished.stderr.contains(words)), "{}", finished.show());
    init.run(&["/no/such/command"]).assert_code(127).assert_stderr("/no/such/command");
}

fn says_that_a_command_is_not_executable(init: Init) {
    let scratch = Scratch::new();
    let plain = scratch.file("plain-file", "#!/bin/sh\n");
    let finished = init.run(&[plain.to_str().expect("a plain name")]);
    finished.assert_code(126).assert_stderr("plain-file").assert_stderr("Permission denied");
}

fn child_starts_with_default_signals(init: Init) {
    let finished = init.run(&["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    finished.assert_code(0);
    for line in finished.stdout.lines() {
        let mask = line.split_whitespace().last().and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // 32 and 33 belong to the C library.
        let mask = mask.expect("a mask is hexadecimal") & !(0b11 << 31);
        assert_eq!(mask, 0, "{}", finished.show());
    }
}
