"""What a backend is: a name for how a worker gets ready for its framework."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tractorun.private.closet import Closet as _Closet

__all__ = ["BackendBase", "EnvironmentBase"]


class EnvironmentBase(abc.ABC):
    """Gets a worker ready."""

    @abc.abstractmethod
    def prepare(self, closet: _Closet) -> None:
        """Runs in every worker before the user's code."""


class BackendBase(abc.ABC):
    """Travels from the laptop to the workers, and imports its framework only there."""

    @property
    @abc.abstractmethod
    def environment(self) -> EnvironmentBase:
        """How to get a worker ready."""
