//! Makes [`Settings`] of what was given: picks the value that counts, fills in defaults, checks.
//!
//! The rule for every option: the command line's value if there is one, else the file's, else the default;
//! nothing is merged. Reads the file system (do the sources of binds exist?) and never writes.

use std::num::NonZeroU32;
use std::time::Duration;

use tractorun_contract::env::client;

use tractorun_contract::job_spec::{
    LogMode, LogOverflow, Logs, Preemption, PreemptionSignal, RestartPolicy, Restarts, Timeouts,
};
use tractorun_contract::placement::{CpuAffinity, GpuVisibility, OmpNumThreads, Placement};

use super::file::Layer;
use super::node::{Content, Node};
use super::problem::{Origin, Problem, Subject};
use super::read::Reader;
use super::{
    DEFAULT_CLUSTER_CONFIG_PATH, DEFAULT_TRANSACTION_TIMEOUT, InitSource, Mesh, Place, ProxyStderrMode,
    Resources, RunMode, Settings, Surroundings, Tensorproxy, Wait, options,
};
use crate::pack::IgnoreFiles;
use crate::tensorproxy;

/// Limits beyond what any cluster has, low enough that no product of two of them leaves 32 bits.
const MAX_NODES: u32 = 10_000;
const MAX_WORKERS_PER_NODE: u32 = 1_000;
const MAX_GPUS_PER_WORKER: u32 = 64;

/// The most ports that YT gives a job (`port_count` of its user job spec).
const MAX_PORTS: u32 = 50;
const MAX_THREADS: u32 = 10_000;
const MAX_RESTARTS: u32 = 1_000_000;

/// Least memory for lines that init takes.
const MIN_LOG_MEMORY: u64 = 1024 * 1024;

/// Where runs get a directory that were not given one.
const RUNS: &str = "//tmp/tractorun";

/// Stands for the directory's random name where nothing is run: equal input gives equal output.
const UNNAMED_YT_PATH: &str = "//tmp/tractorun/<generated>";

/// Stands for the command where only the rest is looked at.
const ANY_COMMAND: &str = "true";

pub(crate) const NO_IMAGE: &str = "no Docker image for the job";

/// What to do about [`NO_IMAGE`].
pub(crate) fn image_hint() -> String {
    let (first, second) = (client::BASE_LAYER, client::JOB_DOCKER_IMAGE);
    format!("give `--docker-image`, or set {first} or {second}; `--local` needs none")
}

/// The given values, by precedence, and the problems found so far.
pub(super) struct Check<'a> {
    pub(super) command_line: &'a Layer,
    /// `None`: the file cannot be read, and nobody knows what it gives.
    pub(super) file: Option<&'a Layer>,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) reader: &'a mut Reader,
    /// Where the job runs, once that is known.
    pub(super) place: Place,
}

impl Check<'_> {
    /// Checks everything. The result counts only if there are no problems.
    pub(super) fn settings(
        &mut self,
        command: Vec<String>,
        command_hint: &str,
        run_mode: RunMode,
    ) -> Settings {
        let place = self.one("local", Reader::boolean).map_or(Place::Cluster, place);
        self.place = place;
        let wait = self.one("no_wait", Reader::boolean).map_or(Wait::ForEnd, wait);
        let yt_path = self.one("yt_path", Reader::cypress_path).unwrap_or_else(|| match run_mode {
            RunMode::DryRun => UNNAMED_YT_PATH.to_owned(),
            RunMode::Submit => format!("{RUNS}/{}", (self.surroundings.new_id)()),
            RunMode::Examine => RUNS.to_owned(),
        });
        let settings = Settings {
            title: self.one("title", Reader::text).unwrap_or_else(|| format!("Tractorun {yt_path}")),
            yt_path,
            docker_image: self.docker_image(run_mode),
            init: self
                .one("init", |reader, subject, node| reader.choice(subject, node, &InitSource::ALL))
                .unwrap_or(InitSource::Bring),
            command: self.command(command, command_hint, run_mode),
            mesh: self.mesh(),
            env: self.each("env", Self::variable),
            sidecars: self.each("sidecars", Self::sidecar),
            tensorproxy: self.tensorproxy(),
            resources: Resources {
                cpu_limit: self.one("resources.cpu_limit", Reader::positive),
                memory_limit_bytes: self.one("resources.memory_limit", Reader::bytes),
            },
            restarts: self.restarts(),
            preemption: self.preemption(),
            timeouts: self.timeouts(),
            user_config: self.one("user_config", Reader::object),
            bind_local: self.each("bind_local", Self::bind_local),
            bind_local_lib: self.bind_local_lib(),
            bind_ignore: self
                .one("bind_ignore", |reader, subject, node| reader.choice(subject, node, &IgnoreFiles::ALL))
                .unwrap_or(IgnoreFiles::Git),
            bind_cypress: self.each("bind_cypress", Self::bind_cypress),
            proxy_stderr_mode: self.proxy_stderr_mode(),
            logs: self.logs(),
            wait,
            transaction_timeout: self
                .one("transaction_timeout", transaction_timeout)
                .unwrap_or(DEFAULT_TRANSACTION_TIMEOUT),
            run_mode,
            place,
            docker_auth_secret: self.one("docker_auth_secret.cypress_path", Reader::cypress_path),
            cluster_config_path: self
                .one("cluster_config_path", Reader::cypress_path)
                .unwrap_or_else(|| DEFAULT_CLUSTER_CONFIG_PATH.to_owned()),
            yt_operation_spec: self.one("yt_operation_spec", Reader::operation_spec).unwrap_or_default(),
            yt_task_spec: self.one("yt_task_spec", Reader::object).unwrap_or_default(),
        };
        match place {
            Place::Local => self.refuse_in_local(&settings),
            Place::Cluster => self.refuse_on_cluster(&settings),
        }
        settings
    }

    fn restarts(&mut self) -> Restarts {
        let Restarts { max, window_ms, backoff_ms, never: _ } = Restarts::default();
        Restarts {
            max: self
                .one("restarts.max", |reader, subject, node| reader.whole(subject, node, 0..=MAX_RESTARTS))
                .unwrap_or(max),
            window_ms: self
                .one("restarts.window", |reader, subject, node| reader.span_ms(subject, node, 1))
                .or(window_ms),
            backoff_ms: self
                .one("restarts.backoff", |reader, subject, node| reader.span_ms(subject, node, 0))
                .unwrap_or(backoff_ms),
            never: self.each("restarts.never", |check, subject, node| {
                let code = check.reader.whole(subject, node, 1..=255)?;
                u8::try_from(code).ok()
            }),
        }
    }

    fn timeouts(&mut self) -> Timeouts {
        let default = Timeouts::default();
        let mut time = |key, default_ms| {
            // Init beats six times within the timeout, and no network is good to the millisecond.
            self.one(key, |reader, subject, node| reader.span_ms(subject, node, 100)).unwrap_or(default_ms)
        };
        Timeouts {
            rendezvous_ms: time("rendezvous_timeout", default.rendezvous_ms),
            heartbeat_ms: time("heartbeat_timeout", default.heartbeat_ms),
            grace_period_ms: time("grace_period", default.grace_period_ms),
        }
    }

    fn preemption(&mut self) -> Preemption {
        let Preemption { signal, timeout_ms } = Preemption::default();
        Preemption {
            signal: self
                .one("preemption.signal", |reader, subject, node| {
                    reader.choice(subject, node, &PreemptionSignal::ALL)
                })
                .unwrap_or(signal),
            timeout_ms: self
                .one("preemption.timeout", |reader, subject, node| reader.span_ms(subject, node, 1))
                .unwrap_or(timeout_ms),
        }
    }

    /// The value that counts for an option, read by `read`.
    pub(super) fn one<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Reader, &Subject, &Node) -> Option<T>,
    ) -> Option<T> {
        let (subject, node) = self.given(key)?;
        read(self.reader, &subject, &node)
    }

    /// The elements of the list that counts for an option.
    pub(super) fn each<T>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Self, &Subject, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some((subject, node)) = self.given(key) else { return Vec::new() };
        let items = self.reader.list(&subject, &node);
        items.into_iter().filter_map(|(subject, item)| read(self, &subject, item)).collect()
    }

    pub(super) fn given(&self, key: &str) -> Option<(Subject, Node)> {
        // Keys are those of the table; a test gives every one of them.
        let subject = Subject::new(options::by_key(key)?);
        let node = self.command_line.get(key).or_else(|| self.file?.get(key))?;
        Some((subject, node.clone()))
    }

    fn command(&mut self, command: Vec<String>, hint: &str, run_mode: RunMode) -> Vec<String> {
        if !command.is_empty() {
            return command;
        }
        let given = self.given("command");
        let from_file = given.as_ref().map_or_else(Vec::new, |(subject, node)| {
            // Arguments may be empty, the program may not.
            let items = self.reader.list(subject, node).into_iter().enumerate();
            let read = |(number, (subject, item)): (usize, (Subject, &Node))| match number {
                0 => self.reader.text(&subject, item),
                _ => self.reader.any_text(&subject, item),
            };
            items.filter_map(read).collect()
        });
        let is_empty_list = |node: &Node| matches!(&node.content, Content::List(items) if items.is_empty());
        let is_missing = given.is_none_or(|(_, node)| is_empty_list(&node));
        if is_missing && run_mode == RunMode::Examine {
            return vec![ANY_COMMAND.to_owned()];
        }
        if self.file.is_some() && is_missing {
            self.reader.note(Problem::new(&Origin::CommandLine, "no command to run").hint(hint));
        }
        from_file
    }

    fn docker_image(&mut self, run_mode: RunMode) -> Option<String> {
        if self.given("docker_image").is_some() {
            return self.one("docker_image", Reader::text);
        }
        let fallback = [client::BASE_LAYER, client::JOB_DOCKER_IMAGE]
            .into_iter()
            .find_map(|name| (self.surroundings.variable)(name).filter(|value| !value.is_empty()));
        let is_wanted = self.place == Place::Cluster && run_mode != RunMode::Examine;
        if fallback.is_none() && is_wanted && self.file.is_some() {
            self.reader.note(Problem::new(&Origin::CommandLine, NO_IMAGE).hint(image_hint()));
        }
        fallback
    }

    fn mesh(&mut self) -> Mesh {
        let whole = |range| {
            move |reader: &mut Reader, subject: &Subject, node: &Node| reader.whole(subject, node, range)
        };
        Mesh {
            node_count: self.one("mesh.node_count", whole(1..=MAX_NODES)).unwrap_or(1),
            process_per_node: self.one("mesh.process_per_node", whole(1..=MAX_WORKERS_PER_NODE)).unwrap_or(1),
            gpu_per_process: self.one("mesh.gpu_per_process", whole(0..=MAX_GPUS_PER_WORKER)).unwrap_or(0),
            placement: self.placement(),
            pool_trees: self
                .one("mesh.pool_trees", |reader, subject, node| Some(reader.texts(subject, node)))
                .unwrap_or_default(),
            pool: self.one("mesh.pool", Reader::text),
        }
    }

    fn placement(&mut self) -> Placement {
        let visibilities = [("all", GpuVisibility::All), ("own", GpuVisibility::Own)];
        let affinities = [("numa", CpuAffinity::Numa), ("none", CpuAffinity::None)];
        Placement {
            gpu_visibility: self
                .one("mesh.gpu_visibility", |reader, subject, node| {
                    reader.choice(subject, node, &visibilities)
                })
                .unwrap_or_default(),
            cpu_affinity: self
                .one("mesh.cpu_affinity", |reader, subject, node| reader.choice(subject, node, &affinities))
                .unwrap_or_default(),
            omp_num_threads: self.one("mesh.omp_num_threads", omp_num_threads).unwrap_or_default(),
        }
    }

    fn proxy_stderr_mode(&mut self) -> ProxyStderrMode {
        let choices = [
            ("disabled", ProxyStderrMode::Disabled),
            ("primary", ProxyStderrMode::Primary),
            ("all", ProxyStderrMode::All),
        ];
        self.one("proxy_stderr_mode", |reader, subject, node| reader.choice(subject, node, &choices))
            .unwrap_or(ProxyStderrMode::Disabled)
    }

    fn logs(&mut self) -> Logs {
        let defaults = Logs::default();
        Logs {
            mode: self
                .one("operation_log_mode", |reader, subject, node| {
                    reader.choice(subject, node, &LogMode::ALL)
                })
                .unwrap_or(defaults.mode),
            batch_bytes: self.one("logs.batch_bytes", Reader::bytes).unwrap_or(defaults.batch_bytes),
            batch_age_ms: self
                .one("logs.batch_age", |reader, subject, node| reader.span_ms(subject, node, 1))
                .unwrap_or(defaults.batch_age_ms),
            memory_bytes: self
                .one("logs.memory", |reader, subject, node| reader.bytes_from(subject, node, MIN_LOG_MEMORY))
                .unwrap_or(defaults.memory_bytes),
            spool_bytes: self
                .one("logs.spool", |reader, subject, node| reader.bytes_from(subject, node, 0))
                .unwrap_or(defaults.spool_bytes),
            overflow: self
                .one("logs.overflow", |reader, subject, node| reader.choice(subject, node, &LogOverflow::ALL))
                .unwrap_or(defaults.overflow),
            drain_timeout_ms: self
                .one("logs.drain_timeout", |reader, subject, node| reader.span_ms(subject, node, 1))
                .unwrap_or(defaults.drain_timeout_ms),
        }
    }

    fn tensorproxy(&mut self) -> Option<Tensorproxy> {
        let enabled = self.one("tensorproxy.enabled", Reader::boolean);
        // Without a tensorproxy these two say nothing, but a misspelt one is still a mistake.
        let yt_path = self.one("tensorproxy.yt_path", Reader::cypress_path);
        let restart_policy = self.one("tensorproxy.restart_policy", |reader, subject, node| {
            reader.choice(subject, node, &RestartPolicy::ALL)
        });
        (enabled == Some(true)).then(|| Tensorproxy {
            yt_path: yt_path.unwrap_or_else(|| tensorproxy::DEFAULT_YT_PATH.to_owned()),
            restart_policy: restart_policy.unwrap_or(RestartPolicy::Always),
        })
    }

    /// Refuses what cannot be had on one machine.
    fn refuse_in_local(&mut self, settings: &Settings) {
        if settings.wait == Wait::NotAtAll {
            self.refuse_given(
                "no_wait",
                "a `--local` run lives only as long as tractorun",
                "leave it out, or give `--no-wait false`",
            );
        }
        let proxy = (self.surroundings.variable)(client::PROXY).unwrap_or_default();
        if settings.tensorproxy.is_some() && proxy.is_empty() {
            self.refuse_given(
                "tensorproxy.enabled",
                &format!(
                    "with `--local` the tensorproxy's program comes from the cluster in {}, which is not set",
                    client::PROXY
                ),
                &format!("set {}, or give `--tensorproxy.enabled false`", client::PROXY),
            );
        }
    }

    /// Refuses what no cluster gives, so that it shows before anything is uploaded.
    fn refuse_on_cluster(&mut self, settings: &Settings) {
        let count = settings.mesh.process_per_node;
        let port_count = crate::operation::port_count(settings);
        if port_count > MAX_PORTS {
            let most = MAX_PORTS - (port_count - count);
            self.refuse_given(
                "mesh.process_per_node",
                &format!(
                    "expected at most {most} on a cluster, which gives a job {MAX_PORTS} ports, got {count}"
                ),
                "use more nodes",
            );
        }
    }

    fn refuse_given(&mut self, key: &str, text: &str, hint: &str) {
        if let Some((subject, node)) = self.given(key) {
            let text = format!("{}: {text}", subject.name(&node.origin));
            self.reader.note(Problem::new(&node.origin, text).hint(hint));
        }
    }
}

/// Below a second no ping comes in time, and no cluster keeps a transaction for more than an hour.
fn transaction_timeout(reader: &mut Reader, subject: &Subject, node: &Node) -> Option<Duration> {
    let timeout = Duration::from_millis(reader.span_ms(subject, node, 1)?);
    if (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&timeout) {
        return Some(timeout);
    }
    reader.refuse(subject, node, "a time from `1s` to `1h`");
    None
}

fn omp_num_threads(reader: &mut Reader, subject: &Subject, node: &Node) -> Option<OmpNumThreads> {
    let accepted = format!("`torchrun`, `auto` or a whole number from 1 to {MAX_THREADS}");
    let text = match &node.content {
        Content::Text(text) | Content::Number(_, text) => text.as_str(),
        _ => "",
    };
    let threads = match text {
        "torchrun" => Some(OmpNumThreads::Torchrun),
        "auto" => Some(OmpNumThreads::Auto),
        text => text
            .parse::<NonZeroU32>()
            .ok()
            .filter(|count| count.get() <= MAX_THREADS)
            .map(OmpNumThreads::Count),
    };
    if threads.is_none() {
        reader.refuse(subject, node, &accepted);
    }
    threads
}

fn place(local: bool) -> Place {
    if local { Place::Local } else { Place::Cluster }
}

fn wait(no_wait: bool) -> Wait {
    if no_wait { Wait::NotAtAll } else { Wait::ForEnd }
}
