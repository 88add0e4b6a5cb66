//! Running on the cluster: expand, pack, upload, prepare, start, follow.
//!
//! ```text
//! prepare ──▶ start ──▶ follow ──▶ verdict
//!    │          │          │
//!    └──────────┴──────────┴─ Ctrl-C ──▶ undo ──▶ 130     a second Ctrl-C leaves at once
//! ```
//!
//! Undo means: temporary files removed, the operation aborted and its jobs gone. Whatever happens to the
//! launcher itself, the operation lives in a transaction that only the launcher pings and ends with it
//! (unless `no_wait`).

use std::convert::Infallible;
use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future;
use tractorun_contract::env as names;
use tractorun_contract::job_spec::{JobSpec, LogMode};
use tractorun_yt::{
    Client, ClientConfig, ConfigError, LostReason, Transaction, TransactionOptions, YsonValue,
};

use crate::dry_run::document;
use crate::follow::{self, Followed, is_temporary, verdict};
use crate::operation::{self, OperationSpec, SandboxFile, Vault};
use crate::pack::{Cancel, Digest, digest_file};
use crate::patience::{Listener, telling};
use crate::report::ExitStatus;
use crate::settings::{BindAttributes, InitSource, Invocation, Settings, Wait};
use crate::upload::{Content, Upload, Uploader};

use super::archives::{note_parts, pack_all};
use super::binaries::{Program, check_for_cluster};
use super::interrupt::{Interrupts, Stop};
use super::prepare;
use super::terminal::Terminal;

/// How long an interrupted start may take to tell the id of what it started.
const INTERRUPTED_START: Duration = Duration::from_secs(10);

/// How long leaving may be delayed by ending the transaction, which ends by itself soon.
const TRANSACTION_ABORT: Duration = Duration::from_secs(5);

/// Why the cluster aborts the operation, as it shows it.
const ABORT_REASON: &str = "interrupted by the user of tractorun";

/// Configuration of the client, from the environment and `~/.yt`.
pub fn client_config() -> Result<ClientConfig, ConfigError> {
    let home = env::var_os("HOME").map(PathBuf::from);
    ClientConfig::from_environment(&|name| env::var(name).ok(), home.as_deref())
}

/// Runs the job as an operation.
pub async fn run(invocation: &Invocation, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let settings = &invocation.settings;
    let mut interrupts = Interrupts::install().context("cannot catch signals")?;
    let config = client_config()?;
    let client = Client::new(config.clone())?;
    let init = match settings.init {
        InitSource::Bring => {
            let init = Program::Init.find()?;
            check_for_cluster(&init)?;
            Some(init)
        }
        InitSource::Image => None,
    };

    let uploader = Uploader::new(client.clone(), terminal.clone());
    let cancel = Cancel::default();
    let listener = Listener::Terminal(terminal);
    let work = telling(&client, listener, prepare_all(settings, &client, init, &uploader, &cancel, terminal));
    let prepared = interrupts.guard(work).await;
    if !matches!(prepared, Ok(Ok(_))) {
        cancel.request();
        let _ = interrupts.guard(uploader.clean_up()).await;
    }
    let (spec, job_spec) = match prepared {
        Ok(Err(error)) if client.silence().is_some() => {
            return Err(error.context("no operation was started"));
        }
        Ok(prepared) => prepared?,
        Err(stop) => return Ok(stop.status()),
    };

    let transaction = match settings.wait {
        Wait::NotAtAll => None,
        Wait::ForEnd => {
            let title = Some(format!("tractorun {}", settings.yt_path));
            let timeout = settings.transaction_timeout;
            let options = TransactionOptions { timeout, title, ..TransactionOptions::default() };
            let start = telling(&client, listener, client.start_transaction(options));
            match interrupts.guard(start).await {
                Ok(transaction) => Some(transaction.context("no operation was started")?),
                Err(stop) => return Ok(stop.status()),
            }
        }
    };
    let mut run = Run {
        settings,
        client: client.clone(),
        follow_client: Client::new(follow::config(config))?,
        transaction,
        terminal,
        interrupts,
    };
    let operation_id = match run.start(&spec.to_yson()).await? {
        Ok(operation_id) => operation_id,
        Err(stop) => return Ok(stop.status()),
    };
    terminal.line(format_args!("operation {operation_id}"));
    if settings.logs.mode == LogMode::RealtimeYtTable {
        terminal.line(format_args!("its logs: tractorun logs {} -f", settings.yt_path));
    }
    let document = document(invocation.configuration(), &spec, &job_spec, Some(&operation_id));
    if let Some(path) = env::var_os(names::RUN_INFO_FILE).filter(|path| !path.is_empty()) {
        // The run goes on: it is worth more than what its caller wanted to know of it.
        if let Err(error) = std::fs::write(&path, format!("{document:#}\n")) {
            terminal.warning(format_args!("cannot write `{}`: {error}", path.display()));
        }
    }
    match settings.wait {
        Wait::NotAtAll => {
            super::print(&document)?;
            Ok(ExitStatus::Success)
        }
        Wait::ForEnd => run.follow(operation_id).await,
    }
}

/// Everything before the operation: afterwards the cluster holds all that the job needs.
async fn prepare_all(
    settings: &Settings,
    client: &Client,
    init: Option<PathBuf>,
    cache: &Uploader,
    cancel: &Cancel,
    terminal: &Terminal,
) -> anyhow::Result<(OperationSpec, JobSpec)> {
    // The cluster is asked first: a wrong token or a missing source shows before the work of packing.
    let (expanded, (), docker_auth) = future::try_join3(
        async { Ok(crate::binds::expand(client, &settings.bind_cypress).await?) },
        async { Ok(crate::tensorproxy::check(client, settings.tensorproxy.as_ref()).await?) },
        prepare::docker_auth(client, settings.docker_auth_secret.as_deref(), terminal),
    )
    .await?;
    let links = prepare::cluster_links(client, &settings.cluster_config_path, terminal).await?;
    for warning in &expanded.warnings {
        terminal.warning(warning);
    }

    let folder =
        tempfile::Builder::new().prefix("tractorun-").tempdir().context("cannot make a temporary folder")?;
    let init = init.map(|init| {
        let (path, cancel) = (init.clone(), cancel.clone());
        (init, tokio::task::spawn_blocking(move || digest_file(&path, &cancel)))
    });
    let archives = pack_all(settings, folder.path(), cancel, terminal).await?;
    let mut job_spec = operation::job_spec(settings, client.proxy_url(), &expanded.files, links.clone());
    note_parts(&mut job_spec, &archives);
    let job_spec_json = Bytes::from(job_spec.to_json());

    let mut uploads = vec![Upload {
        label: operation::JOB_SPEC_FILE.to_owned(),
        digest: Digest::of(&job_spec_json),
        content: Content::Memory(job_spec_json),
    }];
    let mut names = vec![(operation::JOB_SPEC_FILE.to_owned(), false)];
    if let Some((init, digest)) = init {
        let digest = digest.await?.with_context(|| format!("cannot read `{}`", init.display()))?;
        let label = operation::INIT_FILE.to_owned();
        uploads.insert(0, Upload { label, content: Content::File(init), digest });
        names.insert(0, (operation::INIT_FILE.to_owned(), true));
    }
    for archive in &archives {
        for (index, (name, part)) in archive.files().enumerate() {
            let label = match archive.parts.len() {
                1 => format!("`{}`", archive.source.display()),
                count => format!("`{}`, part {} of {count}", archive.source.display(), index + 1),
            };
            uploads.push(Upload {
                label,
                content: Content::File(part.path.clone()),
                digest: part.digest.clone(),
            });
            names.push((name, false));
        }
    }
    let paths = cache.upload_all(&uploads).await?;
    let uploaded = names.into_iter().zip(paths).map(|((name, executable), path)| SandboxFile {
        name,
        path,
        attributes: BindAttributes { executable: Some(executable), ..BindAttributes::default() },
    });
    let files: Vec<_> = uploaded.chain(operation::cypress_files(settings, &expanded.files)).collect();
    prepare::run_folders(client, &settings.yt_path).await?;

    let mut vault = Vault::default();
    if let Some(token) = client.token() {
        vault.insert_yt_token(token);
    }
    if let Some(docker_auth) = docker_auth {
        vault.insert(tractorun_contract::env::VAULT_DOCKER_AUTH, docker_auth);
    }
    let spec = operation::operation_spec(settings, &files, &links, vault)?;
    Ok((spec, job_spec))
}

/// An operation that is about to run or runs.
struct Run<'a> {
    settings: &'a Settings,
    client: Client,
    follow_client: Client,
    transaction: Option<Transaction>,
    terminal: &'a Terminal,
    interrupts: Interrupts,
}

impl Run<'_> {
    /// Starts the operation. A signal in the very moment undoes the start, and comes back as the inner error.
    async fn start(&mut self, spec: &YsonValue) -> anyhow::Result<Result<String, Stop>> {
        let client = self.transaction.as_ref().map_or(&self.client, Transaction::client).clone();
        let listener = Listener::Terminal(self.terminal);
        let start = client.start_operation(operation::OPERATION_TYPE, spec);
        let mut starting = std::pin::pin!(telling(&client, listener, start));
        let stop = tokio::select! {
            biased;
            result = &mut starting => match result {
                Ok(operation_id) => return Ok(Ok(operation_id)),
                Err(error) => {
                    let hint = if is_temporary(&error) { self.maybe_started() } else { String::new() };
                    self.abort_transaction().await;
                    return Err(error).with_context(|| format!("cannot start the operation{hint}"));
                }
            },
            stop = self.interrupts.next() => stop,
        };
        // The request is on its way: only its answer tells what there is to abort. A second signal gives up
        // on it, and the operation ends with the transaction.
        let answer = tokio::time::timeout(INTERRUPTED_START, starting);
        match self.interrupts.guard(answer).await {
            Ok(Ok(Ok(operation_id))) => self.undo(&self.followed(operation_id)).await,
            Ok(_) => self.abort_transaction().await,
            Err(_) => {}
        }
        Ok(Err(stop))
    }

    /// What may be where the answer to the start was lost.
    fn maybe_started(&self) -> String {
        let seconds = self.settings.transaction_timeout.as_secs();
        match self.settings.wait {
            Wait::ForEnd => format!(
                "\nhint: should it have started all the same, the cluster ends it within {seconds} s, since \
                 nobody holds it"
            ),
            Wait::NotAtAll => {
                "\nhint: it may have started all the same: `tractorun list` shows it".to_owned()
            }
        }
    }

    fn followed(&self, operation_id: String) -> Followed {
        Followed {
            client: self.follow_client.clone(),
            operation_id,
            yt_path: self.settings.yt_path.clone(),
            node_count: self.settings.mesh.node_count,
            proxy_stderr_mode: self.settings.proxy_stderr_mode,
            terminal: self.terminal.clone(),
        }
    }

    /// Follows the operation to its end, and says how it ended.
    async fn follow(mut self, operation_id: String) -> anyhow::Result<ExitStatus> {
        let followed = self.followed(operation_id);
        let lost = self.transaction.as_ref().map(Transaction::lost);
        let warn = async {
            let reason: LostReason = match lost {
                Some(lost) => lost.await,
                None => future::pending().await,
            };
            let id = &followed.operation_id;
            self.terminal.warning(match reason {
                // What the cluster did meanwhile, nobody here can know.
                LostReason::NotPinged { silence, .. } => format!(
                    "the cluster has heard nothing from here for {} s, so it aborts operation {id}; \
                     `tractorun attach {id}` will tell what became of it",
                    silence.as_secs()
                ),
                reason => format!(
                    "the transaction that holds operation {id} is lost, so the cluster aborts it: {reason}"
                ),
            });
            future::pending::<Infallible>().await
        };
        let watch = async {
            tokio::select! {
                result = follow::until_over(&followed) => result,
                never = warn => match never {},
            }
        };
        let watch = telling(&self.follow_client, Listener::Terminal(self.terminal), watch);
        match self.interrupts.guard(watch).await {
            Ok(Ok(end)) => {
                let transaction = self.transaction.take();
                let conclude = async {
                    let status = verdict::report(&followed, end).await;
                    if let Some(transaction) = transaction {
                        // Nothing depends on it any more; a lost one is no news either.
                        let _ = transaction.commit().await;
                    }
                    status
                };
                Ok(self.interrupts.guard(conclude).await.unwrap_or_else(Stop::status))
            }
            Ok(Err(error)) => {
                self.abort_transaction().await;
                Err(error).with_context(|| format!("cannot follow operation {}", followed.operation_id))
            }
            Err(stop) => {
                self.undo(&followed).await;
                Ok(stop.status())
            }
        }
    }

    /// Aborts the operation and waits until it is over. A second signal leaves at once: without pings the
    /// transaction ends soon, whatever the cluster has heard.
    async fn undo(&mut self, followed: &Followed) {
        let operation_id = &followed.operation_id;
        self.terminal.clear();
        self.terminal.answer(format_args!("aborting operation {operation_id}; Ctrl-C again leaves at once"));
        match self.interrupts.guard(follow::abort(followed, ABORT_REASON)).await {
            Ok(Ok(())) => self.terminal.line(format_args!("operation {operation_id} was aborted")),
            Ok(Err(error)) => {
                // Its hint would be one for a person who is just starting.
                let error_text = error.to_string();
                let reason = error_text.lines().next().unwrap_or_default();
                self.terminal.error(format_args!("cannot abort operation {operation_id}: {reason}"));
                if is_temporary(&error) && self.settings.wait == Wait::ForEnd {
                    let seconds = self.settings.transaction_timeout.as_secs();
                    self.terminal.hint(format_args!(
                        "without its launcher the cluster ends it within {seconds} s; \
                         `tractorun status {operation_id}` tells"
                    ));
                }
            }
            Err(_) => {
                let what = "it may take a moment until its jobs are gone";
                self.terminal
                    .warning(format_args!("left operation {operation_id} while it is aborted: {what}"));
                return;
            }
        }
        self.abort_transaction().await;
    }

    async fn abort_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            // Without an answer it expires by itself.
            let abort = tokio::time::timeout(TRANSACTION_ABORT, transaction.abort());
            let _ = self.interrupts.guard(abort).await;
        }
    }
}
