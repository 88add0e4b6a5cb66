//! GPUs, CPUs and threads of workers, as they see them themselves, on machines that are made up.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tractorun_tests::launcher::Launcher;
use tractorun_tests::process::run;
use tractorun_tests::{Place, Scratch, binaries};

/// Every worker writes what it has to `worker.<rank>`.
const TELL: &str = r#"
    { sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status
      echo "${CUDA_VISIBLE_DEVICES-unset} ${NVIDIA_VISIBLE_DEVICES-unset} ${HIP_VISIBLE_DEVICES-unset}"
      echo "${OMP_NUM_THREADS-unset}"
    } > "$SCRATCH/worker.$RANK"
"#;

/// What a worker told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    cpus: String,
    /// The three variables that show GPUs.
    visible: String,
    threads: String,
}

fn told(scratch: &Scratch, rank: u32) -> Told {
    let text = fs::read_to_string(scratch.path(&format!("worker.{rank}"))).expect("the worker has run");
    let lines: Vec<&str> = text.lines().collect();
    let [cpus, visible, threads] = lines[..] else { panic!("{text}") };
    Told { cpus: cpus.to_owned(), visible: visible.to_owned(), threads: threads.to_owned() }
}

/// The list of CPUs that this test may use, and its first one.
fn own_cpus() -> (String, String) {
    let status = fs::read_to_string("/proc/self/status").expect("proc is there");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.expect("every kernel has it").trim().to_owned();
    let first = list.split([',', '-']).next().expect("there is one").to_owned();
    (list, first)
}

/// A machine of two GPUs: the first near the first CPU of this machine, the second near a CPU that is not there.
fn machine(scratch: &Scratch) -> String {
    let (_, first) = own_cpus();
    for (index, bus, cpus) in [(0, "0000:1b:00.0", first.as_str()), (1, "0000:9d:00.0", "9000")] {
        let file = |path: &str, text: &str| scratch.file(&format!("machine/{path}"), text);
        file(
            &format!("proc/driver/nvidia/gpus/{bus}/information"),
            &format!("Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-{index}{index}\nDevice Minor: \t {index}\n"),
        );
        file(&format!("dev/nvidia{index}"), "");
        file(&format!("sys/bus/pci/devices/{bus}/numa_node"), &format!("{index}\n"));
        file(&format!("sys/devices/system/node/node{index}/cpulist"), &format!("{cpus}\n"));
    }
    scratch.text("machine")
}

/// A local run on that machine.
fn on_machine(place: &Place, mesh: (u32, u32), gpu_per_process: u32) -> Launcher {
    let launcher = place.launcher().env("TRACTORUN_HARDWARE_ROOT", machine(&place.scratch)).mesh(mesh);
    launcher.args(["--mesh.gpu-per-process", &gpu_per_process.to_string()])
}

#[test]
fn workers_run_near_their_gpus_and_the_status_says_so() {
    let place = Place::local();
    let (all, first) = own_cpus();
    // The metrics port is the last of the node's: two workers, the control channel, metrics.
    let ask = r#"
        if [ "$RANK" = 0 ]; then
            exec 3<>"/dev/tcp/127.0.0.1/$YT_PORT_3"
            printf 'GET /status HTTP/1.0\r\nHost: x\r\n\r\n' >&3
            cat <&3 > "$SCRATCH/status"
        fi"#;
    let sidecar = r#"sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status > "$SCRATCH/sidecar""#;
    let finished =
        on_machine(&place, (1, 2), 1).sidecar(sidecar, "never").bash(&format!("{TELL}{ask}")).run();
    finished.assert_code(0).assert_stderr(&format!("local rank 0: GPUs 0, CPUs {first}\n"));

    let near = Told { cpus: first.clone(), visible: "unset unset unset".to_owned(), threads: "1".to_owned() };
    assert_eq!(told(&place.scratch, 0), near);
    // None of the CPUs near the second GPU is ours.
    assert_eq!(told(&place.scratch, 1), Told { cpus: all.clone(), ..near });
    assert_eq!(place.scratch.wait_for_file("sidecar").trim(), all);

    let status = fs::read_to_string(place.scratch.path("status")).expect("the worker has asked");
    let (_, body) = status.split_once("\r\n\r\n").expect("a head and a body");
    let status: Value = serde_json::from_str(body).expect("JSON");
    for (worker, gpu, cpus) in [(0, "0", first), (1, "1", all)] {
        let worker = &status["workers"][worker];
        assert_eq!(
            (&worker["gpus"], &worker["cpus"], &worker["omp_num_threads"]),
            (&json!([gpu]), &json!(cpus), &json!(1)),
            "{status}"
        );
    }
    place.assert_nothing_left();
}

#[test]
fn affinity_can_be_had_not() {
    let place = Place::local();
    on_machine(&place, (1, 1), 1).args(["--mesh.cpu-affinity", "none"]).bash(TELL).run().assert_code(0);
    assert_eq!(told(&place.scratch, 0).cpus, own_cpus().0);
}

#[test]
fn workers_can_be_shown_their_own_gpus_alone() {
    let place = Place::local();
    let own = |launcher: Launcher| launcher.args(["--mesh.gpu-visibility", "own"]).bash(TELL).run();
    own(on_machine(&place, (1, 2), 1)).assert_code(0);
    assert_eq!(told(&place.scratch, 0).visible, "0 0 0");
    assert_eq!(told(&place.scratch, 1).visible, "1 1 1");
    // An inherited list is kept to, numbers and names alike.
    own(on_machine(&place, (1, 2), 1).env("CUDA_VISIBLE_DEVICES", "GPU-11,0")).assert_code(0);
    assert_eq!(told(&place.scratch, 0).visible, "GPU-11 GPU-11 GPU-11");
    assert_eq!(told(&place.scratch, 1).visible, "0 0 0");
    assert_eq!(told(&place.scratch, 1).cpus, own_cpus().1);
}

#[test]
fn nodes_on_one_machine_do_not_take_each_others_gpus() {
    let place = Place::local();
    on_machine(&place, (2, 1), 1).bash(TELL).run().assert_code(0);
    assert_eq!(told(&place.scratch, 0).visible, "0 0 0");
    assert_eq!(told(&place.scratch, 1).visible, "1 1 1");
}

#[test]
fn too_few_gpus_stop_everything_before_it_starts() {
    for (mesh, text) in [
        ((1, 3), "too few GPUs: the job needs 3 on this node (3 workers with 1 each), there are 2\n"),
        (
            (3, 1),
            "too few GPUs: the job needs 3 on this machine (3 nodes of 1 worker with 1 each), there are 2\n",
        ),
    ] {
        let place = Place::local();
        let finished =
            on_machine(&place, mesh, 1).sidecar(r#"touch "$SCRATCH/sidecar""#, "never").bash(TELL).run();
        finished.assert_code(202).assert_stderr(text).assert_stderr("hint: ");
        assert!(!place.scratch.path("worker.0").exists() && !place.scratch.path("sidecar").exists());
        place.assert_nothing_left();
    }
    let place = Place::local();
    let finished = on_machine(&place, (1, 1), 1).env("CUDA_VISIBLE_DEVICES", "").bash(TELL).run();
    finished.assert_code(202).assert_stderr("there are 0: CUDA_VISIBLE_DEVICES leaves out others of 2\n");
}

#[test]
fn threads_are_what_the_user_says_then_the_option_then_the_machine_then_torchrun() {
    let place = Place::local();
    let share = |workers: u32| {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (u32::try_from(cpus).expect("few CPUs") / workers).max(1).to_string()
    };
    // Workers, of the launcher's environment, the option, of the user's variables, what the workers see.
    for (workers, inherited, option, user, expected) in [
        (1, None, None, None, "unset"),
        (2, None, None, None, "1"),
        (2, Some("5"), None, None, "5"),
        (2, Some("5"), Some("6"), None, "6"),
        (2, Some("5"), Some("6"), Some("7"), "7"),
        (2, None, Some("auto"), None, &share(2)),
        (1, None, Some("auto"), None, &share(1)),
    ] {
        let mut launcher = place.launcher().mesh((1, workers));
        if let Some(value) = inherited {
            launcher = launcher.env("OMP_NUM_THREADS", value);
        }
        if let Some(value) = option {
            launcher = launcher.args(["--mesh.omp-num-threads", value]);
        }
        if let Some(value) = user {
            launcher = launcher.worker_env("OMP_NUM_THREADS", value);
        }
        launcher.bash(TELL).run().assert_code(0);
        let threads = told(&place.scratch, workers - 1).threads;
        assert_eq!(threads, expected, "{workers} {inherited:?} {option:?} {user:?}");
    }
}

#[test]
fn a_dry_run_shows_what_every_worker_will_get() {
    let scratch = Scratch::new();
    let options =
        ["--dry-run", "--docker-image", "i", "--mesh.gpu-per-process", "2", "--mesh.gpu-visibility", "own"];
    let finished = Launcher::new(&scratch).mesh((3, 2)).args(options).arg("true").run();
    finished.assert_code(0);
    let shown: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(
        shown["run_info"]["placement"]["workers"][1],
        json!({"local_rank": 1, "gpus": [2, 3], "gpu_visibility": "own", "cpu_affinity": "numa", "omp_num_threads": 1})
    );
    assert_eq!(shown["run_info"]["job_spec"]["placement"]["gpu_visibility"], "own");
}

#[test]
fn a_check_shows_the_machine_and_whether_the_cluster_answers() {
    let place = Place::local_with_cluster();
    let check = |proxy: &str, arguments: &[&str]| {
        let mut command = Command::new(binaries::init());
        command.env_clear().env("TRACTORUN_HARDWARE_ROOT", machine(&place.scratch));
        run(command.env("YT_PROXY", proxy).arg("check").args(arguments))
    };
    let (all, _) = own_cpus();
    let finished = check(&place.cluster().proxy(), &[]);
    finished.assert_code(0).assert_stdout("1: NVIDIA A100 at 0000:9d:00.0, NUMA node 1, CPUs 9000\n");
    finished.assert_stdout(&format!("({all})")).assert_stdout(" answers\n");
    finished.assert_stdout("ok       clock       agrees with the cluster's to the second\n");
    let finished = check("127.0.0.1:1", &["--json"]);
    finished.assert_code(202);
    let shown: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(shown["fine"], json!(false));
    let checks = shown["checks"].as_array().expect("a list");
    let cluster = checks.iter().find(|check| check["name"] == "cluster").expect("the cluster is asked");
    assert_eq!(cluster["status"], "failed");
}
