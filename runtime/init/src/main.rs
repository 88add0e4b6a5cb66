//! PID 1 of a distributed training job: rendezvous, supervision, logs.
//!
//! Reads as a list: what is asked for, log, runtime, run, exit. Everything else is in the library.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tractorun_contract::env;
use tractorun_contract::exit::InitExit;
use tractorun_contract::job_spec::SPEC_VERSION;
use tractorun_init::check::{Format, check};
use tractorun_init::cli::{self, Invocation, LifelineKind};
use tractorun_init::driver::{Clock, GuardLine, Lifeline, Lines, run_job, run_plain};
use tractorun_init::image_env::{self, Save};
use tractorun_init::job::Environment;
use tractorun_init::logging;
use tractorun_init::output::{Pieces, Sink};
use tractorun_sys::pid::Role;
use tractorun_sys::{guard, signal};

/// How long the last lines may take to be read by whoever reads them.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let clock = Clock::start();
    std::panic::set_hook(Box::new(die_of_panic));
    let environment = Environment::of_process();
    let invocation = match cli::parse(std::env::args_os().skip(1), &environment) {
        Ok(invocation) => invocation,
        Err(error) => return refuse(&error.to_string()),
    };
    let default_level = match invocation {
        Invocation::Help(topic) => return print(topic.text()),
        Invocation::Version => {
            let version = env!("CARGO_PKG_VERSION");
            return print(&format!("tractorun-init {version} (job spec {SPEC_VERSION})\n"));
        }
        Invocation::Check(format) => return report(&environment, format),
        Invocation::SaveEnv(save) => return save_env(&environment, &save),
        Invocation::Job => LevelFilter::INFO,
        // An entrypoint has nothing to say in its program's stream.
        Invocation::Plain(_) => LevelFilter::WARN,
    };
    let level = environment.get(env::LOG_LEVEL).map(|level| level.to_string_lossy().into_owned());
    let level = match logging::parse_level(level.as_deref(), default_level) {
        Ok(level) => level,
        Err(error) => return refuse(&error.to_string()),
    };
    let lifeline = match cli::lifeline(&invocation, &environment) {
        Ok(lifeline) => lifeline,
        Err(error) => return refuse(&error.to_string()),
    };
    match run(invocation, &environment, level, lifeline, clock) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("cannot begin: {error}"));
            ExitCode::from(InitExit::Internal.code())
        }
    }
}

/// Keeps the environment of an image's build.
fn save_env(environment: &Environment, save: &Save) -> ExitCode {
    match image_env::save(environment, save) {
        Ok(told) => print(&told),
        Err(error) => refuse(&error.to_string()),
    }
}

/// Looks at the machine and says what it has.
fn report(environment: &Environment, format: Format) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot begin: {error}"));
            return ExitCode::from(InitExit::Internal.code());
        }
    };
    let report = runtime.block_on(check(environment));
    let printed = print(&report.show(format));
    if report.is_fine() { printed } else { ExitCode::from(InitExit::PreflightFailed.code()) }
}

/// Runs to the end and lets the last lines out.
fn run(
    invocation: Invocation,
    environment: &Environment,
    level: LevelFilter,
    lifeline: LifelineKind,
    clock: Clock,
) -> std::io::Result<u8> {
    // Before there is a second thread. From here on no signal is lost: they are blocked until they are taken.
    let guard = match Role::current() {
        Role::Init => {
            signal::block_all_in_this_thread();
            None
        }
        Role::Ordinary => Some(guard::split()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sink = Sink::start(std::io::stderr(), pieces())?;
    logging::start(sink.clone(), level);
    let lifeline = match lifeline {
        LifelineKind::None => Lifeline::none(),
        LifelineKind::Stdin => Lifeline::watch(std::io::stdin())?,
    };
    let code = runtime.block_on(async {
        let guard = guard.map_or_else(|| Ok(GuardLine::none()), GuardLine::watch)?;
        Ok::<_, std::io::Error>(match invocation {
            Invocation::Plain(command) => run_plain(command, environment, guard, clock, sink.clone()).await,
            _ => run_job(environment, Lines { lifeline, guard }, clock, sink.clone()).await,
        })
    })?;
    // Helper tasks have nothing left to do, and none of them may hold up the exit.
    runtime.shutdown_background();
    sink.flush(FLUSH_LIMIT);
    Ok(code)
}

/// Where stderr is a pipe, other nodes' inits may write to it too.
fn pieces() -> Pieces {
    use std::os::fd::AsFd;
    let stderr = std::io::stderr();
    if stderr.is_terminal() {
        return Pieces::Any;
    }
    let file = stderr.as_fd().try_clone_to_owned().map(std::fs::File::from);
    match file.and_then(|file| file.metadata()) {
        Ok(data) if data.file_type().is_fifo() => Pieces::PipeAtoms,
        _ => Pieces::Any,
    }
}

/// A bug of ours: one line and our own code. Left alone, an abort would do nothing to PID 1 but look like a
/// segmentation fault.
#[expect(clippy::exit, reason = "nothing of this process can be trusted any more")]
fn die_of_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
    let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
    say(&format!("internal error{}: {text}", place.unwrap_or_default()));
    std::process::exit(i32::from(InitExit::Internal.code()));
}

/// Bad usage.
fn refuse(text: &str) -> ExitCode {
    say(text);
    ExitCode::from(InitExit::BadConfig.code())
}

/// To stderr, before and beside the log; who is gone does not read it.
fn say(text: &str) {
    for line in text.lines() {
        let _ = std::io::stderr().write_all(format!("tractorun-init: {line}\n").as_bytes());
    }
}

/// What was asked for, to stdout.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
