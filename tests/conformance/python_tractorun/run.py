"""The Python tractorun, unchanged, submits a job; what it left is looked at through the official client."""

import os
import subprocess
import sys

import yaml
import yt.wrapper as wrapper
from conformance import client, holds, run_checks, same

yt = client()
ROOT = "//tmp/training"
HERE = os.path.dirname(os.path.abspath(__file__))
# The venv's, not what its interpreter is a link to: our jobs run on this machine and find their modules there.
BIN = os.path.dirname(sys.executable)
# The Python tractorun wants absolute destinations. Where jobs have no mount namespace, `/slot` is not theirs.
SANDBOX = "/slot/sandbox"


def write(name, content):
    os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
    with open(name, "w") as stream:
        stream.write(content)


def bind_folder():
    """Where a job may unpack binds."""
    task = {"command": "pwd >&2", "job_count": 1}
    operation = yt.run_operation(wrapper.VanillaSpecBuilder().spec({"tasks": {"task": task}}))
    (job,) = yt.list_jobs(operation.id)["jobs"]
    folder = yt.get_job_stderr(operation.id, str(job["id"])).read().decode().strip()
    return SANDBOX if folder == SANDBOX else os.path.abspath("unpacked")


def run_tractorun():
    """Two nodes of two workers, with all that a run may have; returns what the launcher wrote."""
    write("bound/in.txt", "from the laptop\n")
    write("libraries/mylib/__init__.py", "ANSWER = 42\n")
    write("note.txt", "one file\n")
    folder = bind_folder()
    config = {
        "yt_path": ROOT,
        "docker_image": "debian:12",
        "title": "conformance",
        "user_config": {"rate": 0.5},
        "mesh": {"node_count": 2, "process_per_node": 2, "gpu_per_process": 0, "pool": "default"},
        "resources": {"cpu_limit": 1, "memory_limit": 500_000_000},
        "proxy_stderr_mode": "primary",
        "operation_log_mode": "realtime_yt_table",
        "bind_local": [
            {"source": os.path.abspath("bound"), "destination": f"{folder}/data"},
            {"source": os.path.abspath("note.txt"), "destination": f"{folder}/note.txt"},
        ],
        "bind_local_lib": [os.path.abspath("libraries/mylib")],
        "sidecars": [{"command": ["sh", "-c", "echo sidecar with $MINE"], "restart_policy": "never"}],
        "env": [{"name": "MINE", "value": "value"}, {"name": "BIND_FOLDER", "value": folder}],
        "yt_task_spec": {"environment": {"PATH": f"{BIN}:/usr/bin:/bin"}},
        "command": [os.path.join(BIN, "python"), os.path.join(HERE, "train.py")],
    }
    write("run.yaml", yaml.safe_dump(config))
    finished = subprocess.run(
        [os.path.join(BIN, "tractorun"), "--run-config-path", "run.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(finished.stdout, flush=True)
    same(finished.returncode, 0)
    return finished.stdout


def tables_below(path):
    return [str(table) for table in yt.search(path, node_type="table")]


def incarnation():
    return f"{ROOT}/incarnations/{yt.get(f'{ROOT}/@incarnation_id'):05d}"


def operation_id():
    return yt.get(f"{incarnation()}/@incarnation_operation_id")


def check_the_launcher_succeeds_and_shows_the_primary():
    output = run_tractorun()
    holds("completed" in output, "it says that the operation completed")
    holds("worker 0 of 4" in output, "the first worker's output is proxied")
    holds("bound from the laptop, one file library 42 variable value" in output, "binds, library and variable arrived")
    holds("'rate': 0.5" in output, "the user config arrived")


def check_the_operation():
    operation = yt.get_operation(operation_id())
    same((operation["state"], operation["type"]), ("completed", "vanilla"))
    jobs = yt.list_jobs(operation["id"])["jobs"]
    same([job["state"] for job in jobs], ["completed"] * 2)
    stderrs = "".join(yt.get_job_stderr(operation["id"], str(job["id"])).read().decode() for job in jobs)
    holds("sidecar with value" in stderrs, stderrs)
    holds("a line of stderr" in stderrs, stderrs)


def check_the_coordinator():
    same(yt.get(f"{ROOT}/@incarnation_id"), 0)
    topology = yt.get(f"{incarnation()}/@topology")
    same(len(topology), 4)
    same(len({peer["job_id"] for peer in topology}), 2)
    same(operation_id(), yt.list_operations()["operations"][0]["id"])


def check_the_checkpoints():
    names = sorted(yt.list(f"{ROOT}/checkpoints"))
    same(len(names), 2)
    contents = [yt.read_file(f"{ROOT}/checkpoints/{name}/value").read() for name in names]
    same(contents, [b"weights \xff\x00", b"more weights"])


def check_the_description():
    parameters = yt.get_operation(operation_id(), attributes=["runtime_parameters"])["runtime_parameters"]
    description = str(parameters["annotations"]["description"])
    holds("'progress': 0.5" in description, description)


def check_the_log_tables():
    # One a worker on each node, and one a sidecar on each node.
    rows = [row for table in tables_below(ROOT) for row in yt.read_table(table)]
    same({row["fd"] for row in rows}, {"stdout", "stderr"})
    text = "\n".join(row["message"] for row in rows)
    for wanted in [f"worker {index} of 4" for index in range(4)] + ["primary is done", "sidecar with value"]:
        holds(wanted in text, f"no {wanted!r} in the tables: {text}")
    same(text.count("a line of stderr"), 4)


run_checks(globals())
