"""What each node may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["Resources"]


@dataclass
class Resources:
    """`cpu_limit` in cores, `memory_limit` in bytes."""

    cpu_limit: Optional[float] = None
    memory_limit: Optional[int] = None
