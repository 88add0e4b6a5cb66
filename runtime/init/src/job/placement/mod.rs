//! Which GPUs and CPUs each worker of this node gets.
//!
//! ```text
//! /proc /sys /dev --machine--> Machine --visible--> devices --plan--> one Allotment for each worker
//! ```
//!
//! Rules:
//! - Worker `r` has the GPUs `r * gpu_per_process` on, in the order in which programs count them, which an inherited
//!   or the user's own `CUDA_VISIBLE_DEVICES` decides. Too few for all workers: an error before anything starts.
//! - Workers with GPUs are bound to all CPUs of their GPUs' NUMA nodes that init itself may use: a share of them
//!   for each would keep data loaders from CPUs that idle. Where the machine does not say which CPUs these are, where
//!   init may use none of them, and without GPUs, workers run where init does. Memory is left to the kernel, which
//!   takes it from the node of whoever touches it first.
//! - Sidecars and init are never bound.
//!
//! Only [`Machine::read`] does IO; [`plan`] is a plain function. Nothing here starts or binds a process.

mod machine;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod trees;
mod visible;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use tractorun_contract::env::{gpu, worker};
use tractorun_contract::job_spec::Mesh;
use tractorun_contract::placement::{CpuAffinity, GpuVisibility, OmpNumThreads, Placement};
use tractorun_sys::CpuSet;

use crate::metrics::Placed;
pub(crate) use machine::{Machine, Vendor};
use visible::Device;
pub(crate) use visible::all as devices;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) mesh: Mesh,
    pub(super) node_rank: u32,
    /// Nodes that share the machine.
    pub(super) nodes_here: u32,
    pub(super) placement: Placement,
}

/// What one worker gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allotment {
    /// Its GPUs, as `CUDA_VISIBLE_DEVICES` spells them; `?` for one without a name.
    pub(super) gpus: Vec<String>,
    /// CPUs to bind it to; it runs where init does if `None`.
    pub(super) cpus: Option<CpuSet>,
    /// Variables, with how much they count.
    pub(super) variables: Vec<(Weight, &'static str, String)>,
}

/// How much a variable counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Less than what init inherited.
    Default,
    /// More than that, less than the user's own variables.
    Option,
    /// More than anything.
    Duty,
}

impl Allotment {
    /// What the status shows of it, with the thread count of the worker's whole environment.
    pub(super) fn shown(&self, environment: &[(OsString, OsString)], allowed: &CpuSet) -> Placed {
        let threads = environment.iter().find(|(name, _)| name == worker::OMP_NUM_THREADS);
        Placed {
            gpus: self.gpus.clone(),
            cpus: self.cpus.as_ref().unwrap_or(allowed).to_string(),
            // The user's own text is nobody's business unless it is a number.
            omp_num_threads: threads.and_then(|(_, value)| value.to_str()?.parse().ok()),
        }
    }
}

/// Why the workers cannot be placed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlacementError {
    #[error(
        "too few GPUs: the job needs {needed} on this {unit} ({what}), there {are} {found}{why}\n\
         hint: `tractorun-init check` shows the GPUs of a machine; `mesh.gpu_per_process` says how many a worker gets",
        are = if *found == 1 { "is" } else { "are" }
    )]
    TooFew { needed: u32, found: u32, unit: &'static str, what: String, why: Why },
    #[error(
        "mesh.gpu_visibility: a MIG instance has no name that is known here, so no worker can be given its own\n\
         hint: name the instances in CUDA_VISIBLE_DEVICES (`nvidia-smi -L` shows them), or use `all`"
    )]
    NoName,
}

/// Where the GPUs are that should be there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There are just no more.
    NoMore,
    NoDriver,
    /// The driver has more.
    NoDeviceFile {
        hidden: usize,
    },
    /// A variable leaves some out.
    Restricted {
        variable: &'static str,
        of: usize,
    },
}

/// Gives each worker of this node what it gets. `allowed` is what init may run on; `variable` finds the variables
/// that workers would have if nothing were placed.
pub(super) fn plan(
    request: Request,
    machine: &Machine,
    allowed: &CpuSet,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Allotment>, PlacementError> {
    let Request { mesh, node_rank, nodes_here, placement } = request;
    let gpus = select(request, machine, variable)?;
    let local_ranks = 0..mesh.process_per_node;
    // Nodes on the same machine take its GPUs one after the other.
    let place_here = node_rank % nodes_here.max(1);
    let of_worker = |node: u32, local_rank: u32| {
        let first = u64::from(node) * u64::from(mesh.gpus_per_node());
        let range = mesh.gpus_of(local_rank);
        let index = |at: u32| usize::try_from(first + u64::from(at)).unwrap_or(usize::MAX);
        // Empty where no GPUs were asked for.
        gpus.get(index(range.start)..index(range.end)).unwrap_or_default()
    };
    let cpus_of = |node, local_rank| match placement.cpu_affinity {
        CpuAffinity::Numa => near(of_worker(node, local_rank), allowed),
        CpuAffinity::None => None,
    };
    let shares = (placement.omp_num_threads == OmpNumThreads::Auto).then(|| {
        let nodes = 0..nodes_here.max(1);
        let everybody = nodes.flat_map(|node| local_ranks.clone().map(move |local_rank| (node, local_rank)));
        Shares::new(everybody.map(|(node, local_rank)| cpus_of(node, local_rank)), allowed, machine.cpu_quota)
    });
    local_ranks
        .map(|local_rank| {
            let own = of_worker(place_here, local_rank);
            let cpus = cpus_of(place_here, local_rank);
            let mut variables = Vec::new();
            if mesh.gpu_per_process > 0 {
                show_gpus(request, machine, &gpus, own, variable, &mut variables)?;
            }
            let threads = match placement.omp_num_threads {
                OmpNumThreads::Torchrun if mesh.process_per_node > 1 => Some((Weight::Default, 1)),
                OmpNumThreads::Torchrun => None,
                OmpNumThreads::Count(count) => Some((Weight::Option, count.get() as usize)),
                OmpNumThreads::Auto => shares
                    .as_ref()
                    .map(|shares| (Weight::Option, shares.of(cpus.as_ref().unwrap_or(allowed)))),
            };
            if let Some((weight, count)) = threads {
                variables.push((weight, worker::OMP_NUM_THREADS, count.to_string()));
            }
            let gpus = own.iter().map(|gpu| gpu.name.clone().unwrap_or_else(|| "?".to_owned())).collect();
            Ok(Allotment { gpus, cpus, variables })
        })
        .collect()
}

/// The GPUs that programs here would count, if they are enough.
fn select(
    request: Request,
    machine: &Machine,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Device>, PlacementError> {
    let Request { mesh, nodes_here, .. } = request;
    if mesh.gpu_per_process == 0 {
        return Ok(Vec::new());
    }
    let mut devices = visible::all(machine);
    let mut why = match machine.vendor {
        None => Why::NoDriver,
        Some(_) if machine.hidden > 0 => Why::NoDeviceFile { hidden: machine.hidden },
        Some(_) => Why::NoMore,
    };
    for name in restricting(machine.vendor, variable) {
        let list = variable(name).unwrap_or_default();
        let left = visible::listed(machine, &devices, &list);
        if left.len() < devices.len() {
            why = Why::Restricted { variable: name, of: devices.len() };
        }
        devices = left;
        if name == gpu::ROCR_VISIBLE_DEVICES {
            // What is above counts what this one has left.
            devices.iter_mut().enumerate().for_each(|(index, device)| device.name = Some(index.to_string()));
        }
    }
    let needed = mesh.gpus_per_node().saturating_mul(nodes_here.max(1));
    let found = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    if found < needed {
        let Mesh { process_per_node, gpu_per_process, .. } = mesh;
        let workers = format!("{} with {gpu_per_process} each", plural(process_per_node, "worker"));
        let (unit, what) = match nodes_here {
            0 | 1 => ("node", workers),
            _ => ("machine", format!("{} of {workers}", plural(nodes_here, "node"))),
        };
        return Err(PlacementError::TooFew { needed, found, unit, what, why });
    }
    Ok(devices)
}

/// The variables that leave GPUs out, in the order in which they are applied.
fn restricting(
    vendor: Option<Vendor>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> impl Iterator<Item = &'static str> {
    let is_set = |name: &str| variable(name).is_some();
    let names: [Option<&'static str>; 2] = match vendor {
        None => [None, None],
        Some(Vendor::Nvidia) => {
            [is_set(gpu::CUDA_VISIBLE_DEVICES).then_some(gpu::CUDA_VISIBLE_DEVICES), None]
        }
        Some(Vendor::Amd) => {
            // HIP takes CUDA's name as well, after its own.
            let hip =
                [gpu::HIP_VISIBLE_DEVICES, gpu::CUDA_VISIBLE_DEVICES].into_iter().find(|name| is_set(name));
            [is_set(gpu::ROCR_VISIBLE_DEVICES).then_some(gpu::ROCR_VISIBLE_DEVICES), hip]
        }
    };
    names.into_iter().flatten()
}

/// The variables by which a worker sees its GPUs.
fn show_gpus(
    request: Request,
    machine: &Machine,
    all: &[Device],
    own: &[Device],
    variable: &dyn Fn(&str) -> Option<String>,
    variables: &mut Vec<(Weight, &'static str, String)>,
) -> Result<(), PlacementError> {
    let Request { mesh, node_rank, nodes_here, placement } = request;
    let shown = match placement.gpu_visibility {
        GpuVisibility::Own => Some(own),
        // Nodes of one machine must not take each other's: each sees what would be in its container.
        GpuVisibility::All if nodes_here > 1 => {
            let count = mesh.gpus_per_node() as usize;
            all.get((node_rank % nodes_here) as usize * count..).and_then(|rest| rest.get(..count))
        }
        GpuVisibility::All => None,
    };
    if let Some(shown) = shown {
        let names: Option<Vec<&str>> = shown.iter().map(|device| device.name.as_deref()).collect();
        let list = names.ok_or(PlacementError::NoName)?.join(",");
        for name in [gpu::CUDA_VISIBLE_DEVICES, gpu::NVIDIA_VISIBLE_DEVICES, gpu::HIP_VISIBLE_DEVICES] {
            variables.push((Weight::Duty, name, list.clone()));
        }
    }
    // CUDA counts the fastest GPU first unless told otherwise; numbers that somebody else wrote may mean that.
    if machine.vendor == Some(Vendor::Nvidia) && variable(gpu::CUDA_VISIBLE_DEVICES).is_none() {
        variables.push((Weight::Default, gpu::CUDA_DEVICE_ORDER, gpu::PCI_BUS_ID.to_owned()));
    }
    Ok(())
}

/// The CPUs near all these GPUs that init may use, if that says anything.
fn near(gpus: &[Device], allowed: &CpuSet) -> Option<CpuSet> {
    let mut near = CpuSet::new();
    for gpu in gpus {
        near = near.union(gpu.cpus.as_ref()?);
    }
    let near = near.intersection(allowed);
    (!near.is_empty() && near != *allowed).then_some(near)
}

/// How CPUs are shared: each is divided by the workers that may run on it.
struct Shares {
    /// For each CPU the workers that may run on it.
    sharers: BTreeMap<usize, u32>,
    /// One worker's part of the CPU time that all may use.
    of_quota: f64,
}

impl Shares {
    /// For workers bound to these CPUs, or to all that are allowed.
    fn new(workers: impl Iterator<Item = Option<CpuSet>>, allowed: &CpuSet, cpu_quota: Option<f64>) -> Self {
        let mut sharers = BTreeMap::new();
        let mut count = 0;
        for cpus in workers {
            count += 1;
            for cpu in cpus.as_ref().unwrap_or(allowed).iter() {
                *sharers.entry(cpu).or_default() += 1;
            }
        }
        let of_quota = cpu_quota.map_or(f64::INFINITY, |quota| quota / f64::from(count.max(1)));
        Self { sharers, of_quota }
    }

    /// Whole CPUs for one worker that may run on these.
    fn of(&self, cpus: &CpuSet) -> usize {
        let sharers = |cpu| self.sharers.get(&cpu).copied().unwrap_or(1);
        let share: f64 = cpus.iter().map(|cpu| 1.0 / f64::from(sharers(cpu))).sum();
        // A third and a third and a third are not quite one.
        let share = (share.min(self.of_quota) + 1e-6).floor().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to the number of CPUs"
        )]
        let share = share as usize;
        share
    }
}

/// `1 worker`, `2 workers`.
pub(crate) fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMore => Ok(()),
            Self::NoDriver => f.write_str(": no driver of NVIDIA or AMD is loaded"),
            Self::NoDeviceFile { hidden } => {
                write!(f, ": the driver has {hidden} more, whose device files are not here")
            }
            Self::Restricted { variable, of } => write!(f, ": {variable} leaves out others of {of}"),
        }
    }
}
