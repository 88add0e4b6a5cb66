#!/usr/bin/env python3
"""Training that goes on after a worker was killed: `--restarts.max 1` starts all workers again in the same containers.

Each node keeps its own checkpoints in its sandbox, which outlives an attempt. A node may have been killed before it
wrote the last one, so all go back to the newest that every node has. The script knows nothing of tractorun: with
torchrun's `--max-restarts` it does the same. `KILL_AT=7` lets the last rank kill itself before step 7 of the first
attempt, to see it happen.
"""

import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 12
ATTEMPT = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
KILL_AT = int(os.environ.get("KILL_AT", "-1"))


def path_of(step):
    return Path(f"checkpoint.node-{os.environ['GROUP_RANK']}.{step}.pt")


def newest_of_all_nodes():
    """The last step whose checkpoint every node has; 0 if there is none."""
    mine = [step for step in range(1, STEPS + 1) if path_of(step).exists()]
    newest = torch.tensor(max(mine, default=0))
    dist.all_reduce(newest, op=dist.ReduceOp.MIN)
    return int(newest)


def save(step, network, optimizer):
    """Whole or not at all: whoever is killed meanwhile leaves the one before."""
    if os.environ["LOCAL_RANK"] == "0":
        part = path_of(step).with_suffix(".part")
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, part)
        part.rename(path_of(step))
        # Nodes are at most one step apart.
        path_of(step - 2).unlink(missing_ok=True)
    dist.barrier()


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method="env://")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    network = nn.Linear(8, 1)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)

    first = newest_of_all_nodes()
    if first:
        checkpoint = torch.load(path_of(first))
        network.load_state_dict(checkpoint["network"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    if rank == 0:
        print(f"attempt {ATTEMPT} begins after step {first}, port {os.environ['MASTER_PORT']}", flush=True)
    for step in range(first + 1, STEPS + 1):
        if (ATTEMPT, step, rank) == (0, KILL_AT, world_size - 1):
            os.kill(os.getpid(), signal.SIGKILL)
        # The same rows for this rank and step, whichever attempt it is.
        rows = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
        optimizer.zero_grad()
        loss = ((model(rows) - rows.sum(dim=1, keepdim=True)) ** 2).mean()
        loss.backward()
        optimizer.step()
        save(step, network, optimizer)
    if rank == 0:
        print(f"parameters {network.weight.double().sum():.12f} {network.bias.double().sum():.12f}", flush=True)
    dist.barrier()
    # Gloo's thread must not be the last to hold it: see digits_ddp.py.
    del model
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
