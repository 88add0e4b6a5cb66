#!/bin/bash
# The workers of sidecars.yaml: each waits for what the sidecar of its node tells of the machine.
set -eu
until [ -s "load.$NODE_RANK" ]; do sleep 0.1; done
echo "rank $RANK of $WORLD_SIZE: $FOR_WORKERS, load of node $NODE_RANK: $(cat "load.$NODE_RANK")"
