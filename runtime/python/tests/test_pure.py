"""What needs no cluster: shards, devices, settings, links, the worker's config."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yt.wrapper as yt
from tractorun import checkpoint
from tractorun.bind import BindAttributes, BindCypress, BindLocal
from tractorun.checkpoint import CheckpointManager
from tractorun.description import DescriptionManager, Link
from tractorun.docker_auth import DockerAuthData, DockerAuthSecret
from tractorun.env import EnvVariable
from tractorun.exception import (
    DockerAuthDataError,
    TractorunBootstrapError,
    TractorunConfigurationError,
    TractorunVersionMismatchError,
)
from tractorun.mesh import Mesh
from tractorun.operation_log import OperationLogMode
from tractorun.private.devices import count_visible, local_address, own_gpus
from tractorun.private.settings import Parameters
from tractorun.private.shards import shard
from tractorun.private.worker_config import WorkerConfig
from tractorun.private.yt_cluster import make_cypress_link, make_job_stderr_link
from tractorun.resources import Resources
from tractorun.sidecar import RestartPolicy, Sidecar
from tractorun.stderr_reader import StderrMode
from tractorun.tensorproxy import TensorproxySidecar
from tractorun.toolbox import Toolbox


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 1), (3, 10), (0, 101)])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_row_is_in_one_shard_and_shards_are_even(start: int, end: int, count: int) -> None:
    parts = [shard(start, end, index, count) for index in range(count)]
    assert [row for part in parts for row in range(*part)] == list(range(start, end))
    sizes = [part[1] - part[0] for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(index: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"shard {index} of {count}"):
        shard(0, 10, index, count)


@pytest.mark.parametrize(
    ("process", "processes", "gpus", "visible", "own"),
    [
        (0, 8, 1, 8, [0]),
        (7, 8, 1, 8, [7]),
        # Only its own are visible.
        (7, 8, 1, 1, [0]),
        (1, 2, 4, 8, [4, 5, 6, 7]),
        (1, 2, 4, 4, [0, 1, 2, 3]),
        (0, 1, 1, 8, [0]),
    ],
)
def test_a_worker_takes_its_own_gpus(process: int, processes: int, gpus: int, visible: int, own: list[int]) -> None:
    assert own_gpus(process, processes, gpus, visible) == own


def test_a_worker_without_a_gpu_says_so() -> None:
    with pytest.raises(ValueError, match=r"worker 3 of 4 needs 1 GPU\(s\), and 2 of the node are visible to it"):
        own_gpus(3, 4, 1, 2)


def test_visible_gpus_are_counted() -> None:
    assert [count_visible(text) for text in (None, "", "3", "0,1", "GPU-a,GPU-b,")] == [None, 0, 1, 2, 2]


def test_workers_beside_rank_0_need_no_name() -> None:
    assert local_address("gpu0:7000", 0) == "127.0.0.1:7000"
    assert local_address("[2001:db8::7]:7000", 0) == "127.0.0.1:7000"
    assert local_address("gpu0:7000", 1) == "gpu0:7000"


def test_links_are_quoted() -> None:
    assert make_cypress_link("https://ui?path={path}", "//a b/ц") == "https://ui?path=//a%20b/%D1%86"
    assert make_job_stderr_link("https://ui/{operation_id}/{job_id}", "1-2", "3-4") == "https://ui/1-2/3-4"
    assert make_cypress_link(None, "//a") is None
    assert make_job_stderr_link(None, "1", "2") is None


def test_a_link_is_a_url_for_the_web_interface() -> None:
    value = Link(value="https://x").to_yson()
    assert (str(value), value.attributes) == ("https://x", {"_type_tag": "url"})
    assert Link(value=None).to_yson() is None


def test_a_description_lies_in_its_part() -> None:
    description = DescriptionManager._make_description(["a", "b"], {"x": [Link(value="u"), {"y": (1, None)}]})
    assert description == {"a": {"b": {"x": [Link(value="u").to_yson(), {"y": [1, None]}]}}}


class _Updates:
    """Takes the place of a client, and of the operation that a local run has not."""

    def __init__(self, error: yt.YtError | None = None) -> None:
        self.error, self.parameters = error, []  # type: ignore[var-annotated]

    def update_operation_parameters(self, _operation_id: str, parameters: object) -> None:
        self.parameters.append(parameters)
        if self.error is not None:
            raise self.error


def test_a_run_without_an_operation_has_no_description() -> None:
    def manager(error: yt.YtError) -> DescriptionManager:
        return DescriptionManager(operation_id="1", yt_client=_Updates(error), cypress_link_template=None)

    manager(yt.YtError("No such operation", code=200)).set({"a": 1})
    with pytest.raises(yt.YtError, match="Access denied"):
        manager(yt.YtError("Access denied", code=901)).set({"a": 1})


WORKER = {
    "command": ["python3"],
    "mesh": {"node_count": 2, "process_per_node": 4, "gpu_per_process": 1},
    "port": 7002,
    "node_index": 1,
    "proc_index": 2,
    "self_index": 6,
    "self_endpoint": "h:6",
    "primary_endpoint": "[::1]:7000",
    "incarnation_id": 3,
    "training_dir": {
        f"{name}_path": f"//tmp/training/{name}"
        for name in (
            "base",
            "primary_lock",
            "incarnations",
            "models",
            "checkpoints",
            "logs",
            "worker_logs",
            "sidecar_logs",
        )
    },
    "operation_id": "1-2-3-4",
    "job_id": "5-6-7-8",
}


def test_the_workers_config_is_read_and_novelties_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({**WORKER, "novelty": 1, "mesh": {**WORKER["mesh"], "novelty": 2}}))  # type: ignore[dict-item]
    config = WorkerConfig.load({"TRACTO_CONFIG": str(path)})
    assert (config.self_index, config.mesh.peer_count, config.mesh.pool) == (6, 8, None)
    assert config.training_dir.get_incarnation_path(3) == "//tmp/training/incarnations/00003"
    assert config.cluster_config.cypress_link_template is None


def test_a_process_that_is_no_worker_says_what_to_do() -> None:
    with pytest.raises(TractorunBootstrapError, match="hint: start the script with `tractorun`"):
        WorkerConfig.load({})


@pytest.mark.parametrize("document", [json.dumps(WORKER), {}, {**WORKER, "mesh": 5}])
def test_a_config_of_another_tractorun_is_refused(document: object) -> None:
    with pytest.raises(TractorunVersionMismatchError, match="hint: "):
        WorkerConfig.parse(document)


def test_a_user_config_that_was_not_given_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YT_USER_CONFIG", raising=False)
    assert Toolbox.get_user_config() == {}
    monkeypatch.setenv("YT_USER_CONFIG", '{"a": [1]}')
    assert Toolbox.get_user_config() == {"a": [1]}


def test_few_parameters_are_few_settings() -> None:
    assert Parameters(local=True).settings(["true"], {}) == {
        "command": ["true"],
        "mesh": {"node_count": 1, "process_per_node": 1, "gpu_per_process": 0},
        "local": True,
    }


def test_every_parameter_has_its_setting() -> None:
    parameters = Parameters(
        mesh=Mesh(2, 4, 1, "research", ["gpu"]),
        yt_path="//tmp/x",
        title="t",
        user_config={"a": 1},
        cluster_config_path="//c",
        docker_image="i",
        resources=Resources(1.5, 10),
        binds_local=[BindLocal("/a", "b")],
        binds_local_lib=["/lib"],
        binds_cypress=[BindCypress("//f", "/f", BindAttributes(executable=False, bypass_artifact_cache=True))],
        sidecars=[Sidecar(["s"], RestartPolicy.FAIL)],
        tensorproxy=TensorproxySidecar(enabled=True, restart_policy=RestartPolicy.ALWAYS, yt_path="//t"),
        env=[EnvVariable("A", value="1"), EnvVariable("B", cypress_path="//b")],
        no_wait=True,
        yt_operation_spec={"o": 1},
        yt_task_spec={"t": 1},
        local=True,
        proxy_stderr_mode=StderrMode.primary,
        operation_log_mode=OperationLogMode.realtime_yt_table,
        docker_auth=DockerAuthSecret("//d"),
    )
    assert parameters.settings(["c", "d"], {"YT_BASE_LAYER": "other"}) == {
        "command": ["c", "d"],
        "mesh": {
            "node_count": 2,
            "process_per_node": 4,
            "gpu_per_process": 1,
            "pool": "research",
            "pool_trees": ["gpu"],
        },
        "yt_path": "//tmp/x",
        "title": "t",
        "user_config": {"a": 1},
        "cluster_config_path": "//c",
        "docker_image": "i",
        "resources": {"cpu_limit": 1.5, "memory_limit": 10},
        "bind_local": [{"source": "/a", "destination": "b"}],
        "bind_local_lib": ["/lib"],
        "bind_cypress": [
            {
                "source": "//f",
                "destination": "/f",
                "attributes": {"executable": False, "bypass_artifact_cache": True},
            }
        ],
        "sidecars": [{"command": ["s"], "restart_policy": "fail"}],
        "tensorproxy": {"enabled": True, "restart_policy": "always", "yt_path": "//t"},
        "env": [{"name": "A", "value": "1"}, {"name": "B", "cypress_path": "//b"}],
        "no_wait": True,
        "yt_operation_spec": {"o": 1},
        "yt_task_spec": {"t": 1},
        "local": True,
        "proxy_stderr_mode": "primary",
        "operation_log_mode": "realtime_yt_table",
        "docker_auth_secret": {"cypress_path": "//d"},
    }


def test_an_image_comes_from_the_parameter_then_from_the_environment() -> None:
    environment = {"YT_BASE_LAYER": "layer", "YT_JOB_DOCKER_IMAGE": "image"}
    assert Parameters(docker_image="mine").settings(["c"], environment)["docker_image"] == "mine"
    assert Parameters().settings(["c"], environment)["docker_image"] == "layer"
    assert Parameters().settings(["c"], {"YT_JOB_DOCKER_IMAGE": "image"})["docker_image"] == "image"
    with pytest.raises(TractorunConfigurationError, match="docker_image should be specified"):
        Parameters().settings(["c"], {})


def test_other_credentials_are_refused() -> None:
    class Other(DockerAuthData):
        pass

    with pytest.raises(DockerAuthDataError, match="docker_auth is of type Other"):
        Parameters(docker_image="i", docker_auth=Other()).settings(["c"], {})


def test_options_are_read_as_the_command_line_writes_them() -> None:
    assert EnvVariable.from_args('{"name": "A", "value": "1"}') == EnvVariable(name="A", value="1")
    sidecar = Sidecar.from_args('{"command": ["a"], "restart_policy": "on_failure"}')
    assert sidecar == Sidecar(command=["a"], restart_policy=RestartPolicy.ON_FAILURE)


def test_a_source_is_found_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    bind = BindLocal(source="a", destination="b")
    assert (bind.source, bind.destination) == (str(tmp_path / "a"), "b")


class _Checkpoints:
    """A client that knows only names."""

    config = None

    def list(self, _path: str) -> list[str]:
        return ["3", "11", "note", "7"]


def test_the_newest_checkpoint_is_the_one_of_the_highest_number() -> None:
    manager = CheckpointManager("//c", _Checkpoints())
    assert manager.get_last_checkpoint() is None
    manager.initialize()
    assert manager._last_checkpoint_index == 11


def test_metadata_that_is_no_json_is_refused_before_anything_is_saved() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        CheckpointManager("//c", _Checkpoints()).save_checkpoint(b"", {"a": object()})


class _Locked:
    """A client whose node another transaction holds for a while."""

    def __init__(self, conflicts: int, code: int = 402) -> None:
        self.conflicts, self.code, self.written = conflicts, code, []  # type: ignore[var-annotated]

    def Transaction(self) -> contextlib.AbstractContextManager[None]:  # noqa: N802 - the client's name
        return contextlib.nullcontext()

    def create(self, _kind: str, _path: str) -> None:
        self.conflicts -= 1
        if self.conflicts >= 0:
            raise yt.YtError("locked", code=self.code)

    def write_file(self, path: str, content: bytes) -> None:
        self.written.append((path, content))


def test_a_checkpoint_waits_for_the_lock_of_a_run_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint.time, "sleep", lambda _seconds: None)
    client = _Locked(2)
    checkpoint._save(client, "//c/0", b"value", b"{}")
    assert client.written == [("//c/0/value", b"value"), ("//c/0/metadata", b"{}")]
    with pytest.raises(yt.YtError, match="locked"):
        checkpoint._save(_Locked(1, code=901), "//c/0", b"value", b"{}")
