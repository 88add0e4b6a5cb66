"""For any framework, and for none."""

from __future__ import annotations

from dataclasses import dataclass

from tractorun.backend.generic.environment import Environment
from tractorun.base_backend import BackendBase

__all__ = ["GenericBackend"]


@dataclass
class GenericBackend(BackendBase):
    """Prepares nothing: the environment of a worker is complete as it is."""

    @property
    def environment(self) -> Environment:
        """Nothing."""
        return Environment()
