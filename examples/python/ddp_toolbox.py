#!/usr/bin/env python3
"""PyTorch DistributedDataParallel with the toolbox: trains on handwritten digits and saves the model.

`Tractorch` joins all workers to the default process group (NCCL with GPUs, gloo without) before the toolbox is there.
"""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tractorun.backend.tractorch import TensorSerializer, Tractorch
from tractorun.run import prepare_and_get_toolbox


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    toolbox = prepare_and_get_toolbox(backend=Tractorch())
    rank, workers = toolbox.coordinator.get_self_index(), toolbox.coordinator.get_total_peer_count()
    epochs = toolbox.get_user_config().get("epochs", 40)

    digits = load_digits()
    images = torch.tensor(digits.data[rank::workers], dtype=torch.float32) / 16
    labels = torch.tensor(digits.target[rank::workers])
    network = nn.Linear(64, 10)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if toolbox.coordinator.is_primary() and epoch % 10 == 0:
            # Shown on the operation's page.
            toolbox.description_manager.set({"epoch": epoch, "loss": loss.item()})

    right = (network(images).argmax(dim=1) == labels).sum()
    counts = torch.tensor([float(right), float(len(labels))])
    dist.all_reduce(counts)
    accuracy = float(counts[0] / counts[1])
    # Rank 0 writes; the others only learn where.
    path = toolbox.save_model(
        TensorSerializer().serialize(network.state_dict()), metadata={"accuracy": f"{accuracy:.3f}"}
    )
    if toolbox.coordinator.is_primary():
        print(f"accuracy {accuracy:.3f}, model in {path}", file=sys.stderr)
    del model
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
