"""Whose stderr the launcher shows."""

from __future__ import annotations

import enum

__all__ = ["StderrMode"]


class StderrMode(str, enum.Enum):
    """`primary`: that of node 0."""

    disabled = "disabled"
    primary = "primary"
