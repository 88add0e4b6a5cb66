"""Nothing to prepare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractorun.base_backend import EnvironmentBase

if TYPE_CHECKING:
    from tractorun.private.closet import Closet as _Closet

__all__ = ["Environment"]


class Environment(EnvironmentBase):
    """Nothing to prepare."""

    def prepare(self, closet: _Closet) -> None:
        """Does nothing."""
