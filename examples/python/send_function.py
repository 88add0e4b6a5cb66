#!/usr/bin/env python3
"""A function instead of a script: `run` sends it to the workers and returns when the run is over.

    TRACTORUN=dist/tractorun PYTHONPATH=runtime/python python3 examples/python/send_function.py

runs it on this machine; with `--image IMAGE` on the cluster in YT_PROXY. The image needs the Python version of the
laptop, the YT client and what the function imports.
"""

import argparse
import sys

from tractorun.backend.generic import GenericBackend
from tractorun.mesh import Mesh
from tractorun.run import run
from tractorun.stderr_reader import StderrMode
from tractorun.toolbox import Toolbox

GREETING = "hello from"


def greet(toolbox: Toolbox) -> None:
    coordinator = toolbox.coordinator
    print(f"{GREETING} {coordinator.get_self_index()} of {coordinator.get_total_peer_count()}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--image")
    image = parser.parse_args().image
    run(
        greet,
        backend=GenericBackend(),
        mesh=Mesh(node_count=2, process_per_node=2),
        docker_image=image,
        local=image is None,
        proxy_stderr_mode=StderrMode.primary,
    )
