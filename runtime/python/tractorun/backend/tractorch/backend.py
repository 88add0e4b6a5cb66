"""PyTorch over all workers."""

from __future__ import annotations

from dataclasses import dataclass

from tractorun.backend.tractorch.environment import Environment
from tractorun.base_backend import BackendBase

__all__ = ["Tractorch"]


@dataclass
class Tractorch(BackendBase):
    """Makes all workers the default process group: NCCL with GPUs, gloo without."""

    @property
    def environment(self) -> Environment:
        """`torch.distributed.init_process_group`."""
        return Environment()
