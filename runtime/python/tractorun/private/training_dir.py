"""Where a run's traces are on the cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainingDir:
    """Cypress paths, as `tractorun-init` names them."""

    base_path: str
    primary_lock_path: str
    incarnations_path: str
    models_path: str
    checkpoints_path: str
    logs_path: str
    worker_logs_path: str
    sidecar_logs_path: str

    def get_incarnation_path(self, incarnation_id: int) -> str:
        """Node of one incarnation."""
        return f"{self.incarnations_path}/{incarnation_id:05d}"
