"""What the workers run: prints what it was given, and uses each thing that the toolbox offers."""

import os
import sys

import mylib
from tractorun.backend.generic import GenericBackend
from tractorun.run import prepare_and_get_toolbox

toolbox = prepare_and_get_toolbox(backend=GenericBackend())
coordinator = toolbox.coordinator


def bound(name):
    with open(os.path.join(os.environ["BIND_FOLDER"], name)) as stream:
        return stream.read().strip()


binds = f"{bound('data/in.txt')}, {bound('note.txt')}"
print(f"worker {coordinator.get_self_index()} of {coordinator.get_total_peer_count()}", flush=True)
print(f"config {toolbox.get_user_config()} bound {binds} library {mylib.ANSWER} variable {os.environ['MINE']}", flush=True)
print("a line of stderr", file=sys.stderr, flush=True)

if coordinator.is_primary():
    manager = toolbox.checkpoint_manager
    assert manager.get_last_checkpoint() is None, "a new directory has no checkpoint"
    # Bytes that are no text.
    manager.save_checkpoint(b"weights \xff\x00", metadata={"epoch": 1}).wait(60)
    manager.save_checkpoint(b"more weights", metadata={"epoch": 2}).wait(60)
    assert manager.get_last_checkpoint().value == b"more weights", "the last checkpoint is the last one saved"
    toolbox.description_manager.set({"progress": 0.5})
    print("primary is done", flush=True)
