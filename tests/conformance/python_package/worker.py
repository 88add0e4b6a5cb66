"""A worker that writes down what its toolbox says, and uses each part of it."""

import dataclasses
import json
import os

from tractorun.backend.generic import GenericBackend
from tractorun.run import prepare_and_get_toolbox

toolbox = prepare_and_get_toolbox(backend=GenericBackend())
coordinator, checkpoints, client = toolbox.coordinator, toolbox.checkpoint_manager, toolbox.yt_client
last = checkpoints.get_last_checkpoint()
model = toolbox.save_model(b"weights \xff\x00", dataset_path="//tmp/data", metadata={"loss": "0.5"})
said = {
    "self_index": coordinator.get_self_index(),
    "total_peer_count": coordinator.get_total_peer_count(),
    "incarnation_id": coordinator.get_incarnation_id(),
    "is_primary": coordinator.is_primary(),
    "process_index": coordinator.get_process_index(),
    "primary_endpoint": coordinator.get_primary_endpoint(),
    "self_endpoint": coordinator.get_self_endpoint(),
    "user_config": toolbox.get_user_config(),
    "mesh": dataclasses.asdict(toolbox.mesh),
    "peer_count": toolbox.mesh.peer_count,
    "training_dir": toolbox.training_dir.base_path,
    "incarnation_path": toolbox.training_dir.get_incarnation_path(coordinator.get_incarnation_id()),
    "model": model,
    "variable": os.environ["MINE"],
    "last_checkpoint": None if last is None else [last.index, last.metadata],
}
with open("note.txt", encoding="utf-8") as note:
    said["note"] = note.read()
client.set(f"{toolbox.training_dir.base_path}/said_{coordinator.get_incarnation_id()}_{said['self_index']}", json.dumps(said))

if coordinator.is_primary():
    link = toolbox.description_manager.make_cypress_link("//tmp/a b")
    toolbox.description_manager.set({"progress": 0.5, "data": link, "parts": [True, b"bytes", {"deep": 1}]})
    toolbox.description_manager.get_child("nested").set({"key": "value"})
    # Saved one after the other, and before the process ends without being waited for.
    for epoch in range(3):
        checkpoints.save_checkpoint(b"state \xff %d" % epoch, metadata={"epoch": epoch})
    print("the primary is done", flush=True)
