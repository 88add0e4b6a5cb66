#!/bin/sh
# A job needs no Python: every worker says who it is. Run it with
#   tractorun --local --mesh.node-count 2 --mesh.process-per-node 2 --bind-local ./examples/hello.sh:hello.sh sh hello.sh
set -eu
echo "hello from rank $RANK of $WORLD_SIZE: worker $LOCAL_RANK of node $NODE_RANK, rank 0 is at $MASTER_ADDR:$MASTER_PORT"
