"""A stand-in for the tensorproxy: checks what it is started with and answers on its ports.

It is uploaded with a first line that names the Python of the tests, and run by init as the real program would be. In
`$SCRATCH/proxy.<node>` it says what it has found; to whoever connects to its gRPC port it says the number of its node.
With `die.<code>` in `$SCRATCH` its first start on each node ends with that code.
"""

import argparse
import json
import os
import socket
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True, type=Path)
arguments = parser.parse_args()

scratch, node = Path(os.environ["SCRATCH"]), os.environ["NODE_RANK"]
print(f"started on node {node}", file=sys.stderr, flush=True)
for death in scratch.glob("die.*"):
    started = scratch / f"started.{node}"
    if not started.exists():
        started.touch()
        sys.exit(int(death.suffix[1:]))

# Late, since they take a second.
from tractorun.private.tensorproxy import get_config  # noqa: E402
from yt import yson  # noqa: E402

config = yson.loads(arguments.config.read_bytes())
listeners = [socket.create_server(("localhost", config[name])) for name in ("grpc_port", "monitoring_port")]
expected = get_config(
    grpc_port=config["grpc_port"], monitoring_port=config["monitoring_port"], proxy=os.environ["YT_PROXY"]
)
found = {
    "ports": [config["grpc_port"], config["monitoring_port"]],
    "config_of_python": yson.yson_to_json(config) == expected,
    "program": sys.argv[0],
    "config": str(arguments.config),
    "folder": os.getcwd(),
    "environment": dict(os.environ),
}
report = scratch / f"proxy.{node}.part"
report.write_text(json.dumps(found) + "\n")
report.rename(scratch / f"proxy.{node}")
while True:
    connection, _ = listeners[0].accept()
    with connection:
        connection.sendall(f"node {node}\n".encode())
