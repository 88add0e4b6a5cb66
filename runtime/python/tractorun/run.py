"""Starting runs from Python, and getting ready inside of one.

`run` sends a function, `run_script` a command; both call the `tractorun` binary and return when the run is over (or
started, with `no_wait`). `prepare_and_get_toolbox` is for scripts that are workers.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import yt.wrapper as yt

from tractorun.base_backend import BackendBase
from tractorun.bind import BindCypress, BindLocal
from tractorun.docker_auth import DockerAuthData
from tractorun.env import EnvVariable
from tractorun.mesh import Mesh
from tractorun.operation_log import OperationLogMode
from tractorun.private import launcher as _launcher
from tractorun.private import main as _main
from tractorun.private.closet import get_closet as _get_closet
from tractorun.private.constants import DEFAULT_CLUSTER_CONFIG_PATH as _DEFAULT_CLUSTER_CONFIG_PATH
from tractorun.private.environment import describe_run as _describe_run
from tractorun.private.environment import get_toolbox as _get_toolbox
from tractorun.private.function import DESTINATION as _FUNCTION_DESTINATION
from tractorun.private.function import pack_function as _pack_function
from tractorun.private.logging import setup_logging as _setup_logging
from tractorun.private.settings import Parameters as _Parameters
from tractorun.resources import Resources
from tractorun.run_info import RunInfo
from tractorun.sidecar import Sidecar
from tractorun.stderr_reader import StderrMode
from tractorun.tensorproxy import TensorproxySidecar
from tractorun.toolbox import Toolbox

__all__ = ["prepare_and_get_toolbox", "run", "run_script"]

# The folder of this very package: it travels with a function.
_PACKAGE = Path(__file__).resolve().parent


def prepare_and_get_toolbox(backend: BackendBase) -> Toolbox:
    """Gets this worker ready for the backend's framework. Call it once, before the framework is used."""
    _setup_logging()
    closet = _get_closet()
    _describe_run(closet)
    backend.environment.prepare(closet)
    return _get_toolbox(closet)


def run_script(
    user_command: List[str],
    *,
    mesh: Mesh,
    yt_path: Optional[str] = None,
    title: Optional[str] = None,
    user_config: Optional[Dict[Any, Any]] = None,
    cluster_config_path: str = _DEFAULT_CLUSTER_CONFIG_PATH,
    docker_image: Optional[str] = None,
    resources: Optional[Resources] = None,
    yt_client: Optional[yt.YtClient] = None,
    binds_local: Optional[List[BindLocal]] = None,
    binds_local_lib: Optional[List[str]] = None,
    binds_cypress: Optional[List[BindCypress]] = None,
    sidecars: Optional[List[Sidecar]] = None,
    tensorproxy: Optional[TensorproxySidecar] = None,
    env: Optional[List[EnvVariable]] = None,
    no_wait: bool = False,
    yt_operation_spec: Optional[Dict[Any, Any]] = None,
    yt_task_spec: Optional[Dict[Any, Any]] = None,
    local: bool = False,
    proxy_stderr_mode: StderrMode = StderrMode.disabled,
    operation_log_mode: OperationLogMode = OperationLogMode.default,
    docker_auth: Optional[DockerAuthData] = None,
    dry_run: bool = False,
) -> RunInfo:
    """Runs a command as `tractorun` does; the parameters are its options."""
    _main.stop_loading()
    _setup_logging()
    parameters = _Parameters(
        mesh=mesh or Mesh(),
        yt_path=yt_path,
        title=title,
        user_config=user_config or {},
        cluster_config_path=cluster_config_path,
        docker_image=docker_image,
        resources=resources or Resources(),
        binds_local=binds_local or [],
        binds_local_lib=binds_local_lib or [],
        binds_cypress=binds_cypress or [],
        sidecars=sidecars or [],
        tensorproxy=tensorproxy,
        env=env or [],
        no_wait=no_wait,
        yt_operation_spec=yt_operation_spec or {},
        yt_task_spec=yt_task_spec or {},
        local=local,
        proxy_stderr_mode=proxy_stderr_mode,
        operation_log_mode=operation_log_mode,
        docker_auth=docker_auth,
    )
    return _launcher.run(parameters.settings(user_command, os.environ), yt_client, dry_run=dry_run)


def run(
    user_command: Callable[..., Any],
    *,
    backend: BackendBase,
    yt_path: Optional[str] = None,
    mesh: Optional[Mesh] = None,
    title: Optional[str] = None,
    user_config: Optional[Dict[Any, Any]] = None,
    cluster_config_path: str = _DEFAULT_CLUSTER_CONFIG_PATH,
    docker_image: Optional[str] = None,
    resources: Optional[Resources] = None,
    yt_client: Optional[yt.YtClient] = None,
    binds_local: Optional[List[BindLocal]] = None,
    binds_local_lib: Optional[List[str]] = None,
    binds_cypress: Optional[List[BindCypress]] = None,
    sidecars: Optional[List[Sidecar]] = None,
    tensorproxy: Optional[TensorproxySidecar] = None,
    env: Optional[List[EnvVariable]] = None,
    no_wait: bool = False,
    yt_operation_spec: Optional[Dict[Any, Any]] = None,
    yt_task_spec: Optional[Dict[Any, Any]] = None,
    local: bool = False,
    proxy_stderr_mode: StderrMode = StderrMode.disabled,
    operation_log_mode: OperationLogMode = OperationLogMode.default,
    docker_auth: Optional[DockerAuthData] = None,
    attach_external_libs: bool = False,
    dry_run: bool = False,
) -> RunInfo:
    """Calls a function with a toolbox in every worker; the other parameters are the options of `tractorun`.

    The function, what it refers to, modules of the user's own and this package travel; the image needs Python of the
    same version, the YT client, and what the function imports. `attach_external_libs` takes installed modules along
    too, as far as they are imported here: for trying something out.
    """
    _main.stop_loading()
    _setup_logging()
    if attach_external_libs:
        warnings.warn(
            "attach_external_libs is for trying something out: in production the image should hold the libraries",
            stacklevel=2,
        )
    libraries = list(binds_local_lib or [])
    names = {os.path.basename(os.path.abspath(path)) for path in libraries}
    if _PACKAGE.name not in names:
        libraries.append(str(_PACKAGE))
    with tempfile.TemporaryDirectory(prefix="tractorun-") as folder:
        packed = Path(folder) / _FUNCTION_DESTINATION
        _pack_function(user_command, backend, packed, libraries=names, with_installed=attach_external_libs)
        python = sys.executable if local else "python3"
        return run_script(
            [python, "-m", "tractorun.private.run_function", _FUNCTION_DESTINATION],
            mesh=mesh or Mesh(),
            yt_path=yt_path,
            title=title,
            user_config=user_config,
            cluster_config_path=cluster_config_path,
            docker_image=docker_image,
            resources=resources,
            yt_client=yt_client,
            binds_local=[*(binds_local or []), BindLocal(source=str(packed), destination=_FUNCTION_DESTINATION)],
            binds_local_lib=libraries,
            binds_cypress=binds_cypress,
            sidecars=sidecars,
            tensorproxy=tensorproxy,
            env=env,
            no_wait=no_wait,
            yt_operation_spec=yt_operation_spec,
            yt_task_spec=yt_task_spec,
            local=local,
            proxy_stderr_mode=proxy_stderr_mode,
            operation_log_mode=operation_log_mode,
            docker_auth=docker_auth,
            dry_run=dry_run,
        )
