"""Checkpoints of a run, in `<yt_path>/checkpoints/<n>/{value, metadata}`.

One checkpoint is one transaction: it is there as a whole or not at all. The layout is that of the Python tractorun, so
that its checkpoints are read and it reads ours.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Dict, Optional

import yt.wrapper as yt

__all__ = ["Checkpoint", "CheckpointManager"]

_LOGGER = logging.getLogger(__name__)

# "Cannot take lock since another transaction holds it".
_LOCK_CONFLICT = 402

# Longer than a transaction lives without its owner, which is half a minute for the YT client.
_LOCK_WAIT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 1.0


@dataclass
class Checkpoint:
    """One checkpoint."""

    index: int
    value: bytes
    metadata: Dict[str, Any]


class _Task:
    """A checkpoint that is being saved."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def wait(self, timeout: Optional[float] = None) -> None:
        """Waits until it is saved, for that many seconds at most; raises what went wrong."""
        self._future.result(timeout)

    def done(self) -> bool:
        """Whether it is saved or has failed."""
        return self._future.done()


class CheckpointManager:
    """Finds the newest checkpoint and saves new ones, in order, while training goes on."""

    def __init__(self, path: str, yt_client: yt.YtClient) -> None:
        self._path = path
        self._yt_client = yt_client
        self._last_checkpoint_index = -1
        self._saver: Optional[ThreadPoolExecutor] = None

    def initialize(self) -> None:
        """Looks for the newest checkpoint."""
        names = (str(name) for name in self._yt_client.list(self._path))
        self._last_checkpoint_index = max((int(name) for name in names if name.isdecimal()), default=-1)

    def get_last_checkpoint(self) -> Optional[Checkpoint]:
        """Reads the newest checkpoint: one of an earlier run, or the last that this worker has saved."""
        index = self._last_checkpoint_index
        if index == -1:
            return None
        path = f"{self._path}/{index}"
        value = self._yt_client.read_file(f"{path}/value").read()
        metadata = json.loads(self._yt_client.read_file(f"{path}/metadata").read())
        return Checkpoint(index=index, value=value, metadata=metadata)

    def save_checkpoint(self, value: bytes, metadata: Optional[Dict[str, Any]] = None) -> _Task:
        """Saves a checkpoint in the background. The process does not end before it is saved.

        What goes wrong is raised by `wait` of what this returns, and logged in any case.
        """
        # Before anything else: metadata that is no JSON is the caller's mistake.
        json_metadata = json.dumps({} if metadata is None else metadata).encode()
        index = self._last_checkpoint_index + 1
        self._last_checkpoint_index = index
        if self._saver is None:
            # One thread, so that a checkpoint is never newer than one that is still being written.
            self._saver = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        # Clients are not made for two threads.
        client = yt.YtClient(config=copy.deepcopy(self._yt_client.config))
        return _Task(self._saver.submit(_save, client, f"{self._path}/{index}", value, json_metadata))


def _save(client: yt.YtClient, path: str, value: bytes, json_metadata: bytes) -> None:
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            with client.Transaction():
                client.create("map_node", path)
                client.write_file(f"{path}/value", value)
                client.write_file(f"{path}/metadata", json_metadata)
            return
        except Exception as error:
            # A run that was killed while it saved holds the node until its transaction expires.
            is_locked = isinstance(error, yt.YtError) and error.contains_code(_LOCK_CONFLICT)
            if not is_locked or time.monotonic() > deadline:
                _LOGGER.exception("cannot save the checkpoint %s", path)
                raise
        time.sleep(_LOCK_POLL_SECONDS)
