"""PyTorch."""

from tractorun.backend.tractorch.backend import Tractorch
from tractorun.backend.tractorch.dataset import YtDataset, YtTensorDataset
from tractorun.backend.tractorch.serializer import TensorSerializer

__all__ = ["TensorSerializer", "Tractorch", "YtDataset", "YtTensorDataset"]
