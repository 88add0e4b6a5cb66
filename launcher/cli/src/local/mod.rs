//! `--local`: the same job on this machine, without an operation.
//!
//! One `tractorun-init` for each node, each with a sandbox folder and the environment of a job, against the
//! cluster in `YT_PROXY` or a minicluster that lives as long as the run. Every process that is started here
//! holds the end of a pipe as its stdin, the lifeline: when the launcher closes it, or dies in whatever way,
//! the process stops in order. No process outlives the launcher for long.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tractorun_contract::env as names;
use tractorun_contract::job_spec::JobSpec;
use tractorun_yt::{Client, ClientConfig};

use crate::commands::archives::{note_parts, pack_all};
use crate::commands::binaries::Program;
use crate::commands::interrupt::{Interrupts, Stop};
use crate::commands::prepare;
use crate::commands::submit::client_config;
use crate::commands::terminal::Terminal;
use crate::follow::telling::Telling;
use crate::follow::verdict;
use crate::operation;
use crate::pack::Cancel;
use crate::patience::{Listener, telling};
use crate::report::ExitStatus;
use crate::settings::{Invocation, Mesh, Place, Settings};

use folder::RunFolder;
use minicluster::Minicluster;
use node::{JobEnvironment, Node, Nodes};

mod folder;
mod minicluster;
mod node;
mod ports;

/// Killing takes some milliseconds; what outlives this cannot be killed by anybody.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the job on this machine.
pub async fn run(invocation: &Invocation, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let settings = &invocation.settings;
    let mut interrupts = Interrupts::install().context("cannot catch signals")?;
    let init = Program::Init.find()?;
    let folder = RunFolder::create()?;
    let Mesh { node_count, process_per_node, .. } = settings.mesh;
    terminal.line(format_args!(
        "running on this machine: {} with {} each",
        plural(node_count, "node"),
        plural(process_per_node, "worker")
    ));
    let (cluster, config) = match start_cluster(&folder, &mut interrupts).await? {
        Ok(started) => started,
        Err(stop) => return Ok(stop.status()),
    };
    let outcome = match Client::new(config) {
        Ok(client) => run_job(settings, &client, &init, &folder, &mut interrupts, terminal).await,
        Err(error) => Err(error.into()),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    folder.remove_copies();
    terminal.clear();
    terminal.line(format_args!("logs: {}", folder.path().display()));
    outcome
}

/// The cluster in `YT_PROXY`, or a minicluster of our own.
async fn start_cluster(
    folder: &RunFolder,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Result<(Option<Minicluster>, ClientConfig), Stop>> {
    if env::var_os(names::client::PROXY).is_some_and(|proxy| !proxy.is_empty()) {
        return Ok(Ok((None, client_config()?)));
    }
    let program = Program::Minicluster.find()?;
    match interrupts.guard(Minicluster::start(&program, folder)).await {
        Ok(cluster) => {
            let cluster = cluster?;
            let config = ClientConfig::new(&cluster.proxy(), None)?;
            Ok(Ok((Some(cluster), config)))
        }
        Err(stop) => Ok(Err(stop)),
    }
}

async fn run_job(
    settings: &Settings,
    client: &Client,
    init: &Path,
    folder: &RunFolder,
    interrupts: &mut Interrupts,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let cancel = Cancel::default();
    let work = prepare_sandboxes(settings, client, folder, &cancel, terminal);
    let prepared = interrupts.guard(telling(client, Listener::Terminal(terminal), work)).await;
    match prepared {
        Ok(result) => result.map(drop)?,
        Err(stop) => {
            cancel.request();
            return Ok(stop.status());
        }
    }
    let operation_id = node::made_up_guid(node::OPERATION_TYPE);
    let mut nodes = start_nodes(settings, client, init, folder, &operation_id, terminal)?;
    let mut stopped = None;
    let codes = loop {
        tokio::select! {
            codes = nodes.wait() => break codes,
            stop = interrupts.next() => {
                nodes.stop();
                if stopped.is_none() {
                    stopped = Some(stop);
                    terminal.answer("stopping; Ctrl-C again kills");
                } else {
                    // Being asked twice, init kills what is left of its workers; a third signal does not wait
                    // for that.
                    let end = timeout(KILL_TIMEOUT, nodes.wait());
                    if !matches!(interrupts.guard(end).await, Ok(Ok(_))) {
                        nodes.kill().await;
                    }
                    return Ok(stop.status());
                }
            }
        }
    };
    if let Some(stop) = stopped {
        return Ok(stop.status());
    }
    Ok(conclude(settings, client, &operation_id, &codes, terminal).await)
}

/// Fills a sandbox for each node with the files that the cluster would put there.
async fn prepare_sandboxes(
    settings: &Settings,
    client: &Client,
    folder: &RunFolder,
    cancel: &Cancel,
    terminal: &Terminal,
) -> anyhow::Result<JobSpec> {
    let expanded = crate::binds::expand(client, &settings.bind_cypress).await?;
    crate::tensorproxy::check(client, settings.tensorproxy.as_ref()).await?;
    for warning in &expanded.warnings {
        terminal.warning(warning);
    }
    let archives = pack_all(settings, &folder.files(), cancel, terminal).await?;
    let links = prepare::cluster_links(client, &settings.cluster_config_path, terminal).await?;
    let mut job_spec = operation::job_spec(settings, client.proxy_url(), &expanded.files, links);
    note_parts(&mut job_spec, &archives);
    folder.add_file(operation::JOB_SPEC_FILE, &job_spec.to_json())?;
    let downloads = operation::cypress_files(settings, &expanded.files);
    for file in &downloads {
        terminal.progress(format_args!("downloading {}", file.path));
        folder.download(client, file).await?;
    }
    let names = archives.iter().flat_map(|archive| archive.files().map(|(name, _)| name));
    let cypress = downloads.into_iter().map(|file| file.name);
    let names: Vec<_> = names.chain(cypress).chain([operation::JOB_SPEC_FILE.to_owned()]).collect();
    folder.fill_sandboxes(settings.mesh.node_count, &names)?;
    prepare::run_folders(client, &settings.yt_path).await?;
    terminal.clear();
    Ok(job_spec)
}

fn start_nodes(
    settings: &Settings,
    client: &Client,
    init: &Path,
    folder: &RunFolder,
    operation_id: &str,
    terminal: &Terminal,
) -> anyhow::Result<Nodes> {
    let port_count = operation::port_count(settings) as usize;
    let ports = ports::free_ports(settings.mesh.node_count as usize * port_count)?;
    let mut nodes = Nodes::new();
    for (node_rank, ports) in (0..settings.mesh.node_count).zip(ports.chunks(port_count)) {
        let environment = JobEnvironment {
            operation_id,
            node_rank,
            node_count: settings.mesh.node_count,
            ports,
            token: client.token(),
            working_directory: working_directory(settings)?,
            task: operation::task_environment(settings),
        };
        // On an error the nodes that were started lose their lifeline and stop.
        nodes.push(Node::start(init, &folder.node(node_rank), &environment, terminal.clone())?);
    }
    Ok(nodes)
}

/// Without binds the sandbox is empty: then workers start where the user stands, and `python3 train.py` means
/// the file that lies there. With binds they start in the sandbox, as on a cluster.
fn working_directory(settings: &Settings) -> anyhow::Result<Option<PathBuf>> {
    if settings.bind_local.is_empty() && settings.bind_cypress.is_empty() {
        return Ok(Some(env::current_dir().context("cannot tell the current folder")?));
    }
    Ok(None)
}

/// `1 node`, `2 nodes`.
fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Says how the job ended.
async fn conclude(
    settings: &Settings,
    client: &Client,
    operation_id: &str,
    codes: &[u8],
    terminal: &Terminal,
) -> ExitStatus {
    let Some(code) = codes.iter().copied().find(|code| *code != 0) else {
        return ExitStatus::Success;
    };
    if let Ok(Some(record)) = verdict::read_failure(client, &settings.yt_path, operation_id).await {
        // The worker's last lines are on the terminal already.
        Telling::of_record(&record.failure, Place::Local).without_tail().tell("", terminal);
        ExitStatus::Job(record.failure.exit_code)
    } else {
        terminal.error(format_args!("the job failed with code {code}"));
        ExitStatus::Job(code)
    }
}
