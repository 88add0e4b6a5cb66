"""What a started run was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

__all__ = ["RunInfo"]


@dataclass
class RunInfo:
    """The operation's spec with its secrets masked, and its id; a dry or local run has no id."""

    operation_spec: Dict[str, Any]
    operation_id: Optional[str]
