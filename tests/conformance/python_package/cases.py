"""Our package against a cluster: scripts and functions of two nodes of two workers, and what they leave."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import yt.wrapper as wrapper
from conformance import client, holds, run_checks, same
from tractorun.backend.generic import GenericBackend
from tractorun.bind import BindCypress, BindLocal
from tractorun.cli import yt_stderr_reader
from tractorun.env import EnvVariable
from tractorun.exception import RunFailedError, TractorunConfigurationError
from tractorun.mesh import Mesh
from tractorun.resources import Resources
from tractorun.run import run, run_script
from tractorun.sidecar import RestartPolicy, Sidecar
from tractorun.stderr_reader import StderrMode

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.abspath(os.path.join(HERE, "../../../runtime/python/tractorun"))
ROOT = "//tmp/training"
CLUSTER_CONFIG = "//tmp/cluster_config"
RANKS = range(4)

yt = client()


class Scale:
    """Of this script: the workers must find it."""

    factor = 10

    def apply(self, number: "int") -> "int":
        return number * self.factor + OFFSET


OFFSET = 3


def write_note():
    with open("note.txt", "w", encoding="utf-8") as note:
        note.write("from the laptop")


def run_worker(**more):
    return run_script(
        ["python3", "worker.py"],
        yt_path=ROOT,
        mesh=Mesh(node_count=2, process_per_node=2),
        docker_image="image:1",
        title="conformance",
        user_config={"rate": 0.5, "name": "тест"},
        cluster_config_path=CLUSTER_CONFIG,
        resources=Resources(cpu_limit=1.5, memory_limit=1 << 30),
        binds_local=[
            BindLocal(source=os.path.join(HERE, "worker.py"), destination="worker.py"),
            BindLocal(source="note.txt", destination="note.txt"),
        ],
        binds_local_lib=[PACKAGE],
        binds_cypress=[BindCypress(source="//tmp/bound", destination="bound")],
        sidecars=[Sidecar(command=["true"], restart_policy=RestartPolicy.NEVER)],
        env=[EnvVariable(name="MINE", cypress_path="//tmp/secret"), EnvVariable(name="PLAIN", value="v")],
        yt_operation_spec={"annotations": {"mine": 1}},
        **more,
    )


def said(incarnation):
    return [json.loads(yt.get(f"{ROOT}/said_{incarnation}_{rank}")) for rank in RANKS]


def check_a_script_has_its_toolbox():
    write_note()
    yt.set("//tmp/secret", "hidden")
    yt.write_file("//tmp/bound", b"bound")
    yt.create("document", CLUSTER_CONFIG)
    yt.set(CLUSTER_CONFIG, {"cypress_link_template": "https://ui/navigation?path={path}"})
    info = run_worker()
    spec = info.operation_spec
    same((spec["title"], spec["annotations"]["mine"]), ("conformance", 1))
    same((spec["tasks"]["task"]["cpu_limit"], spec["tasks"]["task"]["docker_image"]), (1.5, "image:1"))
    same(yt.get_operation(info.operation_id)["state"], "completed")
    topology = yt.get(f"{ROOT}/incarnations/00000/@topology")
    for rank, words in enumerate(said(0)):
        same(words["self_index"], rank)
        same(words["process_index"], rank % 2)
        same(words["is_primary"], rank == 0)
        same((words["total_peer_count"], words["peer_count"], words["incarnation_id"]), (4, 4, 0))
        same(words["primary_endpoint"], topology[0]["address"])
        same(words["self_endpoint"], topology[rank]["address"])
        same(words["user_config"], {"rate": 0.5, "name": "тест"})
        same((words["mesh"]["node_count"], words["mesh"]["process_per_node"]), (2, 2))
        same((words["training_dir"], words["incarnation_path"]), (ROOT, f"{ROOT}/incarnations/00000"))
        same((words["model"], words["variable"], words["note"]), (f"{ROOT}/models/0", "hidden", "from the laptop"))
        same(words["last_checkpoint"], None)


def check_the_model():
    same(yt.read_file(f"{ROOT}/models/0").read(), b"weights \xff\x00")
    origin = yt.get(f"{ROOT}/models/0/@tractorun")
    same((origin["dataset_path"], origin["incarnation_id"], dict(origin["metadata"])), ("//tmp/data", 0, {"loss": "0.5"}))
    same(origin["job_id"], yt.get(f"{ROOT}/incarnations/00000/@topology/0/job_id"))
    same(origin["user_config"]["rate"], 0.5)


def check_the_description():
    operation_id = yt.get(f"{ROOT}/incarnations/00000/@incarnation_operation_id")
    parameters = yt.get_operation(operation_id, attributes=["runtime_parameters"])["runtime_parameters"]
    description = parameters["annotations"]["description"]
    ours, extra = description["tractorun"], description["extra"]
    same((str(ours["training_dir"]), ours["training_dir"].attributes), (f"https://ui/navigation?path={ROOT}", {"_type_tag": "url"}))
    same(str(ours["logs"]), f"https://ui/navigation?path={ROOT}/logs/0")
    same((ours["incarnation"], ours["mesh"]["node_count"]), (0, 2))
    holds(ours["primary"]["address"], "the primary's address")
    same((extra["progress"], str(extra["data"])), (0.5, "https://ui/navigation?path=//tmp/a%20b"))
    same(extra["parts"], [True, "bytes", {"deep": 1}])
    same(extra["nested"], {"key": "value"})


def check_the_next_incarnation_resumes():
    run_worker()
    for words in said(1):
        same((words["incarnation_id"], words["model"]), (1, f"{ROOT}/models/1"))
        same(words["last_checkpoint"], [2, {"epoch": 2}])
    same(sorted(yt.list(f"{ROOT}/checkpoints")), ["0", "1", "2", "3", "4", "5"])


def check_the_python_tractorun_reads_our_checkpoints():
    script = """
        import sys
        from yt.wrapper import YtClient
        from tractorun import __version__
        from tractorun.checkpoint import CheckpointManager
        manager = CheckpointManager(sys.argv[1], YtClient(proxy=sys.argv[2]))
        manager.initialize()
        last = manager.get_last_checkpoint()
        print(__version__, last.index, last.value, last.metadata)
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [os.environ["UPSTREAM_PYTHON"], "-c", textwrap.dedent(script), f"{ROOT}/checkpoints", os.environ["YT_PROXY"]]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    same(output.strip(), r"0.62.0 5 b'state \xff 2' {'epoch': 2}")


def check_stderr_of_a_worker():
    environment = dict(os.environ)
    command = [sys.executable, yt_stderr_reader.__file__, ROOT, "--peer-index", "1", "--incarnation", "1"]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    holds("the primary is done" in output, output)


def with_toolbox(body, **more):
    """Calls the function in two workers on each of two nodes."""
    parameters = {"yt_path": "//tmp/functions", "mesh": Mesh(node_count=2, process_per_node=2), "docker_image": "image:1"}
    return run(body, backend=GenericBackend(), **{**parameters, **more})


def check_a_function_takes_its_script_along():
    scale = Scale()
    suffix = ["closed over"]

    def body(toolbox):
        rank = toolbox.coordinator.get_self_index()
        toolbox.yt_client.set(f"//tmp/functions/@of_{rank}", [scale.apply(rank), Scale().apply(rank), *suffix])

    # Only the client knows the cluster; nothing in the environment does.
    proxy = os.environ.pop("YT_PROXY")
    try:
        info = with_toolbox(body, yt_client=client_of(proxy))
    finally:
        os.environ["YT_PROXY"] = proxy
    same(yt.get_operation(info.operation_id)["state"], "completed")
    for rank in RANKS:
        same(list(yt.get(f"//tmp/functions/@of_{rank}")), [rank * 10 + 3, rank * 10 + 3, "closed over"])


def client_of(proxy):
    return wrapper.YtClient(proxy=proxy, token=os.environ.get("YT_TOKEN"))


def check_a_failure_says_what_failed():
    def fail(_toolbox):
        sys.exit(7)

    try:
        with_toolbox(fail)
    except RunFailedError as error:
        same((error.exit_code, error.state), (7, "failed"))
        same(yt.get_operation(error.operation_id)["state"], "failed")
        holds(isinstance(error, wrapper.YtOperationFailedError), "scripts catch the client's error")
        return
    raise AssertionError("it did not fail")


def check_a_run_that_is_not_waited_for():
    info = with_toolbox(lambda toolbox: None, no_wait=True)
    deadline = time.monotonic() + 60
    while not yt.get_operation_state(info.operation_id).is_finished():
        holds(time.monotonic() < deadline, "the operation ends")
        time.sleep(0.05)
    same(yt.get_operation(info.operation_id)["state"], "completed")


def check_a_dry_run_touches_nothing():
    info = with_toolbox(lambda toolbox: None, yt_path="//tmp/dry", dry_run=True)
    same((info.operation_id, info.operation_spec["tasks"]["task"]["job_count"]), (None, 2))
    holds(not yt.exists("//tmp/dry"), "nothing is there")


def check_parameters_that_cannot_be_used():
    for parameters, text in [
        ({"docker_image": None}, "docker_image should be specified"),
        ({"yt_path": "no path", "dry_run": True}, "yt_path"),
        ({"resources": Resources(memory_limit=-1), "dry_run": True}, "memory_limit"),
    ]:
        try:
            with_toolbox(lambda toolbox: None, **parameters)
        except TractorunConfigurationError as error:
            holds(text in str(error), str(error))
        else:
            raise AssertionError(f"{parameters} was not refused")


SCRIPT = """
import sys
from typing import Any
from tractorun.backend.generic import GenericBackend
from tractorun.mesh import Mesh
from tractorun.run import run

CALLS = []

class Note:
    def __init__(self, text: Any = "none") -> None:
        self.text: Any = text

def remember(text):
    CALLS.append(Note(text))

def body(toolbox) -> Any:
    remember("called")
    class Inner:
        note: Any = CALLS[0].text
        def get(self, default: Any = None) -> Any:
            return self.note
    toolbox.yt_client.set("//tmp/functions/script", Inner().get())

run(body, backend=GenericBackend(), yt_path="//tmp/functions", docker_image="image:1", mesh=Mesh())
"""


def check_scripts_without_a_guard_and_without_a_file():
    with open("unguarded.py", "w", encoding="utf-8") as script:
        script.write(SCRIPT)
    # Standard input is as a notebook is: there is no file that could travel.
    for command, stdin in [([sys.executable, "unguarded.py"], None), ([sys.executable, "-"], SCRIPT)]:
        yt.remove("//tmp/functions/script", force=True)
        subprocess.run(command, input=stdin, text=True, check=True)
        same(yt.get("//tmp/functions/script"), "called")


def check_ctrl_c_aborts_the_operation():
    script = SCRIPT.replace('remember("called")', 'import time; toolbox.yt_client.set("//tmp/functions/runs", 1); time.sleep(600)')
    with open("endless.py", "w", encoding="utf-8") as file:
        file.write(script)
    process = subprocess.Popen([sys.executable, "endless.py"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not yt.exists("//tmp/functions/runs"):
        holds(time.monotonic() < deadline and process.poll() is None, "the function runs")
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    holds("KeyboardInterrupt" in stderr, stderr)
    last = yt.list_operations()["operations"][0]
    same(last["state"], "aborted")


def check_what_a_local_run_needs():
    info = run_script(
        [sys.executable, "-c", "import tractorun"], mesh=Mesh(), local=True, proxy_stderr_mode=StderrMode.primary
    )
    same(info.operation_id, None)
    same([field.name for field in dataclasses.fields(info)], ["operation_spec", "operation_id"])


if __name__ == "__main__":
    run_checks(globals())
