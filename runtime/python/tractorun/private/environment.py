"""From a closet to a toolbox."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any, Dict

import yt.wrapper as yt

from tractorun.description import Link
from tractorun.private.closet import Closet
from tractorun.private.constants import TRACTORUN_DESCRIPTION_MANAGER_NAME, USER_DESCRIPTION_MANAGER_NAME
from tractorun.private.yt_cluster import make_cypress_link, make_job_stderr_link
from tractorun.toolbox import Toolbox

_LOGGER = logging.getLogger(__name__)


def get_toolbox(closet: Closet) -> Toolbox:
    """The part of a closet that is the user's."""
    return Toolbox(
        coordinator=closet.coordinator,
        checkpoint_manager=closet.checkpoint_manager,
        description_manager=closet.description_manager.get_child(USER_DESCRIPTION_MANAGER_NAME),
        yt_client=closet.yt_client,
        mesh=closet.mesh,
        training_dir=closet.training_dir,
        training_metadata=closet.training_metadata,
    )


def describe_run(closet: Closet) -> None:
    """Rank 0 tells the web interface where the run's things are. Training does not depend on it."""
    if not closet.coordinator.is_primary():
        return
    try:
        closet.description_manager.get_child(TRACTORUN_DESCRIPTION_MANAGER_NAME).set(_description(closet))
    except yt.YtError as error:
        _LOGGER.warning("cannot set the operation's description: %s", error)


def _description(closet: Closet) -> Dict[str, Any]:
    coordinator, config = closet.coordinator, closet.cluster_config
    stderr = make_job_stderr_link(
        job_stderr_link_template=config.job_stderr_link_template,
        operation_id=closet.training_metadata.operation_id,
        job_id=closet.training_metadata.job_id,
    )
    logs = f"{closet.training_dir.logs_path}/{coordinator.get_incarnation_id()}"
    return {
        "training_dir": _link(closet, closet.training_dir.base_path),
        "primary": {"job_stderr": Link(value=stderr), "address": coordinator.get_primary_endpoint()},
        "logs": _link(closet, logs),
        "incarnation": coordinator.get_incarnation_id(),
        "mesh": asdict(closet.mesh),
    }


def _link(closet: Closet, path: str) -> Any:
    link = make_cypress_link(cypress_link_template=closet.cluster_config.cypress_link_template, path=path)
    # A path is better than nothing.
    return path if link is None else Link(value=link)
