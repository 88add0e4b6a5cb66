"""Shape of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

__all__ = ["Mesh"]


@dataclass
class Mesh:
    """Nodes, workers on each node, GPUs of each worker, and where to schedule them."""

    node_count: int = 1
    process_per_node: int = 1
    gpu_per_process: int = 0
    pool: Optional[str] = None
    pool_trees: Optional[List[str]] = None

    @property
    def peer_count(self) -> int:
        """Workers of the whole job."""
        return self.node_count * self.process_per_node
