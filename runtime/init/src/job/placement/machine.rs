//! What a machine has: GPUs with the CPUs near them, and a limit of CPU time. Reads `/proc`, `/sys` and `/dev` below
//! a root that tests make up; runs no program, loads no library.
//!
//! Sources: `/proc/driver/nvidia/gpus/<bus id>/information` and `/proc/driver/nvidia/capabilities` (NVIDIA's driver),
//! `/sys/class/kfd/kfd/topology/nodes` (AMD's), `/sys/bus/pci/devices/<bus id>` and `/sys/devices/system/node`.
//!
//! A container often sees all GPUs of the machine in `/proc` and only its own in `/dev`: those without a device file
//! do not count, and the rest count from 0 in the order of their PCI addresses, as `nvidia-smi` has it. The number
//! in `/dev/nvidia<n>` is another one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tractorun_sys::CpuSet;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    /// Whose GPUs these are; nobody's where there is no driver.
    pub(crate) vendor: Option<Vendor>,
    /// The GPUs that can be opened here, in the order in which their driver counts them.
    pub(crate) gpus: Vec<Gpu>,
    /// GPUs that the driver has but that have no device file here.
    pub(crate) hidden: usize,
    /// CPU time that all processes here may use together, in CPUs; no limit if `None`.
    pub(crate) cpu_quota: Option<f64>,
}

/// Makers of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    Nvidia,
    Amd,
}

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// PCI address, such as `0000:3b:00.0`, lower case.
    pub(crate) bus_id: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) numa_node: Option<u32>,
    /// CPUs near it; `None` where the machine does not say.
    pub(crate) cpus: Option<CpuSet>,
    /// MIG compute instances that can be opened; empty where the GPU is used as a whole.
    pub(crate) instances: Vec<Instance>,
    /// It is cut into MIG instances, even if none of them can be opened.
    pub(crate) is_cut: bool,
}

/// A part of a GPU cut up by MIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    /// GPU instance.
    pub(crate) gi: u32,
    /// Compute instance in it.
    pub(crate) ci: u32,
}

impl Machine {
    /// Looks below `root`, which is `/` but for tests. What cannot be read is not there.
    pub(crate) fn read(root: &Path) -> Self {
        let cpu_quota = cpu_quota(root);
        let (gpus, hidden) = nvidia(root);
        if !gpus.is_empty() || hidden > 0 {
            return Self { vendor: Some(Vendor::Nvidia), gpus, hidden, cpu_quota };
        }
        let (gpus, hidden) = amd(root);
        let vendor = (!gpus.is_empty() || hidden > 0).then_some(Vendor::Amd);
        Self { vendor, gpus, hidden, cpu_quota }
    }
}

fn nvidia(root: &Path) -> (Vec<Gpu>, usize) {
    // By PCI address: its text sorts as its numbers do.
    let known: BTreeMap<String, PathBuf> = entries(&root.join("proc/driver/nvidia/gpus"))
        .map(|(name, path)| (name.to_lowercase(), path))
        .filter(|(_, path)| path.join("information").exists())
        .collect();
    if known.is_empty() {
        // Without the driver's files in `/proc` the device files still say how many there are.
        let minors = entries(&root.join("dev")).filter_map(|(name, _)| {
            name.strip_prefix("nvidia").and_then(|number| number.parse::<u32>().ok())
        });
        return (minors.map(|_| Gpu::default()).collect(), 0);
    }
    let count = known.len();
    let gpus: Vec<Gpu> =
        known.into_iter().filter_map(|(bus_id, path)| nvidia_gpu(root, bus_id, &path)).collect();
    let hidden = count - gpus.len();
    (gpus, hidden)
}

fn nvidia_gpu(root: &Path, bus_id: String, folder: &Path) -> Option<Gpu> {
    let information = read(&folder.join("information"))?;
    let field = |name: &str| {
        let line = information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let minor: Option<u32> = field("Device Minor").and_then(|text| text.parse().ok());
    if let Some(minor) = minor
        && !root.join(format!("dev/nvidia{minor}")).exists()
    {
        return None;
    }
    let (is_cut, instances) = minor.map_or_else(Default::default, |minor| mig_instances(root, minor));
    let (numa_node, cpus) = near_cpus(root, &bus_id);
    Some(Gpu {
        bus_id: Some(bus_id),
        // The driver writes question marks until the GPU is initialized.
        uuid: field("GPU UUID").filter(|uuid| !uuid.contains('?')),
        model: field("Model"),
        numa_node,
        cpus,
        instances,
        is_cut,
    })
}

/// Whether the GPU is cut up, and the compute instances that this container may open.
fn mig_instances(root: &Path, minor: u32) -> (bool, Vec<Instance>) {
    let number = |name: &str, prefix| name.strip_prefix(prefix).and_then(|number| number.parse().ok());
    let caps = root.join("dev/nvidia-caps");
    let mut instances = Vec::new();
    let mut is_cut = false;
    for (name, gi_folder) in entries(&root.join(format!("proc/driver/nvidia/capabilities/gpu{minor}/mig"))) {
        let Some(gi) = number(&name, "gi") else { continue };
        for (name, ci_folder) in entries(&gi_folder) {
            let Some(ci) = number(&name, "ci") else { continue };
            is_cut = true;
            let access = read(&ci_folder.join("access")).unwrap_or_default();
            let file = access.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"));
            // Older drivers grant by the file in `/proc` itself.
            if file
                .is_none_or(|file| !caps.exists() || caps.join(format!("nvidia-cap{}", file.trim())).exists())
            {
                instances.push(Instance { gi, ci });
            }
        }
    }
    instances.sort_unstable();
    (is_cut, instances)
}

fn amd(root: &Path) -> (Vec<Gpu>, usize) {
    let nodes: BTreeMap<u32, PathBuf> = entries(&root.join("sys/class/kfd/kfd/topology/nodes"))
        .filter_map(|(name, path)| Some((name.parse().ok()?, path)))
        .collect();
    let is_open = root.join("dev/kfd").exists();
    let mut gpus = Vec::new();
    let mut hidden = 0;
    for path in nodes.values() {
        // The kernel shows nothing of the GPUs that a container may not use.
        let Some(properties) = read(&path.join("properties")) else { continue };
        let number = |name: &str| -> Option<u64> {
            properties
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        // A node without them is a CPU.
        if number("simd_count").unwrap_or_default() == 0 {
            continue;
        }
        let has_file = number("drm_render_minor")
            .is_some_and(|minor| root.join(format!("dev/dri/renderD{minor}")).exists());
        if !is_open || !has_file {
            hidden += 1;
            continue;
        }
        let bus_id = number("location_id").map(|location| {
            let (bus, device, function) = ((location >> 8) & 0xff, (location >> 3) & 0x1f, location & 7);
            format!("{:04x}:{bus:02x}:{device:02x}.{function:x}", number("domain").unwrap_or_default())
        });
        let (numa_node, cpus) = bus_id.as_deref().map_or((None, None), |bus_id| near_cpus(root, bus_id));
        gpus.push(Gpu { bus_id, numa_node, cpus, ..Gpu::default() });
    }
    (gpus, hidden)
}

/// NUMA node of a PCI device and the CPUs near it.
///
/// `numa_node` is -1 where the firmware names none; then `local_cpulist` holds whatever the kernel believes, which
/// is all CPUs or those of the bus. A node may have memory and no CPUs.
fn near_cpus(root: &Path, bus_id: &str) -> (Option<u32>, Option<CpuSet>) {
    let device = root.join("sys/bus/pci/devices").join(bus_id);
    let cpus =
        |path: &Path| read(path).and_then(|text| CpuSet::parse(&text).ok()).filter(|set| !set.is_empty());
    let node = read(&device.join("numa_node")).and_then(|text| text.trim().parse::<u32>().ok());
    let of_node =
        node.and_then(|node| cpus(&root.join(format!("sys/devices/system/node/node{node}/cpulist"))));
    (node, of_node.or_else(|| cpus(&device.join("local_cpulist"))))
}

/// The tightest limit of CPU time on the way from this process's cgroup up to the root that it can see, in CPUs.
fn cpu_quota(root: &Path) -> Option<f64> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    let mut tightest: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let base = root.join("sys/fs/cgroup");
        let base = match controllers {
            "" => base,
            _ if controllers.split(',').any(|name| name == "cpu") => base.join(controllers),
            _ => continue,
        };
        let quotas = Path::new(path).ancestors().filter_map(|group| {
            let folder = base.join(group.strip_prefix("/").unwrap_or(group));
            quota_of(&folder)
        });
        tightest = quotas.chain(tightest).reduce(f64::min);
    }
    tightest
}

/// A group's own limit: `cpu.max` of cgroup v2, `cpu.cfs_*` of v1. -1 and `max` mean none.
fn quota_of(group: &Path) -> Option<f64> {
    let (quota, period) = match read(&group.join("cpu.max")) {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read(&group.join("cpu.cfs_quota_us"))?, read(&group.join("cpu.cfs_period_us"))?),
    };
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Names and paths of what is in a folder.
fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}
