"""From the parameters of `run` to the launcher's settings, the keys of its YAML file. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from tractorun.bind import BindCypress, BindLocal
from tractorun.docker_auth import DockerAuthData, DockerAuthSecret
from tractorun.env import EnvVariable
from tractorun.exception import DockerAuthDataError, TractorunConfigurationError
from tractorun.mesh import Mesh
from tractorun.operation_log import OperationLogMode
from tractorun.private.constants import DEFAULT_CLUSTER_CONFIG_PATH
from tractorun.resources import Resources
from tractorun.sidecar import RestartPolicy, Sidecar
from tractorun.stderr_reader import StderrMode
from tractorun.tensorproxy import TensorproxySidecar


@dataclass
class Parameters:
    """What a run may be given. The command is kept apart: for a function it is found later."""

    mesh: Mesh = field(default_factory=Mesh)
    yt_path: Optional[str] = None
    title: Optional[str] = None
    user_config: Dict[Any, Any] = field(default_factory=dict)
    cluster_config_path: str = DEFAULT_CLUSTER_CONFIG_PATH
    docker_image: Optional[str] = None
    resources: Resources = field(default_factory=Resources)
    binds_local: List[BindLocal] = field(default_factory=list)
    binds_local_lib: List[str] = field(default_factory=list)
    binds_cypress: List[BindCypress] = field(default_factory=list)
    sidecars: List[Sidecar] = field(default_factory=list)
    tensorproxy: Optional[TensorproxySidecar] = None
    env: List[EnvVariable] = field(default_factory=list)
    no_wait: bool = False
    yt_operation_spec: Dict[Any, Any] = field(default_factory=dict)
    yt_task_spec: Dict[Any, Any] = field(default_factory=dict)
    local: bool = False
    proxy_stderr_mode: StderrMode = StderrMode.disabled
    operation_log_mode: OperationLogMode = OperationLogMode.default
    docker_auth: Optional[DockerAuthData] = None

    def settings(self, command: List[str], environment: Mapping[str, str]) -> Dict[str, Any]:
        """The launcher's settings; what was not given is left out, so that the launcher's defaults hold."""
        return {
            "command": [os.fspath(word) for word in command],
            "mesh": _given(
                node_count=self.mesh.node_count,
                process_per_node=self.mesh.process_per_node,
                gpu_per_process=self.mesh.gpu_per_process,
                pool=self.mesh.pool,
                pool_trees=self.mesh.pool_trees or None,
            ),
            **_given(
                yt_path=self.yt_path,
                title=self.title,
                user_config=self.user_config or None,
                cluster_config_path=(
                    None if self.cluster_config_path == DEFAULT_CLUSTER_CONFIG_PATH else self.cluster_config_path
                ),
                docker_image=self._image(environment),
                docker_auth_secret=_docker_auth(self.docker_auth),
                resources=_given(cpu_limit=self.resources.cpu_limit, memory_limit=self.resources.memory_limit) or None,
                bind_local=[_bind_local(bind) for bind in self.binds_local] or None,
                bind_local_lib=[os.path.abspath(path) for path in self.binds_local_lib] or None,
                bind_cypress=[_bind_cypress(bind) for bind in self.binds_cypress] or None,
                sidecars=[_sidecar(sidecar) for sidecar in self.sidecars] or None,
                tensorproxy=_tensorproxy(self.tensorproxy),
                env=[_variable(variable) for variable in self.env] or None,
                no_wait=self.no_wait or None,
                yt_operation_spec=self.yt_operation_spec or None,
                yt_task_spec=self.yt_task_spec or None,
                local=self.local or None,
                proxy_stderr_mode=_word(StderrMode, self.proxy_stderr_mode, StderrMode.disabled),
                operation_log_mode=_word(OperationLogMode, self.operation_log_mode, OperationLogMode.default),
            ),
        }

    def _image(self, environment: Mapping[str, str]) -> Optional[str]:
        image = (
            self.docker_image or environment.get("YT_BASE_LAYER") or environment.get("YT_JOB_DOCKER_IMAGE") or None
        )
        if image is None and not self.local:
            raise TractorunConfigurationError(
                "docker_image should be specified\n"
                "hint: give docker_image, or set YT_BASE_LAYER or YT_JOB_DOCKER_IMAGE"
            )
        return image


def _given(**values: Any) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _word(kind: Any, value: Any, default: Any) -> Optional[str]:
    word = kind(value)
    return None if word is default else str(word.value)


def _bind_local(bind: BindLocal) -> Dict[str, Any]:
    return {"source": bind.source, "destination": bind.destination}


def _bind_cypress(bind: BindCypress) -> Dict[str, Any]:
    attributes = _given(
        executable=bind.attributes.executable,
        format=bind.attributes.format,
        bypass_artifact_cache=bind.attributes.bypass_artifact_cache or None,
    )
    return {"source": bind.source, "destination": bind.destination, "attributes": attributes}


def _sidecar(sidecar: Sidecar) -> Dict[str, Any]:
    command = [os.fspath(word) for word in sidecar.command]
    return {"command": command, "restart_policy": RestartPolicy(sidecar.restart_policy).value}


def _variable(variable: EnvVariable) -> Dict[str, Any]:
    return _given(name=variable.name, value=variable.value, cypress_path=variable.cypress_path)


def _tensorproxy(sidecar: Optional[TensorproxySidecar]) -> Optional[Dict[str, Any]]:
    if sidecar is None:
        return None
    policy = RestartPolicy(sidecar.restart_policy).value
    return {"enabled": sidecar.enabled, "restart_policy": policy, "yt_path": sidecar.yt_path}


def _docker_auth(auth: Optional[DockerAuthData]) -> Optional[Dict[str, Any]]:
    if auth is None:
        return None
    if not isinstance(auth, DockerAuthSecret):
        raise DockerAuthDataError(f"docker_auth is of type {type(auth).__name__}: DockerAuthSecret is accepted")
    return {"cypress_path": auth.cypress_path}
