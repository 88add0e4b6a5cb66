"""Four ranks over gloo: an all-reduce, then a model whose gradients DistributedDataParallel averages."""

import sys

import torch
import torch.distributed as dist
from tractorun.backend.tractorch import Tractorch
from tractorun.run import prepare_and_get_toolbox

# Whoever the image's PATH leads to; the package is the image's too.
assert sys.prefix == "/opt/venv", sys.prefix
torch.set_num_threads(1)
toolbox = prepare_and_get_toolbox(backend=Tractorch())
rank, world = dist.get_rank(), dist.get_world_size()
assert rank == toolbox.coordinator.get_self_index()

total = torch.tensor([rank + 1.0])
dist.all_reduce(total)

torch.manual_seed(rank)
inputs = torch.randn(64, 4)
targets = inputs.sum(dim=1, keepdim=True)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for _ in range(30):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# Each rank has data of its own: parameters are equal only if gradients were averaged.
mine = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
all_of_them = [torch.empty_like(mine) for _ in range(world)]
dist.all_gather(all_of_them, mine)
equal = all(torch.equal(mine, other) for other in all_of_them)
print(
    f"rank {rank} of {world}: sum {total.item():g}, parameters {'equal' if equal else 'DIFFER'}, "
    f"loss {'fell' if losses[-1] < losses[0] / 10 else 'DID NOT FALL'}",
    file=sys.stderr,
)
del model
dist.destroy_process_group()
