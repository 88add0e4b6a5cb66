//! `tractorun-init check`: what a machine offers to workers, as a report for people or as JSON.
//!
//! Changes nothing: reads `/proc`, `/sys` and `/dev`, binds the job's ports for a moment, asks the cluster two questions.

mod clock;
mod memory;

use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use tokio::time::timeout;
use tractorun_contract::env::yt;
use tractorun_sys::CpuSet;
use tractorun_yt::{Client, ClientConfig};

use self::clock::clock;
use self::memory::memory;
use crate::image_env;
use crate::job::placement::{Machine, devices};
use crate::job::{Environment, hardware_root};

/// How long the cluster may take to answer.
const PROXY_LIMIT: Duration = Duration::from_secs(10);

/// Data loaders pass batches through shared memory; container engines give 64 MiB.
const SMALL_SHM_BYTES: u64 = 1 << 30;

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The report.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    name: &'static str,
    grade: Grade,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Fine,
    /// A job may run, and may not be content.
    Warning,
    /// A job cannot run.
    Failed,
}

/// Looks at everything.
pub async fn check(environment: &Environment) -> Report {
    let root = hardware_root(environment);
    let machine = Machine::read(root);
    let mut findings = vec![
        gpus(&machine),
        cpus(machine.cpu_quota),
        memory(root),
        shared_memory(root),
        ports(environment),
        image(environment),
    ];
    findings.extend(cluster(environment).await);
    Report { findings }
}

fn finding(name: &'static str, grade: Grade, text: impl Into<String>) -> Finding {
    Finding { name, grade, text: text.into() }
}

fn gpus(machine: &Machine) -> Finding {
    if machine.vendor.is_none() {
        return finding("gpus", Grade::Fine, "0: no driver of NVIDIA or AMD is loaded");
    }
    let mut lines = vec![devices(machine).len().to_string()];
    lines.extend(machine.gpus.iter().enumerate().map(|(index, gpu)| {
        let model = gpu.model.as_deref().unwrap_or("unknown model");
        let place = gpu.bus_id.as_ref().map(|bus_id| format!(" at {bus_id}")).unwrap_or_default();
        let near = match (gpu.numa_node, &gpu.cpus) {
            (Some(node), Some(cpus)) => format!(", NUMA node {node}, CPUs {cpus}"),
            (None, Some(cpus)) => format!(", CPUs {cpus}"),
            (_, None) => String::new(),
        };
        let parts =
            if gpu.is_cut { format!(", {} MIG instances", gpu.instances.len()) } else { String::new() };
        format!("{index}: {model}{place}{near}{parts}")
    }));
    if machine.hidden == 0 {
        return finding("gpus", Grade::Fine, lines.join("\n"));
    }
    lines.push(format!("{} more have no device file here", machine.hidden));
    finding("gpus", Grade::Warning, lines.join("\n"))
}

fn cpus(quota: Option<f64>) -> Finding {
    match CpuSet::allowed() {
        Ok(allowed) => {
            let quota = quota.map(|quota| format!(", time of {quota:.1}")).unwrap_or_default();
            finding("cpus", Grade::Fine, format!("{} ({allowed}){quota}", allowed.len()))
        }
        Err(error) => finding("cpus", Grade::Failed, format!("cannot tell which may be used: {error}")),
    }
}

fn shared_memory(root: &Path) -> Finding {
    match statvfs(&root.join("dev/shm")) {
        Ok(stat) => {
            let bytes = stat.blocks().saturating_mul(stat.fragment_size());
            let grade = if bytes < SMALL_SHM_BYTES { Grade::Warning } else { Grade::Fine };
            finding("/dev/shm", grade, size(bytes))
        }
        Err(error) => finding("/dev/shm", Grade::Warning, format!("not there: {}", error.desc())),
    }
}

/// The ports that the cluster gave to the job. They are free before its init takes them.
fn ports(environment: &Environment) -> Finding {
    let mut free = 0;
    let mut taken = Vec::new();
    for (name, value) in environment.iter() {
        let is_port = name.to_str().is_some_and(|name| name.starts_with(yt::PORT_PREFIX));
        let Some(port) = value.to_str().filter(|_| is_port).and_then(|value| value.parse::<u16>().ok())
        else {
            continue;
        };
        let v4 = TcpListener::bind(("0.0.0.0", port));
        match v4.or_else(|_| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))) {
            Ok(_) => free += 1,
            Err(error) => taken.push(format!("{port}: {error}")),
        }
    }
    match (free, taken.is_empty()) {
        (0, true) => finding("ports", Grade::Fine, "none given: this is no job"),
        (_, true) => finding("ports", Grade::Fine, format!("{free} free")),
        (_, false) => finding("ports", Grade::Warning, format!("{free} free\n{}", taken.join("\n"))),
    }
}

/// What an image keeps for its jobs.
fn image(environment: &Environment) -> Finding {
    match image_env::restore(environment) {
        Ok(restored) if restored.names.is_empty() => {
            finding("image", Grade::Fine, "no variables of its own that this environment lacks")
        }
        Ok(restored) => {
            finding("image", Grade::Fine, format!("gives jobs {}", image_env::list(&restored.names)))
        }
        Err(error) => finding("image", Grade::Failed, error.to_string()),
    }
}

/// Whether the cluster answers, and how late it is there.
async fn cluster(environment: &Environment) -> Vec<Finding> {
    let name = "cluster";
    let lookup = |name: &str| environment.get(name).and_then(|value| value.to_str()).map(str::to_owned);
    if lookup(tractorun_contract::env::client::PROXY).is_none_or(|proxy| proxy.is_empty()) {
        return vec![finding(name, Grade::Fine, "not asked: YT_PROXY is not set")];
    }
    let config = ClientConfig::from_environment(&lookup, None);
    let config = config.map(|config| ClientConfig { first_contact_budget: PROXY_LIMIT / 2, ..config });
    let client = config.and_then(|config| Ok((Client::new(config.clone())?, config)));
    let (client, config) = match client {
        Ok(client) => client,
        Err(error) => return vec![finding(name, Grade::Failed, error.to_string())],
    };
    match timeout(PROXY_LIMIT, client.exists("//sys")).await {
        Ok(Ok(_)) => {
            let mut findings = vec![finding(name, Grade::Fine, format!("{} answers", client.proxy_url()))];
            // Not told in time is not told.
            findings.extend(timeout(PROXY_LIMIT, clock(&config)).await.ok().flatten());
            findings
        }
        Ok(Err(error)) => vec![finding(name, Grade::Failed, error.to_string())],
        Err(_) => {
            let text = format!("{} does not answer within {} s", client.proxy_url(), PROXY_LIMIT.as_secs());
            vec![finding(name, Grade::Failed, text)]
        }
    }
}

/// `1.5 GiB`.
fn size(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    if mebibytes < 1024 {
        return format!("{mebibytes} MiB");
    }
    format!("{}.{} GiB", mebibytes / 1024, mebibytes % 1024 * 10 / 1024)
}

// === impl Report ===

impl Report {
    /// Whether a job can run here, as far as is known.
    pub fn is_fine(&self) -> bool {
        self.findings.iter().all(|finding| finding.grade != Grade::Failed)
    }

    /// The whole text, with the newline at its end.
    pub fn show(&self, format: Format) -> String {
        match format {
            Format::Text => self.findings.iter().map(Finding::show).collect(),
            Format::Json => {
                let checks: Vec<Value> = self.findings.iter().map(Finding::to_json).collect();
                format!("{:#}\n", json!({ "fine": self.is_fine(), "checks": checks }))
            }
        }
    }
}

// === impl Finding ===

impl Finding {
    fn show(&self) -> String {
        let mark = match self.grade {
            Grade::Fine => "ok     ",
            Grade::Warning => "warning",
            Grade::Failed => "failed ",
        };
        let text = self.text.replace('\n', "\n                     ");
        format!("{mark}  {:<10}  {text}\n", self.name)
    }

    fn to_json(&self) -> Value {
        let grade = match self.grade {
            Grade::Fine => "ok",
            Grade::Warning => "warning",
            Grade::Failed => "failed",
        };
        json!({ "name": self.name, "status": grade, "lines": self.text.lines().collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::placement::trees::Tree;

    #[tokio::test]
    async fn a_machine_is_shown_with_its_gpus() {
        let tree = Tree::two_sockets();
        tree.without("dev/nvidia7").file("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1572864 kB\n");
        let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let root = tree.root().to_str().unwrap();
        let variables = [("TRACTORUN_HARDWARE_ROOT", root), ("YT_PORT_0", &port)];
        let report = check(&variables.into_iter().collect()).await;
        assert!(report.is_fine());
        let text = report.show(Format::Text);
        for line in [
            "warning  gpus        7",
            "                     6: NVIDIA H100 80GB HBM3 at 0000:df:00.0, NUMA node 1, CPUs 56-111,168-223",
            "                     1 more have no device file here",
            "ok       memory      1.5 GiB of 2.0 GiB available on the machine",
            "warning  /dev/shm    not there: No such file or directory",
            "ok       cluster     not asked: YT_PROXY is not set",
        ] {
            assert!(text.lines().any(|shown| shown == line), "no `{line}` in:\n{text}");
        }
        assert!(text.contains(&format!("\n                     {port}: ")), "{text}");
        let json: Value = serde_json::from_str(&report.show(Format::Json)).unwrap();
        assert_eq!((&json["fine"], &json["checks"][0]["status"]), (&json!(true), &json!("warning")));
        assert_eq!(json["checks"][0]["lines"][0], "7");
    }

    #[tokio::test]
    async fn what_an_image_gives_its_jobs_is_told_and_a_damaged_file_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        let name = file.to_str().unwrap();
        let look = || image(&[("TRACTORUN_IMAGE_ENV", name), ("A", "1")].into_iter().collect());
        assert_eq!(look().text, "no variables of its own that this environment lacks");
        std::fs::write(&file, "tractorun-env 1\0A=2\0B=hidden\0C=\0").unwrap();
        assert_eq!((look().grade, look().text.as_str()), (Grade::Fine, "gives jobs B, C"));
        std::fs::write(&file, "torn").unwrap();
        assert_eq!(look().grade, Grade::Failed);
    }

    #[tokio::test]
    async fn a_cluster_that_is_not_there_is_a_failure() {
        let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
        let variables = [("YT_PROXY", gone.as_str()), ("YT_TOKEN", "s3cret")];
        let findings = cluster(&variables.into_iter().collect()).await;
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert_eq!(finding.grade, Grade::Failed);
        assert!(finding.text.contains(&gone) && !finding.text.contains("s3cret"), "{}", finding.text);
    }
}
