"""An array that is spread over the processes of jax.distributed, and its sum, which each of them gets."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tractorun.backend.tractorax import Tractorax
from tractorun.run import prepare_and_get_toolbox

# Whoever the image's PATH leads to; the package is the image's too.
assert sys.prefix == "/opt/venv", sys.prefix
prepare_and_get_toolbox(backend=Tractorax())
rank, world = jax.process_index(), jax.process_count()
devices = Mesh(np.array(jax.devices()), ("workers",))
mine = np.full((1, 4), rank + 1.0, dtype=np.float32)
spread = jax.make_array_from_process_local_data(
    NamedSharding(devices, PartitionSpec("workers")), mine, (len(jax.devices()), 4)
)
total = jax.jit(jnp.sum, out_shardings=NamedSharding(devices, PartitionSpec()))(spread)
print(f"process {rank} of {world}: {len(jax.devices())} devices, sum {float(total)}", file=sys.stderr)
