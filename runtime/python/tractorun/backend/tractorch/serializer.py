"""Tensors as bytes."""

from __future__ import annotations

import io
from typing import Any, Optional

import torch

__all__ = ["TensorSerializer"]


class TensorSerializer:
    """Whatever `torch.save` takes, as bytes."""

    def serialize(self, tensor: object) -> bytes:
        """To bytes."""
        buffer = io.BytesIO()
        torch.save(tensor, buffer)
        return buffer.getvalue()

    def deserialize(self, tensor: bytes, device: Optional[torch.device] = None) -> Any:
        """From bytes, onto the CPU unless a device is named."""
        return torch.load(io.BytesIO(tensor), map_location=torch.device("cpu") if device is None else device)

    # The name that scripts know it by.
    desirialize = deserialize
