"""Which of a node's GPUs are a worker's."""

from __future__ import annotations

from typing import List, Optional


def own_gpus(process_index: int, process_per_node: int, gpu_per_process: int, visible: int) -> List[int]:
    """Numbers of the worker's own GPUs among those that it sees.

    A worker sees all GPUs of its node, or where the job was told so only its own, which count from 0 then.
    """
    if visible == gpu_per_process and process_per_node > 1:
        return list(range(gpu_per_process))
    first = process_index * gpu_per_process
    if first + gpu_per_process > visible:
        raise ValueError(
            f"worker {process_index} of {process_per_node} needs {gpu_per_process} GPU(s), "
            f"and {visible} of the node are visible to it"
        )
    return list(range(first, first + gpu_per_process))


def count_visible(cuda_visible_devices: Optional[str]) -> Optional[int]:
    """How many GPUs `CUDA_VISIBLE_DEVICES` names; `None` where it says nothing."""
    if cuda_visible_devices is None:
        return None
    return len([name for name in cuda_visible_devices.split(",") if name.strip()])


def local_address(primary_endpoint: str, node_index: int) -> str:
    """Where the workers of a node reach rank 0: those of its own node need no name, which in an overlay network may not
    lead back to the node."""
    if node_index != 0:
        return primary_endpoint
    return f"127.0.0.1:{primary_endpoint.rpartition(':')[2]}"
