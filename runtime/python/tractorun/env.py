"""Environment variables of workers and sidecars."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional

__all__ = ["EnvVariable"]


@dataclass
class EnvVariable:
    """A variable with its value, or with the Cypress path of a secret that only the job reads."""

    name: str
    value: Optional[str] = None
    cypress_path: Optional[str] = None

    @staticmethod
    def from_args(value: str) -> EnvVariable:
        """Reads the JSON that the option `--env` takes."""
        return EnvVariable(**json.loads(value))
