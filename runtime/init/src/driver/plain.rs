//! Plain-init mode: one program, inherited streams, every signal handed on.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::error;
use tractorun_contract::env;
use tractorun_contract::exit::InitExit;
use tractorun_sys::spawn::{Command, Session, Stdio};

use super::drain::Draining;
use super::job::{adopt_orphans, parent_death_signal};
use super::signals::{Kind as SignalKind, Signals};
use super::timers::Timers;
use super::{Clock, Driver, GuardLine, Killer, Lifeline, Reaping, Starter};
use crate::job::Environment;
use crate::metrics::{Facts, Kind, Monitor};
use crate::oom::OomWatch;
use crate::output::{Pump, Sink};
use crate::supervisor::{Attempts, Member, Mode, Node, Setup, Target};

/// What the program has left behind gets SIGTERM and this long before SIGKILL: the container is over, and whoever
/// waits for it should not wait for a daemon.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainCommand {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Whether signals go to it alone, as tini does it, or to its group (`-g`).
    pub target: Target,
    /// Where to serve metrics, if at all.
    pub metrics: Option<SocketAddr>,
}

/// Runs the program; returns init's exit code: the program's own, 128 + n for signal n, 126 or 127.
pub async fn run_plain(
    command: PlainCommand,
    environment: &Environment,
    guard: GuardLine,
    clock: Clock,
    sink: Sink,
) -> u8 {
    let signals = match Signals::take_all(SignalKind::Plain) {
        Ok(signals) => signals,
        Err(error) => {
            error!("cannot take signals: {error}");
            return InitExit::Internal.code();
        }
    };
    if let Err(error) = adopt_orphans() {
        error!("cannot become a subreaper: {error}");
        return InitExit::Internal.code();
    }
    let PlainCommand { command, target, metrics } = command;
    let (monitor, questions) = Monitor::new(Kind::Plain, clock);
    monitor.know(Facts::Workers(vec![0]));
    if let Some(address) = metrics {
        match TcpListener::bind(address).await {
            Ok(listener) => monitor.serve(listener),
            Err(error) => {
                error!("cannot serve metrics on {address}: {error}");
                return InitExit::BadConfig.code();
            }
        }
    }
    let setup = Setup {
        mode: Mode::Plain { target },
        ranks: vec![0],
        sidecars: Vec::new(),
        grace_period: GRACE_PERIOD,
        attempts: Attempts::One,
        preemption: None,
    };
    // An init inside the program would ask for the same port.
    let environment = environment
        .iter()
        .filter(|(name, _)| *name != env::METRICS)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut driver = Driver {
        clock,
        node: Node::new(setup),
        starter: Box::new(ProgramStarter { command, environment }),
        pump: Pump::new(sink),
        signals,
        lifeline: Lifeline::none(),
        guard,
        timers: Timers::new(),
        link: None,
        leadership: None,
        stop_requested: None,
        others_but: None,
        oom: OomWatch::default(),
        killer: Killer::Others,
        reaping: Reaping::No,
        conclusion: None,
        monitor,
        questions,
        draining: Draining::none(),
    };
    driver.run(None).await.code
}

/// Starts the program with init's own streams and environment.
struct ProgramStarter {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Starter for ProgramStarter {
    fn publish_deadline(&mut self, _after: Duration) -> io::Result<()> {
        Ok(())
    }

    fn command(&mut self, _member: Member, _attempt: u32, _pump: &mut Pump) -> io::Result<Command> {
        let mut words = self.command.iter().cloned();
        Ok(Command {
            program: words.next().unwrap_or_default(),
            args: words.collect(),
            environment: self.environment.clone(),
            working_directory: None,
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            // Its own group, so that Ctrl-C in a terminal reaches it and not us both.
            session: Session::ForegroundGroup,
            parent_death_signal: parent_death_signal(),
            descriptor_limit: None,
            cpus: None,
        })
    }
}
