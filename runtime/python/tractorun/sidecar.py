"""Processes beside the workers of each node."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import List

__all__ = ["RestartPolicy", "Sidecar"]


class RestartPolicy(str, enum.Enum):
    """What the end of a sidecar leads to."""

    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    NEVER = "never"
    FAIL = "fail"


@dataclass
class Sidecar:
    """A command and its policy."""

    command: List[str]
    restart_policy: RestartPolicy

    @staticmethod
    def from_args(value: str) -> Sidecar:
        """Reads the JSON that the option `--sidecar` takes."""
        fields = json.loads(value)
        return Sidecar(command=fields["command"], restart_policy=RestartPolicy(fields["restart_policy"]))
