#!/usr/bin/env python3
"""A table as a PyTorch dataset: every rank reads its own rows, every epoch, without a copy of the table on any disk.

The table is the one in the user config's `table`; where it is not there, rank 0 makes one of 1,000 rows.
"""

import sys

import torch
import torch.distributed as dist
from tractorun.backend.tractorch import Tractorch, YtDataset
from tractorun.run import prepare_and_get_toolbox

ROWS = 1000
EPOCHS = 5


def make_table(client, path):
    """Points on the line y = 3x + 1, and a column that training does not read."""
    schema = [
        {"name": "x", "type": "double"},
        {"name": "y", "type": "double"},
        {"name": "comment", "type": "string"},
    ]
    client.create("table", path, recursive=True, attributes={"schema": schema})
    # Bytes that are no text are fine too.
    rows = ({"x": i / ROWS, "y": 3 * i / ROWS + 1, "comment": b"\xff\xfe"} for i in range(ROWS))
    client.write_table(path, rows)


def to_tensors(columns, row):
    return tuple(torch.tensor(row[name], dtype=torch.float32) for name in columns)


def main():
    torch.manual_seed(0)
    toolbox = prepare_and_get_toolbox(backend=Tractorch())
    coordinator, client = toolbox.coordinator, toolbox.yt_client
    path = toolbox.get_user_config().get("table", f"{toolbox.training_dir.base_path}/points")
    if coordinator.is_primary() and not client.exists(path):
        make_table(client, path)
    dist.barrier()

    dataset = YtDataset(
        path,
        client,
        to_tensors,
        columns=["x", "y"],
        shard_index=coordinator.get_self_index(),
        shard_count=coordinator.get_total_peer_count(),
    )
    # Its worker processes share the rows of the rank among them.
    loader = torch.utils.data.DataLoader(dataset, batch_size=10, num_workers=2)
    line = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(line.parameters(), lr=0.2)
    seen = 0
    for _epoch in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(line(x[:, None])[:, 0], y)
            loss.backward()
            for parameter in line.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= coordinator.get_total_peer_count()
            optimizer.step()
            seen += len(x)
    total = torch.tensor([float(seen)])
    dist.all_reduce(total)
    if coordinator.is_primary():
        slope, start = line.weight.item(), line.bias.item()
        print(f"read {int(total)} rows in {EPOCHS} epochs: y = {slope:.1f}x + {start:.1f}", file=sys.stderr)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
