"""All that a backend may need to get its worker ready."""

from __future__ import annotations

import os
from dataclasses import dataclass

import yt.wrapper as yt

from tractorun.checkpoint import CheckpointManager
from tractorun.coordinator import Coordinator
from tractorun.description import DescriptionManager
from tractorun.mesh import Mesh
from tractorun.private.training_dir import TrainingDir
from tractorun.private.worker_config import WorkerConfig
from tractorun.private.yt_cluster import TractorunClusterConfig


@dataclass
class TrainingMetadata:
    """What runs this worker."""

    operation_id: str
    job_id: str


@dataclass
class Closet:
    """What a worker has."""

    mesh: Mesh
    coordinator: Coordinator
    yt_client: yt.YtClient
    checkpoint_manager: CheckpointManager
    training_dir: TrainingDir
    training_metadata: TrainingMetadata
    cluster_config: TractorunClusterConfig
    description_manager: DescriptionManager


def get_closet() -> Closet:
    """Looks around in this process's environment."""
    config = WorkerConfig.load(os.environ)
    # Proxy and token are in the environment, where init has put them.
    client = yt.YtClient(config=yt.default_config.get_config_from_env())
    checkpoint_manager = CheckpointManager(config.training_dir.checkpoints_path, client)
    checkpoint_manager.initialize()
    return Closet(
        mesh=config.mesh,
        coordinator=Coordinator(
            config.mesh,
            config.self_index,
            config.proc_index,
            config.self_endpoint,
            config.incarnation_id,
            config.primary_endpoint,
        ),
        yt_client=client,
        checkpoint_manager=checkpoint_manager,
        training_dir=config.training_dir,
        training_metadata=TrainingMetadata(operation_id=config.operation_id, job_id=config.job_id),
        cluster_config=config.cluster_config,
        description_manager=DescriptionManager(
            operation_id=config.operation_id,
            yt_client=client,
            cypress_link_template=config.cluster_config.cypress_link_template,
        ),
    )
