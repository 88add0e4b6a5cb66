//! `tractorun doctor`: whether a run would work, and what to do where it would not.
//!
//! ```text
//! configuration ─┬─▶ proxy ──▶ token ──▶ what the run needs of the cluster
//!                └─▶ what it needs of this machine
//! ```
//!
//! Everything is looked at side by side as far as nothing waits for anything, and told in order. Only questions are
//! asked: nothing is made, written or started but our own programs' `--version`. Nobody is asked again for long, so that
//! a cluster that is away is told of within seconds.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture, Shared, ready};
use futures_util::stream::{FuturesOrdered, StreamExt};
use serde_json::json;
use tractorun_contract::env::client;
use tractorun_yt::{Client, ClientConfig};

use crate::cli::{Consultation, Format};
use crate::commands::submit::client_config;
use crate::pack::Cancel;
use crate::report::{Colour, ExitStatus, Report};
use crate::settings::{InitSource, Invocation, Place, Settings, Surroundings};

use account::Access;
use cypress::Visitor;
use finding::{Finding, Outcome, Signs, summary};
use network::Reach;

mod account;
mod cypress;
mod finding;
pub mod help;
mod machine;
mod network;
mod pools;

/// How long a failing question is asked again.
const RETRY_BUDGET: Duration = Duration::from_secs(2);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Findings that are worked out, in the order they are told.
type Sections<'a> = FuturesOrdered<LocalBoxFuture<'a, Vec<Finding>>>;

/// Carries out `tractorun doctor`. Success means that a run with this command line would start.
pub fn run(
    consultation: Consultation,
    report: Report,
    variable: &dyn Fn(&str) -> Option<String>,
) -> ExitStatus {
    let colour = Colour::of(&io::stdout(), variable);
    let (command_line, format) = match consultation {
        Consultation::Help => return told(write(&help::text(colour)), ExitStatus::Success),
        Consultation::Examine(command_line, format) => (command_line, format),
    };
    // Nothing is run, so nothing needs a name of its own.
    let invocation = Invocation::new(command_line, &Surroundings { variable, new_id: &String::new });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report.error(&format!("cannot start: {error}"));
            return ExitStatus::Failure;
        }
    };
    let signs = signs(variable);
    let mut findings = Vec::new();
    let mut written = Ok(());
    runtime.block_on(async {
        let patient = Patient::of(&invocation, variable);
        let mut sections = patient.sections();
        while let Some(section) = sections.next().await {
            for finding in section {
                if format == Format::Text && written.is_ok() {
                    written = write(&finding.to_line(signs, colour));
                }
                findings.push(finding);
            }
        }
    });
    runtime.shutdown_background();
    let would_start = findings.iter().all(|finding| finding.outcome != Outcome::Wrong);
    let end = match format {
        Format::Text => format!("{}\n", summary(&findings)),
        Format::Json => {
            let checks: Vec<_> = findings.iter().map(Finding::to_json).collect();
            format!("{:#}\n", json!({ "ok": would_start, "checks": checks }))
        }
    };
    let written = written.and_then(|()| write(&end));
    told(written, if would_start { ExitStatus::Success } else { ExitStatus::Failure })
}

/// Signs for a terminal that shows them, ASCII for all others.
fn signs(variable: &dyn Fn(&str) -> Option<String>) -> Signs {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|name| !name.is_empty());
    let is_utf8 = locale.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    });
    if is_utf8 && io::stdout().is_terminal() { Signs::Unicode } else { Signs::Ascii }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// A reader that has seen enough (`| head`) is no failure.
fn told(written: io::Result<()>, status: ExitStatus) -> ExitStatus {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitStatus::Failure,
        _ => status,
    }
}

/// What is looked at.
struct Patient<'a> {
    configuration: Vec<Finding>,
    /// None where the options cannot be used.
    settings: Option<&'a Settings>,
    place: Place,
    cluster: Cluster,
}

/// Which cluster the run would go to.
enum Cluster {
    /// That one.
    Known(Box<ClientConfig>, Client),
    /// The run's own minicluster.
    Own,
    /// Nobody can tell, for this reason.
    Unknown(Finding),
}

// === impl Patient ===

impl<'a> Patient<'a> {
    fn of(
        invocation: &'a Result<Invocation, Vec<crate::settings::Problem>>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let (configuration, settings) = match invocation {
            Ok(Invocation { settings, file_config, .. }) => {
                let what =
                    if file_config.is_null() { "the options are" } else { "the file and the options are" };
                (vec![Finding::fine("configuration", format!("{what} understood"))], Some(settings))
            }
            Err(problems) => {
                (problems.iter().map(|problem| Finding::wrong("configuration", problem)).collect(), None)
            }
        };
        let place = settings.map_or(Place::Cluster, |settings| settings.place);
        let has_proxy = variable(client::PROXY).is_some_and(|proxy| !proxy.is_empty());
        let cluster = if place == Place::Local && !has_proxy { Cluster::Own } else { Cluster::find() };
        Self { configuration, settings, place, cluster }
    }

    fn sections(&self) -> Sections<'_> {
        let mut sections = Sections::new();
        sections.push_back(ready(self.configuration.clone()).boxed_local());
        match &self.cluster {
            Cluster::Known(config, client) => self.cluster_sections(&mut sections, config, client),
            Cluster::Own => sections.push_back(async { vec![machine::minicluster().await] }.boxed_local()),
            Cluster::Unknown(finding) => {
                sections.push_back(ready(vec![finding.clone(), left_out("without a proxy")]).boxed_local());
            }
        }
        let source = self.settings.map_or(InitSource::Bring, |settings| settings.init);
        sections.push_back(async move { vec![machine::init(self.place, source).await] }.boxed_local());
        if let Some(settings) = self.settings {
            if self.place == Place::Cluster {
                let image = machine::image(settings.docker_image.as_deref());
                sections.push_back(ready(vec![image]).boxed_local());
            }
            sections.push_back(files(settings.clone()).boxed_local());
        }
        sections
    }

    fn cluster_sections<'b>(
        &'b self,
        sections: &mut Sections<'b>,
        config: &'b ClientConfig,
        client: &'b Client,
    ) {
        let reach: Shared<LocalBoxFuture<'b, Reach>> = network::reach(config).boxed_local().shared();
        let access: Shared<LocalBoxFuture<'b, Option<Access>>> = {
            let reach = reach.clone();
            async move {
                reach.await.greeting?;
                Some(account::access(config, client).await)
            }
            .boxed_local()
            .shared()
        };
        let visitor = {
            let access = access.clone();
            async move { Some(Visitor { client: client.clone(), user: access.await?.user? }) }
                .boxed_local()
                .shared()
        };
        sections.push_back({
            let reach = reach.clone();
            async move { reach.await.findings }.boxed_local()
        });
        sections.push_back({
            let (access, visitor) = (access.clone(), visitor.clone());
            async move {
                let Some(greeting) = reach.await.greeting else {
                    return vec![left_out("while the proxy does not answer")];
                };
                let token = access.await.map(|access| access.finding);
                let user = visitor.await;
                let clock = network::clock(&greeting, user.as_ref().map(|visitor| &visitor.client)).await;
                let mut findings: Vec<_> = token.into_iter().chain([clock]).collect();
                if user.is_none() {
                    findings.push(left_out("without an accepted token"));
                }
                findings
            }
            .boxed_local()
        });
        let settings = self.settings;
        let is_on_cluster = self.place == Place::Cluster;
        let mut ask = |question: Question<'b>| {
            let visitor = visitor.clone();
            sections.push_back(
                async move {
                    match visitor.await {
                        Some(visitor) => question.ask(&visitor, config).await,
                        None => Vec::new(),
                    }
                }
                .boxed_local(),
            );
        };
        if let Some(settings) = settings {
            ask(Question::Directory(&settings.yt_path));
        }
        if is_on_cluster {
            ask(Question::FileCache);
            ask(Question::HeavyProxies);
        }
        let Some(settings) = settings else { return };
        ask(Question::ClusterConfig(&settings.cluster_config_path));
        if let Some(path) = settings.docker_auth_secret.as_deref().filter(|_| is_on_cluster) {
            ask(Question::DockerAuth(path));
        }
        settings.env.iter().for_each(|variable| ask(Question::Variable(variable)));
        settings.bind_cypress.iter().for_each(|bind| ask(Question::Bind(bind)));
        if let Some(tensorproxy) = &settings.tensorproxy {
            ask(Question::Tensorproxy(tensorproxy));
        }
        if is_on_cluster {
            ask(Question::Pool(&settings.mesh));
        }
    }
}

fn left_out(why: &str) -> Finding {
    Finding::left_out("cluster", format!("the rest of it cannot be looked at {why}"))
}

async fn files(settings: Settings) -> Vec<Finding> {
    let cancel = Cancel::default();
    match tokio::task::spawn_blocking(move || machine::files(&settings, &cancel)).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::wrong("bind_local", format!("looking at files stopped: {error}"))],
    }
}

/// Something that the cluster is asked by a known user.
#[derive(Clone, Copy)]
enum Question<'a> {
    Directory(&'a str),
    FileCache,
    HeavyProxies,
    ClusterConfig(&'a str),
    DockerAuth(&'a str),
    Variable(&'a tractorun_contract::job_spec::EnvVar),
    Bind(&'a crate::settings::BindCypress),
    Tensorproxy(&'a crate::settings::Tensorproxy),
    Pool(&'a crate::settings::Mesh),
}

impl Question<'_> {
    async fn ask(self, visitor: &Visitor, config: &ClientConfig) -> Vec<Finding> {
        match self {
            Self::Directory(path) => vec![visitor.directory(path).await],
            Self::FileCache => vec![visitor.file_cache().await],
            Self::HeavyProxies => vec![network::heavy_proxies(config, &visitor.client).await],
            Self::ClusterConfig(path) => vec![visitor.cluster_config(path).await],
            Self::DockerAuth(path) => vec![visitor.docker_auth(path).await],
            Self::Variable(variable) => visitor.variable(variable).await.into_iter().collect(),
            Self::Bind(bind) => visitor.bind(bind).await,
            Self::Tensorproxy(proxy) => vec![visitor.tensorproxy(proxy).await],
            Self::Pool(mesh) => pools::pool(visitor, &mesh.pool_trees, mesh.pool.as_deref()).await,
        }
    }
}

// === impl Cluster ===

impl Cluster {
    fn find() -> Self {
        let config = client_config().map(|config| ClientConfig {
            retry_budget: RETRY_BUDGET,
            first_contact_budget: Duration::ZERO,
            connect_timeout: CONNECT_TIMEOUT,
            light_timeout: ANSWER_TIMEOUT,
            ..config
        });
        match config.and_then(|config| Ok((Client::new(config.clone())?, config))) {
            Ok((client, config)) => Self::Known(Box::new(config), client),
            Err(error) => Self::Unknown(Finding::wrong("proxy", error)),
        }
    }
}
