//! Made-up `/proc`, `/sys` and `/dev` trees of machines, for tests.

use std::fs;
use std::path::Path;

/// A machine below a temporary folder.
pub(crate) struct Tree(tempfile::TempDir);

/// One GPU of NVIDIA's to make up.
pub(crate) struct Nvidia<'a> {
    pub(crate) bus_id: &'a str,
    /// Number in `/dev/nvidia<n>`.
    pub(crate) minor: u32,
    pub(crate) uuid: &'a str,
    /// What `numa_node` holds.
    pub(crate) numa_node: i32,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// A file with its folders.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn without(&self, path: &str) -> &Self {
        let path = self.root().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        self
    }

    pub(crate) fn numa_node(&self, number: u32, cpus: &str) -> &Self {
        self.file(&format!("sys/devices/system/node/node{number}/cpulist"), &format!("{cpus}\n"))
    }

    pub(crate) fn nvidia(&self, gpu: &Nvidia<'_>) -> &Self {
        let Nvidia { bus_id, minor, uuid, numa_node } = gpu;
        // As driver 550 writes it.
        let information = format!(
            "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 411\nGPU UUID: \t {uuid}\nVideo BIOS: \t 96.00.74.00.01\n\
             Bus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t {bus_id}\n\
             Device Minor: \t {minor}\nGPU Firmware: \t 550.54.15\nGPU Excluded:\t No\n"
        );
        self.file(&format!("proc/driver/nvidia/gpus/{bus_id}/information"), &information);
        self.file(&format!("dev/nvidia{minor}"), "");
        self.file(&format!("sys/bus/pci/devices/{bus_id}/numa_node"), &format!("{numa_node}\n"))
    }

    /// A MIG compute instance of the GPU with that minor number; `cap` is its number in `/dev/nvidia-caps`.
    pub(crate) fn mig(&self, minor: u32, gi: u32, ci: u32, cap: u32) -> &Self {
        let access = format!("DeviceFileMinor: {cap}\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
        self.file(&format!("proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}/ci{ci}/access"), &access);
        self.file(&format!("dev/nvidia-caps/nvidia-cap{cap}"), "")
    }

    pub(crate) fn amd(&self, node: u32, location_id: u32, render_minor: u32) -> &Self {
        let properties = format!(
            "cpu_cores_count 0\nsimd_count 1216\nlocation_id {location_id}\ndomain 0\ndrm_render_minor {render_minor}\n"
        );
        self.file(&format!("sys/class/kfd/kfd/topology/nodes/{node}/properties"), &properties);
        self.file(&format!("dev/dri/renderD{render_minor}"), "").file("dev/kfd", "")
    }

    /// Eight GPUs on two sockets of 56 cores, as in a DGX H100: the second GPU in PCI order has minor number 2.
    pub(crate) fn two_sockets() -> Self {
        let tree = Self::new();
        tree.numa_node(0, "0-55,112-167").numa_node(1, "56-111,168-223");
        let buses = ["1b", "43", "52", "61", "9d", "c3", "d1", "df"];
        let minors = [0, 2, 1, 3, 4, 5, 7, 6];
        for (index, (bus, minor)) in buses.iter().zip(minors).enumerate() {
            tree.nvidia(&Nvidia {
                bus_id: &format!("0000:{bus}:00.0"),
                minor,
                uuid: &format!("GPU-{index}a1b2c3d-0000-0000-0000-00000000000{index}"),
                numa_node: i32::from(index >= 4),
            });
        }
        // What else lies there.
        tree.file("dev/nvidiactl", "").file("dev/nvidia-uvm", "").file("dev/nvidia-modeset", "");
        tree
    }
}
