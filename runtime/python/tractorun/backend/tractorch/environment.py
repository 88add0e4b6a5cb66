"""Joins a worker to the default process group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed

from tractorun.base_backend import EnvironmentBase
from tractorun.exception import TractorunConfigurationError
from tractorun.private.devices import local_address as _local_address
from tractorun.private.devices import own_gpus as _own_gpus

if TYPE_CHECKING:
    from tractorun.private.closet import Closet as _Closet

__all__ = ["Environment"]


class Environment(EnvironmentBase):
    """Joins a worker to the default process group."""

    def prepare(self, closet: _Closet) -> None:
        """Takes the worker's GPU and waits until all workers are there."""
        coordinator, mesh = closet.coordinator, closet.mesh
        if mesh.gpu_per_process > 1:
            raise TractorunConfigurationError(
                f"gpu_per_process is {mesh.gpu_per_process}: Tractorch expects 0 or 1, one worker for each GPU"
            )
        if mesh.gpu_per_process == 1:
            try:
                visible = torch.cuda.device_count()
                (gpu,) = _own_gpus(coordinator.get_process_index(), mesh.process_per_node, 1, visible)
            except ValueError as error:
                raise TractorunConfigurationError(str(error)) from error
            torch.cuda.set_device(gpu)
        node_index = coordinator.get_self_index() // mesh.process_per_node
        address = _local_address(coordinator.get_primary_endpoint(), node_index)
        torch.distributed.init_process_group(
            backend="gloo" if mesh.gpu_per_process == 0 else "nccl",
            init_method=f"tcp://{address}",
            rank=coordinator.get_self_index(),
            world_size=coordinator.get_total_peer_count(),
        )
        torch.distributed.barrier()
