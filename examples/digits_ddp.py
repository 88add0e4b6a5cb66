#!/usr/bin/env python3
"""Trains a small classifier on handwritten digits with PyTorch DistributedDataParallel.

The script knows nothing of tractorun: MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE come from the
environment, as torchrun sets them too. The data are the 1,797 images of 8 x 8 pixels that scikit-learn
ships, so nothing is downloaded. Gloo on the CPU; the same seeds give the same accuracy each time.
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

EPOCHS = int(os.environ.get("EPOCHS", "12"))
BATCH_OF_ALL_RANKS = 64
TEST_SHARE = 0.25


def load_data():
    """Train and test set, shuffled by a fixed seed so that every rank sees the same split."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16.0
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test_size = int(len(labels) * TEST_SHARE)
    test, train = order[:test_size], order[test_size:]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def train(model, train_set, rank, world_size):
    """Each rank goes over its own share of the train set; DDP averages the gradients."""
    sampler = DistributedSampler(train_set, num_replicas=world_size, rank=rank, shuffle=True, seed=0)
    loader = DataLoader(train_set, batch_size=max(1, BATCH_OF_ALL_RANKS // world_size), sampler=sampler)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_function = nn.CrossEntropyLoss()
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        total = torch.zeros(2)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_function(model(images), labels)
            loss.backward()
            optimizer.step()
            total += torch.tensor([loss.item() * len(labels), len(labels)])
        dist.all_reduce(total)
        if rank == 0:
            print(f"epoch {epoch + 1}/{EPOCHS}: loss {total[0] / total[1]:.4f}", flush=True)


def accuracy(model, test_set, rank, world_size):
    """Each rank tests its own share; the counts are summed."""
    images, labels = test_set.tensors
    images, labels = images[rank::world_size], labels[rank::world_size]
    with torch.no_grad():
        correct = (model(images).argmax(dim=1) == labels).sum()
    counts = torch.tensor([float(correct), float(len(labels))])
    dist.all_reduce(counts)
    return counts


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method="env://")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    print(f"rank {rank} of {world_size} is ready", flush=True)

    train_set, test_set = load_data()
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model = DistributedDataParallel(network)
    train(model, train_set, rank, world_size)
    # Kept until the group is gone: gloo's thread must not be the last one to hold it, since it would wait for
    # the interpreter's lock while the interpreter waits for the thread.
    counts = accuracy(network, test_set, rank, world_size)
    if rank == 0:
        print(f"test accuracy: {float(counts[0] / counts[1]):.3f}", flush=True)
    del model
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
