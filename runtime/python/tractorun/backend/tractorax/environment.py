"""Joins a worker to JAX's distributed system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import jax

from tractorun.base_backend import EnvironmentBase
from tractorun.private.devices import count_visible as _count_visible
from tractorun.private.devices import local_address as _local_address
from tractorun.private.devices import own_gpus as _own_gpus

if TYPE_CHECKING:
    from tractorun.private.closet import Closet as _Closet

__all__ = ["Environment"]


class Environment(EnvironmentBase):
    """Joins a worker to JAX's distributed system."""

    def prepare(self, closet: _Closet) -> None:
        """Must come before anything that makes JAX look for its devices."""
        coordinator, mesh = closet.coordinator, closet.mesh
        process_index, gpus = coordinator.get_process_index(), mesh.gpu_per_process
        local_device_ids = None
        if gpus > 0:
            visible = _count_visible(os.environ.get("CUDA_VISIBLE_DEVICES"))
            # Where nothing is said, all GPUs of the node are visible.
            visible = mesh.process_per_node * gpus if visible is None else visible
            local_device_ids = _own_gpus(process_index, mesh.process_per_node, gpus, visible)
        else:
            _let_cpus_talk()
        node_index = coordinator.get_self_index() // mesh.process_per_node
        jax.distributed.initialize(
            coordinator_address=_local_address(coordinator.get_primary_endpoint(), node_index),
            num_processes=coordinator.get_total_peer_count(),
            process_id=coordinator.get_self_index(),
            local_device_ids=local_device_ids,
        )


def _let_cpus_talk() -> None:
    """Releases of JAX before 0.5 know collectives of CPUs but leave them off."""
    option = "jax_cpu_collectives_implementation"
    if option.upper() in os.environ:
        return
    try:
        jax.config.update(option, "gloo")
    except (AttributeError, ValueError):
        # Neither older nor later releases need to have the option.
        pass
