"""JAX over all workers."""

from __future__ import annotations

from dataclasses import dataclass

from tractorun.backend.tractorax.environment import Environment
from tractorun.base_backend import BackendBase

__all__ = ["Tractorax"]


@dataclass
class Tractorax(BackendBase):
    """Makes all workers one JAX system."""

    @property
    def environment(self) -> Environment:
        """`jax.distributed.initialize`."""
        return Environment()
