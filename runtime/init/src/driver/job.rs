//! Job mode: start-up, then one node (and on node 0 the leader) to its end.

use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tracing::{debug, error, info};
use tractorun_contract::cypress;
use tractorun_contract::exit::{ExitReason as ContractExit, InitExit};
use tractorun_contract::sidecar::SidecarId;
use tractorun_contract::topology::Topology;
use tractorun_sys::descriptor::{Limit, raise_limit};
use tractorun_sys::pid::Role;
use tractorun_sys::reap::{Reaped, reap_any};
use tractorun_sys::spawn::{Command, Session, Stdio};
use tractorun_sys::{Signal, tree};

use super::drain::Draining;
use super::signals::{Kind, Signals};
use super::timers::Timers;
use super::{Clock, Driver, GuardLine, Killer, Leadership, Lifeline, Reaping, Starter, say_error};
use crate::job::{
    self, Environment, JobPlan, LogPlan, Prefix, SidecarPlan, StartUpError, Started, WorkerPlan,
};
use crate::logs::{self, Logs};
use crate::metrics::{self, Facts, Monitor, Questions};
use crate::oom::OomWatch;
use crate::output::{Pump, Sink, Style};
use crate::rendezvous::Membership;
use crate::supervisor::{Attempts, Conclusion, Identity, Leader, Member, Mode, Node, Rules, Setup};

/// How long the end of the control channel and of the transaction may take: nobody depends on it any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What init's life hangs on besides signals.
#[derive(Debug)]
pub struct Lines {
    /// The launcher.
    pub lifeline: Lifeline,
    /// The guard.
    pub guard: GuardLine,
}

/// Runs this node of the job; returns init's exit code.
pub async fn run_job(environment: &Environment, mut lines: Lines, clock: Clock, sink: Sink) -> u8 {
    let mut signals = match Signals::take_all(Kind::Job) {
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
    // The leader has a connection to every node, and every node two pipes of every worker.
    let descriptor_limit = match raise_limit() {
        Ok(before) => Some(before),
        Err(error) => {
            debug!("cannot raise the limit of descriptors: {error}");
            None
        }
    };
    info!("started, version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let (monitor, mut questions) = Monitor::new(metrics::Kind::Job, clock);
    let started = match start_up(environment, &mut signals, &mut lines, &monitor, &mut questions).await {
        StartUp::Done(started) => *started,
        StartUp::Failed(error) => {
            say_error(&error.to_string());
            return error.exit_code();
        }
        StartUp::GuardLost => {
            let code = ContractExit::Signal(Signal::KILL.number()).code();
            error!("stopped by {} before the workers were started; exit code {code}", Signal::KILL);
            return code;
        }
    };
    let watched = (monitor, questions);
    run_started(started, signals, lines, descriptor_limit, clock, sink, watched).await
}

/// Not PID 1: descendants whose parent ends become our children, so that none is lost from sight.
pub(super) fn adopt_orphans() -> io::Result<()> {
    match Role::current() {
        Role::Init => Ok(()),
        Role::Ordinary => tree::become_subreaper(),
    }
}

/// How start-up ended.
enum StartUp {
    Done(Box<Started>),
    Failed(StartUpError),
    /// Whoever killed the guard meant us too.
    GuardLost,
}

/// Start-up raced against whoever wants to stop it; orphans are reaped meanwhile.
async fn start_up(
    environment: &Environment,
    signals: &mut Signals,
    lines: &mut Lines,
    monitor: &Monitor,
    questions: &mut Questions,
) -> StartUp {
    let (stop, stops) = mpsc::unbounded_channel();
    let mut start_up = pin!(job::start_up(environment, monitor, stops));
    // It listens as long as it runs.
    let ask = |signal| {
        let _ = stop.send(signal);
    };
    loop {
        tokio::select! {
            biased;
            signals = signals.next() => match signals {
                Ok(signals) => {
                    for signal in signals {
                        match signal {
                            Signal::TERM | Signal::INT => ask(signal),
                            Signal::CHLD => reap_orphans(monitor),
                            other => debug!("{other} has nobody to go to yet"),
                        }
                    }
                }
                Err(error) => error!("cannot read signals: {error}"),
            },
            () = lines.lifeline.end() => ask(Signal::TERM),
            () = lines.guard.end() => return StartUp::GuardLost,
            () = questions.answer() => {}
            result = &mut start_up => return match result {
                Ok(started) => StartUp::Done(Box::new(started)),
                Err(error) => StartUp::Failed(error),
            },
        }
    }
}

/// Before the workers there is nobody whose end could matter.
fn reap_orphans(monitor: &Monitor) {
    while let Ok(Reaped::Child(pid, _)) = reap_any() {
        debug!("reaped orphan {pid}");
        monitor.reaped_orphan();
    }
}

async fn run_started(
    started: Started,
    signals: Signals,
    lines: Lines,
    descriptor_limit: Option<Limit>,
    clock: Clock,
    sink: Sink,
    (monitor, questions): (Monitor, Questions),
) -> u8 {
    let Started { plan, membership, stop } = started;
    let Membership { incarnation, topology, metrics_targets: targets, link, hub, stop_requested, closer } =
        membership;
    let nodes = identities(&topology, plan.workers.len());
    debug!("incarnation {incarnation} with {} nodes, this is node {}", nodes.len(), plan.node_rank);

    let own = Identity { node_rank: plan.node_rank, host: plan.host.clone(), job_id: plan.job_id.clone() };
    let known = if hub.is_some() { nodes.clone() } else { Vec::new() };
    monitor.know(Facts::Met { incarnation, nodes: known, targets });
    monitor.know(Facts::Workers(plan.workers.iter().map(|worker| worker.rank).collect()));
    monitor.know(Facts::Sidecars(plan.sidecars.iter().map(|sidecar| sidecar.id).collect()));
    let leader = nodes.first().cloned().unwrap_or_else(|| own.clone());
    let setup = Setup {
        mode: Mode::Job { own, leader },
        ranks: plan.workers.iter().map(|worker| worker.rank).collect(),
        sidecars: plan.sidecars.iter().map(|sidecar| (sidecar.id, sidecar.restart_policy)).collect(),
        grace_period: plan.grace_period,
        attempts: if plan.restarts.max > 0 { Attempts::Several } else { Attempts::One },
        preemption: plan.preemption,
    };
    let draining = match start_logs(&plan, nodes.len(), incarnation) {
        Ok(draining) => draining,
        Err(error) => {
            error!("cannot start the shipper of lines: {error}");
            return InitExit::Internal.code();
        }
    };
    let rules = Rules {
        // Nodes that stop ship their last lines before they say so.
        grace_period: plan.grace_period + draining.limit(),
        restarts: plan.restarts.clone(),
        workers_per_node: u32::try_from(plan.workers.len()).unwrap_or(u32::MAX),
        preemption_timeout: plan.preemption.map_or(plan.grace_period, |preemption| preemption.timeout),
    };
    let leadership = hub.map(|hub| Leadership { leader: Leader::new(nodes, rules, clock.now()), hub });
    if let Some(gauge) = draining.gauge() {
        monitor.watch_logs(gauge);
    }
    let mut pump = Pump::new(sink).counting(monitor.output());
    if let Some(intake) = draining.intake() {
        pump = pump.feeding(intake, plan.workers.len());
    }
    let mut driver = Driver {
        clock,
        node: Node::new(setup),
        starter: Box::new(PlanStarter { plan, descriptor_limit }),
        pump,
        signals,
        lifeline: lines.lifeline,
        guard: lines.guard,
        timers: Timers::new(),
        link: Some(link),
        leadership,
        stop_requested,
        others_but: None,
        oom: OomWatch::start(),
        killer: Killer::Others,
        reaping: Reaping::No,
        conclusion: None,
        monitor,
        questions,
        draining,
    };
    let conclusion = driver.run(stop).await;
    driver.pump.finish();
    let conclusion = driver.drain(conclusion).await;
    closer.close(CLOSE_LIMIT).await;
    say_conclusion(&conclusion, clock);
    conclusion.code
}

/// Starts the shipper, if lines go into tables.
fn start_logs(plan: &JobPlan, node_count: usize, incarnation: u32) -> io::Result<Draining> {
    let Some(LogPlan { client, settings, yt_path }) = &plan.logs else { return Ok(Draining::none()) };
    let workers = plan.workers.iter().map(|worker| cypress::worker_log(yt_path, incarnation, worker.rank));
    let node_count = u32::try_from(node_count).unwrap_or(u32::MAX);
    let users = plan.sidecars.iter().filter(|sidecar| matches!(sidecar.id, SidecarId::Index(_))).count();
    let users = u32::try_from(users).unwrap_or(u32::MAX);
    let place = (plan.node_rank, node_count);
    let sidecars = plan
        .sidecars
        .iter()
        .map(|sidecar| cypress::sidecar_log(yt_path, incarnation, place, users, sidecar.id));
    let logs = Logs::start(logs::Plan {
        client: client.clone(),
        settings: *settings,
        node_count,
        node_rank: plan.node_rank,
        job_id: plan.job_id.clone(),
        folder: logs::folder_in(&plan.sandbox),
        tables: workers.chain(sidecars).collect(),
    })?;
    Ok(Draining::of(logs))
}

/// The last line: what a person needs to know, at once.
fn say_conclusion(conclusion: &Conclusion, clock: Clock) {
    let Conclusion { code, verdict } = conclusion;
    match verdict {
        Some(failure) if failure.others.is_empty() => error!("job failed: {failure}; exit code {code}"),
        Some(failure) => error!("job failed: {failure}; others: {}; exit code {code}", failure.others),
        None if *code == 0 => info!("job succeeded after {:.1} s", clock.now().as_secs_f64()),
        None => error!("job failed; exit code {code}"),
    }
}

/// The nodes of a topology, by rank, as reports name them.
fn identities(topology: &Topology, workers_per_node: usize) -> Vec<Identity> {
    let firsts = topology.workers.iter().step_by(workers_per_node.max(1));
    (0..)
        .zip(firsts)
        .map(|(node_rank, worker)| Identity {
            node_rank,
            host: worker
                .address
                .rsplit_once(':')
                .map_or(worker.address.as_str(), |(host, _)| host)
                .to_owned(),
            job_id: worker.job_id.clone(),
        })
        .collect()
}

/// Starts the workers and sidecars of a plan.
struct PlanStarter {
    plan: JobPlan,
    /// What they may have open, where init has raised its own limit.
    descriptor_limit: Option<Limit>,
}

impl Starter for PlanStarter {
    fn command(&mut self, member: Member, attempt: u32, pump: &mut Pump) -> io::Result<Command> {
        if let Member::Worker(index) = member {
            self.plan.workers[index].prepare(attempt)?;
            pump.begin_attempt(attempt);
        }
        let (stdout, stderr) = pump.open(member, &self.style(member))?;
        let (command, environment, working_directory, cpus) = match member {
            Member::Worker(index) => {
                let WorkerPlan { command, environment, working_directory, cpus, .. } =
                    &self.plan.workers[index];
                (command, environment, working_directory, cpus.clone())
            }
            Member::Sidecar(index) => {
                let SidecarPlan { command, environment, working_directory, .. } = &self.plan.sidecars[index];
                (command, environment, working_directory, None)
            }
        };
        let (program, args) = command
            .split_first()
            .map_or_else(Default::default, |(program, args)| (program.clone(), args.to_vec()));
        Ok(Command {
            program,
            args,
            environment: environment.clone(),
            working_directory: Some(working_directory.clone()),
            stdin: Stdio::Null,
            stdout: Stdio::Fd(stdout),
            stderr: Stdio::Fd(stderr),
            session: Session::New,
            parent_death_signal: parent_death_signal(),
            descriptor_limit: self.descriptor_limit,
            cpus,
        })
    }

    /// At once, whole or not at all: a worker may look at any time.
    fn publish_deadline(&mut self, after: Duration) -> io::Result<()> {
        let moment = SystemTime::now().checked_add(after).unwrap_or(SystemTime::now());
        let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let path = &self.plan.stop_deadline_file;
        let unfinished = path.with_extension("new");
        std::fs::write(&unfinished, format!("{seconds:.3}\n"))?;
        std::fs::rename(&unfinished, path)
    }
}

impl PlanStarter {
    fn style(&self, member: Member) -> Style {
        let shared = |prefix: String| Style::Shared { prefix: prefix.into_bytes() };
        let JobPlan { workers, sidecars, prefix, .. } = &self.plan;
        match (member, prefix) {
            (Member::Sidecar(index), _) => shared(format!("[{}] ", sidecars[index].id)),
            (Member::Worker(index), Prefix::Rank) => shared(format!("[{}] ", workers[index].rank)),
            (Member::Worker(_), Prefix::None) if workers.len() + sidecars.len() > 1 => shared(String::new()),
            (Member::Worker(_), Prefix::None) => Style::Sole,
        }
    }
}

/// If PID 1 ends the kernel kills all others anyway. Spawning happens on the main thread, which lives as long as
/// init, as the parent-death signal needs it.
pub(super) fn parent_death_signal() -> Option<Signal> {
    match Role::current() {
        Role::Init => None,
        Role::Ordinary => Some(Signal::KILL),
    }
}

#[cfg(test)]
mod tests {
    use tractorun_contract::topology::WorkerAddress;

    use super::*;

    #[test]
    fn nodes_are_named_by_the_address_of_their_first_worker() {
        let worker =
            |address: &str, job_id: &str| WorkerAddress { address: address.into(), job_id: job_id.into() };
        let topology = Topology {
            workers: vec![
                worker("a:1", "j0"),
                worker("a:2", "j0"),
                worker("[::1]:1", "j1"),
                worker("[::1]:2", "j1"),
            ],
            master_host: "a".into(),
            master_port: 1,
        };
        let identity = |node_rank, host: &str, job_id: &str| Identity {
            node_rank,
            host: host.into(),
            job_id: job_id.into(),
        };
        assert_eq!(identities(&topology, 2), [identity(0, "a", "j0"), identity(1, "[::1]", "j1")]);
    }
}
