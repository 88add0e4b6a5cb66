"""What a worker has at hand."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional

import yt.wrapper as yt

from tractorun.checkpoint import CheckpointManager
from tractorun.coordinator import Coordinator
from tractorun.description import DescriptionManager
from tractorun.mesh import Mesh
from tractorun.private import constants as _constants

if TYPE_CHECKING:
    from tractorun.private.closet import TrainingMetadata as _TrainingMetadata
    from tractorun.private.training_dir import TrainingDir as _TrainingDir

__all__ = ["Toolbox"]


@dataclass
class Toolbox:
    """What a worker has at hand."""

    coordinator: Coordinator
    checkpoint_manager: CheckpointManager
    description_manager: DescriptionManager
    yt_client: yt.YtClient
    mesh: Mesh
    training_dir: _TrainingDir
    training_metadata: _TrainingMetadata

    @staticmethod
    def get_user_config() -> Dict[Any, Any]:
        """The user's own config; empty when none was given."""
        config: Dict[Any, Any] = json.loads(os.environ.get(_constants.YT_USER_CONFIG_ENV_VAR, "{}"))
        return config

    def save_model(
        self, data: bytes, dataset_path: Optional[str] = None, metadata: Optional[Dict[str, str]] = None
    ) -> str:
        """Writes the model of this incarnation and says where; only rank 0 writes.

        What it was made of is in the file's attribute `tractorun`.
        """
        incarnation_id = self.coordinator.get_incarnation_id()
        path = f"{self.training_dir.models_path}/{incarnation_id}"
        if not self.coordinator.is_primary():
            return path
        origin = {
            "dataset_path": dataset_path,
            "operation_id": self.training_metadata.operation_id,
            "job_id": self.training_metadata.job_id,
            "incarnation_id": incarnation_id,
            "metadata": metadata or {},
            "user_config": self.get_user_config(),
            "mesh": asdict(self.mesh),
        }
        # Nobody sees a model that does not say what it is.
        with self.yt_client.Transaction():
            self.yt_client.write_file(path, data)
            self.yt_client.set_attribute(path, "tractorun", origin)
        return path
