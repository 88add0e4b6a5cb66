"""The JSON that `TRACTO_CONFIG` names: who this worker is. Written by `tractorun-init`; the token is not in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from typing import Any, Dict, Mapping, Type, TypeVar

from tractorun.exception import TractorunBootstrapError, TractorunVersionMismatchError
from tractorun.mesh import Mesh
from tractorun.private.constants import TRACTO_CONFIG_ENV_VAR
from tractorun.private.training_dir import TrainingDir
from tractorun.private.yt_cluster import TractorunClusterConfig

_T = TypeVar("_T")


@dataclass
class WorkerConfig:
    """Who this worker is."""

    mesh: Mesh
    node_index: int
    proc_index: int
    self_index: int
    self_endpoint: str
    primary_endpoint: str
    incarnation_id: int
    training_dir: TrainingDir
    operation_id: str
    job_id: str
    cluster_config: TractorunClusterConfig

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> WorkerConfig:
        """Reads the file that the environment names."""
        path = environment.get(TRACTO_CONFIG_ENV_VAR)
        if path is None:
            raise TractorunBootstrapError(
                f"{TRACTO_CONFIG_ENV_VAR} is not set: this process was not started as a worker\n"
                "hint: start the script with `tractorun`, on this machine with `tractorun --local python3 <script>`"
            )
        with open(os.fspath(path), encoding="utf-8") as stream:
            return cls.parse(json.load(stream))

    @classmethod
    def parse(cls, document: Any) -> WorkerConfig:
        """Takes what it needs; what a newer init says besides is not looked at."""
        if not isinstance(document, dict):
            # The Python tractorun's bootstrap puts JSON text into a JSON string.
            raise TractorunVersionMismatchError(
                f"the worker config is not a JSON object but {type(document).__name__}\n"
                "hint: this package works with `tractorun-init`; the image's bootstrap is of another tractorun"
            )
        sections: Dict[str, Any] = {
            "mesh": _structure(Mesh, document.get("mesh")),
            "training_dir": _structure(TrainingDir, document.get("training_dir")),
            "cluster_config": _structure(TractorunClusterConfig, document.get("cluster_config") or {}),
        }
        return _structure(cls, {**document, **sections})


def _structure(kind: Type[_T], document: Any) -> _T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: value for name, value in document.items() if name in known})
    except (AttributeError, TypeError) as error:
        raise TractorunVersionMismatchError(
            f"the worker config does not fit this package: {kind.__name__}: {error}\n"
            "hint: use the package of the launcher's release, such as with --bind-local-lib"
        ) from error
