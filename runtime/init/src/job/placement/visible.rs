//! Which of a machine's GPUs its programs count, and how each is named: the rules of `CUDA_VISIBLE_DEVICES`.
//!
//! A list holds numbers, UUIDs or beginnings of them, and names of MIG instances; what it names counts from 0 in the
//! list's order. From the first item on that names nothing the rest is cut off, as CUDA does it (`-1` is such an
//! item). Pure.

use tractorun_sys::CpuSet;

use super::machine::{Gpu, Machine};

/// A GPU, or a part of one, as programs count them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its name in `CUDA_VISIBLE_DEVICES`; `None` where nobody can tell.
    pub(crate) name: Option<String>,
    /// CPUs near it.
    pub(crate) cpus: Option<CpuSet>,
}

/// The devices that programs count where nobody restricts them.
pub(crate) fn all(machine: &Machine) -> Vec<Device> {
    let mut devices = Vec::new();
    for (index, gpu) in machine.gpus.iter().enumerate() {
        if !gpu.is_cut {
            devices.push(Device { name: Some(index.to_string()), cpus: gpu.cpus.clone() });
        }
        for instance in &gpu.instances {
            let name = gpu.uuid.as_ref().map(|uuid| format!("MIG-{uuid}/{}/{}", instance.gi, instance.ci));
            devices.push(Device { name, cpus: gpu.cpus.clone() });
        }
    }
    devices
}

/// The devices that a list leaves.
pub(crate) fn listed(machine: &Machine, devices: &[Device], list: &str) -> Vec<Device> {
    let mut left: Vec<Device> = Vec::new();
    for item in list.split(',').map(str::trim) {
        match find(machine, devices, item) {
            Some(device) if !left.iter().any(|other| other.name == device.name) => left.push(device),
            // CUDA takes a GPU named twice for a mistake as well.
            _ => break,
        }
    }
    left
}

fn find(machine: &Machine, devices: &[Device], item: &str) -> Option<Device> {
    let named = |cpus: Option<CpuSet>| Some(Device { name: Some(item.to_owned()), cpus });
    if let Ok(index) = item.parse::<usize>() {
        return named(devices.get(index)?.cpus.clone());
    }
    if let Some(instance) = item.strip_prefix("MIG-") {
        // `MIG-GPU-<uuid>/<gi>/<ci>` says which GPU it is part of, `MIG-<uuid>` does not.
        let of_gpu = instance.split('/').next().filter(|uuid| uuid.starts_with("GPU-"));
        return match of_gpu {
            Some(uuid) => named(by_uuid(&machine.gpus, uuid)?.cpus.clone()),
            None => named(common_cpus(machine)),
        };
    }
    if item.starts_with("GPU-") {
        // Without the driver's files in `/proc` there is no way to doubt the name.
        if machine.gpus.iter().all(|gpu| gpu.uuid.is_none()) && !machine.gpus.is_empty() {
            return named(None);
        }
        return named(by_uuid(&machine.gpus, item)?.cpus.clone());
    }
    None
}

/// The only GPU whose UUID begins so.
fn by_uuid<'a>(gpus: &'a [Gpu], beginning: &str) -> Option<&'a Gpu> {
    let mut matching =
        gpus.iter().filter(|gpu| gpu.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(beginning)));
    matching.next().filter(|_| matching.next().is_none())
}

/// CPUs near every GPU that is cut up, if these are the same.
fn common_cpus(machine: &Machine) -> Option<CpuSet> {
    let mut cut = machine.gpus.iter().filter(|gpu| gpu.is_cut).map(|gpu| &gpu.cpus);
    let first = cut.next()?;
    cut.all(|cpus| cpus == first).then(|| first.clone()).flatten()
}
