"""What a cluster says about itself, and links to its web interface."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional
from urllib.parse import quote

import yt.wrapper as yt

# "No such operation", of the scheduler and of the archive.
_NO_SUCH_OPERATION = (200, 1915)


def operation_is_unknown(error: yt.YtError) -> bool:
    """Whether the cluster does not know the operation."""
    return any(error.contains_code(code) for code in _NO_SUCH_OPERATION)


def make_cypress_link(cypress_link_template: Optional[str], path: str) -> Optional[str]:
    """URL of a Cypress node, where the cluster has said how its links look."""
    if cypress_link_template is None:
        return None
    return cypress_link_template.format(path=quote(path))


def make_job_stderr_link(job_stderr_link_template: Optional[str], operation_id: str, job_id: str) -> Optional[str]:
    """URL of a job's stderr."""
    if job_stderr_link_template is None:
        return None
    return job_stderr_link_template.format(operation_id=quote(operation_id), job_id=quote(job_id))


@dataclass
class TractorunClusterConfig:
    """How links to the cluster's web interface look: `{path}`, `{operation_id}` and `{job_id}` stand for what they say."""

    cypress_link_template: Optional[str] = None
    job_stderr_link_template: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        """As it is kept on the cluster."""
        return asdict(self)
