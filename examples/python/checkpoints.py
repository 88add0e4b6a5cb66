#!/usr/bin/env python3
"""Checkpoints: the next run in the same `yt_path` goes on where the last one stopped.

Counts to the user config's `steps` (default 10) and fails once at `fail_at`, if that is given, so that there is
something to resume.
"""

import json
import sys

from tractorun.backend.generic import GenericBackend
from tractorun.run import prepare_and_get_toolbox


def main():
    toolbox = prepare_and_get_toolbox(backend=GenericBackend())
    config, checkpoints = toolbox.get_user_config(), toolbox.checkpoint_manager
    primary = toolbox.coordinator.is_primary()

    step, total = 0, 0
    checkpoint = checkpoints.get_last_checkpoint()
    if checkpoint is not None:
        step, total = checkpoint.metadata["step"], json.loads(checkpoint.value)
        print(f"goes on after step {step}", file=sys.stderr)

    saved = None
    while step < config.get("steps", 10):
        step += 1
        total += step
        if primary and step % 2 == 0:
            # Saved in the background while training goes on; in one transaction, so never by half.
            saved = checkpoints.save_checkpoint(json.dumps(total).encode(), metadata={"step": step})
        if primary and step == config.get("fail_at") and checkpoint is None:
            if saved is not None:
                saved.wait(60)
            sys.exit(f"fails at step {step}, as it was told to")
    if primary:
        print(f"total {total}", file=sys.stderr)


if __name__ == "__main__":
    main()
