"""`yt_stderr_reader <training-dir>`: shows the stderr of the node of one worker."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Callable, List, Optional

import yt.wrapper as yt

from tractorun.exception import StderrReaderError

# Between two looks at a stderr that is followed.
_POLL_SECONDS = 1.0


def main(arguments: Optional[List[str]] = None) -> None:
    """Reads the options and shows the stderr."""
    parser = argparse.ArgumentParser(prog="yt_stderr_reader", description="Show the stderr of a worker's node.")
    parser.add_argument("training_dir", metavar="training-dir", help="the run's yt_path")
    parser.add_argument("--incarnation", type=int, help="number of the run in its yt_path (default: the last)")
    parser.add_argument("--peer-index", type=int, default=0, help="rank of the worker (default: 0)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the operation is over")
    options = parser.parse_args(arguments)
    client = yt.YtClient(config=yt.default_config.get_config_from_env())
    try:
        _show(client, options, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
    except StderrReaderError as error:
        sys.exit(f"yt_stderr_reader: {error}")


def _show(client: yt.YtClient, options: argparse.Namespace, write: Callable[[bytes], Any]) -> None:
    operation_id, job_id = _find_job(client, options)
    shown = 0
    while True:
        # Asked before the stderr is: what comes after the end would be missed otherwise.
        over = client.get_operation_state(operation_id).is_finished()
        content = _stderr(client, operation_id, job_id)
        write(content[shown:])
        sys.stdout.buffer.flush()
        shown = max(shown, len(content))
        if over or not options.follow:
            return
        time.sleep(_POLL_SECONDS)


def _find_job(client: yt.YtClient, options: argparse.Namespace) -> List[str]:
    path, incarnation = options.training_dir, options.incarnation
    try:
        if incarnation is None:
            incarnation = client.get(f"{path}/@incarnation_id")
        if incarnation < 0:
            raise StderrReaderError(f"`{path}` has seen no run yet")
        node = f"{path}/incarnations/{incarnation:05d}"
        topology = client.get(f"{node}/@topology")
        if not 0 <= options.peer_index < len(topology):
            raise StderrReaderError(f"--peer-index {options.peer_index}: the run has {len(topology)} workers")
        return [client.get(f"{node}/@incarnation_operation_id"), topology[options.peer_index]["job_id"]]
    except yt.errors.YtResolveError as error:
        raise StderrReaderError(f"`{path}` is not the yt_path of a run: {error.message}") from error


def _stderr(client: yt.YtClient, operation_id: str, job_id: str) -> bytes:
    try:
        content: bytes = client.get_job_stderr(operation_id, job_id).read()
        return content
    except yt.YtError:
        # A job that has written nothing has no stderr.
        return b""


if __name__ == "__main__":
    main()
