#!/usr/bin/env python3
"""JAX over all workers, on CPUs as on GPUs: one mesh of devices, one array that is spread over it.

Needs `jax` 0.4.30 or newer.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tractorun.backend.tractorax import Tractorax
from tractorun.run import prepare_and_get_toolbox


def main():
    toolbox = prepare_and_get_toolbox(backend=Tractorax())
    rank, workers = jax.process_index(), jax.process_count()
    devices = Mesh(np.array(jax.devices()), ("workers",))
    mine = np.full((1, 4), rank + 1.0, dtype=np.float32)
    spread = jax.make_array_from_process_local_data(
        NamedSharding(devices, PartitionSpec("workers")), mine, (len(jax.devices()), 4)
    )
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(devices, PartitionSpec()))(spread)
    if toolbox.coordinator.is_primary():
        print(f"{workers} processes, {len(jax.devices())} devices, sum {float(total)}", file=sys.stderr)


if __name__ == "__main__":
    main()
