"""Files that a job finds."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Optional

__all__ = ["BindAttributes", "BindCypress", "BindLocal"]


@dataclass
class BindAttributes:
    """How the cluster hands out a Cypress file."""

    executable: bool = True
    format: Optional[str] = None
    bypass_artifact_cache: bool = False


@dataclass
class BindLocal:
    """A file or folder of this machine and where it appears in the job; a relative destination starts in the sandbox."""

    source: str
    destination: str

    def __post_init__(self) -> None:
        # The launcher may start elsewhere.
        self.source = os.path.abspath(self.source)
        self.destination = os.fspath(self.destination)


@dataclass
class BindCypress:
    """A Cypress file, or a map node with files in it, and where it appears in the job."""

    source: str
    destination: str
    attributes: BindAttributes = field(default_factory=BindAttributes)
