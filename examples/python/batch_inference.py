#!/usr/bin/env python3
"""Offline inference: every worker reads its own rows of one table and writes them, with a score, to another one.

`input` and `output` of the user config name the tables; without an input rank 0 makes one. Each worker writes a part of
its own in one transaction; rank 0 joins the parts in the order of the ranks, so that the output is in the order of the
input. The workers need no framework to find each other: the parts tell who is done.
"""

import sys
import time

import yt.wrapper as yt
from tractorun.backend.generic import GenericBackend
from tractorun.run import prepare_and_get_toolbox

ROWS = 500
OUTPUT_SCHEMA = [{"name": "text", "type": "string"}, {"name": "score", "type": "int64"}]


def score(text):
    """Your model."""
    return len(yt.yson.get_bytes(text))


def wait_for(client, path):
    while not client.exists(path):
        time.sleep(0.2)


def make_input(client, path):
    with client.Transaction():
        client.create("table", path, recursive=True, attributes={"schema": OUTPUT_SCHEMA[:1]})
        client.write_table(path, ({"text": b"\xff" * (i % 7)} for i in range(ROWS)))


def main():
    toolbox = prepare_and_get_toolbox(backend=GenericBackend())
    coordinator, client, config = toolbox.coordinator, toolbox.yt_client, toolbox.get_user_config()
    rank, workers = coordinator.get_self_index(), coordinator.get_total_peer_count()
    work = toolbox.training_dir.base_path
    source, target = config.get("input", f"{work}/input"), config.get("output", f"{work}/output")
    if coordinator.is_primary() and not client.exists(source):
        make_input(client, source)
    wait_for(client, source)

    rows = client.get(f"{source}/@row_count")
    start, end = rows * rank // workers, rows * (rank + 1) // workers
    # Of this incarnation: what an earlier run has left is not taken for ours.
    parts = [f"{work}/part-{coordinator.get_incarnation_id()}-{number}" for number in range(workers)]
    with client.Transaction():
        client.create("table", parts[rank], attributes={"schema": OUTPUT_SCHEMA})
        mine = client.read_table(yt.TablePath(source, start_index=start, end_index=end))
        client.write_table(parts[rank], ({"text": row["text"], "score": score(row["text"])} for row in mine))

    if coordinator.is_primary():
        for part in parts:
            wait_for(client, part)
        with client.Transaction():
            client.create("table", target, recursive=True, force=True, attributes={"schema": OUTPUT_SCHEMA})
            client.concatenate(parts, target)
            for part in parts:
                client.remove(part)
        print(f"scored {client.get(target + '/@row_count')} rows into {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
