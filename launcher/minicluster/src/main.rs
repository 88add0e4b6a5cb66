//! `tractorun-minicluster`: the server as a program. It starts, says where it listens, and stops on SIGTERM,
//! SIGINT or, if told so, at the end of its standard input.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;
use tractorun_minicluster::{
    FolderConfig, Minicluster, MiniclusterConfig, StateConfig, Sync, Tokens, operations,
};

/// A YTsaurus cluster on one machine, for trying things out and for tests: the HTTP API that the official clients
/// speak, with Cypress, transactions, files, static tables and vanilla operations, whose jobs are real processes.
#[derive(Debug, Parser)]
#[command(name = "tractorun-minicluster", version, max_term_width = 80, after_help = AFTER_HELP)]
struct Options {
    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Address to listen on. Whoever reaches it may run commands on this machine, unless --token is given, too.
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
    /// File that gets the port, as a line of text, once the server listens.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Folder that keeps the state over restarts and crashes: nothing that was answered is lost. Without it the state
    /// ends with the server.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// When --data is forced to the disk: `always`, before every answer, survives a loss of power; `never` is faster
    /// and survives the end of the process only, kill -9 included.
    #[arg(long, value_name = "WHEN", default_value = "always", requires = "data")]
    sync: SyncWhen,
    /// Bytes of changes in --data after which the whole state is written anew and the changes are dropped.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, requires = "data")]
    snapshot_after: u64,
    /// Token and its user; may be given several times. Without any, everybody is root.
    #[arg(long, value_name = "TOKEN:USER")]
    token: Vec<String>,
    /// Stop when standard input ends: when whoever started this is gone.
    #[arg(long)]
    exit_on_stdin_eof: bool,
    /// Loopback port of the control endpoint, for faults on demand and counters; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// File that gets the control endpoint's port, as `--port-file` does.
    #[arg(long, value_name = "FILE", requires = "control_port")]
    control_port_file: Option<PathBuf>,
    /// How jobs are run: as processes of this machine, or in containers of their task's `docker_image`, by podman or
    /// docker.
    #[arg(long, value_name = "KIND", default_value = "process")]
    job_kind: JobKind,
    /// Bytes of memory that a job may use whose task has no `memory_limit`; 0: as many as there are. What clusters have
    /// by default is the default here.
    #[arg(long, value_name = "BYTES", default_value_t = operations::DEFAULT_MEMORY_LIMIT)]
    default_memory_limit: u64,
}

const AFTER_HELP: &str = "\
Examples:
  What is in it is gone when it ends, or stays in a folder:
    tractorun-minicluster --port 8000
    tractorun-minicluster --port 8000 --data ~/cluster

  With the official client, in another terminal:
    pip install ytsaurus-client
    export YT_PROXY=http://127.0.0.1:8000
    yt list /
    yt vanilla --tasks '{task={command=\"echo hi >&2\";job_count=1}}'

It stops in order on SIGTERM and Ctrl-C. TRACTORUN_MINICLUSTER_LOG=info makes it
say more on standard error (also: error, warn, debug, trace).";

/// Values nest up to 128 deep in trees that do so, too; walking them is recursive.
const THREAD_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Connections, blobs and jobs need descriptors; the usual limit of 1,024 is soon reached. Jobs inherit this, so it
/// stays a number that programs can close one by one.
const MAX_DESCRIPTORS: u64 = 65_536;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SyncWhen {
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum JobKind {
    Process,
    Container,
}

/// Not a parser of clap's, which would repeat the value in its error: it is a secret.
fn parse_token(text: &str) -> Option<(String, String)> {
    let (token, user) = text.rsplit_once(':')?;
    (!token.is_empty() && !user.is_empty()).then(|| (token.to_owned(), user.to_owned()))
}

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(log_level()).init();
    let Some(tokens) = options.token.iter().map(|text| parse_token(text)).collect::<Option<Vec<_>>>() else {
        return fail("--token: expected TOKEN:USER (the value is not shown)");
    };
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(run(options, Tokens::new(tokens)));
    // A thread may still wait for standard input, which nobody closes.
    runtime.shutdown_background();
    code
}

/// As far as the machine allows; with less, the server only serves fewer clients at once.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(MAX_DESCRIPTORS);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
}

fn log_level() -> LevelFilter {
    let wanted = std::env::var("TRACTORUN_MINICLUSTER_LOG").ok();
    wanted.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::WARN)
}

#[allow(clippy::print_stderr, reason = "this is how a program tells why it ends")]
fn fail(message: &str) -> ExitCode {
    eprintln!("tractorun-minicluster: {message}");
    ExitCode::FAILURE
}

async fn run(options: Options, tokens: Tokens) -> ExitCode {
    let job_kind = match options.job_kind {
        JobKind::Process => operations::JobKind::Process,
        JobKind::Container => operations::JobKind::Container,
    };
    // Before anything is started, so that a signal that comes early is not lost.
    let signalled = match first_signal() {
        Ok(signalled) => signalled,
        Err(error) => return fail(&format!("cannot listen for signals: {error}")),
    };
    let sync = match options.sync {
        SyncWhen::Always => Sync::Always,
        SyncWhen::Never => Sync::Never,
    };
    let state = options.data.map_or(StateConfig::Temporary, |folder| StateConfig::Kept {
        folder,
        config: FolderConfig { sync, snapshot_after_bytes: options.snapshot_after },
    });
    let has_tokens = !options.token.is_empty();
    let config = MiniclusterConfig {
        listen: options.listen,
        port: options.port,
        tokens,
        control_port: options.control_port,
        job_kind,
        default_memory_limit: Some(options.default_memory_limit).filter(|bytes| *bytes > 0),
        state,
    };
    let minicluster = match Minicluster::start(config).await {
        Ok(minicluster) => minicluster,
        Err(error) => return fail(&error.to_string()),
    };
    let address = minicluster.address();
    let told = options.port_file.as_deref().map_or(Ok(()), |path| write_port_file(path, address.port()));
    let control = minicluster.control_address().zip(options.control_port_file.as_deref());
    let told =
        told.and_then(|()| control.map_or(Ok(()), |(address, path)| write_port_file(path, address.port())));
    if let Err(error) = told {
        minicluster.shutdown().await;
        return fail(&error);
    }
    // Whoever waits for the first line has the whole text then.
    let token = if has_tokens { "YT_TOKEN=<token> " } else { "" };
    say_where(&format!("Listening on {address}; use it as: YT_PROXY=http://{address} {token}yt list /"));
    if !address.ip().is_loopback() && !has_tokens {
        tracing::warn!(
            "everybody who reaches {address} may run commands on this machine: --token keeps others out"
        );
    }
    let stdin_ended = async {
        if options.exit_on_stdin_eof { wait_for_stdin_eof().await } else { std::future::pending().await }
    };
    tokio::select! {
        _ = signalled => {}
        () = stdin_ended => {}
    }
    minicluster.shutdown().await;
    ExitCode::SUCCESS
}

/// Resolves at the first SIGTERM or SIGINT. Later ones change nothing: stopping takes a second at most.
fn first_signal() -> std::io::Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody waits any more if the server is stopping already.
            let _ = sender.send(());
        }
        // Goes on listening, so that the default action of a second signal does not end the program half-way.
        for _ in signals.forever() {}
    })?;
    Ok(receiver)
}

/// The one line on standard output. Nobody may be reading it, which is fine.
fn say_where(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Whoever waits for the file finds it complete: it is written under another name first.
fn write_port_file(path: &Path, port: u16) -> Result<(), String> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    std::fs::write(&draft, format!("{port}\n"))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| format!("cannot write the port to `{}`: {error}", path.display()))
}

async fn wait_for_stdin_eof() {
    let reading = tokio::task::spawn_blocking(|| {
        // What comes is dropped; an error is as good as the end.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    });
    let _ = reading.await;
}
