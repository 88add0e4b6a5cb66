"""The tensorproxy sidecar."""

from __future__ import annotations

from dataclasses import dataclass

from tractorun.sidecar import RestartPolicy

__all__ = ["TensorproxySidecar"]


@dataclass
class TensorproxySidecar:
    """Whether it runs, what its end leads to, and where its binary lies on the cluster."""

    enabled: bool
    restart_policy: RestartPolicy
    yt_path: str
