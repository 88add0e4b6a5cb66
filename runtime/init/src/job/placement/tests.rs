//! Machines as they are, made up in folders.

use std::num::NonZeroU32;

use tractorun_contract::placement::{CpuAffinity, GpuVisibility, OmpNumThreads, Placement};

use super::machine::{Gpu, Instance};
use super::trees::{Nvidia, Tree};
use super::*;

const ALL: u32 = 224;

fn cpus(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

fn request(process_per_node: u32, gpu_per_process: u32) -> Request {
    Request {
        mesh: Mesh { node_count: 1, process_per_node, gpu_per_process },
        node_rank: 0,
        nodes_here: 1,
        placement: Placement::default(),
    }
}

fn own(request: Request) -> Request {
    Request { placement: Placement { gpu_visibility: GpuVisibility::Own, ..request.placement }, ..request }
}

/// Plans where init may run on all of 224 CPUs.
fn planned(request: Request, tree: &Tree, variables: &[(&str, &str)]) -> Result<Vec<Allotment>, String> {
    planned_on(request, tree, &cpus(&format!("0-{}", ALL - 1)), variables)
}

fn planned_on(
    request: Request,
    tree: &Tree,
    allowed: &CpuSet,
    variables: &[(&str, &str)],
) -> Result<Vec<Allotment>, String> {
    let variable =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    plan(request, &Machine::read(tree.root()), allowed, &variable).map_err(|error| error.to_string())
}

/// For each worker its GPUs and CPUs, as one text.
fn shown(allotments: &[Allotment]) -> Vec<String> {
    let one = |allotment: &Allotment| {
        let cpus = allotment.cpus.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        format!("{} on {cpus}", allotment.gpus.join(","))
    };
    allotments.iter().map(one).collect()
}

fn value<'a>(allotment: &'a Allotment, name: &str) -> Option<&'a str> {
    allotment.variables.iter().find(|(_, key, _)| *key == name).map(|(_, _, value)| value.as_str())
}

const FIRST_SOCKET: &str = "0-55,112-167";
const SECOND_SOCKET: &str = "56-111,168-223";

#[test]
fn eight_gpus_on_two_sockets_are_known_by_pci_address() {
    let machine = Machine::read(Tree::two_sockets().root());
    assert_eq!((machine.vendor, machine.gpus.len(), machine.hidden), (Some(Vendor::Nvidia), 8, 0));
    assert_eq!(
        machine.gpus[4],
        Gpu {
            bus_id: Some("0000:9d:00.0".into()),
            uuid: Some("GPU-4a1b2c3d-0000-0000-0000-000000000004".into()),
            model: Some("NVIDIA H100 80GB HBM3".into()),
            numa_node: Some(1),
            cpus: Some(cpus(SECOND_SOCKET)),
            instances: Vec::new(),
            is_cut: false,
        }
    );
}

#[test]
fn each_worker_is_bound_to_its_gpus_socket() {
    let tree = Tree::two_sockets();
    let plan = planned(request(8, 1), &tree, &[]).unwrap();
    let expected: Vec<String> = (0..8)
        .map(|gpu| format!("{gpu} on {}", if gpu < 4 { FIRST_SOCKET } else { SECOND_SOCKET }))
        .collect();
    assert_eq!(shown(&plan), expected);
    // All are seen, in the order that the numbers mean.
    for allotment in &plan {
        assert_eq!(
            allotment.variables,
            [
                (Weight::Default, "CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
                (Weight::Default, "OMP_NUM_THREADS", "1".to_owned()),
            ]
        );
    }
    // A worker with GPUs on both sockets may run on both.
    assert_eq!(
        shown(&planned(request(2, 3), &tree, &[]).unwrap()),
        [format!("0,1,2 on {FIRST_SOCKET}"), "3,4,5 on all".to_owned()]
    );
    // Nobody asked for GPUs: nobody is bound.
    assert_eq!(shown(&planned(request(1, 0), &tree, &[]).unwrap()), [" on all"]);
    let mut unbound = request(1, 1);
    unbound.placement.cpu_affinity = CpuAffinity::None;
    assert_eq!(shown(&planned(unbound, &tree, &[]).unwrap()), ["0 on all"]);
}

#[test]
fn only_cpus_that_init_may_use_are_taken() {
    let tree = Tree::two_sockets();
    let plan = planned_on(request(8, 1), &tree, &cpus("0-3,100-115"), &[]).unwrap();
    assert_eq!((shown(&plan)[0].as_str(), shown(&plan)[7].as_str()), ("0 on 0-3,112-115", "7 on 100-111"));
    // The container's CPUs are all on the other socket: better far CPUs than none.
    let plan = planned_on(request(8, 1), &tree, &cpus("56-60"), &[]).unwrap();
    assert_eq!((shown(&plan)[0].as_str(), shown(&plan)[7].as_str()), ("0 on all", "7 on all"));
}

#[test]
fn one_socket_and_machines_that_know_no_nodes_bind_nobody() {
    let one = Tree::new();
    one.numa_node(0, "0-223");
    let unknown = Tree::new();
    let silent = Tree::new();
    for (tree, numa_node) in [(&one, 0), (&unknown, -1), (&silent, -1)] {
        for (bus, minor) in [("01", 0), ("02", 1)] {
            let bus_id = &format!("0000:{bus}:00.0");
            tree.nvidia(&Nvidia { bus_id, minor, uuid: "GPU-?", numa_node });
            if numa_node == -1 {
                unknown.file(&format!("sys/bus/pci/devices/{bus_id}/local_cpulist"), "0-223\n");
            }
        }
        assert_eq!(shown(&planned(request(2, 1), tree, &[]).unwrap()), ["0 on all", "1 on all"]);
    }
}

#[test]
fn a_device_whose_node_is_not_known_goes_by_what_the_kernel_believes() {
    let tree = Tree::new();
    tree.numa_node(2, "");
    for (bus, minor, numa_node, list) in [("01", 0, -1, "0-7"), ("02", 1, 2, "8-15")] {
        let bus_id = &format!("0000:{bus}:00.0");
        tree.nvidia(&Nvidia { bus_id, minor, uuid: "GPU-a", numa_node });
        tree.file(&format!("sys/bus/pci/devices/{bus_id}/local_cpulist"), list);
    }
    assert_eq!(shown(&planned(request(2, 1), &tree, &[]).unwrap()), ["0 on 0-7", "1 on 8-15"]);
}

#[test]
fn gpus_of_a_container_count_from_zero() {
    // The container has the GPUs at 0000:43 (minor 2) and 0000:df (minor 6); `/proc` shows all eight.
    let tree = Tree::two_sockets();
    for minor in [0, 1, 3, 4, 5, 7] {
        tree.without(&format!("dev/nvidia{minor}"));
    }
    let plan = planned(own(request(2, 1)), &tree, &[]).unwrap();
    assert_eq!(shown(&plan), [format!("0 on {FIRST_SOCKET}"), format!("1 on {SECOND_SOCKET}")]);
    assert_eq!(value(&plan[1], "CUDA_VISIBLE_DEVICES"), Some("1"));
    assert_eq!(
        planned(request(4, 1), &tree, &[]).unwrap_err().lines().next().unwrap(),
        "too few GPUs: the job needs 4 on this node (4 workers with 1 each), there are 2: \
         the driver has 6 more, whose device files are not here"
    );
}

#[test]
fn without_the_drivers_files_the_device_files_are_counted() {
    let tree = Tree::new();
    tree.file("dev/nvidia0", "").file("dev/nvidia3", "").file("dev/nvidiactl", "").file("dev/nvidia-uvm", "");
    assert_eq!(shown(&planned(request(1, 2), &tree, &[]).unwrap()), ["0,1 on all"]);
    let listed = [("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2")];
    assert_eq!(shown(&planned(request(1, 2), &tree, &listed).unwrap()), ["GPU-1,GPU-2 on all"]);
}

#[test]
fn too_few_gpus_are_an_error_that_names_both_counts() {
    let first_line = |request, tree: &Tree, variables: &[(&str, &str)]| {
        planned(request, tree, variables).unwrap_err().lines().next().unwrap().to_owned()
    };
    let two_sockets = Tree::two_sockets();
    assert_eq!(
        planned(request(3, 3), &two_sockets, &[]).unwrap_err(),
        "too few GPUs: the job needs 9 on this node (3 workers with 3 each), there are 8\n\
         hint: `tractorun-init check` shows the GPUs of a machine; `mesh.gpu_per_process` says how many a worker gets"
    );
    assert_eq!(
        first_line(request(1, 1), &Tree::new(), &[]),
        "too few GPUs: the job needs 1 on this node (1 worker with 1 each), there are 0: \
         no driver of NVIDIA or AMD is loaded"
    );
    assert_eq!(
        first_line(request(2, 1), &two_sockets, &[("CUDA_VISIBLE_DEVICES", "5")]),
        "too few GPUs: the job needs 2 on this node (2 workers with 1 each), there is 1: \
         CUDA_VISIBLE_DEVICES leaves out others of 8"
    );
    let shared = Request { nodes_here: 3, ..request(2, 2) };
    assert_eq!(
        first_line(shared, &two_sockets, &[]),
        "too few GPUs: the job needs 12 on this machine (3 nodes of 2 workers with 2 each), there are 8"
    );
}

#[test]
fn an_inherited_list_is_kept_by_its_numbers_and_names() {
    let tree = Tree::two_sockets();
    let list = |text| [("CUDA_VISIBLE_DEVICES", text)];
    // List, GPUs for each of two workers, what each is given as its own.
    for (text, per_worker, expected) in [
        ("7,0", 1, ["7", "0"]),
        (" 7 , 0 ,1", 1, ["7", "0"]),
        ("4,5,0,1", 2, ["4,5", "0,1"]),
        ("GPU-7a1b2c3d,GPU-0", 1, ["GPU-7a1b2c3d", "GPU-0"]),
    ] {
        let plan = planned(own(request(2, per_worker)), &tree, &list(text)).unwrap();
        let given: Vec<_> =
            plan.iter().map(|worker| value(worker, "CUDA_VISIBLE_DEVICES").unwrap()).collect();
        assert_eq!(given, expected, "{text}");
        assert_eq!(plan[0].cpus, Some(cpus(SECOND_SOCKET)));
        assert_eq!(plan[1].cpus, Some(cpus(FIRST_SOCKET)));
        // Whoever wrote the numbers may have meant CUDA's own order.
        assert_eq!(value(&plan[0], "CUDA_DEVICE_ORDER"), None);
        // Nothing is written over it where all are visible.
        let plan = planned(request(2, per_worker), &tree, &list(text)).unwrap();
        assert_eq!(value(&plan[0], "CUDA_VISIBLE_DEVICES"), None);
    }
    // What CUDA cuts off is not there: an unknown one, a second time, a beginning that two have, nothing.
    for text in ["0,8,1", "0,-1,1", "0,0,1", "0,GPU-,1", "0,,1", "0,x"] {
        let error = planned(request(2, 1), &tree, &list(text)).unwrap_err();
        assert!(error.contains("there is 1: CUDA_VISIBLE_DEVICES leaves out others of 8"), "{text}: {error}");
    }
    assert!(planned(request(1, 1), &tree, &list("")).unwrap_err().contains("there are 0"));
    // AMD's variable says nothing here.
    assert!(planned(request(8, 1), &tree, &[("HIP_VISIBLE_DEVICES", "0")]).is_ok());
}

#[test]
fn own_gpus_are_shown_by_every_makers_variable() {
    let plan = planned(own(request(4, 2)), &Tree::two_sockets(), &[]).unwrap();
    for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
        assert!(plan[2].variables.contains(&(Weight::Duty, name, "4,5".to_owned())), "{name}");
    }
    // It says nothing of workers without GPUs.
    let plan = planned(own(request(1, 0)), &Tree::two_sockets(), &[]).unwrap();
    assert_eq!(plan[0].variables, []);
}

#[test]
fn nodes_of_one_machine_share_its_gpus() {
    let tree = Tree::two_sockets();
    let node = |node_rank| Request { node_rank, nodes_here: 2, ..request(2, 2) };
    let plan = planned(node(1), &tree, &[]).unwrap();
    assert_eq!(shown(&plan), [format!("4,5 on {SECOND_SOCKET}"), format!("6,7 on {SECOND_SOCKET}")]);
    assert_eq!(value(&plan[0], "CUDA_VISIBLE_DEVICES"), Some("4,5,6,7"));
    let plan = planned(own(node(0)), &tree, &[]).unwrap();
    assert_eq!(value(&plan[1], "CUDA_VISIBLE_DEVICES"), Some("2,3"));
}

#[test]
fn mig_instances_count_as_gpus() {
    let tree = Tree::two_sockets();
    // The GPUs at 0000:1b (minor 0) and 0000:43 (minor 2) are cut up; one instance is another container's.
    tree.mig(0, 1, 0, 12).mig(0, 2, 0, 21).mig(2, 1, 0, 147).mig(2, 1, 1, 148);
    tree.without("dev/nvidia-caps/nvidia-cap148");
    let machine = Machine::read(tree.root());
    assert_eq!(machine.gpus[0].instances, [Instance { gi: 1, ci: 0 }, Instance { gi: 2, ci: 0 }]);
    assert_eq!(machine.gpus[1].instances, [Instance { gi: 1, ci: 0 }]);

    let plan = planned(own(request(3, 1)), &tree, &[]).unwrap();
    let given: Vec<_> = plan.iter().map(|worker| value(worker, "CUDA_VISIBLE_DEVICES").unwrap()).collect();
    assert_eq!(
        given,
        [
            "MIG-GPU-0a1b2c3d-0000-0000-0000-000000000000/1/0",
            "MIG-GPU-0a1b2c3d-0000-0000-0000-000000000000/2/0",
            "MIG-GPU-1a1b2c3d-0000-0000-0000-000000000001/1/0",
        ]
    );
    // Names as newer drivers give them say nothing of the GPU, but both are on one socket.
    let list = [("CUDA_VISIBLE_DEVICES", "MIG-aa,MIG-bb")];
    let plan = planned(own(request(2, 1)), &tree, &list).unwrap();
    assert_eq!(shown(&plan)[1], format!("MIG-bb on {FIRST_SOCKET}"));
    let list = [("CUDA_VISIBLE_DEVICES", "MIG-GPU-0a1b2c3d/2/0")];
    let plan = planned(request(1, 1), &tree, &list).unwrap();
    assert_eq!(shown(&plan), [format!("MIG-GPU-0a1b2c3d/2/0 on {FIRST_SOCKET}")]);

    // Two sockets have parts: nobody knows which MIG-bb is.
    tree.mig(4, 1, 0, 300);
    let list = [("CUDA_VISIBLE_DEVICES", "MIG-aa,MIG-bb")];
    assert_eq!(shown(&planned(request(2, 1), &tree, &list).unwrap())[1], "MIG-bb on all");
}

#[test]
fn an_instance_without_a_name_cannot_be_given_away() {
    let tree = Tree::new();
    tree.nvidia(&Nvidia { bus_id: "0000:01:00.0", minor: 0, uuid: "GPU-????????", numa_node: 0 })
        .mig(0, 1, 0, 12);
    assert!(planned(request(1, 1), &tree, &[]).is_ok());
    let error = planned(own(request(1, 1)), &tree, &[]).unwrap_err();
    assert!(error.starts_with("mesh.gpu_visibility: a MIG instance has no name"), "{error}");
}

#[test]
fn amds_gpus_are_found_where_their_files_are() {
    let tree = Tree::new();
    tree.file("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 96\nsimd_count 0\n");
    // 0000:0c:00.0, 0000:22:00.0, 0000:9f:00.0
    tree.amd(2, 0x0c00, 128).amd(3, 0x2200, 129).amd(4, 0x9f00, 130).without("dev/dri/renderD129");
    tree.numa_node(0, "0-63").numa_node(1, "64-127");
    tree.file("sys/bus/pci/devices/0000:0c:00.0/numa_node", "0");
    tree.file("sys/bus/pci/devices/0000:9f:00.0/numa_node", "1");
    let machine = Machine::read(tree.root());
    assert_eq!((machine.vendor, machine.gpus.len(), machine.hidden), (Some(Vendor::Amd), 2, 1));
    let plan = planned(own(request(2, 1)), &tree, &[]).unwrap();
    assert_eq!(shown(&plan), ["0 on 0-63", "1 on 64-127"]);
    assert_eq!(value(&plan[1], "HIP_VISIBLE_DEVICES"), Some("1"));
    // The lower layer's list first, then HIP counts what is left.
    let lists = [("ROCR_VISIBLE_DEVICES", "1"), ("HIP_VISIBLE_DEVICES", "0")];
    assert_eq!(shown(&planned(request(1, 1), &tree, &lists).unwrap()), ["0 on 64-127"]);
    assert!(planned(request(2, 1), &tree, &lists).is_err());
    tree.without("dev/kfd");
    assert!(planned(request(1, 1), &tree, &[]).unwrap_err().contains("the driver has 3 more"));
}

#[test]
fn threads_are_torchruns_a_number_or_a_fair_share() {
    let tree = Tree::two_sockets();
    let threads = |omp_num_threads, request: Request, tree: &Tree| {
        let placement = Placement { omp_num_threads, ..request.placement };
        let plan = planned(Request { placement, ..request }, tree, &[]).unwrap();
        let of = |worker: &Allotment| value(worker, "OMP_NUM_THREADS").map(str::to_owned);
        assert!(plan.iter().all(|worker| of(worker) == of(&plan[0])));
        of(&plan[0])
    };
    let count = |number| OmpNumThreads::Count(NonZeroU32::new(number).unwrap());
    assert_eq!(threads(OmpNumThreads::Torchrun, request(1, 0), &tree), None);
    assert_eq!(threads(OmpNumThreads::Torchrun, request(2, 0), &tree).as_deref(), Some("1"));
    assert_eq!(threads(count(7), request(1, 0), &tree).as_deref(), Some("7"));
    assert_eq!(threads(OmpNumThreads::Auto, request(1, 0), &tree).as_deref(), Some("224"));
    assert_eq!(threads(OmpNumThreads::Auto, request(3, 0), &tree).as_deref(), Some("74"));
    // Four workers on each socket of 112 CPUs.
    assert_eq!(threads(OmpNumThreads::Auto, request(8, 1), &tree).as_deref(), Some("28"));
    assert_eq!(threads(OmpNumThreads::Auto, request(1, 1), &tree).as_deref(), Some("112"));
    assert_eq!(threads(OmpNumThreads::Auto, request(999, 0), &tree).as_deref(), Some("1"));
    let shared = Request { nodes_here: 2, ..request(2, 0) };
    assert_eq!(threads(OmpNumThreads::Auto, shared, &tree).as_deref(), Some("56"));
    // Ten CPUs' worth of time, and a tighter limit further up, for two workers.
    tree.file("proc/self/cgroup", "0::/job/inner\n");
    tree.file("sys/fs/cgroup/job/inner/cpu.max", "1000000 100000\n");
    assert_eq!(threads(OmpNumThreads::Auto, request(2, 0), &tree).as_deref(), Some("5"));
    tree.file("sys/fs/cgroup/job/cpu.max", "600000 100000\n").file("sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_eq!(threads(OmpNumThreads::Auto, request(2, 0), &tree).as_deref(), Some("3"));
}

#[test]
fn limits_of_cpu_time_are_read_from_both_kinds_of_cgroups() {
    let tree = Tree::new();
    tree.file("proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n");
    let quota = || Machine::read(tree.root()).cpu_quota;
    assert_eq!(quota(), None);
    tree.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n");
    tree.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_eq!(quota(), Some(2.5));
    tree.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
    assert_eq!(quota(), None);
}
