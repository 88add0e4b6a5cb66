"""Who a worker is in its job."""

from __future__ import annotations

from dataclasses import dataclass

from tractorun.mesh import Mesh

__all__ = ["Coordinator"]


@dataclass
class Coordinator:
    """Ranks and endpoints, as `tractorun-init` found them. Asks nobody and never changes."""

    _mesh: Mesh
    _self_index: int
    _process_index: int
    _self_endpoint: str
    _incarnation_id: int
    _primary_endpoint: str

    def get_self_index(self) -> int:
        """Rank of the worker in the job."""
        return self._self_index

    def get_total_peer_count(self) -> int:
        """Workers of the job."""
        return self._mesh.peer_count

    def get_incarnation_id(self) -> int:
        """Number of the run in its `yt_path`, from 0."""
        return self._incarnation_id

    def is_primary(self) -> bool:
        """Whether this is rank 0."""
        return self._self_index == 0

    def get_primary_endpoint(self) -> str:
        """`host:port` of rank 0."""
        return self._primary_endpoint

    def get_process_index(self) -> int:
        """Rank of the worker on its node."""
        return self._process_index

    def get_self_endpoint(self) -> str:
        """`host:port` that belongs to this worker."""
        return self._self_endpoint
